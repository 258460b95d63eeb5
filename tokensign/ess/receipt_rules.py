"""Whether a signed receipt is owed, and to whom (RFC 2634 sections 2.3 and 2.5)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tokensign.errors import PolicyError
from tokensign.ess.mailing_list import ReceiptPolicyKind
from tokensign.ess.receipt_request import MAX_RECEIPTS_TO, Receivers

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tokensign.certificates import Certificate
    from tokensign.ess.attributes import EssAttributes
    from tokensign.ess.general_names import GeneralNames
    from tokensign.ess.mailing_list import MailingListHistory
    from tokensign.ess.receipt_request import ReceiptRequest

__all__ = ["MAX_RECEIVERS", "agreed_history", "agreed_request", "receivers_of_receipt"]

MAX_RECEIVERS: Final = 2 * MAX_RECEIPTS_TO
"""Addresses to which one receipt goes, those of a mailing list included; a stranger's mail names them."""


def agreed_request(verified: Iterable[EssAttributes]) -> ReceiptRequest | None:
    """The one request of a message, or None where there is none (RFC 2634 sections 2.2.1 and 2.3).

    Args:
        verified: The attributes of every signature of the innermost signed layer that holds.

    Raises:
        PolicyError: The signatures ask for different things, and nobody gets a receipt.
    """
    requests = {found.receipt_request for found in verified if found.receipt_request}
    if len(requests) > 1:
        raise PolicyError("the signatures of the message ask for different receipts; none is given")
    return next(iter(requests), None)


def agreed_history(verified: Iterable[EssAttributes]) -> MailingListHistory | None:
    """The one history of a message, or None where it came through no list (RFC 2634 section 4.1).

    Args:
        verified: The attributes of every signature of the outermost signed layer that holds.

    Raises:
        PolicyError: The signatures tell different histories, and none of them counts.
    """
    histories = {found.mailing_lists for found in verified if found.mailing_lists}
    if len(histories) > 1:
        raise PolicyError("the signatures of the message tell different histories of mailing lists")
    return next(iter(histories), None)


def receivers_of_receipt(
    request: ReceiptRequest, history: MailingListHistory | None, certificate: Certificate
) -> tuple[GeneralNames, ...]:
    """To whom the holder of a certificate sends a receipt (RFC 2634 sections 2.3 and 2.5).

    Args:
        request: What was asked.
        history: The lists that the message came through, or None.
        certificate: That of the reader who would sign the receipt.

    Raises:
        PolicyError: No receipt is owed, or to too many; the message says why.
    """
    policy = history.policy if history else None
    if policy is not None and policy.kind is ReceiptPolicyKind.NONE:
        raise PolicyError("the mailing list that the message came through wants no receipts")
    if request.receipts_from is Receivers.FIRST_TIER and history is not None:
        raise PolicyError("receipts are asked only of those who do not get it through a mailing list")
    if not request.asks(certificate):
        raise PolicyError(
            f"a receipt is asked of others, not of {certificate.subject}",
            hint="sign with the key of one who is asked; `tokensign inspect` lists them",
        )
    if policy is None:
        return request.receipts_to
    before = () if policy.kind is ReceiptPolicyKind.INSTEAD_OF else request.receipts_to
    receivers = tuple(dict.fromkeys((*before, *policy.receivers)))
    if len(receivers) > MAX_RECEIVERS:
        raise PolicyError(f"the receipt would go to {len(receivers)} addresses, more than {MAX_RECEIVERS}")
    return receivers
