"""Hash values of content by several digests at once, as it passes."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tokensign.algorithms import Digest

__all__ = ["ContentDigests"]


class ContentDigests:
    """Hashes content piece by piece.

    Args:
        digests: By which.
    """

    def __init__(self, digests: Iterable[Digest]) -> None:
        self._hashers = {digest.name: digest.new() for digest in digests}

    def update(self, piece: bytes) -> None:
        """Hash a further piece."""
        for hasher in self._hashers.values():
            hasher.update(piece)

    def values(self) -> dict[str, bytes]:
        """The hash values of all pieces so far, by the names of the digests."""
        return {name: hasher.digest() for name, hasher in self._hashers.items()}
