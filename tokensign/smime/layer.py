"""One layer of a mail: what it is, and what is inside of it (RFC 8551 section 3, RFC 1847).

Each function takes one layer off and reports on it. What is inside comes out as the octets that the layer
covers, so that whatever is read of it later is what was verified or decrypted.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, BinaryIO, Final, Literal

from tokensign.cms.compressed import COMPRESSED_DATA, DecompressionLimit, read_compressed_data
from tokensign.cms.content_info import (
    AUTH_ENVELOPED_DATA,
    CONTENT_TYPE_NAMES,
    DATA,
    ENVELOPED_DATA,
    SIGNED_DATA,
    open_content_info,
)
from tokensign.cms.decrypt import decrypt
from tokensign.cms.envelope import read_envelope
from tokensign.cms.signed_data import read_signed_data
from tokensign.errors import MalformedError, UnsupportedError, UsageError, VerificationError
from tokensign.files import spool
from tokensign.report import Status, Verdict
from tokensign.smime.canonical import canonical_lines
from tokensign.smime.mail_report import LayerKind, LayerReport
from tokensign.smime.mime import octets
from tokensign.verification import verify

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tokensign.certificates import Certificate
    from tokensign.cms.signed_data import SignedData
    from tokensign.keys import DecryptionKey
    from tokensign.smime.mime import Entity
    from tokensign.verification import Expectations

__all__ = ["CMS_TYPES", "Opener", "TakenOff", "cms_kind", "sealed_as", "untrue_type"]

CMS_TYPES: Final = frozenset({SIGNED_DATA, ENVELOPED_DATA, AUTH_ENVELOPED_DATA, COMPRESSED_DATA})
"""The content types that are layers of mail, dotted."""

_PKCS7_MIME: Final = ("application/pkcs7-mime", "application/x-pkcs7-mime")
_PKCS7_SIGNATURE: Final = ("application/pkcs7-signature", "application/x-pkcs7-signature")
_OF_NO_TYPE: Final = ("application/octet-stream", "application/cms")  # RFC 8551 section 3.10, RFC 7193
_MESSAGE_NAMES: Final = (".p7m", ".p7c", ".p7z")  # RFC 8551 section 3.2.1
_PARTS: Final = 2  # of multipart/signed
_LIMIT: Final = DecompressionLimit()


@dataclass(frozen=True, slots=True)
class TakenOff:
    """A layer that was taken off.

    Attributes:
        report: What was found.
        content: What is inside, a private temporary stream, which the caller closes; None where nothing is
            inside, or it must not be looked at.
        content_type: The content type of it, dotted: id-data is MIME, others may be CMS messages.
    """

    report: LayerReport
    content: BinaryIO | None = None
    content_type: str = DATA


def sealed_as(entity: Entity) -> Literal["clear", "cms"] | None:
    """Whether an entity is a layer: "clear" for multipart/signed, "cms" for a CMS message in MIME.

    An entity that readers may understand in different ways is none.
    """
    if entity.ambiguous:
        return None
    if entity.content_type == "multipart/signed":
        last = entity.children[1] if len(entity.children) > 1 else None
        protocol = entity.parameters.get("protocol", "").lower()
        return "clear" if protocol in _PKCS7_SIGNATURE or (last and _is_signature(last)) else None
    if entity.content_type in _PKCS7_MIME:
        return "cms"
    name = (entity.file_name or "").lower()
    return "cms" if entity.content_type in _OF_NO_TYPE and name.endswith(_MESSAGE_NAMES) else None


def cms_kind(cms: BinaryIO) -> str:
    """The content type of a CMS message, dotted; the stream stays where it is.

    Raises:
        MalformedError: It is not a CMS message.
    """
    start = cms.tell()
    kind, _ = open_content_info(cms)
    cms.seek(start)
    return kind


def untrue_type(entity: Entity, cms: BinaryIO) -> str:
    """What smime-type says, where that is not what is in it, else empty (RFC 8551 section 3.2.2)."""
    said = entity.parameters.get("smime-type", "").lower()
    kind = CONTENT_TYPE_NAMES.get(cms_kind(cms), "")
    true = {kind, kind.replace("auth-", "auth")}  # S/MIME has the name authEnveloped-data
    if kind == "signed-data":
        true |= {"certs-only", "signed-receipt"}
    if not said or said in true:
        return ""
    return f"the mail says that it is {said}, and it is {kind or 'something else'}"


@dataclass(frozen=True, slots=True)
class Opener:
    """Takes layers off.

    Attributes:
        expectations: What signatures are held against.
        keys: What may decrypt.
        legacy: Whether old algorithms are accepted for decryption.
        limit: How much each compressed layer may become.
    """

    expectations: Expectations
    keys: Sequence[DecryptionKey] = ()
    legacy: bool = False
    limit: DecompressionLimit = _LIMIT

    def multipart_signed(self, stream: BinaryIO, entity: Entity, path: str) -> TakenOff:
        """Verify a clear-signed entity; its first part is the content, in canonical form."""
        if reason := _not_two_parts(entity):
            return _unverifiable(path, entity.content_type, reason)
        signed, signature = entity.children
        with contextlib.ExitStack() as on_failure:
            content = on_failure.enter_context(spool())
            content.writelines(canonical_lines(octets(stream, signed.start, signed.end)))
            content.seek(0)
            try:
                cms = signature.decoded(stream)
            except MalformedError as error:
                return _unverifiable(path, entity.content_type, error.message)
            with cms:
                report = self._signed(cms, path, entity.content_type, content)
            if not report.holds:
                return TakenOff(report)
            content.seek(0)
            on_failure.pop_all()
        return TakenOff(report, content)

    def cms(self, cms: BinaryIO, path: str, media_type: str) -> TakenOff:
        """Take off the outermost layer of a CMS message.

        Raises:
            NoRecipientError: It is encrypted to other keys.
            DecryptionError: It cannot be decrypted; every cause looks the same.
            MalformedError: It is broken.
            UnsupportedError: It is no layer that mail has, or uses something that is not done here.
            TokenError: The token failed.
        """
        kind = cms_kind(cms)
        if kind == SIGNED_DATA:
            return self._opaque(cms, path, media_type)
        if kind in (ENVELOPED_DATA, AUTH_ENVELOPED_DATA):
            return self._enveloped(cms, path, media_type)
        if kind == COMPRESSED_DATA:
            compressed = read_compressed_data(cms)
            with contextlib.ExitStack() as on_failure:
                content = on_failure.enter_context(spool())
                content.writelines(compressed.chunks(self.limit))
                on_failure.pop_all()
            report = LayerReport(kind=LayerKind.COMPRESSED, path=path, media_type=media_type)
            return _with_content(report, content, compressed.content_type)
        raise UnsupportedError(
            f"the mail holds {CONTENT_TYPE_NAMES.get(kind, kind)}, which is not S/MIME",
            hint="see `tokensign inspect`",
        )

    def _opaque(self, cms: BinaryIO, path: str, media_type: str) -> TakenOff:
        start = cms.tell()
        message = read_signed_data(cms)
        cms.seek(start)
        if not message.signer_infos and (message.content is None or not message.content.size()):
            report = LayerReport(
                kind=LayerKind.CERTS_ONLY,
                path=path,
                media_type=media_type,
                certificates=message.certificates,
            )
            return TakenOff(report)
        if message.content is None:
            return _unverifiable(path, media_type, "what was signed is not in the mail")
        with contextlib.ExitStack() as on_failure:
            content = on_failure.enter_context(spool())
            report = self._signed(cms, path, media_type, None, content)
            if not report.holds:
                return TakenOff(report)
            on_failure.pop_all()
        return _with_content(report, content, message.content_type)

    def _signed(
        self,
        cms: BinaryIO,
        path: str,
        media_type: str,
        content: BinaryIO | None,
        output: BinaryIO | None = None,
    ) -> LayerReport:
        """The report on the signatures of a message; what cannot be verified at all does not hold either."""
        verification, failure = None, None
        start = cms.tell()
        try:
            _require_one_content(read_signed_data(cms), content)
            cms.seek(start)
            verification = verify(cms, replace(self.expectations, email=None), content, output)
        except VerificationError as error:
            verification = error.report
        except (MalformedError, UnsupportedError, UsageError) as error:
            failure = Verdict(Status.FAILED, error.message, error.hint)
        return LayerReport(
            kind=LayerKind.SIGNED,
            path=path,
            media_type=media_type,
            verification=verification,
            failure=failure,
        )

    def _enveloped(self, cms: BinaryIO, path: str, media_type: str) -> TakenOff:
        start = cms.tell()
        envelope = read_envelope(cms)
        cms.seek(start)
        matching = [key for key in self.keys if any(entry.is_for(key) for entry in envelope.recipients)]
        with contextlib.ExitStack() as on_failure:
            content = on_failure.enter_context(spool())
            result = decrypt(cms, matching, content, legacy=self.legacy)
            on_failure.pop_all()
        report = LayerReport(
            kind=LayerKind.ENCRYPTED,
            path=path,
            media_type=media_type,
            cipher=result.cipher,
            authenticated=result.authenticated,
            recipient=_newest_certificate(matching[0]) if len(matching) == 1 else None,
        )
        return _with_content(report, content, result.content_type)


def _require_one_content(message: SignedData, content: BinaryIO | None) -> None:
    """Refuse what nobody signed, and two contents of which programs would show the one or the other."""
    if not message.signer_infos:
        raise MalformedError("there is no signature in it")
    if content is not None and message.content is not None:
        raise MalformedError("the signature has a content of its own beside the one in the mail")


def _with_content(report: LayerReport, content: BinaryIO, content_type: str) -> TakenOff:
    content.seek(0)
    return TakenOff(report, content, content_type)


def _not_two_parts(entity: Entity) -> str | None:
    """What is wrong with the structure of a multipart/signed (RFC 1847 section 2.1)."""
    if not entity.closed:
        return "it is cut off: its last boundary is missing"
    if len(entity.children) != _PARTS:
        return f"it has {len(entity.children)} parts, and not the signed one and the signature"
    if not _is_signature(entity.children[1]):
        return f"its second part is {entity.children[1].content_type}, not an S/MIME signature"
    return None


def _is_signature(entity: Entity) -> bool:
    if entity.ambiguous:
        return False
    named = (entity.file_name or "").lower().endswith(".p7s")
    return entity.content_type in _PKCS7_SIGNATURE or (
        entity.content_type == "application/octet-stream" and named
    )


def _unverifiable(path: str, media_type: str, reason: str) -> TakenOff:
    failure = Verdict(Status.FAILED, reason)
    return TakenOff(LayerReport(kind=LayerKind.SIGNED, path=path, media_type=media_type, failure=failure))


def _newest_certificate(key: DecryptionKey) -> Certificate | None:
    certificates: Sequence[Certificate] = getattr(key, "certificates", ())
    return next(iter(certificates), None)
