"""The forms in which a command writes a CMS message."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, BinaryIO

from tokensign.cms.pem import armor
from tokensign.files import spool

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["written_as"]


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
