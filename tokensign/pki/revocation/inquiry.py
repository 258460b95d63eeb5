"""What is known about revocation during one validation, and what may be asked for besides."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from tokensign.errors import TokensignError
from tokensign.pki.revocation.crl import Crl
from tokensign.pki.revocation.ocsp import OcspAnswer, load_ocsp_responses
from tokensign.pki.revocation.online import FETCHING_SECONDS, Online

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tokensign.certificates import Certificate
    from tokensign.pki.revocation.check import RevocationMode
    from tokensign.pki.revocation.online import Told
    from tokensign.pki.validated_path import RevocationEvidence, RevocationKind

__all__ = ["CLOCK_SKEW", "EMBEDDED_MAXIMUM", "FETCHING_SECONDS", "Inquiry", "RevocationInfo"]

EMBEDDED_MAXIMUM: Final = 100  # CRLs and OCSP responses of a message; each costs time before any is proven
CLOCK_SKEW: Final = timedelta(minutes=5)  # by which the clock of a CA may be ahead of this one


@dataclass(frozen=True, slots=True)
class RevocationInfo:
    """A CRL or an OCSP response that came along with a message.

    Attributes:
        kind: Which of the two.
        encoded: CertificateList or OCSPResponse, DER.
        source: Where it comes from, as in `RevocationEvidence.source`.
    """

    kind: RevocationKind
    encoded: bytes
    source: str = "embedded"


class Inquiry:
    """The revocation information of one validation. It grows when something is missing and may be fetched.

    Args:
        mode: "off", "prefer" or "require".
        crls: CRLs that were given.
        ocsp_answers: Answers in OCSP responses that were given.
        legacy: Whether signatures with MD5 or SHA-1 are accepted.
        maximum_age: How old information may be at the moment in question, or None: until its nextUpdate.
        online: Asks servers, or None: nothing is fetched.
    """

    def __init__(
        self,
        mode: RevocationMode,
        *,
        crls: Iterable[Crl] = (),
        ocsp_answers: Iterable[OcspAnswer] = (),
        legacy: bool = False,
        maximum_age: timedelta | None = None,
        online: Online | None = None,
    ) -> None:
        self.mode = mode
        self.legacy = legacy
        self.doubts: list[str] = []
        self._maximum_age = maximum_age
        self._crls = list(crls)
        self._ocsp_answers = list(ocsp_answers)
        self._online = online
        self._taken: set[bytes] = set()
        self._portions: dict[tuple[bytes, bytes], Iterator[list[Told]] | None] = {}

    def add(self, entries: Iterable[RevocationInfo]) -> None:
        """Take what came along with a message, put there by anybody; what cannot be read is passed over.

        Args:
            entries: At most EMBEDDED_MAXIMUM of them count.
        """
        for number, entry in enumerate(dict.fromkeys(entries)):
            if number == EMBEDDED_MAXIMUM:
                self.doubts.append(f"only {EMBEDDED_MAXIMUM} of the CRLs and OCSP responses were looked at")
                return
            self._take(entry.kind, entry.encoded, entry.source)

    def crls_at(self, moment: datetime) -> list[Crl]:
        """The CRLs that are fresh enough to be looked at."""
        return [entry for entry in self._crls if self._may_count(entry, moment)]

    def ocsp_answers_at(self, moment: datetime) -> list[OcspAnswer]:
        """The OCSP answers that are fresh enough to be looked at."""
        return [entry for entry in self._ocsp_answers if self._may_count(entry, moment)]

    def _may_count(self, entry: Crl | OcspAnswer, moment: datetime) -> bool:
        """Neither from the future nor too old.

        What was made after the moment in question, but not after the present, knows about that moment too.
        """
        if entry.this_update > max(moment, datetime.now(UTC) + CLOCK_SKEW):
            self.doubts.append(f"one is from the future: {entry.this_update:%Y-%m-%d %H:%M} UTC")
            return False
        if self._maximum_age is not None and moment - entry.this_update > self._maximum_age:
            self.doubts.append(
                f"one is older than {self._maximum_age}: {entry.this_update:%Y-%m-%d %H:%M} UTC"
            )
            return False
        return True

    def may_ask(self, certificate: Certificate, issuer: Certificate) -> bool:
        """Whether a server is left that may tell about a certificate.

        An expired certificate is not asked about: CAs take those off their CRLs.
        """
        if self._online is None or certificate.not_after < datetime.now(UTC):
            return False
        return self._portions.get((certificate.sha256, issuer.sha256), ()) is not None

    def ask(self, certificate: Certificate, issuer: Certificate) -> None:
        """Ask the next server about a certificate.

        Args:
            certificate: The certificate; `may_ask` holds.
            issuer: Who issued it.
        """
        key = certificate.sha256, issuer.sha256
        if self._online is None:
            return
        portions = self._portions.setdefault(key, self._online.about(certificate, issuer))
        told = next(portions, None) if portions is not None else None
        if told is None:
            self._portions[key] = None
        for entry in told or ():
            self._take(*entry)

    @property
    def failures(self) -> list[str]:
        """Why servers told nothing."""
        return self._online.failures if self._online else []

    def keep(self, evidence: Iterable[RevocationEvidence]) -> None:
        """Remember on the disk what was fetched and proved to be genuine."""
        for entry in evidence:
            if self._online is not None and entry.source.startswith("fetched"):
                self._online.keep(entry.encoded)

    def _take(self, kind: RevocationKind, encoded: bytes, source: str) -> None:
        if encoded in self._taken:
            return
        self._taken.add(encoded)
        try:
            if kind == "crl":
                self._crls.append(Crl.load(encoded, source, legacy=self.legacy))
            else:
                self._ocsp_answers += load_ocsp_responses([encoded], legacy=self.legacy, source=source)
        except TokensignError as error:
            self.doubts.append(error.message)
