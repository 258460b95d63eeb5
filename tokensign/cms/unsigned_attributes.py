"""Unsigned attributes of a signature: found, and added, with all else as it is (RFC 5652 section 5.3)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tokensign import der
from tokensign.cms.attributes import attribute, parse_unsigned_attributes

if TYPE_CHECKING:
    from tokensign.cms.signed_data import SignerInfo

__all__ = ["signed_fields", "unsigned_instances", "unsigned_values", "with_unsigned_attribute"]


def unsigned_instances(signer: SignerInfo) -> list[tuple[str, bytes]]:
    """Each value of each unsigned attribute with its type, dotted, in the order of the message.

    Raises:
        MalformedError: They are broken, or one is there that must be signed.
    """
    if signer.unsigned_attributes is None:
        return []
    found = parse_unsigned_attributes(signer.unsigned_attributes)
    return [(kind, value) for kind, values in found for value in values]


def unsigned_values(signer: SignerInfo, kind: str) -> list[bytes]:
    """The values of one type of unsigned attribute, DER.

    Raises:
        MalformedError: As for `unsigned_instances`.
    """
    return [value for found, value in unsigned_instances(signer) if found == kind]


def signed_fields(signer: SignerInfo) -> list[bytes]:
    """The fields of a SignerInfo before its unsigned attributes, each as it was received."""
    fields = der.elements(signer.encoded)
    return fields if signer.unsigned_attributes is None else fields[:-1]


def with_unsigned_attribute(signer: SignerInfo, kind: str, value: bytes) -> bytes:
    """A SignerInfo with one more unsigned attribute, and all else as it is.

    Args:
        signer: The signature.
        kind: The type of the attribute, dotted.
        value: Its value, DER.

    Returns:
        The new SignerInfo.
    """
    present = [] if signer.unsigned_attributes is None else der.elements(signer.unsigned_attributes)
    added = der.set_of(*present, attribute(kind, value), tag=0xA1)
    return der.sequence(*signed_fields(signer), added)
