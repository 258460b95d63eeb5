"""Whether a certificate was revoked, by the CRLs and OCSP responses at hand (RFC 5280, RFC 6960)."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Literal

from asn1crypto import crl, ocsp, pem
from pyhanko_certvalidator.errors import (
    CRLValidationError,
    OCSPValidationError,
    RevokedError,
)
from pyhanko_certvalidator.path import ValidationPath
from pyhanko_certvalidator.policy_decl import RevocationCheckingPolicy, RevocationCheckingRule
from pyhanko_certvalidator.revinfo.archival import CRLContainer, OCSPContainer
from pyhanko_certvalidator.revinfo.validate_crl import verify_crl
from pyhanko_certvalidator.revinfo.validate_ocsp import verify_ocsp_response

from tokensign.errors import MalformedError, MessageError, UntrustedError
from tokensign.pki.anchors import UNREADABLE
from tokensign.pki.names import short_name
from tokensign.pki.strength import require_signature_strength

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pyhanko_certvalidator.context import ValidationContext

__all__ = [
    "UNCHECKED",
    "RevocationMode",
    "check_revocation",
    "checking_rule",
    "load_crls",
    "load_ocsp_responses",
]

RevocationMode = Literal["off", "prefer", "require"]
"""off: nobody asks. prefer: what is at hand is used, and may be missing. require: it may not be missing."""

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

# It logs refused CRL issuers with their traceback: for applications that set up logging, not for stderr.
logging.getLogger("pyhanko_certvalidator").addHandler(logging.NullHandler())

UNCHECKED = RevocationCheckingPolicy(
    ee_certificate_rule=RevocationCheckingRule.NO_CHECK,
    intermediate_ca_cert_rule=RevocationCheckingRule.NO_CHECK,
)


def checking_rule(mode: RevocationMode) -> RevocationCheckingPolicy:
    """The rule for the certificates that sign CRLs and OCSP responses, as pyhanko-certvalidator has it."""
    rule = {
        "off": RevocationCheckingRule.NO_CHECK,
        "prefer": RevocationCheckingRule.CHECK_IF_DECLARED_SOFT,
        "require": RevocationCheckingRule.CRL_OR_OCSP_REQUIRED,
    }[mode]
    return RevocationCheckingPolicy(ee_certificate_rule=rule, intermediate_ca_cert_rule=rule)


def load_crls(encoded: Iterable[bytes], *, legacy: bool) -> list[CRLContainer]:
    """Read CRLs.

    Args:
        encoded: Each a CertificateList, DER or PEM.
        legacy: Whether signatures with MD5 or SHA-1 are accepted.

    Raises:
        MalformedError: One is not a CRL.
        UntrustedError: One has a signature that is too weak.
    """
    found = []
    for data in encoded:
        try:
            der = pem.unarmor(data)[2] if pem.detect(data) else data
            revocations = crl.CertificateList.load(der, strict=True)
            issuer = short_name(revocations.issuer)
            algorithm = revocations["signature_algorithm"]
            _ = revocations["tbs_cert_list"].native
        except UNREADABLE as error:
            raise MalformedError("the CRL cannot be read", hint=_first_line(error)) from error
        _require_strength(f"the CRL of {issuer}", algorithm, legacy=legacy)
        found.append(CRLContainer(revocations))
    return found


def load_ocsp_responses(encoded: Iterable[bytes], *, legacy: bool) -> list[OCSPContainer]:
    """Read OCSP responses.

    Args:
        encoded: Each an OCSPResponse, DER, with responseStatus successful.
        legacy: Whether signatures with MD5 or SHA-1 are accepted.

    Raises:
        MalformedError: One is not an OCSP response, or one without an answer, such as tryLater.
        UntrustedError: One has a signature that is too weak.
    """
    found = []
    for data in encoded:
        try:
            response = ocsp.OCSPResponse.load(data, strict=True)
            status = response["response_status"].native
            if status != "successful":
                raise MalformedError(f"the OCSP responder gave no answer but {status!r}")
            algorithm = response.basic_ocsp_response["signature_algorithm"]
            _ = response.basic_ocsp_response["tbs_response_data"].native
            found += OCSPContainer.load_multi(response)
        except UNREADABLE as error:
            raise MalformedError("the OCSP response cannot be read", hint=_first_line(error)) from error
        _require_strength("the OCSP response", algorithm, legacy=legacy)
    return found


async def check_revocation(path: ValidationPath, context: ValidationContext, mode: RevocationMode) -> None:
    """Ask for every certificate below the anchor whether it was revoked at the context's moment.

    What is at hand is used also where the certificate does not say where to find it (cRLDistributionPoints,
    authorityInfoAccess), because somebody put it there for this question. Never waits: nothing is fetched.

    Args:
        path: A path that is valid but for revocation.
        context: Holds the CRLs, the OCSP responses and the rule for their own signers.
        mode: "prefer" or "require".

    Raises:
        UntrustedError: One was revoked, or (require) nothing valid tells about one.
    """
    below: list[Any] = []
    for certificate in path.iter_certs(include_root=False):
        partial = ValidationPath(path.trust_anchor, below, certificate)
        doubts = await _doubts(certificate, partial, context)
        if doubts is not None and mode == "require":
            because = f" ({'; '.join(doubts)})" if doubts else ""
            raise UntrustedError(
                f"nothing tells whether the certificate of {short_name(certificate.subject)} was revoked",
                hint=f"give a current CRL or OCSP response of its issuer{because}",
            )
        context.record_validation(certificate, partial)  # type: ignore[no-untyped-call]  # pyhanko's lack
        below.append(certificate)


async def _doubts(certificate: Any, path: ValidationPath, context: ValidationContext) -> list[str] | None:  # noqa: ANN401 - asn1crypto has no types
    """Why nothing at hand clears a certificate, or None when something does. All is asked: answers differ."""
    doubts: list[str] = []
    cleared = False
    for verify, at_hand in ((verify_ocsp_response, context.ocsps), (verify_crl, context.crls)):
        if not at_hand:
            continue
        try:
            await verify(certificate, path, context)
        except RevokedError as error:
            reason = _REASONS.get(error.reason.native, str(error.reason.native))
            raise UntrustedError(
                f"the certificate of {short_name(certificate.subject)} was revoked on"
                f" {error.revocation_dt:%Y-%m-%d} ({reason})",
                hint="ask its owner for the certificate in use since then",
            ) from error
        except (OCSPValidationError, CRLValidationError) as error:
            doubts += [str(failure[0]) for failure in getattr(error, "failures", ())] or [str(error.args[0])]
        else:
            cleared = True
    return None if cleared else [_about_it(doubt) for doubt in doubts]


def _about_it(doubt: str) -> str:
    return doubt.rstrip(".").replace("the trust anchor", "it").replace("the end-entity certificate", "it")


def _require_strength(what: str, algorithm: Any, *, legacy: bool) -> None:  # noqa: ANN401 - asn1crypto has no types
    try:
        require_signature_strength(algorithm, legacy=legacy)
    except MessageError as error:
        raise UntrustedError(f"{what} does not count: {error.message}", hint=error.hint) from error


def _first_line(error: Exception) -> str:
    line = str(error).strip().partition("\n")[0]
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in line)
