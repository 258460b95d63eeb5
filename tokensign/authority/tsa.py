"""A timestamp authority (RFC 3161, RFC 5816) whose key is on a token: requests in, responses out.

The serial numbers of its tokens are 128 random bits, so that they differ without anything being remembered,
also after a crash and between two servers with one key.
"""

from __future__ import annotations

import enum
import io
import logging
import secrets
import threading
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from asn1crypto import tsp

from tokensign import der
from tokensign.algorithms import require_strength
from tokensign.authority.log_limit import RepeatFilter
from tokensign.cms.content_info import parsing
from tokensign.cms.signed import SigningOptions, SigningTemplate
from tokensign.cms.timestamp import TST_INFO, TimestampRequest
from tokensign.errors import MalformedError, TokensignError, UnsupportedError, UsageError
from tokensign.pki.names import display_name
from tokensign.pki.purpose import Purpose, check_signing_use

if TYPE_CHECKING:
    from collections.abc import Callable

    from tokensign.keys import Signer

__all__ = ["ANY_POLICY", "SERIAL_BITS", "MonotonicClock", "Reply", "TimestampIssuer"]

ANY_POLICY: Final = "2.5.29.32.0"  # anyPolicy: nothing is promised beyond what the token says
SERIAL_BITS: Final = 128  # of at most 160 (RFC 3161 section 2.4.2)
ACCURACY_MAXIMUM: Final = timedelta(days=1)  # whoever is further off cannot mean it

_log: Final = logging.getLogger(__name__)
_log.addFilter(RepeatFilter())
_VERSION: Final = 1
_GRANTED: Final = 0
_REJECTION: Final = 2
_TICK: Final = timedelta(microseconds=1)  # the finest that genTime is written with here


class _Failure(enum.IntEnum):
    """PKIFailureInfo, the bits that RFC 3161 section 2.4.2 has."""

    BAD_ALGORITHM = 0
    BAD_REQUEST = 2
    BAD_DATA_FORMAT = 5
    UNACCEPTED_POLICY = 15
    UNACCEPTED_EXTENSION = 16
    SYSTEM_FAILURE = 25


class _Refused(Exception):  # noqa: N818 - a reply, not an error
    def __init__(self, failure: _Failure, text: str) -> None:
        super().__init__(text)
        self.failure = failure
        self.text = text


@dataclass(frozen=True, slots=True)
class Reply:
    """A TimeStampResp.

    Attributes:
        encoded: DER.
        serial_number: Of the token, or None: the request was rejected.
        time: genTime of the token, or None.
        reason: Why it was rejected, or "".
    """

    encoded: bytes
    serial_number: int | None = None
    time: datetime | None = None
    reason: str = ""


class MonotonicClock:
    """A clock that never shows the same time twice and never goes back, while the process lives."""

    def __init__(self, clock: Callable[[], datetime] | None = None) -> None:
        self._clock = clock or (lambda: datetime.now(UTC))
        self._last = datetime.min.replace(tzinfo=UTC)
        self._lock = threading.Lock()

    def __call__(self) -> datetime:
        """The time, in UTC."""
        with self._lock:
            self._last = max(self._clock(), self._last + _TICK)
            return self._last


class TimestampIssuer:
    """Makes timestamp tokens; for any number of threads if the key is.

    Args:
        signer: The TSA's key, with a certificate for time stamping alone (RFC 3161 section 2.3).
        policy: The TSA policy of the tokens, dotted. A request that asks for another one is rejected.
        accuracy: By how much the clock of this machine may be wrong, at most; None: the policy says.
        clock: Tells the time, in UTC; None: the system's clock. With `ordering` it never shows a time twice
            and never goes back, and no other clock serves the same key; see `MonotonicClock`.
        ordering: Whether tokens promise that they can be ordered by their times, whatever the accuracy.
        check: Called before each timestamp; raises a TokensignError when none must be made any more.

    Raises:
        UsageError: The key has no certificate, or the accuracy cannot be meant.
        UntrustedError: The certificate is not for time stamping alone.
        UnsupportedError: The key does not sign.
    """

    def __init__(
        self,
        signer: Signer,
        *,
        policy: str = ANY_POLICY,
        accuracy: timedelta | None = None,
        clock: Callable[[], datetime] | None = None,
        ordering: bool = False,
        check: Callable[[], None] | None = None,
    ) -> None:
        if signer.certificate is None:
            raise UsageError(
                "the key for timestamps has no certificate",
                hint="issue one with the profile timestamping and store it with `tokensign cert import`",
            )
        if accuracy is not None and not timedelta(0) < accuracy <= ACCURACY_MAXIMUM:
            raise UsageError("the accuracy of a timestamp is more than nothing and at most a day")
        check_signing_use(signer.certificate, Purpose.TIME_STAMPING)
        self.certificate = signer.certificate
        self.policy = policy
        self._accuracy = b"" if accuracy is None else _accuracy(accuracy)
        self._ordering = der.boolean(value=True) if ordering else b""  # FALSE is the default
        self._clock = clock or (lambda: datetime.now(UTC))
        self._check = check
        self._templates = {
            wanted: SigningTemplate(
                [signer], SigningOptions(content_type=TST_INFO, include_certificates=wanted)
            )
            for wanted in (True, False)
        }

    def reply(self, encoded: bytes) -> Reply:
        """Answer a request, whatever it is; with one operation on the token where it is granted.

        Args:
            encoded: A TimeStampReq, DER; the caller has limited its size.
        """
        try:
            return self._granted(_read(encoded))
        except _Refused as refused:
            return _rejected(refused.failure, refused.text)
        except TokensignError as error:  # trouble of the service is the operator's to know
            _log.error("no timestamp was made: %s", error.message)
            return _rejected(_Failure.SYSTEM_FAILURE, "no timestamp can be made at present")

    def _granted(self, request: TimestampRequest) -> Reply:
        if request.policy not in {None, self.policy}:
            raise _Refused(_Failure.UNACCEPTED_POLICY, f"the policy of this authority is {self.policy}")
        if self._check is not None:
            self._check()
        now = self._clock()
        if not self.certificate.not_before <= now <= self.certificate.not_after:
            _log.error("the certificate of %s is not valid now", display_name(self.certificate))
            raise _Refused(_Failure.SYSTEM_FAILURE, "the certificate of the authority is not valid now")
        serial_number = secrets.randbits(SERIAL_BITS) + 1
        token = io.BytesIO()
        info = self._tst_info(request, serial_number, now)
        self._templates[request.wants_certificate].attached(io.BytesIO(info), token)
        granted = der.sequence(der.integer(_GRANTED))
        return Reply(der.sequence(granted, token.getvalue()), serial_number, now)

    def _tst_info(self, request: TimestampRequest, serial_number: int, now: datetime) -> bytes:
        """TSTInfo (RFC 3161 section 2.4.2)."""
        return der.sequence(
            der.integer(_VERSION),
            der.object_identifier(self.policy),
            der.sequence(request.digest.algorithm_identifier, der.octet_string(request.hashed_message)),
            der.integer(serial_number),
            _generalized_time(now),
            self._accuracy,
            self._ordering,
            b"" if request.nonce is None else der.integer(request.nonce),
        )


def _read(encoded: bytes) -> TimestampRequest:
    """The request, if this authority can grant such ones."""
    try:
        with parsing("TimeStampReq"):
            raw = tsp.TimeStampReq.load(encoded, strict=True)
            if int(raw["version"]) != _VERSION:
                raise _Refused(_Failure.BAD_REQUEST, "only version 1 of requests is known")
            if raw["extensions"]:  # critical or not (RFC 3161 section 2.4.1)
                raise _Refused(_Failure.UNACCEPTED_EXTENSION, "no extension is known")
        request = TimestampRequest.load(encoded)
        require_strength(request.digest.name, request.digest.strength, legacy=False)
    except MalformedError as error:
        raise _Refused(_Failure.BAD_DATA_FORMAT, error.message) from error
    except UnsupportedError as error:
        raise _Refused(_Failure.BAD_ALGORITHM, error.message) from error
    return request


def _rejected(failure: _Failure, text: str) -> Reply:
    """A response without a token: PKIStatusInfo with status, statusString and failInfo."""
    octets = bytearray(failure // 8 + 1)
    octets[-1] = 0x80 >> failure % 8
    fail_info = der.tlv(0x03, bytes((7 - failure % 8, *octets)))  # a named bit list ends with its last one
    status = der.sequence(der.integer(_REJECTION), der.sequence(der.utf8_string(text)), fail_info)
    return Reply(der.sequence(status), reason=text)


def _accuracy(accuracy: timedelta) -> bytes:
    """Accuracy: seconds, and [0] millis and [1] micros of 1 to 999, each left out where it is nothing."""
    seconds, rest = divmod(accuracy // _TICK, 1_000_000)
    millis, micros = divmod(rest, 1000)
    return der.sequence(
        der.integer(seconds) if seconds else b"",
        b"\x80" + der.integer(millis)[1:] if millis else b"",
        b"\x81" + der.integer(micros)[1:] if micros else b"",
    )


def _generalized_time(moment: datetime) -> bytes:
    """GeneralizedTime with fractions of a second, and without their trailing zeros (section 2.4.2)."""
    utc = moment.astimezone(UTC)
    fraction = f".{utc.microsecond:06}".rstrip("0").rstrip(".")
    return der.tlv(0x18, f"{utc:%Y%m%d%H%M%S}{fraction}Z".encode("ascii"))
