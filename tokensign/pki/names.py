"""Names in certificates: subjects as people write and read them, and e-mail addresses."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from cryptography import x509
from cryptography.x509.oid import NameOID

from tokensign.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tokensign.certificates import Certificate

__all__ = ["display_name", "mailboxes", "short_name", "subject_name"]

_SHORT: Final = 128  # letters; names of strangers shall not fill the screen

LOCAL_PART_MAXIMUM: Final = 64  # octets, RFC 5321 section 4.5.3.1.1
DOMAIN_MAXIMUM: Final = 255  # octets, RFC 5321 section 4.5.3.1.2

_ATEXT = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"  # RFC 5322 section 3.2.3
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"  # RFC 5321 section 4.1.2, sub-domain
_LOCAL_PART: Final = re.compile(rf"{_ATEXT}(?:\.{_ATEXT})*")
_DOMAIN: Final = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")

# RFC 4514 section 3 and the IANA registry of LDAP descriptors; case does not matter there.
_ATTRIBUTE_TYPES: Final = {
    "CN": NameOID.COMMON_NAME,
    "commonName": NameOID.COMMON_NAME,
    "L": NameOID.LOCALITY_NAME,
    "ST": NameOID.STATE_OR_PROVINCE_NAME,
    "O": NameOID.ORGANIZATION_NAME,
    "OU": NameOID.ORGANIZATIONAL_UNIT_NAME,
    "C": NameOID.COUNTRY_NAME,
    "STREET": NameOID.STREET_ADDRESS,
    "DC": NameOID.DOMAIN_COMPONENT,
    "UID": NameOID.USER_ID,
    "SN": NameOID.SURNAME,
    "givenName": NameOID.GIVEN_NAME,
    "serialNumber": NameOID.SERIAL_NUMBER,
    "title": NameOID.TITLE,
    "organizationIdentifier": NameOID.ORGANIZATION_IDENTIFIER,
    "emailAddress": NameOID.EMAIL_ADDRESS,
}
_SPELLINGS: Final = {
    spelling: oid for name, oid in _ATTRIBUTE_TYPES.items() for spelling in (name, name.lower(), name.upper())
}


def subject_name(text: str) -> x509.Name:
    """Read a distinguished name in the form of RFC 4514, such as "CN=Alice,O=Acme,C=CH".

    As RFC 4514 section 2.1 has it, the text runs from the most to the least specific part, and the
    certificate holds the parts the other way round, country first.

    Args:
        text: The name. Types are short names (CN, O, OU, C, ...) or dotted; special characters are escaped.

    Raises:
        UsageError: Not a distinguished name, an empty one, or a value that its type does not allow.
    """
    if _CONTROL.search(text):
        raise UsageError("a subject cannot hold control characters")
    try:
        name = x509.Name.from_rfc4514_string(text, _SPELLINGS)
    except ValueError as error:
        reason = f": {error}" if str(error) else ""
        raise UsageError(
            f"{text!r} is not a distinguished name{reason}",
            hint="write it like CN=Alice,O=Acme,C=CH, without blanks around commas; escape a comma as \\,",
        ) from error
    if not name.rdns:
        raise UsageError("the subject is empty", hint="write it like CN=Alice,O=Acme,C=CH")
    return name


def mailboxes(addresses: Iterable[str]) -> tuple[x509.RFC822Name, ...]:
    """E-mail addresses as rfc822Name (RFC 5280 section 4.2.1.6), doublets dropped.

    Args:
        addresses: Addresses such as "alice@example.org", ASCII only.

    Raises:
        UsageError: Not an address, or one with letters beyond ASCII.
    """
    return tuple(x509.RFC822Name(address) for address in dict.fromkeys(map(_mailbox, addresses)))


def _mailbox(address: str) -> str:
    local, _, domain = address.rpartition("@")
    if not domain.isascii():
        raise UsageError(
            f"the domain of {address!r} is not ASCII",
            hint="write it in its ASCII form, which begins with xn--",
        )
    if not local.isascii():
        raise UsageError(
            f"{address!r} has letters beyond ASCII before the @, which certificates made here cannot hold",
            hint="use an ASCII address of the same mailbox",
        )
    if (
        not _LOCAL_PART.fullmatch(local)
        or not _DOMAIN.fullmatch(domain)
        or len(local) > LOCAL_PART_MAXIMUM
        or len(domain) > DOMAIN_MAXIMUM
    ):
        raise UsageError(f"{address!r} is not an e-mail address", hint="write it like alice@example.org")
    return address


def display_name(certificate: Certificate) -> str:
    """What people call the subject of a certificate: its common name, all of its name, or an address."""
    return short_name(certificate.asn1.subject) or next(iter(certificate.emails), "a nameless subject")


def short_name(name: Any) -> str:  # noqa: ANN401 - asn1crypto has no types
    """What people call an asn1crypto Name: its last common name, else all of it; fit for a terminal."""
    found = [
        attribute["value"].native
        for part in name.chosen
        for attribute in part
        if attribute["type"].native == "common_name"
    ]
    text: str = found[-1] if found else name.human_friendly
    return "".join(
        letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text[:_SHORT]
    )
