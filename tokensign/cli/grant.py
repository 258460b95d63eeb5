"""`tokensign grant`: who may use the signing service, and for what; its commands are imported when called."""

from __future__ import annotations

from typing import Final

import click

from tokensign.cli.command import LazyGroup

__all__ = ["grant"]

_COMMANDS: Final = {
    "add": ("tokensign.cli.grants", "add", "Let a principal do something."),
    "list": ("tokensign.cli.grants", "list_", "List grants."),
    "revoke": ("tokensign.cli.grants", "revoke", "Take a grant back."),
    "limit": ("tokensign.cli.grants", "limit", "Limit a principal, or a key."),
    "identify": ("tokensign.cli.principals", "identify", "Tell by what a principal is known."),
    "show": ("tokensign.cli.principals", "show", "Tell all about a principal."),
    "key": ("tokensign.cli.principals", "key", "Make an API key."),
    "revoke-key": ("tokensign.cli.principals", "revoke_key", "End an API key."),
}


@click.group(cls=LazyGroup, lazy=_COMMANDS, outermost=False)
def grant() -> None:
    """Tell who may use the signing service, and for what.

    Nothing is allowed that no grant allows. A change counts within a second, and is in the audit log.
    """
