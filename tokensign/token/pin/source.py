"""What a source of PINs is, and what it is told when it is asked."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tokensign.token.pin.value import Pin

__all__ = ["InteractiveSource", "PinRequest", "PinSource", "asked", "shown"]

_LINE_MAXIMUM: Final = 200  # characters of a line that is shown; names of files and labels may be longer


@dataclass(frozen=True, slots=True, kw_only=True)
class PinRequest:
    """What a PIN is wanted for.

    Attributes:
        purpose: Whose it is, in words that can follow "PIN for": "the token acme".
        what: "PIN", or another secret that is given in the same ways, such as "password".
        action: What is going to be done, in words that can follow "to": "sign report.pdf (12,345 bytes) with
            the key alice"; or nothing.
        note: What else a person should know before typing, such as how many tries are left; or nothing.
        account: Under which name a keyring has it. A token's label; with " (SO)" for its security officer.
        new: Whether it is a secret from now on, which a person types twice.
        pad: Whether the token has a PIN pad of its own (CKF_PROTECTED_AUTHENTICATION_PATH).
    """

    purpose: str
    what: str = "PIN"
    action: str = ""
    note: str = ""
    account: str = ""
    new: bool = False
    pad: bool = False

    @property
    def title(self) -> str:
        """What is asked for: "PIN for the token acme"."""
        return shown(f"{self.what[0].upper()}{self.what[1:]} for {self.purpose}")

    @property
    def reasons(self) -> tuple[str, ...]:
        """What a person should know, line by line."""
        action = f"To {self.action}" if self.action else ""
        return tuple(shown(line) for line in (action, self.note) if line)

    @property
    def option(self) -> str:
        """The option of the command line that names where such a secret comes from."""
        return f"--{self.what.lower().replace(' ', '-')}-source"


class PinSource(Protocol):
    """Where a PIN comes from."""

    def get(self, request: PinRequest) -> Pin | None:
        """The PIN, which the caller may wipe; None where the token itself asks for it, on its PIN pad.

        Args:
            request: What it is for.

        Raises:
            PinUnavailableError: There is none.
        """
        ...


class InteractiveSource:
    """A source that asks a person.

    So a key that wants its PIN for each operation (CKA_ALWAYS_AUTHENTICATE) gets it from the person each time
    and never from memory.
    """


@contextlib.contextmanager
def asked(source: PinSource, request: PinRequest) -> Iterator[Pin | None]:
    """What a source gives, which is wiped after the block."""
    pin = source.get(request)
    try:
        yield pin
    finally:
        if pin is not None:
            pin.wipe()


def shown(line: str) -> str:
    """A line that cannot steer a terminal or make a second line: names in it may be a stranger's."""
    cut = line if len(line) <= _LINE_MAXIMUM else f"{line[: _LINE_MAXIMUM - 1]}…"
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in cut)
