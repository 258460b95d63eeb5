"""Histories of mailing lists: written, read, loops found, and what two lists together say on receipts."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from tokensign import der
from tokensign.cms.signed_data import SignerIdentifier
from tokensign.errors import MalformedError, PolicyError, UsageError
from tokensign.ess.general_names import GeneralNames
from tokensign.ess.mailing_list import (
    MAX_EXPANSIONS,
    MailingListData,
    MailingListHistory,
    ReceiptPolicy,
    ReceiptPolicyKind,
    combined_policy,
    expand,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from software_signer import SoftwareSigner

    from tokensign.certificates import Certificate

MOMENT = datetime(2026, 3, 1, 12, 30, 15, tzinfo=UTC)
A, B = GeneralNames.of("a@list.example"), GeneralNames.of("b@list.example")
NONE = ReceiptPolicy(ReceiptPolicyKind.NONE)


def instead(*names: GeneralNames) -> ReceiptPolicy:
    return ReceiptPolicy(ReceiptPolicyKind.INSTEAD_OF, names)


def addition(*names: GeneralNames) -> ReceiptPolicy:
    return ReceiptPolicy(ReceiptPolicyKind.IN_ADDITION_TO, names)


@pytest.fixture
def lists(people: Callable[[str], SoftwareSigner]) -> tuple[Certificate, Certificate]:
    first, second = people("Developers").certificate, people("Everybody").certificate
    assert first
    assert second
    return first, second


def test_each_list_adds_itself_at_the_end(lists: tuple[Certificate, Certificate]) -> None:
    first, second = lists
    history = expand(expand(None, first, MOMENT), second, MOMENT, addition(A))
    assert [entry.identifier.names(first) for entry in history.expansions] == [True, False]
    assert history.passed(second)
    assert history.policy == addition(A)
    assert MailingListHistory.load(history.encode()) == history


def test_message_that_comes_back_to_a_list_is_not_sent_again(lists: tuple[Certificate, Certificate]) -> None:
    first, second = lists
    history = expand(expand(None, first, MOMENT), second, MOMENT)
    with pytest.raises(PolicyError, match="went through the mailing list CN=Developers,O=Acme before"):
        expand(history, first, MOMENT)


def test_list_that_is_named_by_its_key_identifier_is_found_too(
    lists: tuple[Certificate, Certificate],
) -> None:
    identifier = SignerIdentifier(subject_key_identifier=lists[0].subject_key_identifier)
    history = MailingListHistory((MailingListData(identifier, MOMENT),))
    assert MailingListHistory.load(history.encode()) == history
    with pytest.raises(PolicyError):
        expand(history, lists[0], MOMENT)


def test_message_goes_through_so_many_lists(lists: tuple[Certificate, Certificate]) -> None:
    entry = MailingListData(SignerIdentifier(subject_key_identifier=b"other"), MOMENT)
    full = MailingListHistory((entry,) * MAX_EXPANSIONS)
    assert MailingListHistory.load(full.encode()) == full
    with pytest.raises(UsageError, match="64 mailing lists"):
        expand(full, lists[0], MOMENT)
    with pytest.raises(MalformedError):
        MailingListHistory.load(MailingListHistory((*full.expansions, entry)).encode())


@pytest.mark.parametrize(
    ("before", "own", "together"),
    [
        (NONE, NONE, NONE),
        (NONE, instead(B), NONE),
        (NONE, addition(B), NONE),
        (NONE, None, NONE),
        (instead(A), NONE, NONE),
        (instead(A), instead(B), instead(B)),
        (instead(A), addition(B), instead(A, B)),
        (instead(A), None, instead(A)),
        (addition(A), NONE, NONE),
        (addition(A), instead(B), instead(B)),
        (addition(A), addition(B), addition(A, B)),
        (addition(A), addition(A), addition(A)),
        (addition(A), None, addition(A)),
        (None, NONE, NONE),
        (None, instead(B), instead(B)),
        (None, addition(B), addition(B)),
        (None, None, None),
    ],
)
def test_two_lists_say_together(
    before: ReceiptPolicy | None, own: ReceiptPolicy | None, together: ReceiptPolicy | None
) -> None:
    assert combined_policy(before, own) == together


@pytest.mark.parametrize(
    "encoded",
    [
        der.sequence(),
        der.sequence(der.sequence(der.octet_string(b"list"))),
        der.sequence(der.sequence(der.octet_string(b"list"), der.time(MOMENT))),  # UTCTime
        der.sequence(der.sequence(der.octet_string(b"list"), der.tlv(0x18, b"yesterday"))),
        der.sequence(
            der.sequence(der.octet_string(b"list"), der.tlv(0x18, b"20260301123015Z"), der.tlv(0x83, b""))
        ),
        der.octet_string(b"list"),
    ],
    ids=["no list", "no time", "UTCTime", "no date", "unknown policy", "no sequence"],
)
def test_broken_history_is_malformed(encoded: bytes) -> None:
    with pytest.raises(MalformedError):
        MailingListHistory.load(encoded)
