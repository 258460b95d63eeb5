"""Is this signature good? Integrity, trust and identity as three verdicts in one report.

A signature holds when the content is what was signed (integrity), the signer's certificate leads to a
trust anchor and was issued for this use (trust), and it belongs to the person who was expected
(identity). Each is judged by itself, because a person who must decide needs to know which one failed.

Countersignatures are judged likewise, and told beneath the signature that they sign. A bad one does not make
the message bad, because anybody can add one to a message on its way; whoever needs one asks for it with
`Expectations.countersigned`, and then one that holds must be over each signature.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, BinaryIO

from tokensign.cms.content_info import CONTENT_TYPE_NAMES
from tokensign.cms.signed_data import read_signed_data
from tokensign.cms.verify import SignerResult, verify_signatures
from tokensign.errors import TokensignError, UntrustedError, UsageError, VerificationError
from tokensign.files import chunks, open_output, spool
from tokensign.pki.trust import validate_path

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from tokensign.certificates import Certificate
    from tokensign.cms.signed_data import SignedData
    from tokensign.pki.policy import TrustPolicy

__all__ = [
    "Expectations",
    "SignerReport",
    "Status",
    "Verdict",
    "VerificationReport",
    "verify",
    "verify_to_file",
]


class Status(enum.Enum):
    """The outcome of one check."""

    PASSED = "passed"
    FAILED = "failed"
    NOT_CHECKED = "not-checked"


@dataclass(frozen=True, slots=True)
class Verdict:
    """The outcome of one check, and why.

    Attributes:
        status: The outcome.
        reason: In plain words.
        hint: What the user can do next, or None.
    """

    status: Status
    reason: str
    hint: str | None = None

    @classmethod
    def of_error(cls, error: TokensignError) -> Verdict:
        """A failure with the words of an error."""
        return cls(Status.FAILED, error.message, error.hint)

    def to_json(self) -> dict[str, Any]:
        """As the JSON report has it."""
        return {"status": self.status.value, "reason": self.reason, "hint": self.hint}


@dataclass(frozen=True, slots=True)
class SignerReport:
    """All that was found about one signature.

    Attributes:
        certificate: The signer's, or None where it is not at hand.
        identifier: How the message names the signer.
        scheme: How it was signed, or None where that is not known here.
        signing_time: What the signer says about the time, or None.
        integrity: Whether the content is what was signed.
        trust: Whether the certificate leads to a trust anchor and may sign this.
        identity: Whether it belongs to the expected address.
        path: From the signer's certificate to the anchor; empty unless `trust` passed.
        countersignatures: What was found about the signatures over this one; they decide about this one only
            through `witness`.
        witness: Whether a countersignature holds, where one was asked for, else None.
    """

    certificate: Certificate | None
    identifier: str
    scheme: str | None
    signing_time: datetime | None
    integrity: Verdict
    trust: Verdict
    identity: Verdict
    path: tuple[Certificate, ...] = ()
    countersignatures: tuple[SignerReport, ...] = ()
    witness: Verdict | None = None

    @property
    def verdicts(self) -> dict[str, Verdict]:
        """The three verdicts by name, and that on the witness where one was asked for."""
        verdicts = {"integrity": self.integrity, "trust": self.trust, "identity": self.identity}
        return verdicts | ({"witness": self.witness} if self.witness else {})

    @property
    def holds(self) -> bool:
        """Whether no verdict failed and the integrity was proved."""
        return self.integrity.status is Status.PASSED and not self.failure

    @property
    def failure(self) -> Verdict | None:
        """The first failed verdict."""
        return next((entry for entry in self.verdicts.values() if entry.status is Status.FAILED), None)

    @property
    def name(self) -> str:
        """What to call the signer."""
        return self.certificate.subject if self.certificate else self.identifier

    def to_json(self) -> dict[str, Any]:
        """As the JSON report has it."""
        certificate = self.certificate
        return {
            "signer": self.name,
            "emails": list(certificate.emails) if certificate else [],
            "issuer": certificate.issuer if certificate else None,
            "serial_number": f"{certificate.serial_number:x}" if certificate else None,
            "certificate_sha256": certificate.sha256.hex() if certificate else None,
            "scheme": self.scheme,
            "signing_time": self.signing_time.isoformat() if self.signing_time else None,
            "path": [entry.subject for entry in self.path],
            "holds": self.holds,
            **{name: verdict.to_json() for name, verdict in self.verdicts.items()},
            "countersignatures": [entry.to_json() for entry in self.countersignatures],
        }


@dataclass(frozen=True, slots=True)
class VerificationReport:
    """All that was found about a signed message.

    Attributes:
        content_type: What was signed, in words.
        detached: Whether the content travelled beside the signature.
        signers: One report a signature.
        moment: The time at which certificates were judged.
        any_signer: Whether one good signature is enough.
    """

    content_type: str
    detached: bool
    signers: tuple[SignerReport, ...]
    moment: datetime
    any_signer: bool = False

    @property
    def holds(self) -> bool:
        """Whether all signatures hold, and there is one at all; with `any_signer`, whether one does."""
        return bool(self.signers) and (any if self.any_signer else all)(
            signer.holds for signer in self.signers
        )

    def to_json(self) -> dict[str, Any]:
        """The report as one JSON document; its keys are stable."""
        return {
            "holds": self.holds,
            "content_type": self.content_type,
            "detached": self.detached,
            "verified_at": self.moment.isoformat(),
            "signers": [signer.to_json() for signer in self.signers],
        }


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
    """

    trust: TrustPolicy | None
    email: str | None = None
    moment: datetime | None = None
    certificates: Sequence[Certificate] = ()
    any_signer: bool = False
    legacy: bool = False
    countersigned: bool = False


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
    moment = expectations.moment or datetime.now(UTC)
    results = verify_signatures(
        message,
        _content_of(message, content),
        certificates=expectations.certificates,
        legacy=expectations.legacy,
        copy=copy,
    )
    report = VerificationReport(
        content_type=CONTENT_TYPE_NAMES.get(message.content_type, message.content_type),
        detached=message.content is None,
        signers=tuple(_judge_signer(result, message, expectations, moment) for result in results),
        moment=moment,
        any_signer=expectations.any_signer,
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


def _judge_signer(
    result: SignerResult, message: SignedData, expectations: Expectations, moment: datetime
) -> SignerReport:
    report = _judge(result, message, expectations, moment, "the content is what was signed")
    return replace(
        report,
        identity=_judge_identity(result.certificate, expectations.email),
        witness=_judge_witness(report.countersignatures) if expectations.countersigned else None,
    )


def _judge(
    result: SignerResult, message: SignedData, expectations: Expectations, moment: datetime, intact: str
) -> SignerReport:
    """All but the identity: of countersigners nobody in particular is expected."""
    path: tuple[Certificate, ...] = ()
    if expectations.trust is None:
        trust = Verdict(Status.NOT_CHECKED, "no trust anchor was given")
    elif result.certificate is None:
        trust = Verdict(Status.FAILED, "the signer's certificate is not at hand")
    else:
        intermediates = (*message.certificates, *expectations.certificates)
        try:
            path = validate_path(result.certificate, intermediates, expectations.trust, moment)
            trust = Verdict(Status.PASSED, f"issued under {path[-1].subject}")
        except UntrustedError as error:
            trust = Verdict.of_error(error)
    return SignerReport(
        certificate=result.certificate,
        identifier=str(result.signer.identifier),
        scheme=str(result.scheme) if result.scheme else None,
        signing_time=result.signing_time,
        integrity=Verdict.of_error(result.error) if result.error else Verdict(Status.PASSED, intact),
        trust=trust,
        identity=Verdict(Status.NOT_CHECKED, "no address is expected of a countersigner"),
        path=path,
        countersignatures=tuple(
            _judge(entry, message, expectations, moment, "the signature above is what was signed")
            for entry in result.countersignatures
        ),
    )


def _judge_witness(countersignatures: Sequence[SignerReport]) -> Verdict:
    good = next((entry for entry in countersignatures if entry.holds), None)
    if good is not None:
        return Verdict(Status.PASSED, f"countersigned by {good.name}")
    if countersignatures and (failure := countersignatures[0].failure):
        reason = f"no countersignature holds; that of {countersignatures[0].name}: {failure.reason}"
        return Verdict(Status.FAILED, reason, failure.hint)
    return Verdict(Status.FAILED, "nobody countersigned it")


def _judge_identity(certificate: Certificate | None, email: str | None) -> Verdict:
    if email is None:
        return Verdict(Status.NOT_CHECKED, "no address was expected")
    if certificate is None:
        return Verdict(Status.FAILED, "the signer's certificate is not at hand")
    if certificate.belongs_to(email):
        return Verdict(Status.PASSED, f"the certificate belongs to {email}")
    owners = ", ".join(certificate.emails) or "nobody with an e-mail address"
    return Verdict(Status.FAILED, f"the certificate belongs to {owners}, not to {email}")


def _failure(report: VerificationReport) -> VerificationError:
    failed = [signer for signer in report.signers if not signer.holds]
    verdict = failed[0].failure
    reason = verdict.reason if verdict else "its integrity was not proved"
    others = f" (and {len(failed) - 1} more signatures fail)" if len(failed) > 1 else ""
    return VerificationError(
        f"the signature of {failed[0].name} does not hold: {reason}{others}",
        report=report,
        hint=verdict.hint if verdict else None,
    )
