"""PINs that are typed on the token's own PIN pad, and never reach this machine."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from tokensign.errors import PinUnavailableError
from tokensign.token.pin.source import InteractiveSource
from tokensign.token.pin.terminal import terminal

if TYPE_CHECKING:
    from tokensign.token.pin.source import PinRequest

__all__ = ["PadSource"]


class PadSource(InteractiveSource):
    """Leaves the PIN to the token's protected authentication path (PKCS#11 2.40 section 5.6, C_Login)."""

    def get(self, request: PinRequest) -> None:
        """Tell the person, where there is a terminal, to type on the pad.

        Raises:
            PinUnavailableError: The token has no pad.
        """
        if not request.pad:
            raise PinUnavailableError(
                f"the {request.what} for {request.purpose} shall be typed on a PIN pad, and there is none",
                hint=f"name another source with {request.option}",
            )
        lines = (*request.reasons, f"{request.title}: type it on the PIN pad.")
        with contextlib.suppress(OSError), terminal() as opened:
            opened.tell("".join(f"{line}\n" for line in lines))

    def __repr__(self) -> str:
        return "PadSource()"
