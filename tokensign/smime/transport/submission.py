"""Handing a mail to a submission server (RFC 6409), with TLS and a login, and not a signed octet changed."""

from __future__ import annotations

import contextlib
import re
import smtplib
import socket
import ssl
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, BinaryIO, Final

from tokensign.errors import NetworkError, UsageError
from tokensign.files import spool
from tokensign.mailboxes import a_labels
from tokensign.smime.addresses import parse_addresses
from tokensign.smime.entity import read_header
from tokensign.smime.transport.header_lines import field_name, without_fields
from tokensign.smime.transport.smtp_client import LINE_MAXIMUM, Envelope, Reply, hand_over, lines, survey

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from email.message import Message

    from tokensign.smime.transport.servers import Server
    from tokensign.smime.transport.smtp_client import Survey

__all__ = ["Submission", "connected", "envelope_of", "send_mail"]

_TIMEOUT: Final = (
    120.0  # seconds for the answer to a command; RFC 5321 section 4.5.3.2 has up to five minutes
)
_RECIPIENTS_MAXIMUM: Final = 1000  # of one mail; submission servers take fewer, and lists are for more
_BLIND: Final = ("bcc", "resent-bcc")  # RFC 5322 section 3.6.3
_LINE_END: Final = re.compile(r"\r?\n")
_ADDRESS: Final = re.compile(r"[^\s<>@\"(),:;\\\x00-\x1f\x7f]+@[^\s<>@\"(),;\\\x00-\x1f\x7f]+")


@dataclass(frozen=True, slots=True)
class Submission:
    """What became of a mail.

    Attributes:
        accepted: The recipients for whom the server took it.
        refused: What it said to the others.
    """

    accepted: tuple[str, ...]
    refused: Mapping[str, Reply]


def send_mail(
    message: BinaryIO,
    server: Server,
    tls: ssl.SSLContext,
    password: Callable[[], str] | None = None,
    *,
    sender: str | None = None,
    recipients: Sequence[str] = (),
) -> Submission:
    """Hand a mail to a server.

    The Bcc fields are taken out, and line ends become CR LF; nothing else is changed.

    Args:
        message: The mail (RFC 5322), from its current position; it must be able to seek.
        server: The server; with a user, one logs in.
        tls: Verifies the server.
        password: Gives the password, when it is needed.
        sender: The sender of the envelope. None: Sender of the header, or else From.
        recipients: The recipients. Empty: To, Cc and Bcc of the header.

    Raises:
        UsageError: There is no sender or recipient, or an address is none.
        UnsupportedError: The server cannot take the mail as it is.
        NetworkError: The server cannot be reached or verified, refuses the login, or goes away.
        MalformedError: The header has no end, or a field of it is no list of addresses.
    """
    start = message.tell()
    header = read_header(message)
    message.seek(start)
    envelope = envelope_of(header, sender, recipients)
    with spool() as content:
        content.writelines(without_fields(lines(message), lambda field: field_name(field) in _BLIND))
        content.seek(0)
        found = _require_sendable(content)
        envelope = replace(envelope, smtputf8=found.eight_bit_header)
        with connected(server, tls, password) as smtp:
            replies = hand_over(smtp, envelope, content)
    return Submission(
        accepted=tuple(to for to in envelope.recipients if replies[to].accepted),
        refused={to: reply for to, reply in replies.items() if not reply.accepted},
    )


def envelope_of(header: Message, sender: str | None = None, recipients: Sequence[str] = ()) -> Envelope:
    """From whom and to whom a mail goes (RFC 6409 section 8, RFC 5322 section 3.6).

    Args:
        header: The header of the mail.
        sender: Instead of Sender and From.
        recipients: Instead of To, Cc and Bcc; duplicates go once.

    Raises:
        UsageError: There is no sender or recipient, there are too many, or an address is none.
    """
    if sender is None:
        found = _addresses(header, "Sender") or _addresses(header, "From")
        if len(found) != 1:
            raise UsageError(
                f"the mail names {len(found)} senders", hint="say with --from who sends it, or set Sender"
            )
        sender = found[0]
    to = list(recipients) or _addresses(header, "To", "Cc", "Bcc")
    if not to:
        raise UsageError("the mail is for nobody", hint="name recipients with --to, or set To in its header")
    if len(to) > _RECIPIENTS_MAXIMUM:
        raise UsageError(f"the mail has {len(to)} recipients, and {_RECIPIENTS_MAXIMUM} is the most")
    return Envelope(_checked(sender), tuple(dict.fromkeys(map(_checked, to))))


@contextlib.contextmanager
def connected(
    server: Server, tls: ssl.SSLContext, password: Callable[[], str] | None = None
) -> Iterator[smtplib.SMTP]:
    """A connection to a server that was verified, with the login done; nothing is said before TLS.

    Raises:
        NetworkError: The server cannot be reached or verified, offers no TLS, refuses the login, or goes away
            while the connection is used.
    """
    name = socket.gethostname()
    try:
        with contextlib.ExitStack() as stack:
            smtp: smtplib.SMTP
            if server.scheme == "smtps":
                smtp = smtplib.SMTP_SSL(server.host, server.port, name, timeout=_TIMEOUT, context=tls)
            else:
                smtp = smtplib.SMTP(server.host, server.port, name, timeout=_TIMEOUT)
            stack.callback(_quit, smtp)
            smtp.ehlo()
            if server.scheme == "smtp":
                _start_tls(smtp, server, tls)
            if server.user is not None:
                _log_in(smtp, server, password)
            yield smtp
    except ssl.SSLCertVerificationError as error:
        raise NetworkError(
            f"{server} is not the server that it should be: {error.verify_message}",
            hint="name its CA with --trust, if it has one of its own",
        ) from error
    except (OSError, smtplib.SMTPException) as error:
        raise NetworkError(
            f"{server}: {_words(error)}",
            hint="see whether its name and port are right, or try it again later",
        ) from error


def _start_tls(smtp: smtplib.SMTP, server: Server, tls: ssl.SSLContext) -> None:
    if not smtp.has_extn("starttls"):
        raise NetworkError(
            f"{server} offers no TLS, and nothing is sent in the clear",
            hint="use smtps://, or the port for submission",
        )
    smtp.starttls(context=tls)
    smtp.ehlo()


def _log_in(smtp: smtplib.SMTP, server: Server, password: Callable[[], str] | None) -> None:
    if server.user is None or password is None:
        raise UsageError(f"{server} needs a password", hint="say with --password-source where it comes from")
    try:
        smtp.login(server.user, password())
    except smtplib.SMTPAuthenticationError as error:
        raise NetworkError(
            f"{server} refuses the login of {server.user} ({error.smtp_code})",
            hint="it was tried once; check the account and --password-source",
        ) from None  # what the server says may repeat what it was sent
    except smtplib.SMTPNotSupportedError:
        raise NetworkError(f"{server} takes no login", hint="leave the user out of the URL") from None


def _quit(smtp: smtplib.SMTP) -> None:
    with contextlib.suppress(OSError, smtplib.SMTPException):
        if smtp.sock is not None:
            smtp.sock.settimeout(5.0)  # the mail is there already
            smtp.quit()
    smtp.close()


def _words(error: Exception) -> str:
    if isinstance(error, smtplib.SMTPResponseException):
        said = error.smtp_error
        return f"{error.smtp_code} {said.decode('utf-8', 'replace') if isinstance(said, bytes) else said}"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__


def _require_sendable(content: BinaryIO) -> Survey:
    """Refuse a mail that servers would change or break on its way, and tell about another one.

    Raises:
        UsageError: It has lines that are too long.
    """
    found = survey(content)
    longest = found.longest_line
    if longest > LINE_MAXIMUM:
        raise UsageError(
            f"the mail has a line of {longest} bytes, and mail servers break lines beyond {LINE_MAXIMUM},"
            " which breaks signatures",
            hint="write it with quoted-printable or base64, as `tokensign mail sign` does",
        )
    return found


def _addresses(header: Message, *names: str) -> list[str]:
    """The addresses in some fields; text in encoded words is never an address.

    Raises:
        MalformedError: A field is no list of addresses.
    """
    wanted = {name.lower() for name in names}
    bodies = [value for name, value in header.raw_items() if name.lower() in wanted]
    return [
        mailbox.address
        for body in bodies
        for mailbox in parse_addresses(
            _LINE_END.sub("", body).encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        )
    ]


def _checked(address: str) -> str:
    """An address of an envelope, its domain in ASCII.

    Raises:
        UsageError: It is none, or one that would not be a single word on the wire.
    """
    if not _ADDRESS.fullmatch(address):
        raise UsageError(f"{address!r} is not an e-mail address")
    local, _, domain = address.rpartition("@")
    on_the_wire = domain if domain.isascii() else a_labels(domain)
    if on_the_wire is None:
        raise UsageError(f"{address!r} has no domain that could exist")
    return f"{local}@{on_the_wire}"
