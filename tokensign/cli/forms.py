"""The forms in which a command writes a CMS message, and the levels of its signatures."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

import click

from tokensign.cms.pem import armor
from tokensign.files import STANDARD_STREAM, spool

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["FORMS", "LEVELS", "message_of", "written_as", "written_as_smime"]

FORMS: Final = click.Choice(["der", "pem", "smime"])
LEVELS: Final = click.Choice(["b-b", "b-t", "b-lt", "b-lta"])


@contextlib.contextmanager
def written_as(form: str, destination: BinaryIO) -> Iterator[BinaryIO]:
    """Where to write a DER message so that it reaches `destination` as "der" or "pem"."""
    if form == "der":
        yield destination
        return
    with spool() as message:
        yield message
        message.seek(0)
        armor(message, destination)


@contextlib.contextmanager
def written_as_smime(
    content: BinaryIO, source: str, smime_type: str | None, destination: BinaryIO
) -> Iterator[tuple[BinaryIO, BinaryIO]]:
    """A MIME entity of the content, and where to write the DER message that is made of it.

    Args:
        content: What the message is about.
        source: Where that came from; a file gives the entity its name.
        smime_type: As for `tokensign.smime.compose.write_pkcs7_mime`.
        destination: Receives the S/MIME message.
    """
    from tokensign.smime.compose import as_entity, write_pkcs7_mime

    name = None if source == STANDARD_STREAM else Path(source).name
    with as_entity(content, name) as entity, spool() as message:
        yield entity, message
        message.seek(0)
        write_pkcs7_mime(message, smime_type, destination)


@contextlib.contextmanager
def message_of(
    content: BinaryIO, source: str, form: str, smime_type: str | None, destination: BinaryIO
) -> Iterator[tuple[BinaryIO, BinaryIO]]:
    """What a message is made of, and where to write it in DER so that it reaches `destination` in a form.

    Args:
        content: What the message is about: in S/MIME, a MIME entity is made of it, else it stays as it is.
        source: As for `written_as_smime`.
        form: "der", "pem" or "smime".
        smime_type: As for `written_as_smime`.
        destination: Receives the message.
    """
    if form == "smime":
        with written_as_smime(content, source, smime_type, destination) as parts:
            yield parts
    else:
        with written_as(form, destination) as message:
            yield content, message
