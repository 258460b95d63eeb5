"""The one way to ask a server for something: OCSP, CRLs, issuers' certificates, timestamps.

Certificates and messages of strangers say which URL to ask. So that they cannot make this machine hang, fill
its memory, or talk to what only it can reach:

- a request ends after `Limits.seconds`, all redirects included, however slowly a server dribbles;
- an answer has at most `Limits.octets`, and is taken as it is: compressed ones are refused;
- only http and https are spoken, and redirects are counted;
- a host name is resolved once, its addresses are judged, and the connection goes to one that was judged.
  Addresses that are not public (loopback, private, link-local, multicast) are refused unless
  `Limits.private_networks` has them. Each redirect is judged anew.

Proxies of the environment are not used: behind one, nobody could tell which address is reached. What comes
back is not to be believed by itself: whoever asked checks its signature.
"""

from __future__ import annotations

import ipaddress
import socket
import ssl
import threading
import time
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Final, Protocol
from urllib.parse import urljoin, urlsplit

import httpcore

from tokensign.errors import NetworkError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from urllib.parse import SplitResult

__all__ = ["EVERYWHERE", "Fetch", "HttpClient", "Limits", "fetch"]

_Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address

EVERYWHERE: Final[tuple[_Network, ...]] = (ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0"))
"""For `Limits.private_networks`: private addresses are as good as public ones."""

_URL_MAXIMUM: Final = 2048  # characters; servers take hardly more
_PORTS: Final = {"http": 80, "https": 443}
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})  # RFC 9110 section 15.4
_SAME_METHOD: Final = frozenset({307, 308})  # only these repeat a request with its body
_NAT64: Final = ipaddress.ip_network("64:ff9b::/96")  # RFC 6052: the last four octets are the IPv4 address


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a request may cost, and where it may go.

    Attributes:
        seconds: For all of it, from the resolution of the name to the last octet of the answer.
        octets: Of the answer. 16 MiB: the largest CRLs in use have some.
        redirects: That are followed.
        private_networks: Networks with addresses that are not public and may be asked all the same.
    """

    seconds: float = 10.0
    octets: int = 1 << 24
    redirects: int = 3
    private_networks: tuple[_Network, ...] = ()


class Fetch(Protocol):
    """Asks a server for something, as `HttpClient` does."""

    def __call__(
        self,
        url: str,
        *,
        body: bytes | None = None,
        content_type: str | None = None,
        seconds: float | None = None,
    ) -> bytes:
        """The body of the answer.

        Args:
            url: Where to ask.
            body: What to POST; None: GET.
            content_type: The media type of `body`.
            seconds: For all of it, if that is less than the limit.

        Raises:
            NetworkError: There is none.
        """
        ...


@dataclass(frozen=True, slots=True)
class HttpClient:
    """`fetch` with limits of its own; may be used from any thread.

    Attributes:
        limits: What each request may cost.
    """

    limits: Limits = Limits()

    def __call__(
        self,
        url: str,
        *,
        body: bytes | None = None,
        content_type: str | None = None,
        seconds: float | None = None,
    ) -> bytes:
        """As `fetch`, and at most for some seconds."""
        return fetch(url, body=body, content_type=content_type, limits=self.limits, seconds=seconds)


def fetch(
    url: str,
    *,
    body: bytes | None = None,
    content_type: str | None = None,
    limits: Limits | None = None,
    seconds: float | None = None,
) -> bytes:
    """Ask a server and return the body of its answer. The media type of the answer is not looked at.

    Args:
        url: Where to ask: http or https.
        body: What to POST; None: GET.
        content_type: The media type of `body`.
        limits: What the request may cost; None: the default of `Limits`.
        seconds: For all of it, if that is less than the limit.

    Raises:
        NetworkError: The answer is late, too large, not 200, or there is none; or the address is not public.
    """
    limits = limits or Limits()
    allowed = min(limits.seconds, limits.seconds if seconds is None else seconds)
    deadline = _Deadline(time.monotonic() + allowed, allowed)
    at = url
    for _ in range(limits.redirects + 1):
        try:
            answer = _request(at, body, content_type, limits, deadline)
        except (httpcore.TimeoutException, TimeoutError) as error:
            raise NetworkError(f"{at} gave no answer within {allowed:g} seconds") from error
        except (httpcore.NetworkError, httpcore.ProtocolError, OSError, ValueError) as error:
            raise NetworkError(f"cannot ask {at}: {_reason(error)}") from error
        if isinstance(answer, bytes):
            return answer
        at = urljoin(at, answer.location)
    raise NetworkError(f"{url} was redirected more than {limits.redirects} times")


@dataclass(frozen=True, slots=True)
class _Redirect:
    location: str


@dataclass(frozen=True, slots=True)
class _Deadline:
    """When everything has to be done, by the monotonic clock."""

    at: float
    seconds: float

    def left(self) -> float:
        """Seconds that are left.

        Raises:
            TimeoutError: None.
        """
        left = self.at - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left


def _request(
    url: str, body: bytes | None, content_type: str | None, limits: Limits, deadline: _Deadline
) -> bytes | _Redirect:
    parts = _parse(url)
    headers: dict[bytes | str, bytes | str] = {
        "User-Agent": "tokensign",
        "Accept-Encoding": "identity",
        "Connection": "close",
    }
    if body is not None:
        headers["Content-Type"] = content_type or "application/octet-stream"
    target = parts._replace(scheme="", netloc="", fragment="", path=parts.path or "/").geturl()
    backend = _JudgingBackend(limits, deadline)
    tls = _tls() if parts.scheme == "https" else None
    with (
        httpcore.ConnectionPool(ssl_context=tls, network_backend=backend, max_connections=1) as pool,
        pool.stream(
            "GET" if body is None else "POST",
            httpcore.URL(scheme=parts.scheme, host=parts.hostname or "", port=_port(parts), target=target),
            headers=headers,
            content=body,
        ) as response,
    ):
        fields = {name.lower(): value.decode("latin-1") for name, value in response.headers}
        if response.status in _REDIRECTS and b"location" in fields:
            if body is not None and response.status not in _SAME_METHOD:
                raise NetworkError(f"{url} redirects a request that it should answer ({response.status})")
            return _Redirect(fields[b"location"])
        if response.status != 200:  # noqa: PLR2004 - OK, the one status with the answer in it
            raise NetworkError(f"{url} answered with status {response.status}")
        if fields.get(b"content-encoding", "identity") != "identity":
            raise NetworkError(f"{url} answered in an encoding that was not asked for")
        return _body(url, response.iter_stream(), limits.octets)


def _body(url: str, pieces: Iterable[bytes], maximum: int) -> bytes:
    found = bytearray()
    for piece in pieces:
        found += piece
        if len(found) > maximum:
            raise NetworkError(f"the answer of {url} is larger than the {maximum} octets that are taken")
    return bytes(found)


def _parse(url: str) -> SplitResult:
    shown = url if url.isprintable() and len(url) <= _URL_MAXIMUM else "a URL that no server can have"
    if shown != url or not url.isascii() or " " in url:
        raise NetworkError(f"{shown!r} is not asked")
    parts = urlsplit(url)
    if parts.scheme not in _PORTS:
        raise NetworkError(
            f"{url} is not asked: only http and https are spoken, not {parts.scheme or 'nothing'!r}",
            hint="get it with another program, and give the file",
        )
    if not parts.hostname or parts.username is not None:
        raise NetworkError(f"{url} is not asked: it names no host, or a user")
    return parts


def _port(parts: SplitResult) -> int:
    return parts.port or _PORTS[parts.scheme]


@cache
def _tls() -> ssl.SSLContext:
    """Trusts the CAs of the system; what is fetched is signed besides."""
    return ssl.create_default_context()


class _JudgingBackend(httpcore.NetworkBackend):
    """Connects to addresses that may be asked, and gives every step the time that is left."""

    def __init__(self, limits: Limits, deadline: _Deadline) -> None:
        self._limits = limits
        self._deadline = deadline
        self._sockets = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ARG002 - the deadline is what counts
        local_address: str | None = None,
        socket_options: Any = None,  # noqa: ANN401 - httpcore's type for it is passed on
    ) -> httpcore.NetworkStream:
        addresses = _resolve(host, port, self._deadline.left())
        for address in addresses:
            if not _is_allowed(address, self._limits.private_networks):
                raise NetworkError(
                    f"{host} is not asked: its address {address} is not public",
                    hint="allow its network with allow-private in the configuration, if you trust"
                    " those who can name it",
                )
        failure: Exception = OSError("it has no address")
        for address in addresses:
            try:
                stream = self._sockets.connect_tcp(
                    str(address), port, self._deadline.left(), local_address, socket_options
                )
            except httpcore.ConnectError as error:
                failure = error
            else:
                return _TimedStream(stream, self._deadline)
        raise failure


class _TimedStream(httpcore.NetworkStream):
    """A connection each of whose steps gets the time that is left."""

    def __init__(self, stream: httpcore.NetworkStream, deadline: _Deadline) -> None:
        self._stream = stream
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002 - as above
        return self._stream.read(max_bytes, self._deadline.left())

    def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ARG002 - as above
        self._stream.write(buffer, self._deadline.left())

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ARG002 - as above
    ) -> httpcore.NetworkStream:
        stream = self._stream.start_tls(ssl_context, server_hostname, self._deadline.left())
        return _TimedStream(stream, self._deadline)

    def get_extra_info(self, info: str) -> Any:  # noqa: ANN401 - the inherited signature
        return self._stream.get_extra_info(info)


def _resolve(host: str, port: int, seconds: float) -> list[_Address]:
    """The addresses of a host, in the resolver's order.

    The system's resolver has no limit of time that a caller could set, so a thread waits for it that is left
    behind when it is late.
    """
    found: list[_Address] = []
    failures: list[OSError] = []

    def ask() -> None:
        try:
            for *_, place in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
                found.append(ipaddress.ip_address(str(place[0])))
        except OSError as error:
            failures.append(error)
        except ValueError as error:  # a name that cannot be one, or an address with a zone
            failures.append(OSError(str(error)))

    asking = threading.Thread(target=ask, name="resolver", daemon=True)
    asking.start()
    asking.join(seconds)
    if asking.is_alive():
        raise TimeoutError
    if failures:
        raise failures[0]
    return list(dict.fromkeys(found))


def _is_allowed(address: _Address, private: tuple[_Network, ...]) -> bool:
    inner = _inner(address)
    if inner is not None:
        return _is_allowed(inner, private)
    is_public = address.is_global and not address.is_multicast
    return is_public or any(address in network for network in private)


def _inner(address: _Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address that an IPv6 address leads to, where it is one that does."""
    if isinstance(address, ipaddress.IPv4Address):
        return None
    if address in _NAT64:
        return ipaddress.IPv4Address(address.packed[-4:])
    return address.ipv4_mapped or address.sixtofour


def _reason(error: Exception) -> str:
    cause = error.__cause__ or error
    return getattr(cause, "strerror", None) or str(error) or type(error).__name__
