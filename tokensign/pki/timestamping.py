"""Whom to believe a time: the path from the TSA of a timestamp to a trust anchor (RFC 3161 section 2.3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tokensign.pki.trust import RevocationInfo, validate_path

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from tokensign.certificates import Certificate
    from tokensign.cms.signed_data import SignedData
    from tokensign.cms.timestamp import TimestampToken
    from tokensign.pki.policy import TrustPolicy
    from tokensign.pki.validated_path import ValidatedPath

__all__ = ["Material", "validate_timestamp"]


@dataclass(frozen=True, slots=True)
class Material:
    """What came along and may help to validate a path; nothing in it is believed unproven.

    Attributes:
        certificates: Certificates that may lie between.
        revocation: CRLs and OCSP responses.
    """

    certificates: tuple[Certificate, ...] = ()
    revocation: tuple[RevocationInfo, ...] = ()

    @classmethod
    def of(cls, *messages: SignedData, certificates: Sequence[Certificate] = ()) -> Material:
        """What messages carry, and further certificates.

        Raises:
            MalformedError: An OtherRevocationInfoFormat is broken.
        """
        found = [entry for message in messages for entry in message.certificates]
        if not any(message.revocation_choices for message in messages):  # nearly always
            return cls(tuple(dict.fromkeys([*found, *certificates])))
        crls = [RevocationInfo("crl", entry) for message in messages for entry in message.crls]
        answers = [RevocationInfo("ocsp", entry) for message in messages for entry in message.ocsp_responses]
        return cls(tuple(dict.fromkeys([*found, *certificates])), tuple(dict.fromkeys([*answers, *crls])))

    def __add__(self, other: Material) -> Material:
        return Material(
            tuple(dict.fromkeys([*self.certificates, *other.certificates])),
            tuple(dict.fromkeys([*self.revocation, *other.revocation])),
        )


def validate_timestamp(
    token: TimestampToken, policy: TrustPolicy, at: datetime, material: Material | None = None
) -> ValidatedPath:
    """Check the signature of a timestamp, and that its TSA is trusted and certified for nothing but this.

    Args:
        token: The timestamp.
        policy: Whom to trust; its form for timestamps is used.
        at: When the path shall be valid: genTime, or a later time at which it still has to be.
        material: What came along besides what the token itself carries.

    Returns:
        The path, the TSA's certificate first.

    Raises:
        BadSignatureError: The signature is wrong.
        UntrustedError: The TSA's certificate leads to no anchor, was revoked, or is not for time stamping
            alone.
        MalformedError, UnsupportedError: The token cannot be used.
    """
    known = Material.of(token.message) + (material or Material())
    certificate = token.verify(known.certificates, legacy=policy.legacy)
    return validate_path(
        certificate, known.certificates, policy.for_timestamps, at, embedded=known.revocation
    )
