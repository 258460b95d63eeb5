"""Reading all attributes of RFC 2634 from a signature, those of the published example among them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tokensign import der
from tokensign.cms.attributes import MSG_SIG_DIGEST, RECEIPT_REQUEST, SECURITY_LABEL, attribute
from tokensign.cms.content_info import DATA
from tokensign.cms.signed_data import SignedData, read_signed_data
from tokensign.errors import MalformedError, UsageError
from tokensign.ess.attributes import ContentHints, EssAttributes, ess_of
from tokensign.ess.labels import SecurityLabel
from tokensign.ess.receipt_request import request_receipt
from tokensign.ess.receipts import RECEIPT

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def test_published_message_with_all_attributes_is_read(corpora: Callable[[str], Path]) -> None:
    with corpora("rfc4134/4.10.bin").open("rb") as stream:
        (signer,) = read_signed_data(stream).signer_infos
    found = ess_of(signer).to_json()
    assert found["security_label"] == {
        "policy": "1.2.3.4.5.6.7.8",
        "classification": 1,
        "privacy_mark": "THIS IS A PRIVACY MARK TEST",
        "categories": ["1.2.3.4.5.6.7.888"],
    }
    assert [label["policy"] for label in found["equivalent_labels"]] == [
        "1.2.3.4.5.6.7.9",
        "1.2.3.4.5.6.7.10",
    ]
    assert found["mailing_lists"] == [
        {
            "list": "key identifier 35373338323939",
            "time": "1999-03-11T10:44:33+00:00",
            "receipts": "instead-of",
        }
    ]
    assert found["content_hints"] == {
        "content_type": "data",
        "description": "Content Hints Description Buffer",
    }


def test_published_message_is_written_as_it_was_read(corpora: Callable[[str], Path]) -> None:
    with corpora("rfc4134/4.10.bin").open("rb") as stream:
        (signer,) = read_signed_data(stream).signer_infos
    found = ess_of(signer)
    assert signer.signed_attributes
    assert found.mailing_lists
    assert found.content_hints
    assert found.mailing_lists.as_attribute() in signer.signed_attributes
    assert found.content_hints.as_attribute() in signer.signed_attributes


def test_message_without_any_has_none(signed: Callable[..., SignedData]) -> None:
    found = ess_of(signed().signer_infos[0])
    assert found == EssAttributes()
    assert not found
    assert found.to_json() == {}


@pytest.mark.parametrize("description", [None, "a receipt", "Empfangsbestätigung"])
def test_content_hints_tell_what_is_innermost(
    description: str | None, signed: Callable[..., SignedData]
) -> None:
    hints = ContentHints(RECEIPT, description)
    assert ess_of(signed(hints.as_attribute()).signer_infos[0]).content_hints == hints


def test_report_has_everything(signed: Callable[..., SignedData]) -> None:
    request = request_receipt(["alice@acme.example"], ["bob@acme.example"])
    found = ess_of(signed(request.as_attribute(), SecurityLabel("1.2.3", 3).as_attribute()).signer_infos[0])
    assert found.to_json() == {
        "receipt_request": {
            "content_identifier": request.content_identifier.hex(),
            "from": ["bob@acme.example"],
            "to": ["alice@acme.example"],
        },
        "security_label": {"policy": "1.2.3", "classification": 3, "privacy_mark": None, "categories": []},
    }


@pytest.mark.parametrize(
    "broken",
    [
        attribute(RECEIPT_REQUEST),
        attribute(SECURITY_LABEL, *(SecurityLabel("1.2.3", number).encode() for number in (1, 2))),
        attribute(MSG_SIG_DIGEST, der.integer(1)),
        attribute(RECEIPT_REQUEST, der.NULL),
    ],
    ids=["no value", "two values", "no digest", "no request"],
)
def test_broken_attribute_is_malformed(broken: bytes, signed: Callable[..., SignedData]) -> None:
    with pytest.raises(MalformedError):
        ess_of(signed(broken).signer_infos[0])


def test_attribute_is_signed_once(signed: Callable[..., SignedData]) -> None:
    label = SecurityLabel("1.2.3").as_attribute()
    with pytest.raises(UsageError, match="ESSSecurityLabel"):
        signed(label, label)
    with pytest.raises(UsageError, match="contentType"):
        signed(attribute("1.2.840.113549.1.9.3", der.object_identifier(DATA)))
