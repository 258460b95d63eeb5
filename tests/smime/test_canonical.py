from __future__ import annotations

import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokensign.smime.canonical import canonical_lines, write_canonical

texts = st.lists(st.sampled_from([b"\r", b"\n", b"\r\n", b"a", b"bc", b"\0"]), max_size=30).map(b"".join)


def oracle(text: bytes) -> bytes:
    """Every LF that no CR precedes gets one."""
    return re.sub(rb"(?<!\r)\n", b"\r\n", text)


@given(texts, st.lists(st.integers(0, 5), max_size=20))
def test_every_chunking_gives_the_same_lines(text: bytes, sizes: list[int]) -> None:
    pieces, rest = [], text
    for size in sizes:
        pieces.append(rest[:size])
        rest = rest[size:]
    assert b"".join(canonical_lines([*pieces, rest])) == oracle(text)


@given(texts)
def test_canonical_text_stays_as_it_is(text: bytes) -> None:
    canonical = oracle(text)
    assert b"".join(canonical_lines([canonical])) == canonical


@pytest.mark.parametrize("text", [b"", b"\r", b"\n", b"\r\n", b"a\nb\r\nc\rd", b"\r\r\n\n"])
def test_streams_are_copied_in_canonical_form(text: bytes) -> None:
    output = io.BytesIO()
    write_canonical(io.BytesIO(text), output)
    assert output.getvalue() == oracle(text)
