"""Handing a mail over by SMTP (RFC 5321) or LMTP (RFC 2033), from a stream.

The standard library's client does the talking; the content goes out in pieces, so that a mail of any size
takes no memory, and not an octet of a line changes.
"""

from __future__ import annotations

import contextlib
import re
import smtplib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, BinaryIO, Final

from tokensign.errors import NetworkError, UnsupportedError
from tokensign.files import chunks
from tokensign.smime.canonical import canonical_lines

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

__all__ = [
    "LINE_MAXIMUM",
    "REPLY_MAXIMUM",
    "Envelope",
    "LostAfterContentError",
    "Reply",
    "Survey",
    "hand_over",
    "lines",
    "survey",
]

LINE_MAXIMUM: Final = 998
"""Octets of a line without its CR LF (RFC 5321 section 4.5.3.1.6); relays break or refuse longer ones."""

REPLY_MAXIMUM: Final = 400
"""Characters of `Reply.line`; RFC 5321 section 4.5.3.1.5 has 512 octets for a line with all else."""

CONTENT_TIMEOUT: Final = 600.0
"""Seconds for the answer to the end of the content (RFC 5321 section 4.5.3.2.6)."""

_LINE_PIECE: Final = 1 << 16  # octets read as one line; longer lines come in pieces
_HIGH: Final = re.compile(rb"[\x80-\xff]")
_LINE_START: Final = re.compile(rb"\n\.")  # a dot there is doubled (RFC 5321 section 4.5.2)


@dataclass(frozen=True, slots=True)
class Reply:
    """What a server says to a command (RFC 5321 section 4.2).

    Attributes:
        code: The three digits.
        text: The rest; several lines are joined by " / ".
    """

    code: int
    text: str

    @property
    def accepted(self) -> bool:
        """Whether the command was accepted."""
        return 200 <= self.code < 400  # noqa: PLR2004 - as the RFC numbers replies

    @property
    def temporary(self) -> bool:
        """Whether it is worth trying again later."""
        return 400 <= self.code < 500  # noqa: PLR2004 - as above

    @property
    def line(self) -> str:
        """The text as it goes into an answer to others: short, in ASCII, and nothing that leaves its line."""
        return "".join(c if c.isprintable() and c.isascii() else "?" for c in self.text[:REPLY_MAXIMUM])

    def __str__(self) -> str:
        return f"{self.code} {self.text}"


@dataclass(frozen=True, slots=True)
class Envelope:
    """From whom and to whom a mail goes, whatever its header says.

    Attributes:
        sender: Where bounces go; empty for a mail that causes none.
        recipients: The recipients.
        smtputf8: Whether who sends it says that its header needs SMTPUTF8 (RFC 6531).
    """

    sender: str
    recipients: tuple[str, ...]
    smtputf8: bool = False

    @property
    def international(self) -> bool:
        """Whether it needs SMTPUTF8, as an address that is not in ASCII does, too."""
        return self.smtputf8 or not "".join((self.sender, *self.recipients)).isascii()


@dataclass(slots=True)
class Survey:
    """What a server must be able to do for a mail.

    Attributes:
        size: Octets on the wire, before dots are doubled.
        longest_line: Octets of the longest line, without its end.
        eight_bit: Whether there are octets beyond ASCII (8BITMIME, RFC 6152).
        eight_bit_header: Whether there are some in the header of the mail (SMTPUTF8, RFC 6531).
    """

    size: int = 0
    longest_line: int = 0
    eight_bit: bool = False
    eight_bit_header: bool = False


class LostAfterContentError(NetworkError):
    """The connection was lost after the whole content was sent: nobody knows whether it was accepted.

    Args:
        message: What happened.
        replies: What was said to some of the recipients before.
    """

    def __init__(self, message: str, replies: Mapping[str, Reply]) -> None:
        super().__init__(message)
        self.replies = dict(replies)


def lines(stream: BinaryIO) -> Iterator[bytes]:
    """The rest of a stream by lines; a line that is very long comes in pieces."""
    while line := stream.readline(_LINE_PIECE):
        yield line


def survey(content: BinaryIO) -> Survey:
    """Read a mail through; the stream is then where it was."""
    found = Survey()
    start = content.tell()
    in_header, length = True, 0
    for line in lines(content):
        body = line.rstrip(b"\r\n")
        ended = line.endswith(b"\n")
        if in_header and not length and ended and not body:
            in_header = False
        length += len(body)
        found.size += len(body) + 2 * ended
        found.longest_line = max(found.longest_line, length)
        if _HIGH.search(body):
            found.eight_bit = True
            found.eight_bit_header |= in_header
        if ended:
            length = 0
    content.seek(start)
    return found


@dataclass(frozen=True, slots=True)
class _Conversation:
    """A connection that has said EHLO, or LHLO.

    Attributes:
        smtp: The connection.
        lmtp: Whether each recipient has an answer of its own after the content.
        replies: What was said to each recipient that has an answer already.
    """

    smtp: smtplib.SMTP
    lmtp: bool
    replies: dict[str, Reply] = field(default_factory=dict)

    def command(self, text: str) -> Reply:
        return _reply(self.smtp.docmd(text))

    def offers(self, extension: str) -> bool:
        return bool(self.smtp.has_extn(extension))

    def mail_parameters(self, envelope: Envelope, found: Survey) -> str:
        """What is said behind the sender's address.

        Raises:
            UnsupportedError: The server cannot take such a mail, which is not changed for it.
        """
        parameters = f" SIZE={found.size}" if self.offers("size") else ""
        if found.eight_bit:
            if not self.offers("8bitmime"):
                raise UnsupportedError(
                    "the mail has 8-bit text, and the server takes 7-bit mail only",
                    hint="write the mail with quoted-printable or base64; a signed one cannot be changed",
                )
            parameters += " BODY=8BITMIME"
        if envelope.international:
            if not self.offers("smtputf8"):
                raise UnsupportedError(
                    "an address or the header of the mail is not in ASCII, and the server does not take that",
                    hint="use a server that offers SMTPUTF8, or addresses in ASCII",
                )
            parameters += " SMTPUTF8"
            self.smtp.command_encoding = "utf-8"
        return parameters

    def recipients(self, recipients: Sequence[str]) -> list[str]:
        """Name the recipients; those that are accepted."""
        taken = []
        for recipient in recipients:
            reply = self.command(f"RCPT TO:<{recipient}>")
            if reply.accepted:
                taken.append(recipient)
            else:
                self.replies[recipient] = reply
        return taken

    def send(self, content: BinaryIO) -> None:
        """Send the content, without its end."""
        last = b"\n"
        for piece in canonical_lines(chunks(content)):
            if piece:
                dotted = b"." if last == b"\n" and piece.startswith(b".") else b""
                self.smtp.send(dotted + _LINE_START.sub(b"\n..", piece))
                last = piece[-1:]
        if last != b"\n":
            self.smtp.send(b"\r\n")

    def end(self, taken: Sequence[str]) -> None:
        """Send the end of the content, and read what is said to it.

        Raises:
            LostAfterContentError: Nothing is said.
        """
        try:
            self.smtp.send(b".\r\n")
            if self.smtp.sock is not None:
                self.smtp.sock.settimeout(CONTENT_TIMEOUT)
            if self.lmtp:
                for recipient in taken:
                    self.replies[recipient] = _reply(self.smtp.getreply())
            else:
                self.replies.update(dict.fromkeys(taken, _reply(self.smtp.getreply())))
        except (OSError, smtplib.SMTPException) as error:
            raise LostAfterContentError(
                f"the connection was lost after the mail was sent ({error}), and nobody knows whether it was"
                " accepted",
                self.replies,
            ) from error


def hand_over(
    smtp: smtplib.SMTP,
    envelope: Envelope,
    content: BinaryIO,
    *,
    before_end: Callable[[], None] = lambda: None,
) -> dict[str, Reply]:
    """Hand a mail over on a connection that has said EHLO; bare LF in it become CR LF.

    Args:
        smtp: The connection; an `smtplib.LMTP` has an answer for each recipient.
        envelope: From whom to whom.
        content: The mail, from its current position; it must be able to seek.
        before_end: Called when all but the end of the content is sent: nothing was accepted until then.

    Returns:
        What the server said to each recipient.

    Raises:
        UnsupportedError: The server does not take 8-bit mail or international addresses, and this is one.
        LostAfterContentError: The connection was lost when it could have been accepted already.
        OSError, smtplib.SMTPException: The connection was lost before that.
    """
    talk = _Conversation(smtp, lmtp=isinstance(smtp, smtplib.LMTP))
    found = survey(content)
    reply = talk.command(f"MAIL FROM:<{envelope.sender}>{talk.mail_parameters(envelope, found)}")
    if not reply.accepted:
        return dict.fromkeys(envelope.recipients, reply)
    taken = talk.recipients(envelope.recipients)
    if taken:
        reply = talk.command("DATA")
        if reply.code == 354:  # noqa: PLR2004 - RFC 5321 section 4.1.1.4
            talk.send(content)
            before_end()
            talk.end(taken)
        else:
            talk.replies.update(dict.fromkeys(taken, reply))
    else:
        with contextlib.suppress(OSError, smtplib.SMTPException):
            talk.command("RSET")
    return talk.replies


def _reply(answer: tuple[int, bytes]) -> Reply:
    code, text = answer
    if code < 0:
        raise smtplib.SMTPServerDisconnected("the server does not speak SMTP")
    return Reply(code, " / ".join(text.decode("utf-8", "replace").split("\n")))
