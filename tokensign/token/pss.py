"""EMSA-PSS encoding on the host (RFC 8017 section 9.1.1), for tokens whose own mechanism lacks a hash."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Final

from tokensign.errors import MechanismError
from tokensign.token.oaep import mask

if TYPE_CHECKING:
    from tokensign.algorithms import Digest

__all__ = ["encode"]

_TRAILER: Final = b"\xbc"


def encode(hash_value: bytes, *, bits: int, digest: Digest, salt_size: int) -> bytes:
    """The block that the private-key operation makes a signature from.

    Args:
        hash_value: The hash value of the message, made with `digest`.
        bits: Bits of the block: one less than those of the modulus.
        digest: The hash, also of the mask.
        salt_size: Octets of the salt, which is random.

    Returns:
        EM, in as many octets as the modulus has.

    Raises:
        MechanismError: The key is too small for the hash.
    """
    size = (bits + 7) // 8
    room = size - digest.size - salt_size - 2
    if room < 0:
        raise MechanismError(f"the key is too small for PSS with {digest.name}", hint="choose another digest")
    salt = secrets.token_bytes(salt_size)
    seed = digest.new(bytes(8) + hash_value + salt).digest()
    block = bytes(room) + b"\1" + salt
    masked = int.from_bytes(block) ^ int.from_bytes(mask(seed, len(block), digest))
    masked &= (1 << (8 * len(block) - (8 * size - bits))) - 1  # step 11: the bits beyond the block's
    return (masked.to_bytes(len(block)) + seed + _TRAILER).rjust((bits + 8) // 8, b"\0")
