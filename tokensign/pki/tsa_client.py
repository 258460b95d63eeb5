"""Ask a timestamp authority over HTTP (RFC 3161 section 3.4); nothing of its answer is used unchecked."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from tokensign.algorithms import DIGESTS, Digest
from tokensign.cms.timestamp import REQUEST_TYPE, TimestampRequest, TimestampResponse, TimestampToken
from tokensign.errors import NetworkError, TokensignError, UntrustedError
from tokensign.pki.purpose import Purpose, check_signing_use
from tokensign.pki.timestamping import Material, validate_timestamp

if TYPE_CHECKING:
    from tokensign.certificates import Certificate
    from tokensign.pki.http import Fetch
    from tokensign.pki.policy import TrustPolicy

__all__ = ["CLOCK_TOLERANCE", "NONCE_BITS", "TimestampAuthority"]

NONCE_BITS: Final = 63  # RFC 3161 section 2.4.1: 64 bits in an INTEGER, and none that looks negative
CLOCK_TOLERANCE: Final = timedelta(minutes=5)  # between the clock of a TSA and this one


@dataclass(frozen=True, slots=True, kw_only=True)
class TimestampAuthority:
    """A timestamp authority that is asked over HTTP; may be used from any thread.

    Attributes:
        url: Where it is.
        fetch: Asks it, with limits.
        trust: Whom to trust for times; None: the signature of an answer is checked and the use of the TSA's
            certificate, but not who issued it.
        digest: Makes the hash values that are sent.
        policy: The TSA policy that is asked for, dotted, or None.
        certificates: Where to look for certificates that its answers do not hold.
    """

    url: str
    fetch: Fetch
    trust: TrustPolicy | None = None
    digest: Digest = DIGESTS["sha256"]
    policy: str | None = None
    certificates: tuple[Certificate, ...] = ()

    def timestamp(self, hashed_message: bytes) -> TimestampToken:
        """A timestamp for a hash value by `digest`.

        Raises:
            NetworkError: No answer, a refusal, or an answer that must not be taken; with the reason.
        """
        request = TimestampRequest(
            digest=self.digest,
            hashed_message=hashed_message,
            nonce=secrets.randbits(NONCE_BITS),
            policy=self.policy,
        )
        asked = datetime.now(UTC)
        answer = self.fetch(self.url, body=request.encode(), content_type=REQUEST_TYPE)
        try:
            response = TimestampResponse.load(answer)
            token = TimestampToken.load(response.token) if response.token else None
            if token is not None:
                token.check_request(request)
                self._check_time(token, asked)
                self._check_signer(token)
        except TokensignError as error:
            raise NetworkError(
                f"the timestamp from {self.url} is not used: {error.message}", hint=error.hint
            ) from error
        if token is None:
            raise NetworkError(
                f"{self.url} made no timestamp: {response.reason or response.status}",
                hint="ask another one with --tsa, or its operator for the reason",
            )
        return token

    def _check_time(self, token: TimestampToken, asked: datetime) -> None:
        """A fresh timestamp has the time of now, as far as two clocks agree."""
        off = timedelta(0) if token.info.accuracy is None else token.info.accuracy
        tolerance = CLOCK_TOLERANCE + min(off, CLOCK_TOLERANCE)
        if not asked - tolerance <= token.info.time <= datetime.now(UTC) + tolerance:
            raise UntrustedError(
                f"it says {token.info.time:%Y-%m-%d %H:%M:%S} UTC, which is not the time of now",
                hint="check the clock of this machine",
            )

    def _check_signer(self, token: TimestampToken) -> None:
        if self.trust is not None:
            validate_timestamp(token, self.trust, token.info.time, Material(self.certificates))
        else:
            check_signing_use(token.verify(self.certificates), Purpose.TIME_STAMPING)
