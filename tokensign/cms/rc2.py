"""RC2 (RFC 2268) with keys of 40 and 64 bits, to read old messages; cryptography has it with 128 bits only.

Plain Python and slow, some hundred kilobytes a second, which suffices for the mail of then. It neither
encrypts nor keeps its time independent of the key, and need not: 40 bits protect nothing.
"""

from __future__ import annotations

import struct
from typing import Final

__all__ = ["Rc2CbcDecryptor"]

_BLOCK: Final = 8  # octets
_PI_TABLE: Final = bytes.fromhex(  # RFC 2268 section 2
    "d978f9c419ddb5ed28e9fd794aa0d89dc67e37832b76538e624c6488448bfba2"
    "179a59f587b34f1361456d8d09817d32bd8f40eb86b77b0bf09521225c6b4e82"
    "54d66593ce60b21c7356c014a78cf1dc1275ca1f3bbee4d1423dd430a33cb626"
    "6fbf0eda4669075727f21d9bbc944303f811c7f690ef3ee706c3d52fc8661ed7"
    "08e8eade8052eef784aa72ac354d6a2a961ad2715a1549744b9fd05e0418a4ec"
    "c2e0416e0f51cbcc2491af50a1f47039997c3a8523b8b47afc02365b25559731"
    "2d5dfa98e38a92ae05df2910676cbac9d300e6cfe19ea82c6316013f58e289a9"
    "0d38341bab33ffb0bb480c5fb9b1cd2ec5f3db47e5a59c770aa62068fe7fc1ad"
)
_ROTATIONS: Final = (1, 2, 3, 5)  # of the four words of a block
_MIXING_ROUNDS: Final = (5, 6, 5)  # with a mashing round between them


class Rc2CbcDecryptor:
    """Decrypts in CBC mode.

    Args:
        key: At most 16 octets, all of whose bits count.
        iv: 8 octets.
    """

    def __init__(self, key: bytes, iv: bytes) -> None:
        self._words = _expand(key)
        self._previous = iv
        self._rest = b""

    def update(self, data: bytes) -> bytes:
        """The next whole blocks, decrypted."""
        data = self._rest + data
        whole = len(data) // _BLOCK * _BLOCK
        self._rest = data[whole:]
        return b"".join(self._next(data[at : at + _BLOCK]) for at in range(0, whole, _BLOCK))

    def finalize(self) -> bytes:
        """The end.

        Raises:
            ValueError: A block was not whole.
        """
        if self._rest:
            raise ValueError("the data is not a multiple of the block size")
        return b""

    def _next(self, block: bytes) -> bytes:
        decrypted = _decrypt_block(self._words, block)
        plain = int.from_bytes(decrypted) ^ int.from_bytes(self._previous)
        self._previous = block
        return plain.to_bytes(_BLOCK)


def _expand(key: bytes) -> tuple[int, ...]:
    """The 64 words of the expanded key (RFC 2268 section 2); the effective key is as long as the key."""
    octets = bytearray(key)
    size = len(key)
    for at in range(size, 128):
        octets.append(_PI_TABLE[(octets[at - 1] + octets[at - size]) & 0xFF])
    octets[128 - size] = _PI_TABLE[octets[128 - size]]
    for at in reversed(range(128 - size)):
        octets[at] = _PI_TABLE[octets[at + 1] ^ octets[at + size]]
    return struct.unpack("<64H", octets)


def _decrypt_block(words: tuple[int, ...], block: bytes) -> bytes:
    """RFC 2268 section 4."""
    state = list(struct.unpack("<4H", block))
    position = len(words) - 1
    for number, rounds in enumerate(_MIXING_ROUNDS):
        if number:
            for at in (3, 2, 1, 0):
                state[at] = state[at] - words[state[at - 1] & 63] & 0xFFFF
        for _ in range(rounds):
            for at in (3, 2, 1, 0):
                rotation = _ROTATIONS[at]
                turned = (state[at] >> rotation | state[at] << 16 - rotation) & 0xFFFF
                mixed = state[at - 1] & state[at - 2] | ~state[at - 1] & state[at - 3]
                state[at] = turned - words[position] - mixed & 0xFFFF
                position -= 1
    return struct.pack("<4H", *state)
