"""Which source is meant: the specifications of --pin-source, and the pin-source of a URI."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from tokensign.errors import UsageError
from tokensign.settings import PIN_SOURCES
from tokensign.token.pin.environment import EnvironmentSource
from tokensign.token.pin.files import CredentialSource, DescriptorSource, FileSource
from tokensign.token.pin.keyring import KeyringSource
from tokensign.token.pin.pad import PadSource
from tokensign.token.pin.pinentry import PinentrySource
from tokensign.token.pin.prompt import PromptSource

if TYPE_CHECKING:
    from collections.abc import Callable

    from tokensign.token.pin.source import PinSource
    from tokensign.uri import KeyUri

__all__ = ["default_source", "parse_pin_source", "pin_source_of"]

_WITHOUT_ARGUMENT: Final[dict[str, Callable[[], PinSource]]] = {
    "prompt": PromptSource,
    "pinentry": PinentrySource,
    "pad": PadSource,
}
_WITH_ARGUMENT: Final[dict[str, Callable[[str], PinSource]]] = {
    "env": EnvironmentSource,
    "file": lambda path: FileSource(Path(path)),
    "keyring": KeyringSource,
    "credential": CredentialSource,
}
_IN_A_URI: Final = ("env", "keyring", "credential", "prompt", "pinentry", "pad")


def parse_pin_source(specification: str, what: str = "PIN") -> PinSource:
    """Make a source from one of the forms in `tokensign.settings.PIN_SOURCES`, such as "env:NAME".

    Args:
        specification: One of them.
        what: What comes from there: "PIN", or another secret that is given in the same ways.

    Raises:
        UsageError: It is none of them. The text is not repeated, since it may be a PIN by mistake.
    """
    kind, _, argument = specification.partition(":")
    if specification in _WITHOUT_ARGUMENT:
        return _WITHOUT_ARGUMENT[specification]()
    if argument and kind in _WITH_ARGUMENT:
        return _WITH_ARGUMENT[kind](argument)
    if kind == "fd" and argument.isascii() and argument.isdecimal():
        return DescriptorSource(int(argument))
    raise UsageError(f"the {what} source is not understood", hint=f"use {PIN_SOURCES}")


def pin_source_of(uri: KeyUri) -> PinSource | None:
    """The source that the pin-source attribute of a URI names (RFC 7512 section 2.4), or None without one.

    Besides "file:/absolute/path" it may be one of `parse_pin_source` that does not depend on how the process
    was started.

    Raises:
        UsageError: The URI has a pin-value, or a pin-source that is not taken.
    """
    if uri.pin_value is not None:
        raise UsageError(
            "a PKCS#11 URI with pin-value shows the PIN to everybody who sees the command, so it is refused",
            hint="use pin-source=file:/path in the URI, or --pin-source",
        )
    if uri.pin_source is None:
        return None
    if uri.pin_source.startswith("|"):
        raise UsageError(
            "a PKCS#11 URI with pin-source=|command lets who wrote the URI run a program, so it is refused",
            hint="run the program yourself, and hand its output over with --pin-source fd:N",
        )
    kind, colon, path = uri.pin_source.partition(":")
    path = path.removeprefix("//")
    if colon and kind.lower() == "file" and path.startswith("/"):
        return FileSource(Path(path))
    if kind in _IN_A_URI:
        return parse_pin_source(uri.pin_source)
    raise UsageError(
        f"the pin-source of a PKCS#11 URI is file:/absolute/path, or one of {', '.join(_IN_A_URI)}",
        hint="or use --pin-source",
    )


def default_source(*, pad: bool) -> PinSource:
    """The source where none is named: the token's own PIN pad where it has one, else a prompt."""
    return PadSource() if pad else PromptSource()
