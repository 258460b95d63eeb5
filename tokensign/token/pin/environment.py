"""PINs from the environment."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from tokensign.errors import PinUnavailableError
from tokensign.token.pin.value import Pin

if TYPE_CHECKING:
    from tokensign.token.pin.source import PinRequest

__all__ = ["EnvironmentSource"]


class EnvironmentSource:
    """Takes the PIN from an environment variable, where it stays: the environment cannot be overwritten.

    Args:
        name: The variable's name.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def get(self, request: PinRequest) -> Pin:
        """The variable's value.

        Raises:
            PinUnavailableError: The variable is not set, or empty.
        """
        value = os.environ.get(self._name)
        if not value:
            raise PinUnavailableError(
                f"the {request.what} for {request.purpose} shall come from the variable {self._name}, "
                "which is not set",
                hint=f"set {self._name}, or name another source with {request.option}",
            )
        return Pin(os.fsencode(value))

    def __repr__(self) -> str:
        return f"EnvironmentSource({self._name!r})"
