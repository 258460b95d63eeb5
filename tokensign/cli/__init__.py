"""The command line: parse, call the library, print. Nothing is decided here that a program could not call.

`main` is the entry point. Each command group has its module and is imported when it is called.
"""

from __future__ import annotations

import io
import os
import signal
import sys
from typing import TYPE_CHECKING, NoReturn, TextIO

import click

from tokensign.cli import supervisor
from tokensign.cli.command import EXIT_BROKEN_PIPE
from tokensign.cli.output import print_error
from tokensign.cli.root import root
from tokensign.cli.signals import (
    SignalError,
    catch_signals,
    say_no_lost_signal,
    signal_behind,
    tell_the_end,
)
from tokensign.errors import TokensignError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]

_EXIT_USAGE = 2
_EXIT_FILE = 5
_EXIT_BUG = 70


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run a command line and exit with its code.

    Args:
        arguments: Without the program's name; None takes those of the process, which is then supervised as
            soon as it loads a PKCS#11 module.
    """
    catch_signals()
    if arguments is None:
        say_no_lost_signal()
        supervisor.enable()
    if isinstance(sys.stdout, io.TextIOWrapper):  # what the locale does not know is escaped, as on stderr
        sys.stdout.reconfigure(errors="backslashreplace")
    code = 0
    try:
        code = _run(list(sys.argv[1:] if arguments is None else arguments))
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:  # the reader of a pipe went away, as `head` does
        code = EXIT_BROKEN_PIPE
        _silence(sys.stdout, sys.stderr)
    except OSError as error:  # about printing; those about files have become a FileError
        _silence(sys.stdout)
        if code == 0:  # else an error was told, and what waits in the buffer fails once more
            code = _EXIT_FILE
            print_error(f"cannot write standard output: {error.strerror or error}", None, code, as_json=False)
    supervisor.tell_exit_code(code)
    sys.exit(code)


def _run(arguments: list[str]) -> int:
    as_json = "--json" in arguments
    try:
        code = root.main(arguments, prog_name="tokensign", standalone_mode=False)
    except click.ClickException as error:
        return _misused(error, as_json=as_json)
    except TokensignError as error:
        return print_error(
            error.message, error.hint, error.exit_code, as_json=as_json, kind=type(error).__name__
        )
    except click.Abort:  # the input ended where a question was asked
        return tell_the_end(signal.SIGINT, as_json=as_json)
    except SignalError as error:
        return tell_the_end(error.number, as_json=as_json)
    except OSError:
        raise
    except Exception as error:
        if os.environ.get("TOKENSIGN_DEBUG") and signal_behind(error) is None:
            raise
        return _unexpected(error, as_json=as_json)
    return code if isinstance(code, int) else 0


def _unexpected(error: Exception, *, as_json: bool) -> int:
    number = signal_behind(error)
    if number is not None:
        return tell_the_end(number, as_json=as_json)
    return print_error(
        f"this is a bug in tokensign ({type(error).__name__})",
        "set TOKENSIGN_DEBUG=1 to see where, and report it without keys and PINs",
        _EXIT_BUG,
        as_json=as_json,
        kind="Bug",
    )


def _misused(error: click.ClickException, *, as_json: bool) -> int:
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        click.echo(error.format_message(), err=True)
        return _EXIT_USAGE
    hint = None
    if isinstance(error, click.UsageError) and error.ctx is not None:
        hint = f"see `{error.ctx.command_path} --help`"
    message = error.format_message().replace("\n\t", " ")  # click puts choices on lines of their own
    return print_error(message, hint, _EXIT_USAGE, as_json=as_json)


def _silence(*streams: TextIO | None) -> None:
    """Let what waits in buffers go nowhere, or the interpreter complains about it when it ends."""
    for stream in streams:
        if stream is not None:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
