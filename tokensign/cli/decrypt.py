"""`tokensign decrypt`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from tokensign.cli.command import PATH, Cli, Command
from tokensign.cli.inputs import open_token
from tokensign.cli.output import named
from tokensign.files import STANDARD_STREAM, open_input

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tokensign.token import Token, TokenKey

__all__ = ["decrypt"]


@click.command(cls=Command)
@click.argument("source", metavar="INPUT", type=PATH)
@click.option("--key", metavar="KEY", help="The key to decrypt with. [default: the one that fits]")
@click.option("-o", "--output", metavar="OUT", type=PATH, required=True, help="Where the content goes.")
@click.option("--legacy", is_flag=True, help="Accept the algorithms of old messages.")
@click.option("--force", is_flag=True, help="Replace OUT if it exists.")
@click.pass_obj
def decrypt(cli: Cli, source: str, key: str | None, output: str, legacy: bool, force: bool) -> None:
    """Decrypt INPUT with a key on a token; the key is found by the certificates there.

    OUT appears only when all of INPUT was decrypted. What AES-CBC had encrypted may have been changed on
    its way; the result says so.

    \b
    Examples:
      tokensign decrypt contract.pdf.p7m -o contract.pdf
      tokensign decrypt mail.eml --key bob -o -
    """
    from tokensign.cms.content_info import CONTENT_TYPE_NAMES
    from tokensign.cms.decrypt import decrypt_to_file
    from tokensign.smime.unwrap import open_message

    with (
        open_input(source) as stream,
        open_token(cli, key) as token,
        open_message(stream) as opened,
        cli.output.progress(opened.cms, f"decrypting {source}") as message,
    ):
        result = decrypt_to_file(message, _decrypters(token, key), output, force=force, legacy=legacy)
    state = (
        "unchanged since it was encrypted"
        if result.authenticated
        else "not authenticated, anybody may have changed it"
    )
    cli.output.status(f"{named(output)}: decrypted ({result.cipher.name}, {state})")
    cli.output.document(
        {
            "output": output,
            "content_type": CONTENT_TYPE_NAMES.get(result.content_type, result.content_type),
            "cipher": result.cipher.name,
            "authenticated": result.authenticated,
        },
        on_stderr=output == STANDARD_STREAM,
    )


def _decrypters(token: Token, key: str | None) -> Sequence[TokenKey]:
    from tokensign.algorithms import KeyUsage
    from tokensign.token import open_decrypters, open_key

    return [open_key(token, key, KeyUsage.DECRYPT)] if key else open_decrypters(token)
