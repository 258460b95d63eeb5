"""PINs that are typed on the terminal."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from tokensign.errors import PinUnavailableError, UsageError
from tokensign.token.pin.source import InteractiveSource
from tokensign.token.pin.terminal import terminal

if TYPE_CHECKING:
    from tokensign.token.pin.source import PinRequest
    from tokensign.token.pin.terminal import Terminal
    from tokensign.token.pin.value import Pin

__all__ = ["PromptSource", "typed_twice"]


class PromptSource(InteractiveSource):
    """Asks on the terminal, without echo; the default source. A new PIN is typed twice."""

    def get(self, request: PinRequest) -> Pin:
        """Say what it is for, and ask "PIN for <purpose>".

        Raises:
            PinUnavailableError: There is no terminal, or nothing was typed.
            UsageError: A new one was typed in two ways.
        """
        with contextlib.ExitStack() as stack:
            try:
                opened = stack.enter_context(terminal())
            except OSError:
                raise PinUnavailableError(
                    f"a {request.what} is needed for {request.purpose}, and there is no terminal to ask on",
                    hint=f"pass {request.option} env:NAME, file:PATH or fd:N, or run it on a terminal",
                ) from None
            for line in request.reasons:
                opened.tell(f"{line}\n")
            pin = _ask(opened, request, f"{request.title}: ")
            if request.new:
                typed_twice(pin, _ask(opened, request, f"{request.title}, once more: "), request)
            return pin

    def __repr__(self) -> str:
        return "PromptSource()"


def typed_twice(pin: Pin, again: Pin, request: PinRequest) -> None:
    """Make sure that a new secret was typed the same way twice; the second is wiped.

    Raises:
        UsageError: It was not; both are wiped.
    """
    same = pin.matches(again)
    again.wipe()
    if not same:
        pin.wipe()
        raise UsageError(f"the two {request.what}s differ")


def _ask(opened: Terminal, request: PinRequest, prompt: str) -> Pin:
    pin = opened.read_secret(prompt)
    if pin is None:
        raise PinUnavailableError(
            f"no {request.what} was typed for {request.purpose}",
            hint=f"run it again, or name another source with {request.option}",
        )
    return pin
