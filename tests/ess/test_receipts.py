"""Signed receipts: what is signed, and every way in which one is not for what was sent."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tokensign import der
from tokensign.cms.attributes import MSG_SIG_DIGEST, attribute
from tokensign.cms.content_info import DATA
from tokensign.cms.signed_data import SignedData, read_signed_data
from tokensign.cms.verify import verify_signatures
from tokensign.errors import BadSignatureError, MalformedError, UsageError
from tokensign.ess.attributes import ess_of
from tokensign.ess.receipt_request import request_receipt
from tokensign.ess.receipts import (
    MAX_RECEIPT_SIZE,
    RECEIPT,
    Receipt,
    SentSignature,
    check_receipt,
    sign_receipt,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from software_signer import SoftwareSigner

REQUEST = request_receipt(["alice@acme.example"])


@pytest.fixture
def asked(signed: Callable[..., SignedData]) -> SignedData:
    return signed(REQUEST.as_attribute())


@pytest.fixture
def receipt(asked: SignedData, people: Callable[[str], SoftwareSigner]) -> SignedData:
    output = io.BytesIO()
    sign_receipt(asked.signer_infos[0], people("Bob"), output)
    return read_signed_data(io.BytesIO(output.getvalue()))


def check(message: SignedData, sent: SentSignature) -> None:
    check_receipt(Receipt.load(content_of(message)), message.signer_infos, sent)


def content_of(message: SignedData) -> bytes:
    assert message.content is not None
    return b"".join(message.content.chunks())


def test_receipt_is_for_the_message_that_asked(asked: SignedData, receipt: SignedData) -> None:
    assert receipt.content is not None
    (result,) = verify_signatures(receipt, receipt.content.chunks())
    assert result.error is None
    check(receipt, SentSignature.of(asked.signer_infos[0]))


def test_content_says_which_signature_of_which_message_it_is_for(
    asked: SignedData, receipt: SignedData
) -> None:
    assert receipt.content_type == RECEIPT
    expected = Receipt(DATA, REQUEST.content_identifier, asked.signer_infos[0].signature)
    assert content_of(receipt) == expected.encode()
    assert Receipt.load(expected.encode()) == expected


def test_sender_can_keep_a_record_instead_of_the_message(asked: SignedData, receipt: SignedData) -> None:
    kept = json.dumps(SentSignature.of(asked.signer_infos[0]).to_json())
    check(receipt, SentSignature.from_json(json.loads(kept)))


@pytest.mark.parametrize(
    "record", [None, [], {}, {"content_type": DATA}, {"content_type": 1, "signature": 2}]
)
def test_broken_record_is_malformed(record: object) -> None:
    with pytest.raises(MalformedError, match="not a record"):
        SentSignature.from_json(record)


def test_receipt_for_another_message_is_refused(
    receipt: SignedData, signed: Callable[..., SignedData]
) -> None:
    other = signed(request_receipt(["alice@acme.example"]).as_attribute())
    with pytest.raises(BadSignatureError, match="for another message"):
        check(receipt, SentSignature.of(other.signer_infos[0]))


def test_receipt_for_the_same_request_under_another_signature_is_refused(
    receipt: SignedData, signed: Callable[..., SignedData]
) -> None:
    again = signed(REQUEST.as_attribute(), content=b"other content")
    with pytest.raises(BadSignatureError, match="for another message"):
        check(receipt, SentSignature.of(again.signer_infos[0]))


@pytest.mark.parametrize("field", ["content_type", "content_identifier", "signature"])
def test_each_field_of_the_receipt_counts(asked: SignedData, receipt: SignedData, field: str) -> None:
    sent = SentSignature.of(asked.signer_infos[0])
    other: dict[str, object] = {"content_type": RECEIPT, "content_identifier": b"x", "signature": b"x"}
    changed = replace(sent.receipt, **{field: other[field]})  # type: ignore[arg-type]
    with pytest.raises(BadSignatureError, match="for another message"):
        check(receipt, replace(sent, receipt=changed))


def test_receipt_of_one_who_saw_other_signed_attributes_is_refused(
    asked: SignedData, receipt: SignedData
) -> None:
    sent = SentSignature.of(asked.signer_infos[0])
    with pytest.raises(BadSignatureError, match="had another message"):
        check(receipt, replace(sent, msg_sig_digest=bytes(len(sent.msg_sig_digest))))


def test_receipt_without_msg_sig_digest_is_refused(
    asked: SignedData, signed: Callable[..., SignedData]
) -> None:
    sent = SentSignature.of(asked.signer_infos[0])
    bare = signed(by="Bob", content=sent.receipt.encode(), content_type=RECEIPT)
    with pytest.raises(BadSignatureError, match="had another message"):
        check(bare, sent)


def test_receipt_must_not_ask_for_a_receipt(asked: SignedData, signed: Callable[..., SignedData]) -> None:
    sent = SentSignature.of(asked.signer_infos[0])
    digest = attribute(MSG_SIG_DIGEST, der.octet_string(sent.msg_sig_digest))
    asking = signed(
        digest, REQUEST.as_attribute(), by="Bob", content=sent.receipt.encode(), content_type=RECEIPT
    )
    with pytest.raises(MalformedError, match="asks for a receipt"):
        check(asking, sent)


def test_no_receipt_is_given_for_a_receipt(
    signed: Callable[..., SignedData], people: Callable[[str], SoftwareSigner]
) -> None:
    asking = signed(REQUEST.as_attribute(), content_type=RECEIPT)
    with pytest.raises(UsageError, match="no receipt is given for a receipt"):
        sign_receipt(asking.signer_infos[0], people("Bob"), io.BytesIO())


def test_no_receipt_is_given_where_none_is_asked(
    signed: Callable[..., SignedData], people: Callable[[str], SoftwareSigner]
) -> None:
    with pytest.raises(UsageError, match="does not ask"):
        sign_receipt(signed().signer_infos[0], people("Bob"), io.BytesIO())


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x30\x00",
        b"\x04\x02hi",
        Receipt(DATA, b"id", b"signature").encode().replace(b"\x02\x01\x01", b"\x02\x01\x02"),
        b"x" * (MAX_RECEIPT_SIZE + 1),
    ],
    ids=["nothing", "no fields", "no sequence", "version 2", "too large"],
)
def test_broken_receipt_is_malformed(content: bytes) -> None:
    with pytest.raises(MalformedError):
        Receipt.load(content)


def test_digest_is_that_of_the_signer_who_asked(
    signed: Callable[..., SignedData], people: Callable[[str], SoftwareSigner]
) -> None:
    by_bob = signed(REQUEST.as_attribute(), by="Bob")  # Ed25519 goes with SHA-512
    output = io.BytesIO()
    sign_receipt(by_bob.signer_infos[0], people("Alice"), output)
    receipt = read_signed_data(io.BytesIO(output.getvalue()))
    digest = ess_of(receipt.signer_infos[0]).msg_sig_digest
    assert digest is not None
    assert len(digest) == by_bob.signer_infos[0].digest.size == 64
