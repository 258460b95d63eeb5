"""x509-limbo: 208 paths made for web servers, of which the rules of RFC 5280 concern us as well."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from tokensign.certificates import Certificate, load_certificates
from tokensign.errors import MalformedError, UntrustedError
from tokensign.pki.trust import Purpose, TrustPolicy, validate_path

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MOMENT = datetime(2026, 6, 1, tzinfo=UTC)
SECONDS_MAXIMUM: Final = 3.0  # generous for a loaded machine; hostile paths take up to half a second

# Refused by the suite and accepted here, by the reason.
ACCEPTED: Final = {
    "The name of a web server is not looked at: the identity that counts is an e-mail address": {
        "rfc5280::ca-as-leaf-wrong-san",
        "rfc5280::nc::nc-permits-invalid-dns-san",
        "rfc5280::san::ip-in-dns",
        "rfc5280::san::underscore-dns",
        "webpki::ca-as-leaf",
        "webpki::cn::case-mismatch",
        "webpki::cn::ipv4-hex-mismatch",
        "webpki::cn::ipv4-leading-zeros-mismatch",
        "webpki::cn::ipv6-non-rfc5952-mismatch",
        "webpki::cn::ipv6-uncompressed-mismatch",
        "webpki::cn::ipv6-uppercase-mismatch",
        "webpki::cn::not-in-san",
        "webpki::cn::punycode-not-in-san",
        "webpki::cn::utf8-vs-punycode-mismatch",
        "webpki::san::mismatch-apex-subdomain-san",
        "webpki::san::mismatch-domain-san",
        "webpki::san::mismatch-subdomain-apex-san",
        "webpki::san::mismatch-subdomain-san",
        "webpki::san::no-san",
        "webpki::san::public-suffix-multi-label-wildcard-san",
        "webpki::san::public-suffix-private-namespace-wildcard-san",
        "webpki::san::public-suffix-wildcard-san",
        "webpki::san::san-critical-with-nonempty-subject",
        "webpki::san::san-wildcard-only",
        "webpki::san::san-wildcard-only-tld",
        "webpki::san::wildcard-embedded-leftmost-san",
        "webpki::san::wildcard-embedded-ulabel-san",
        "webpki::san::wildcard-match-across-labels-san",
        "webpki::san::wildcard-not-in-leftmost-san",
    },
    "A wildcard dNSName is no mailbox; the validator does not match it with excluded subtrees": {
        "cve::cve-2025-61727",
        "rfc5280::nc::nc-forbids-dnsname-wildcard-san",
    },
    "RFC 5280 asks it of the CA that issues (section 4); path validation (section 6) does not look at it": {
        "crl::crlnumber-critical",
        "crl::crlnumber-missing",
        "rfc5280::aki::critical-aki",
        "rfc5280::aki::cross-signed-root-missing-aki",
        "rfc5280::aki::intermediate-missing-aki",
        "rfc5280::aki::leaf-missing-aki",
        "rfc5280::ca-empty-subject",
        "rfc5280::ee-critical-aia-invalid",
        "rfc5280::leaf-ku-keycertsign",
        "rfc5280::nc::not-allowed-in-ee-critical",
        "rfc5280::nc::not-allowed-in-ee-noncritical",
        "rfc5280::nc::permitted-dns-match-noncritical",
        "rfc5280::pc::ica-noncritical-pc",
        "rfc5280::root-non-critical-basic-constraints",
        "rfc5280::san::noncritical-with-empty-subject",
        "rfc5280::serial::negative",
        "rfc5280::serial::too-long",
        "rfc5280::serial::zero",
        "rfc5280::ski::intermediate-missing-ski",
        "rfc5280::ski::root-missing-ski",
        "webpki::nc::intermediate-permitted-excluded-subtrees-both-empty-sequences",
        "webpki::nc::intermediate-permitted-excluded-subtrees-both-null",
    },
    "The suite asks for serverAuth, which is no purpose here; test_purpose.py has extendedKeyUsage": {
        "rfc5280::eku::ee-eku-empty",
        "rfc5280::eku::ee-wrong-eku",
        "webpki::eku::ee-anyeku",
        "webpki::eku::ee-critical-eku",
        "webpki::eku::ee-without-eku",
        "webpki::eku::root-has-eku",
    },
    "A rule of the CA/Browser Forum for web servers alone": {
        "webpki::aki::root-with-aki-all-fields",
        "webpki::aki::root-with-aki-authoritycertissuer",
        "webpki::aki::root-with-aki-authoritycertserialnumber",
        "webpki::aki::root-with-aki-missing-keyidentifier",
        "webpki::aki::root-with-aki-ski-mismatch",
        "webpki::ee-basicconstraints-ca",
        "webpki::forbidden-rsa-key-not-divisible-by-8-in-leaf",
        "webpki::forbidden-rsa-not-divisible-by-8-in-root",
        "webpki::v1-cert",
    },
    "cryptography reads explicit curve parameters only where they are those of a named curve": {
        "webpki::explicit-curve",
    },
}
# Accepted by the suite and refused here.
REFUSED: Final = {
    "The validator knows no name constraints of IP addresses, so it refuses": {
        "rfc5280::nc::permitted-ipv4-match",
        "rfc5280::nc::permitted-ipv6-match",
    },
    "The validator knows no name constraints of otherName, so it refuses": {
        "rfc5280::nc::nc-forbids-othername-noop",
    },
}


def accepts(case: dict[str, Any]) -> bool:
    def certificates(texts: list[str]) -> list[Certificate]:
        return [certificate for text in texts for certificate in load_certificates(text.encode())]

    moment = case["validation_time"]
    try:
        policy = TrustPolicy(
            anchors=tuple(certificates(case["trusted_certs"])),
            purpose=Purpose.ANY,
            revocation="require" if case["crls"] else "off",
            crls=tuple(text.encode() for text in case["crls"]),
            maximum_path_length=case["max_chain_depth"],
        )
        leaf = certificates([case["peer_certificate"]])[0]
        intermediates = certificates(case["untrusted_intermediates"])
        validate_path(leaf, intermediates, policy, datetime.fromisoformat(moment) if moment else MOMENT)
    except (UntrustedError, MalformedError):
        return False
    return True


def test_every_path_is_decided_as_the_suite_says_or_a_reason_is_named(
    corpora: Callable[[str], Path],
) -> None:
    cases = json.loads(corpora("limbo.json").read_text())["testcases"]
    accepted, refused, slow = set(), set(), {}
    for case in cases:
        start = time.process_time()
        verdict = accepts(case)
        if (seconds := time.process_time() - start) > SECONDS_MAXIMUM:
            slow[case["id"]] = seconds
        if verdict != (case["expected_result"] == "SUCCESS"):
            (accepted if verdict else refused).add(case["id"])
    assert len(cases) == 208
    assert refused == set().union(*REFUSED.values())
    assert accepted == set().union(*ACCEPTED.values())
    assert not slow
