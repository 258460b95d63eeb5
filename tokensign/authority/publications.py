"""What CAs publish under their URLs: their certificates and their newest CRLs, as the database has them."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from tokensign.authority import crl
from tokensign.authority.log_limit import RepeatFilter
from tokensign.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tokensign.authority.authority import Authority

__all__ = ["CERTIFICATE_TYPE", "CRL_TYPE", "LOOK_SECONDS", "Document", "Publications", "path_of"]

CERTIFICATE_TYPE: Final = "application/pkix-cert"  # RFC 2585 section 4.1
CRL_TYPE: Final = "application/pkix-crl"  # RFC 2585 section 4.2
LOOK_SECONDS: Final = 5.0  # how late a new CRL may show

_log: Final = logging.getLogger(__name__)
_log.addFilter(RepeatFilter())


@dataclass(frozen=True, slots=True)
class Document:
    """A file that others may keep for a while.

    Attributes:
        content: DER.
        media_type: What it is.
        this_update: Since when it holds.
        next_update: When there is a newer one.
    """

    content: bytes
    media_type: str
    this_update: datetime
    next_update: datetime


class Publications:
    """The files of some CAs, each below the path of the CA's URL; for any number of threads.

    Args:
        authorities: The CAs.

    Raises:
        ConfigurationError: Two of them would have the same files.
    """

    def __init__(self, authorities: Iterable[Authority]) -> None:
        known = tuple(authorities)
        self._authorities = {path_of(authority): authority for authority in known}
        self._kept: dict[str, tuple[float, Document]] = {}
        if len(self._authorities) < len(known):
            raise ConfigurationError(
                "two CAs of the database have the same URL", hint="name the one to serve with --ca"
            )

    @property
    def paths(self) -> Iterable[str]:
        """The path of each CA, as `path_of` has it."""
        return self._authorities

    def kept(self, path: str) -> Document | None:
        """A file that was looked up a moment ago, or None; arguments as of `find`."""
        looked, document = self._kept.get(path, (0.0, None))
        return document if time.monotonic() - looked < LOOK_SECONDS else None

    def find(self, path: str) -> Document | None:
        """Look a file up. There is one in memory for all who ask for it, however large it is.

        Args:
            path: As in a URL, from the slash on.

        Returns:
            None: there is no such file, or no such CRL yet.

        Raises:
            FileError: The database fails.
        """
        looked = time.monotonic()
        document = self._look_up(path)
        if document is not None:
            self._kept[path] = looked, document
        return document

    def _look_up(self, path: str) -> Document | None:
        folder, _, file = path.rpartition("/")
        authority = self._authorities.get(folder)
        if authority is None:
            return None
        if file == "ca.cer":
            certificate = authority.certificate
            return Document(certificate.der, CERTIFICATE_TYPE, certificate.not_before, certificate.not_after)
        return _newest_crl(authority, file)


def path_of(authority: Authority) -> str:
    """The path below which a CA publishes: that of its URL, or else its name; without a slash at the end."""
    return f"/{authority.name}" if authority.url is None else urlsplit(authority.url).path


def _newest_crl(authority: Authority, file: str) -> Document | None:
    for partition in (None, *range(authority.partitions)):
        for delta in (False, True):
            if file == crl.file_name(partition, delta=delta):
                found = authority.latest_crl(partition, delta=delta)
                if found is None:
                    return None
                if found.next_update < datetime.now(UTC):
                    _log.warning(
                        "%s of the CA %s has expired; make a new one with `tokensign ca crl`",
                        file,
                        authority.name,
                    )
                return Document(found.der, CRL_TYPE, found.this_update, found.next_update)
    return None
