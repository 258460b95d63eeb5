from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokensign.cms.pem import armor, decode_base64, encode_base64, is_armored, unarmor
from tokensign.errors import MalformedError

if TYPE_CHECKING:
    from collections.abc import Callable


def armored(message: bytes, label: str = "CMS") -> bytes:
    output = io.BytesIO()
    armor(io.BytesIO(message), output, label)
    return output.getvalue()


@given(st.binary(max_size=500))
def test_what_is_armored_is_unarmored(message: bytes) -> None:
    text = armored(message)
    assert all(len(line) <= 64 for line in text.splitlines())
    with unarmor(io.BytesIO(text)) as decoded:
        assert decoded.read() == message


@pytest.mark.parametrize("size", [47, 48, 49, 48 * 1024, 48 * 1024 + 1, 200_000])
def test_lines_have_64_characters_in_every_block(size: int) -> None:
    message = bytes(range(256)) * (size // 256 + 1)
    output = io.BytesIO()
    encode_base64(io.BytesIO(message[:size]), output, b"\r\n")
    lines = output.getvalue().split(b"\r\n")
    assert lines.pop() == b""
    assert {len(line) for line in lines[:-1]} <= {64}
    assert base64.b64decode(b"".join(lines)) == message[:size]


def test_openssl_reads_the_armor(openssl: Callable[..., bytes]) -> None:
    message = bytes.fromhex("300f06092a864886f70d010701a0020400")
    assert openssl("cms", "-cmsout", "-inform", "PEM", "-outform", "DER", feed=armored(message)) == message


@pytest.mark.parametrize("label", ["CMS", "PKCS7", "PKCS #7 SIGNED DATA"])
@pytest.mark.parametrize("line_end", [b"\n", b"\r\n"])
def test_every_label_of_cms_is_read_after_explanations(label: str, line_end: bytes) -> None:
    """RFC 7468 section 2: text before the armor is passed over, text after it too."""
    text = b"Subject: a message\n" + armored(b"content", label) + b"and more text\n"
    stream = io.BytesIO(text.replace(b"\n", line_end))
    assert is_armored(stream)
    assert stream.tell() == 0
    with unarmor(stream) as decoded:
        assert decoded.read() == b"content"


def test_base64_without_line_ends_is_read() -> None:
    text = b"-----BEGIN CMS-----\n" + base64.b64encode(bytes(200_000)) + b"\n-----END CMS-----\n"
    with unarmor(io.BytesIO(text)) as decoded:
        assert decoded.read() == bytes(200_000)


@given(st.binary(max_size=300), st.lists(st.integers(1, 20), max_size=30))
def test_base64_may_be_cut_anywhere(message: bytes, sizes: list[int]) -> None:
    text = base64.encodebytes(message)
    pieces = []
    for size in sizes:
        pieces.append(text[:size])
        text = text[size:]
    with decode_base64([*pieces, text]) as decoded:
        assert decoded.read() == message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"nothing here\n", "no PEM object"),
        (b"-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n", "'CERTIFICATE', not CMS"),
        (b"-----BEGIN CMS-----\nAAAA\n", "END line is missing"),
        (b"-----BEGIN CMS-----\nAAAA\n-----END PKCS7-----\n", "base64 text is broken|END line is missing"),
        (b"-----BEGIN CMS-----\nA*AA\n-----END CMS-----\n", "base64 text is broken"),
        (b"-----BEGIN CMS-----\nAAAAA\n-----END CMS-----\n", "base64 text is broken"),
        (b"-----BEGIN CMS-----\nAA=A\n-----END CMS-----\n", "base64 text is broken"),
    ],
)
def test_a_broken_armor_is_refused(text: bytes, words: str) -> None:
    with pytest.raises(MalformedError, match=words):
        unarmor(io.BytesIO(text))


@pytest.mark.parametrize("before", [0, 60_000])
@pytest.mark.parametrize("between", [0, 40_000])
def test_nothing_but_white_space_follows_the_padding(before: int, between: int) -> None:
    """However the text is cut into blocks: otherwise one signature could be read as two."""
    ended = base64.encodebytes(bytes(before) + b"end") + b"QQ==\n" + b" \n" * between
    with decode_base64(ended.splitlines(keepends=True)) as decoded:
        assert decoded.read() == bytes(before) + b"endA"
    with pytest.raises(MalformedError, match="base64 text"):
        decode_base64((ended + b"QQ==\n").splitlines(keepends=True))


def test_the_search_for_the_armor_ends() -> None:
    stream = io.BytesIO(b"x\n" * (1 << 20) + armored(b"content"))
    with pytest.raises(MalformedError, match="no PEM object"):
        unarmor(stream)


def test_der_with_the_word_begin_in_it_is_not_armored() -> None:
    assert not is_armored(io.BytesIO(b"\x30\x20-----BEGIN CMS-----"))
