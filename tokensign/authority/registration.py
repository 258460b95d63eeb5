"""The registration authority: requests are submitted, proved, approved or rejected, and then issued.

::

    submit ──> unproved ──> waiting ──> approved ──> issuing ──> issued
                  │ a code    │ one or     │
                  │ for each  │ two others │
                  │ address   │ approve    │
                  └───────────┴────────────┴──> rejected

The first half is here, the second in `tokensign.authority.approval`. Each arrow is one transaction that also
has its entry in the audit log, and two processes cannot both take the same arrow.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from sqlalchemy import insert, select

from tokensign.audit.changes import this_person
from tokensign.authority.approval import DUAL_CONTROL
from tokensign.authority.compromised_keys import require_uncompromised_key
from tokensign.authority.contents import check_key, extensions_of, permitted_subject
from tokensign.authority.mailbox_proofs import check_code, make_codes, renew_codes
from tokensign.authority.people import person_name
from tokensign.authority.records import lock_authority
from tokensign.authority.request_records import (
    OPEN_STATES,
    Request,
    RequestState,
    find_request,
    record_step,
    require_request,
    set_state,
)
from tokensign.authority.requests import CertificationRequest, read_request, request_der
from tokensign.errors import PolicyError, UsageError
from tokensign.pki.names import mailboxes
from tokensign.store.tables import REQUESTS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tokensign.authority.profiles import Profile
    from tokensign.store import Store

__all__ = [
    "get_request",
    "list_requests",
    "new_codes",
    "prove_mailbox",
    "submit_request",
]

_ADDRESSES_MAXIMUM: Final = 10  # of one request: each gets a mail, and people have a few addresses


def submit_request(
    store: Store,
    csr: bytes,
    authority: str,
    profile: Profile,
    *,
    requester: str | None = None,
    submitter: str | None = None,
) -> tuple[Request, Mapping[str, str]]:
    """Take a request.

    Args:
        store: The database of the CA.
        csr: The certification request (RFC 2986), PEM or DER.
        authority: The name of the CA that is to issue.
        profile: What is asked for.
        requester: Whose certificate it will be; None for the first address that is asked for.
        submitter: Who hands it in; None for the user of this process.

    Returns:
        The request, and for each address that it asks for the code that is to be mailed there, and nowhere
        else. Only hashes of the codes are kept.

    Raises:
        MalformedError, UnsupportedError: The request cannot be read.
        BadSignatureError: It is not signed by its own key.
        PolicyError: The profile does not allow the key or a name, or the key is compromised.
        UsageError: It names nobody, asks for what cannot be certified, or is here already and open.
        FileError: The database fails.
    """
    asked = read_request(csr)
    check_key(profile, asked.public_key)
    addresses = _addresses(asked, profile)
    subject = permitted_subject(profile, asked.subject, addresses)
    extensions_of(
        profile, asked.public_key, usage=None, emails=addresses, dns=asked.dns, nameless=not subject.rdns
    )
    if requester is None and not addresses:
        raise UsageError(
            "the certification request names no address, so it is not known whose it is",
            hint="say it with --requester",
        )
    encoded = request_der(csr)
    values = {
        "authority": authority,
        "profile": profile.name,
        "csr": encoded,
        "csr_sha256": hashlib.sha256(encoded).digest(),
        "requester": person_name(requester) or addresses[0],
        "submitter": person_name(submitter) or this_person(),
        "state": RequestState.UNPROVED if addresses else RequestState.WAITING,
        "approvals_needed": DUAL_CONTROL if profile.is_authority else 1,
        "submitted_at": datetime.now(UTC),
    }
    with store.writing() as connection:
        lock_authority(connection, authority)  # so that nobody submits the same request meanwhile
        require_uncompromised_key(connection, asked.public_key)
        known = connection.scalar(
            select(REQUESTS.c.id).where(
                REQUESTS.c.csr_sha256 == values["csr_sha256"], REQUESTS.c.state.in_(OPEN_STATES)
            )
        )
        if known is not None:
            raise UsageError(f"this is request {known} already", hint=f"see `tokensign ra show {known}`")
        new = insert(REQUESTS).values(values).returning(REQUESTS.c.id)
        number = connection.execute(new).scalar_one()
        codes = make_codes(connection, number, addresses)
        found = find_request(connection, number)
        details = {"subject": found.subject, "addresses": " ".join(addresses), "requester": found.requester}
        record_step(connection, "request submitted", found, submitter, details | {"profile": found.profile})
        return found, codes


def new_codes(store: Store, number: int, *, actor: str | None = None) -> Mapping[str, str]:
    """Make new codes for the addresses that are not proved yet, such as after a mail that got lost.

    Returns:
        The codes by address.

    Raises:
        PolicyError: Too many were made.
        UsageError: There is no such request, or it waits for no code.
        FileError: The database fails.
    """
    with store.writing() as connection:
        found = require_request(connection, number, RequestState.UNPROVED)
        codes = renew_codes(connection, number)
        record_step(connection, "codes renewed", found, actor, {"addresses": " ".join(codes)})
        return codes


def prove_mailbox(store: Store, number: int, code: str, *, actor: str | None = None) -> Request:
    """Take the code that was mailed to an address of a request.

    Returns:
        The request as it is now.

    Raises:
        PolicyError: The code is wrong, has expired, or codes were tried too often.
        UsageError: There is no such request, or it waits for no code.
        FileError: The database fails.
    """
    with store.writing() as connection:
        found = require_request(connection, number, RequestState.UNPROVED)
        address = check_code(connection, number, code)
        if address is not None:
            record_step(connection, "address proved", found, actor, {"address": address})
            found = find_request(connection, number)
            if all(proof.proved_at for proof in found.proofs):
                set_state(connection, number, RequestState.WAITING)
                found = find_request(connection, number)
        else:
            record_step(connection, "wrong code told", found, actor, {})
    if address is None:
        raise PolicyError(
            f"this is not the code of any address of request {number}",
            hint=f"type it as it stands in the mail, or send another with `tokensign ra challenge {number}`",
        )
    return found


def get_request(store: Store, number: int) -> Request:
    """The request with a number.

    Raises:
        UsageError: There is none.
        FileError: The database fails.
    """
    with store.reading() as connection:
        return find_request(connection, number)


def list_requests(store: Store, *, finished: bool = False) -> list[Request]:
    """The requests, the oldest first.

    Args:
        store: The database of the CA.
        finished: Whether those that were issued or rejected are there too.

    Raises:
        FileError: The database fails.
    """
    wanted = set(RequestState) if finished else OPEN_STATES
    with store.reading() as connection:
        rows = connection.execute(
            select(REQUESTS).where(REQUESTS.c.state.in_(wanted)).order_by(REQUESTS.c.id)
        ).all()
        return [Request.of(connection, row) for row in rows]


def _addresses(asked: CertificationRequest, profile: Profile) -> tuple[str, ...]:
    """The addresses that are asked for, each once, as far as the profile has any.

    Raises:
        UsageError: There is none, too many, or one that no certificate can hold.
    """
    if profile.emails == "forbidden":
        return ()
    if not asked.emails and profile.emails == "required":
        raise UsageError(
            f"certificates of the profile {profile.name} have an address, and the request asks for none",
            hint="make it with `tokensign cert request KEY --email ADDRESS`",
        )
    found = tuple(name.value for name in mailboxes(asked.emails))
    for address in found:
        if "=?" in address:  # RFC 2047 section 5: mail software may read it as another address
            raise UsageError(f"{address!r} is written as no address is", hint="ask for another address")
    if len(found) > _ADDRESSES_MAXIMUM:
        raise UsageError(
            f"the request asks for {len(found)} addresses, and {_ADDRESSES_MAXIMUM} is the most",
            hint="ask for several certificates",
        )
    return found
