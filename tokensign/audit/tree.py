"""The hash tree of RFC 6962 section 2.1, and its frontier, which is all that appending needs."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

from tokensign.errors import MalformedError

__all__ = ["HASH_SIZE", "Frontier", "Subtree", "leaf_hash", "node_hash"]

HASH_SIZE: Final = 32  # octets of SHA-256
_EMPTY_ROOT: Final = hashlib.sha256().digest()


def leaf_hash(leaf: bytes) -> bytes:
    """The hash of a leaf; its first octet tells it from that of a node."""
    return hashlib.sha256(b"\x00" + leaf).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of a node with two children."""
    return hashlib.sha256(b"\x01" + left + right).digest()


@dataclass(frozen=True, slots=True)
class Subtree:
    """A perfect subtree, with 2**level leaves.

    Attributes:
        level: 0 for a leaf.
        number: Counted among the subtrees of its level, from 0 on the left.
        hash: Its root, 32 octets.
    """

    level: int
    number: int
    hash: bytes


class Frontier:
    """The perfect subtrees from which a tree of some size is made, the largest first.

    There is one for each bit that is set in the size, so a tree of a million leaves has at most 20.

    Args:
        size: How many leaves.
        hashes: The roots of the subtrees.

    Raises:
        MalformedError: There are not as many hashes as a tree of that size has.
    """

    def __init__(self, size: int = 0, hashes: tuple[bytes, ...] = ()) -> None:
        if size < 0 or len(hashes) != size.bit_count():
            raise MalformedError(f"a tree of {size} leaves does not have {len(hashes)} perfect subtrees")
        self.size = size
        self._hashes = list(hashes)

    @classmethod
    def decode(cls, size: int, encoded: bytes) -> Frontier:
        """From the hashes, one after the other.

        Raises:
            MalformedError: They do not fit the size.
        """
        if len(encoded) % HASH_SIZE:
            raise MalformedError("the frontier of the audit tree is cut off")
        pieces = range(0, len(encoded), HASH_SIZE)
        return cls(size, tuple(encoded[start : start + HASH_SIZE] for start in pieces))

    def encode(self) -> bytes:
        """The hashes, one after the other."""
        return b"".join(self._hashes)

    def append(self, root: bytes, level: int = 0) -> list[Subtree]:
        """Add a leaf, or a perfect subtree, on the right.

        Args:
            root: Its hash.
            level: Its level, which may not be above that of the last subtree in the frontier.

        Returns:
            The perfect subtrees above it that it completes, from below.
        """
        number = self.size >> level
        self.size += 1 << level
        completed = []
        while number & 1:
            root = node_hash(self._hashes.pop(), root)
            level, number = level + 1, number >> 1
            completed.append(Subtree(level, number, root))
        self._hashes.append(root)
        return completed

    @property
    def root(self) -> bytes:
        """The hash of the whole tree, 32 octets."""
        if not self._hashes:
            return _EMPTY_ROOT
        root = self._hashes[-1]
        for left in reversed(self._hashes[:-1]):
            root = node_hash(left, root)
        return root
