"""Revocation information on the disk, so that it is not asked for again before it has to be."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import platformdirs

from tokensign.errors import FileError
from tokensign.files import open_output, read_small

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["CACHE_FILES_MAXIMUM", "CACHE_OCTETS_MAXIMUM", "CachedAnswer", "RevocationCache", "default_cache"]

CACHE_FILES_MAXIMUM: Final = 1000  # OCSP responses of some kB each; more people hardly sign for one user
CACHE_OCTETS_MAXIMUM: Final = 1 << 27  # 128 MiB: room for the CRLs of some large CAs

_log: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class CachedAnswer:
    """What a server answered some time ago.

    Attributes:
        body: The answer.
        age: Seconds since then.
    """

    body: bytes
    age: float


class RevocationCache:
    """Answers of servers, one a file; for many processes at once.

    Only what was verified is put there, and it is verified again when it is used: the folder is trusted with
    nothing but time. It is private to the user all the same, because it tells whose signatures were checked.
    Failures of the disk are failures to remember, and logged.

    Args:
        folder: Where the files are; made when it is needed.
        files: That are kept at the most, the oldest dropped first.
        octets: That they take together at the most.
    """

    def __init__(
        self, folder: Path, *, files: int = CACHE_FILES_MAXIMUM, octets: int = CACHE_OCTETS_MAXIMUM
    ) -> None:
        self._folder = folder
        self._files = files
        self._octets = octets

    def find(self, question: bytes) -> CachedAnswer | None:
        """What was answered to a question, if that is known.

        Args:
            question: All that makes the question: the URL, and for OCSP what was asked there.
        """
        file = self._file(question)
        try:
            age = max(0.0, time.time() - file.stat().st_mtime)
            return CachedAnswer(read_small(file), age)
        except FileNotFoundError:
            return None
        except (OSError, FileError) as error:
            _log.info("the cache cannot be read: %s", error)
            return None

    def keep(self, question: bytes, body: bytes) -> None:
        """Remember an answer.

        Args:
            question: As for `find`.
            body: The answer.
        """
        if len(body) > self._octets:
            return
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with open_output(self._file(question), force=True, mode=0o600) as file:
                file.write(body)
            self._make_room()
        except (OSError, FileError) as error:
            _log.info("the cache cannot be written: %s", error)

    def _make_room(self) -> None:
        found = []
        for file in self._folder.glob("*.der"):
            with contextlib.suppress(FileNotFoundError):  # another process makes room too
                status = file.stat()
                found.append((status.st_mtime, status.st_size, file))
        found.sort(reverse=True)
        taken = 0
        for number, (_, size, file) in enumerate(found):
            taken += size
            if number >= self._files or taken > self._octets:
                file.unlink(missing_ok=True)

    def _file(self, question: bytes) -> Path:
        return self._folder / f"{hashlib.sha256(question).hexdigest()}.der"


def default_cache() -> RevocationCache:
    """The cache of this user, in the folder that the system has for such files."""
    return RevocationCache(platformdirs.user_cache_path("tokensign", appauthor=False) / "revocation")
