"""The way through the layers of a mail, from the outside to what the reader reads."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, BinaryIO, Final

from tokensign.cms.content_cipher import CANNOT_DECRYPT
from tokensign.cms.content_info import CONTENT_TYPE_NAMES, DATA
from tokensign.cms.layers import MAX_LAYERS, message_inside
from tokensign.errors import (
    DecryptionError,
    LegacyAlgorithmError,
    MalformedError,
    NoRecipientError,
    UnsupportedError,
)
from tokensign.smime.layer import CMS_TYPES, sealed_as, untrue_type
from tokensign.smime.mail_headers import is_wrapped_mail
from tokensign.smime.mail_report import LayerKind
from tokensign.smime.mime import read_entity
from tokensign.smime.surroundings import beside, encrypted_parts, oddities, signed_parts, uncovered

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tokensign.smime.header_fields import HeaderFields
    from tokensign.smime.layer import Opener, TakenOff
    from tokensign.smime.mail_report import LayerReport
    from tokensign.smime.mime import Entity

__all__ = ["LayerWalk"]

_HINT: Final = "it was damaged on its way, or it was not encrypted to this key"


@dataclass(slots=True)
class LayerWalk:
    """The way through the layers of a mail.

    Attributes:
        opener: Takes layers off.
        held: Closes what was opened.
        stream: Where that lies which was reached.
        entity: The innermost entity that was reached.
        outer: The header fields outside.
        path: The path of what was reached.
        content_type: The content type of what was reached, dotted; only id-data is MIME.
        layers: The reports, from the outside.
        parts: The reports on signed parts of what is not signed as a whole.
        outside: What the signatures do not cover.
        remarks: What else the reader should know.
        wrapped: A mail in message/rfc822 whose header fields are the protected ones; no signature is in it.
    """

    opener: Opener
    held: contextlib.ExitStack
    stream: BinaryIO
    entity: Entity
    outer: HeaderFields
    path: str = ""
    content_type: str = DATA
    layers: list[LayerReport] = field(default_factory=list)
    parts: tuple[LayerReport, ...] = ()
    outside: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    wrapped: Entity | None = None

    def has(self, kind: LayerKind) -> bool:
        """Whether a layer of a kind was taken off."""
        return any(layer.kind is kind for layer in self.layers)

    @property
    def holds(self) -> bool:
        """Whether nothing failed until now."""
        return all(layer.holds for layer in self.layers)

    def run(self) -> None:
        """Take off layer by layer until there is none, or one does not hold; then look around."""
        while self.holds and self._step():
            pass
        if not self.holds:
            return
        if self.content_type != DATA:
            name = CONTENT_TYPE_NAMES.get(self.content_type, self.content_type)
            self.remarks.append(f"inside is {name}, which is no mail")
            return
        if not self.has(LayerKind.SIGNED):
            self.parts, remarks = signed_parts(self.opener, self.stream, self.entity, self.path)
            self.remarks += remarks
            if self.parts:
                self.outside += uncovered(self.stream, self.entity, self.path, self.parts)
        self.remarks += (
            f"part {path} is encrypted, and was not opened, because what is around it may be of somebody else"
            for path in encrypted_parts(self.stream, self.entity, self.path)
        )
        self.remarks += oddities(self.entity, self.path)

    def _step(self) -> bool:
        """Take off one layer; whether something is inside of it."""
        if self.content_type in CMS_TYPES:
            self._require_room()
            return self._took(self.opener.cms(self.stream, self.path, "application/cms"))
        if self.content_type != DATA:
            return False
        kind = sealed_as(self.entity)
        if kind is None:
            return self._unwrap()
        self._require_room()
        if kind == "clear":
            if not self.has(LayerKind.SIGNED):
                self.outside += beside(self.stream, self.entity, self.path)
            return self._took(self.opener.multipart_signed(self.stream, self.entity, self.path))
        cms = self.held.enter_context(self.entity.decoded(self.stream))
        if remark := untrue_type(self.entity, cms):
            self.remarks.append(remark)
        return self._took(self.opener.cms(cms, self.path, self.entity.content_type))

    def _took(self, taken: TakenOff) -> bool:
        if taken.report.failure and self._changeable:
            raise MalformedError(taken.report.failure.reason)  # told as every failure behind a decryption
        self.layers.append(taken.report)
        if taken.report.kind is LayerKind.SIGNED:
            self.wrapped = None  # its header is around this signature, so it may be of somebody else
        if taken.content is None:
            return False
        self.stream = self.held.enter_context(taken.content)
        if taken.content_type in CMS_TYPES:
            self.stream = self.held.enter_context(message_inside(taken.content_type, taken.content))
        self.content_type = taken.content_type
        self.path = taken.report.covers
        if self.content_type == DATA:
            self.entity = read_entity(self.stream)
        return True

    def _unwrap(self) -> bool:
        """Go into a mail that stands in message/rfc822 for its header fields."""
        if not self.layers or self.wrapped or not is_wrapped_mail(self.entity, self.outer):
            return False
        self.entity = self.wrapped = self.entity.children[0]
        self.path += ".1"
        return True

    def _require_room(self) -> None:
        if len(self.layers) == MAX_LAYERS:
            raise UnsupportedError(f"the mail has more than {MAX_LAYERS} layers inside each other")

    @property
    def _changeable(self) -> bool:
        """Whether somebody on the way may have changed what is read now, without knowing it."""
        return any(layer.kind is LayerKind.ENCRYPTED and not layer.authenticated for layer in self.layers)

    @contextlib.contextmanager
    def hiding_failures(self) -> Iterator[None]:
        """Tell nothing of what is wrong inside of content that anybody may have changed (RFC 8551 section 6).

        From many such answers the content can be learned.
        """
        try:
            yield
        except LegacyAlgorithmError:
            raise
        except (MalformedError, UnsupportedError, NoRecipientError):
            if self._changeable:
                raise DecryptionError(CANNOT_DECRYPT, hint=_HINT) from None
            raise
