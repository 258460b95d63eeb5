"""The command line: parse, call the library, print. Nothing is decided here that a program could not call.

`main` is the entry point. Each command group has its module and is imported when it is called.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING, NoReturn

import click

from tokensign.cli.output import print_error
from tokensign.cli.root import root
from tokensign.errors import TokensignError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

__all__ = ["main"]

_EXIT_USAGE = 2
_EXIT_BUG = 70
_EXIT_INTERRUPTED = 128 + signal.SIGINT
_EXIT_TERMINATED = 128 + signal.SIGTERM
_EXIT_BROKEN_PIPE = 128 + signal.SIGPIPE


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run a command line and exit with its code.

    Args:
        arguments: Without the program's name; None takes those of the process.
    """
    signal.signal(signal.SIGTERM, _terminate)
    sys.exit(_run(list(sys.argv[1:] if arguments is None else arguments)))


def _run(arguments: list[str]) -> int:
    as_json = "--json" in arguments
    try:
        code = root.main(arguments, prog_name="tokensign", standalone_mode=False)
        sys.stdout.flush()
    except click.ClickException as error:
        hint = None
        if isinstance(error, click.UsageError) and error.ctx is not None:
            hint = f"see `{error.ctx.command_path} --help`"
        return print_error(error.format_message(), hint, _EXIT_USAGE, as_json=as_json)
    except TokensignError as error:
        return print_error(
            error.message, error.hint, error.exit_code, as_json=as_json, kind=type(error).__name__
        )
    except (KeyboardInterrupt, click.Abort):
        return print_error("interrupted; nothing was written", None, _EXIT_INTERRUPTED, as_json=as_json)
    except BrokenPipeError:  # the reader of a pipe went away, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _EXIT_BROKEN_PIPE
    except Exception as error:
        if os.environ.get("TOKENSIGN_DEBUG"):
            raise
        return print_error(
            f"this is a bug in tokensign ({type(error).__name__})",
            "set TOKENSIGN_DEBUG=1 to see where, and report it without keys and PINs",
            _EXIT_BUG,
            as_json=as_json,
        )
    return code if isinstance(code, int) else 0


def _terminate(_number: int, _frame: FrameType | None) -> NoReturn:
    """End by SIGTERM as by an error, so that temporary files go away."""
    raise SystemExit(_EXIT_TERMINATED)
