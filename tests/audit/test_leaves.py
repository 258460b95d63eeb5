"""Leaves: canonical JSON, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest
import rfc8785
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tokensign.audit.leaves import LEAF_SIZE_MAXIMUM, decode_leaf, encode_leaf
from tokensign.errors import MalformedError, UsageError


def test_a_leaf_is_canonical() -> None:
    entry = {"b": 1, "a": [True, None, 'é\n\x1f"\\']}
    assert encode_leaf(entry) == b'{"a":[true,null,"\xc3\xa9\\n\\u001f\\"\\\\"],"b":1}'


names = st.text(st.characters(codec="ascii"))
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(names, inner),
    max_leaves=8,
)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(names, values))
def test_every_entry_is_encoded_as_rfc_8785_says(entry: dict[str, Any]) -> None:
    leaf = encode_leaf(entry)
    assert leaf == rfc8785.dumps(entry)
    assert decode_leaf(leaf) == entry


@pytest.mark.parametrize(
    "value", [float("nan"), 0.5, 2**53, {1: 2}, {"é": 1}, b"octets", (1,), "\ud800", ["\ud800"]]
)
def test_what_not_every_reader_has_is_refused(value: object) -> None:
    with pytest.raises(UsageError, match="cannot be put into the audit log"):
        encode_leaf({"value": value})


def test_a_leaf_that_is_too_large_is_refused() -> None:
    with pytest.raises(UsageError, match="at most"):
        encode_leaf({"value": "x" * LEAF_SIZE_MAXIMUM})


@pytest.mark.parametrize(
    "leaf",
    [
        b"",
        b"{",
        b"[]",
        b'{"b":1,"a":2}',
        b'{"a": 1}',
        b'{"a":1.0}',
        b'{"a":1,"a":1}',
        b"\xff",
        b'{"a":9007199254740992}',
        b'{"a":1.5}',
        b'{"a":NaN}',
        '{"é":1}'.encode(),
        b"[" * 10_000,
    ],
)
def test_what_is_not_canonical_is_told(leaf: bytes) -> None:
    with pytest.raises(MalformedError):
        decode_leaf(leaf)
