"""Opening mail: every layer is taken off, decrypted and verified, and the reader is told what that covers.

A layer counts for the whole mail only where it is the whole mail, or all that another layer holds. A signed
part beside others is verified for itself, and what stands beside it is told as outside; so the text of one
mail never gets the verdict of another one (Müller et al., "Johnny, you are fired!", 2019). An encrypted part
beside others is not decrypted, unless the reader names it: what stands around it may be somebody else's, who
wants to have it sent to him in an address or with the reply (Poddebniak et al., "Efail", 2018; Müller et al.,
"Re: What's Up Johnny?", 2019).
"""

from __future__ import annotations

import contextlib
import io
from dataclasses import replace
from typing import TYPE_CHECKING, BinaryIO, Final

from tokensign.cms.compressed import DecompressionLimit
from tokensign.cms.content_info import DATA
from tokensign.errors import MalformedError, UsageError
from tokensign.files import chunks
from tokensign.mailboxes import same_mailbox
from tokensign.report import Status, Verdict
from tokensign.smime.header_fields import HeaderFields
from tokensign.smime.layer import Opener, sealed_as
from tokensign.smime.layer_walk import LayerWalk
from tokensign.smime.mail_headers import read_mail_header
from tokensign.smime.mail_report import LayerKind, LayerReport, MailReport
from tokensign.smime.mime import read_entity
from tokensign.smime.opened_mail import write_content, write_opened
from tokensign.smime.sender import judge_sender, read_date, read_sender, sender_remarks
from tokensign.verification import judge_identity

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tokensign.keys import DecryptionKey
    from tokensign.report import VerificationReport
    from tokensign.smime.mail_headers import MailHeader
    from tokensign.smime.mime import Entity
    from tokensign.smime.sender import Sender
    from tokensign.verification import Expectations

__all__ = ["open_mail"]

_DATE_TOLERANCE: Final = 3600  # seconds between Date and the signature; people write before they send


def open_mail(
    message: BinaryIO,
    expectations: Expectations,
    keys: Sequence[DecryptionKey] = (),
    output: BinaryIO | None = None,
    *,
    legacy: bool = False,
    part: str = "",
) -> MailReport:
    """Open a mail: decrypt and verify all of its layers.

    Args:
        message: The mail (RFC 5322), whole; it must be able to seek.
        expectations: What signatures are held against. Whose they must be, From says; an address in them must
            be the signer's besides.
        keys: The keys and passwords that may decrypt it; looked at only when a layer needs one.
        output: Receives what the reader reads, as one mail: the header fields and the content inside of all
            layers. Nothing is written where the report does not hold.
        legacy: Whether old algorithms are accepted for decryption; for signatures, `expectations` says so.
        part: The path of a part, such as "2", that is opened instead of the whole mail. Nothing binds it to
            the header of the mail, so its sender is not judged.

    Returns:
        The report, also where something does not hold: `MailReport.holds` says so.

    Raises:
        NoRecipientError: A layer is encrypted to other keys.
        DecryptionError: One cannot be decrypted; every cause looks the same.
        MalformedError: The mail is broken, or larger than the limits.
        UnsupportedError: There are more layers, or something that is not done here.
        UsageError: There is no such part, or it is neither signed nor encrypted.
        TokenError: The token failed.
    """
    mail = read_entity(message)
    entity = _part(mail, part) if part else mail
    outer = HeaderFields() if part else mail.fields
    with contextlib.ExitStack() as held:
        limit = DecompressionLimit().of_message(message.seek(0, io.SEEK_END))
        opener = Opener(expectations, keys, legacy, limit)
        walk = LayerWalk(opener, held, message, entity, outer, part)
        with walk.hiding_failures():
            walk.run()
            report, shown = _report(walk, expectations, part)
            if output is not None and report.holds:
                _write(walk, message, shown, output)
    return report


def _part(mail: Entity, path: str) -> Entity:
    entity = dict(mail.walk()).get(path)
    if entity is None:
        raise UsageError(f"the mail has no part {path}", hint="the report of the whole mail names them")
    if sealed_as(entity) is None:
        raise UsageError(f"part {path} is neither signed nor encrypted")
    return entity


def _report(walk: LayerWalk, expectations: Expectations, part: str) -> tuple[MailReport, HeaderFields]:
    """The report, and the header fields that the reader sees."""
    header = read_mail_header(
        walk.outer,
        walk.entity,
        walk.wrapped,
        signed=walk.holds and walk.has(LayerKind.SIGNED) and not _signed_around_encryption(walk.layers),
        encrypted=walk.holds and walk.has(LayerKind.ENCRYPTED),
    )
    sender = read_sender(header.own)
    author = _author(walk.layers) if walk.holds else None
    verdict = _sender_verdict(walk, sender, author, part)
    offset = _date_offset(header.own, author) if author and not part else None
    disputed = header.opened.from_mismatch and verdict.status is not Status.PASSED
    # Whose the outer signatures are is told, not judged: a mailing list or a gateway signs for itself.
    expected = expectations.email or (None if part else sender.address)
    report = MailReport(
        layers=_with_identity(walk.layers, expected) if author else tuple(walk.layers),
        signed_parts=tuple(_with_identity((entry,), expectations.email)[0] for entry in walk.parts),
        headers=header.report,
        sender=verdict,
        sender_address=None if disputed else sender.address,
        date_offset=offset,
        outside=tuple(walk.outside),
        remarks=(*walk.remarks, *_header_remarks(header, sender, offset), *_passed_on(header, walk.layers)),
        part=part,
    )
    return report, header.shown(signer_is_sender=verdict.status is Status.PASSED)


def _author(layers: Sequence[LayerReport]) -> VerificationReport | None:
    """The report on the innermost signature: who wrote what the reader reads."""
    return next((layer.verification for layer in reversed(layers) if layer.kind is LayerKind.SIGNED), None)


def _sender_verdict(walk: LayerWalk, sender: Sender, author: VerificationReport | None, part: str) -> Verdict:
    if part:
        return Verdict.not_checked("a part was opened, and nothing binds it to the header of the mail")
    if not walk.holds:
        return Verdict.not_checked("a signature does not hold")
    if author is None:
        return Verdict.not_checked("the mail is not signed as a whole")
    trusted = author.verdict == "good"
    verdict = judge_sender(sender, author.signers, trusted=trusted, any_signer=author.any_signer)
    if verdict.status is Status.PASSED and _signed_around_encryption(walk.layers):
        return Verdict.not_checked(
            "the signature is around the encryption, and its signer need not know what is inside"
        )
    return verdict


def _signed_around_encryption(layers: Sequence[LayerReport]) -> bool:
    """Whether what was encrypted is not signed in itself: anybody can sign what others encrypted."""
    kinds = [layer.kind for layer in layers if layer.kind in (LayerKind.SIGNED, LayerKind.ENCRYPTED)]
    return kinds[-1] is LayerKind.ENCRYPTED


def _with_identity(layers: Sequence[LayerReport], address: str | None) -> tuple[LayerReport, ...]:
    """The reports with the identity of the innermost signers judged, which are known at the end only."""
    innermost = max(number for number, layer in enumerate(layers) if layer.kind is LayerKind.SIGNED)
    found = layers[innermost]
    if address is None or found.verification is None:
        return tuple(layers)

    signers = tuple(
        replace(signer, identity=judge_identity(signer.certificate, address))
        for signer in found.verification.signers
    )
    verification = replace(found.verification, signers=signers)
    return (*layers[:innermost], replace(found, verification=verification), *layers[innermost + 1 :])


def _date_offset(fields: HeaderFields, author: VerificationReport) -> int | None:
    """Seconds from Date to the time that the first signer names (RFC 8551 section 2.5.1)."""
    first = next((signer for signer in author.signers if signer.holds), author.signers[0])
    date, signed = read_date(fields), first.signing_time
    return int((signed - date).total_seconds()) if date and signed else None


def _passed_on(header: MailHeader, layers: Sequence[LayerReport]) -> Iterator[str]:
    """Whether the mail was written to somebody else, who may have encrypted it once more (Davis, 2001)."""
    readers = {email for layer in layers if layer.recipient for email in layer.recipient.emails}
    if header.report.scheme is None or not readers:
        return
    try:
        named = [mailbox.address for name in ("To", "Cc") for mailbox in header.own.addresses(name)]
    except MalformedError:
        return
    if not any(same_mailbox(address, reader) for address in named for reader in readers):
        yield f"{' and '.join(sorted(readers))} is not in To and Cc: a blind copy, or somebody passed it on"


def _header_remarks(header: MailHeader, sender: Sender, offset: int | None) -> Iterator[str]:
    yield from sender_remarks(header.own, sender)
    for name in header.damaged:
        yield f"the field {name} is left out: there is a carriage return or NUL in it"
    for field in header.report.fields:
        disputed = header.opened.from_mismatch and field.name.lower() == "from" and field.outside == "hidden"
        if field.outside == "changed" or disputed:
            shown = f"says {field.outside_text!r}" if field.outside_text else "is missing"
            yield f"the field {field.name} outside {shown}, and the protected one says {field.text!r}"
    if offset is not None and abs(offset) > _DATE_TOLERANCE:
        yield f"the signer's clock was {_duration(abs(offset))} {'after' if offset > 0 else 'before'} Date"


def _duration(seconds: int) -> str:
    for size, unit in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= size:
            amount = seconds // size
            return f"{amount} {unit}{'' if amount == 1 else 's'}"
    return f"{seconds} seconds"


def _write(walk: LayerWalk, message: BinaryIO, shown: HeaderFields, output: BinaryIO) -> None:
    """Write what the reader reads; a mail without layers as it was received."""
    if walk.content_type != DATA:
        write_content(walk.stream, shown, output)
    elif walk.stream is message and not walk.path:
        message.seek(walk.entity.start)
        output.writelines(chunks(message))
    else:
        encrypted = walk.has(LayerKind.ENCRYPTED)
        write_opened(walk.stream, walk.entity, shown, output, encrypted=encrypted)
