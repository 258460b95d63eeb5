"""E-mail identity and rfc822Name constraints (RFC 5280 section 4.2.1.10, RFC 9598)."""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509

from tokensign import der
from tokensign.certificates import SMTP_UTF8_MAILBOX
from tokensign.errors import UntrustedError
from tokensign.mailboxes import same_mailbox
from tokensign.pki.trust import TrustPolicy, validate_path

if TYPE_CHECKING:
    from conftest import Forged, Toolbox

COMPOSED = "zo\u00eb"
DECOMPOSED = unicodedata.normalize("NFD", COMPOSED)


def names(*entries: x509.GeneralName) -> list[tuple[x509.ExtensionType, bool]]:
    return [(x509.SubjectAlternativeName(entries), False)]


def smtp_utf8_mailbox(address: str) -> x509.OtherName:
    return x509.OtherName(x509.ObjectIdentifier(SMTP_UTF8_MAILBOX), der.utf8_string(address))


def rfc822(address: str) -> x509.RFC822Name:
    return x509.RFC822Name._init_without_validation(address)  # noqa: SLF001 - odd ones too


def is_valid(toolbox: Toolbox, leaf: Forged, *others: Forged, anchor: Forged) -> bool:
    try:
        validate_path(
            leaf.certificate,
            [other.certificate for other in others],
            TrustPolicy((anchor.certificate,)),
            toolbox.now,
        )
    except UntrustedError:
        return False
    return True


@pytest.mark.parametrize(
    ("expected", "certified"),
    [
        ("alice@example.org", "alice@example.org"),
        ("alice@Example.ORG", "alice@eXample.org"),
        ("alice@z\u00fcrich.example", "alice@xn--zrich-kva.example"),
        ("alice@Z\u00dcRICH.example", "alice@XN--ZRICH-KVA.example"),
        ("alice@zu\u0308rich.example", "alice@xn--zrich-kva.example"),  # typed in two code points
        (f"{COMPOSED}@z\u00fcrich.example", f"{COMPOSED}@xn--zrich-kva.example"),
        (f"{COMPOSED}@z\u00fcrich.example", f"{COMPOSED}@z\u00fcrich.example"),  # as RFC 8398 had it
        ("alice@fa\u00df.example", "alice@xn--fa-hia.example"),  # IDNA 2008; that of 2003 made it fass
        ("alice@[192.0.2.1]", "alice@[192.0.2.1]"),
    ],
)
def test_addresses_that_are_the_same(expected: str, certified: str) -> None:
    assert same_mailbox(expected, certified)


@pytest.mark.parametrize(
    ("expected", "certified"),
    [
        ("alice@example.org", "bob@example.org"),
        ("alice@example.org", "Alice@example.org"),
        ("alice@example.org", "alice@example.com"),
        ("alice@example.org", "alice@sub.example.org"),
        ("alice@example.org", "alice@example.org."),
        ("alice@example.org", "*@example.org"),
        ("alice@example.org", "alice@*"),
        (f"{COMPOSED}@example.org", f"{DECOMPOSED}@example.org"),  # other octets are another local part
        ("alice@fa\u00df.example", "alice@fass.example"),
        ("alice@example.org", "alice@example\u3002org"),
        ("alice@example.org", "alice@ex\u0430mple.org"),  # a Cyrillic letter
        ("alice@zu\u0308rich.example", "alice@zu\u0308rich.example"),  # no label of IDNA in a certificate
        ("", ""),
        ("alice", "alice"),
        ("@example.org", "@example.org"),
        ("alice@", "alice@"),
        ("alice@" + "a" * 300, "alice@" + "a" * 300),
        ("alice@" + "\u00fc" * 100, "alice@" + "\u00fc" * 100),
    ],
)
def test_addresses_that_differ(expected: str, certified: str) -> None:
    assert not same_mailbox(expected, certified)


def test_the_addresses_of_a_certificate_are_rfc822_names_and_smtp_utf8_mailboxes(toolbox: Toolbox) -> None:
    mailbox = f"{COMPOSED}@xn--zrich-kva.example"
    alice = toolbox.forge(
        extra=names(
            rfc822("alice@xn--zrich-kva.example"), x509.DNSName("a.example"), smtp_utf8_mailbox(mailbox)
        )
    )
    assert alice.certificate.emails == ("alice@xn--zrich-kva.example", mailbox)


def test_letters_beyond_ascii_in_an_rfc822_name_are_nobody_s_address(toolbox: Toolbox) -> None:
    alice = toolbox.forge(extra=names(x509.RFC822Name("zoe@example.org"))).certificate
    changed = type(alice)(alice.der.replace(b"zoe@", b"zo\xeb@"))
    assert changed.emails == ("zo\\xeb@example.org",)
    assert not same_mailbox(f"{COMPOSED}@example.org", changed.emails[0])


LIMITS: list[tuple[str, str, bool]] = [  # constraint, address, whether it lies within
    ("example.org", "alice@example.org", True),
    ("example.org", "alice@EXAMPLE.org", True),
    ("EXAMPLE.org", "alice@example.org", True),
    ("example.org", "alice@sub.example.org", False),
    (".example.org", "alice@sub.example.org", True),
    (".example.org", "alice@a.sub.example.org", True),
    (".example.org", "alice@example.org", False),
    (".example.org", "alice@badexample.org", False),
    ("alice@example.org", "alice@example.org", True),
    ("alice@example.org", "bob@example.org", False),
    ("alice@example.org", "Alice@example.org", False),
    ("xn--zrich-kva.example", "alice@xn--zrich-kva.example", True),
    (".xn--zrich-kva.example", "alice@sub.xn--zrich-kva.example", True),
    ("example.org", f"{COMPOSED}@example.org", True),
    ("example.org", f"{COMPOSED}@example.com", False),
    (".example.org", f"{COMPOSED}@sub.example.org", True),
    ("xn--zrich-kva.example", f"{COMPOSED}@xn--zrich-kva.example", True),
    ("xn--zrich-kva.example", f"{COMPOSED}@z\u00fcrich.example", True),
]


def limited(toolbox: Toolbox, **subtrees: Any) -> tuple[Forged, Forged]:  # noqa: ANN401 - passed on
    """A CA below a root, limited to or away from some names."""
    constraints = x509.NameConstraints(subtrees.get("permitted"), subtrees.get("excluded"))
    root = toolbox.authority()
    return toolbox.authority("Limited", issuer=root, number=2, extra=[(constraints, True)]), root


def name_of(address: str) -> x509.GeneralName:
    return rfc822(address) if address.isascii() else smtp_utf8_mailbox(address)


@pytest.mark.parametrize(("constraint", "address", "within"), LIMITS)
def test_permitted_addresses_alone_are_valid(
    toolbox: Toolbox, constraint: str, address: str, *, within: bool
) -> None:
    ca, root = limited(toolbox, permitted=[rfc822(constraint)])
    alice = toolbox.forge(issuer=ca, extra=names(name_of(address)))
    assert is_valid(toolbox, alice, ca, anchor=root) is within


@pytest.mark.parametrize(("constraint", "address", "within"), LIMITS)
def test_excluded_addresses_alone_are_refused(
    toolbox: Toolbox, constraint: str, address: str, *, within: bool
) -> None:
    ca, root = limited(toolbox, excluded=[rfc822(constraint)])
    alice = toolbox.forge(issuer=ca, extra=names(name_of(address)))
    assert is_valid(toolbox, alice, ca, anchor=root) is not within


def test_the_constraints_of_every_ca_hold(toolbox: Toolbox) -> None:
    upper, root = limited(toolbox, permitted=[rfc822(".example.org")])
    narrower = x509.NameConstraints([rfc822("sub.example.org"), rfc822("example.com")], None)
    lower = toolbox.authority("Lower", issuer=upper, number=3, extra=[(narrower, True)])

    def valid(address: str) -> bool:
        alice = toolbox.forge(issuer=lower, extra=names(smtp_utf8_mailbox(address)))
        return is_valid(toolbox, alice, upper, lower, anchor=root)

    assert valid(f"{COMPOSED}@sub.example.org")
    assert not valid(f"{COMPOSED}@other.example.org")
    assert not valid(f"{COMPOSED}@example.com")


def test_an_address_of_the_subject_that_counts_is_constrained_too(toolbox: Toolbox) -> None:
    ca, root = limited(toolbox, permitted=[rfc822("example.org")])

    def valid(address: str) -> bool:
        subject = x509.Name([x509.NameAttribute(x509.NameOID.EMAIL_ADDRESS, address)])
        alice = toolbox.forge(issuer=ca, subject=subject, extra=names(x509.DNSName("alice.example")))
        assert alice.certificate.emails == (address,)
        return is_valid(toolbox, alice, ca, anchor=root)

    assert valid("alice@example.org")
    assert not valid("alice@example.com")


@pytest.mark.parametrize("kind", ["permitted", "excluded"])
def test_a_constraint_that_cannot_be_meant_allows_no_address(toolbox: Toolbox, kind: str) -> None:
    ca, root = limited(toolbox, **{kind: [rfc822("")]})
    with_address = toolbox.forge(issuer=ca, extra=names(smtp_utf8_mailbox(f"{COMPOSED}@example.org")))
    assert not is_valid(toolbox, with_address, ca, anchor=root)
    assert is_valid(toolbox, toolbox.forge(issuer=ca), ca, anchor=root)
