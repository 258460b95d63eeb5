"""What stands around what was verified: signed parts of a larger mail, and what no verdict covers."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, BinaryIO, Final

from tokensign.cms.content_info import AUTH_ENVELOPED_DATA, ENVELOPED_DATA, SIGNED_DATA
from tokensign.errors import MalformedError
from tokensign.smime.layer import cms_kind, sealed_as
from tokensign.smime.mail_report import LayerKind
from tokensign.smime.mime import octets

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tokensign.smime.layer import Opener
    from tokensign.smime.mail_report import LayerReport
    from tokensign.smime.mime import Entity, Span

__all__ = ["beside", "encrypted_parts", "oddities", "signed_parts", "uncovered"]

MAX_SIGNED_PARTS: Final = 16  # of a mail that are verified; a list adds a footer, nobody staples more letters
_TNEF: Final = ("application/ms-tnef", "application/vnd.ms-tnef")


def signed_parts(
    opener: Opener, stream: BinaryIO, entity: Entity, path: str
) -> tuple[tuple[LayerReport, ...], tuple[str, ...]]:
    """Verify the signed parts of an entity that is not signed as a whole.

    Nothing is decrypted for that. A part in a signed part belongs to that one, and is not looked at.

    Returns:
        The reports, and remarks about parts that were not looked at.
    """
    reports: list[LayerReport] = []
    remarks: list[str] = []
    for part_path, part, kind in _sealed(entity, path):
        if len(reports) == MAX_SIGNED_PARTS:
            remarks.append(f"more than {MAX_SIGNED_PARTS} parts are signed; the others were not looked at")
            break
        if kind == "clear":
            taken = opener.multipart_signed(stream, part, part_path)
        else:
            with contextlib.ExitStack() as held:
                try:
                    cms = held.enter_context(part.decoded(stream))
                    if cms_kind(cms) != SIGNED_DATA:
                        continue
                    taken = opener.cms(cms, part_path, part.content_type)
                except MalformedError as error:
                    remarks.append(f"part {part_path} cannot be read: {error.message}")
                    continue
        if taken.content is not None:
            taken.content.close()
        if taken.report.kind is LayerKind.SIGNED:
            reports.append(taken.report)
    return tuple(reports), tuple(remarks)


def encrypted_parts(stream: BinaryIO, entity: Entity, path: str) -> Iterator[str]:
    """The paths of encrypted parts inside of an entity."""
    for part_path, part, kind in _sealed(entity, path):
        if kind == "clear":
            continue
        try:
            with part.decoded(stream) as cms:
                if cms_kind(cms) in (ENVELOPED_DATA, AUTH_ENVELOPED_DATA):
                    yield part_path
        except MalformedError:
            continue  # whatever it is, nothing in it is shown


def uncovered(stream: BinaryIO, entity: Entity, path: str, reports: tuple[LayerReport, ...]) -> Iterator[str]:
    """What stands beside signed parts, in words.

    Args:
        stream: The one that the entity was read from.
        entity: What has the signed parts in it.
        path: Its path.
        reports: Those of the signed parts.
    """
    signed = {report.path for report in reports}
    covered = tuple(f"{part_path}." for part_path in signed)
    for part_path, part in entity.walk(path):
        if part_path.startswith(covered):
            continue
        yield from beside(stream, part, part_path)
        if part_path not in signed and not part.children:
            name = f" {part.file_name!r}" if part.file_name else ""
            size = part.end - part.body_start
            yield f"part {part_path} ({part.content_type}{name}, {size:,} bytes)"


def beside(stream: BinaryIO, entity: Entity, path: str) -> Iterator[str]:
    """The preamble and the epilogue of a multipart, where there is text in them."""
    where = f"part {path}" if path else "the mail"
    for span, words in ((entity.preamble, "before the first part"), (entity.epilogue, "after the last part")):
        if _has_text(stream, span):
            yield f"text {words} of {where} ({len(span):,} bytes)"


def oddities(entity: Entity, path: str) -> Iterator[str]:
    """Parts that mail programs show in different ways or not at all."""
    for part_path, part in entity.walk(path):
        where = f"part {part_path}" if part_path else "the mail"
        if part.ambiguous:
            yield f"programs may read {where} in different ways: {part.ambiguous}"
        elif part.content_type in _TNEF or (part.file_name or "").lower() == "winmail.dat":
            yield f"{where} is winmail.dat (TNEF), in which Outlook packs what only Outlook shows"
        elif not part.closed:
            yield f"{where} is cut off: its last boundary is missing"


def _sealed(entity: Entity, path: str) -> Iterator[tuple[str, Entity, str]]:
    """The signed and encrypted parts inside of an entity; not those inside of them."""
    for number, part in enumerate(entity.children, 1):
        part_path = f"{path}.{number}" if path else str(number)
        kind = sealed_as(part)
        if kind is None:
            yield from _sealed(part, part_path)
        else:
            yield part_path, part, kind


def _has_text(stream: BinaryIO, span: Span) -> bool:
    return any(piece.strip() for piece in octets(stream, span.start, span.end))
