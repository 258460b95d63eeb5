"""PINs that a pinentry asks for, the program that GnuPG's users know: a window, or a form on the terminal."""

from __future__ import annotations

import contextlib
import os
import subprocess
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

from tokensign.errors import PinUnavailableError
from tokensign.token.pin.assuan import LINE_MAXIMUM, AssuanClient, AssuanError, escaped, unescaped
from tokensign.token.pin.prompt import typed_twice
from tokensign.token.pin.source import InteractiveSource, shown
from tokensign.token.pin.terminal import terminal
from tokensign.token.pin.value import Pin

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tokensign.token.pin.source import PinRequest

__all__ = ["PinentrySource", "confirm"]

TYPING_TIMEOUT: Final = 300  # seconds that a person has; pinentry itself ends then
_ANSWER_TIMEOUT: Final = 15.0  # seconds for all other commands; a window on a slow display takes some
_END_TIMEOUT: Final = 2.0  # seconds for it to end by itself
_GPGCONF_TIMEOUT: Final = 5.0  # seconds for gpgconf, which only reads its configuration

_CANCELLED: Final = (99, 198)  # GPG_ERR_CANCELED, GPG_ERR_FULLY_CANCELED (libgpg-error)
_NOT_CONFIRMED: Final = 114  # GPG_ERR_NOT_CONFIRMED
_TIMED_OUT: Final = 62  # GPG_ERR_TIMEOUT
_NO_DATA: Final = 58  # GPG_ERR_NO_DATA


class PinentrySource(InteractiveSource):
    """Asks with pinentry, which says what is going to be done with which key, and keeps no PIN.

    The program is the one that the variable PINENTRY_PROGRAM names, else GnuPG's, else `pinentry`.
    """

    def get(self, request: PinRequest) -> Pin:
        """Show the window, and wait for the person.

        Raises:
            PinUnavailableError: There is no pinentry, the person cancels it, or does not answer in time.
            UsageError: A new PIN was typed in two ways.
        """
        try:
            with _running() as client:
                return _ask(client, request)
        except OSError as failure:
            raise PinUnavailableError(
                f"the {request.what} for {request.purpose} cannot be asked for: pinentry does not start: "
                f"{failure.strerror}",
                hint="install pinentry, or name it with PINENTRY_PROGRAM",
            ) from None
        except AssuanError as failure:
            raise PinUnavailableError(
                f"no {request.what} came for {request.purpose}: {_reason(failure)}",
                hint=f"run it again, or name another source with {request.option}",
            ) from None

    def __repr__(self) -> str:
        return "PinentrySource()"


def confirm(question: str, reasons: Sequence[str]) -> bool:
    """Let a person say yes or no to something; no is also what a person says who does not answer in time.

    Args:
        question: What may be done.
        reasons: What else to know, line by line.

    Raises:
        PinUnavailableError: There is no pinentry, or it fails.
    """
    try:
        with _running() as client:
            _begin(client, (shown(question), *map(shown, reasons)))
            _set(client, "SETOK", "_Allow")
            _set(client, "SETCANCEL", "_Refuse")  # without it pinentry-tty takes no "no"
            client.ask("CONFIRM", TYPING_TIMEOUT + _ANSWER_TIMEOUT)
    except OSError as failure:
        raise PinUnavailableError(
            f"nobody can be asked for a confirmation: pinentry does not start: {failure.strerror}",
            hint="install pinentry, or name it with PINENTRY_PROGRAM",
        ) from None
    except AssuanError as failure:
        if failure.code in (*_CANCELLED, _NOT_CONFIRMED, _TIMED_OUT):
            return False
        raise PinUnavailableError(
            f"nobody can be asked for a confirmation: {_reason(failure)}",
            hint="name another pinentry with PINENTRY_PROGRAM",
        ) from None
    return True


def _begin(client: AssuanClient, lines: Sequence[str]) -> None:
    """Where to show what."""
    client.greeting(_ANSWER_TIMEOUT)
    for option in _options():
        with contextlib.suppress(AssuanError):  # each pinentry knows some of them
            client.ask(f"OPTION {option}", _ANSWER_TIMEOUT)
    _set(client, "SETTITLE", "tokensign")
    _set(client, "SETDESC", "\n".join(lines))
    _set(client, "SETTIMEOUT", str(TYPING_TIMEOUT))


def _ask(client: AssuanClient, request: PinRequest) -> Pin:
    what = f"{request.what[0].upper()}{request.what[1:]}"
    _begin(client, (request.title, *request.reasons))
    _set(client, "SETPROMPT", f"{what}:")
    if request.new:
        with contextlib.suppress(AssuanError):  # an old one does not repeat; then it is asked twice
            _set(client, "SETREPEATERROR", f"The two {request.what}s differ")
            _set(client, "SETREPEAT", "Once more:")
    pin, repeated = _get_pin(client)
    if request.new and not repeated:
        _set(client, "SETPROMPT", "Once more:")
        typed_twice(pin, _get_pin(client)[0], request)
    return pin


def _set(client: AssuanClient, command: str, text: str) -> None:
    client.ask(f"{command} {escaped(text, LINE_MAXIMUM - len(command) - 1)}", _ANSWER_TIMEOUT)


def _get_pin(client: AssuanClient) -> tuple[Pin, bool]:
    """What was typed, and whether pinentry had it typed twice."""
    reply = client.ask("GETPIN", TYPING_TIMEOUT + _ANSWER_TIMEOUT)
    if not reply.data:
        raise AssuanError("nothing was typed", _NO_DATA)
    typed = unescaped(reply.data)
    try:
        return Pin(typed), "PIN_REPEATED" in reply.statuses
    finally:
        typed[:] = bytes(len(typed))


def _reason(failure: AssuanError) -> str:
    if failure.code in _CANCELLED:
        return "it was cancelled in pinentry"
    if failure.code == _TIMED_OUT:
        return f"pinentry waited {TYPING_TIMEOUT} seconds"
    if failure.code == _NO_DATA:
        return "nothing was typed in pinentry"
    return f"pinentry failed: {failure}"


@contextlib.contextmanager
def _running() -> Iterator[AssuanClient]:
    """A pinentry that has just been started, and ends with the block; the terminal is left as it was."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):  # a window needs none
            stack.enter_context(stack.enter_context(terminal()).unchanged())
        process = subprocess.Popen(
            [_program()], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0
        )
        stack.callback(_end, process)
        assert process.stdin  # noqa: S101 - it was asked for, which only the types do not know
        assert process.stdout  # noqa: S101 - as above
        yield AssuanClient(process.stdout.fileno(), process.stdin.fileno())


def _end(process: subprocess.Popen[bytes]) -> None:
    for pipe in (process.stdin, process.stdout):
        if pipe:
            pipe.close()  # which ends a pinentry that waits for a command
    for stop in (process.terminate, process.kill):
        try:
            process.wait(_END_TIMEOUT)
        except subprocess.TimeoutExpired:
            stop()
    process.wait()


def _program() -> str:
    named = os.environ.get("PINENTRY_PROGRAM")
    if named:
        return named
    try:
        known = subprocess.run(
            ["gpgconf", "--list-components"],  # noqa: S607 - the one on the user's PATH
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_GPGCONF_TIMEOUT,
            check=True,
        ).stdout
    except (OSError, subprocess.SubprocessError):
        known = ""
    for line in known.splitlines():
        component, *rest = line.split(":")
        if component == "pinentry" and len(rest) > 1 and rest[1]:
            return unquote(rest[1])
    return "pinentry"


def _options() -> Iterator[str]:
    """Where pinentry can show itself, and in which language, as GnuPG's agent tells it."""
    environment = os.environ
    tty = environment.get("GPG_TTY") or _tty()
    locale = environment.get("LC_ALL")
    for name, value in (
        ("ttyname", tty),
        ("ttytype", environment.get("TERM")),
        ("lc-ctype", locale or environment.get("LC_CTYPE") or environment.get("LANG")),
        ("lc-messages", locale or environment.get("LC_MESSAGES") or environment.get("LANG")),
        ("display", environment.get("DISPLAY")),
    ):
        if value:
            yield f"{name}={escaped(value, LINE_MAXIMUM // 2)}"


def _tty() -> str | None:
    """The name of the terminal, where one of the standard streams is one."""
    for descriptor in range(3):
        with contextlib.suppress(OSError):
            return os.ttyname(descriptor)
    with contextlib.suppress(OSError), terminal():
        return "/dev/tty"
    return None
