"""MLExpansionHistory: the mailing lists that a message went through (RFC 2634 section 4)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import TYPE_CHECKING, Final

from asn1crypto import core

from tokensign import der
from tokensign.cms.attributes import ML_EXPANSION_HISTORY, attribute
from tokensign.cms.content_info import parsing
from tokensign.cms.signed_data import SignerIdentifier
from tokensign.errors import MalformedError, PolicyError, UsageError
from tokensign.ess.fields import SEQUENCE, fields, octets
from tokensign.ess.general_names import GeneralNames
from tokensign.ess.receipt_request import MAX_RECEIPTS_FROM

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tokensign.certificates import Certificate

__all__ = [
    "MAX_EXPANSIONS",
    "MailingListData",
    "MailingListHistory",
    "ReceiptPolicy",
    "ReceiptPolicyKind",
    "combined_policy",
    "expand",
]

MAX_EXPANSIONS: Final = 64  # ub-ml-expansion-history, RFC 2634 section 4.4
_NAME: Final = "MLExpansionHistory"
_OCTET_STRING: Final = 0x04
_GENERALIZED_TIME: Final = 0x18


class ReceiptPolicyKind(Enum):
    """The choices of MLReceiptPolicy, by their tags."""

    NONE = 0x80
    INSTEAD_OF = 0xA1
    IN_ADDITION_TO = 0xA2


@dataclass(frozen=True, slots=True)
class ReceiptPolicy:
    """MLReceiptPolicy: what a mailing list makes of requests for receipts.

    Attributes:
        kind: No receipts at all, other receivers of receipts, or further ones.
        receivers: Those; empty for "none".
    """

    kind: ReceiptPolicyKind
    receivers: tuple[GeneralNames, ...] = ()

    @classmethod
    def load(cls, encoded: bytes) -> ReceiptPolicy:
        """Read an MLReceiptPolicy.

        Raises:
            MalformedError: It is none.
        """
        if encoded[0] == ReceiptPolicyKind.NONE.value:
            return cls(ReceiptPolicyKind.NONE)
        if encoded[0] not in {kind.value for kind in ReceiptPolicyKind}:
            raise MalformedError(f"{_NAME} cannot be read")
        names = fields(encoded, encoded[0], _NAME, 1, MAX_RECEIPTS_FROM)
        return cls(ReceiptPolicyKind(encoded[0]), tuple(map(GeneralNames.load, names)))

    def encode(self) -> bytes:
        """The MLReceiptPolicy, DER."""
        return der.constructed(self.kind.value, *(names.encoded for names in self.receivers))


@dataclass(frozen=True, slots=True)
class MailingListData:
    """MLData: one list that a message went through.

    Attributes:
        identifier: Names the certificate of the list.
        expansion_time: When the message went through it; the list's word.
        policy: What it says about receipts, or None.
    """

    identifier: SignerIdentifier
    expansion_time: datetime
    policy: ReceiptPolicy | None = None

    @classmethod
    def load(cls, encoded: bytes) -> MailingListData:
        """Read an MLData.

        Raises:
            MalformedError: It is none.
        """
        entity, moment, *policy = fields(encoded, SEQUENCE, _NAME, 2, 3)
        if entity[0] == _OCTET_STRING:  # EntityIdentifier has no tags, unlike SignerIdentifier
            identifier = SignerIdentifier(subject_key_identifier=der.content(entity))
        else:
            identifier = SignerIdentifier.load(entity)
        octets(moment, _NAME, _GENERALIZED_TIME)
        with parsing(_NAME):
            time: datetime = core.GeneralizedTime.load(moment, strict=True).native
        return cls(identifier, time.astimezone(UTC), ReceiptPolicy.load(policy[0]) if policy else None)

    def encode(self) -> bytes:
        """The MLData, DER."""
        entity = self.identifier.issuer_and_serial_number
        if entity is None:
            entity = der.octet_string(self.identifier.subject_key_identifier or b"")
        utc = self.expansion_time.astimezone(UTC)
        moment = der.tlv(_GENERALIZED_TIME, f"{utc.year:04d}{utc:%m%d%H%M%S}Z".encode())
        return der.sequence(entity, moment, self.policy.encode() if self.policy else b"")


@dataclass(frozen=True, slots=True)
class MailingListHistory:
    """MLExpansionHistory.

    Attributes:
        expansions: The lists, the first one that the message went through first.
    """

    expansions: tuple[MailingListData, ...]

    @classmethod
    def load(cls, encoded: bytes) -> MailingListHistory:
        """Read an MLExpansionHistory.

        Raises:
            MalformedError: It is none, or has more than `MAX_EXPANSIONS` lists.
        """
        return cls(tuple(map(MailingListData.load, fields(encoded, SEQUENCE, _NAME, 1, MAX_EXPANSIONS))))

    def encode(self) -> bytes:
        """The MLExpansionHistory, DER."""
        return der.sequence(*(entry.encode() for entry in self.expansions))

    def as_attribute(self) -> bytes:
        """The signed attribute mlExpansionHistory, DER, for `SigningOptions.signed_attributes`."""
        return attribute(ML_EXPANSION_HISTORY, self.encode())

    @property
    def policy(self) -> ReceiptPolicy | None:
        """What holds about receipts: the word of the last list (RFC 2634 sections 2.3 and 2.5)."""
        return self.expansions[-1].policy

    def passed(self, certificate: Certificate) -> bool:
        """Whether the message went through the list with this certificate."""
        return any(entry.identifier.names(certificate) for entry in self.expansions)


def expand(
    history: MailingListHistory | None,
    certificate: Certificate,
    moment: datetime,
    policy: ReceiptPolicy | None = None,
) -> MailingListHistory:
    """The history of a message that goes through a list now (RFC 2634 sections 4.1 and 4.3).

    Args:
        history: How the message came, or None: through no list.
        certificate: That of the list.
        moment: An aware datetime.
        policy: What the list says about receipts, or None.

    Raises:
        PolicyError: The message went through this list before: it would go round for ever (section 4.1.1).
        UsageError: It went through too many.
    """
    before = history.expansions if history else ()
    if history is not None and history.passed(certificate):
        raise PolicyError(
            f"the message went through the mailing list {certificate.subject} before",
            hint="two lists are members of each other; tell their administrators",
        )
    if len(before) >= MAX_EXPANSIONS:
        raise UsageError(f"the message went through {MAX_EXPANSIONS} mailing lists already")
    combined = combined_policy(history.policy if history else None, policy)
    identifier = SignerIdentifier(issuer_and_serial_number=certificate.issuer_and_serial_number)
    return MailingListHistory((*before, MailingListData(identifier, moment, combined)))


def combined_policy(before: ReceiptPolicy | None, own: ReceiptPolicy | None) -> ReceiptPolicy | None:
    """What two lists together say about receipts (the table of RFC 2634 section 4.3).

    Args:
        before: The policy with which the message came, or None.
        own: That of the list through which it goes now, or None.
    """
    if before is None or own is None:
        return before or own
    if ReceiptPolicyKind.NONE in (before.kind, own.kind):
        return ReceiptPolicy(ReceiptPolicyKind.NONE)
    if own.kind is ReceiptPolicyKind.INSTEAD_OF:
        return own
    return ReceiptPolicy(before.kind, _union(before.receivers, own.receivers))


def _union(first: Sequence[GeneralNames], second: Sequence[GeneralNames]) -> tuple[GeneralNames, ...]:
    return tuple(dict.fromkeys((*first, *second)))
