"""`tokensign token`: list, initialise and look after tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from tokensign.cli.command import Cli, Group
from tokensign.cli.inputs import module_of, open_token, pin_from, token_name

if TYPE_CHECKING:
    from tokensign.token import TokenInfo

__all__ = ["token"]


@click.group(cls=Group)
def token() -> None:
    """List, initialise and look after tokens."""


@token.command("list")
@click.pass_obj
def list_tokens(cli: Cli) -> None:
    """List the tokens that the module sees.

    \b
    Example:
      tokensign token list --module /usr/lib/softhsm/libsofthsm2.so
    """
    found = module_of(cli).tokens(uninitialized=True)
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
@click.option("--so-pin-source", metavar="SPEC", default="prompt", help="Where the SO PIN comes from.")
@click.option("--slot", type=int, help="The slot. [default: the first with an empty token]")
@click.pass_obj
def init(cli: Cli, label: str, so_pin_source: str, slot: int | None) -> None:
    """Set up an empty token with the name LABEL. It gets a security officer's PIN and a user's PIN.

    \b
    Example:
      tokensign token init acme --so-pin-source file:so-pin --pin-source file:pin
    """
    from tokensign.token import initialize_token

    module = module_of(cli)
    so_pin = pin_from(so_pin_source, f"the security officer of the new token {label}", repeat=True)
    pin = pin_from(cli.pin_source or cli.settings.pin_source, f"the new token {label}", repeat=True)
    made = initialize_token(module, label, so_pin, pin, slot)
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
    cli.output.fields(document)


@token.command("change-pin")
@click.option("--new-pin-source", metavar="SPEC", default="prompt", help="Where the new PIN comes from.")
@click.pass_obj
def change_pin(cli: Cli, new_pin_source: str) -> None:
    """Change the user's PIN. The old one comes from --pin-source.

    \b
    Example:
      tokensign token change-pin --token acme
    """
    from tokensign import token as tokens

    with open_token(cli) as opened:
        label = opened.info.label
        old = pin_from(cli.pin_source or cli.settings.pin_source, f"the token {label}")
        new = pin_from(new_pin_source, f"the token {label}, the new one", repeat=True)
        tokens.change_pin(opened, old, new)
    cli.output.status(f"the PIN of the token {label} is changed")
    cli.output.document({"token": label, "changed": True})


@token.command("unblock-pin")
@click.option("--so-pin-source", metavar="SPEC", default="prompt", help="Where the SO PIN comes from.")
@click.option("--new-pin-source", metavar="SPEC", default="prompt", help="Where the new PIN comes from.")
@click.pass_obj
def unblock_pin(cli: Cli, so_pin_source: str, new_pin_source: str) -> None:
    """Set a new user's PIN as the security officer. The old one may be locked or forgotten.

    \b
    Example:
      tokensign token unblock-pin --token acme --so-pin-source file:so-pin
    """
    from tokensign import token as tokens

    module = module_of(cli)
    chosen = tokens.select_token(module, token_name(cli))
    so_pin = pin_from(so_pin_source, f"the security officer of the token {chosen.label}")
    new = pin_from(new_pin_source, f"the user of the token {chosen.label}, the new one", repeat=True)
    tokens.unblock_pin(module, chosen.uri, so_pin, new)
    cli.output.status(f"the user's PIN of the token {chosen.label} is set")
    cli.output.document({"token": chosen.label, "unblocked": True})


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
