"""PINs, and where they come from.

A `Pin` never shows its value unless told to. A `PinSource` gives one when it is needed and not before;
`parse_pin_source` makes one from a specification such as "env:NAME".
"""

from __future__ import annotations

import getpass
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn, Protocol

from tokensign.errors import PinUnavailableError, UsageError

if TYPE_CHECKING:
    from tokensign.uri import KeyUri

__all__ = [
    "DescriptorSource",
    "EnvironmentSource",
    "FileSource",
    "Pin",
    "PinSource",
    "PromptSource",
    "parse_pin_source",
    "pin_source_of",
]

PIN_MAXIMUM_SIZE: Final = 255  # octets; tokens take far less, and a larger file is not a PIN file
_TERMINAL: Final = "/dev/tty"
_LATER: Final = ("keyring", "credential", "pinentry", "pad")


class Pin:
    """A PIN that hides its value from repr, str, format, pickle and copy.

    Args:
        value: The PIN; text is taken as UTF-8, as PKCS#11 has it.

    Raises:
        PinUnavailableError: It is empty or longer than a PIN can be.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str | bytes) -> None:
        self._value = bytearray(value.encode() if isinstance(value, str) else value)
        if not 0 < len(self._value) <= PIN_MAXIMUM_SIZE:
            self.wipe()
            raise PinUnavailableError(f"a PIN has 1 to {PIN_MAXIMUM_SIZE} bytes")

    def reveal(self) -> bytes:
        """The PIN itself, to be handed to the module at once.

        Raises:
            PinUnavailableError: It was wiped.
        """
        if not self._value:
            raise PinUnavailableError("the PIN was forgotten already", hint="open the token again")
        return bytes(self._value)

    def get(self, purpose: str) -> Pin:  # noqa: ARG002 - the protocol's parameter
        """Itself, so that a PIN can stand wherever a source is asked for."""
        return self

    def wipe(self) -> None:
        """Overwrite it, as far as Python allows: copies that were revealed are not reached."""
        self._value[:] = bytes(len(self._value))
        del self._value[:]

    def __repr__(self) -> str:
        return "Pin(hidden)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Pin is not copied or stored")


class PinSource(Protocol):
    """Where a PIN comes from."""

    def get(self, purpose: str) -> Pin:
        """The PIN.

        Args:
            purpose: What it is for, in words for a prompt: "the token acme".

        Raises:
            PinUnavailableError: There is none.
        """
        ...


class PromptSource:
    """Asks on the terminal, without echo; the default source.

    Args:
        what: What is asked for: "PIN", or another secret that is given in the same ways, such as "password".
    """

    def __init__(self, what: str = "PIN") -> None:
        self._what = what
        self._hint = f"pass {_option(what)} env:NAME, file:PATH or fd:N, or run it on a terminal"

    def get(self, purpose: str) -> Pin:
        """Ask "PIN for <purpose>", or for what it is.

        Raises:
            PinUnavailableError: There is no terminal, or nothing was typed.
        """
        try:
            os.close(os.open(_TERMINAL, os.O_RDWR | os.O_NOCTTY))
        except OSError:
            raise PinUnavailableError(
                f"a {self._what} is needed for {purpose}, and there is no terminal to ask on", hint=self._hint
            ) from None
        try:
            return Pin(getpass.getpass(f"{_capitalized(self._what)} for {_visible(purpose)}: "))
        except EOFError:
            raise PinUnavailableError(f"no {self._what} was typed for {purpose}", hint=self._hint) from None

    def __repr__(self) -> str:
        return "PromptSource()"


class EnvironmentSource:
    """Takes the PIN from an environment variable.

    Args:
        name: The variable's name.
        what: As for `PromptSource`.
    """

    def __init__(self, name: str, what: str = "PIN") -> None:
        self._name = name
        self._what = what

    def get(self, purpose: str) -> Pin:
        """The variable's value.

        Raises:
            PinUnavailableError: The variable is not set, or empty.
        """
        value = os.environ.get(self._name)
        if not value:
            raise PinUnavailableError(
                f"the {self._what} for {purpose} shall come from the variable {self._name}, which is not set",
                hint=f"set {self._name}, or name another source with {_option(self._what)}",
            )
        return Pin(value)

    def __repr__(self) -> str:
        return f"EnvironmentSource({self._name!r})"


class FileSource:
    """Takes the PIN from a file that only its owner can read. One newline at its end is not part of it.

    Args:
        path: A regular file, owned by the user or by root, with no permission for group and others.
        what: As for `PromptSource`.
    """

    def __init__(self, path: Path, what: str = "PIN") -> None:
        self._path = path
        self._what = what

    def get(self, purpose: str) -> Pin:
        """The file's content.

        Raises:
            PinUnavailableError: The file cannot be read, is not private, or is no PIN file.
        """
        try:
            descriptor = os.open(self._path, os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as failure:
            raise PinUnavailableError(
                f"the {self._what} for {purpose} cannot be read from {self._path}: {failure.strerror}"
            ) from None
        try:
            self._check(os.fstat(descriptor))  # of what was opened, so that nobody can exchange it
            return _read(descriptor, str(self._path), self._what)
        finally:
            os.close(descriptor)

    def _check(self, status: os.stat_result) -> None:
        if not stat.S_ISREG(status.st_mode):
            raise PinUnavailableError(f"the {self._what} file {self._path} is not a regular file")
        if status.st_uid not in (os.geteuid(), 0):
            raise PinUnavailableError(
                f"the {self._what} file {self._path} belongs to another user",
                hint=f"chown it to uid {os.geteuid()}",
            )
        if status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise PinUnavailableError(
                f"the {self._what} file {self._path} can be used by others than its owner",
                hint=f"chmod 600 {self._path}",
            )

    def __repr__(self) -> str:
        return f"FileSource({str(self._path)!r})"


class DescriptorSource:
    """Takes the PIN from an open file descriptor, such as a pipe, once; and remembers it.

    Args:
        number: The descriptor. It is read to its end and left open.
        what: As for `PromptSource`.
    """

    def __init__(self, number: int, what: str = "PIN") -> None:
        self._number = number
        self._what = what
        self._pin: Pin | None = None

    def get(self, purpose: str) -> Pin:
        """What the descriptor gives until its end.

        Raises:
            PinUnavailableError: The descriptor is not open, or gives no PIN.
        """
        if self._pin is None:
            try:
                self._pin = _read(self._number, f"file descriptor {self._number}", self._what)
            except OSError as failure:
                raise PinUnavailableError(
                    f"the {self._what} for {purpose} cannot be read from file descriptor {self._number}: "
                    f"{failure.strerror}"
                ) from None
        return Pin(self._pin.reveal())

    def __repr__(self) -> str:
        return f"DescriptorSource({self._number})"


def parse_pin_source(specification: str, what: str = "PIN") -> PinSource:
    """Make a source from "prompt", "env:NAME", "file:PATH" or "fd:N".

    Args:
        specification: One of them.
        what: What comes from there: "PIN", or another secret that is given in the same ways.

    Raises:
        UsageError: It is none of them. The text is not repeated, since it may be a PIN by mistake.
    """
    kind, colon, argument = specification.partition(":")
    match kind:
        case "prompt" if not colon:
            return PromptSource(what)
        case "env" if argument:
            return EnvironmentSource(argument, what)
        case "file" if argument:
            return FileSource(Path(argument), what)
        case "fd" if argument.isascii() and argument.isdecimal():
            return DescriptorSource(int(argument), what)
        case _ if kind in _LATER:
            raise UsageError(
                f"{_capitalized(what)}s from {kind} are not in this version",
                hint="use prompt, env:NAME, file:PATH or fd:N",
            )
        case _:
            raise UsageError(
                f"the {what} source is not understood", hint="use prompt, env:NAME, file:PATH or fd:N"
            )


def pin_source_of(uri: KeyUri) -> PinSource | None:
    """The source that the pin-source attribute of a URI names (RFC 7512 section 2.4), or None without one.

    Raises:
        UsageError: The URI has a pin-value, or a pin-source other than a file.
    """
    if uri.pin_value is not None:
        raise UsageError(
            "a PKCS#11 URI with pin-value shows the PIN to everybody who sees the command, so it is refused",
            hint="use pin-source=file:/path in the URI, or --pin-source",
        )
    if uri.pin_source is None:
        return None
    scheme, colon, path = uri.pin_source.partition(":")
    path = path.removeprefix("//")
    if not colon or scheme.lower() != "file" or not path.startswith("/"):
        raise UsageError(
            "only pin-source=file:/absolute/path is taken from a PKCS#11 URI", hint="or use --pin-source"
        )
    return FileSource(Path(path))


def _visible(text: str) -> str:
    """Text that cannot steer a terminal: the label in it is the token's, which may be a stranger's."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)


def _option(what: str) -> str:
    """The option of the command line that names where a secret comes from."""
    return f"--{what.lower().replace(' ', '-')}-source"


def _capitalized(what: str) -> str:
    return what[0].upper() + what[1:]


def _read(descriptor: int, name: str, what: str) -> Pin:
    content = bytearray()
    while piece := os.read(descriptor, PIN_MAXIMUM_SIZE + 3 - len(content)):
        content += piece
        if len(content) > PIN_MAXIMUM_SIZE + 2:
            raise PinUnavailableError(f"{name} holds more than a {what}")
    value = bytes(content).removesuffix(b"\n").removesuffix(b"\r")
    if not 0 < len(value) <= PIN_MAXIMUM_SIZE:
        raise PinUnavailableError(
            f"{name} holds no {what}" if not value else f"{name} holds more than a {what}"
        )
    return Pin(value)
