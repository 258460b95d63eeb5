"""The rules for the certificates of a path that pyhanko-certvalidator lacks, or words less plainly."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pyhanko_certvalidator.validate import SUPPORTED_EXTENSIONS

from tokensign.errors import LegacyAlgorithmError, MessageError, PolicyError, UntrustedError
from tokensign.pki.names import display_name
from tokensign.pki.purpose import check_signing_use
from tokensign.pki.strength import require_key_strength, require_signature_strength

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from tokensign.certificates import Certificate
    from tokensign.pki.purpose import Purpose

__all__ = ["NAME_CHECKS_MAXIMUM", "check_certificate", "check_end_entity", "check_issued", "check_name_count"]

NAME_CHECKS_MAXIMUM: Final = 50_000  # names times name constraints, at some microseconds each


def check_issued(certificate: Certificate, moment: datetime, *, legacy: bool) -> None:
    """What is asked of a certificate below the anchor: as of every one, and of its signature algorithm.

    Args:
        certificate: The certificate.
        moment: When it shall be valid.
        legacy: Whether old algorithms and short keys are accepted.

    Raises:
        UntrustedError: With the reason.
    """
    check_certificate(certificate, moment, legacy=legacy)
    algorithm = certificate.asn1["signature_algorithm"]
    inner = certificate.asn1["tbs_certificate"]["signature"]
    if algorithm.dump() != inner.dump():  # RFC 5280 section 4.1.1.2
        raise UntrustedError(f"the certificate of {display_name(certificate)} names two signature algorithms")
    _check_strength(certificate, lambda: require_signature_strength(algorithm, legacy=legacy))


def check_certificate(certificate: Certificate, moment: datetime, *, legacy: bool) -> None:
    """What is asked of every certificate, anchors too: that it is current, not too weak, and understood.

    Args:
        certificate: The certificate.
        moment: When it shall be valid.
        legacy: Whether short keys are accepted.

    Raises:
        UntrustedError: With the reason.
    """
    name = display_name(certificate)
    if moment > certificate.not_after:
        raise UntrustedError(
            f"the certificate of {name} expired on {certificate.not_after:%Y-%m-%d}",
            hint="for a signature made before, name its time with --at (in the library: at)",
        )
    if moment < certificate.not_before:
        raise UntrustedError(
            f"the certificate of {name} is not valid before {certificate.not_before:%Y-%m-%d}",
            hint="check the clock, or the time given with --at",
        )
    _check_strength(certificate, lambda: require_key_strength(certificate.public_key, legacy=legacy))
    if not legacy and _has_explicit_curve(certificate):
        raise UntrustedError(
            f"the certificate of {name} does not count: its key describes its curve instead of naming it",
            hint="ask for a certificate as RFC 5480 has it",
        )
    extensions = certificate.asn1["tbs_certificate"]["extensions"] or ()
    # RFC 5280 section 4.2; readers would differ on which one counts.
    if len({entry["extn_id"].dotted for entry in extensions}) != len(extensions):
        raise UntrustedError(f"the certificate of {name} has an extension twice")
    unknown = certificate.asn1.critical_extensions - SUPPORTED_EXTENSIONS
    if unknown:  # RFC 5280 section 4.2
        raise UntrustedError(
            f"the certificate of {name} has critical extensions that are not known:"
            f" {', '.join(sorted(unknown))}"
        )


def check_end_entity(certificate: Certificate, purpose: Purpose) -> None:
    """What is asked of the signer's certificate: that it is meant for this, and names real addresses.

    Raises:
        UntrustedError: With the reason.
    """
    check_signing_use(certificate, purpose)
    for address in certificate.emails:
        if address.count("@") != 1:  # what stands before and after the @ would depend on the reader
            raise UntrustedError(
                f"the certificate of {display_name(certificate)} is for {address!r}, no e-mail address"
            )


def check_name_count(members: list[Certificate]) -> None:
    """Keep names and name constraints from being multiplied into hours of comparing.

    Args:
        members: A path, the signer's certificate first and the anchor last.

    Raises:
        UntrustedError: Names times constraints are more than NAME_CHECKS_MAXIMUM.
    """
    constraints = sum(
        len(constraint[field] or ())
        for constraint in (member.asn1.name_constraints_value for member in members[1:])
        if constraint is not None
        for field in ("permitted_subtrees", "excluded_subtrees")
    )
    names = max(len(member.asn1.subject_alt_name_value or ()) + 1 for member in members)
    if constraints * names > NAME_CHECKS_MAXIMUM:
        raise UntrustedError(
            f"the certificates from {display_name(members[0])} to {display_name(members[-1])} have too many"
            f" names and name constraints: {names} and {constraints}"
        )


def _has_explicit_curve(certificate: Certificate) -> bool:
    """Whether the parameters of an elliptic curve are written out, which RFC 5480 section 2.1.1 forbids.

    Readers that do not look at its base point take forged keys for those of others (CVE-2020-0601).
    """
    algorithm = certificate.asn1["tbs_certificate"]["subject_public_key_info"]["algorithm"]
    return bool(algorithm["algorithm"].native == "ec" and algorithm["parameters"].name != "named")


def _check_strength(certificate: Certificate, check: Callable[[], None]) -> None:
    try:
        check()
    except MessageError as error:
        refusal = PolicyError if isinstance(error, LegacyAlgorithmError) else UntrustedError
        raise refusal(
            f"the certificate of {display_name(certificate)} does not count: {error.message}", hint=error.hint
        ) from error
