"""Raise signatures to a higher level (ETSI EN 319 122-1 section 6). The key that signed is not needed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, BinaryIO

from tokensign.cades.archive import HashIndex, imprint_input, with_hash_index
from tokensign.cades.levels import Level
from tokensign.cades.validate import archive_digests, check_timestamps
from tokensign.certificates import Certificate
from tokensign.cms.attributes import ARCHIVE_TIME_STAMP_V3, SIGNATURE_TIME_STAMP
from tokensign.cms.content_digests import ContentDigests
from tokensign.cms.signed_data import SignerInfo, revocation_choice
from tokensign.cms.signed_data_parts import SignedDataParts
from tokensign.cms.timestamp import TimestampToken
from tokensign.cms.unsigned_attributes import unsigned_values, with_unsigned_attribute
from tokensign.cms.verify import verify_signatures
from tokensign.errors import UsageError
from tokensign.files import chunks
from tokensign.pki.timestamping import Material, validate_timestamp
from tokensign.pki.trust import validate_path

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from tokensign.cms.signed_data import SignedData
    from tokensign.pki.policy import TrustPolicy
    from tokensign.pki.tsa_client import TimestampAuthority
    from tokensign.pki.validated_path import ValidatedPath

__all__ = ["ExtensionMeans", "extend_signatures", "present_level"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtensionMeans:
    """What raising a signature takes.

    Attributes:
        authority: Makes the timestamps.
        trust: Whom to trust and where revocation information comes from; B-LT and B-LTA need it. Its purpose
            is that of the signer's certificate.
        certificates: Where to look for certificates that the message does not carry.
    """

    authority: TimestampAuthority
    trust: TrustPolicy | None = None
    certificates: Sequence[Certificate] = ()


def present_level(signer: SignerInfo, message: SignedData) -> Level:
    """The level that a signature has by what is there; nothing of it is validated.

    Raises:
        MalformedError: The unsigned attributes are broken.
    """
    if unsigned_values(signer, ARCHIVE_TIME_STAMP_V3):
        return Level.B_LTA
    if not unsigned_values(signer, SIGNATURE_TIME_STAMP):
        return Level.B_B
    return Level.B_LT if message.revocation_choices else Level.B_T


def extend_signatures(
    message: SignedData,
    level: Level,
    means: ExtensionMeans,
    output: BinaryIO,
    content: BinaryIO | None = None,
) -> SignedData:
    """Raise all signatures of a message to a level; what is there stays as it is.

    A message that is B-LTA already gets another archive timestamp, over the ones it has: so it is renewed.

    Args:
        message: The message, from `tokensign.cms.signed_data.read_signed_data`.
        level: B-T, B-LT or B-LTA.
        means: What it takes.
        output: Receives the new message, DER, with its content where it had it.
        content: The content of a detached signature.

    Returns:
        The new message; its content is where that of the old one is.

    Raises:
        UsageError: The level is B-B, or reached already; the content is missing, or there is one though the
            message has its own; or B-LT needs `trust`.
        NetworkError: The timestamp authority, or a server with revocation information, gave no usable answer.
        UntrustedError: The path of a signer or a TSA is not valid, or nothing tells whether it was revoked.
        TokensignError: A signature does not hold.
        MalformedError, UnsupportedError: The message is broken.
    """
    _check_level(message, level)
    if (content is None) == (message.content is None):
        raise UsageError(
            "the signature is detached, and its content is needed"
            if content is None
            else "the message holds its content already",
        )
    policy = _gathering_policy(means) if level >= Level.B_LT else None
    digest = _verified(message, content, means)[means.authority.digest.name]
    raised = _with_signature_timestamps(message, means)
    if policy is not None:
        raised = _with_validation_data(raised, policy, means)
    if policy is not None and level is Level.B_LTA:
        raised = _with_archive_timestamps(raised, digest, policy, means)
    parts = SignedDataParts.of(raised)
    if message.content is None:
        output.write(parts.detached())
    else:
        parts.write(output, message.content.chunks(), message.content.size())
    return raised


def _check_level(message: SignedData, level: Level) -> None:
    if level is Level.B_B:
        raise UsageError("every signature is B-B", hint="name b-t, b-lt or b-lta")
    present = min((present_level(signer, message) for signer in message.signer_infos), default=Level.B_B)
    if level <= present and level is not Level.B_LTA:
        raise UsageError(f"the message is {present} already", hint="b-lta renews its archive timestamp")


def _gathering_policy(means: ExtensionMeans) -> TrustPolicy:
    if means.trust is None:
        raise UsageError(
            "B-LT and B-LTA hold what is needed to validate the signature",
            hint="say whom to trust with --trust, so that it can be gathered",
        )
    return replace(means.trust, revocation="require")


def _verified(message: SignedData, content: BinaryIO | None, means: ExtensionMeans) -> dict[str, bytes]:
    """The hash values of the content for archive timestamps, once all signatures and timestamps hold."""
    hashes = ContentDigests([*archive_digests(message), means.authority.digest])
    pieces = message.content.chunks() if message.content else chunks(content) if content else ()
    results = verify_signatures(
        message,
        pieces,
        certificates=means.certificates,
        legacy=means.trust is not None and means.trust.legacy,
        copy=hashes.update,
    )
    digests = hashes.values()
    for result in results:
        if result.error is not None:
            raise result.error
        _check_present(message, result.signer, digests, means)
    return digests


def _check_present(
    message: SignedData, signer: SignerInfo, digests: Mapping[str, bytes], means: ExtensionMeans
) -> None:
    """Refuse to build on timestamps that do not hold."""
    now = datetime.now(UTC)
    found = check_timestamps(message, signer, digests, means.trust, now, means.certificates)
    for timestamp in found.timestamps:
        if timestamp.error is not None and (means.trust is not None or not timestamp.is_intact):
            raise timestamp.error


def _with_signature_timestamps(message: SignedData, means: ExtensionMeans) -> SignedData:
    """Every signature with a timestamp over its value (EN 319 122-1 section 5.3)."""
    infos = []
    for signer in message.signer_infos:
        if unsigned_values(signer, SIGNATURE_TIME_STAMP):
            infos.append(signer)
            continue
        token = means.authority.timestamp(means.authority.digest.new(signer.signature).digest())
        infos.append(SignerInfo.load(with_unsigned_attribute(signer, SIGNATURE_TIME_STAMP, token.encoded)))
    return replace(message, signer_infos=tuple(infos))


def _with_validation_data(message: SignedData, policy: TrustPolicy, means: ExtensionMeans) -> SignedData:
    """All certificates and revocation information for the signers and their timestamps (section 5.4)."""
    material = Material.of(message, certificates=means.certificates)
    paths: list[ValidatedPath] = []
    for signer in message.signer_infos:
        tokens = [
            TimestampToken.load(encoded)
            for kind in (SIGNATURE_TIME_STAMP, ARCHIVE_TIME_STAMP_V3)
            for encoded in unsigned_values(signer, kind)
        ]
        paths += [validate_timestamp(token, policy, token.info.time, material) for token in tokens]
        certificate = message.certificate_of(signer, means.certificates)
        if certificate is None:
            raise UsageError(f"the certificate of the signer ({signer.identifier}) is not at hand")
        existed_at = min(token.info.time for token in tokens)
        paths.append(
            validate_path(
                certificate, material.certificates, policy, existed_at, embedded=material.revocation
            )
        )
    return _with_paths(message, paths)


def _with_paths(message: SignedData, paths: Iterable[ValidatedPath]) -> SignedData:
    """The message with what some paths consist of and rest on."""
    certificates = dict.fromkeys(message.certificate_choices)
    revocation = dict.fromkeys(message.revocation_choices)
    for path in paths:
        certificates |= dict.fromkeys(entry.der for entry in path)
        revocation |= dict.fromkeys(revocation_choice(entry.kind, entry.encoded) for entry in path.revocation)
    added = [Certificate(entry) for entry in certificates if entry not in message.certificate_choices]
    return replace(
        message,
        certificate_choices=tuple(certificates),
        certificates=(*message.certificates, *added),
        revocation_choices=tuple(revocation),
    )


def _with_archive_timestamps(
    message: SignedData, content_digest: bytes, policy: TrustPolicy, means: ExtensionMeans
) -> SignedData:
    """Every signature with an archive timestamp over all there is (section 5.5.3).

    What the validation of the new timestamps needs is added after them; it is there already if their TSA is
    the one that made an earlier timestamp.
    """
    material = Material.of(message, certificates=means.certificates)
    infos, paths = [], []
    for signer in message.signer_infos:
        index = HashIndex.of(message, signer, means.authority.digest)
        covered = imprint_input(message, signer, content_digest, index)
        token = means.authority.timestamp(means.authority.digest.new(covered).digest())
        archived = with_hash_index(token, index)
        infos.append(SignerInfo.load(with_unsigned_attribute(signer, ARCHIVE_TIME_STAMP_V3, archived)))
        paths.append(validate_timestamp(token, policy, token.info.time, material))
    return _with_paths(replace(message, signer_infos=tuple(infos)), paths)
