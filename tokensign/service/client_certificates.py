"""Principals by their client certificates: a URI in subjectAltName, or the key. Never the common name.

The TLS library has validated the path to a CA of clients when the connection was made. A connection may be
older than the end of a certificate or its revocation, so both are looked at again for each request.
"""

from __future__ import annotations

import hashlib
import logging
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tokensign.errors import FileError, MalformedError, UnauthenticatedError
from tokensign.files import read_small

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tokensign.service.permissions import Snapshot

__all__ = ["ClientCertificates", "certificate_principal", "spki_hash"]

_REMEMBERED: Final = 1024  # certificates that were read; each is read once in the life of its connections
_LOOK_SECONDS: Final = 10.0  # between two looks whether a file with CRLs has changed

_log: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Facts:
    """What counts of a certificate."""

    uris: tuple[str, ...]
    spki: str
    issuer: bytes
    serial_number: int
    not_before: datetime
    not_after: datetime


def spki_hash(certificate: x509.Certificate) -> str:
    """SHA-256 of the SubjectPublicKeyInfo in hexadecimal; it stays when the certificate is renewed."""
    encoded = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(encoded).hexdigest()


def certificate_principal(certificate: bytes, snapshot: Snapshot) -> str:
    """Whose certificate it is.

    Args:
        certificate: DER.
        snapshot: Who is known.

    Raises:
        UnauthenticatedError: Nobody is known by it, or several are; or it is not valid now.
    """
    facts = _facts(certificate)
    if not facts.not_before <= datetime.now(UTC) < facts.not_after:
        raise UnauthenticatedError("the client certificate is not valid now")
    names = [("uri", uri) for uri in facts.uris] + [("spki", facts.spki)]
    known = {snapshot.identities[name] for name in names if name in snapshot.identities}
    if len(known) != 1:
        raise UnauthenticatedError(
            "the client certificate is that of several principals"
            if known
            else f"nobody is known by the client certificate with the key {facts.spki}",
            hint="`tokensign grant identify` tells whose it is",
        )
    return known.pop()


class ClientCertificates:
    """Which client certificates were revoked, by CRLs in files, which are read again when they change.

    Args:
        authorities: A file with the certificates of the CAs of clients, PEM.
        revocation_lists: Files with CRLs, PEM or DER. With any, each certificate must be covered by one that
            its CA signed and that has not ended.

    Raises:
        FileError, MalformedError: A file cannot be read.
    """

    def __init__(self, authorities: Path, revocation_lists: Sequence[Path] = ()) -> None:
        self._authorities = x509.load_pem_x509_certificates(read_small(authorities))
        self._files = tuple(revocation_lists)
        self._stamps: tuple[tuple[int, int], ...] = ()
        self._lists: dict[bytes, x509.CertificateRevocationList] = {}
        self._look_at = 0.0
        self.look()

    def look(self) -> None:
        """Read the files again where they have changed; not more often than every few seconds.

        Raises:
            FileError, MalformedError: One cannot be read.
        """
        self._look_at = time.monotonic() + _LOOK_SECONDS
        stamps = tuple(map(_stamp, self._files))
        if stamps != self._stamps:
            lists = [self._verified(file) for file in self._files]
            self._lists = {one.issuer.public_bytes(): one for one in lists}
            self._stamps = stamps

    def untold(self) -> list[str]:
        """The CAs of whose certificates no CRL tells now, although there are CRLs."""
        names = [authority.subject for authority in self._authorities if self._files]
        return [name.rfc4514_string() for name in names if self._listed(name.public_bytes()) is None]

    def check(self, certificate: bytes) -> None:
        """Refuse a certificate that was revoked, or of which nothing tells.

        Raises:
            UnauthenticatedError: It is so.
        """
        if not self._files:
            return
        if time.monotonic() >= self._look_at:
            try:
                self.look()
            except (FileError, MalformedError) as error:  # the lists at hand count until they end
                _log.error("the CRLs of clients: %s", error)
        facts = _facts(certificate)
        listed = self._listed(facts.issuer)
        if listed is None:
            raise UnauthenticatedError(
                "no CRL tells whether the client certificate was revoked",
                hint="put the newest CRL of its CA in the place of the one that ended",
            )
        if listed.get_revoked_certificate_by_serial_number(facts.serial_number) is not None:
            raise UnauthenticatedError(f"the client certificate {facts.serial_number:x} was revoked")

    def _listed(self, issuer: bytes) -> x509.CertificateRevocationList | None:
        """The CRL of an issuer that has not ended."""
        listed = self._lists.get(issuer)
        if listed is None or listed.next_update_utc is None or listed.next_update_utc <= datetime.now(UTC):
            return None
        return listed

    def _verified(self, file: Path) -> x509.CertificateRevocationList:
        encoded = read_small(file)
        try:
            load = x509.load_pem_x509_crl if b"-----BEGIN" in encoded else x509.load_der_x509_crl
            found = load(encoded)
            for authority in self._authorities:
                if authority.subject == found.issuer and found.is_signature_valid(authority.public_key()):  # type: ignore[arg-type]
                    return found
        except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm) as error:
            raise MalformedError(f"{file} is no CRL that can be used") from error
        raise MalformedError(f"the CRL {file} is not signed by a CA of clients")


def _stamp(file: Path) -> tuple[int, int]:
    try:
        found = file.stat()
    except OSError as error:
        raise FileError(f"cannot read {file}: {error.strerror or error}") from error
    return found.st_mtime_ns, found.st_size


@lru_cache(_REMEMBERED)
def _facts(certificate: bytes) -> _Facts:
    try:
        read = x509.load_der_x509_certificate(certificate)
        return _Facts(
            uris=_uris(read),
            spki=spki_hash(read),
            issuer=read.issuer.public_bytes(),
            serial_number=read.serial_number,
            not_before=read.not_valid_before_utc,
            not_after=read.not_valid_after_utc,
        )
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise UnauthenticatedError("the client certificate cannot be read") from error


def _uris(certificate: x509.Certificate) -> tuple[str, ...]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    return tuple(names.get_values_for_type(x509.UniformResourceIdentifier))
