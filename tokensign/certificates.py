"""X.509 certificates as the rest of tokensign sees them.

A `Certificate` keeps the DER bytes as they were received, and reads from them on demand what CMS and
S/MIME need. asn1crypto does the reading, because it also reads the certificates of old messages.
"""

from __future__ import annotations

import hashlib
import re
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from asn1crypto import core, pem
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_der_public_key

from tokensign import der as _der
from tokensign.asn1 import X509Certificate
from tokensign.errors import MalformedError, UnsupportedError
from tokensign.mailboxes import same_mailbox

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

__all__ = ["SMTP_UTF8_MAILBOX", "Certificate", "load_certificates", "name_string"]

SMTP_UTF8_MAILBOX: Final = "1.3.6.1.5.5.7.8.9"  # id-on-SmtpUTF8Mailbox, RFC 9598 section 3

_VERSION_TAG: Final = 0xA0  # [0] EXPLICIT, absent in version 1

_SHORT_NAMES: Final = {  # RFC 4514 section 3, and what everybody writes for an address in a name
    "common_name": "CN",
    "organizational_unit_name": "OU",
    "organization_name": "O",
    "locality_name": "L",
    "state_or_province_name": "ST",
    "country_name": "C",
    "street_address": "STREET",
    "domain_component": "DC",
    "user_id": "UID",
    "email_address": "emailAddress",
    "serial_number": "serialNumber",
    "surname": "SN",
    "given_name": "GN",
}


class Certificate:
    """One X.509 certificate (RFC 5280).

    Two certificates are equal when their bytes are. What every use needs is read at once, so that a broken
    certificate fails here and not in the middle of something.

    Args:
        der: The certificate's bytes, DER.

    Attributes:
        der: The same bytes.
        asn1: The certificate as asn1crypto has it.
        serial_number: serialNumber.
        subject: The subject's name as text (RFC 4514).
        issuer: The issuer's name as text.
        not_before: The beginning of its validity.
        not_after: The end of its validity.
        subject_key_identifier: The value of that extension, or None where there is none.
        key_usage: The key usages, in asn1crypto's names ("digital_signature"), or None: no restriction.
        extended_key_usage: The extended key usages, in asn1crypto's names or dotted, or None: no restriction.
        is_ca: Whether basicConstraints makes it a CA certificate.
        is_self_issued: Whether subject and issuer are the same name.
        emails: The addresses it was issued for: rfc822Name and SmtpUTF8Mailbox (RFC 9598) of subjectAltName;
            only where there is none, emailAddress of the subject (RFC 8550 section 3). Octets that
            an address of that kind cannot have are escaped, and make it equal to nothing.

    Raises:
        MalformedError: The bytes are not a certificate.
    """

    def __init__(self, der: bytes) -> None:
        self.der = bytes(der)
        try:
            self.asn1: Any = X509Certificate.load(self.der)
            self.serial_number: int = self.asn1.serial_number
            self.subject = name_string(self.asn1.subject)
            self.issuer = name_string(self.asn1.issuer)
            self.not_before: datetime = self.asn1.not_valid_before
            self.not_after: datetime = self.asn1.not_valid_after
            self.is_ca, self.is_self_issued = bool(self.asn1.ca), bool(self.asn1.self_issued)
            self.subject_key_identifier: bytes | None = self.asn1.key_identifier
            self.key_usage = _usages(self.asn1.key_usage_value)
            self.extended_key_usage = _usages(self.asn1.extended_key_usage_value)
            self.emails = _emails(self.asn1)
        except (ValueError, TypeError, KeyError, IndexError, OverflowError, RecursionError) as error:
            raise MalformedError("the certificate cannot be read", hint=_first_line(error)) from error

    @cached_property
    def _fields(self) -> list[bytes]:
        """The fields of the TBSCertificate from serialNumber on, as they were received."""
        tbs = _der.elements(self.der)[0]
        fields = _der.elements(tbs)
        return fields[1:] if fields[0][0] == _VERSION_TAG else fields

    @property
    def encoded_issuer(self) -> bytes:
        """The issuer's Name, DER as received."""
        return self._fields[2]

    @property
    def encoded_subject(self) -> bytes:
        """The subject's Name, DER as received."""
        return self._fields[4]

    @cached_property
    def public_key_info(self) -> bytes:
        """SubjectPublicKeyInfo, DER."""
        return self._fields[5]

    @cached_property
    def public_key(self) -> PublicKeyTypes:
        """The public key as cryptography has it.

        Raises:
            UnsupportedError: The key's type is not known, or the key is not valid.
        """
        try:
            return load_der_public_key(self.public_key_info)
        except (ValueError, UnsupportedAlgorithm) as error:
            raise UnsupportedError(
                f"the public key of {self.subject} cannot be used", hint=_first_line(error)
            ) from error

    @cached_property
    def issuer_and_serial_number(self) -> bytes:
        """IssuerAndSerialNumber (RFC 5652 section 10.2.4), DER; names the certificate in a message."""
        serial_number, _, issuer = self._fields[:3]
        return _der.sequence(issuer, serial_number)

    @cached_property
    def sha256(self) -> bytes:
        """The SHA-256 fingerprint, 32 octets."""
        return hashlib.sha256(self.der).digest()

    @property
    def signs_messages(self) -> bool:
        """Whether its usages allow to sign messages (RFC 8550 sections 4.4.2 and 4.4.4).

        keyUsage has digitalSignature or nonRepudiation, and extendedKeyUsage has emailProtection or
        anyExtendedKeyUsage; an extension that is absent restricts nothing.
        """
        usage, extended = self.key_usage, self.extended_key_usage
        return (usage is None or bool(usage & {"digital_signature", "non_repudiation"})) and (
            extended is None or bool(extended & {"email_protection", "any_extended_key_usage"})
        )

    def is_valid_at(self, moment: datetime) -> bool:
        """Whether a moment is within its validity."""
        return self.not_before <= moment <= self.not_after

    def belongs_to(self, address: str) -> bool:
        """Whether it was issued for an e-mail address; see `tokensign.mailboxes.same_mailbox`."""
        return any(same_mailbox(address, email) for email in self.emails)

    def pem(self) -> str:
        """The certificate as PEM text (RFC 7468)."""
        armored: bytes = pem.armor("CERTIFICATE", self.der)
        return armored.decode("ascii")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Certificate) and other.der == self.der

    def __hash__(self) -> int:
        return hash(self.der)

    def __repr__(self) -> str:
        return f"<Certificate {self.subject!r} serial {self.serial_number:x}>"


def load_certificates(data: bytes) -> list[Certificate]:
    """Read certificates from PEM text (any number) or from DER bytes (one).

    Args:
        data: The content of a certificate file. Other PEM objects between the certificates are passed over.

    Raises:
        MalformedError: There is no certificate in it, or one cannot be read.
    """
    if b"-----BEGIN " not in data:
        return [Certificate(data)]
    try:
        objects: Iterable[tuple[str, Any, bytes]] = list(pem.unarmor(data, multiple=True))
    except ValueError as error:
        raise MalformedError("the PEM text is broken", hint=_first_line(error)) from error
    found = [Certificate(der) for kind, _, der in objects if kind in ("CERTIFICATE", "X509 CERTIFICATE")]
    if not found:
        raise MalformedError("there is no certificate in the PEM text")
    return found


def _usages(value: Any) -> frozenset[str] | None:  # noqa: ANN401 - asn1crypto has no types
    return None if value is None else frozenset(value.native)


def _emails(certificate: Any) -> tuple[str, ...]:  # noqa: ANN401 - asn1crypto has no types
    """The addresses in subjectAltName, or where there is none the emailAddresses of the subject."""
    found = list(filter(None, map(_email, certificate.subject_alt_name_value or ())))
    if not found:
        found = [
            attribute["value"].contents.decode(
                "ascii", "backslashreplace"
            )  # an IA5String, the domain in A-labels
            for part in certificate.subject.chosen
            for attribute in part
            if attribute["type"].native == "email_address"
        ]
    return tuple(found)


def _email(name: Any) -> str | None:  # noqa: ANN401 - as above
    """The address in a GeneralName, or None where it is something else."""
    if name.name == "rfc822_name":
        address: str = name.native
        return address
    if name.name == "other_name" and name.chosen["type_id"].dotted == SMTP_UTF8_MAILBOX:
        mailbox: str = name.chosen["value"].parse(core.UTF8String).native
        return mailbox
    return None


def name_string(name: Any) -> str:  # noqa: ANN401 - asn1crypto has no types
    """A distinguished name as text, most specific part first (RFC 4514): "CN=Alice,O=Acme,C=CH".

    Args:
        name: asn1crypto's Name. Types without a short name are written dotted, with their text.
    """
    parts = []
    for relative in reversed(list(name.chosen)):
        pairs = []
        for attribute in relative:
            kind = _SHORT_NAMES.get(attribute["type"].native, attribute["type"].dotted)
            pairs.append(f"{kind}={_escaped(str(attribute['value'].native))}")
        parts.append("+".join(pairs))
    return ",".join(parts)


def _escaped(value: str) -> str:
    """A value with the escapes of RFC 4514 section 2.4."""
    text = re.sub(r'([,+"\\<>;])', r"\\\1", value).replace("\0", "\\00")
    if text.startswith(("#", " ")):
        text = "\\" + text
    return text[:-1] + "\\ " if text.endswith(" ") and len(text) > 1 else text


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
