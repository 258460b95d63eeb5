"""A PIN that hides its value, and can be overwritten."""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING, Final, NoReturn

from tokensign.errors import PinUnavailableError

if TYPE_CHECKING:
    from tokensign.token.pin.source import PinRequest

__all__ = ["PIN_MAXIMUM_SIZE", "Pin"]

PIN_MAXIMUM_SIZE: Final = 255  # octets; tokens take far less, and a larger file is not a PIN file


class Pin:
    """A PIN that hides its value from repr, str, format, pickle and copy, and is overwritten at its end.

    Args:
        value: The PIN; text is taken as UTF-8, as PKCS#11 has it. It is copied; the copy can be overwritten,
            and what was given is the caller's to overwrite, where it can be.

    Raises:
        PinUnavailableError: It is empty or longer than a PIN can be.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str | bytes | bytearray | memoryview) -> None:
        self._value = bytearray(value.encode() if isinstance(value, str) else value)
        if not 0 < len(self._value) <= PIN_MAXIMUM_SIZE:
            self.wipe()
            raise PinUnavailableError(f"a PIN has 1 to {PIN_MAXIMUM_SIZE} bytes")

    @property
    def octets(self) -> bytearray:
        """The PIN itself and no copy of it, to be handed to the module at once and not to be kept.

        Raises:
            PinUnavailableError: It was wiped.
        """
        if not self._value:
            raise PinUnavailableError("the PIN was forgotten already", hint="open the token again")
        return self._value

    def reveal(self) -> bytes:
        """A copy of the PIN, which nothing can overwrite; `octets` is better where it will do.

        Raises:
            PinUnavailableError: It was wiped.
        """
        return bytes(self.octets)

    def duplicate(self) -> Pin:
        """The same PIN once more, to be wiped by itself.

        Raises:
            PinUnavailableError: It was wiped.
        """
        return Pin(self.octets)

    def get(self, request: PinRequest) -> Pin:  # noqa: ARG002 - the protocol's parameter
        """A duplicate, so that a PIN can stand wherever a source is asked for."""
        return self.duplicate()

    def matches(self, other: Pin) -> bool:
        """Whether the other one is the same, in a time that does not depend on where they differ."""
        return hmac.compare_digest(self.octets, other.octets)

    def wipe(self) -> None:
        """Overwrite it, as far as Python allows: copies that were revealed are not reached."""
        self._value[:] = bytes(len(self._value))  # in place: the size stays the same
        self._value = bytearray()

    def __del__(self) -> None:
        self.wipe()

    def __repr__(self) -> str:
        return "Pin(hidden)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Pin is not copied or stored")
