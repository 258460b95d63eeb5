"""Options about receipts and security labels (RFC 2634)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import click

from tokensign.cli.command import grouped
from tokensign.cli.trust import require_dotted
from tokensign.errors import UsageError

__all__ = ["AskingOptions", "asking_options", "label_attribute"]

_FIRST_TIER: Final = "first-tier"
_LABEL_HINT: Final = "write POLICY:CLASSIFICATION, such as 1.3.6.1.4.1.55555.1:secret"


@dataclass(frozen=True, slots=True)
class AskingOptions:
    """The values of `asking_options`.

    Attributes:
        request_receipt: The e-mail addresses to which receipts go.
        receipt_from: The addresses that are asked, or "first-tier"; empty for everybody.
    """

    request_receipt: tuple[str, ...]
    receipt_from: tuple[str, ...]

    def attributes(self) -> tuple[bytes, ...]:
        """The signed attribute that asks for receipts, DER, if any is asked.

        Raises:
            UsageError: The options contradict each other, or an address is none.
        """
        from tokensign.ess.receipt_request import Receivers, request_receipt

        if not self.request_receipt:
            if self.receipt_from:
                raise UsageError("--receipt-from belongs to --request-receipt")
            return ()
        asked: Receivers | tuple[str, ...] = self.receipt_from or Receivers.ALL
        if _FIRST_TIER in self.receipt_from:
            if len(self.receipt_from) > 1:
                raise UsageError(f"receipts are asked from {_FIRST_TIER} or from addresses, not from both")
            asked = Receivers.FIRST_TIER
        return (request_receipt(self.request_receipt, asked).as_attribute(),)


_OPTIONS: Final = (
    click.option(
        "--request-receipt",
        metavar="ADDRESS",
        multiple=True,
        help="Ask for signed receipts, which go to this address; may be repeated.",
    ),
    click.option(
        "--receipt-from",
        metavar="ADDRESS",
        multiple=True,
        help=f"Ask only this recipient, or `{_FIRST_TIER}`: those who get it through no mailing list."
        " [default: everybody]",
    ),
)


asking_options = grouped("asking", AskingOptions, _OPTIONS)
"""Give a command the options that ask for receipts; it gets them as one argument, `asking`."""


def label_attribute(label: str | None) -> tuple[bytes, ...]:
    """The signed attribute for --security-label POLICY:CLASSIFICATION[:MARK], DER, if it was given.

    Raises:
        UsageError: It is no such label.
    """
    from tokensign.ess.label_policy import classification
    from tokensign.ess.labels import SecurityLabel

    if label is None:
        return ()
    policy, *rest = label.split(":", 2)
    if not rest:
        raise UsageError(f"{label!r} is no security label", hint=_LABEL_HINT)
    require_dotted(policy)
    mark = rest[1] if rest[1:] else None
    return (SecurityLabel(policy, classification(rest[0]), mark).as_attribute(),)
