"""SMIMEEncryptionKeyPreference: to which certificate a signer wants mail encrypted (RFC 8551 section 2.5.3).

To tell it, put `encryption_key_preference(certificate)` into `SigningOptions.signed_attributes` and the
certificate into `SigningOptions.extra_certificates`. Who signs with the key that also decrypts needs neither.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tokensign import der
from tokensign.cms.attributes import ENCRYPTION_KEY_PREFERENCE, attribute
from tokensign.cms.ber import OCTET_STRING, SEQUENCE, context
from tokensign.errors import MalformedError

if TYPE_CHECKING:
    from tokensign.certificates import Certificate

__all__ = ["EncryptionKeyPreference", "encryption_key_preference", "read_encryption_key_preference"]

_SUBJECT_KEY_IDENTIFIER: Final = 0x82  # [2] IMPLICIT OCTET STRING


@dataclass(frozen=True, slots=True)
class EncryptionKeyPreference:
    """How a preference names a certificate: one of both is set.

    Attributes:
        issuer_and_serial_number: DER, or None.
        subject_key_identifier: Its octets, or None.
    """

    issuer_and_serial_number: bytes | None = None
    subject_key_identifier: bytes | None = None

    def names(self, certificate: Certificate) -> bool:
        """Whether it names a certificate."""
        if self.issuer_and_serial_number is not None:
            return self.issuer_and_serial_number == certificate.issuer_and_serial_number
        return self.subject_key_identifier == certificate.subject_key_identifier


def encryption_key_preference(certificate: Certificate) -> bytes:
    """The signed attribute that names a certificate by issuer and serial number, which all programs read.

    Args:
        certificate: To which its owner wants mail encrypted.

    Returns:
        An Attribute, DER.
    """
    named = certificate.issuer_and_serial_number
    return attribute(ENCRYPTION_KEY_PREFERENCE, bytes([context(0)]) + named[1:])  # [0] IMPLICIT


def read_encryption_key_preference(value: bytes) -> EncryptionKeyPreference:
    """Read a preference: issuerAndSerialNumber, recipientKeyId or subjectAltKeyIdentifier.

    Args:
        value: The value of the attribute, DER.

    Raises:
        MalformedError: It is none of them.
    """
    tag = value[0] if value else None
    if tag == context(0):
        return EncryptionKeyPreference(issuer_and_serial_number=bytes([SEQUENCE]) + value[1:])
    if tag == _SUBJECT_KEY_IDENTIFIER:
        return EncryptionKeyPreference(subject_key_identifier=der.content(value))
    if tag == context(1):  # RecipientKeyIdentifier: the identifier, then a date and other attributes
        fields = der.elements(value)
        if fields and fields[0][0] == OCTET_STRING:
            return EncryptionKeyPreference(subject_key_identifier=der.content(fields[0]))
    raise MalformedError("SMIMEEncryptionKeyPreference cannot be read")
