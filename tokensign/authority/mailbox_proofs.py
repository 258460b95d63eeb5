"""Proof that a requester reads the mail of an address: a one-time code that is mailed there and told back.

The code follows section 3.2.2.2 of the CA/Browser Forum's S/MIME Baseline Requirements: a random value for
each address, valid for a day. It has 120 bits where 112 are asked for, so its plain hash is enough to keep.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from sqlalchemy import insert, select, update

from tokensign.errors import PolicyError, UsageError
from tokensign.store.tables import MAILBOX_PROOFS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy import ColumnElement, Connection

__all__ = ["CODE_LIFE", "MailboxProof", "check_code", "make_codes", "proofs_of", "renew_codes"]

CODE_LIFE: Final = timedelta(hours=24)  # the most that S/MIME BR section 3.2.2.2 allow
PROOF_LIFE: Final = timedelta(days=30)  # between proof and issuance, S/MIME BR section 4.2.1

_CODE_OCTETS: Final = 15  # 120 bits, and 24 letters of base32 without padding
_GROUP: Final = 6  # letters between hyphens, so that people can read them out
_WRONG_MAXIMUM: Final = 5  # for a code; typing errors happen, and guesses do not help at this length
_SENT_MAXIMUM: Final = 5  # codes for an address, so that nobody's mailbox is filled through a request


@dataclass(frozen=True, slots=True)
class MailboxProof:
    """What is known of an address of a request.

    Attributes:
        address: The address.
        expires_at: Until when its last code may be told.
        proved_at: When a code was told that was right, or None.
    """

    address: str
    expires_at: datetime
    proved_at: datetime | None

    def holds_at(self, moment: datetime) -> bool:
        """Whether the address is proved, and not too long ago for an issuance."""
        return self.proved_at is not None and moment - self.proved_at <= PROOF_LIFE


def make_codes(connection: Connection, request: int, addresses: Iterable[str]) -> dict[str, str]:
    """Make a code for each address of a new request.

    Args:
        connection: A transaction of `Store.writing`; the codes may be sent once it has ended.
        request: The number of the request.
        addresses: The addresses, each once.

    Returns:
        The codes by address. Only their hashes are kept.
    """
    codes = {address: _new_code() for address in addresses}
    for address, code in codes.items():
        values = {"request": request, "address": address, **_fresh(code), "sent": 1}
        connection.execute(insert(MAILBOX_PROOFS).values(values))
    return codes


def renew_codes(connection: Connection, request: int) -> dict[str, str]:
    """Make a new code for each address that is not proved yet; the old ones are worth nothing from then on.

    Returns:
        The codes by address.

    Raises:
        PolicyError: Too many codes were made for an address.
    """
    codes = {}
    for row in connection.execute(select(MAILBOX_PROOFS).where(MAILBOX_PROOFS.c.request == request)):
        if row.proved_at is not None:
            continue
        if row.sent >= _SENT_MAXIMUM:
            raise PolicyError(
                f"{_SENT_MAXIMUM} codes were sent to {row.address}, and no more are",
                hint="reject the request, and find out with the requester what is wrong with the address",
            )
        codes[row.address] = _new_code()
        connection.execute(
            update(MAILBOX_PROOFS)
            .where(_is_row(request, row.address))
            .values(**_fresh(codes[row.address]), sent=row.sent + 1)
        )
    return codes


def check_code(connection: Connection, request: int, code: str) -> str | None:
    """Take a code that somebody tells.

    A wrong one counts against every address that is not proved, because it says nothing of whose it was; the
    caller ends the transaction without an error in both cases, so that it does count.

    Args:
        connection: A transaction of `Store.writing`.
        request: The number of the request.
        code: As it was typed; blanks, hyphens and case do not matter.

    Returns:
        The address that is proved by it, or None: the code is wrong.

    Raises:
        PolicyError: Every code of the request has expired, or was tried too often.
        UsageError: Every address of the request is proved.
    """
    now = datetime.now(UTC)
    rows = connection.execute(
        select(MAILBOX_PROOFS).where(
            MAILBOX_PROOFS.c.request == request, MAILBOX_PROOFS.c.proved_at.is_(None)
        )
    ).all()
    if not rows:
        raise UsageError(f"request {request} waits for no code")
    usable = [row for row in rows if now <= row.expires_at and row.wrong < _WRONG_MAXIMUM]
    if not usable:
        raise PolicyError(
            f"the codes of request {request} have expired, or wrong ones were tried too often",
            hint=f"send new ones with `tokensign ra challenge {request}`",
        )
    told = _digest(code)
    for row in usable:
        if hmac.compare_digest(row.code_sha256, told):
            connection.execute(
                update(MAILBOX_PROOFS).where(_is_row(request, row.address)).values(proved_at=now)
            )
            return str(row.address)
    for row in usable:
        connection.execute(
            update(MAILBOX_PROOFS).where(_is_row(request, row.address)).values(wrong=row.wrong + 1)
        )
    return None


def proofs_of(connection: Connection, request: int) -> tuple[MailboxProof, ...]:
    """What is known of the addresses of a request, by address."""
    rows = connection.execute(
        select(MAILBOX_PROOFS).where(MAILBOX_PROOFS.c.request == request).order_by(MAILBOX_PROOFS.c.address)
    )
    return tuple(MailboxProof(row.address, row.expires_at, row.proved_at) for row in rows)


def _new_code() -> str:
    letters = base64.b32encode(secrets.token_bytes(_CODE_OCTETS)).decode("ascii")
    return "-".join(letters[start : start + _GROUP] for start in range(0, len(letters), _GROUP))


def _fresh(code: str) -> dict[str, object]:
    return {"code_sha256": _digest(code), "expires_at": datetime.now(UTC) + CODE_LIFE, "wrong": 0}


def _digest(code: str) -> bytes:
    letters = code.replace("-", "").replace(" ", "").upper()
    return hashlib.sha256(letters.encode("utf-8", "replace")).digest()


def _is_row(request: int, address: str) -> ColumnElement[bool]:
    return (MAILBOX_PROOFS.c.request == request) & (MAILBOX_PROOFS.c.address == address)
