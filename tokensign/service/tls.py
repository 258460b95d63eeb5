"""TLS as the service speaks it with clients.

A client need not have a certificate, because some have tokens or API keys; one that it shows must be issued
by the configured CAs, or the handshake fails. There are no tickets. A client with TLS 1.2 may resume a
session of this process, with the certificate that it had; whether that has ended or was revoked is asked
with each request (`tokensign.service.client_certificates`).
"""

from __future__ import annotations

import contextlib
import logging
import ssl
from typing import TYPE_CHECKING, Final

from tokensign.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tokensign.service.settings import TlsSettings

__all__ = ["ServerTls"]

_log: Final = logging.getLogger(__name__)


class ServerTls:
    """The certificate of the service, and the CAs of its clients.

    Args:
        settings: In which files they are.

    Attributes:
        context: What connections are made with.

    Raises:
        ConfigurationError: A file cannot be used.
    """

    def __init__(self, settings: TlsSettings) -> None:
        self._settings = settings
        self.context = _context(settings)

    def reload(self) -> None:
        """Read the certificate and its key again, for connections from now on; bad ones are not taken."""
        try:
            _context(self._settings)  # or a key that does not fit would stay in the context that is used
            _load_certificate(self.context, self._settings)
        except ConfigurationError as error:
            _log.error("the certificate of the service stays as it was: %s", error)


def _context(settings: TlsSettings) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_RENEGOTIATION
    context.num_tickets = 0
    context.set_alpn_protocols(["http/1.1"])
    _load_certificate(context, settings)
    if settings.client_ca is not None:
        context.verify_mode = ssl.CERT_OPTIONAL
        with _naming("client-ca", settings.client_ca):
            context.load_verify_locations(settings.client_ca)
    return context


def _load_certificate(context: ssl.SSLContext, settings: TlsSettings) -> None:
    with _naming("certificate", settings.certificate):  # OpenSSL does not tell which of both it means
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(settings.certificate)
    with _naming("key", settings.key):
        context.load_cert_chain(settings.certificate, settings.key, password=_no_password)


@contextlib.contextmanager
def _naming(setting: str, file: object) -> Iterator[None]:
    try:
        yield
    except OSError as error:  # ssl.SSLError is one
        raise ConfigurationError(
            f"service.tls.{setting} {file} cannot be used: {_reason(error)}",
            hint="it is PEM; the key is without a password, and that of the certificate",
        ) from error


def _reason(error: OSError) -> str:
    reason = getattr(error, "reason", None)  # OpenSSL's, such as NO_CERTIFICATE_OR_CRL_FOUND
    if reason == "KEY_VALUES_MISMATCH":
        return "it is not that of the certificate"
    return reason.replace("_", " ").lower() if reason else error.strerror or str(error)


def _no_password() -> str:
    """Asked for by an encrypted key; otherwise OpenSSL would ask at the terminal."""
    raise ssl.SSLError("the key is encrypted")
