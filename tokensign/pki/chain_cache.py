"""Validated paths, remembered for as long as all that they rest on holds.

Validating a path costs milliseconds, and the same people sign again and again. A path is found again only
for the same certificate, among the same other certificates, under the same policy, and at a moment for
which a validation would find it valid as well. What was refused is never remembered.
"""

from __future__ import annotations

import enum
import hashlib
import threading
from collections import OrderedDict
from dataclasses import dataclass, fields, is_dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from tokensign import der
from tokensign.certificates import Certificate

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime

    from tokensign.pki.validated_path import ValidatedPath

__all__ = ["CHAINS_MAXIMUM", "ChainCache", "ChainKey", "fingerprint"]

CHAINS_MAXIMUM: Final = 512  # paths of some 100 kB with all that was read from their certificates


@dataclass(frozen=True, slots=True)
class ChainKey:
    """All that a validation depends on but the moment.

    Attributes:
        certificate: SHA-256 of the certificate that was asked about.
        intermediates: SHA-256 of each certificate that the path might go through, in any order.
        policy: The fingerprint of the policy, with its anchors and its revocation information.
    """

    certificate: bytes
    intermediates: frozenset[bytes]
    policy: bytes

    @classmethod
    def of(cls, certificate: Certificate, intermediates: Iterable[Certificate], policy: bytes) -> ChainKey:
        """The key of a validation."""
        return cls(certificate.sha256, frozenset(entry.sha256 for entry in intermediates), policy)


@dataclass(frozen=True, slots=True)
class _Entry:
    path: ValidatedPath
    since: datetime
    until: datetime


class ChainCache:
    """Validated paths by what they depend on, the least recently used dropped first; safe for threads.

    Args:
        maximum: Paths that are kept at the most.
    """

    def __init__(self, maximum: int = CHAINS_MAXIMUM) -> None:
        self._maximum = maximum
        self._entries: OrderedDict[ChainKey, _Entry] = OrderedDict()
        self._lock = threading.Lock()

    def find(self, key: ChainKey, moment: datetime) -> ValidatedPath | None:
        """The path that was valid from before a moment until after it, if one is known.

        Args:
            key: What it depends on.
            moment: When it shall be valid.
        """
        with self._lock:
            entry = self._entries.get(key)
            if entry is None or not entry.since <= moment <= entry.until:
                return None
            self._entries.move_to_end(key)
            return entry.path

    def keep(self, key: ChainKey, path: ValidatedPath, since: datetime, until: datetime) -> None:
        """Remember a path.

        Args:
            key: What it depends on.
            path: It was valid.
            since: The first moment for which that is known.
            until: The last one.
        """
        with self._lock:
            self._entries[key] = _Entry(path, since, until)
            self._entries.move_to_end(key)
            if len(self._entries) > self._maximum:
                self._entries.popitem(last=False)

    def clear(self) -> None:
        """Forget all."""
        with self._lock:
            self._entries.clear()

    def __len__(self) -> int:
        return len(self._entries)


def fingerprint(value: object) -> bytes:
    """SHA-256 over all fields of a dataclass, so that none can be forgotten that is added later.

    Args:
        value: A dataclass of dataclasses, certificates, bytes, texts, numbers, durations, enumerations, None,
            and tuples and frozensets of these; or such a tuple.

    Raises:
        TypeError: Something else is in it, of which nobody knows when it is the same.
    """
    return hashlib.sha256(_encoded(value)).digest()


def _encoded(value: object) -> bytes:
    """An unambiguous encoding: every part has its type and its length in front."""
    match value:
        case Certificate():
            content: Any = value.sha256
        case bytes():
            content = hashlib.sha256(value).digest()
        case enum.Enum():
            content = value.name.encode()
        case str():
            content = value.encode("utf-8", "surrogatepass")
        case bool() | int() | float() | timedelta() | None:
            content = repr(value).encode()
        case tuple():
            content = b"".join(map(_encoded, value))
        case frozenset():
            content = b"".join(sorted(map(_encoded, value)))
        case _ if is_dataclass(value):
            content = b"".join(_fields(value))
        case _:
            raise TypeError(f"nobody knows when a {type(value).__name__} is the same")
    return der.octet_string(type(value).__qualname__.encode()) + der.octet_string(content)


def _fields(value: Any) -> Iterator[bytes]:  # noqa: ANN401 - any dataclass
    for field in fields(value):
        if field.compare:
            yield _encoded(field.name) + _encoded(getattr(value, field.name))
