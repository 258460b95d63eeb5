"""The database: the option that says where it is, and opening it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tokensign.cli.command import PATH
from tokensign.errors import FileError

if TYPE_CHECKING:
    from collections.abc import Callable

    from tokensign.cli.command import Cli
    from tokensign.store import Store

__all__ = ["database_option", "find_database", "open_database", "open_existing_database"]


def database_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the parameter `database`, for `open_database`."""
    return click.option(
        "--database",
        metavar="FILE|URL",
        type=PATH,
        envvar="TOKENSIGN_DATABASE",
        show_envvar=True,
        help="The database. [default: authority.sqlite in the user's data folder]",
    )(command)


def find_database(cli: Cli, place: str | None) -> str:
    """Where the database is: as --database says, the configuration, or else in the user's data folder.

    Raises:
        ConfigurationError: The configuration cannot be understood.
    """
    from tokensign.settings import default_database_path

    return str(place or cli.settings.database or default_database_path())


def open_database(cli: Cli, place: str | None) -> Store:
    """Open the database that `find_database` finds, or make it.

    Raises:
        FileError, ConfigurationError: It cannot be opened.
    """
    from tokensign.store import Store

    return Store(find_database(cli, place))


def open_existing_database(cli: Cli, place: str | None) -> Store:
    """Open the database that `find_database` finds; an empty one in its place would tell that all is well.

    Raises:
        FileError, ConfigurationError: It is not there, or cannot be opened.
    """
    found = find_database(cli, place)
    if "://" not in found and not Path(found).exists():
        hint = "name it with --database, or the configuration with --config"
        raise FileError(f"there is no database {found}", hint=hint)
    return open_database(cli, found)
