from __future__ import annotations

import base64
import io
import quopri

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokensign.smime.transfer_encoding import Encoding, scan_body, write_encoded

BLOCK = 1 << 16  # octets of a line that are encoded at once
texts = st.lists(
    st.sampled_from([b"\r\n", b"=", b"-", b".", b"From ", b" ", b"\t", b"\r", b"\0", b"\xc3\xbc", b"word"])
    | st.integers(60, 80).map(lambda size: b"x" * size),
    max_size=30,
).map(b"".join)


def encoded(content: bytes, encoding: Encoding) -> bytes:
    output = io.BytesIO()
    write_encoded(io.BytesIO(content), encoding, output)
    return output.getvalue()


@given(texts)
@settings(max_examples=200, deadline=None)
def test_quoted_text_is_what_it_was_and_survives_relays(content: bytes) -> None:
    text = encoded(content, "quoted-printable")
    assert quopri.decodestring(text) == content
    assert scan_body([text]).safe
    lines = text.split(b"\r\n")
    assert max(map(len, lines)) <= 76
    assert not any(line.startswith((b"-", b".")) for line in lines)


@pytest.mark.parametrize("before", [BLOCK - 2, BLOCK - 1, BLOCK, 3 * BLOCK])
@pytest.mark.parametrize("behind", [b"\r\n", b"\r", b"\n", b" \r\nnext", b"\rx"])
def test_quoted_lines_of_any_length_are_what_they_were(before: int, behind: bytes) -> None:
    content = b"x" * before + behind
    text = encoded(content, "quoted-printable")
    assert quopri.decodestring(text) == content
    assert scan_body([text]).safe


@pytest.mark.parametrize("content", [b"", b"\0", bytes(range(256)) * 1000])
def test_base64_survives_relays(content: bytes) -> None:
    text = encoded(content, "base64")
    assert base64.b64decode(text) == content
    assert scan_body([text]).safe


@pytest.mark.parametrize(
    "pieces",
    [
        [b"x" * 998 + b"\r\n"], [b"x" * 998], [b"\r\n" * 9], [], [b">From a"], [b"a\r\n", b" From a"],
        [b"~\t !"], [b"x" * 500, b"y" * 498, b"\r\n", b"z" * 998],
    ],
)  # fmt: skip
def test_plain_lines_are_safe(pieces: list[bytes]) -> None:
    assert scan_body(pieces).safe


@pytest.mark.parametrize(
    "pieces",
    [
        [b"x" * 999], [b"x" * 500, b"y" * 499], [b"\r\n" + b"x" * 999 + b"\r\n"], [b"\x80"], [b"\0"],
        [b"\x7f"], [b"a\nb"], [b"a\rb"], [b"a\r"], [b"a \r\n"], [b"a", b"\t\r\n"], [b"a ", b"\r\n"], [b"a "],
        [b"From a"], [b"a\r\nFr", b"om b"], [b"a\r\n", b"From b"],
    ],
)  # fmt: skip
def test_what_relays_change_is_not_safe_wherever_the_pieces_are_cut(pieces: list[bytes]) -> None:
    assert not scan_body(pieces).safe


@pytest.mark.parametrize(
    ("content", "text", "expected"),
    [
        (b"abc\xff", True, "quoted-printable"),
        (b"a\xff", True, "base64"),
        (b"abc\xff", False, "base64"),
    ],
)
def test_the_encoding_suits_the_content(content: bytes, text: bool, expected: Encoding) -> None:  # noqa: FBT001 - a parameter of the test
    assert scan_body([content]).encoding(text=text) == expected
