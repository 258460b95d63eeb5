"""EME-OAEP decoding on the host (RFC 8017 section 7.1.2), for tokens whose own mechanism lacks a hash."""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING, Final

from tokensign.errors import DecryptionError

if TYPE_CHECKING:
    from tokensign.algorithms import Digest
    from tokensign.keys import OaepTransport

__all__ = ["CANNOT_DECRYPT", "decode", "mask"]

CANNOT_DECRYPT: Final = "the content key cannot be decrypted"  # the one text for every cause (RFC 3218)


def mask(seed: bytes, size: int, digest: Digest) -> bytes:
    """MGF1 (RFC 8017 appendix B.2.1).

    Args:
        seed: What the mask is made from.
        size: Octets of the mask.
        digest: The hash.
    """
    stream = bytearray()
    for counter in range(-(-size // digest.size)):
        block = digest.new()
        block.update(seed + counter.to_bytes(4))
        stream += block.digest()
    return bytes(stream[:size])


def decode(encoded: bytes, transport: OaepTransport) -> bytes:
    """The message in an encoded block, steps 3 a to g.

    Runs over all octets whatever they are, without branches on them, and looks at the verdict once, at
    the end (RFC 8017 section 7.1.2 warns of the attack by Manger). Python's integers are not constant in
    time to the last cycle; what an attacker could see is far below the noise of a token's answer.

    Args:
        encoded: EM, as many octets as the modulus, leading zeros included.
        transport: The hashes and the label.

    Raises:
        DecryptionError: It is no OAEP block; one text for every cause.
    """
    size = transport.digest.size
    label_hash = transport.digest.new()
    label_hash.update(transport.label)
    masked_seed, masked_block = encoded[1 : size + 1], encoded[size + 1 :]
    seed = _xor(masked_seed, mask(masked_block, size, transport.mgf_digest))
    block = _xor(masked_block, mask(seed, len(masked_block), transport.mgf_digest))

    wrong = encoded[0]  # Y, which must be zero
    wrong |= not hmac.compare_digest(block[:size], label_hash.digest())
    searching, start = 1, 0
    for position in range(size, len(block)):
        octet = block[position]
        is_zero = (octet - 1) >> 8 & 1
        is_one = ((octet ^ 1) - 1) >> 8 & 1
        start |= position * (searching & is_one)
        wrong |= searching & ~(is_zero | is_one) & 1
        searching &= 1 ^ is_one
    wrong |= searching
    if wrong:
        raise DecryptionError(CANNOT_DECRYPT)
    return block[start + 1 :]


def _xor(left: bytes, right: bytes) -> bytes:
    return (int.from_bytes(left) ^ int.from_bytes(right)).to_bytes(len(left))
