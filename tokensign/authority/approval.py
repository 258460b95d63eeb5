"""The second half of a registration: approval by other people, and issuing once.

`issuing` is written before the CA signs, and the CA issues at most one certificate for a request. Where the
process dies in between, issuing again gives the certificate that is there, or makes the first one.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from sqlalchemy import insert, select

from tokensign.audit.changes import this_person
from tokensign.authority.drafting import Wanted, draft_certificate
from tokensign.authority.people import person_name, same_person
from tokensign.authority.records import State
from tokensign.authority.request_records import (
    Request,
    RequestState,
    find_request,
    record_step,
    require_request,
    set_state,
)
from tokensign.errors import PolicyError, UsageError
from tokensign.store.tables import ISSUED_CERTIFICATES, REQUEST_APPROVALS

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from tokensign.authority.authority import Authority
    from tokensign.authority.issuing import IssuedCertificate
    from tokensign.authority.profiles import Profile
    from tokensign.keys import Signer
    from tokensign.store import Store

__all__ = ["DUAL_CONTROL", "approve_request", "issue_for_request", "reject_request"]

DUAL_CONTROL: Final = 2  # people who approve a CA's certificate, with which others could be made

_REASON_MAXIMUM: Final = 500  # letters; the requester is to read it


def approve_request(store: Store, number: int, *, actor: str | None = None) -> Request:
    """Approve a request, as another person than the one who asks or handed it in.

    Args:
        store: The database of the CA.
        number: The number of the request.
        actor: Who approves; None for the user of this process. Nothing here proves who it is.

    Returns:
        The request as it is now; a request for a CA waits for a second person.

    Raises:
        PolicyError: The approver is the requester or submitter, or has approved already.
        UsageError: There is no such request, or it does not wait for approval.
        FileError: The database fails.
    """
    approver = person_name(actor) or this_person()
    with store.writing() as connection:
        found = require_request(connection, number, RequestState.WAITING)
        _require_other(found, approver)
        now = datetime.now(UTC)
        connection.execute(
            insert(REQUEST_APPROVALS).values(request=number, approver=approver, approved_at=now)
        )
        if len(found.approvers) + 1 >= found.approvals_needed:
            set_state(connection, number, RequestState.APPROVED, decided_at=now)
        record_step(connection, "request approved", found, approver, {"approval": len(found.approvers) + 1})
        return find_request(connection, number)


def reject_request(store: Store, number: int, reason: str, *, actor: str | None = None) -> Request:
    """Reject a request; also one that was approved, as long as issuing has not begun.

    Args:
        store: The database of the CA.
        number: The number of the request.
        reason: Why, for the requester.
        actor: Who rejects; None for the user of this process.

    Returns:
        The request as it is now.

    Raises:
        UsageError: There is no such request, it is past rejecting, or the reason is empty, too long, or has
            letters that are not printed.
        FileError: The database fails.
    """
    reason = reason.strip()
    if not (0 < len(reason) <= _REASON_MAXIMUM and reason.isprintable()):
        raise UsageError(f"a reason has 1 to {_REASON_MAXIMUM} letters, in one line")
    with store.writing() as connection:
        found = require_request(
            connection, number, RequestState.UNPROVED, RequestState.WAITING, RequestState.APPROVED
        )
        set_state(connection, number, RequestState.REJECTED, reason=reason, decided_at=datetime.now(UTC))
        record_step(connection, "request rejected", found, actor, {"reason": reason})
        return find_request(connection, number)


def issue_for_request(
    store: Store,
    number: int,
    authority: Authority,
    signer: Signer,
    profile: Profile,
    *,
    days: int | None = None,
    actor: str | None = None,
) -> IssuedCertificate:
    """Issue the certificate of an approved request, or get the one that was issued for it.

    Args:
        store: The database of the CA.
        number: The number of the request.
        authority: The CA that the request names.
        signer: Its key.
        profile: The profile that the request names.
        days: How long the certificate is valid; None for as long as the profile says.
        actor: Who issues; None for the user of this process.

    Raises:
        PolicyError: An address was proved too long ago, the profile does not allow it, or it became one for
            CAs after too few people approved.
        UsageError: There is no such request, it is not approved, or it asks for another CA or profile.
        UnsupportedError, SigningError, TokenError, FileError: As for `Authority.issue`.
    """
    actor = person_name(actor)
    with store.writing() as connection:
        found = require_request(
            connection, number, RequestState.APPROVED, RequestState.ISSUING, RequestState.ISSUED
        )
        if (found.authority, found.profile) != (authority.name, profile.name):
            raise UsageError(
                f"request {number} is for the CA {found.authority} and the profile {found.profile}"
            )
        if profile.is_authority and len(found.approvers) < DUAL_CONTROL:
            raise PolicyError(
                f"the profile {profile.name} was not for CAs when request {number} was submitted",
                hint="submit the request again: the certificate of a CA is approved by two people",
            )
        if not _has_certificate(connection, found):
            _require_fresh_proofs(found)
        if found.state is RequestState.APPROVED:
            wanted = Wanted(found.csr, profile, emails=found.addresses, days=days)
            draft_certificate(authority, signer, wanted)  # refuses before the state changes
            set_state(connection, number, RequestState.ISSUING)
            record_step(connection, "issuing begun", found, actor, {})
    issued = authority.issue(
        signer,
        found.csr,
        profile,
        emails=found.addresses,
        days=days,
        request_id=found.issuance,
        actor=actor,
    )
    with store.writing() as connection:
        now = require_request(connection, number, RequestState.ISSUING, RequestState.ISSUED)
        if now.state is RequestState.ISSUING:  # nobody else has said so meanwhile
            set_state(connection, number, RequestState.ISSUED)
            record_step(connection, "request fulfilled", found, actor, {})
    return issued


def _require_other(found: Request, approver: str) -> None:
    """Refuse an approver who has a part in the request already, however the name is written."""
    if any(same_person(approver, other) for other in (found.requester, found.submitter, *found.addresses)):
        raise PolicyError(
            f"{approver} asked for the certificate of request {found.id} or handed the request in, and does"
            " not approve it",
            hint="let another person approve it; --as says who that is, by an address where names are alike",
        )
    if any(same_person(approver, other) for other in found.approvers):
        raise PolicyError(
            f"{approver} has approved request {found.id} already",
            hint=f"it needs {found.approvals_needed} different people",
        )


def _has_certificate(connection: Connection, found: Request) -> bool:
    """Whether the CA has issued, also where the process died before the request knew it."""
    table = ISSUED_CERTIFICATES.c
    query = select(table.serial).where(table.request_id == found.issuance, table.state == State.ISSUED)
    return connection.scalar(query) is not None


def _require_fresh_proofs(found: Request) -> None:
    now = datetime.now(UTC)
    for proof in found.proofs:
        if not proof.holds_at(now):
            raise PolicyError(
                f"that {proof.address} belongs to the requester was proved too long ago",
                hint="let a new certification request be made and submitted",
            )
