"""One connection of a mail server that delivers to the gateway by LMTP (RFC 2033, RFC 5321)."""

from __future__ import annotations

import hashlib
import re
import socket
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, BinaryIO, Final

from tokensign.files import spool
from tokensign.smime.transport.smtp_client import Envelope, Reply

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["SIZE_MAXIMUM", "Session"]

SIZE_MAXIMUM: Final = 100 << 20
"""Octets of a mail unless configured: ten times what Postfix takes by default."""

RECIPIENTS_MAXIMUM: Final = 100
"""Recipients of a mail at a time (RFC 5321 section 4.5.3.1.8); the others get it in another transaction."""

TIMEOUT: Final = 300.0
"""Seconds for the next command or piece of content (RFC 5321 section 4.5.3.2.7)."""

_COMMAND_MAXIMUM: Final = 2048  # octets of a command; RFC 5321 has 512, and extensions add to that
_ADDRESS_MAXIMUM: Final = 320  # octets: 64 and 255, and what is between (RFC 5321 section 4.5.3.1)
_MISTAKES_MAXIMUM: Final = 20  # commands that are refused until the connection is closed
_LINE_PIECE: Final = 1 << 16  # octets of the content that are read at a time
_PATH: Final = re.compile(
    r"(?P<verb>FROM|TO):[ ]*<(?:@[^:<>]*:)?"
    r"(?P<address>(?:\"(?:[^\"\\]|\\.)*\")?[^<>\"\s]*)>(?P<parameters>.*)",
    re.IGNORECASE,
)
_SIZE: Final = re.compile(r" SIZE=([0-9]{1,19})(?: |$)", re.IGNORECASE)
_KNOWN_PARAMETERS: Final = re.compile(r"( (SIZE=[0-9]+|BODY=(7BIT|8BITMIME)|SMTPUTF8))*", re.IGNORECASE)
_SMTPUTF8: Final = re.compile(r" SMTPUTF8(?: |$)", re.IGNORECASE)


@dataclass(slots=True)
class _Transaction:
    """A mail that is announced.

    Attributes:
        sender: Where bounces go.
        smtputf8: Whether the mail is announced as one that needs it (RFC 6531).
        recipients: In the order in which they were named; each has an answer in the end, one named twice two.
    """

    sender: str
    smtputf8: bool
    recipients: list[str] = field(default_factory=list)


class Session:
    """A conversation with a mail server.

    Args:
        connection: The socket, which stays the caller's to close.
        deliver: What takes a mail: its envelope, its content from the start, and the SHA-256 of that. It
            gives an answer for each recipient.
        stopping: Whether the gateway is about to end, so that no further mail is begun.
        size_maximum: Octets of a mail at the most.
    """

    def __init__(
        self,
        connection: socket.socket,
        deliver: Callable[[Envelope, BinaryIO, bytes], dict[str, Reply]],
        stopping: Callable[[], bool],
        size_maximum: int = SIZE_MAXIMUM,
    ) -> None:
        connection.settimeout(TIMEOUT)
        self._connection = connection
        self._input = connection.makefile("rb")
        self._deliver = deliver
        self._stopping = stopping
        self._size_maximum = size_maximum
        self._greeted = False
        self._mistakes = 0
        self._mail: _Transaction | None = None

    def run(self) -> None:
        """Answer commands until the other side has enough.

        Raises:
            OSError: The other side is gone or too slow.
        """
        name = socket.gethostname()
        self._say(220, f"{name} LMTP tokensign")
        with self._input:
            while self._mistakes < _MISTAKES_MAXIMUM:
                line = self._input.readline(_COMMAND_MAXIMUM)
                if not line:
                    return
                if self._stopping() and self._mail is None:
                    self._say(421, "4.3.2 the gateway is about to end")
                    return
                if not line.endswith(b"\n"):
                    self._say(500, "5.5.2 the command is too long")
                    return
                try:
                    verb, _, rest = line.decode("utf-8").rstrip("\r\n").partition(" ")
                except UnicodeDecodeError:
                    self._refuse(500, "5.5.2 the command is not UTF-8")
                    continue
                if verb.upper() == "QUIT":
                    self._say(221, "2.0.0 bye")
                    return
                self._command(verb.upper(), rest)

    def _command(self, verb: str, rest: str) -> None:
        match verb:
            case "LHLO":
                self._greeted = bool(rest)
                self._mail = None
                extensions = ("PIPELINING", f"SIZE {self._size_maximum}", "8BITMIME", "SMTPUTF8")
                self._say_all(250, [socket.gethostname(), *extensions, "ENHANCEDSTATUSCODES"])
            case "NOOP":
                self._say(250, "2.0.0 ok")
            case "RSET":
                self._mail = None
                self._say(250, "2.0.0 ok")
            case "VRFY":
                self._say(252, "2.5.0 send it, and see")
            case "HELO" | "EHLO":
                self._refuse(500, "5.5.1 this is LMTP: say LHLO")
            case "MAIL" if self._greeted and self._mail is None:
                self._begin(rest)
            case "RCPT" if self._mail is not None:
                self._recipient(self._mail, rest)
            case "DATA" if self._mail is not None and self._mail.recipients:
                self._data(self._mail)
            case "MAIL" | "RCPT" | "DATA":
                self._refuse(503, "5.5.1 not now")
            case _:
                self._refuse(500, "5.5.1 unknown command")

    def _begin(self, rest: str) -> None:
        match = _PATH.fullmatch(rest)
        if match is None or match["verb"].upper() != "FROM":
            self._refuse(501, "5.5.4 MAIL FROM:<address>")
            return
        if not _KNOWN_PARAMETERS.fullmatch(match["parameters"].rstrip()):
            self._refuse(555, "5.5.4 unknown parameter")
            return
        announced = _SIZE.search(match["parameters"])
        if announced and int(announced[1]) > self._size_maximum:
            self._say(552, f"5.3.4 the mail is larger than {self._size_maximum} bytes")
            return
        if len(match["address"].encode()) > _ADDRESS_MAXIMUM:
            self._refuse(501, "5.1.7 the address is too long")
            return
        self._mail = _Transaction(match["address"], _SMTPUTF8.search(match["parameters"]) is not None)
        self._say(250, "2.1.0 ok")

    def _recipient(self, mail: _Transaction, rest: str) -> None:
        match = _PATH.fullmatch(rest)
        if match is None or match["verb"].upper() != "TO" or not match["address"]:
            self._refuse(501, "5.5.4 RCPT TO:<address>")
        elif len(match["address"].encode()) > _ADDRESS_MAXIMUM:
            self._refuse(501, "5.1.3 the address is too long")
        elif match["parameters"].strip():
            self._refuse(555, "5.5.4 unknown parameter")
        elif len(mail.recipients) >= RECIPIENTS_MAXIMUM:
            self._say(452, "4.5.3 send the mail to the others by itself")
        else:
            mail.recipients.append(match["address"])
            self._say(250, "2.1.5 ok")

    def _data(self, mail: _Transaction) -> None:
        self._mail = None
        self._say(354, "end with a dot")
        with spool() as content:
            digest, problem = self._receive(content)
            if problem is not None:
                replies = dict.fromkeys(mail.recipients, problem)
            else:
                content.seek(0)
                envelope = Envelope(mail.sender, tuple(dict.fromkeys(mail.recipients)), mail.smtputf8)
                replies = self._deliver(envelope, content, digest)
        for recipient in mail.recipients:
            reply = replies[recipient]
            self._say(reply.code, reply.line)

    def _receive(self, content: BinaryIO) -> tuple[bytes, Reply | None]:
        """Read the content up to its end, the line with a dot (RFC 5321 section 4.5.2).

        Only CR LF ends a line: whoever takes other ends reads the end of the mail elsewhere, and a second
        mail behind it, which is how mail is smuggled.

        Returns:
            The SHA-256 of the content, and why it is refused, or None.

        Raises:
            ConnectionError: The connection ends before the content does.
        """
        digest = hashlib.sha256()
        size = 0
        problem: Reply | None = None
        at_start, last = True, b""
        while True:
            line = self._input.readline(_LINE_PIECE)
            if not line:
                raise ConnectionResetError("the connection ended within a mail")
            if at_start and line == b".\r\n":
                return digest.digest(), problem
            if at_start and line.startswith(b"."):
                line = line[1:]
            at_start = line.endswith(b"\r\n")
            if line == b"\n" and last == b"\r":  # the end of a long line, cut by the size of a piece
                at_start = True
            elif line.endswith(b"\n") and not at_start:
                problem = Reply(554, "5.6.0 a line of the mail does not end with CR LF")
            last = line[-1:]
            size += len(line)
            if size > self._size_maximum:
                problem = Reply(552, f"5.3.4 the mail is larger than {self._size_maximum} bytes")
            if problem is None:
                content.write(line)
                digest.update(line)

    def _refuse(self, code: int, text: str) -> None:
        self._mistakes += 1
        self._say(code, text)

    def _say(self, code: int, text: str) -> None:
        self._say_all(code, [text])

    def _say_all(self, code: int, texts: list[str]) -> None:
        """An answer of one line or several."""
        last = len(texts) - 1
        self._connection.sendall(
            b"".join(
                f"{code}{' ' if index == last else '-'}{text}\r\n".encode("ascii")
                for index, text in enumerate(texts)
            )
        )
