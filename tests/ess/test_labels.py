"""Security labels: written, read, and held against what a reader may see."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tokensign import der
from tokensign.errors import ConfigurationError, MalformedError, PolicyError, UsageError
from tokensign.ess.attributes import EssAttributes, ess_of
from tokensign.ess.label_policy import agreed_label, load_clearance
from tokensign.ess.labels import (
    MAX_CATEGORIES,
    MAX_CLASSIFICATION,
    SecurityCategory,
    SecurityLabel,
    equivalent_labels_attribute,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tokensign.cms.signed_data import SignedData
    from tokensign.ess.label_policy import Clearance

ACME, OTHER, CATEGORY = "1.3.6.1.4.1.55555.1", "1.3.6.1.4.1.55555.2", "1.3.6.1.4.1.55555.1.7"
SECRET = SecurityLabel(ACME, 4)
POLICY = f"""
[[policy]]
id = "{ACME}"
name = "Acme"
highest = "confidential"
categories = ["{CATEGORY}"]
"""


@pytest.fixture
def clearance(tmp_path: Path) -> Clearance:
    path = tmp_path / "clearance.toml"
    path.write_text(POLICY)
    return load_clearance(path)


@pytest.mark.parametrize(
    "label",
    [
        SecurityLabel(ACME),
        SecurityLabel(ACME, 0),
        SecurityLabel(ACME, MAX_CLASSIFICATION, "nur für Alice"),
        SecurityLabel(
            ACME, 3, "IN CONFIDENCE", frozenset({SecurityCategory(CATEGORY, der.utf8_string("x"))})
        ),
    ],
)
def test_label_is_read_as_it_was_written(label: SecurityLabel) -> None:
    assert SecurityLabel.load(label.encode()) == label


def test_label_travels_as_signed_attribute(signed: Callable[..., SignedData]) -> None:
    equivalent = (SecurityLabel(OTHER, 5), SecurityLabel(OTHER, 6))
    message = signed(SECRET.as_attribute(), equivalent_labels_attribute(equivalent))
    found = ess_of(message.signer_infos[0])
    assert (found.security_label, found.equivalent_labels) == (SECRET, equivalent)


def test_fields_of_a_label_come_in_any_order() -> None:
    swapped = der.tlv(0x31, b"".join(reversed(der.elements(SecurityLabel(ACME, 3, "mark").encode()))))
    assert SecurityLabel.load(swapped) == SecurityLabel(ACME, 3, "mark")


@pytest.mark.parametrize(
    "fields",
    [
        [],
        [der.integer(3)],
        [der.object_identifier(ACME), der.object_identifier(ACME)],
        [der.object_identifier(ACME), der.integer(MAX_CLASSIFICATION + 1)],
        [der.object_identifier(ACME), der.integer(-1)],
        [der.object_identifier(ACME), der.tlv(0x0C, b"\xff")],
        [der.object_identifier(ACME), der.tlv(0x0C, b"")],
        [der.object_identifier(ACME), der.tlv(0x0C, b"x" * 5000)],
        [der.object_identifier(ACME), der.tlv(0x0C, b"one"), der.tlv(0x13, b"two")],
        [der.object_identifier(ACME), der.octet_string(b"what?")],
        [der.object_identifier(ACME), der.tlv(0x31, b"")],
        [
            der.object_identifier(ACME),
            der.set_of(
                *(SecurityCategory(CATEGORY, der.integer(n)).encode() for n in range(MAX_CATEGORIES + 1))
            ),
        ],
    ],
    ids=[
        "empty",
        "no policy",
        "two policies",
        "too high",
        "negative",
        "no text",
        "empty mark",
        "long mark",
        "two marks",
        "unknown field",
        "no category",
        "too many categories",
    ],
)
def test_broken_label_is_malformed(fields: list[bytes]) -> None:
    with pytest.raises(MalformedError):
        SecurityLabel.load(der.tlv(0x31, b"".join(fields)))


def test_label_out_of_range_is_not_made() -> None:
    with pytest.raises(UsageError, match="0 through 256"):
        SecurityLabel(ACME, 257).as_attribute()


@pytest.mark.parametrize("label", [SecurityLabel(ACME), SecurityLabel(ACME, 3), SecurityLabel(ACME, 0)])
def test_cleared_reader_sees_the_content(clearance: Clearance, label: SecurityLabel) -> None:
    assert clearance.check(label) == label


@pytest.mark.parametrize(
    ("label", "reason"),
    [
        (SECRET, "the content is secret by policy Acme, you may see confidential"),
        (SecurityLabel(OTHER, 0), "not known here"),
        (SecurityLabel(ACME, 1, None, frozenset({SecurityCategory("1.2.3", der.NULL)})), "no clearance"),
    ],
)
def test_reader_without_clearance_is_refused(clearance: Clearance, label: SecurityLabel, reason: str) -> None:
    with pytest.raises(PolicyError, match=reason):
        clearance.check(label)


def test_equivalent_label_counts_where_the_policy_is_not_known(clearance: Clearance) -> None:
    allowed, refused = SecurityLabel(ACME, 2), SECRET
    assert clearance.check(SecurityLabel(OTHER, 5), [allowed]) == allowed
    with pytest.raises(PolicyError, match="secret"):
        clearance.check(SecurityLabel(OTHER, 5), [refused, allowed])


def test_equivalent_label_does_not_lower_one_that_is_known(clearance: Clearance) -> None:
    with pytest.raises(PolicyError, match="secret"):
        clearance.check(SECRET, [SecurityLabel(ACME, 1)])


@pytest.mark.parametrize(
    ("label", "words"),
    [
        (SecurityLabel(ACME), f"no classification by policy {ACME}"),
        (SecurityLabel(ACME, 5, "eyes only"), f"top-secret by policy {ACME} (eyes only)"),
        (SecurityLabel(ACME, 6), f"6 by policy {ACME}"),
    ],
)
def test_label_in_words(label: SecurityLabel, words: str) -> None:
    assert str(label) == words


def test_label_with_many_categories_is_not_made() -> None:
    categories = (SecurityCategory(CATEGORY, der.integer(number)) for number in range(MAX_CATEGORIES + 1))
    with pytest.raises(UsageError, match="64 categories"):
        SecurityLabel(ACME, 1, None, frozenset(categories)).as_attribute()


def test_signers_must_agree_on_the_label() -> None:
    labelled = EssAttributes(security_label=SECRET)
    assert agreed_label([labelled, labelled]) == (SECRET, ())
    assert agreed_label([EssAttributes(), EssAttributes()]) is None
    for other in (EssAttributes(), EssAttributes(security_label=SecurityLabel(ACME, 1))):
        with pytest.raises(PolicyError, match="different security labels"):
            agreed_label([labelled, other])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "policy = 1",
        "[[policy]]\nhighest = 3",
        "[[policy]]\nid = '1.2'\nhighest = 'cosmic'",
        "[[policy]]\nid = '1.2'\nhighest = 257",
        "[[policy]]\nid = '1.2'\nhighest = 1\nlowest = 0",
        "[[policy]]\nid = '1.2'\nhighest = 1\ncategories = [1]",
        "[[policy]]\nid = '1.2'\nhighest = 1\n[[policy]]\nid = '1.2'\nhighest = 2",
        "not toml",
    ],
)
def test_clearance_file_that_cannot_be_meant_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "clearance.toml"
    path.write_text(text)
    with pytest.raises(ConfigurationError):
        load_clearance(path)
