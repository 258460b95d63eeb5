"""How far an algorithm is trusted, and the refusal of those that are not."""

from __future__ import annotations

import enum

from tokensign.errors import LegacyAlgorithmError, UnsupportedError

__all__ = [
    "Strength",
    "require_strength",
]


class Strength(enum.Enum):
    """How far an algorithm is trusted."""

    STRONG = "strong"
    """Read and written."""
    LEGACY = "legacy"
    """Read only, and only where the caller asks for it; never written."""
    REFUSED = "refused"
    """Neither read nor written."""


def require_strength(name: str, strength: Strength, *, legacy: bool) -> None:
    """Refuse an algorithm that is too weak for the caller.

    Args:
        name: What to call it in the message.
        strength: Its entry in the table.
        legacy: Whether the caller reads old messages.

    Raises:
        LegacyAlgorithmError: It is read only with the legacy switch, and `legacy` is false.
        UnsupportedError: It is refused in any case.
    """
    if strength is Strength.REFUSED:
        raise UnsupportedError(f"{name} is broken and is refused")
    if strength is Strength.LEGACY and not legacy:
        raise LegacyAlgorithmError(
            f"{name} is no longer secure and is refused by default",
            hint="pass --legacy (in the library: legacy=True) to read an old message all the same",
        )
