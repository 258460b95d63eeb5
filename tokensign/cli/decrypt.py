"""`tokensign decrypt`."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Final

import click

from tokensign.cli.command import PATH, PIN_SOURCE, Cli, Command
from tokensign.cli.decryption_keys import recipient_keys
from tokensign.cli.inputs import described, open_holder, password_from, secret_key_from
from tokensign.cli.output import named
from tokensign.cli.remote import decrypt_remotely, service_option
from tokensign.cms.authenticated import AUTHENTICATED_DATA
from tokensign.cms.compressed import COMPRESSED_DATA
from tokensign.cms.content_info import (
    AUTH_ENVELOPED_DATA,
    CONTENT_TYPE_NAMES,
    ENVELOPED_DATA,
    open_content_info,
)
from tokensign.cms.digested import DIGESTED_DATA
from tokensign.cms.encrypted import ENCRYPTED_DATA
from tokensign.cms.layers import OpenedLayer, open_layers, walk_layers
from tokensign.errors import UnsupportedError, UsageError
from tokensign.files import STANDARD_STREAM, open_input, open_output

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tokensign.keys import DecryptionKey

__all__ = ["decrypt"]

_FOR_RECIPIENTS: Final = (ENVELOPED_DATA, AUTH_ENVELOPED_DATA, AUTHENTICATED_DATA)


@dataclass(frozen=True, slots=True)
class _Keys:
    """Where keys come from, as the options say."""

    key: str | None
    password_source: str | None
    secret_key_source: str | None


@click.command(cls=Command)
@click.argument("source", metavar="INPUT", type=PATH)
@click.option("--key", metavar="KEY", help="The key to decrypt with. [default: the one that fits]")
@click.option(
    "--password-source", metavar="SPEC", type=PIN_SOURCE, help="Decrypt with a password from there."
)
@click.option(
    "--secret-key-source",
    metavar="SPEC",
    type=PIN_SOURCE,
    help="Where the key of EncryptedData comes from, in hexadecimal.",
)
@click.option(
    "--content", metavar="FILE", type=PATH, help="The content of DigestedData that has it not in itself."
)
@click.option("-o", "--output", metavar="OUT", type=PATH, required=True, help="Where the content goes.")
@click.option("--all-layers", is_flag=True, help="Open messages inside messages, too.")
@click.option("--legacy", is_flag=True, help="Accept the algorithms of old messages.")
@click.option("--force", is_flag=True, help="Replace OUT if it exists.")
@service_option
@click.pass_obj
def decrypt(
    cli: Cli,
    source: str,
    key: str | None,
    password_source: str | None,
    secret_key_source: str | None,
    content: str | None,
    output: str,
    all_layers: bool,
    legacy: bool,
    force: bool,
    service: str | None,
) -> None:
    """Decrypt INPUT with a key on a token, found by the certificates and identifiers there, or a password.

    Keys whose certificates have expired, or that have none any more, are found, too. KEY is named as for
    `tokensign sign`.

    INPUT may also be AuthenticatedData or DigestedData, whose content is checked, or, with
    --secret-key-source, EncryptedData. OUT appears only when all of INPUT was decrypted and checked. What
    AES-CBC had encrypted may have been changed on its way; the result says so.

    \b
    Examples:
      tokensign decrypt contract.pdf.p7m -o contract.pdf
      tokensign decrypt mail.eml --key bob -o -
      tokensign decrypt contract.p7m --key acme/alice --service https://signing.acme.example -o contract
      tokensign decrypt contract.pdf.p7m --password-source prompt -o contract.pdf
      tokensign decrypt backup.tar.p7m --secret-key-source file:key -o backup.tar
    """
    from tokensign.smime.unwrap import open_message

    if service is not None:
        if password_source or secret_key_source or content or all_layers or legacy:
            raise UsageError("--service goes with --key, -o and --force only")
        decrypt_remotely(cli, service, source, key, output, force=force)
        return
    if secret_key_source and all_layers:
        raise UsageError("--secret-key-source opens one layer, and --all-layers was given")
    if content is not None and all_layers:
        raise UsageError("--content belongs to one layer, and --all-layers was given")
    sources = _Keys(key, password_source, secret_key_source)
    with (
        open_input(source) as stream,
        open_message(stream) as opened,
        open_output(output, force=force, mode=0o600) as destination,  # appears when the token is closed, too
        _keys(
            cli,
            sources,
            needed=not secret_key_source and _is_for_recipients(opened.cms),
            action=f"decrypt {described(source, opened.cms)}",
        ) as keys,
        _watched(cli, source, opened.cms, content) as (message, detached),
    ):
        if all_layers:
            layers = open_layers(message, keys, destination, legacy=legacy).layers
        else:
            layers = (_open(message, keys, sources, detached, destination, legacy=legacy),)
    _report(cli, output, layers, all_layers=all_layers)


@contextlib.contextmanager
def _keys(cli: Cli, sources: _Keys, *, needed: bool, action: str) -> Iterator[Sequence[DecryptionKey]]:
    """What may open the message: the password, and unless that is given alone, keys of the token."""
    found: list[DecryptionKey] = []
    if sources.password_source:
        found.append(password_from(sources.password_source, "the message"))
    if not needed or (found and not sources.key):
        yield found
        return
    with open_holder(cli, sources.key, action=action) as holder:
        yield [*found, *recipient_keys(cli, holder, sources.key)]


def _is_for_recipients(message: BinaryIO) -> bool:
    """Whether keys of recipients are needed to open a message, or one that can be seen in it."""
    start = message.tell()
    found = any(layer.kind in _FOR_RECIPIENTS for layer in walk_layers(message))
    message.seek(start)
    return found


@contextlib.contextmanager
def _watched(
    cli: Cli, source: str, message: BinaryIO, content: str | None
) -> Iterator[tuple[BinaryIO, BinaryIO | None]]:
    """The message and, where --content names it, its content; with progress for where the content is."""
    if content is None:
        with cli.output.progress(message, f"decrypting {source}") as watched:
            yield watched, None
        return
    with open_input(content) as stream, cli.output.progress(stream, f"checking {content}") as watched:
        yield message, watched


def _open(
    message: BinaryIO,
    keys: Sequence[DecryptionKey],
    sources: _Keys,
    content: BinaryIO | None,
    output: BinaryIO,
    *,
    legacy: bool,
) -> OpenedLayer:
    """Open the outermost layer; the content goes to `output` as it stands."""
    from tokensign.cms.authenticated import verify_authenticated_data
    from tokensign.cms.decrypt import decrypt as decrypt_content
    from tokensign.cms.digested import verify_digested_data
    from tokensign.cms.encrypted import decrypt_with_key

    start = message.tell()
    kind, _ = open_content_info(message)
    message.seek(start)
    if content is not None and kind != DIGESTED_DATA:
        raise UsageError(
            f"--content belongs to digested-data, and this message is {CONTENT_TYPE_NAMES.get(kind, kind)}",
            hint="for the signature of a file, use `tokensign verify`",
        )
    if kind == COMPRESSED_DATA:
        raise UnsupportedError("this message is compressed-data", hint="use `tokensign decompress`")
    if kind == ENCRYPTED_DATA:
        if sources.secret_key_source is None:
            raise UsageError(
                "this message is encrypted-data, whose key is no recipient's",
                hint="give the key, in hexadecimal, with --secret-key-source env:NAME, file:PATH or fd:N",
            )
        secret_key = secret_key_from(sources.secret_key_source, "the message")
        result = decrypt_with_key(message, secret_key, output, legacy=legacy)
    elif kind == AUTHENTICATED_DATA:
        checked = verify_authenticated_data(message, keys, output, legacy=legacy)
        return OpenedLayer(kind, checked.content_type, authenticated=True)
    elif kind == DIGESTED_DATA:
        data = verify_digested_data(message, output, content=content, legacy=legacy)
        return OpenedLayer(kind, data.content_type)
    else:
        result = decrypt_content(message, keys, output, legacy=legacy)
    return OpenedLayer(kind, result.content_type, result.cipher, result.authenticated)


def _report(cli: Cli, output: str, layers: Sequence[OpenedLayer], *, all_layers: bool) -> None:
    for layer in layers:
        cli.output.status(f"{named(output)}: {_done(layer)}")
    content_type = layers[-1].content_type
    inside = CONTENT_TYPE_NAMES.get(content_type, content_type)
    if inside != "data":
        hint = "see `tokensign inspect`" if all_layers else "--all-layers opens it or makes a file of it"
        cli.output.status(f"{named(output)}: the content is {inside}; {hint}")
    outermost = layers[0]
    document = {
        "output": output,
        "content_type": inside,
        "cipher": outermost.cipher.name if outermost.cipher else None,
        "authenticated": outermost.authenticated,
        "layers": [
            {
                "kind": CONTENT_TYPE_NAMES.get(layer.kind, layer.kind),
                "cipher": layer.cipher.name if layer.cipher else None,
                "authenticated": layer.authenticated,
            }
            for layer in layers
        ],
    }
    cli.output.document(document, on_stderr=output == STANDARD_STREAM)


def _done(layer: OpenedLayer) -> str:
    """What was done with a layer, and what that says of the content."""
    if layer.cipher:
        state = (
            "unchanged since it was encrypted"
            if layer.authenticated
            else "not authenticated, anybody may have changed it"
        )
        return f"decrypted ({layer.cipher.name}, {state})"
    return _OTHERS_DONE.get(layer.kind, "taken out of its signature, which was not verified")


_OTHERS_DONE: Final = {
    AUTHENTICATED_DATA: "authenticated (unchanged since somebody who has the key made it)",
    DIGESTED_DATA: "has the digest that the message says, which anybody can make",
    COMPRESSED_DATA: "decompressed",
}
