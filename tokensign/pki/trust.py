"""From a certificate to a trust anchor: path building and validation (RFC 5280 section 6).

pyhanko-certvalidator does the algorithm. Here are the limits that make it safe for certificates from
strangers, the rules it leaves to its caller, and reasons that a person understands.
"""

from __future__ import annotations

import re
import threading
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, TypeVar

from pyhanko_certvalidator.context import ValidationContext
from pyhanko_certvalidator.errors import PathBuildingError, ValidationError
from pyhanko_certvalidator.policy_decl import CertRevTrustPolicy
from pyhanko_certvalidator.registry import CertificateRegistry
from pyhanko_certvalidator.validate import SUPPORTED_EXTENSIONS, async_validate_path

from tokensign.errors import MalformedError, MessageError, UntrustedError, UsageError
from tokensign.pki.anchors import UNREADABLE, load_anchors
from tokensign.pki.names import display_name, short_name
from tokensign.pki.policy import PolicyInputs, TrustPolicy
from tokensign.pki.purpose import Purpose, check_encryption_use, check_issuing_use, check_signing_use
from tokensign.pki.revocation import UNCHECKED, check_revocation, checking_rule
from tokensign.pki.strength import AlgorithmPolicy, require_key_strength, require_signature_strength

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator, Sequence

    from pyhanko_certvalidator.authority import TrustAnchor
    from pyhanko_certvalidator.path import ValidationPath
    from pyhanko_certvalidator.registry import TrustManager

    from tokensign.certificates import Certificate

__all__ = [
    "INTERMEDIATES_MAXIMUM",
    "NAME_CHECKS_MAXIMUM",
    "PATHS_MAXIMUM",
    "STEPS_MAXIMUM",
    "PolicyInputs",
    "Purpose",
    "TrustPolicy",
    "check_encryption_use",
    "load_anchors",
    "validate_path",
]

INTERMEDIATES_MAXIMUM: Final = 100  # real chains have one to four; each costs time before any is proven
PATHS_MAXIMUM: Final = 32  # complete paths tried, at some milliseconds each
STEPS_MAXIMUM: Final = (
    300  # issuers looked up: cross-certificates make factorially many ways that lead nowhere
)
NAME_CHECKS_MAXIMUM: Final = 50_000  # names times name constraints, at some microseconds each

_T = TypeVar("_T")

# asn1crypto parses on demand and without regard to threads, and the anchors of a policy are shared by all of
# them. The work is Python's own and holds the interpreter lock anyway.
_ASN1_LOCK: Final = threading.Lock()


def validate_path(
    certificate: Certificate, intermediates: Sequence[Certificate], policy: TrustPolicy, at: datetime
) -> tuple[Certificate, ...]:
    """Find a valid path from a certificate to a trust anchor.

    A certificate that is itself an anchor is its own path; its validity, use and strength are checked all
    the same. Nothing is fetched. May be called from any thread, and inside an event loop.

    Args:
        certificate: The signer's certificate.
        intermediates: Certificates that may lie between, in any order; nothing in them is believed unproven.
        policy: Whom to trust, for what, and how strictly.
        at: The moment at which the path shall be valid, an aware datetime; fractions of a second are dropped.

    Returns:
        The path, `certificate` first and the anchor last.

    Raises:
        UntrustedError: There is none. The reason is that of the path that came closest.
        MalformedError: A CRL or an OCSP response of the policy cannot be read.
        UsageError: `at` has no time zone.
    """
    if at.tzinfo is None:
        raise UsageError("the time of a path validation needs a time zone")
    moment = at.astimezone(UTC).replace(microsecond=0)
    with _ASN1_LOCK:
        is_anchor = certificate in policy.anchors
        try:
            (_check_anchor if is_anchor else _check_issued)(certificate, moment, legacy=policy.legacy)
            _check_end_entity(certificate, policy.purpose)
        except UNREADABLE as error:
            raise _unreadable(certificate, error) from error
        if is_anchor:
            return (certificate,)
        return _complete(_search(certificate, _relevant(certificate, intermediates, policy), policy, moment))


def _relevant(
    certificate: Certificate, intermediates: Sequence[Certificate], policy: TrustPolicy
) -> list[Certificate]:
    anchors = set(policy.anchors)
    found = [entry for entry in dict.fromkeys(intermediates) if entry not in anchors and entry != certificate]
    if len(found) > INTERMEDIATES_MAXIMUM:
        raise UntrustedError(
            f"{len(found)} certificates came along with that of {display_name(certificate)}; a path is not"
            f" searched among more than {INTERMEDIATES_MAXIMUM}",
            hint="give the certificates of its CAs alone",
        )
    return found


async def _search(
    certificate: Certificate, intermediates: list[Certificate], policy: TrustPolicy, moment: datetime
) -> tuple[Certificate, ...]:
    """The first valid one of the candidate paths, as they are found; else the refusal of the best of them."""
    registry = _BoundedRegistry(policy.anchor_store.certificates, intermediates)
    known = {id(entry.asn1): entry for entry in (certificate, *intermediates, *policy.anchors)}
    context = _context(policy, registry, moment)
    refusals: list[_RefusedError] = []
    try:
        async for path in context.path_builder.async_build_paths_lazy(certificate.asn1):
            members = [known[id(member)] for member in path][::-1]
            try:
                await _validate(path, members, policy, context)
            except _RefusedError as refusal:
                refusals.append(refusal)
            else:
                return tuple(members)
            if len(refusals) == PATHS_MAXIMUM:
                break
    except (PathBuildingError, *UNREADABLE) as error:
        if not refusals:
            raise _no_path(certificate, intermediates, policy, error) from error
    best = max(refusals, key=lambda refusal: refusal.progress)
    raise UntrustedError(best.message, hint=best.hint) from best


class _RefusedError(UntrustedError):
    """Why one candidate path is not valid, and how many stages it passed before."""

    def __init__(self, reason: UntrustedError, *, progress: int) -> None:
        super().__init__(reason.message, hint=reason.hint)
        self.progress = progress


async def _validate(
    path: ValidationPath, members: list[Certificate], policy: TrustPolicy, context: ValidationContext
) -> None:
    progress = 0
    try:
        _check_anchor(members[-1], context.moment, legacy=policy.legacy)
        for member in members[1:-1]:
            _check_issued(member, context.moment, legacy=policy.legacy)
            check_issuing_use(member, policy.purpose)
        _check_name_count(members)
        progress = 1
        await _validate_rfc5280(path, members, policy, context)
        progress = 2
        if policy.revocation != "off":
            checking = _checking_context(policy, context)
            await check_revocation(path, checking, policy.revocation)
    except MalformedError:
        raise
    except UntrustedError as reason:
        raise _RefusedError(reason, progress=progress) from reason
    except Exception as error:  # odd certificates and CRLs make the validator stumble in many ways
        raise _RefusedError(_unreadable(members[0], error), progress=progress) from error


async def _validate_rfc5280(
    path: ValidationPath, members: list[Certificate], policy: TrustPolicy, context: ValidationContext
) -> None:
    try:
        await async_validate_path(context, path, policy.parameters)
    except ValidationError as error:
        reason = _plain(error.failure_msg, members)
        raise UntrustedError(
            f"the path from the certificate of {display_name(members[0])} to {display_name(members[-1])}"
            f" is not valid: {reason}",
            hint="ask the sender for another certificate; this one, or that of its CA, is wrong",
        ) from error


def _context(policy: TrustPolicy, registry: CertificateRegistry, moment: datetime) -> ValidationContext:
    """For the path itself, without revocation."""
    return ValidationContext(
        trust_manager=policy.anchor_store,
        certificate_registry=registry,
        moment=moment,
        time_tolerance=timedelta(0),
        allow_fetching=False,
        revinfo_policy=CertRevTrustPolicy(UNCHECKED),
        algorithm_usage_policy=AlgorithmPolicy(legacy=policy.legacy),
    )


def _checking_context(policy: TrustPolicy, context: ValidationContext) -> ValidationContext:
    """For revocation, and for the paths of those who signed what tells about it."""
    return ValidationContext(
        trust_manager=policy.anchor_store,
        certificate_registry=context.certificate_registry,
        crls=policy.crl_containers,
        ocsps=policy.ocsp_containers,
        moment=context.moment,
        time_tolerance=timedelta(0),
        allow_fetching=False,
        revinfo_policy=CertRevTrustPolicy(checking_rule(policy.revocation)),
        algorithm_usage_policy=context.algorithm_policy,
    )


class _BoundedRegistry(CertificateRegistry):
    """The certificates that a path may go through, and a limit on the search among them."""

    def __init__(self, anchors: Sequence[Any], intermediates: Sequence[Certificate]) -> None:
        super().__init__()
        self._steps = 0
        for asn1 in (*anchors, *(entry.asn1 for entry in intermediates)):
            try:  # what register() reads, first, because it keeps half of what it cannot read
                _ = asn1.issuer_serial, asn1.subject.hashable, asn1.public_key.sha1, asn1.key_identifier
            except UNREADABLE:  # it came along with the message, and need not be on the path
                continue
            self.register(asn1)

    def find_potential_issuers(self, cert: Any, trust_manager: TrustManager) -> Iterator[TrustAnchor | Any]:  # noqa: ANN401 - asn1crypto has no types
        self._steps += 1
        if self._steps > STEPS_MAXIMUM:
            raise _SearchExhaustedError
        found = super().find_potential_issuers(cert, trust_manager)
        # Self-issued ones last: a detour over a root that is not trusted is for when nothing else is left.
        return iter(sorted(found, key=lambda issuer: getattr(issuer, "self_issued", False)))


class _SearchExhaustedError(PathBuildingError):
    """The certificates refer to each other in more ways than are tried."""


def _check_issued(certificate: Certificate, moment: datetime, *, legacy: bool) -> None:
    """What is asked of a certificate below the anchor: as of an anchor, and of its signature algorithm."""
    _check_anchor(certificate, moment, legacy=legacy)
    algorithm = certificate.asn1["signature_algorithm"]
    if (
        algorithm.dump() != certificate.asn1["tbs_certificate"]["signature"].dump()
    ):  # RFC 5280 section 4.1.1.2
        raise UntrustedError(f"the certificate of {display_name(certificate)} names two signature algorithms")
    _check_strength(certificate, lambda: require_signature_strength(algorithm, legacy=legacy))


def _check_anchor(certificate: Certificate, moment: datetime, *, legacy: bool) -> None:
    """What is asked of every certificate: that it is current, not too weak, and understood."""
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
    extensions = [
        entry["extn_id"].dotted for entry in certificate.asn1["tbs_certificate"]["extensions"] or ()
    ]
    if len(extensions) != len(
        set(extensions)
    ):  # RFC 5280 section 4.2; readers would differ on which one counts
        raise UntrustedError(f"the certificate of {name} has an extension twice")
    unknown = certificate.asn1.critical_extensions - SUPPORTED_EXTENSIONS
    if unknown:  # RFC 5280 section 4.2
        raise UntrustedError(
            f"the certificate of {name} has critical extensions that are not known:"
            f" {', '.join(sorted(unknown))}"
        )


def _check_end_entity(certificate: Certificate, purpose: Purpose) -> None:
    check_signing_use(certificate, purpose)
    for address in certificate.emails:
        if address.count("@") != 1:  # what stands before and after the @ would depend on the reader
            raise UntrustedError(
                f"the certificate of {display_name(certificate)} is for {address!r}, no e-mail address"
            )


def _check_name_count(members: list[Certificate]) -> None:
    """Keep names and name constraints from being multiplied into hours of comparing."""
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


def _check_strength(certificate: Certificate, check: Callable[[], None]) -> None:
    try:
        check()
    except MessageError as error:
        raise UntrustedError(
            f"the certificate of {display_name(certificate)} does not count: {error.message}", hint=error.hint
        ) from error


def _no_path(
    certificate: Certificate, intermediates: list[Certificate], policy: TrustPolicy, error: Exception
) -> UntrustedError:
    name = display_name(certificate)
    if isinstance(error, _SearchExhaustedError):
        return UntrustedError(
            f"no path from the certificate of {name} to a trust anchor: the certificates that came along lead"
            " into each other",
            hint="give the certificates of its CAs alone",
        )
    if not isinstance(error, PathBuildingError):
        return _unreadable(certificate, error)
    top = _follow(certificate, intermediates)
    issuer = short_name(top.asn1.issuer)
    if top.is_self_issued:
        reason = f"{issuer!r} is self-signed and not trusted"
    elif any(anchor.asn1.subject == top.asn1.issuer for anchor in policy.anchors):
        reason = f"{issuer!r} is trusted with another key, or not as a CA"
    else:
        reason = f"the certificate of {issuer!r} is missing"
    return UntrustedError(
        f"no path from the certificate of {name} to a trust anchor: {reason}",
        hint="give the missing certificate with --untrusted, or what you trust with --trust",
    )


def _follow(certificate: Certificate, intermediates: list[Certificate]) -> Certificate:
    """The last certificate that is reached by the names of issuers."""
    left = list(intermediates)
    while True:
        issuer = next((entry for entry in left if entry.asn1.subject == certificate.asn1.issuer), None)
        if issuer is None:
            return certificate
        left.remove(issuer)
        certificate = issuer


def _plain(message: str, members: list[Certificate]) -> str:
    """A message of pyhanko-certvalidator with names in place of positions."""
    message = message.removeprefix("The path could not be validated because ").strip().rstrip(".")
    message = re.sub(
        r"(?:the )?intermediate certificate (\d+)",
        lambda position: f"the certificate of {display_name(members[-1 - int(position[1])])}",
        message,
    )
    return message.replace("the end-entity certificate", f"the certificate of {display_name(members[0])}")


def _unreadable(certificate: Certificate, error: Exception) -> UntrustedError:
    return UntrustedError(
        f"the certificate of {display_name(certificate)} cannot be checked: something in it, or in what came"
        " along with it, is broken",
        hint=f"the validator says: {type(error).__name__}",
    )


def _complete(coroutine: Coroutine[Any, Any, _T]) -> _T:
    """Run a coroutine to its end without an event loop.

    pyhanko-certvalidator is asynchronous for the sake of fetching. Nothing is fetched, so it never waits.
    """
    try:
        coroutine.send(None)
    except StopIteration as end:
        result: _T = end.value
        return result
    coroutine.close()
    raise RuntimeError("path validation waits, although nothing is fetched")
