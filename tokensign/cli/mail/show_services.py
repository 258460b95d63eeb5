"""What a signature says of receipts, labels and mailing lists, told to people (RFC 2634)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tokensign.errors import MalformedError
from tokensign.ess.attributes import ess_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tokensign.ess.attributes import EssAttributes
    from tokensign.report import SignerReport

__all__ = ["services_of"]


def services_of(signer: SignerReport) -> Iterator[str]:
    """A line for each service; nothing of a signature that does not hold."""
    if signer.signer_info is None or not signer.holds:
        return
    try:
        yield from _lines(ess_of(signer.signer_info))
    except MalformedError as error:
        yield f"services  {error.message}"


def _lines(found: EssAttributes) -> Iterator[str]:
    if found.security_label:
        yield f"label     {found.security_label}"
    if found.receipt_request:
        receivers = ", ".join(map(str, found.receipt_request.receipts_to))
        yield f"receipt   asked, for {receivers}; see `tokensign mail receipt make`"
    if found.mailing_lists:
        yield f"lists     {len(found.mailing_lists.expansions)} that the mail went through"
