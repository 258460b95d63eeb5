"""Where certificates say that revocation information is: OCSP responders and CRLs over HTTP.

Only certificates on a path to a trust anchor are asked about, so it is a trusted CA that says where to ask.
What comes back goes the way of everything at hand: it counts when its signature is that of the CA.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Final

from tokensign import der
from tokensign.errors import NetworkError, TokensignError
from tokensign.pki.revocation.crl import Crl
from tokensign.pki.revocation.ocsp import (
    REQUEST_TYPE,
    certificate_id,
    check_nonce,
    load_ocsp_responses,
    ocsp_request,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tokensign.certificates import Certificate
    from tokensign.pki.http import Fetch
    from tokensign.pki.revocation.cache import RevocationCache
    from tokensign.pki.validated_path import RevocationKind

__all__ = ["FETCHING_SECONDS", "POINTS_MAXIMUM", "Online", "Told"]

FETCHING_SECONDS: Final = 20.0  # for all certificates of a path together; a person waits for it
POINTS_MAXIMUM: Final = 4  # distribution points of one certificate; CAs that divide by reason have two
URLS_MAXIMUM: Final = 2  # of one point or responder; the second one is for when the first does not answer
CACHE_SECONDS: Final = 86400.0  # after a day a server is asked again, also where a CRL lasts for months
SILENCE_SECONDS: Final = 60.0  # for which a server that failed is not asked again
_SILENT_MAXIMUM: Final = 1000  # servers

Told = tuple["RevocationKind", bytes, str]
"""What was told: its kind, its octets, and where it comes from."""


class _Silence:
    """Servers that failed just now, so that not every signature waits for them; safe for threads."""

    def __init__(self) -> None:
        self._until: OrderedDict[str, float] = OrderedDict()
        self._lock = threading.Lock()

    def __contains__(self, url: str) -> bool:
        with self._lock:
            return self._until.get(url, 0.0) > time.monotonic()

    def add(self, url: str) -> None:
        with self._lock:
            self._until.pop(url, None)
            self._until[url] = time.monotonic() + SILENCE_SECONDS
            if len(self._until) > _SILENT_MAXIMUM:
                self._until.popitem(last=False)

    def clear(self) -> None:
        with self._lock:
            self._until.clear()


SILENCE: Final = _Silence()


class Online:
    """Asks the servers of one path's certificates, within one limit of time.

    Args:
        fetch: Asks one server.
        cache: Remembers what was answered; None: nothing is remembered.
        legacy: Whether signatures with MD5 or SHA-1 are accepted.
        seconds: For everything that is fetched.

    Attributes:
        failures: Why servers told nothing, in plain words.
    """

    def __init__(
        self, fetch: Fetch, cache: RevocationCache | None, *, legacy: bool, seconds: float = FETCHING_SECONDS
    ) -> None:
        self._fetch = fetch
        self._cache = cache
        self._legacy = legacy
        self._deadline = time.monotonic() + seconds
        self._questions: dict[bytes, bytes] = {}
        self.failures: list[str] = []

    def about(self, certificate: Certificate, issuer: Certificate) -> Iterator[list[Told]]:
        """What is known about a certificate, in portions; the next one is for when those before did not do.

        First what is cached, then what its OCSP responders say, then its CRLs, then their delta CRLs. Servers
        that do not answer make way for what was cached too long ago.

        Args:
            certificate: The certificate.
            issuer: Who issued it.
        """
        responders = _responders(certificate)
        points = _points(certificate.asn1.crl_distribution_points_value)
        if not responders and not points:
            self.failures.append("it names no OCSP responder and no CRL that could be asked for over HTTP")
            return
        name_hash, key_hash, serial_number = certificate_id(certificate, issuer)
        name = name_hash + key_hash + der.integer(serial_number)
        lists = [url for urls in points for url in urls]
        questions: list[tuple[RevocationKind, bytes]] = [("ocsp", url.encode() + name) for url in responders]
        questions += [("crl", url.encode()) for url in lists]
        yield self._cached(questions, CACHE_SECONDS)
        for url in responders:
            yield self._ask_responder(url, url.encode() + name, certificate, issuer)
        fetched = self._fetch_points(points)
        yield fetched
        deltas = [self._deltas(encoded) for _, encoded, _ in fetched]
        yield [told for found in deltas for told in found]
        yield self._cached(questions, float("inf"))

    def keep(self, encoded: bytes) -> None:
        """Remember something that was fetched, after it proved to be genuine.

        Args:
            encoded: What a server answered.
        """
        question = self._questions.pop(encoded, None)
        if self._cache is not None and question is not None:
            self._cache.keep(question, encoded)

    def _cached(self, questions: Iterable[tuple[RevocationKind, bytes]], seconds: float) -> list[Told]:
        if self._cache is None:
            return []
        found = [(kind, self._cache.find(question)) for kind, question in questions]
        return [
            (kind, answer.body, "cached")
            for kind, answer in found
            if answer is not None and answer.age <= seconds
        ]

    def _ask_responder(
        self, url: str, question: bytes, certificate: Certificate, issuer: Certificate
    ) -> list[Told]:
        request, nonce = ocsp_request(certificate, issuer)
        try:
            encoded = self._get(url, body=request, content_type=REQUEST_TYPE)
            for answer in load_ocsp_responses([encoded], legacy=self._legacy):
                check_nonce(answer, nonce)
        except TokensignError as error:
            self._failed(url, error)
            return []
        self._questions[encoded] = question
        return [("ocsp", encoded, f"fetched {url}")]

    def _fetch_points(self, points: Iterable[Iterable[str]]) -> list[Told]:
        """From each point what the first of its URLs answers."""
        found: list[Told] = []
        for urls in points:
            for url in urls:
                try:
                    encoded = Crl.load(self._get(url), f"fetched {url}", legacy=self._legacy).encoded
                except TokensignError as error:
                    self._failed(url, error)
                    continue
                self._questions[encoded] = url.encode()
                found.append(("crl", encoded, f"fetched {url}"))
                break
        return found

    def _deltas(self, encoded: bytes) -> list[Told]:
        freshest = Crl.load(encoded, "fetched", legacy=self._legacy).freshest
        return self._fetch_points(_points(freshest))

    def _get(self, url: str, *, body: bytes | None = None, content_type: str | None = None) -> bytes:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise NetworkError(f"{url} was not asked, because those before it took too long")
        if url in SILENCE:
            raise NetworkError(f"{url} was not asked, because it failed a moment ago")
        try:
            return self._fetch(url, body=body, content_type=content_type, seconds=left)
        except NetworkError:
            SILENCE.add(url)
            raise

    def _failed(self, url: str, error: TokensignError) -> None:
        message = error.message
        self.failures.append(message if url in message else f"{message} ({url})")


def _responders(certificate: Certificate) -> list[str]:
    """The OCSP responders of authorityInfoAccess (RFC 5280 section 4.2.2.1)."""
    entries = certificate.asn1.authority_information_access_value or ()
    places = [entry["access_location"] for entry in entries if entry["access_method"].native == "ocsp"]
    return _urls(places)


def _points(value: Any) -> list[list[str]]:  # noqa: ANN401 - asn1crypto has no types
    """The URLs of each point in CRLDistributionPoints (RFC 5280 section 4.2.1.13)."""
    names = [point["distribution_point"] for point in value or ()]
    found = [_urls(name.chosen) for name in names if name.native and name.name == "full_name"]
    return [urls for urls in found if urls][:POINTS_MAXIMUM]


def _urls(names: Iterable[Any]) -> list[str]:
    """Those for HTTP among GeneralNames; ldap and what else there is are left out."""
    texts = [
        name.chosen.contents.decode("ascii", "replace")  # an IA5String as it is
        for name in names
        if name.name == "uniform_resource_identifier"
    ]
    spoken = [text for text in texts if text.lower().startswith(("http://", "https://"))]
    return list(dict.fromkeys(spoken))[:URLS_MAXIMUM]
