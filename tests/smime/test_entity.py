from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokensign.errors import MalformedError
from tokensign.smime.entity import read_header, split_multipart_signed

SIGNATURE = b"Content-Type: application/pkcs7-signature\r\n\r\nAAAA"


def split(body: bytes, boundary: str = "b") -> tuple[bytes, bytes]:
    content, signature = split_multipart_signed(io.BytesIO(body), boundary)
    with content, signature:
        return content.read(), signature.read()


def mail(content: bytes, boundary: bytes = b"b", preamble: bytes = b"", epilogue: bytes = b"") -> bytes:
    return b"%b--%b\r\n%b\r\n--%b\r\n%b\r\n--%b--\r\n%b" % (
        preamble,
        boundary,
        content,
        boundary,
        SIGNATURE,
        boundary,
        epilogue,
    )


# --- header fields


def test_header_fields_are_read_and_the_body_is_left() -> None:
    stream = io.BytesIO(b"Subject: one\r\n two\r\nContent-Type: text/plain;\r\n\tcharset=utf-8\r\n\r\nbody")
    header = read_header(stream)
    assert header["subject"] == "one\r\n two"
    assert header.get_content_type() == "text/plain"
    assert stream.read() == b"body"


@pytest.mark.parametrize("header", [b"", b"Subject: only\n"])
def test_a_header_may_be_all(header: bytes) -> None:
    assert read_header(io.BytesIO(header)).keys() == (["Subject"] if header else [])


def test_a_header_has_a_limit() -> None:
    with pytest.raises(MalformedError, match="header is larger than"):
        read_header(io.BytesIO(b"X: y\r\n" * 200_000))


# --- the two parts


@given(st.binary(max_size=300).filter(lambda content: b"--b" not in content))
def test_the_signed_part_comes_out_octet_by_octet(content: bytes) -> None:
    """But for bare line feeds, which are no line ends in mail."""
    canonical = content.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    if canonical.endswith(b"\r"):
        canonical += b"."  # a CR before the line end of the delimiter belongs to neither side clearly
    assert split(mail(canonical)) == (canonical, SIGNATURE)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\r\n",
        b"\r\n\r\n",
        b"text without a line end",
        b"text with one\r\n",
        b"x" * 200_000,
        b"\r\n" + b"x" * 65_535 + b"\r\n" + b"y" * 65_536 + b"\r\n",
        b"x" * 65_536 + b"--b\r\n",
        b"--bc\r\n--b-\r\n--b--c\r\n --b\r\n-- b",
        b"Content-Type: multipart/mixed; boundary=bb\r\n\r\n--bb\r\n\r\none\r\n--bb--\r\n",
    ],
)
def test_what_only_resembles_a_delimiter_is_content(content: bytes) -> None:
    assert split(mail(content)) == (content, SIGNATURE)


def test_a_preamble_and_an_epilogue_are_passed_over() -> None:
    body = mail(b"text", preamble=b"This is MIME.\r\n--bX\r\n\r\n", epilogue=b"\r\n--b\r\nmore\r\n--b--\r\n")
    assert split(body) == (b"text", SIGNATURE)


def test_a_delimiter_within_a_long_line_of_the_preamble_is_none() -> None:
    body = mail(b"text", preamble=b"x" * (1 << 16) + b"--b\r\n\r\n")
    assert split(body) == (b"text", SIGNATURE)


def test_white_space_after_a_delimiter_is_padding() -> None:
    """RFC 2046 section 5.1.1."""
    body = mail(b"text").replace(b"--b\r\n", b"--b \t\r\n").replace(b"--b--\r\n", b"--b-- \r\n")
    assert split(body) == (b"text", SIGNATURE)


def test_line_feeds_alone_end_lines_too() -> None:
    assert split(mail(b"one\r\ntwo").replace(b"\r\n", b"\n"))[0] == b"one\r\ntwo"


def test_the_last_delimiter_needs_no_line_end() -> None:
    assert split(mail(b"text").removesuffix(b"\r\n"))[0] == b"text"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "boundary does not occur"),
        (b"no delimiter\r\n", "boundary does not occur"),
        (b"--b--\r\n", "a part is missing"),
        (b"--b\r\ntext\r\n--b--\r\n", "a part is missing"),
        (b"--b\r\ntext\r\n--b\r\nsignature", "last boundary is missing"),
        (b"--b\r\ntext", "last boundary is missing"),
        (mail(b"text\r\n--b\r\nmore"), "more than two parts"),
    ],
)
def test_other_than_two_parts_are_refused(body: bytes, words: str) -> None:
    with pytest.raises(MalformedError, match=words):
        split(body)


@given(st.binary(max_size=200))
def test_arbitrary_bodies_give_two_parts_or_the_typed_error(body: bytes) -> None:
    try:
        split(body)
    except MalformedError:
        return
