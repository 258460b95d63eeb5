"""`tokensign token`: list, initialise and look after tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from tokensign.cli.command import PIN_SOURCE, Cli, Group
from tokensign.cli.inputs import module_of, modules_of, open_token, source_from, token_name
from tokensign.errors import UsageError

if TYPE_CHECKING:
    from tokensign.token import Module, TokenInfo

__all__ = ["token"]

_so_pin_source = click.option(
    "--so-pin-source",
    metavar="SPEC",
    type=PIN_SOURCE,
    help="Where the security officer's PIN comes from. [default: the token's PIN pad, or a prompt]",
)
_new_pin_source = click.option(
    "--new-pin-source",
    metavar="SPEC",
    type=PIN_SOURCE,
    help="Where the new PIN comes from. [default: the token's PIN pad, or a prompt]",
)


@click.group(cls=Group)
def token() -> None:
    """List, initialise and look after tokens."""


@token.command("list")
@click.pass_obj
def list_tokens(cli: Cli) -> None:
    """List the tokens that the module sees, or all configured modules.

    \b
    Example:
      tokensign token list --module /usr/lib/softhsm/libsofthsm2.so
    """
    found = [info for module in modules_of(cli) for info in module.tokens(uninitialized=True)]
    cli.output.document([_document(info) for info in found])
    cli.output.table(
        ("label", "serial", "slot", "PIN", "model"),
        [
            (
                info.label if info.initialized else "(not initialised)",
                info.serial,
                str(info.slot_id),
                info.pin_state.value if info.initialized else "",
                f"{info.manufacturer} {info.model}".strip(),
            )
            for info in found
        ],
        empty="The module sees no token.",
    )


@token.command()
@click.argument("label")
@_so_pin_source
@click.option("--slot", type=int, help="The slot. [default: the first with an empty token]")
@click.pass_obj
def init(cli: Cli, label: str, so_pin_source: str | None, slot: int | None) -> None:
    """Set up an empty token with the name LABEL. It gets a security officer's PIN and a user's PIN.

    \b
    Example:
      tokensign token init acme --so-pin-source file:so-pin --pin-source file:pin
    """
    from tokensign.token import initialize_token

    if cli.module is None and len(cli.settings.modules) > 1:
        raise UsageError("the configuration names several modules", hint="name one with --module")
    module = module_of(cli)
    pin = source_from(cli.pin_source or cli.settings.pin_source)
    made = initialize_token(module, label, source_from(so_pin_source), pin, slot)
    cli.output.status(f"the token {label} is set up: {made.uri}")
    cli.output.document(_document(made))


@token.command()
@click.pass_obj
def info(cli: Cli) -> None:
    """Tell what is known of a token without its PIN.

    \b
    Example:
      tokensign token info --token acme
    """
    with open_token(cli) as opened:
        found = opened.read_info()
        mechanisms = opened.module.mechanisms(found.slot_id)
        module = opened.module
    document = _document(found) | {
        "module": str(module.path),
        "module_description": module.description,
        "mechanisms": [entry.name for entry in mechanisms],
    }
    cli.output.document(document)
    states = {"pin_state": found.pin_state.words, "so_pin_state": found.so_pin_state.words}
    cli.output.fields(document | states)


@token.command("change-pin")
@click.option("--so", is_flag=True, help="Change the security officer's PIN instead.")
@_so_pin_source
@_new_pin_source
@click.pass_obj
def change_pin(cli: Cli, so: bool, so_pin_source: str | None, new_pin_source: str | None) -> None:
    """Change the user's PIN, or with --so the security officer's.

    The old one comes from --pin-source, or with --so from --so-pin-source.

    \b
    Examples:
      tokensign token change-pin --token acme
      tokensign token change-pin --token acme --so
    """
    from tokensign import token as tokens

    if so_pin_source and not so:
        raise UsageError("--so-pin-source belongs to --so", hint="the user's PIN comes from --pin-source")
    new = source_from(new_pin_source)
    if so:
        module, chosen = _chosen(cli)
        old = source_from(so_pin_source)
        tokens.change_so_pin(module, chosen.uri, old, new, allow_last_try=cli.last_try)
        whose = f"the security officer's PIN of the token {chosen.label}"
    else:
        with open_token(cli) as opened:
            tokens.change_pin(opened, new=new)
            chosen = opened.info
        whose = f"the PIN of the token {chosen.label}"
    cli.output.status(f"{whose} is changed")
    cli.output.document({"token": chosen.label, "changed": True})


@token.command("unblock-pin")
@_so_pin_source
@_new_pin_source
@click.pass_obj
def unblock_pin(cli: Cli, so_pin_source: str | None, new_pin_source: str | None) -> None:
    """Set a new user's PIN as the security officer. The old one may be locked or forgotten.

    \b
    Example:
      tokensign token unblock-pin --token acme --so-pin-source file:so-pin
    """
    from tokensign import token as tokens

    module, chosen = _chosen(cli)
    so_pin, new = source_from(so_pin_source), source_from(new_pin_source)
    tokens.unblock_pin(module, chosen.uri, so_pin, new, allow_last_try=cli.last_try)
    cli.output.status(f"the user's PIN of the token {chosen.label} is set")
    cli.output.document({"token": chosen.label, "unblocked": True})


def _chosen(cli: Cli) -> tuple[Module, TokenInfo]:
    from tokensign.token import select_token

    module = module_of(cli)
    return module, select_token(module, token_name(cli))


def _document(found: TokenInfo) -> dict[str, Any]:
    return {
        "label": found.label,
        "uri": str(found.uri),
        "manufacturer": found.manufacturer,
        "model": found.model,
        "serial": found.serial,
        "slot": found.slot_id,
        "slot_description": found.slot_description,
        "initialized": found.initialized,
        "pin_state": found.pin_state.value,
        "so_pin_state": found.so_pin_state.value,
        "protected_authentication_path": found.protected_authentication_path,
    }
