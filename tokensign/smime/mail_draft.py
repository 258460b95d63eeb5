"""A mail before it is signed or encrypted: its header in two, and the entity that the layers go around."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime
from typing import TYPE_CHECKING, BinaryIO, Final

from tokensign.errors import MalformedError
from tokensign.files import spool
from tokensign.smime.entity_writer import SEALED_TYPES, Changes, write_for_relays
from tokensign.smime.header_fields import HeaderField, HeaderFields
from tokensign.smime.header_protection import HP_PARAMETER, is_outer_record, protect
from tokensign.smime.legacy_display import add_legacy_display
from tokensign.smime.mail_options import ComposedMail, MailOptions
from tokensign.smime.mime import read_entity
from tokensign.smime.mime_fields import is_structural, with_parameters

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tokensign.cms.encrypt import Recipient
    from tokensign.cms.signer_info import SigningOptions
    from tokensign.smime.header_policy import HeaderPolicy
    from tokensign.smime.mime import Entity

__all__ = ["Draft"]

_BLIND: Final = ("bcc", "resent-bcc")


@dataclass(frozen=True, slots=True)
class Draft:
    """A mail that is going to be composed.

    Attributes:
        stream: What it was read from.
        entity: Its structure.
        fields: Its header fields without those of MIME, with a Date.
        moment: The signing time.
        options: How it is composed.
    """

    stream: BinaryIO
    entity: Entity
    fields: HeaderFields
    moment: datetime
    options: MailOptions

    @classmethod
    def read(cls, stream: BinaryIO, options: MailOptions) -> Draft:
        """Read a mail from the start of a stream.

        Raises:
            MalformedError: It is damaged so that readers would disagree on what it says.
        """
        entity = read_entity(stream)
        if entity.ambiguous:
            raise MalformedError(
                f"the mail is damaged: {entity.ambiguous}", hint="mend it before you sign or encrypt it"
            )
        moment = (options.signing.signing_time or datetime.now(UTC)).replace(microsecond=0)
        fields = entity.fields.without(lambda field: is_structural(field) or is_outer_record(field))
        if fields.get("Date") is None:
            date = HeaderField("Date", f"Date: {format_datetime(moment)}\r\n".encode("ascii"))
            fields = HeaderFields((*fields, date))
        return cls(stream, entity, fields, moment, options)

    @property
    def protects_headers(self) -> bool:
        """Whether the header is protected: not that of a body which somebody signed or encrypted already."""
        return self.options.protect_headers and self.entity.content_type not in SEALED_TYPES

    @property
    def signing(self) -> SigningOptions:
        """How the mail is signed, at its moment."""
        return replace(self.options.signing, signing_time=self.moment)

    def without_bcc(self) -> Draft:
        """The mail as its recipients get it."""
        return replace(self, fields=self.fields.without(lambda field: field.name.lower() in _BLIND))

    @contextlib.contextmanager
    def payload(self, policy: HeaderPolicy | None) -> Iterator[tuple[BinaryIO, HeaderFields]]:
        """The Cryptographic Payload, and the fields that stay outside.

        A body that somebody signed or encrypted already is not changed, so its header is not protected here.

        Args:
            policy: What stays outside; None for a mail that is not encrypted.
        """
        outside = self.fields
        own = self.entity.fields.without(lambda field: not _describes_body(field))
        if HP_PARAMETER in self.entity.parameters:  # of an earlier journey
            own = with_parameters(own, {HP_PARAMETER: None})
        with Changes() as changes, spool() as payload:
            if self.protects_headers:
                header = protect(self.fields, policy)
                outside = header.outside
                own = with_parameters(own, {HP_PARAMETER: header.hp})
                changes.fields[self.entity.start] = HeaderFields((*header.inside, *own))
                hidden = header.hidden if self.options.legacy_display else ()
                add_legacy_display(self.stream, self.entity, hidden, changes)
            else:
                changes.fields[self.entity.start] = own
            write_for_relays(self.stream, self.entity, payload, changes)
            payload.seek(0)
            yield payload, outside

    def composed(self, readers: Sequence[Recipient] = ()) -> ComposedMail:
        """What came of it.

        Args:
            readers: Those who can read it; nobody: it is not encrypted.
        """
        return ComposedMail(
            self.moment,
            _date_of(self.fields),
            _senders_of(self.fields),
            tuple(readers),
            self.protects_headers,
        )


def _describes_body(field: HeaderField) -> bool:
    """Whether a field goes with the body: those of MIME but for MIME-Version, which is the mail's."""
    return is_structural(field) and field.name.lower() != "mime-version"


def _date_of(fields: HeaderFields) -> datetime | None:
    date = fields.get("Date")
    try:
        moment = parsedate_to_datetime(date.value if date else "")
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)  # "-0000": UTC, the zone is not told


def _senders_of(fields: HeaderFields) -> tuple[str, ...]:
    try:
        return tuple(mailbox.address for mailbox in fields.addresses("From"))
    except MalformedError:
        return ()
