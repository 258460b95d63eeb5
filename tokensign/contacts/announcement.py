"""What a signed mail says about its sender's certificates and capabilities, once it is proved.

Nothing is learned from a signature unless integrity, trust and policy were proved and the certificate is the
sender's. The certificate that is preferred for encryption is named by a signed attribute, but lies in the
message where anybody can put things; so it must be the sender's and lead to a trust anchor by itself.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from tokensign.cms.attributes import ENCRYPTION_KEY_PREFERENCE, SMIME_CAPABILITIES, parse_attributes
from tokensign.cms.capabilities import read_capabilities
from tokensign.cms.encryption_key_preference import read_encryption_key_preference
from tokensign.contacts.contact import canonical_address, serves_encryption
from tokensign.errors import MalformedError, TokensignError, UntrustedError
from tokensign.pki.purpose import Purpose, check_encryption_use
from tokensign.pki.trust import validate_path
from tokensign.report import Status

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from tokensign.certificates import Certificate
    from tokensign.pki.policy import TrustPolicy
    from tokensign.pki.validated_path import ValidatedPath
    from tokensign.report import SignerReport

__all__ = ["CLOCK_SKEW", "Announcement", "announcement_of"]

CLOCK_SKEW: Final = timedelta(days=1)
"""How far ahead a signing time may be: a clock that runs in the wrong time zone (RFC 8551 section 2.7)."""

_PROVED: Final = ("integrity", "trust", "policy")


@dataclass(frozen=True, slots=True)
class Announcement:
    """What a sender said.

    Attributes:
        address: The sender's, canonical.
        signing_time: When it was said.
        signer: The certificate of the signature.
        encryption: The certificate to which the sender wants mail encrypted, or None: none that can be used.
        capabilities: SMIMECapabilities, DER, or None: nothing was said.
        issuers: The certificates between these and the trust anchors.
        problem: Why the certificate that the sender prefers for encryption is not `encryption`, or None.
    """

    address: str
    signing_time: datetime
    signer: Certificate
    encryption: Certificate | None
    capabilities: bytes | None
    issuers: tuple[Certificate, ...] = ()
    problem: str | None = None


def announcement_of(
    signer: SignerReport,
    address: str,
    certificates: Sequence[Certificate],
    trust: TrustPolicy,
    moment: datetime,
) -> Announcement:
    """Read what the signer of a mail says.

    Args:
        signer: What was found about the signature.
        address: That of the mail's From field.
        certificates: Those that the message carries, and those that are known from earlier ones.
        trust: To what other certificates than the signer's are held.
        moment: Now.

    Raises:
        UntrustedError: A verdict on the signature did not pass, the certificate is not the sender's, or the
            signing time is missing or lies ahead; so nothing is learned.
        MalformedError: An attribute cannot be read.
        UsageError: `address` is none.
    """
    certificate = _proved(signer, address)
    if signer.signer_info is None or signer.signer_info.signed_attributes is None or not signer.signing_time:
        raise _refusal(address, "the signature has no signing time, so nobody knows what is newer")
    if signer.signing_time > moment + CLOCK_SKEW:
        raise _refusal(address, f"the signing time {signer.signing_time:%Y-%m-%d %H:%M} lies ahead")
    said = dict(parse_attributes(signer.signer_info.signed_attributes))
    capabilities = _single(said.get(SMIME_CAPABILITIES))
    if capabilities is not None:
        read_capabilities(capabilities)  # what cannot be read is not kept
    announcement = Announcement(
        canonical_address(address),
        signer.signing_time,
        certificate,
        None,
        capabilities,
        _between(signer.path),
    )
    preference = _single(said.get(ENCRYPTION_KEY_PREFERENCE))
    if preference is None:
        return replace(announcement, encryption=certificate if serves_encryption(certificate) else None)
    names = read_encryption_key_preference(preference).names
    preferred = next(filter(names, (certificate, *certificates)), None)
    if preferred == certificate and serves_encryption(certificate):
        return replace(announcement, encryption=certificate)
    try:
        path = _path_of(preferred, address, certificates, trust, moment)
    except TokensignError as error:
        problem = f"the certificate that the sender prefers for encryption is not used: {error.message}"
        return replace(announcement, problem=problem)
    return replace(announcement, encryption=preferred, issuers=(*announcement.issuers, *_between(path)))


def _proved(signer: SignerReport, address: str) -> Certificate:
    """The signer's certificate, where everything about it was proved."""
    for name in _PROVED:
        verdict = signer.verdicts[name]
        if verdict.status is not Status.PASSED:
            raise _refusal(address, f"{name}: {verdict.reason}")
    if not signer.holds:  # identity or witness failed, where they were asked for
        raise _refusal(address, signer.reason)
    if signer.certificate is None or not signer.certificate.belongs_to(address):
        raise _refusal(address, f"{signer.name} signed it, whose certificate is not for this address")
    return signer.certificate


def _path_of(
    preferred: Certificate | None,
    address: str,
    certificates: Sequence[Certificate],
    trust: TrustPolicy,
    moment: datetime,
) -> ValidatedPath:
    """The path of the certificate that is preferred for encryption.

    Raises:
        TokensignError: Mail for the address must not be encrypted to it.
    """
    if preferred is None:
        raise UntrustedError("it is not at hand")
    check_encryption_use(preferred)
    if not preferred.belongs_to(address):
        raise UntrustedError(f"it is not for {address}")
    return validate_path(preferred, certificates, replace(trust, purpose=Purpose.ANY), moment)


def _between(path: ValidatedPath | None) -> tuple[Certificate, ...]:
    """The certificates of a path between its ends."""
    return path.certificates[1:-1] if path else ()


def _single(values: Sequence[bytes] | None) -> bytes | None:
    if values is None:
        return None
    if len(values) != 1:
        raise MalformedError("a signed attribute about encryption has not one value")
    return values[0]


def _refusal(address: str, reason: str) -> UntrustedError:
    return UntrustedError(
        f"nothing is learned about {address}: {reason}",
        hint="contacts are learned from mail only where everything about the signature is proved",
    )
