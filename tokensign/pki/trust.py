"""From a certificate to a trust anchor: path building and validation (RFC 5280 section 6).

pyhanko-certvalidator does the algorithm. Here are the limits that make it safe for certificates from
strangers, the rules it leaves to its caller, and reasons that a person understands.
"""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, TypeVar

from pyhanko_certvalidator.context import ValidationContext
from pyhanko_certvalidator.errors import PathBuildingError, ValidationError
from pyhanko_certvalidator.policy_decl import CertRevTrustPolicy
from pyhanko_certvalidator.registry import CertificateRegistry
from pyhanko_certvalidator.validate import async_validate_path

from tokensign.errors import MalformedError, PolicyError, UntrustedError, UsageError
from tokensign.pki.anchors import UNREADABLE, load_anchors, system_anchors
from tokensign.pki.chain_cache import ChainCache, ChainKey, fingerprint
from tokensign.pki.issuers import ISSUER_FETCHES_MAXIMUM, fetch_issuers
from tokensign.pki.mailbox import check_mailbox_constraints
from tokensign.pki.names import display_name
from tokensign.pki.policy import PolicyInputs, TrustPolicy
from tokensign.pki.purpose import Purpose, check_encryption_use, check_issuing_use
from tokensign.pki.reasons import (
    IssuerMissingError,
    SearchExhaustedError,
    in_plain_words,
    no_path,
    unreadable,
)
from tokensign.pki.revocation import Inquiry, RevocationInfo, RevocationMissingError, check_revocation
from tokensign.pki.revocation.check import UNCHECKED
from tokensign.pki.revocation.online import CACHE_SECONDS
from tokensign.pki.rules import check_certificate, check_end_entity, check_issued, check_name_count
from tokensign.pki.strength import AlgorithmPolicy
from tokensign.pki.validated_path import RevocationEvidence, ValidatedPath

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator, Sequence

    from pyhanko_certvalidator.authority import TrustAnchor
    from pyhanko_certvalidator.path import ValidationPath
    from pyhanko_certvalidator.registry import TrustManager

    from tokensign.certificates import Certificate

__all__ = [
    "CHAINS",
    "INTERMEDIATES_MAXIMUM",
    "PATHS_MAXIMUM",
    "STEPS_MAXIMUM",
    "PolicyInputs",
    "Purpose",
    "RevocationEvidence",
    "RevocationInfo",
    "TrustPolicy",
    "ValidatedPath",
    "check_encryption_use",
    "load_anchors",
    "system_anchors",
    "validate_path",
]

INTERMEDIATES_MAXIMUM: Final = 100  # real chains have one to four; each costs time before any is proven
PATHS_MAXIMUM: Final = 32  # complete paths tried, at some milliseconds each
STEPS_MAXIMUM: Final = 300  # issuers looked up; cross-certificates make factorially many ways to nowhere

CHAINS: Final = ChainCache()
"""The paths that were valid in this process."""

_NO_POLICIES: Final = "no valid set of policies"  # how the validator says it, which has no class for it
_NOW: Final = timedelta(seconds=10)  # a moment so close to the clock's is the present

_T = TypeVar("_T")

# asn1crypto parses on demand and without regard to threads, and the anchors of a policy are shared by all of
# them. The work is Python's own and holds the interpreter lock anyway.
_ASN1_LOCK: Final = threading.Lock()


def validate_path(
    certificate: Certificate,
    intermediates: Sequence[Certificate],
    policy: TrustPolicy,
    at: datetime,
    *,
    embedded: Sequence[RevocationInfo] = (),
) -> ValidatedPath:
    """Find a valid path from a certificate to a trust anchor.

    A certificate that is itself an anchor is its own path; its validity, use and strength are checked all
    the same. May be called from any thread, and inside an event loop.

    A path that was found once is remembered in `CHAINS`, and found again there until the first of its
    certificates expires or its revocation information is no longer the newest.

    Args:
        certificate: The signer's certificate.
        intermediates: Certificates that may lie between, in any order; nothing in them is believed unproven.
        policy: Whom to trust, for what, and how strictly.
        at: The moment at which the path shall be valid, an aware datetime; fractions of a second are dropped.
        embedded: CRLs and OCSP responses that came along with a message; nothing in them is believed
            unproven, and what cannot be read is passed over.

    Returns:
        The path, `certificate` first and the anchor last.

    Raises:
        RevokedCertificateError: A certificate on the path was revoked.
        PolicyError: A path is refused for its algorithms or its certificate policies, or because nothing
            tells about revocation though that is required.
        UntrustedError: There is none. The reason is that of the path that came closest.
        MalformedError: A CRL or an OCSP response of the policy cannot be read.
        UsageError: `at` has no time zone.
    """
    if at.tzinfo is None:
        raise UsageError("the time of a path validation needs a time zone")
    moment = at.astimezone(UTC).replace(microsecond=0)
    embedded = () if policy.revocation == "off" else embedded
    conditions = fingerprint((policy.fingerprint, *embedded)) if embedded else policy.fingerprint
    key = ChainKey.of(certificate, intermediates, conditions)
    found = CHAINS.find(key, moment)
    if found is None:
        found = _validated_online(certificate, intermediates, policy, moment, embedded)
        _remember(key, found, policy, moment)
    return found


def _remember(key: ChainKey, path: ValidatedPath, policy: TrustPolicy, moment: datetime) -> None:
    """Keep a path for the time for which a validation would find the same.

    Without revocation that is the time in which all its certificates are valid. Revocation information knows
    the past only: about a moment that is not the present, newer information may say something else, even when
    it is at hand already. So such a path is kept for its moment alone, and one of the present until the
    information ages; not that long where it knows already that a certificate ends before. Where one was left
    unasked, it is asked about the next time.
    """
    if policy.revocation == "off":
        since = max(entry.not_before for entry in path)
        CHAINS.keep(key, path, since, path.valid_until)
    elif {entry.certificate for entry in path.revocation if entry.next_update} >= {*path.certificates[:-1]}:
        lasts = abs(datetime.now(UTC) - moment) < _NOW
        lasts &= not any(entry.revoked_later for entry in path.revocation)
        CHAINS.keep(key, path, moment, _fresh_until(path, policy, moment) if lasts else moment)


def _fresh_until(path: ValidatedPath, policy: TrustPolicy, moment: datetime) -> datetime:
    """Until when nobody needs to ask again; it is once a day at least, also where a CRL lasts for months."""
    until = min(path.valid_until, moment + timedelta(seconds=CACHE_SECONDS))
    if policy.maximum_age is None:
        return until
    return min(until, *(entry.this_update + policy.maximum_age for entry in path.revocation))


def _validated_online(
    certificate: Certificate,
    intermediates: Sequence[Certificate],
    policy: TrustPolicy,
    moment: datetime,
    embedded: Sequence[RevocationInfo],
) -> ValidatedPath:
    """`_validated`; what is missing is fetched where the policy allows it.

    Issuers are fetched level by level; revocation information is asked for while some server is left that may
    tell, within the limits of `tokensign.pki.revocation.online`. Nothing is fetched under the lock.
    """
    known = list(intermediates)
    inquiry = policy.inquiry()
    inquiry.add(embedded)
    levels = 0
    while True:
        try:
            path = _validated(certificate, known, policy, moment, inquiry)
        except RevocationMissingError as error:
            inquiry.ask(error.certificate, error.issuer)
        except IssuerMissingError as error:
            if policy.fetch is None or levels == ISSUER_FETCHES_MAXIMUM:
                raise
            fresh = [entry for entry in fetch_issuers(error.top, policy.fetch) if entry not in known]
            if not fresh:
                raise
            known += fresh
            levels += 1
        else:
            inquiry.keep(path.revocation)
            return path


def _validated(
    certificate: Certificate,
    intermediates: Sequence[Certificate],
    policy: TrustPolicy,
    moment: datetime,
    inquiry: Inquiry,
) -> ValidatedPath:
    with _ASN1_LOCK:
        is_anchor = certificate in policy.anchors
        try:
            (check_certificate if is_anchor else check_issued)(certificate, moment, legacy=policy.legacy)
            check_end_entity(certificate, policy.purpose)
        except UNREADABLE as error:
            raise unreadable(certificate, error) from error
        if is_anchor:
            return ValidatedPath((certificate,), (), certificate.not_after)
        relevant = _relevant(certificate, intermediates, policy)
        return _complete(_search(certificate, relevant, policy, moment, inquiry))


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
    certificate: Certificate,
    intermediates: list[Certificate],
    policy: TrustPolicy,
    moment: datetime,
    inquiry: Inquiry,
) -> ValidatedPath:
    """The first valid one of the candidate paths, as they are found; else the refusal of the best of them."""
    registry = _BoundedRegistry(policy.anchor_store.certificates, intermediates)
    known = {id(entry.asn1): entry for entry in (certificate, *intermediates, *policy.anchors)}
    context = _context(policy, registry, moment)
    refusals: list[_RefusedError] = []
    try:
        async for path in context.path_builder.async_build_paths_lazy(certificate.asn1):
            members = [known[id(member)] for member in path][::-1]
            try:
                evidence = await _validate(path, members, policy, context, inquiry)
            except _RefusedError as refusal:
                refusals.append(refusal)
            else:
                return ValidatedPath(tuple(members), evidence, _valid_until(members, evidence))
            if len(refusals) == PATHS_MAXIMUM:
                break
    except (PathBuildingError, *UNREADABLE) as error:
        if not refusals:
            raise no_path(certificate, intermediates, policy, error) from error
    best = max(refusals, key=lambda refusal: refusal.progress)
    raise best.reason


def _valid_until(members: Sequence[Certificate], evidence: Sequence[RevocationEvidence]) -> datetime:
    updates = (entry.next_update for entry in evidence if entry.next_update is not None)
    return min(*(member.not_after for member in members), *updates)


class _RefusedError(UntrustedError):
    """Why one candidate path is not valid, and how many stages it passed before."""

    def __init__(self, reason: UntrustedError, *, progress: int) -> None:
        super().__init__(reason.message, hint=reason.hint)
        self.reason = reason
        self.progress = progress


async def _validate(
    path: ValidationPath,
    members: list[Certificate],
    policy: TrustPolicy,
    context: ValidationContext,
    inquiry: Inquiry,
) -> tuple[RevocationEvidence, ...]:
    progress = 0
    try:
        check_certificate(members[-1], context.moment, legacy=policy.legacy)
        for member in members[1:-1]:
            check_issued(member, context.moment, legacy=policy.legacy)
            check_issuing_use(member, policy.purpose)
        check_name_count(members)
        check_mailbox_constraints(members)
        progress = 1
        await _validate_rfc5280(path, members, policy, context)
        progress = 2
        if policy.revocation != "off":
            return await check_revocation(path, members, context, inquiry)
    except (MalformedError, RevocationMissingError):
        raise
    except UntrustedError as reason:
        raise _RefusedError(reason, progress=progress) from reason
    except Exception as error:  # odd certificates and CRLs make the validator stumble in many ways
        raise _RefusedError(unreadable(members[0], error), progress=progress) from error
    return ()


async def _validate_rfc5280(
    path: ValidationPath, members: list[Certificate], policy: TrustPolicy, context: ValidationContext
) -> None:
    try:
        await async_validate_path(context, path, policy.parameters)
    except ValidationError as error:
        reason = in_plain_words(error.failure_msg, members)
        refusal = PolicyError if _NO_POLICIES in error.failure_msg else UntrustedError
        raise refusal(
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
            raise SearchExhaustedError
        found = super().find_potential_issuers(cert, trust_manager)
        # Self-issued ones last: a detour over a root that is not trusted is for when nothing else is left.
        return iter(sorted(found, key=lambda issuer: getattr(issuer, "self_issued", False)))


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
