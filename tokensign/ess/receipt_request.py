"""ReceiptRequest: who asks whom for a signed receipt, and where it goes (RFC 2634 section 2.7)."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final

from tokensign import der
from tokensign.cms.attributes import RECEIPT_REQUEST, attribute
from tokensign.errors import UsageError
from tokensign.ess.fields import SEQUENCE, fields, integer, octets
from tokensign.ess.general_names import GeneralNames

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tokensign.certificates import Certificate

__all__ = ["MAX_RECEIPTS_FROM", "MAX_RECEIPTS_TO", "ReceiptRequest", "Receivers", "request_receipt"]

MAX_RECEIPTS_TO: Final = 16  # ub-receiptsTo, RFC 2634 section 2.7
MAX_RECEIPTS_FROM: Final = 1000  # each is compared with our own names; RFC 2634 gives no limit
_NAME: Final = "ReceiptRequest"
_ALL_OR_FIRST_TIER: Final = 0x80
_RECEIPT_LIST: Final = 0xA1


class Receivers(Enum):
    """AllOrFirstTier: who is asked, where no list says it.

    Attributes:
        ALL: Everybody who gets the message.
        FIRST_TIER: Everybody who does not get it through a mailing list.
    """

    ALL = 0
    FIRST_TIER = 1


@dataclass(frozen=True, slots=True)
class ReceiptRequest:
    """The wish for signed receipts.

    Attributes:
        content_identifier: signedContentIdentifier, which names the message in the receipt.
        receipts_from: Who is asked: everybody, the first tier, or those of a list.
        receipts_to: Who gets the receipts.
    """

    content_identifier: bytes
    receipts_from: Receivers | tuple[GeneralNames, ...]
    receipts_to: tuple[GeneralNames, ...]

    @classmethod
    def load(cls, encoded: bytes) -> ReceiptRequest:
        """Read a ReceiptRequest.

        Args:
            encoded: In definite form.

        Raises:
            MalformedError: It is none, or exceeds a limit.
        """
        identifier, receipts_from, receipts_to = fields(encoded, SEQUENCE, _NAME, 3, 3)
        asked: Receivers | tuple[GeneralNames, ...]
        if receipts_from[0] == _ALL_OR_FIRST_TIER:
            asked = Receivers(integer(receipts_from, _NAME, 1, _ALL_OR_FIRST_TIER))
        else:
            names = fields(receipts_from, _RECEIPT_LIST, _NAME, 1, MAX_RECEIPTS_FROM)
            asked = tuple(map(GeneralNames.load, names))
        return cls(
            octets(identifier, _NAME),
            asked,
            tuple(map(GeneralNames.load, fields(receipts_to, SEQUENCE, _NAME, 1, MAX_RECEIPTS_TO))),
        )

    def encode(self) -> bytes:
        """The ReceiptRequest, DER."""
        if isinstance(self.receipts_from, Receivers):
            asked = der.tlv(_ALL_OR_FIRST_TIER, bytes((self.receipts_from.value,)))
        else:
            asked = der.constructed(_RECEIPT_LIST, *(names.encoded for names in self.receipts_from))
        return der.sequence(
            der.octet_string(self.content_identifier),
            asked,
            der.sequence(*(names.encoded for names in self.receipts_to)),
        )

    def as_attribute(self) -> bytes:
        """The signed attribute receiptRequest, DER, for `SigningOptions.signed_attributes`."""
        return attribute(RECEIPT_REQUEST, self.encode())

    def asks(self, certificate: Certificate) -> bool:
        """Whether the holder of a certificate is among those who are asked; tiers are not looked at."""
        if isinstance(self.receipts_from, Receivers):
            return True
        return any(names.belongs_to(certificate) for names in self.receipts_from)


def request_receipt(
    receipts_to: Sequence[str], receipts_from: Receivers | Sequence[str] = Receivers.ALL
) -> ReceiptRequest:
    """Ask for receipts, with a signedContentIdentifier that no other message has.

    Args:
        receipts_to: The e-mail addresses to which the receipts go; usually the sender's.
        receipts_from: Who is asked: a tier, or e-mail addresses.

    Raises:
        UsageError: An address is none, or there are too many or too few.
    """
    if not 1 <= len(receipts_to) <= MAX_RECEIPTS_TO:
        raise UsageError(f"receipts go to 1 through {MAX_RECEIPTS_TO} addresses, not to {len(receipts_to)}")
    asked: Receivers | tuple[GeneralNames, ...]
    if isinstance(receipts_from, Receivers):
        asked = receipts_from
    else:
        if not 1 <= len(receipts_from) <= MAX_RECEIPTS_FROM:
            raise UsageError(f"receipts are asked from 1 through {MAX_RECEIPTS_FROM} addresses")
        asked = tuple(map(GeneralNames.of, receipts_from))
    return ReceiptRequest(secrets.token_bytes(32), asked, tuple(map(GeneralNames.of, receipts_to)))
