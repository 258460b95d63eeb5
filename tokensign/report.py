"""What a verification found: verdicts on each signature, what they rest on, and one sentence for people.

The JSON that is made of it is described key by key in `docs/verification.md`, and by a JSON Schema in
`docs/verification-report.schema.json`.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tokensign.cades.validate import TimeEvidence, level_reached
from tokensign.errors import MalformedError
from tokensign.ess.attributes import ess_of
from tokensign.pki.names import display_name

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from tokensign.cades.levels import Level
    from tokensign.cades.validate import TimestampResult
    from tokensign.certificates import Certificate
    from tokensign.cms.signed_data import SignerInfo
    from tokensign.errors import TokensignError
    from tokensign.pki.validated_path import RevocationEvidence, ValidatedPath

__all__ = ["SignerReport", "Status", "Verdict", "VerificationReport"]


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
    def passed(cls, reason: str) -> Verdict:
        """A check that passed."""
        return cls(Status.PASSED, reason)

    @classmethod
    def not_checked(cls, reason: str) -> Verdict:
        """A check that was not made, or could not be."""
        return cls(Status.NOT_CHECKED, reason)

    @classmethod
    def of_error(cls, error: TokensignError) -> Verdict:
        """A failure with the words of an error."""
        return cls(Status.FAILED, error.message, error.hint)

    def to_json(self) -> dict[str, Any]:
        """As the JSON report has it."""
        return {"status": self.status.value, "reason": self.reason, "hint": self.hint}


@dataclass(frozen=True, slots=True, kw_only=True)
class SignerReport:
    """All that was found about one signature.

    Attributes:
        certificate: The signer's, or None where it is not at hand.
        identifier: How the message names the signer.
        scheme: How it was signed, or None where that is not known here.
        signing_time: What the signer says about the time, or None.
        judged_at: The time at which the certificate was judged: that of the verification, or the one at which
            timestamps prove that the signature existed.
        integrity: Whether the content is what was signed.
        trust: Whether the certificate leads to a trust anchor and may sign this.
        identity: Whether it belongs to the expected address.
        policy: Whether the user's own rules are kept: for algorithms, certificate policies and revocation.
        path: From the signer's certificate to the anchor; None unless `trust` passed.
        revocation: What was said about revocation of the certificates on the path; also where one was revoked
            and so there is no path.
        time: What timestamps prove.
        countersignatures: What was found about the signatures over this one; they decide about this one only
            through `witness`.
        witness: Whether a countersignature holds, where one was asked for, else None.
        signer_info: The signature as it was received, with its attributes. The signed ones are the signer's
            word only where the signature holds.
    """

    certificate: Certificate | None
    identifier: str
    scheme: str | None
    signing_time: datetime | None
    judged_at: datetime
    integrity: Verdict
    trust: Verdict
    identity: Verdict
    policy: Verdict
    path: ValidatedPath | None = None
    revocation: tuple[RevocationEvidence, ...] = ()
    time: TimeEvidence = field(default_factory=TimeEvidence)
    countersignatures: tuple[SignerReport, ...] = ()
    witness: Verdict | None = None
    signer_info: SignerInfo | None = None

    @property
    def verdicts(self) -> dict[str, Verdict]:
        """The four verdicts by name, and that on the witness where one was asked for."""
        verdicts = {
            "integrity": self.integrity,
            "trust": self.trust,
            "identity": self.identity,
            "policy": self.policy,
        }
        return verdicts | ({"witness": self.witness} if self.witness else {})

    @property
    def holds(self) -> bool:
        """Whether no verdict failed and the integrity was proved."""
        return (
            self.integrity.status is Status.PASSED
            and self.trust.status is not Status.FAILED
            and self.identity.status is not Status.FAILED
            and self.policy.status is not Status.FAILED
            and (self.witness is None or self.witness.status is not Status.FAILED)
        )

    @property
    def level(self) -> Level | None:
        """The level of CAdES that was proved to be reached.

        None where the signature does not hold or nobody is trusted. Of a countersignature nobody looks at
        timestamps, so it is never more than B-B.
        """
        return level_reached(self.time, self.path) if self.path is not None and self.holds else None

    @property
    def failed(self) -> dict[str, Verdict]:
        """The verdicts that failed, by name."""
        return {name: entry for name, entry in self.verdicts.items() if entry.status is Status.FAILED}

    @property
    def failure(self) -> Verdict | None:
        """The first failed verdict."""
        return next(iter(self.failed.values()), None)

    @property
    def reason(self) -> str:
        """Why the signature does not hold, where it does not."""
        return self.failure.reason if self.failure else "its integrity was not proved"

    @property
    def name(self) -> str:
        """What to call the signer."""
        return self.certificate.subject if self.certificate else self.identifier

    @property
    def short_name(self) -> str:
        """What people call the signer: the common name, where there is one."""
        return display_name(self.certificate) if self.certificate else self.identifier

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
            "signing_time": _iso(self.signing_time),
            "judged_at": self.judged_at.isoformat(),
            "holds": self.holds,
            "integrity": self.integrity.to_json(),
            "trust": self.trust.to_json(),
            "identity": self.identity.to_json(),
            "policy": self.policy.to_json(),
            "witness": self.witness.to_json() if self.witness else None,
            "path": [entry.subject for entry in self.path or ()],
            "valid_until": _iso(self.path.valid_until) if self.path else None,
            "revocation": [_revocation(entry, self.judged_at) for entry in self.revocation],
            "level": self.level.value if self.level else None,
            "existed_at": _iso(self.time.existed_at),
            "timestamps": [_timestamp(entry) for entry in self.time.timestamps],
            "countersignatures": [entry.to_json() for entry in self.countersignatures],
            "ess": self._ess(),
        }

    def _ess(self) -> dict[str, Any]:
        """What a signature that holds carries of RFC 2634; of another one nothing may be acted upon."""
        if self.signer_info is None or not self.holds:
            return {}
        try:
            return ess_of(self.signer_info).to_json()
        except MalformedError as error:
            return {"problem": error.message}


@dataclass(frozen=True, slots=True)
class VerificationReport:
    """All that was found about a signed message.

    Attributes:
        content_type: What was signed, in words.
        detached: Whether the content travelled beside the signature.
        signers: One report a signature.
        moment: The time of the verification: the present, or the one that was asked about.
        any_signer: Whether one good signature is enough.
        certificates: Those that the message carries; anybody can add some, and nothing says that they are
            good.
    """

    content_type: str
    detached: bool
    signers: tuple[SignerReport, ...]
    moment: datetime
    any_signer: bool = False
    certificates: tuple[Certificate, ...] = ()

    @property
    def holds(self) -> bool:
        """Whether all signatures hold, and there is one at all; with `any_signer`, whether one does."""
        return bool(self.signers) and (any if self.any_signer else all)(
            signer.holds for signer in self.signers
        )

    @property
    def verdict(self) -> str:
        """In one word.

        Returns:
            "good": it holds. "bad": it does not. "intact": it holds, but nobody asked whose the signatures
                are.
        """
        if not self.holds:
            return "bad"
        return "good" if any(signer.path for signer in self.signers if signer.holds) else "intact"

    @property
    def failed(self) -> list[str]:
        """The names of the verdicts for which it does not hold; none where it holds."""
        return [] if self.holds else list({name: None for signer in self.signers for name in signer.failed})

    def summary(self, content: str = "the content") -> str:
        """The verdict and its reason in one sentence, without full stop.

        Args:
            content: What to call what was signed.
        """
        good = [signer for signer in self.signers if signer.holds]
        bad = [signer for signer in self.signers if not signer.holds]
        if not self.signers:
            return f"nobody signed {content}"
        if not self.holds:
            others = f"; {_others(len(bad) - 1)}" if len(bad) > 1 else ""
            return f"the signature of {bad[0].short_name} on {content} does not hold: {bad[0].reason}{others}"
        others = f"; {_others(len(bad))}" if bad else ""
        if self.verdict == "good":
            names = _enumerated(_introduced(signer, signer.path) for signer in good if signer.path)
            return f"{content} is unchanged since it was signed by {names}{others}"
        names = _enumerated(signer.short_name for signer in good)
        return f"{content} is unchanged since it was signed; nobody checked whether by {names}{others}"

    def to_json(self) -> dict[str, Any]:
        """The report as one JSON document; its keys are stable."""
        return {
            "verdict": self.verdict,
            "summary": self.summary(),
            "failed": self.failed,
            "holds": self.holds,
            "content_type": self.content_type,
            "detached": self.detached,
            "verified_at": self.moment.isoformat(),
            "signers": [signer.to_json() for signer in self.signers],
        }


def _introduced(signer: SignerReport, path: ValidatedPath) -> str:
    """Who signed, who says so, and since when it is known."""
    certificate, anchor = path[0], path[-1]
    email = next((f" <{address}>" for address in certificate.emails), "")
    guarantor = "trusted directly" if anchor == certificate else f"says {display_name(anchor)}"
    since = f", at the latest on {signer.time.existed_at:%Y-%m-%d}" if signer.time.existed_at else ""
    return f"{signer.short_name}{email} ({guarantor}{since})"


def _others(count: int) -> str:
    return "another signature does not hold" if count == 1 else f"{count} other signatures do not hold"


def _enumerated(names: Iterable[str]) -> str:
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last


def _revocation(entry: RevocationEvidence, at: datetime) -> dict[str, Any]:
    source, _, url = entry.source.partition(" ")
    return {
        "certificate": entry.certificate.subject,
        "serial_number": f"{entry.certificate.serial_number:x}",
        "status": entry.status,
        "kind": entry.kind,
        "source": source,
        "url": url or None,
        "produced_at": entry.produced_at.isoformat(),
        "this_update": entry.this_update.isoformat(),
        "next_update": _iso(entry.next_update),
        "age": int((at - entry.this_update).total_seconds()),
    }


def _timestamp(entry: TimestampResult) -> dict[str, Any]:
    time, path = entry.time, entry.path
    return {
        "kind": entry.kind,
        "time": _iso(time),
        "holds": entry.error is None,
        "reason": entry.error.message if entry.error else None,
        "hint": entry.error.hint if entry.error else None,
        "path": [certificate.subject for certificate in path or ()],
        "valid_until": _iso(path.valid_until) if path else None,
        "revocation": [_revocation(said, time) for said in path.revocation] if path and time else [],
    }


def _iso(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment else None
