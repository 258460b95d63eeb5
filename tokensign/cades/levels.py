"""The levels of CAdES baseline signatures (ETSI EN 319 122-1 section 6)."""

from __future__ import annotations

import enum

__all__ = ["Level"]


class Level(enum.Enum):
    """A level; the value is its name on the command line. Levels are ordered."""

    B_B = "b-b"
    """Basic: says who signed, and when by the signer's clock."""
    B_T = "b-t"
    """A timestamp proves that the signature existed at a time."""
    B_LT = "b-lt"
    """All that is needed to validate it later is in the message."""
    B_LTA = "b-lta"
    """An archive timestamp proves that all of it existed at a time."""

    @property
    def rank(self) -> int:
        """0 for B-B to 3 for B-LTA."""
        return list(Level).index(self)

    def __lt__(self, other: Level) -> bool:
        return self.rank < other.rank

    def __le__(self, other: Level) -> bool:
        return self.rank <= other.rank

    def __str__(self) -> str:
        return self.value.upper()
