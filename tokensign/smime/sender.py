"""Is the mail from whom it says? The From field against the signers' certificates (RFC 8550 section 3).

What decides is the one address in From, whether mail programs show it or hide it. Where programs would show
different senders (several From fields or addresses, an address in the display name, text that turns around),
the answer is never that the sender was proved.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Final

from tokensign.errors import MalformedError
from tokensign.mailboxes import same_mailbox
from tokensign.report import Status, Verdict
from tokensign.verification import judge_identity

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from tokensign.report import SignerReport
    from tokensign.smime.header_fields import HeaderFields

__all__ = ["Sender", "judge_sender", "read_date", "read_sender", "sender_remarks"]

_BETWEEN_WORDS: Final = re.compile(r"""[\s<>"'(),;:\[\]]+""")
_TURNING: Final = frozenset("\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u061c")
_ONCE: Final = ("Subject", "Date", "To", "Cc", "Sender", "Reply-To")  # RFC 5322 section 3.6


@dataclass(frozen=True, slots=True)
class Sender:
    """What From says.

    Attributes:
        address: The address, where there is exactly one that everybody reads in the same way; else None.
        doubt: Why there is none, else empty.
    """

    address: str | None
    doubt: str = ""


def read_sender(fields: HeaderFields) -> Sender:
    """The one sender that the header fields of a mail name."""
    froms = fields.get_all("From")
    if len(froms) != 1:
        return Sender(None, "there is no From field" if not froms else f"there are {len(froms)} From fields")
    if froms[0].damaged:
        return Sender(None, "the From field has a carriage return or NUL in it")
    try:
        mailboxes = fields.addresses("From")
    except MalformedError:
        return Sender(None, f"the From field cannot be read: {froms[0].value[:200]}")
    if len(mailboxes) != 1 or mailboxes[0].group is not None:
        return Sender(None, "the From field does not name exactly one address")
    mailbox = mailboxes[0]
    for text in (mailbox.display_name, *mailbox.comments):
        if doubt := _doubt(text, mailbox.address):
            return Sender(None, doubt)
    return Sender(mailbox.address)


def judge_sender(
    sender: Sender, signers: Sequence[SignerReport], *, trusted: bool, any_signer: bool = False
) -> Verdict:
    """Whether the signers are whom From names.

    Args:
        sender: What From says.
        signers: Those of the innermost signature, which holds.
        trusted: Whether somebody vouches for their certificates.
        any_signer: Whether one of those that hold is enough.
    """
    if sender.address is None:
        return Verdict(Status.FAILED, sender.doubt, "ask the sender in another way what was sent")
    considered = [signer for signer in signers if signer.holds] if any_signer else list(signers)
    verdicts = [judge_identity(signer.certificate, sender.address) for signer in considered]
    enough = any if any_signer else all
    if not enough(verdict.status is Status.PASSED for verdict in verdicts):
        failed = next(verdict for verdict in verdicts if verdict.status is Status.FAILED)
        return Verdict(
            Status.FAILED,
            f"the mail says that it is from {sender.address}, but {failed.reason}",
            "whoever signed it is not whom From names",
        )
    if not trusted:
        return Verdict.not_checked(f"the certificate names {sender.address}, and nobody vouches for it")
    return Verdict.passed(f"signed by {sender.address}, as From says")


def sender_remarks(fields: HeaderFields, sender: Sender) -> list[str]:
    """What else in the header fields may mislead about who sent it, and where replies go."""
    remarks = [
        f"the field {name} stands {len(found)} times, and programs differ in which one they show"
        for name in _ONCE
        if len(found := fields.get_all(name)) > 1
    ]
    for name, words in (("Sender", "it was sent by"), ("Reply-To", "replies go to")):
        try:
            others = [
                mailbox.address
                for mailbox in fields.addresses(name)
                if sender.address is None or not same_mailbox(mailbox.address, sender.address)
            ]
        except MalformedError:
            remarks.append(f"the field {name} cannot be read")
            continue
        if others:
            remarks.append(f"{words} {', '.join(others)}, says the field {name}")
    return remarks


def read_date(fields: HeaderFields) -> datetime | None:
    """The time in the Date field, where there is exactly one that can be read, with its zone."""
    dates = fields.get_all("Date")
    if len(dates) != 1:
        return None
    try:
        moment = parsedate_to_datetime(dates[0].value)
    except (ValueError, OverflowError):
        return None
    return moment if moment.tzinfo else None


def _doubt(text: str, address: str) -> str:
    """Why a name beside an address may mislead; empty where it does not."""
    if any(unicodedata.category(character) == "Cc" or character in _TURNING for character in text):
        return "the name in From has characters that steer how it is shown"
    for other in _BETWEEN_WORDS.split(unicodedata.normalize("NFKC", text)):
        if "@" in other[1:-1] and not same_mailbox(other, address):
            return f"the name in From looks like another address: {other}, and the address is {address}"
    return ""
