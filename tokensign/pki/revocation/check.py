"""Every certificate of a path is asked about (RFC 5280 section 6.3, RFC 6960 section 3.2).

pyhanko-certvalidator checks a CRL or an OCSP response against a certificate, the path of its signer included.
Here is which of them are put to it, and what the answers mean together.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final, Literal

from pyhanko_certvalidator.context import ValidationContext
from pyhanko_certvalidator.errors import (
    CRLNoMatchesError,
    CRLValidationError,
    OCSPNoMatchesError,
    OCSPValidationError,
    RevokedError,
)
from pyhanko_certvalidator.ltv.poe import POEManager
from pyhanko_certvalidator.path import ValidationPath
from pyhanko_certvalidator.policy_decl import (
    CertRevTrustPolicy,
    RevocationCheckingPolicy,
    RevocationCheckingRule,
)
from pyhanko_certvalidator.registry import CertificateRegistry
from pyhanko_certvalidator.revinfo.manager import RevinfoManager
from pyhanko_certvalidator.revinfo.validate_crl import verify_crl
from pyhanko_certvalidator.revinfo.validate_ocsp import verify_ocsp_response

from tokensign.errors import PolicyError
from tokensign.pki.names import short_name
from tokensign.pki.revocation.errors import RevocationMissingError, RevokedCertificateError
from tokensign.pki.validated_path import RevocationEvidence

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pyhanko_certvalidator.revinfo.archival import CRLContainer, OCSPContainer

    from tokensign.certificates import Certificate
    from tokensign.pki.revocation.crl import Crl
    from tokensign.pki.revocation.inquiry import Inquiry
    from tokensign.pki.revocation.ocsp import OcspAnswer
    from tokensign.pki.validated_path import RevocationStatus

__all__ = ["UNCHECKED", "RevocationMode", "check_revocation"]

RevocationMode = Literal["off", "prefer", "require"]
"""off: nobody asks. prefer: what is at hand is used, and may be missing. require: it may not be missing."""

UNCHECKED = RevocationCheckingPolicy(
    ee_certificate_rule=RevocationCheckingRule.NO_CHECK,
    intermediate_ca_cert_rule=RevocationCheckingRule.NO_CHECK,
)

_REASONS = {  # CRLReason, RFC 5280 section 5.3.1, by asn1crypto's names
    "unspecified": "unspecified",
    "key_compromise": "keyCompromise",
    "ca_compromise": "cACompromise",
    "affiliation_changed": "affiliationChanged",
    "superseded": "superseded",
    "cessation_of_operation": "cessationOfOperation",
    "certificate_hold": "certificateHold",
    "remove_from_crl": "removeFromCRL",
    "privilege_withdrawn": "privilegeWithdrawn",
    "aa_compromise": "aACompromise",
}

# How those are asked about who sign CRLs, and who sign OCSP responses. A CA may say nowhere whether it
# revoked the certificate of a responder (RFC 6960 section 4.2.2.2.1).
_SIGNER_RULES: Final = {
    "prefer": (RevocationCheckingRule.CHECK_IF_DECLARED_SOFT, RevocationCheckingRule.CHECK_IF_DECLARED_SOFT),
    "require": (RevocationCheckingRule.CRL_OR_OCSP_REQUIRED, RevocationCheckingRule.CHECK_IF_DECLARED),
}

# It logs refused CRL issuers with their traceback: for applications that set up logging, not for stderr.
logging.getLogger("pyhanko_certvalidator").addHandler(logging.NullHandler())


async def check_revocation(
    path: ValidationPath, members: Sequence[Certificate], context: ValidationContext, inquiry: Inquiry
) -> tuple[RevocationEvidence, ...]:
    """Ask for every certificate below the anchor whether it was revoked at the context's moment.

    What is at hand is used also where the certificate does not say where to find it (cRLDistributionPoints,
    authorityInfoAccess), because somebody put it there for this question. Never waits: nothing is fetched.

    Args:
        path: A path that is valid but for revocation.
        members: Its certificates, the one that was asked about first and the anchor last.
        context: Its moment, anchors, certificates and rules for algorithms are used.
        inquiry: What is known, and whether "prefer" or "require" holds.

    Returns:
        What tells about the certificates, the one next to the anchor first.

    Raises:
        RevokedCertificateError: One was revoked.
        RevocationMissingError: Nothing valid tells about one, and there is more to ask for.
        PolicyError: Nothing valid tells about one, and mode "require" holds.
    """
    asking = _Asking(context, inquiry)
    below: list[Certificate] = []
    evidence: list[RevocationEvidence] = []
    for issuer, member in pairwise(reversed(members)):
        partial = ValidationPath(path.trust_anchor, [entry.asn1 for entry in below], member.asn1)
        found = await asking.about(member, partial)
        evidence += found.evidence
        if found.revoked is not None:
            raise _revoked(member, found.revoked, tuple(evidence))
        if not found.is_cleared:
            if inquiry.may_ask(member, issuer):
                raise RevocationMissingError(member, issuer)
            if inquiry.mode == "require":
                raise _nothing_tells(member, (*found.doubts, *inquiry.doubts, *inquiry.failures))
        asking.record(member, partial)
        below.append(member)
    return tuple(evidence)


def _revoked(
    certificate: Certificate, error: RevokedError, evidence: tuple[RevocationEvidence, ...]
) -> RevokedCertificateError:
    reason = _REASONS.get(error.reason.native, str(error.reason.native))
    return RevokedCertificateError(
        f"the certificate of {short_name(certificate.asn1.subject)} was revoked on"
        f" {error.revocation_dt:%Y-%m-%d} ({reason})",
        hint="ask its owner for the certificate in use since then",
        evidence=evidence,
    )


def _nothing_tells(certificate: Certificate, doubts: Sequence[str]) -> PolicyError:
    because = f" ({'; '.join(dict.fromkeys(doubts))})" if doubts else ""
    return PolicyError(
        f"nothing tells whether the certificate of {short_name(certificate.asn1.subject)} was revoked",
        hint=f"give a current CRL or OCSP response of its issuer{because}",
    )


@dataclass(slots=True)
class _Findings:
    """What is said of one certificate, and why the rest says nothing."""

    evidence: list[RevocationEvidence] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)
    revoked: RevokedError | None = None

    @property
    def is_cleared(self) -> bool:
        return any(entry.status == "good" for entry in self.evidence)


class _Asking:
    """Puts what is known to the validator, one by one, so that it shows what each says."""

    def __init__(self, context: ValidationContext, inquiry: Inquiry) -> None:
        self._crls = inquiry.crls_at(context.moment)
        self._ocsp_answers = inquiry.ocsp_answers_at(context.moment)
        registry = CertificateRegistry()
        registry.register_multiple(context.certificate_registry)
        self._manager = _Manager(registry, self._crls, self._ocsp_answers)
        crl_rule, ocsp_rule = _SIGNER_RULES[inquiry.mode]
        self._for_crls = self._context(context, crl_rule)
        self._for_ocsp = self._context(context, ocsp_rule)
        self._moment = context.moment

    def _context(self, context: ValidationContext, rule: RevocationCheckingRule) -> ValidationContext:
        return ValidationContext(
            trust_manager=context.path_builder.trust_manager,
            certificate_registry=self._manager.certificate_registry,
            revinfo_manager=self._manager,
            moment=context.moment.replace(microsecond=999_999),  # what was revoked in this second was revoked
            time_tolerance=timedelta(0),
            allow_fetching=False,
            revinfo_policy=CertRevTrustPolicy(
                RevocationCheckingPolicy(ee_certificate_rule=rule, intermediate_ca_cert_rule=rule),
                retroactive_revinfo=True,  # how new it may be is decided here
            ),
            algorithm_usage_policy=context.algorithm_policy,
        )

    def record(self, certificate: Certificate, path: ValidationPath) -> None:
        """A certificate was asked about already; nobody needs to ask again when it signed a CRL."""
        for context in (self._for_crls, self._for_ocsp):
            context.record_validation(certificate.asn1, path)  # type: ignore[no-untyped-call]  # pyhanko's lack

    async def about(self, certificate: Certificate, path: ValidationPath) -> _Findings:
        """All is asked, because answers differ; one that says revoked outweighs all others."""
        findings = _Findings()
        for answer in self._ocsp_answers:
            if findings.revoked is None and self._knows(certificate, answer, findings):
                await self._by_ocsp(certificate, path, answer, findings)
        serial_number = certificate.asn1["tbs_certificate"]["serial_number"].dump()
        for crls in self._sets_of_crls(certificate):
            if findings.revoked is None and all(self._knows(certificate, entry, findings) for entry in crls):
                await self._by_crls(certificate, path, crls, serial_number, findings)
        return findings

    def _knows(self, certificate: Certificate, entry: Crl | OcspAnswer, findings: _Findings) -> bool:
        """What was made after the moment in question must not be made after the certificate expired as well.

        By then a CA may have forgotten that it was revoked (RFC 5280 section 3.3).
        """
        if self._moment < entry.this_update and certificate.not_after < entry.this_update:
            findings.doubts.append("one was made after it expired")
            return False
        return True

    async def _by_ocsp(
        self, certificate: Certificate, path: ValidationPath, answer: OcspAnswer, findings: _Findings
    ) -> None:
        self._manager.next_ocsps = [answer.container]
        status: RevocationStatus | None = "good"
        try:
            await verify_ocsp_response(certificate.asn1, path, self._for_ocsp)
        except RevokedError as error:
            findings.revoked, status = error, "revoked"
        except OCSPNoMatchesError:
            status = None
        except OCSPValidationError as error:
            doubts = _doubts(error)
            status = None if doubts else answer.status
            findings.doubts += doubts
        except Exception as error:  # noqa: BLE001 - odd ones make the validator stumble in many ways
            findings.doubts.append(f"an OCSP response is odd: {type(error).__name__}")
            status = None
        if status == "unknown":
            findings.doubts.append("the OCSP responder does not know it")
        if status is not None:
            # Nothing was wrong with it. What it says to be revoked was so after the moment in question only.
            later = status == "revoked" and findings.revoked is None
            entry = _evidence(certificate, answer, "good" if later else status, later=later)
            findings.evidence.append(entry)

    async def _by_crls(
        self,
        certificate: Certificate,
        path: ValidationPath,
        crls: Sequence[Crl],
        serial_number: bytes,
        findings: _Findings,
    ) -> None:
        self._manager.next_crls = [entry.about(serial_number) for entry in crls]
        status: RevocationStatus = "good"
        try:
            await verify_crl(certificate.asn1, path, self._for_crls)
        except RevokedError as error:
            findings.revoked, status = error, "revoked"
        except CRLNoMatchesError:
            return
        except CRLValidationError as error:
            findings.doubts += _doubts(error)
            return
        except Exception as error:  # noqa: BLE001 - as above
            findings.doubts.append(f"a CRL is odd: {type(error).__name__}")
            return
        findings.evidence += [
            _evidence(certificate, entry, status, later=status == "good" and entry.lists(serial_number))
            for entry in crls
        ]

    def _sets_of_crls(self, certificate: Certificate) -> Iterator[list[Crl]]:
        """What together may tell about all reasons for revocation: a CRL, with one delta CRL if it has some.

        A complete CRL is tried with each delta CRL by itself, so that a forged one keeps no genuine one away.
        Those that are divided by reason are tried together.
        """
        crls = [entry for entry in self._crls if _may_cover(entry, certificate)]
        complete = [entry for entry in crls if not entry.is_delta]
        deltas = [entry for entry in crls if entry.is_delta]
        for base in complete:
            if not base.is_partial:
                fitting = [entry for entry in deltas if base.freshest and entry.updates(base)]
                yield from ([base, delta] for delta in fitting) if fitting else [[base]]
        partial = [base for base in complete if base.is_partial]
        if partial:
            yield [*partial, *(entry for entry in deltas if any(map(entry.updates, partial)))]


def _may_cover(entry: Crl, certificate: Certificate) -> bool:
    """Whether a CRL is by the issuer of a certificate, or says that it covers those of others.

    The validator takes any CRL of a CA below the same issuer, which RFC 5280 section 6.3.3 (b) (1) does not.
    """
    asn1 = entry.container.crl_data
    scope = asn1.issuing_distribution_point_value
    is_indirect = scope is not None and bool(scope["indirect_crl"].native)
    return is_indirect or bool(asn1.issuer == certificate.asn1.issuer)


def _evidence(
    certificate: Certificate, entry: Crl | OcspAnswer, status: RevocationStatus, *, later: bool
) -> RevocationEvidence:
    return RevocationEvidence(
        kind=entry.kind,
        source=entry.source,
        produced_at=entry.produced_at,
        this_update=entry.this_update,
        next_update=entry.next_update,
        status=status,
        certificate=certificate,
        encoded=entry.encoded,
        revoked_later=later,
    )


def _doubts(error: Exception) -> list[str]:
    failures = getattr(error, "failures", None)
    texts = [str(error.args[0])] if failures is None else [str(failure[0]) for failure in failures]
    return [
        text.rstrip(".").replace("the trust anchor", "it").replace("the end-entity certificate", "it")
        for text in texts
    ]


class _Manager(RevinfoManager):
    """Holds what is known for the validator.

    Its next question is about a certificate of the path, and gets the answer that is being tried. The ones
    after that, if any, are about whoever signed the answer, and get all that is known.
    """

    def __init__(
        self, registry: CertificateRegistry, crls: Iterable[Crl], ocsp_answers: Iterable[OcspAnswer]
    ) -> None:
        super().__init__(
            certificate_registry=registry,
            poe_manager=POEManager(),
            crls=[entry.container for entry in crls],
            ocsps=[entry.container for entry in ocsp_answers],
        )
        self.next_crls: list[CRLContainer] | None = None
        self.next_ocsps: list[OCSPContainer] | None = None

    def record_crl_issuer(self, certificate_list: Any, cert: Any) -> None:  # noqa: ANN401 - as below
        """Remember nothing, so that the signature of every CRL is verified whenever it counts.

        What is remembered would be found by the octets of the signature alone, which a forged CRL may copy
        from a genuine one; and it is remembered before the signature is verified when CRLs refer to each
        other.
        """

    def currently_available_crls(self) -> list[CRLContainer]:
        found, self.next_crls = self.next_crls, None
        return super().currently_available_crls() if found is None else found

    async def async_retrieve_ocsps(self, cert: Any, authority: Any) -> list[OCSPContainer]:  # noqa: ANN401 - asn1crypto has no types
        found, self.next_ocsps = self.next_ocsps, None
        return await super().async_retrieve_ocsps(cert, authority) if found is None else found
