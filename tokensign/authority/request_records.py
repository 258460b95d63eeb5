"""What the database knows of a request for a certificate, and how far it came."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from cryptography import x509
from sqlalchemy import select, update

from tokensign.audit.changes import record_change, this_person
from tokensign.authority.mailbox_proofs import MailboxProof, proofs_of
from tokensign.authority.people import person_name
from tokensign.authority.requests import read_request
from tokensign.errors import UsageError
from tokensign.store.tables import REQUEST_APPROVALS, REQUESTS

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from sqlalchemy import Connection, Row

__all__ = [
    "OPEN_STATES",
    "Request",
    "RequestState",
    "find_request",
    "record_step",
    "require_request",
    "set_state",
]


class RequestState(enum.StrEnum):
    """How far a request came; the value is its name in the database and in JSON."""

    UNPROVED = "unproved"
    """An address is not proved yet."""
    WAITING = "waiting"
    """It waits for approval."""
    APPROVED = "approved"
    """Its certificate may be issued."""
    ISSUING = "issuing"
    """Its certificate is being issued; nothing but issuing may follow, also where the process died."""
    ISSUED = "issued"
    """Its certificate was issued."""
    REJECTED = "rejected"
    """It was rejected."""


OPEN_STATES: Final = frozenset(RequestState) - {RequestState.ISSUED, RequestState.REJECTED}
"""The states in which something is still to be done."""


@dataclass(frozen=True, slots=True)
class Request:
    """A request for a certificate.

    Attributes:
        id: Its number.
        authority: The name of the CA that is to issue.
        profile: The name of the profile.
        csr: The CertificationRequest (RFC 2986), DER, whose signature was verified.
        requester: Whose certificate it will be, as the RA calls people.
        submitter: Who handed it in.
        state: How far it came.
        approvals_needed: How many people must approve it.
        approvers: Who did, in the order in which they did.
        proofs: What is known of the addresses that are asked for.
        reason: Why it was rejected, or None.
        submitted_at: When it was handed in.
        decided_at: When it was approved or rejected, or None.
    """

    id: int
    authority: str
    profile: str
    csr: bytes
    requester: str
    submitter: str
    state: RequestState
    approvals_needed: int
    approvers: tuple[str, ...]
    proofs: tuple[MailboxProof, ...]
    reason: str | None
    submitted_at: datetime
    decided_at: datetime | None

    @property
    def subject(self) -> str:
        """The name that is asked for (RFC 4514)."""
        return x509.load_der_x509_csr(self.csr).subject.rfc4514_string()

    @property
    def addresses(self) -> tuple[str, ...]:
        """The addresses that are asked for, each of which must be proved."""
        return tuple(proof.address for proof in self.proofs)

    @property
    def hosts(self) -> tuple[str, ...]:
        """The host names that are asked for; nothing but the approvers proves whose they are."""
        return read_request(self.csr).dns

    @property
    def issuance(self) -> str:
        """The name of the request in `issued_certificates`, where no other certificate has it."""
        return f"ra:{self.id}"

    @classmethod
    def of(cls, connection: Connection, row: Row[Any]) -> Request:
        """Read a row of `REQUESTS`, with what belongs to it."""
        approvers = connection.scalars(
            select(REQUEST_APPROVALS.c.approver)
            .where(REQUEST_APPROVALS.c.request == row.id)
            .order_by(REQUEST_APPROVALS.c.approved_at)
        )
        return cls(
            id=row.id,
            authority=row.authority,
            profile=row.profile,
            csr=row.csr,
            requester=row.requester,
            submitter=row.submitter,
            state=RequestState(row.state),
            approvals_needed=row.approvals_needed,
            approvers=tuple(approvers),
            proofs=proofs_of(connection, row.id),
            reason=row.reason,
            submitted_at=row.submitted_at,
            decided_at=row.decided_at,
        )


def find_request(connection: Connection, number: int) -> Request:
    """The request with a number.

    Raises:
        UsageError: There is none.
    """
    row = connection.execute(select(REQUESTS).where(REQUESTS.c.id == number)).one_or_none()
    if row is None:
        raise UsageError(f"there is no request {number}", hint="see `tokensign ra list --all`")
    return Request.of(connection, row)


def require_request(connection: Connection, number: int, *states: RequestState) -> Request:
    """The request, in one of some states; nobody else changes it until the transaction ends.

    Args:
        connection: A transaction of `Store.writing`.
        number: The number of the request.
        states: Those in which the next step is allowed.

    Raises:
        UsageError: There is no such request, or it is in another state.
    """
    connection.execute(select(REQUESTS.c.id).where(REQUESTS.c.id == number).with_for_update())
    found = find_request(connection, number)
    if found.state not in states:
        raise UsageError(
            f"request {number} is {found.state}, and not {' or '.join(states)}",
            hint=f"see `tokensign ra show {number}`",
        )
    return found


def set_state(connection: Connection, number: int, state: RequestState, **others: object) -> None:
    """Write how far a request came, and other columns with it."""
    connection.execute(update(REQUESTS).where(REQUESTS.c.id == number).values(state=state, **others))


def record_step(
    connection: Connection,
    action: str,
    found: Request,
    actor: str | None,
    details: Mapping[str, str | int | None],
) -> None:
    """Write to the audit log, with the account under which it was done where the actor has another name.

    Args:
        connection: The transaction of the step; call this last in it.
        action: What was done.
        found: The request.
        actor: Who did it; None for the user of this process.
        details: About what, beside the request.

    Raises:
        UsageError: As for `person_name`.
    """
    account = this_person()
    actor = person_name(actor)
    about = {"request": found.id, "authority": found.authority, **details}
    if actor not in (None, account):
        about["account"] = account
    record_change(connection, action, about, actor=actor)
