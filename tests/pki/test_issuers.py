"""Issuers' certificates that are fetched where a certificate says."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from cryptography import x509

from tokensign.cms.certificates_only import write_certificates_only
from tokensign.errors import FileError, UntrustedError
from tokensign.pki.issuers import ISSUER_FETCHES_MAXIMUM, issuer_urls
from tokensign.pki.trust import CHAINS, TrustPolicy, validate_path

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from conftest import Forged, Toolbox

    from tokensign.certificates import Certificate

BASE = "http://ca.example/"


class Web:
    """What is at which URL, and what was asked for."""

    def __init__(self, pages: Mapping[str, bytes]) -> None:
        self.pages = pages
        self.asked: list[str] = []

    def __call__(self, url: str, **_: object) -> bytes:
        self.asked.append(url)
        try:
            return self.pages[url]
        except KeyError:
            raise FileError(f"nothing at {url}") from None


def issuers_at(*urls: str) -> list[tuple[x509.ExtensionType, bool]]:
    method = x509.AuthorityInformationAccessOID.CA_ISSUERS
    entries = [x509.AccessDescription(method, x509.UniformResourceIdentifier(url)) for url in urls]
    return [(x509.AuthorityInformationAccess(entries), False)]


@pytest.fixture(autouse=True)
def forgetful() -> None:
    CHAINS.clear()


def chain(toolbox: Toolbox) -> tuple[Forged, Forged, Forged, Forged]:
    """Root, upper and lower CA and Alice, each with a URL of its issuer."""
    root = toolbox.authority()
    upper = toolbox.authority("Upper", issuer=root, number=2, extra=issuers_at(BASE + "root"))
    lower = toolbox.authority("Lower", issuer=upper, number=3, extra=issuers_at(BASE + "upper"))
    return root, upper, lower, toolbox.forge(issuer=lower, extra=issuers_at(BASE + "lower"))


@pytest.mark.parametrize(
    "encode",
    [
        lambda certificate: certificate.der,
        lambda certificate: certificate.pem().encode(),
        lambda certificate: write_certificates_only([certificate]),
    ],
    ids=["DER", "PEM", "certs-only"],
)
def test_missing_issuers_are_fetched_level_by_level(
    toolbox: Toolbox, encode: Callable[[Certificate], bytes]
) -> None:
    root, upper, lower, alice = chain(toolbox)
    web = Web({BASE + "upper": encode(upper.certificate), BASE + "lower": encode(lower.certificate)})
    policy = TrustPolicy((root.certificate,), fetch=web)
    path = validate_path(alice.certificate, [], policy, toolbox.now)
    assert path.certificates == tuple(entry.certificate for entry in (alice, lower, upper, root))
    assert web.asked == [BASE + "lower", BASE + "upper"]
    assert validate_path(alice.certificate, [], policy, toolbox.now) == path
    assert len(web.asked) == 2  # remembered


def test_nothing_is_fetched_unless_it_is_allowed_and_needed(toolbox: Toolbox) -> None:
    root, upper, lower, alice = chain(toolbox)
    with pytest.raises(UntrustedError, match="certificate of 'Lower' is missing"):
        validate_path(alice.certificate, [], TrustPolicy((root.certificate,)), toolbox.now)
    web = Web({})
    policy = TrustPolicy((root.certificate,), fetch=web)
    assert validate_path(alice.certificate, [lower.certificate, upper.certificate], policy, toolbox.now)
    assert web.asked == []


@pytest.mark.parametrize("answer", [None, b"", b"<html>", b"\x30\x03\x02\x01\x01"])
def test_an_answer_without_certificates_leaves_the_issuer_missing(
    toolbox: Toolbox, answer: bytes | None
) -> None:
    root, _, _, alice = chain(toolbox)
    web = Web({} if answer is None else {BASE + "lower": answer})
    with pytest.raises(UntrustedError, match="certificate of 'Lower' is missing"):
        validate_path(alice.certificate, [], TrustPolicy((root.certificate,), fetch=web), toolbox.now)
    assert web.asked == [BASE + "lower"]


def test_what_is_fetched_is_not_trusted(toolbox: Toolbox) -> None:
    root = toolbox.authority()
    false = toolbox.authority("Lower", number=3, identifiers=False)
    alice = toolbox.forge(issuer=false, extra=issuers_at(BASE + "lower"), identifiers=False)
    web = Web({BASE + "lower": false.certificate.der})
    with pytest.raises(UntrustedError, match="'Lower' is self-signed and not trusted"):
        validate_path(alice.certificate, [], TrustPolicy((root.certificate,), fetch=web), toolbox.now)


def test_the_second_url_is_for_when_the_first_does_not_answer_and_there_is_no_third(
    toolbox: Toolbox,
) -> None:
    root = toolbox.authority()
    urls = [f"{BASE}{number}" for number in range(3)]
    lower = toolbox.authority("Lower", issuer=root, number=3)
    alice = toolbox.forge(issuer=lower, extra=issuers_at("ldap://ca.example/cn=Lower", *urls))
    assert issuer_urls(alice.certificate) == tuple(urls[:2])
    web = Web({urls[1]: lower.certificate.der})
    policy = TrustPolicy((root.certificate,), fetch=web)
    assert len(validate_path(alice.certificate, [], policy, toolbox.now)) == 3
    assert web.asked == urls[:2]


def test_a_chain_without_end_is_given_up(toolbox: Toolbox) -> None:
    level = toolbox.authority("Level 0", number=3)
    pages = {}
    for number in range(1, ISSUER_FETCHES_MAXIMUM + 5):
        pages[f"{BASE}{number - 1}"] = level.certificate.der
        level = toolbox.authority(
            f"Level {number}", issuer=level, number=3, extra=issuers_at(f"{BASE}{number - 1}")
        )
    web = Web(pages)
    policy = TrustPolicy((toolbox.authority().certificate,), fetch=web)
    with pytest.raises(UntrustedError, match="is missing"):
        validate_path(toolbox.forge(issuer=level).certificate, [level.certificate], policy, toolbox.now)
    assert len(web.asked) == ISSUER_FETCHES_MAXIMUM
