"""RecipientIdentifier: how a message names a recipient's certificate (RFC 5652 section 6.2.1)."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tokensign import der
from tokensign.cms.signed_data import SignerIdentifier

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

    from tokensign.keys import PrivateKey

__all__ = ["RecipientIdentifier"]


class RecipientIdentifier(SignerIdentifier):
    """Like `SignerIdentifier`; it may also name a key whose certificate is not at hand."""

    def names_key(self, key: PrivateKey) -> bool:
        """Whether it names one of a key's certificates, or the key by its identifier."""
        if any(self.names(certificate) for certificate in key.certificates):
            return True
        identifier = self.subject_key_identifier
        return identifier is not None and identifier == _method_1_identifier(key.public_key)


def _method_1_identifier(public_key: PublicKeyTypes) -> bytes:
    """The key identifier of RFC 5280 section 4.2.1.2, method 1: SHA-1 of the subjectPublicKey's octets."""
    encoded = public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    bits = der.content(der.elements(encoded)[1])[1:]  # without the count of unused bits
    return hashlib.sha1(bits, usedforsecurity=False).digest()
