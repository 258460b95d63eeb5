"""Where the gateway listens and where mail goes next: addresses, and the connection to the next hop."""

from __future__ import annotations

import contextlib
import ipaddress
import re
import smtplib
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from tokensign.errors import FileError, NetworkError, UsageError
from tokensign.smime.transport.servers import verified_tls

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["Address", "Hop", "connect", "listening", "parse_address", "parse_hop"]

_TIMEOUT: Final = 120.0  # seconds for the next hop's answer to a command
_BACKLOG: Final = 64  # connections that wait to be accepted
_SOCKET_MODE: Final = 0o660  # of a socket in a folder: the mail server reaches it by its group
_HOST_AND_PORT: Final = re.compile(
    r"(?:\[(?P<literal>[0-9A-Fa-f:.]+)\]|(?P<host>[A-Za-z0-9.-]+)):(?P<port>\d+)"
)


@dataclass(frozen=True, slots=True)
class Address:
    """A TCP port, or a socket in a folder.

    Attributes:
        host: A name or an IP address; for a socket in a folder its path.
        port: The port, or None for a socket in a folder.
    """

    host: str
    port: int | None

    def __str__(self) -> str:
        if self.port is None:
            return f"unix:{self.host}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def local(self) -> bool:
        """Whether no other machine can be at the other end."""
        return self.port is None or self.host == "localhost" or _is_loopback(self.host)


@dataclass(frozen=True, slots=True)
class Hop:
    """Where mail goes next.

    Attributes:
        protocol: "smtp" or "lmtp".
        address: Where.
    """

    protocol: Literal["smtp", "lmtp"]
    address: Address

    def __str__(self) -> str:
        return f"{self.protocol}:{self.address}"


def parse_address(text: str) -> Address:
    """Read "127.0.0.1:10025", "[::1]:10025" or "unix:/run/tokensign/gateway".

    Raises:
        UsageError: It is none of them.
    """
    if text.startswith("unix:/"):
        return Address(text.removeprefix("unix:"), None)
    match = _HOST_AND_PORT.fullmatch(text)
    if match is None or not 0 < int(match["port"]) < 1 << 16:
        raise UsageError(f"{text!r} is no address", hint="write HOST:PORT or unix:/PATH")
    return Address(match["literal"] or match["host"], int(match["port"]))


def parse_hop(text: str) -> Hop:
    """Read "smtp:127.0.0.1:10026" or "lmtp:unix:/run/dovecot/lmtp"; without a protocol it is SMTP.

    Raises:
        UsageError: It is no address.
    """
    if text.startswith("lmtp:"):
        return Hop("lmtp", parse_address(text.removeprefix("lmtp:")))
    hop = Hop("smtp", parse_address(text.removeprefix("smtp:")))
    if hop.address.port is None:
        raise UsageError("SMTP needs a host and a port", hint="write HOST:PORT, or lmtp:unix:/PATH")
    return hop


def listening(address: Address) -> socket.socket:
    """A socket that listens where no other machine reaches it.

    Raises:
        UsageError: Other machines could reach it: whoever connects has mail signed.
        FileError: It cannot listen there.
    """
    if not address.local:
        raise UsageError(
            f"the gateway does not listen at {address}, because whoever connects there has mail signed",
            hint="use 127.0.0.1, [::1] or unix:/PATH, on the machine of the mail server",
        )
    try:
        if address.port is None:
            return _listening_in_folder(Path(address.host))
        family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
        return socket.create_server((address.host, address.port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise FileError(f"the gateway cannot listen at {address}: {error.strerror or error}") from error


@contextlib.contextmanager
def connect(hop: Hop, trust: Sequence[Path] = ()) -> Iterator[smtplib.SMTP]:
    """A connection to the next hop that has said EHLO or LHLO; on another machine, with verified TLS.

    Args:
        hop: The next hop.
        trust: The CAs of another machine; empty for the system's.

    Raises:
        NetworkError: The machine offers no TLS.
        OSError, smtplib.SMTPException: It cannot be reached or verified, or goes away.
    """
    name = socket.gethostname()
    host, port = hop.address.host, hop.address.port or 0
    smtp: smtplib.SMTP
    if hop.protocol == "lmtp":
        smtp = smtplib.LMTP(host, port, name, timeout=_TIMEOUT)
    else:
        smtp = smtplib.SMTP(host, port, name, timeout=_TIMEOUT)
    try:
        _greet(smtp)
        if not hop.address.local:
            if not smtp.has_extn("starttls"):
                raise NetworkError(f"the next hop {hop} offers no TLS, and is on another machine")
            smtp.starttls(context=verified_tls(trust))
            _greet(smtp)
        yield smtp
        with contextlib.suppress(OSError, smtplib.SMTPException):
            if smtp.sock is not None:
                smtp.sock.settimeout(1.0)  # the mail is there already
            smtp.docmd("QUIT")
    finally:
        smtp.close()


def _greet(smtp: smtplib.SMTP) -> None:
    """EHLO or LHLO; a server that is not ready tells nothing of what it can take, so no mail is held to that.

    Raises:
        smtplib.SMTPHeloError: The server says no.
    """
    code, text = smtp.ehlo()
    if code != 250:  # noqa: PLR2004 - RFC 5321 section 4.1.1.1
        raise smtplib.SMTPHeloError(code, text)


def _listening_in_folder(path: Path) -> socket.socket:
    """A socket in a folder, in place of one that a killed gateway left behind."""
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except FileNotFoundError:
            pass
        except ConnectionRefusedError:
            path.unlink()
        else:
            raise UsageError(f"a gateway listens at {path} already")
    listener = socket.socket(socket.AF_UNIX)
    try:
        listener.bind(str(path))
        path.chmod(_SOCKET_MODE)
        listener.listen(_BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
