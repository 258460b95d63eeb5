"""Fetching mail over IMAP (RFC 3501) with TLS, each mail into a file of its own, whole or not at all.

A file is named after the mailbox and the mail's UIDVALIDITY and UID (RFC 3501 section 2.3.1.1), which name a
mail for ever: what is there already is not fetched again, and nothing that a stranger wrote becomes a file
name. The mailbox is opened for reading only, so that no mail counts as seen.
"""

from __future__ import annotations

import contextlib
import hashlib
import imaplib
import re
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Final

from tokensign.errors import NetworkError, UsageError
from tokensign.files import open_output

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tokensign.smime.transport.servers import Server

__all__ = ["MESSAGE_MAXIMUM", "Fetched", "Mailbox", "fetch_mails", "opened_mailbox"]

MESSAGE_MAXIMUM: Final = 1 << 31
"""Octets of a mail that are taken unless told otherwise: what the largest providers take is far below."""

_PIECE: Final = 1 << 20  # octets that are asked for at a time; a mail is never whole in memory
_TIMEOUT: Final = 120.0  # seconds for each answer
_SPACE_FOR_ENVELOPE: Final = 1 << 16  # octets of an answer beside the piece itself
_UID: Final = re.compile(rb"[1-9][0-9]{0,9}")
_SIZE: Final = re.compile(rb"RFC822\.SIZE ([0-9]{1,19})")


@dataclass(frozen=True, slots=True)
class Fetched:
    """A mail of a mailbox, and its file.

    Attributes:
        uid: Its UID.
        path: The file.
        size: Octets; None where it was not asked, because the file was there already.
        state: "fetched", "present" already, or "too large" to be taken.
    """

    uid: int
    path: Path
    size: int | None
    state: str


class Mailbox:
    """A mailbox that is open for reading.

    Args:
        imap: The connection, with the mailbox examined.
        uid_validity: Tells whether its UIDs still mean what they meant.
        prefix: What its files' names begin with.
    """

    def __init__(self, imap: imaplib.IMAP4, uid_validity: int, prefix: str) -> None:
        self._imap = imap
        self._name = f"{prefix}-{uid_validity}"

    def file_name(self, uid: int) -> str:
        """What the file of a mail is called."""
        return f"{self._name}-{uid}.eml"

    def uids(self, *, unseen: bool) -> list[int]:
        """The UIDs of its mails, oldest first."""
        found = _ok(self._imap.uid("SEARCH", "UNSEEN" if unseen else "ALL"))
        words = b" ".join(part for part in found if isinstance(part, bytes)).split()
        return sorted(int(word) for word in words if _UID.fullmatch(word))

    def size(self, uid: int) -> int:
        """Octets of a mail, as the server says."""
        answer = _ok(self._imap.uid("FETCH", str(uid), "(RFC822.SIZE)"))
        for part in answer:
            if isinstance(part, bytes) and (match := _SIZE.search(part)):
                return int(match[1])
        raise NetworkError(f"the server does not tell how large the mail {uid} is")

    def write(self, uid: int, output: BinaryIO, limit: int) -> int:
        """Write a mail as it is.

        Args:
            uid: Which one.
            output: Receives its octets.
            limit: Octets that are taken at the most, whatever `size` said.

        Returns:
            How many octets it has.

        Raises:
            NetworkError: It is gone, or larger.
        """
        offset = 0
        while True:
            answer = _ok(self._imap.uid("FETCH", str(uid), f"(BODY.PEEK[]<{offset}.{_PIECE}>)"))
            piece = next((part[1] for part in answer if isinstance(part, tuple)), None)
            if piece is None:
                if offset:  # some servers answer so at the end of a mail
                    return offset
                raise NetworkError(f"the mail {uid} is gone from the server")
            output.write(piece)
            offset += len(piece)
            if offset > limit:
                raise NetworkError(f"the mail {uid} is larger than the server said")
            if len(piece) < _PIECE:
                return offset


def fetch_mails(
    mailbox: Mailbox,
    folder: Path,
    *,
    unseen: bool = False,
    limit: int = MESSAGE_MAXIMUM,
) -> Iterator[Fetched]:
    """Fetch the mails of a mailbox that are not in a folder yet; each is told when it is there.

    Args:
        mailbox: The mailbox.
        folder: Where the files go.
        unseen: Only those that nobody has seen.
        limit: Octets of a mail at the most; larger ones stay on the server.

    Raises:
        NetworkError: The server goes away, or answers what cannot be.
        FileError: A file cannot be written.
    """
    with _network_errors():
        uids = mailbox.uids(unseen=unseen)
    for uid in uids:
        path = folder / mailbox.file_name(uid)
        if path.exists():
            yield Fetched(uid, path, None, "present")
            continue
        with _network_errors():
            size = mailbox.size(uid)
            if size <= limit:
                with open_output(path, mode=0o600) as output:
                    size = mailbox.write(uid, output, limit)
        yield Fetched(uid, path, size, "fetched" if size <= limit else "too large")


@contextlib.contextmanager
def opened_mailbox(
    server: Server, tls: ssl.SSLContext, password: Callable[[], bytes], name: str = "INBOX"
) -> Iterator[Mailbox]:
    """Log in to a server that was verified, and open a mailbox for reading only.

    Args:
        server: The server, with a user.
        tls: Verifies the server.
        password: Gives the password, when it is needed.
        name: The mailbox.

    Raises:
        UsageError: The server has no user, or the name cannot be one.
        NetworkError: The server cannot be reached or verified, refuses the login, or has no such mailbox.
    """
    if server.user is None:
        raise UsageError(f"nobody is named to log in at {server}", hint="write imaps://user@host")
    if not name.isascii() or not name.isprintable():
        raise UsageError(
            f"{name!r} is not the name of a mailbox", hint="write it in modified UTF-7 (RFC 3501)"
        )
    with _network_errors(server):
        imap = _Imap(server.host, server.port, ssl_context=tls, timeout=_TIMEOUT)
    with contextlib.ExitStack() as stack:
        stack.callback(_log_out, imap)
        with _network_errors(server):
            _log_in(imap, server, password)
            quoted = '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'
            status, _ = imap.select(quoted, readonly=True)
            if status != "OK":
                raise NetworkError(f"{server} has no mailbox {name!r} for {server.user}")
            told = imap.response("UIDVALIDITY")[1]
        validity = told[0] if told else None
        if not isinstance(validity, bytes) or not _UID.fullmatch(validity):
            raise NetworkError(f"{server} gives the mails of {name!r} no names that last (UIDVALIDITY)")
        place = f"{server}/{server.user}/{name}".encode()
        yield Mailbox(imap, int(validity), hashlib.sha256(place).hexdigest()[:8])


class _Imap(imaplib.IMAP4_SSL):
    """The standard library's client, with a limit for what a server sends at a time."""

    def read(self, size: int) -> bytes:
        if size > _PIECE + _SPACE_FOR_ENVELOPE:
            raise self.abort("the server sends more than was asked for")
        return super().read(size)


def _log_in(imap: imaplib.IMAP4, server: Server, password: Callable[[], bytes]) -> None:
    """AUTHENTICATE PLAIN (RFC 4616), which takes any octets, or else LOGIN."""
    user = (server.user or "").encode()
    secret = password()
    try:
        if "AUTH=PLAIN" in imap.capabilities:
            imap.authenticate("PLAIN", lambda _: b"\0" + user + b"\0" + secret)
        else:
            imap.login(user.decode(), secret.decode())
    except UnicodeError:
        raise NetworkError(
            f"{server} takes only passwords in UTF-8", hint="change the password, or use another server"
        ) from None
    except imaplib.IMAP4.abort:
        raise
    except imaplib.IMAP4.error:
        raise NetworkError(
            f"{server} refuses the login of {server.user}",
            hint="it was tried once; check the account and --password-source",
        ) from None  # what the server says may repeat what it was sent


def _log_out(imap: imaplib.IMAP4) -> None:
    with contextlib.suppress(OSError, imaplib.IMAP4.error):
        imap.logout()


def _ok(answer: tuple[str, list[object]]) -> list[object]:
    status, content = answer
    if status != "OK":
        raise NetworkError(f"the server answered {status} to a request for mail")
    return content


@contextlib.contextmanager
def _network_errors(server: Server | None = None) -> Iterator[None]:
    where = str(server) if server else "the server"
    try:
        yield
    except ssl.SSLCertVerificationError as error:
        raise NetworkError(
            f"{where} is not the server that it should be: {error.verify_message}",
            hint="name its CA with --trust, if it has one of its own",
        ) from error
    except (OSError, imaplib.IMAP4.error) as error:
        words = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise NetworkError(
            f"{where}: {words}", hint="try it again; what is there is not fetched twice"
        ) from error
