"""Distinguished names as people write them (RFC 4514)."""

from __future__ import annotations

import re
from typing import Final

from cryptography import x509
from cryptography.x509.oid import NameOID

from tokensign.errors import UsageError

__all__ = ["attribute_name", "attribute_type", "subject_name"]

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
    "GN": NameOID.GIVEN_NAME,
    "serialNumber": NameOID.SERIAL_NUMBER,
    "title": NameOID.TITLE,
    "organizationIdentifier": NameOID.ORGANIZATION_IDENTIFIER,
    "emailAddress": NameOID.EMAIL_ADDRESS,
    "pseudonym": NameOID.PSEUDONYM,
    "postalCode": NameOID.POSTAL_CODE,
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


def attribute_type(name: str) -> x509.ObjectIdentifier:
    """The type of an attribute by its short name, such as "CN", or dotted.

    Raises:
        UsageError: There is no such type.
    """
    try:
        return _SPELLINGS.get(name) or x509.ObjectIdentifier(name)
    except ValueError:
        raise UsageError(
            f"{name!r} is not a type of attribute", hint=f"use one of: {', '.join(_ATTRIBUTE_TYPES)}"
        ) from None


def attribute_name(kind: x509.ObjectIdentifier) -> str:
    """The short name of an attribute's type, or the type dotted where it has none."""
    names = [name for name, oid in _ATTRIBUTE_TYPES.items() if oid == kind]
    return min(names, key=len, default=kind.dotted_string)
