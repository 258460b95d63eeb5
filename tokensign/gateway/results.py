"""What the gateway found, for the reader's mail program: Authentication-Results (RFC 8601, RFC 7281)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from tokensign.report import Status
from tokensign.smime.transport.header_lines import field_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from tokensign.smime.mail_report import MailReport

__all__ = ["DELIVERY_FIELD", "delivery_field", "forged", "result_of", "results_field", "unopened"]

DELIVERY_FIELD: Final = "Tokensign-Delivery"
"""Names a mail: the same for every attempt to deliver it, and for no other mail. A mailbox that knows RFC
7352 drops a second copy by it."""

_FIELD: Final = "Authentication-Results"
_UNQUOTED: Final = re.compile(r"[^ !#-\[\]-~]")  # what cannot stand in a quoted-string as it is
_ADDRESS: Final = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]+@[A-Za-z0-9.-]+")
_BARE_CR: Final = re.compile(rb"\r(?!\n)")
_REASON_MAXIMUM: Final = 300  # characters; the whole line must stay below 998 octets


def delivery_field(mail: str) -> bytes:
    """The field that names a mail, with its line end.

    Args:
        mail: What the journal calls it.
    """
    return f"{DELIVERY_FIELD}: {mail}\r\n".encode("ascii")


def result_of(report: MailReport) -> str:
    """The result of a mail that was looked at, without the server's name (RFC 7281 section 4)."""
    match report.verdict:
        case "good":
            result = "pass"
        case "bad":
            result = "policy" if _refused_by_policy(report) else "fail"
        case "unsigned":
            return "smime=none"
        case "intact" | "partial":
            result = "neutral"
    identifier = ""
    if result == "pass" and report.sender_address and _ADDRESS.fullmatch(report.sender_address):
        identifier = f" body.smime-identifier={report.sender_address}"
    return f"smime={result} {_reason(report.summary())}{identifier}"


def unopened(reason: str) -> str:
    """The result of a mail that went on as it was received.

    Args:
        reason: Why; it must tell nothing of how a decryption failed.
    """
    return f"smime=neutral {_reason(reason)}"


def results_field(authserv_id: str, result: str) -> bytes:
    """The field with a result, with its line end.

    Args:
        authserv_id: Who says it.
        result: What `result_of` or `unopened` gave.
    """
    return f"{_FIELD}: {authserv_id};\r\n\t{result}\r\n".encode("ascii")


def forged(authserv_id: str | None) -> Callable[[bytes], bool]:
    """What tells whether a field that came with a mail claims to be of this gateway (RFC 8601 section 5).

    A field that begins with white space claims it too: it is the first of the mail, and would go on with the
    field that the gateway puts in front. Some readers end a line at a bare CR, so a field may begin there.

    Args:
        authserv_id: Its name. It is looked for anywhere in the field, comments too: readers may
            differ in where they take it from, and no honest server names this one.
    """
    own = authserv_id.lower() if authserv_id else None

    def claims(field: bytes) -> bool:
        return field[:1] in (b" ", b"\t") or any(map(claims_from_here, _BARE_CR.split(field)))

    def claims_from_here(field: bytes) -> bool:
        name = field_name(field)
        if name == DELIVERY_FIELD.lower():
            return True
        body = field.partition(b":")[2].replace(b"\\", b"").decode("ascii", "replace").lower()
        return own is not None and name == _FIELD.lower() and own in body

    return claims


def _refused_by_policy(report: MailReport) -> bool:
    """Whether the signature is intact, and only rules about certificates and algorithms refuse it."""
    signers = [
        signer
        for layer in (*report.layers, *report.signed_parts)
        if layer.verification
        for signer in layer.verification.signers
        if not signer.holds
    ]
    return bool(signers) and all(
        signer.policy.status is Status.FAILED
        and Status.FAILED not in (signer.integrity.status, signer.trust.status, signer.identity.status)
        for signer in signers
    )


def _reason(text: str) -> str:
    return f'reason="{_UNQUOTED.sub("?", text)[:_REASON_MAXIMUM]}"'
