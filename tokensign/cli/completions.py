"""What shells offer for the names of CAs and profiles."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from click.shell_completion import CompletionItem

from tokensign.cli.command import Cli
from tokensign.cli.database import find_database
from tokensign.errors import TokensignError

if TYPE_CHECKING:
    import click

__all__ = ["complete_authorities", "complete_profiles"]


def complete_authorities(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """The CAs of the database; none where there is no database yet, for completing shall not make one."""
    del parameter
    from tokensign.authority import list_authorities
    from tokensign.store import Store

    try:
        place = find_database(context.find_object(Cli) or Cli(), context.params.get("database"))
        if "://" not in place and not Path(place).exists():
            return []
        with Store(place) as store:
            names = [one.name for one in list_authorities(store)]
    except TokensignError:  # a command will tell; a shell that waits for names is no place for it
        return []
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]


def complete_profiles(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """The profiles that come with tokensign; files, where none begins so."""
    del context, parameter
    from tokensign.authority import profile_names

    fitting = [CompletionItem(name) for name in profile_names() if name.startswith(incomplete)]
    return fitting or [CompletionItem(incomplete, type="file")]
