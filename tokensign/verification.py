"""Is this signature good? Integrity, trust, identity and policy as four verdicts in one report.

A signature holds when the content is what was signed (integrity), the signer's certificate leads to a
trust anchor and was issued for this use (trust), it belongs to the person who was expected (identity), and
the user's own rules about algorithms, certificate policies and revocation are kept (policy). Each is judged
by itself, because a person who must decide needs to know which one failed.

Where timestamps prove that a signature existed at a time, its certificate is judged at that time: what
happened to it later does no harm (`tokensign.cades.validate`).

Countersignatures are judged likewise, and told beneath the signature that they sign. A bad one does not make
the message bad, because anybody can add one to a message on its way; whoever needs one asks for it with
`Expectations.countersigned`, and then one that holds must be over each signature.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, BinaryIO

from tokensign.cades.levels import Level
from tokensign.cades.validate import TimeEvidence, archive_digests, check_timestamps
from tokensign.cms.content_info import CONTENT_TYPE_NAMES
from tokensign.cms.signed_data import read_signed_data
from tokensign.cms.verify import SignerResult, verify_signatures
from tokensign.errors import (
    LegacyAlgorithmError,
    PolicyError,
    TokensignError,
    UntrustedError,
    UsageError,
    VerificationError,
)
from tokensign.files import chunks, open_output, spool
from tokensign.pki.revocation import RevokedCertificateError
from tokensign.pki.timestamping import Material
from tokensign.pki.trust import validate_path
from tokensign.report import SignerReport, Status, Verdict, VerificationReport

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from tokensign.certificates import Certificate
    from tokensign.cms.signed_data import SignedData
    from tokensign.pki.policy import TrustPolicy
    from tokensign.pki.validated_path import RevocationEvidence, ValidatedPath

__all__ = [
    "Expectations",
    "SignerReport",
    "Status",
    "Verdict",
    "VerificationReport",
    "judge_identity",
    "verify",
    "verify_to_file",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectations:
    """What a signature is held against.

    Attributes:
        trust: The anchors and rules for certificates; None checks the signature only, which says
            nothing about who made it.
        email: The address that must be the signer's, or None.
        moment: The time at which certificates are judged; None: now.
        certificates: Where to look for certificates that the message does not carry; not trusted by that.
        any_signer: One good signature among several is enough.
        legacy: Accept SHA-1, MD5 and short RSA keys in the signature.
        countersigned: Each signature must have a countersignature that holds.
        level: The level of CAdES that each signature must have at least, or None.
    """

    trust: TrustPolicy | None
    email: str | None = None
    moment: datetime | None = None
    certificates: Sequence[Certificate] = ()
    any_signer: bool = False
    legacy: bool = False
    countersigned: bool = False
    level: Level | None = None


def verify(
    signature: BinaryIO,
    expectations: Expectations,
    content: BinaryIO | None = None,
    output: BinaryIO | None = None,
) -> VerificationReport:
    """Verify a signed message.

    Args:
        signature: SignedData in DER or BER; it must be able to seek.
        expectations: What it is held against.
        content: The content of a detached signature.
        output: Receives the content, after everything held.

    Returns:
        The report of a message that holds.

    Raises:
        VerificationError: It does not hold; the error carries the report.
        MalformedError, UnsupportedError: It is not a signed message, or a broken one.
        UsageError: The content is missing, or is given though the message has it.
    """
    if output is None:
        return _verify(signature, expectations, content, copy=None)
    with spool() as held:
        report = _verify(signature, expectations, content, copy=held.write)
        held.seek(0)
        for piece in chunks(held):
            output.write(piece)
    return report


def verify_to_file(
    signature: BinaryIO,
    expectations: Expectations,
    path: str | Path,
    content: BinaryIO | None = None,
    *,
    force: bool = False,
) -> VerificationReport:
    """Verify a signed message and write its content to a file, which appears only if everything held.

    Args:
        signature: As for `verify`.
        expectations: As for `verify`.
        path: The file; "-" is standard output.
        content: As for `verify`.
        force: Replace a file that exists.

    Raises:
        FileError: The file exists or cannot be written.
        VerificationError, MalformedError, UnsupportedError, UsageError: As for `verify`.
    """
    with open_output(path, force=force) as output:
        return _verify(signature, expectations, content, copy=output.write)


def _verify(
    signature: BinaryIO,
    expectations: Expectations,
    content: BinaryIO | None,
    copy: Callable[[bytes], object] | None,
) -> VerificationReport:
    message = read_signed_data(signature)
    digests = {digest.name: digest.new() for digest in archive_digests(message)}

    def received(piece: bytes) -> None:
        for state in digests.values():
            state.update(piece)
        if copy is not None:
            copy(piece)

    results = verify_signatures(
        message,
        _content_of(message, content),
        certificates=expectations.certificates,
        legacy=expectations.legacy,
        copy=received,
    )
    judge = _Judge(
        message,
        expectations,
        expectations.moment or datetime.now(UTC),
        {name: state.digest() for name, state in digests.items()},
        Material.of(message, certificates=expectations.certificates) if expectations.trust else Material(),
    )
    report = VerificationReport(
        content_type=CONTENT_TYPE_NAMES.get(message.content_type, message.content_type),
        detached=message.content is None,
        signers=tuple(map(judge.signer, results)),
        moment=judge.moment,
        any_signer=expectations.any_signer,
        certificates=message.certificates,
    )
    if not report.holds:
        raise _failure(report)
    return report


def _content_of(message: SignedData, content: BinaryIO | None) -> Iterator[bytes]:
    if message.content is not None:
        if content is not None:
            raise UsageError(
                "the message holds its content, and another one was given",
                hint="leave the content away, or verify a detached signature",
            )
        return message.content.chunks()
    if content is None:
        raise UsageError("the signature is detached", hint="give what was signed with --content FILE")
    return chunks(content)


@dataclass(frozen=True, slots=True)
class _Standing:
    """What was found about a signer's certificate."""

    trust: Verdict
    policy: Verdict
    path: ValidatedPath | None = None
    revocation: tuple[RevocationEvidence, ...] = ()


@dataclass(frozen=True, slots=True)
class _Judge:
    """What every signature of a message is held against.

    Attributes:
        message: The message.
        expectations: What its user expects.
        moment: The time of the verification.
        content_digests: The hash values of the content that archive timestamps need.
        material: What came along and may help to validate paths.
    """

    message: SignedData
    expectations: Expectations
    moment: datetime
    content_digests: Mapping[str, bytes]
    material: Material

    def signer(self, result: SignerResult) -> SignerReport:
        """All verdicts on a signature of the message."""
        time = self._time(result)
        report = self._report(
            result,
            "the content is what was signed",
            judge_identity(result.certificate, self.expectations.email),
            time,
        )
        if self.expectations.countersigned:
            report = replace(report, witness=_judge_witness(report.countersignatures))
        return self._held_to_level(report)

    def _held_to_level(self, report: SignerReport) -> SignerReport:
        """A signature that holds, but has not the level that it must have, fails by policy."""
        wanted = self.expectations.level
        if wanted is None or not report.holds or (report.level is not None and wanted <= report.level):
            return report
        reached = report.level or Level.B_B
        hint = "raise it with `tokensign timestamp extend`, as long as its certificates are valid"
        refusal = Verdict(Status.FAILED, f"{wanted} is demanded, and the signature is {reached}", hint)
        return replace(report, policy=refusal)

    def _countersigner(self, result: SignerResult) -> SignerReport:
        """The same for a signature over a signature, at the time of the verification."""
        return self._report(
            result,
            "the signature above is what was signed",
            Verdict.not_checked("no address is expected of a countersigner"),
            TimeEvidence(),
        )

    def _report(
        self, result: SignerResult, intact: str, identity: Verdict, time: TimeEvidence
    ) -> SignerReport:
        at = time.existed_at or self.moment
        standing = self._standing(result, at)
        integrity, policy = Verdict.passed(intact), standing.policy
        if isinstance(result.error, LegacyAlgorithmError):
            integrity = Verdict.not_checked("not checked, because a policy refuses the algorithms")
            policy = Verdict.of_error(result.error)
        elif error := result.error or time.broken:
            integrity = Verdict.of_error(error)
        return SignerReport(
            certificate=result.certificate,
            identifier=str(result.signer.identifier),
            scheme=str(result.scheme) if result.scheme else None,
            signing_time=result.signing_time,
            judged_at=at,
            integrity=integrity,
            trust=standing.trust,
            identity=identity,
            policy=policy,
            path=standing.path,
            revocation=standing.revocation,
            time=time,
            countersignatures=tuple(map(self._countersigner, result.countersignatures)),
            signer_info=result.signer,
        )

    def _time(self, result: SignerResult) -> TimeEvidence:
        try:
            return check_timestamps(
                self.message,
                result.signer,
                self.content_digests,
                self.expectations.trust,
                self.moment,
                self.expectations.certificates,
            )
        except TokensignError as error:  # more than can be looked at, or not to be read
            return TimeEvidence(broken=error)

    def _standing(self, result: SignerResult, at: datetime) -> _Standing:
        policy = self.expectations.trust
        if policy is None:
            unjudged = Verdict.not_checked("only the signature was looked at")
            return _Standing(Verdict.not_checked("no trust anchor was given"), unjudged)
        unjudged = Verdict.not_checked("there is no valid path to judge")
        if result.certificate is None:
            return _Standing(Verdict(Status.FAILED, "the signer's certificate is not at hand"), unjudged)
        known = self.material
        try:
            path = validate_path(
                result.certificate, known.certificates, policy, at, embedded=known.revocation
            )
        except PolicyError as error:
            undecided = Verdict.not_checked("not decided, because a policy refuses the certificates")
            return _Standing(undecided, Verdict.of_error(error))
        except RevokedCertificateError as error:
            return _Standing(Verdict.of_error(error), unjudged, revocation=error.evidence)
        except UntrustedError as error:
            return _Standing(Verdict.of_error(error), unjudged)
        return _Standing(
            Verdict.passed(f"issued under {path[-1].subject}"),
            Verdict.passed(self._rules_kept(policy, path)),
            path,
            path.revocation,
        )

    def _rules_kept(self, policy: TrustPolicy, path: ValidatedPath) -> str:
        """Which rules there were, and what is known of revocation."""
        legacy = policy.legacy or self.expectations.legacy
        parts = ["old algorithms are accepted" if legacy else "the algorithms are strong"]
        if policy.policies.require_explicit_policy:
            parts.append("the certificate policies are as demanded")
        if len(path.certificates) > 1:  # an anchor is revoked by taking it away
            parts.append(_known_of_revocation(policy, path))
        return "; ".join(parts)


def _known_of_revocation(policy: TrustPolicy, path: ValidatedPath) -> str:
    if policy.revocation == "off":
        return "nobody asked whether certificates were revoked"
    asked = {*path.certificates[:-1]}
    told = {entry.certificate for entry in path.revocation if entry.status == "good"}
    if asked <= told:
        return "no certificate was revoked"
    if told:
        return f"revocation is known for {len(asked & told)} of {len(asked)} certificates"
    return "nothing tells whether certificates were revoked"


def _judge_witness(countersignatures: Sequence[SignerReport]) -> Verdict:
    good = next((entry for entry in countersignatures if entry.holds), None)
    if good is not None:
        return Verdict.passed(f"countersigned by {good.name}")
    if countersignatures and (failure := countersignatures[0].failure):
        reason = f"no countersignature holds; that of {countersignatures[0].name}: {failure.reason}"
        return Verdict(Status.FAILED, reason, failure.hint)
    return Verdict(Status.FAILED, "nobody countersigned it")


def judge_identity(certificate: Certificate | None, email: str | None) -> Verdict:
    """Whether a signer is whom somebody expected.

    Args:
        certificate: The signer's, or None where it is not at hand.
        email: The address that was expected, or None.
    """
    if email is None:
        return Verdict.not_checked("no address was expected")
    if certificate is None:
        return Verdict(Status.FAILED, "the signer's certificate is not at hand")
    if certificate.belongs_to(email):
        return Verdict.passed(f"the certificate belongs to {email}")
    owners = ", ".join(certificate.emails) or "nobody with an e-mail address"
    return Verdict(Status.FAILED, f"the certificate belongs to {owners}, not to {email}")


def _failure(report: VerificationReport) -> VerificationError:
    failed = [signer for signer in report.signers if not signer.holds]
    others = f" (and {len(failed) - 1} more signatures fail)" if len(failed) > 1 else ""
    return VerificationError(
        f"the signature of {failed[0].name} does not hold: {failed[0].reason}{others}",
        report=report,
        hint=failed[0].failure.hint if failed[0].failure else None,
    )
