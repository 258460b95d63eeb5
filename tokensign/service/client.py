"""The other end: keys of a signing service that are used like local ones.

A connection is kept for the next request. Each use of a key has an Idempotency-Key, so that a request whose
answer was lost is sent again without being done twice.
"""

from __future__ import annotations

import contextlib
import json
import re
import secrets
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, Final, Self
from urllib.parse import quote, urlsplit

import httpcore

from tokensign.errors import (
    ConfigurationError,
    ConflictError,
    DecryptionError,
    ForbiddenError,
    KeyNotFoundError,
    LaneBusyError,
    LaneDownError,
    NetworkError,
    RateError,
    TokensignError,
    UnauthenticatedError,
    UnsupportedError,
    UsageError,
)
from tokensign.files import chunks
from tokensign.service.remote_key import RemoteKey

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path
    from types import TracebackType

__all__ = ["ClientCredentials", "ServiceClient"]

_CONNECT_SECONDS: Final = 10.0
_ANSWER_SECONDS: Final = 120.0  # longer than a lane's deadline, and a document takes its time
_ANSWER_MAXIMUM: Final = 1 << 24  # octets of an answer in JSON
_OK: Final = 200
_BEARER: Final = re.compile(r"[\x21-\x7e]+")
_PATIENCE: Final = 5.0  # seconds after which a busy service is asked again, where it does not say


@dataclass(frozen=True, slots=True)
class ClientCredentials:
    """By what a service knows who asks.

    Attributes:
        certificate: A client certificate, PEM, or None.
        key: Its private key, PEM, or None.
        bearer: An API key or a token, or None; it is in no error.
        trust: The CAs of the service's certificate, PEM; None: those of the system.

    Raises:
        ConfigurationError: What is given as an API key or a token cannot be one.
    """

    certificate: Path | None = None
    key: Path | None = None
    bearer: str | None = None
    trust: Path | None = None

    def __post_init__(self) -> None:
        if self.bearer is not None and not _BEARER.fullmatch(
            self.bearer
        ):  # which HTTP would tell in its error
            raise ConfigurationError(
                "what is given as the API key or token of the service is none",
                hint="it is one line of ASCII without blanks, and without the word Bearer before it",
            )

    def __repr__(self) -> str:
        return f"<ClientCredentials {self.certificate or 'bearer'}>"


class ServiceClient:
    """A signing service. Close it, or use it in a `with` statement. Safe for threads.

    Args:
        url: Of the service: https://HOST:PORT.
        credentials: By what it knows who asks.

    Raises:
        UsageError: The URL is none of a service.
        ConfigurationError: A file of the credentials cannot be used.
    """

    def __init__(self, url: str, credentials: ClientCredentials) -> None:
        self.url = f"https://{_place(url)}"
        self._bearer = credentials.bearer
        self._pool = httpcore.ConnectionPool(ssl_context=_tls(credentials), retries=0)

    def close(self) -> None:
        """End the connections."""
        self._pool.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def keys(self) -> list[RemoteKey]:
        """The keys that the caller may use.

        Raises:
            NetworkError: The service gives no answer.
            AccessError: It does not let the caller.
        """
        try:
            answer = self._document("GET", "/v1/keys")
        except _LostError:
            answer = self._document("GET", "/v1/keys")
        try:
            return [RemoteKey(self, document) for document in answer["keys"]]
        except (KeyError, TypeError) as error:
            raise NetworkError(f"{self.url} answered with no list of keys") from error

    def key(self, name: str) -> RemoteKey:
        """The key with an id or, where that is unambiguous, a label.

        Raises:
            KeyNotFoundError: There is none that the caller may use, or several with that label.
            NetworkError, AccessError: As for `keys`.
        """
        found = self.keys()
        fitting = [key for key in found if key.id == name] or [
            key for key in found if key.id.partition("/")[2] == name or str(key.info.uri) == name
        ]
        if len(fitting) == 1:
            return fitting[0]
        known = ", ".join(key.id for key in (fitting or found)) or "none"
        what = "several keys are called" if fitting else "no key is called"
        raise KeyNotFoundError(f"{what} {name} at {self.url}", hint=f"you may use: {known}")

    def decrypt(self, key_id: str, message: BinaryIO, output: BinaryIO) -> Mapping[str, str]:
        """Let the service decrypt a message.

        Args:
            key_id: With which key.
            message: EnvelopedData or AuthEnvelopedData, DER or BER; it must be able to seek.
            output: Receives the content, as it comes.

        Returns:
            What is known of the content: the fields Tokensign-* of the answer, in small letters.

        Raises:
            DecryptionError: It cannot be decrypted with this key; every cause looks the same.
            NetworkError, AccessError, TokenError: The service does not do it.
        """
        path = f"/v1/keys/{quote(key_id)}/decryptions"
        start = message.tell()
        left = message.seek(0, 2) - start  # no content is larger than the message around it
        message.seek(start)
        with self._answer("POST", path, message, "application/cms") as response:
            for piece in response.iter_stream():
                left -= len(piece)
                if left < 0:
                    raise NetworkError(f"{self.url} answered with more than was in the message")
                output.write(piece)
            return {
                name.decode().lower(): value.decode("latin-1")
                for name, value in response.headers
                if name.lower().startswith(b"tokensign-")
            }

    def use(self, key_id: str, operation: str, document: object) -> Any:  # noqa: ANN401 - JSON
        """Ask for a use of a key; where the answer is lost, once more.

        Args:
            key_id: The key.
            operation: The last part of the path.
            document: What is sent.

        Raises:
            NetworkError: The service gives no answer, or none that can be understood.
            TokensignError: What the service tells.
        """
        path = f"/v1/keys/{quote(key_id)}/{operation}"
        body, once = json.dumps(document).encode(), secrets.token_hex(16)
        try:
            return self._document("POST", path, body, once)
        except _LostError:  # such as on a connection that was kept too long
            return self._document("POST", path, body, once)

    def _document(
        self, method: str, path: str, body: bytes | None = None, idempotency_key: str | None = None
    ) -> Any:  # noqa: ANN401 - JSON
        with self._answer(method, path, body, "application/json", idempotency_key) as response:
            return _parsed(self.url, response)

    @contextlib.contextmanager
    def _answer(
        self,
        method: str,
        path: str,
        body: bytes | BinaryIO | None,
        media_type: str,
        idempotency_key: str | None = None,
    ) -> Iterator[httpcore.Response]:
        headers = {"Host": urlsplit(self.url).netloc, "Accept": "*/*"}
        content: Any = body
        if body is not None:
            headers["Content-Type"] = media_type
        if body is not None and not isinstance(body, bytes):
            start = body.tell()
            headers["Content-Length"] = str(body.seek(0, 2) - start)
            body.seek(start)
            content = chunks(body)
        if self._bearer is not None:
            headers["Authorization"] = f"Bearer {self._bearer}"
        if idempotency_key is not None:
            headers["Idempotency-Key"] = idempotency_key
        try:
            with self._pool.stream(
                method, self.url + path, headers=list(headers.items()), content=content, extensions=_TIMEOUTS
            ) as response:
                if response.status != _OK:
                    raise _error(self.url, response.status, _parsed(self.url, response))
                yield response
        except (httpcore.ReadError, httpcore.WriteError, httpcore.RemoteProtocolError) as error:
            raise _LostError(f"{self.url} ended the connection") from error
        except httpcore.TimeoutException as error:
            raise NetworkError(f"{self.url} gave no answer in time") from error
        except (httpcore.NetworkError, httpcore.ProtocolError, OSError) as error:
            cause = error.__cause__ or error
            raise NetworkError(
                f"cannot ask {self.url}: {cause}",
                hint="see whether it runs, and whether its certificate is from a CA that you trust",
            ) from error


class _LostError(NetworkError):
    """The connection ended before the answer; the request may have been done."""


_TIMEOUTS: Final = {
    "timeout": {
        "connect": _CONNECT_SECONDS,
        "read": _ANSWER_SECONDS,
        "write": _ANSWER_SECONDS,
        "pool": _ANSWER_SECONDS,
    }
}


def _place(url: str) -> str:
    """HOST:PORT of a service.

    Raises:
        UsageError: The URL is none of a service.
    """
    with contextlib.suppress(ValueError):  # of a port that is none
        parts = urlsplit(url)
        extra = (parts.path.strip("/"), parts.query, parts.fragment, parts.username, parts.password)
        if parts.scheme == "https" and parts.hostname and parts.port != 0 and not any(extra):
            return parts.netloc
    raise UsageError(f"{url} is no service", hint="write https://HOST:PORT")


def _tls(credentials: ClientCredentials) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=credentials.trust)
        if credentials.certificate is not None:
            context.load_cert_chain(credentials.certificate, credentials.key, password=_no_password)
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(
            f"the certificates for the service cannot be used: {getattr(error, 'strerror', None) or error}",
            hint="they are PEM, and the key is without a password",
        ) from error
    return context


def _no_password() -> str:
    raise ssl.SSLError("the key is encrypted")


def _parsed(url: str, response: httpcore.Response) -> Any:  # noqa: ANN401 - JSON
    found = bytearray()
    for piece in response.iter_stream():
        found += piece
        if len(found) > _ANSWER_MAXIMUM:
            raise NetworkError(
                f"the answer of {url} is larger than the {_ANSWER_MAXIMUM} octets that are taken"
            )
    try:
        return json.loads(found)
    except (ValueError, RecursionError):
        if response.status == _OK:
            raise NetworkError(f"{url} answered with something else than JSON") from None
        return {}


def _error(url: str, status: int, document: Any) -> TokensignError:  # noqa: ANN401 - JSON
    """The error that a problem is (RFC 9457)."""
    if not isinstance(document, dict) or "type" not in document:
        return NetworkError(f"{url} answered with status {status}")
    kind = str(document["type"]).rpartition(":")[2]
    detail = document.get("detail") or document.get("title") or "it gives no reason"
    request_id = document.get("request_id")
    hint = f"its log has more about the request {request_id}" if request_id else None
    return _KINDS.get(kind, NetworkError)(f"{url}: {detail}", hint=hint)  # type: ignore[no-any-return]


def _rate_error(message: str, hint: str | None = None) -> RateError:
    return RateError(message, retry_after=_PATIENCE, hint=hint)


_KINDS: Final[dict[str, Any]] = {
    "unauthenticated": UnauthenticatedError,
    "forbidden": ForbiddenError,
    "not-found": KeyNotFoundError,
    "still-running": ConflictError,
    "invalid": UsageError,
    "unsupported": UnsupportedError,
    "not-decrypted": DecryptionError,
    "rate": _rate_error,
    "busy": LaneBusyError,
    "token-down": LaneDownError,
}
