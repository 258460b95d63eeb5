"""The names of mail servers, and the TLS with which they are reached (RFC 8314)."""

from __future__ import annotations

import re
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urlsplit

from tokensign.errors import FileError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

__all__ = ["FETCH_SCHEMES", "SUBMISSION_SCHEMES", "Server", "parse_server", "verified_tls"]

SUBMISSION_SCHEMES: Final = {"smtps": 465, "smtp": 587}
"""TLS from the start (RFC 8314 section 3.3), or STARTTLS, which is then required (RFC 3207)."""
FETCH_SCHEMES: Final = {"imaps": 993}
"""TLS from the start (RFC 8314 section 3.2)."""

_HOST: Final = re.compile(r"[A-Za-z0-9._:-]+")


@dataclass(frozen=True, slots=True)
class Server:
    """Where a server is, and as whom one logs in there.

    Attributes:
        scheme: "smtps", "smtp" or "imaps".
        host: The name that its certificate must have.
        port: The TCP port.
        user: The name of the account, or None: no login.
    """

    scheme: str
    host: str
    port: int
    user: str | None = None

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"


def parse_server(text: str, schemes: Mapping[str, int]) -> Server:
    """Read the URL of a server, such as "smtps://alice%40acme.example@mail.acme.example".

    Args:
        text: The URL: scheme, account, host and port; the account may be percent-encoded.
        schemes: The schemes that are taken, each with its usual port.

    Raises:
        UsageError: It is none of them, or has a password in it.
    """
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise UsageError(f"{text!r} is not the URL of a server") from None
    if parts.password is not None:
        raise UsageError(
            "a password in the URL of a server is seen by everybody who sees the command, so it is refused",
            hint="use --password-source",
        )
    example = next(iter(schemes))
    if parts.scheme not in schemes or not parts.hostname or not _HOST.fullmatch(parts.hostname):
        raise UsageError(
            f"{text!r} is not the URL of a server for this",
            hint=f"write {example}://user@host or {example}://user@host:port",
        )
    if parts.path.strip("/") or parts.query or parts.fragment:
        raise UsageError(f"{text!r} has more than a server in it", hint=f"write {example}://user@host:port")
    user = unquote(parts.username) if parts.username else None
    return Server(parts.scheme, parts.hostname, port or schemes[parts.scheme], user)


def verified_tls(anchors: Sequence[Path] = ()) -> ssl.SSLContext:
    """TLS 1.2 or later that verifies the server's certificate and name.

    Args:
        anchors: Files with certificates of CAs, PEM; empty for the system's.

    Raises:
        FileError: A file cannot be read, or has no certificate in it.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # which verifies, and checks the name
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if not anchors:
        context.load_default_certs()
    for anchor in anchors:
        try:
            context.load_verify_locations(cafile=anchor)
        except OSError as error:  # ssl.SSLError is one
            raise FileError(
                f"no trust anchors can be read from {anchor}: {error.strerror or error}"
            ) from error
    return context
