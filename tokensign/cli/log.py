"""What the library logs, on stderr: warnings, and with -v all that it tells of its way."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import click

from tokensign.cli.output import printable

if TYPE_CHECKING:
    from tokensign.cli.command import Cli

__all__ = ["show_log"]

_LOGGER = logging.getLogger("tokensign")


class _Lines(logging.Handler):
    """One line a record, without a traceback."""

    def emit(self, record: logging.LogRecord) -> None:
        click.echo(f"{record.levelname.lower()}: {printable(record.getMessage())}", err=True)


def show_log(cli: Cli) -> None:
    """Show what is logged: warnings; with -q errors only, with -v more."""
    if not _LOGGER.handlers:
        _LOGGER.addHandler(_Lines())
    _LOGGER.setLevel(logging.ERROR if cli.quiet else logging.INFO if cli.verbose else logging.WARNING)
