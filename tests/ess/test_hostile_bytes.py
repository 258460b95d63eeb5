"""Attributes that a stranger wrote: whatever their octets are, they are read, or refused with one error."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st

from tokensign import der
from tokensign.cms.attributes import attribute
from tokensign.cms.signed_data import SignerIdentifier, SignerInfo
from tokensign.errors import MalformedError
from tokensign.ess.attributes import ContentHints, ess_of
from tokensign.ess.general_names import GeneralNames
from tokensign.ess.labels import SecurityCategory, SecurityLabel, equivalent_labels_attribute
from tokensign.ess.mailing_list import MailingListData, MailingListHistory, ReceiptPolicy, ReceiptPolicyKind
from tokensign.ess.receipt_request import request_receipt
from tokensign.ess.receipts import Receipt

if TYPE_CHECKING:
    from collections.abc import Callable

LABEL = SecurityLabel("1.2.3", 4, "mark", frozenset({SecurityCategory("1.2.4", der.utf8_string("x"))}))
POLICY = ReceiptPolicy(ReceiptPolicyKind.INSTEAD_OF, (GeneralNames.of("zoë@list.example"),))
LISTS = MailingListData(
    SignerIdentifier(subject_key_identifier=b"list"), datetime(2026, 3, 1, tzinfo=UTC), POLICY
)
GOOD = (
    request_receipt(["alice@acme.example"], ["bob@acme.example", "zoë@acme.example"]).as_attribute(),
    LABEL.as_attribute(),
    equivalent_labels_attribute((LABEL, LABEL)),
    MailingListHistory((LISTS,)).as_attribute(),
    ContentHints("1.2.3", "a description").as_attribute(),
)


def read(signed_attributes: bytes) -> None:
    signer_info = SignerInfo(SignerIdentifier(b"0\x00"), "1.2", signed_attributes, b"", b"", None, b"")
    with contextlib.suppress(MalformedError):
        ess_of(signer_info).to_json()


def refuses_or_reads(load: Callable[[bytes], object], encoded: bytes) -> None:
    with contextlib.suppress(MalformedError):
        load(encoded)


@settings(max_examples=400, deadline=None)
@given(one=st.sampled_from(GOOD), position=st.integers(0, 400), octet=st.integers(0, 255))
def test_one_changed_octet_is_read_or_refused(one: bytes, position: int, octet: int) -> None:
    changed = bytearray(one)
    changed[position % len(one)] = octet
    read(der.tlv(0x31, bytes(changed)))


@settings(max_examples=200, deadline=None)
@given(
    kind=st.sampled_from([1, 2, 3, 4, 5, 9]),
    tag=st.sampled_from([0x02, 0x04, 0x06, 0x30, 0x31, 0x80, 0xA0, 0xA1]),
    content=st.binary(max_size=60),
)
def test_any_octets_are_read_or_refused(kind: int, tag: int, content: bytes) -> None:
    value = der.tlv(tag, content)
    read(der.set_of(attribute(f"1.2.840.113549.1.9.16.2.{kind}", value)))
    refuses_or_reads(Receipt.load, value)
    refuses_or_reads(Receipt.load, content)
