"""Who owes a receipt, and to whom: the steps of RFC 2634 sections 2.3 and 2.5."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from tokensign import der
from tokensign.cms.signed_data import SignerIdentifier
from tokensign.errors import MalformedError, PolicyError, UsageError
from tokensign.ess.attributes import EssAttributes
from tokensign.ess.general_names import GeneralNames
from tokensign.ess.mailing_list import (
    MailingListData,
    MailingListHistory,
    ReceiptPolicy,
    ReceiptPolicyKind,
)
from tokensign.ess.receipt_request import (
    MAX_RECEIPTS_TO,
    ReceiptRequest,
    Receivers,
    request_receipt,
)
from tokensign.ess.receipt_rules import MAX_RECEIVERS, agreed_history, agreed_request, receivers_of_receipt

if TYPE_CHECKING:
    from collections.abc import Callable

    from software_signer import SoftwareSigner

ALICE, OWNER = GeneralNames.of("alice@acme.example"), GeneralNames.of("owner@list.example")
MOMENT = datetime(2026, 3, 1, tzinfo=UTC)


def history(
    kind: ReceiptPolicyKind | None, receivers: tuple[GeneralNames, ...] = (OWNER,)
) -> MailingListHistory:
    receivers = () if kind in (None, ReceiptPolicyKind.NONE) else receivers
    policy = ReceiptPolicy(kind, receivers) if kind else None
    identifier = SignerIdentifier(subject_key_identifier=b"list")
    return MailingListHistory((MailingListData(identifier, MOMENT, policy),))


@pytest.mark.parametrize(
    ("asked", "lists", "receivers"),
    [
        (Receivers.ALL, None, (ALICE,)),
        (Receivers.FIRST_TIER, None, (ALICE,)),
        (["bob@acme.example"], None, (ALICE,)),
        (Receivers.ALL, history(None), (ALICE,)),
        (Receivers.ALL, history(ReceiptPolicyKind.INSTEAD_OF), (OWNER,)),
        (Receivers.ALL, history(ReceiptPolicyKind.IN_ADDITION_TO), (ALICE, OWNER)),
        (["bob@acme.example"], history(ReceiptPolicyKind.INSTEAD_OF), (OWNER,)),
    ],
)
def test_receipt_goes_to(
    people: Callable[[str], SoftwareSigner],
    asked: Receivers | list[str],
    lists: MailingListHistory | None,
    receivers: tuple[GeneralNames, ...],
) -> None:
    request = request_receipt(["alice@acme.example"], asked)
    certificate = people("Bob").certificate
    assert certificate
    assert receivers_of_receipt(request, lists, certificate) == receivers


@pytest.mark.parametrize(
    ("asked", "lists", "reason"),
    [
        (Receivers.ALL, history(ReceiptPolicyKind.NONE), "wants no receipts"),
        (["bob@acme.example"], history(ReceiptPolicyKind.NONE), "wants no receipts"),
        (Receivers.FIRST_TIER, history(None), "through a mailing list"),
        (Receivers.FIRST_TIER, history(ReceiptPolicyKind.IN_ADDITION_TO), "through a mailing list"),
        (["dana@acme.example", "erin@acme.example"], None, "asked of others"),
    ],
)
def test_no_receipt_is_owed(
    people: Callable[[str], SoftwareSigner],
    asked: Receivers | list[str],
    lists: MailingListHistory | None,
    reason: str,
) -> None:
    certificate = people("Bob").certificate
    assert certificate
    with pytest.raises(PolicyError, match=reason):
        receivers_of_receipt(request_receipt(["alice@acme.example"], asked), lists, certificate)


def test_a_list_names_people_by_their_distinguished_name_too(people: Callable[[str], SoftwareSigner]) -> None:
    bob, alice = people("Bob").certificate, people("Alice").certificate
    assert bob
    assert alice
    by_name = b"\xa4" + bytes((len(bob.encoded_subject),)) + bob.encoded_subject
    names = GeneralNames.load(b"\x30" + bytes((len(by_name),)) + by_name)
    assert names.belongs_to(bob)
    assert not names.belongs_to(alice)
    assert str(names) == "CN=Bob,O=Acme"


def test_only_the_last_list_decides(people: Callable[[str], SoftwareSigner]) -> None:
    none, instead = history(ReceiptPolicyKind.NONE), history(ReceiptPolicyKind.INSTEAD_OF)
    lists = MailingListHistory(none.expansions + instead.expansions)
    certificate = people("Bob").certificate
    assert certificate
    assert receivers_of_receipt(request_receipt(["alice@acme.example"]), lists, certificate) == (OWNER,)


def test_signatures_that_ask_alike_are_one_request() -> None:
    request = request_receipt(["alice@acme.example"])
    asking = EssAttributes(receipt_request=request)
    assert agreed_request([asking, EssAttributes(), asking]) == request
    assert agreed_request([EssAttributes()]) is None


def test_signatures_that_ask_for_different_receipts_get_none() -> None:
    requests = [EssAttributes(receipt_request=request_receipt(["alice@acme.example"])) for _ in range(2)]
    with pytest.raises(PolicyError, match="different receipts"):
        agreed_request(requests)


def test_signatures_with_different_histories_are_refused() -> None:
    kinds = (None, ReceiptPolicyKind.NONE)
    with pytest.raises(PolicyError, match="different histories"):
        agreed_history([EssAttributes(mailing_lists=history(kind)) for kind in kinds])
    assert agreed_history([EssAttributes(mailing_lists=history(None)), EssAttributes()]) == history(None)


@pytest.mark.parametrize(
    "asked", [Receivers.ALL, Receivers.FIRST_TIER, ["bob@acme.example", "zoë@acme.example"]]
)
def test_request_is_read_as_it_was_written(asked: Receivers | list[str]) -> None:
    request = request_receipt(["alice@acme.example", "archive@bücher.example"], asked)
    assert ReceiptRequest.load(request.encode()) == request
    assert request.receipts_to[1].mailboxes == ("archive@xn--bcher-kva.example",)


def test_every_request_has_its_own_identifier() -> None:
    assert len({request_receipt(["alice@acme.example"]).content_identifier for _ in range(8)}) == 8


@pytest.mark.parametrize(
    "address",
    ["alice", "@acme.example", "alice@", "a b@acme.example", "alice@acme.example\r\nBcc: x@y.example"],
)
def test_receipts_go_to_addresses_only(address: str) -> None:
    with pytest.raises(UsageError, match="not an e-mail address"):
        request_receipt([address])


@pytest.mark.parametrize("count", [0, MAX_RECEIPTS_TO + 1])
def test_receipts_go_to_some_and_not_to_many(count: int) -> None:
    with pytest.raises(UsageError, match="receipts go to"):
        request_receipt(["alice@acme.example"] * count)


def request_of(asked: bytes, *receivers: bytes, identifier: bytes = b"id") -> bytes:
    return der.sequence(der.octet_string(identifier), asked, der.sequence(*receivers))


@pytest.mark.parametrize(
    "encoded",
    [
        der.sequence(),
        der.octet_string(b"request"),
        request_of(der.tlv(0x80, b"\x00")),
        request_of(der.tlv(0x80, b"\x00"), der.sequence()),
        request_of(der.tlv(0x80, b"\x00"), *[ALICE.encoded] * (MAX_RECEIPTS_TO + 1)),
        request_of(der.tlv(0x80, b"\x02"), ALICE.encoded),
        request_of(der.tlv(0x80, b""), ALICE.encoded),
        request_of(der.tlv(0xA1, b""), ALICE.encoded),
        request_of(der.tlv(0x82, b"\x00"), ALICE.encoded),
        request_of(der.tlv(0x80, b"\x00"), der.sequence(der.tlv(0x81, b"zo\xff@acme.example"))),
    ],
    ids=[
        "empty",
        "no sequence",
        "no receivers",
        "nameless receiver",
        "too many receivers",
        "unknown tier",
        "no tier",
        "empty list",
        "unknown choice",
        "no text",
    ],
)
def test_broken_request_is_malformed(encoded: bytes) -> None:
    with pytest.raises(MalformedError):
        ReceiptRequest.load(encoded)


def test_a_list_cannot_have_a_receipt_sent_to_very_many(people: Callable[[str], SoftwareSigner]) -> None:
    many = tuple(GeneralNames.of(f"list-{number}@list.example") for number in range(MAX_RECEIVERS))
    bob = people("Bob").certificate
    assert bob
    request = request_receipt(["alice@acme.example"])
    assert receivers_of_receipt(request, history(ReceiptPolicyKind.INSTEAD_OF, many), bob) == many
    with pytest.raises(PolicyError, match=f"more than {MAX_RECEIVERS}"):
        receivers_of_receipt(request, history(ReceiptPolicyKind.IN_ADDITION_TO, many), bob)
