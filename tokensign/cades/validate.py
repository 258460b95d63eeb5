"""What the timestamps of a signature prove (ETSI EN 319 102-1 section 5.6, with the rules below).

A signature has a proof of existence at a time when a timestamp of that time covers it and holds. At that time
its certificate is judged; what happened to it later, expiry or revocation, does not matter any more.

A timestamp holds when

1. it is over what it should be over, and its signature is right;
2. the path of its TSA was valid at its own time (genTime), with the revocation information that is at hand,
   also the embedded one; algorithms that are too weak today are refused whenever they were used;
3. it is not from the future of the moment of the validation; and
4. it was renewed in time: a newer archive timestamp that holds covers it and was made before a certificate on
   the path of its TSA expired.

Whatever nothing newer covers must still be valid at the moment of the validation, with one exception that is
a choice of this program: **the newest archive timestamp is believed after the certificates of its TSA have
expired**, as long as nothing says that one of them was revoked. EN 319 102-1 would end there with
INDETERMINATE. The reason: what could then be forged is a timestamp of the past, by somebody who got hold of
the TSA's key later, and an archive is opened years after the last person renewed it. Who thinks otherwise
renews in time, and looks at the time of the newest timestamp in the report.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, Literal

from tokensign.cades.archive import HashIndex, Unindexed, imprint_input
from tokensign.cades.levels import Level
from tokensign.cades.seal import check_seal
from tokensign.cms.attributes import ARCHIVE_TIME_STAMP_V3, SIGNATURE_TIME_STAMP
from tokensign.cms.timestamp import TimestampToken
from tokensign.cms.unsigned_attributes import unsigned_values
from tokensign.errors import BadSignatureError, TokensignError, UnsupportedError, UntrustedError
from tokensign.pki.revocation import RevokedCertificateError
from tokensign.pki.timestamping import Material, validate_timestamp

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from tokensign.algorithms import Digest
    from tokensign.certificates import Certificate
    from tokensign.cms.signed_data import SignedData, SignerInfo
    from tokensign.pki.policy import TrustPolicy
    from tokensign.pki.validated_path import ValidatedPath

__all__ = [
    "TIMESTAMPS_MAXIMUM",
    "TimeEvidence",
    "TimestampResult",
    "archive_digests",
    "check_timestamps",
    "level_reached",
]

TIMESTAMPS_MAXIMUM: Final = 64
"""Timestamps of one signature; each costs a path validation. One renewal a year makes 64 in a lifetime."""


@dataclass(frozen=True, slots=True)
class TimestampResult:
    """What was found about one timestamp.

    Attributes:
        kind: Over the signature, or over all of the message.
        token: The timestamp, or None where it cannot be read.
        path: From its TSA to an anchor; None unless it holds.
        error: Why it does not hold, or None: it holds.
        is_intact: Whether it is over what it should be over, whoever made it.
    """

    kind: Literal["signature", "archive"]
    token: TimestampToken | None = field(repr=False)
    path: ValidatedPath | None = field(default=None, repr=False)
    error: TokensignError | None = None
    is_intact: bool = False

    @property
    def time(self) -> datetime | None:
        """Its time, or None where it cannot be read."""
        return self.token.info.time if self.token else None


@dataclass(frozen=True, slots=True)
class TimeEvidence:
    """What the timestamps of one signature prove.

    Attributes:
        timestamps: One result a timestamp: those over the signature, then the archive timestamps, the oldest
            first.
        existed_at: When the signature existed at the latest: the earliest time that is proven; or None.
        is_archived: Whether an archive timestamp holds.
        broken: Why the message is not what was archived, or None. It fails the signature: whoever archived a
            message wants to know that it was changed.
    """

    timestamps: tuple[TimestampResult, ...] = ()
    existed_at: datetime | None = None
    is_archived: bool = False
    broken: TokensignError | None = None


_NOTHING: Final = TimeEvidence()


def archive_digests(message: SignedData) -> set[Digest]:
    """The digests by which archive timestamps need the hash value of the content.

    Archive timestamps that cannot be read need none; `check_timestamps` will tell.
    """
    found = set()
    for signer in message.signer_infos:
        if signer.unsigned_attributes is None:  # nearly always
            continue
        with suppress(TokensignError):
            for value in unsigned_values(signer, ARCHIVE_TIME_STAMP_V3):
                found.add(TimestampToken.load(value).info.digest)
    return found


def check_timestamps(
    message: SignedData,
    signer: SignerInfo,
    content_digests: Mapping[str, bytes],
    policy: TrustPolicy | None,
    moment: datetime,
    certificates: Sequence[Certificate] = (),
) -> TimeEvidence:
    """Judge all timestamps of a signature.

    Args:
        message: The message.
        signer: The signature, which is verified by somebody else.
        content_digests: The hash values of the content by the names of `archive_digests`.
        policy: Whom to trust; None: nobody, and so nothing is proven but that archived things are unchanged.
        moment: The time of the validation.
        certificates: Where to look for certificates besides.

    Raises:
        MalformedError: The unsigned attributes are broken.
        UnsupportedError: There are more than TIMESTAMPS_MAXIMUM.
    """
    if signer.unsigned_attributes is None:
        return _NOTHING
    over_signature = unsigned_values(signer, SIGNATURE_TIME_STAMP)
    over_all = unsigned_values(signer, ARCHIVE_TIME_STAMP_V3)
    if len(over_signature) + len(over_all) > TIMESTAMPS_MAXIMUM:
        raise UnsupportedError(f"a signature has more than {TIMESTAMPS_MAXIMUM} timestamps")
    checker = _Checker(message, signer, content_digests, policy, moment, tuple(certificates))
    return checker.check(over_signature, over_all)


def level_reached(evidence: TimeEvidence, path: ValidatedPath | None) -> Level:
    """The level of a signature that holds.

    Args:
        evidence: What its timestamps prove.
        path: From its certificate to an anchor, with what tells about revocation; None: not validated.
    """
    if evidence.existed_at is None or path is None:
        return Level.B_B
    told = {entry.certificate for entry in path.revocation if entry.source == "embedded"}
    if not told >= {*path.certificates[:-1]}:
        return Level.B_T
    return Level.B_LTA if evidence.is_archived else Level.B_LT


@dataclass(frozen=True, slots=True)
class _Found:
    """A timestamp that is intact, and for an archive timestamp what its index does not list."""

    result: TimestampResult
    token: TimestampToken
    encoded: bytes
    added: Unindexed | None = None


@dataclass(frozen=True, slots=True)
class _Checker:
    message: SignedData
    signer: SignerInfo
    content_digests: Mapping[str, bytes]
    policy: TrustPolicy | None
    moment: datetime
    certificates: tuple[Certificate, ...]

    def check(self, over_signature: Sequence[bytes], over_all: Sequence[bytes]) -> TimeEvidence:
        signature_results = [self._intact("signature", encoded) for encoded in over_signature]
        archive_results = [self._intact("archive", encoded) for encoded in over_all]
        broken = next((entry.error for entry in archive_results if isinstance(entry, TimestampResult)), None)
        archives = sorted(
            (entry for entry in archive_results if isinstance(entry, _Found)),
            key=lambda entry: (entry.token.info.time, -len(entry.added.unsigned) if entry.added else 0),
            reverse=True,  # of two within a second, the newer one lists the older one
        )
        judged: list[tuple[_Found, TimestampResult]] = []
        for entry in archives:  # the newest first: it decides how long the others had to hold
            judged.append((entry, self._judge(entry, judged)))
        results = [
            entry if isinstance(entry, TimestampResult) else self._judge(entry, judged)
            for entry in signature_results
        ]
        results += [result for _, result in reversed(judged)]
        results += [entry for entry in archive_results if isinstance(entry, TimestampResult)]
        times = [result.time for result in results if result.error is None and result.time is not None]
        is_archived = any(result.error is None for _, result in judged)
        return TimeEvidence(
            timestamps=tuple(results),
            existed_at=min(times, default=None),
            is_archived=is_archived,
            broken=broken or (self._seal_failure(judged, results) if is_archived else None),
        )

    def _seal_failure(
        self, archives: Sequence[tuple[_Found, TimestampResult]], results: Iterable[TimestampResult]
    ) -> TokensignError | None:
        """Why the newest archive timestamp does not vouch for all of the message, or None."""
        now = [(entry, result) for entry, result in archives if entry.token.info.time <= self.moment]
        newest, result = now[0]
        if result.error is not None or result.path is None or newest.added is None:
            return result.error
        digests = [entry.token.info.digest for entry in results if entry.token]
        try:
            check_seal(self.message, newest.token, newest.added, result.path, digests)
        except TokensignError as error:
            return error
        return None

    def _intact(self, kind: Literal["signature", "archive"], encoded: bytes) -> _Found | TimestampResult:
        """The timestamp, if it is over what it should be over and its signature is right."""
        token, added = None, None
        try:
            token = TimestampToken.load(encoded)
            legacy = self.policy is not None and self.policy.legacy
            if kind == "signature":
                covered = token.info.digest.new(self.signer.signature).digest()
            else:
                covered, added = self._archived(token)
            token.check_digest(covered, legacy=legacy)
            token.verify(self._material(token).certificates, legacy=legacy)
        except TokensignError as error:
            return TimestampResult(kind, token, error=error)
        return _Found(TimestampResult(kind, token, is_intact=True), token, encoded, added)

    def _archived(self, token: TimestampToken) -> tuple[bytes, Unindexed]:
        """The imprint that an archive timestamp must have, and what its index does not list."""
        index = HashIndex.of_token(token)
        if index.digest != token.info.digest:  # EN 319 122-1 section 5.5.2
            raise BadSignatureError("the archive timestamp and its index have different digests")
        added = index.check(self.message, self.signer)
        content_digest = self.content_digests[index.digest.name]
        covered = imprint_input(self.message, self.signer, content_digest, index)
        return index.digest.new(covered).digest(), added

    def _judge(self, entry: _Found, newer: Sequence[tuple[_Found, TimestampResult]]) -> TimestampResult:
        """Whether a timestamp that is intact proves its time."""
        try:
            path = self._path(entry.token, entry.token.info.time)
            self._check_later(entry, path, newer)
        except TokensignError as error:
            return replace(entry.result, error=error)
        return replace(entry.result, path=path)

    def _check_later(
        self, entry: _Found, path: ValidatedPath, newer: Sequence[tuple[_Found, TimestampResult]]
    ) -> None:
        """That what held at the time of a timestamp held until something newer took over."""
        time, until = entry.token.info.time, min(certificate.not_after for certificate in path)
        if time > self.moment:
            raise UntrustedError(f"the timestamp is of {time:%Y-%m-%d}, after the time that is asked about")
        covering = [
            other.token.info.time
            for other, result in newer
            if result.error is None and other.added is not None and _is_listed(entry, other.added)
        ]
        if covering:
            if min(covering) > until:
                raise UntrustedError(
                    f"the timestamp of {time:%Y-%m-%d} was not renewed before its TSA's certificates expired"
                    f" on {until:%Y-%m-%d}"
                )
        elif self.moment <= until:
            try:
                self._path(entry.token, self.moment)
            except RevokedCertificateError:
                raise
            except UntrustedError:  # that nothing tells about the present does not change the past
                pass
        elif entry.added is None:
            raise UntrustedError(
                f"the certificates of the TSA of the timestamp of {time:%Y-%m-%d} expired on"
                f" {until:%Y-%m-%d}, and no archive timestamp covers it"
            )

    def _path(self, token: TimestampToken, at: datetime) -> ValidatedPath:
        if self.policy is None:
            raise UntrustedError("no trust anchor was given")
        return validate_timestamp(token, self.policy, at, self._material(token))

    def _material(self, token: TimestampToken) -> Material:
        return Material.of(token.message, self.message, certificates=self.certificates)


def _is_listed(entry: _Found, added: Unindexed) -> bool:
    """Whether an index lists a timestamp."""
    kind = SIGNATURE_TIME_STAMP if entry.added is None else ARCHIVE_TIME_STAMP_V3
    return (kind, entry.encoded) not in added.unsigned
