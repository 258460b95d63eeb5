"""Certificates from the DNS (RFC 8162), from a resolver that is not believed."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import dns.message
import dns.name
import dns.rdatatype
import dns.rrset
import pytest
from correspondents import BOB
from dns_server import Domain, resolver

from tokensign.contacts.dnssec import ROOT_ANCHORS, Resolver, Validator, read_trust_anchors, system_resolver
from tokensign.contacts.smimea import lookup_smimea, smimea_name
from tokensign.errors import (
    ConfigurationError,
    MalformedError,
    NetworkError,
    UnsupportedError,
    UntrustedError,
    UsageError,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from correspondents import Authority

    from tokensign.certificates import Certificate


@pytest.fixture(scope="module")
def certificate(authority: Authority) -> Certificate:
    return authority.issue()


def record(certificate: Certificate, usage: str = "3 0 0", owner: str | None = None) -> str:
    return f"{owner or smimea_name(BOB)} 60 IN SMIMEA {usage} {certificate.der.hex()}\n"


def looked_up(domain: Domain, *, validated: bool = True) -> Sequence[Certificate]:
    with resolver(domain) as port:
        asked = Resolver("127.0.0.1", port)
        validator = Validator(asked, read_trust_anchors(domain.anchor)) if validated else None
        return lookup_smimea(BOB, asked, validator)


def test_the_name_is_the_hash_of_the_local_part_below_the_domain() -> None:
    """RFC 8162 section 3, which has this example."""
    name = smimea_name("hugh@example.com").to_text()
    assert name == "c93f1e400f26708f98cb19d936620da35eec8f72e57f9eec01c1afd6._smimecert.example.com."


def test_the_local_part_is_hashed_without_quotes_and_the_domain_is_written_in_a_labels() -> None:
    assert smimea_name('"hugh"@example.com') == smimea_name("hugh@example.com")
    assert smimea_name("hugh@Bücher.example").to_text().endswith("._smimecert.xn--bcher-kva.example.")


def test_a_certificate_that_dnssec_proves_is_found(certificate: Certificate) -> None:
    domain = Domain(record(certificate))
    assert looked_up(domain) == (certificate,)
    zones = [name for name, kind in domain.questions if kind == "DNSKEY"]
    assert zones == ["acme.example.", "example.", "."]


def test_an_answer_that_is_too_long_for_udp_comes_over_tcp(certificate: Certificate) -> None:
    assert looked_up(Domain(record(certificate), truncates=True)) == (certificate,)


def test_without_an_anchor_for_it_the_same_domain_is_refused(certificate: Certificate) -> None:
    """The real root did not sign this one."""
    with resolver(Domain(record(certificate))) as port:
        asked = Resolver("127.0.0.1", port)
        with pytest.raises(UntrustedError, match="not those that were announced"):
            lookup_smimea(BOB, asked, Validator(asked, ROOT_ANCHORS))


@pytest.mark.parametrize(
    ("faults", "reason"),
    [
        ({"unsigned": ("acme.example.",)}, "no DNSSEC signature proves the SMIMEA records"),
        ({"unsigned": ("example.", "acme.example.")}, "no DNSSEC signature proves the SMIMEA records"),
        (
            {"unannounced": ("acme.example.",)},
            "no chain of DNSSEC signatures leads to the zone acme.example.",
        ),
        ({"unsigned": ("example.",)}, "no DNSSEC signature proves the DS records of acme.example."),
        ({"lifetime": 1800}, "are not signed as they must be|no DNSSEC signature"),
    ],
    ids=["zone", "two zones", "no DS", "zone above", "expired"],
)
def test_a_chain_with_a_gap_proves_nothing(
    certificate: Certificate, faults: dict[str, Any], reason: str
) -> None:
    with pytest.raises(UntrustedError, match=reason):
        looked_up(Domain(record(certificate), **faults))


def test_that_the_resolver_says_it_was_proved_changes_nothing(certificate: Certificate) -> None:
    with pytest.raises(UntrustedError, match="no DNSSEC signature proves"):
        looked_up(Domain(record(certificate), unsigned=("acme.example.",), proved=True))


def test_a_forged_record_is_refused(certificate: Certificate, authority: Authority) -> None:
    forged = authority.issue("mallory").der.hex()

    def forge(response: dns.message.Message) -> None:
        for number, found in enumerate(response.answer):
            if found.rdtype == dns.rdatatype.SMIMEA:
                text = f"3 0 0 {forged}"
                response.answer[number] = dns.rrset.from_text(found.name, 60, "IN", "SMIMEA", text)

    with pytest.raises(UntrustedError, match="no DNSSEC signature proves the SMIMEA records"):
        looked_up(Domain(record(certificate), change=forge))


def test_a_record_made_from_a_wildcard_is_refused(certificate: Certificate) -> None:
    """Its signature has fewer labels than its name; that nothing closer exists would have to be proved."""
    wildcard = dns.name.from_text("*._smimecert.acme.example.")
    domain = Domain(record(certificate, owner=wildcard.to_text()))

    def expand(response: dns.message.Message) -> None:
        if response.question[0].rdtype == dns.rdatatype.SMIMEA:
            query = dns.message.make_query(wildcard, "SMIMEA")
            query.question[0].name = wildcard
            domain.change = None
            response.answer = domain.answer(query).answer
            for found in response.answer:
                found.name = smimea_name(BOB)
            domain.change = expand

    domain.change = expand
    with pytest.raises(UntrustedError, match="no DNSSEC signature proves the SMIMEA records"):
        looked_up(domain)


def test_a_zone_with_far_too_many_keys_is_refused_before_they_are_tried(certificate: Certificate) -> None:
    """CVE-2023-50387."""

    def crowd(response: dns.message.Message) -> None:
        for found in response.answer:
            if found.rdtype == dns.rdatatype.DNSKEY:
                for number in range(40):
                    key = base64.b64encode(bytes([number]) * 64).decode()
                    text = f"257 3 13 {key}"
                    found.add(dns.rrset.from_text(found.name, 60, "IN", "DNSKEY", text)[0])

    with pytest.raises(UntrustedError, match="more than 32"):
        looked_up(Domain(record(certificate), change=crowd))


def test_a_resolver_that_is_trusted_must_have_proved_it(certificate: Certificate) -> None:
    unsigned = ("acme.example.",)
    found = looked_up(Domain(record(certificate), unsigned=unsigned, proved=True), validated=False)
    assert found == (certificate,)
    with pytest.raises(UntrustedError, match=r"the resolver 127\.0\.0\.1 did not prove"):
        looked_up(Domain(record(certificate), unsigned=unsigned), validated=False)


def test_several_certificates_are_all_found(certificate: Certificate, authority: Authority) -> None:
    next_one = authority.issue("bob 2")
    assert set(looked_up(Domain(record(certificate) + record(next_one)))) == {certificate, next_one}


@pytest.mark.parametrize("usage", ["3 1 0", "2 0 0", "1 0 0"])
def test_what_is_no_whole_certificate_of_the_person_is_refused(certificate: Certificate, usage: str) -> None:
    with pytest.raises(UnsupportedError, match="only hashes or issuers"):
        looked_up(Domain(record(certificate, usage)))


def test_a_record_that_is_no_certificate_is_refused() -> None:
    with pytest.raises(MalformedError, match="the certificate cannot be read"):
        looked_up(Domain(f"{smimea_name(BOB)} 60 IN SMIMEA 3 0 0 3000\n"))


def test_an_address_without_records_is_told() -> None:
    with pytest.raises(UnsupportedError, match="the DNS has no certificate"):
        looked_up(Domain(""))


def test_a_resolver_that_fails_is_told() -> None:
    def fail(response: dns.message.Message) -> None:
        response.set_rcode(2)

    with pytest.raises(NetworkError, match=r"the resolver 127\.0\.0\.1 failed .*SERVFAIL"):
        looked_up(Domain("", change=fail))


@pytest.mark.parametrize("text", ["", "acme.example. IN TXT hello", "not a record", ". IN DS 1 8 2 zz"])
def test_trust_anchors_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"trust anchors of the DNS|no DS record"):
        read_trust_anchors(text)


def test_what_is_no_address_is_not_looked_up() -> None:
    with pytest.raises(UsageError, match="is not an e-mail address"):
        smimea_name("bob")


def test_a_resolver_that_is_not_there_is_told() -> None:
    """Nobody listens at port 1."""
    asked = Resolver("127.0.0.1", 1, seconds=0.1)
    with pytest.raises(NetworkError, match=r"the resolver 127\.0\.0\.1 gave no answer"):
        lookup_smimea(BOB, asked, Validator(asked))


def test_an_address_that_is_too_long_for_a_name_is_refused() -> None:
    with pytest.raises(UsageError, match="cannot be looked up in the DNS"):
        smimea_name(f"bob@{'a' * 64}.example")


def test_more_questions_than_real_domains_need_are_not_asked() -> None:
    with resolver(Domain("")) as port:
        validator = Validator(Resolver("127.0.0.1", port))
        for _ in range(40):
            assert validator.records(smimea_name(BOB), dns.rdatatype.SMIMEA) is None
        with pytest.raises(UntrustedError, match="more than 40 questions"):
            validator.records(smimea_name(BOB), dns.rdatatype.SMIMEA)


def test_the_resolver_is_that_of_the_system(tmp_path: Path) -> None:
    file = tmp_path / "resolv.conf"
    file.write_text("search acme.example\nnameserver 192.0.2.1\nnameserver 192.0.2.2\n")
    assert system_resolver(str(file)) == Resolver("192.0.2.1", 53)
    file.write_text("search acme.example\n")
    with pytest.raises(ConfigurationError, match="names no resolver"):
        system_resolver(str(file))
