"""Key derivation: how a shared secret becomes a key-encryption key, and what is mixed into it.

Everything happens on the host, because tokens know few of these functions and none of the structures.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.kdf.x963kdf import X963KDF

from tokensign import der

if TYPE_CHECKING:
    from tokensign.algorithms import Digest, KeyAgreementScheme, KeyWrap

__all__ = ["agreed_key", "hkdf", "x942", "x963"]


def agreed_key(
    scheme: KeyAgreementScheme, secret: bytes, key_wrap: KeyWrap, wrap_identifier: bytes, ukm: bytes | None
) -> bytes:
    """The key-encryption key of a KeyAgreeRecipientInfo.

    Args:
        scheme: Its keyEncryptionAlgorithm.
        secret: The shared secret Z, all of its octets.
        key_wrap: What the key is for.
        wrap_identifier: The KeyWrapAlgorithm as the message has it, DER.
        ukm: The user keying material, or None.
    """
    size = key_wrap.key_size
    match scheme.kdf:
        case "x963":
            return x963(secret, scheme.digest, ecc_cms_shared_info(wrap_identifier, ukm, size), size)
        case "hkdf":  # RFC 8418 section 2.2: the ukm is the salt, too
            info = ecc_cms_shared_info(wrap_identifier, ukm, size)
            return hkdf(secret, scheme.digest, info, size, salt=ukm)
        case "x942":
            return x942(secret, scheme.digest, key_wrap.oid, ukm, size)


def ecc_cms_shared_info(wrap_identifier: bytes, ukm: bytes | None, size: int) -> bytes:
    """ECC-CMS-SharedInfo (RFC 5753 section 7.2), DER.

    Args:
        wrap_identifier: The KeyWrapAlgorithm as the message has it, DER.
        ukm: The user keying material, or None.
        size: Octets of the key-encryption key.
    """
    entity = der.explicit(0, der.octet_string(ukm)) if ukm is not None else b""
    return der.sequence(wrap_identifier, entity, der.explicit(2, der.octet_string(_bits(size))))


def x963(secret: bytes, digest: Digest, shared_info: bytes, size: int) -> bytes:
    """The key derivation function of ANSI X9.63 (SEC 1 section 3.6.1).

    Args:
        secret: The shared secret.
        digest: The hash.
        shared_info: What is mixed in.
        size: Octets of the result.
    """
    return X963KDF(digest.primitive(), size, shared_info).derive(secret)


def hkdf(secret: bytes, digest: Digest, info: bytes, size: int, *, salt: bytes | None = None) -> bytes:
    """HKDF (RFC 5869), extract and expand.

    Args:
        secret: The input keying material.
        digest: The hash.
        info: What is mixed in.
        size: Octets of the result.
        salt: None for as many zeros as the hash has octets.
    """
    return HKDF(digest.primitive(), size, salt, info).derive(secret)


def x942(secret: bytes, digest: Digest, algorithm: str, ukm: bytes | None, size: int) -> bytes:
    """The key derivation function of ANSI X9.42 (RFC 2631 section 2.1.2).

    Args:
        secret: ZZ, with its leading zeros.
        digest: The hash.
        algorithm: The algorithm that the key is for, dotted.
        ukm: partyAInfo, or None.
        size: Octets of the result.
    """
    party = der.explicit(0, der.octet_string(ukm)) if ukm is not None else b""
    rest = party + der.explicit(2, der.octet_string(_bits(size)))
    material = b""
    for counter in range(1, -(-size // digest.size) + 1):
        specific = der.sequence(der.object_identifier(algorithm), der.octet_string(counter.to_bytes(4)))
        state = digest.new()
        state.update(secret + der.sequence(specific, rest))
        material += state.digest()
    return material[:size]


def _bits(size: int) -> bytes:
    """The size of a key in bits, as suppPubInfo has it."""
    return struct.pack(">I", 8 * size)
