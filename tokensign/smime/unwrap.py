"""Opening a message whatever form it comes in: DER, PEM, bare base64, or S/MIME."""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Final, Literal, Self

from tokensign.cms.ber import SEQUENCE
from tokensign.cms.pem import decode_base64, is_armored, unarmor
from tokensign.errors import MalformedError
from tokensign.files import chunks, spool
from tokensign.smime.entity import read_header, split_multipart_signed

if TYPE_CHECKING:
    from email.message import Message

__all__ = ["Form", "OpenedMessage", "open_message"]

Form = Literal["der", "pem", "smime"]

_BARE_BASE64: Final = re.compile(rb"\A\s*MI[A-Za-z0-9+/\r\n]{30}")  # DER begins 30 8x, which is "MI"
_MAX_CONTENT_TYPE: Final = 1 << 14  # characters; more is no honest one
_PKCS7_MIME: Final = ("application/pkcs7-mime", "application/x-pkcs7-mime")
_PKCS7_SIGNATURE: Final = ("application/pkcs7-signature", "application/x-pkcs7-signature")


@dataclass(frozen=True, slots=True)
class OpenedMessage:
    """A CMS message that was taken out of its form; as a context manager it closes what it opened.

    Attributes:
        form: What it was: "der" (or BER), "pem" (or bare base64), "smime".
        cms: The message in DER or BER. For "der" this is the stream that was given, which stays open.
        content: The signed entity of a multipart/signed mail, else None.
    """

    form: Form
    cms: BinaryIO
    content: BinaryIO | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the temporary streams that the message was decoded into."""
        if self.form != "der":
            self.cms.close()
        if self.content is not None:
            self.content.close()


def open_message(stream: BinaryIO) -> OpenedMessage:
    """Find out which form a message has and take the CMS out of it.

    Args:
        stream: The message, from its current position; it must be able to seek.

    Raises:
        MalformedError: It has none of the forms, or is broken.
    """
    start = stream.tell()
    head = stream.read(64)
    stream.seek(start)
    if not head:
        raise MalformedError("the message is empty")
    if head[0] == SEQUENCE:
        return OpenedMessage("der", stream)
    if is_armored(stream):
        return OpenedMessage("pem", unarmor(stream))
    if _BARE_BASE64.match(head):
        return OpenedMessage("pem", decode_base64(chunks(stream)))
    return _open_mail(stream)


def _open_mail(stream: BinaryIO) -> OpenedMessage:
    header = read_header(stream)
    kind = header.get_content_type()
    if kind in _PKCS7_MIME:
        return OpenedMessage("smime", _body(header, stream))
    boundary = _boundary(header) if kind == "multipart/signed" else None
    if boundary:
        content, signature = split_multipart_signed(stream, boundary)
        with signature, contextlib.ExitStack() as on_failure:
            on_failure.enter_context(content)
            part = read_header(signature)
            if part.get_content_type() not in _PKCS7_SIGNATURE:
                raise MalformedError(f"the mail is signed with {part.get_content_type()}, not with S/MIME")
            message = _body(part, signature)
            on_failure.pop_all()
        return OpenedMessage("smime", message, content)
    raise MalformedError(
        "this is not a CMS or S/MIME message",
        hint="give a .p7s, .p7m, .pem or .eml file that is signed or encrypted",
    )


def _boundary(header: Message) -> str | None:
    """The boundary parameter of a multipart."""
    unreadable = MalformedError("the Content-Type of the mail cannot be read")
    if len(str(header.get("Content-Type", ""))) > _MAX_CONTENT_TYPE:
        raise unreadable
    try:
        return header.get_boundary()
    except ValueError:  # a charset that is a codec of another kind, a section number of thousands of digits
        raise unreadable from None


def _body(header: Message, stream: BinaryIO) -> BinaryIO:
    """The body of an entity, decoded into a stream that can seek."""
    encoding = str(header.get("Content-Transfer-Encoding", "7bit")).strip().lower()
    if encoding == "base64":
        return decode_base64(chunks(stream))
    if encoding in ("7bit", "8bit", "binary"):
        return spool(stream)
    raise MalformedError(f"the content transfer encoding {encoding!r} is not used for S/MIME")
