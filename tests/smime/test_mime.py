from __future__ import annotations

import contextlib
import io
import re
import time
from email import message_from_bytes
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokensign.errors import MalformedError
from tokensign.smime.mime import MAX_DEPTH, MAX_PARTS, Entity, read_entity

if TYPE_CHECKING:
    from email.message import Message

MIXED = (
    b'From: a@b\r\nContent-Type: multipart/mixed; boundary="bb"\r\n\r\nbefore\r\n'
    b"--bb\r\nContent-Type: multipart/alternative;\r\n\tboundary=bbb\r\n\r\n"
    b"--bbb\r\n\r\none\r\n--bbb\r\nContent-Type: text/html\r\n\r\n<p>two\r\n--bbb--\r\nbetween\r\n"
    b"--bb \t\r\nContent-Type: message/rfc822\r\n\r\nSubject: x\r\n\r\nthree\r\n\r\n--bb--\r\nafter\r\n"
)  # fmt: skip


def bodies(message: bytes) -> dict[str, bytes]:
    entity = read_entity(io.BytesIO(message))
    return {path: message[part.body_start : part.end] for path, part in entity.walk() if not part.children}


def structure(message: bytes) -> dict[str, str]:
    return {path: part.content_type for path, part in read_entity(io.BytesIO(message)).walk()}


def multipart(*parts: bytes, boundary: bytes = b"b") -> bytes:
    inside = b"".join(b"--" + boundary + b"\r\n" + part + b"\r\n" for part in parts)
    return b"Content-Type: multipart/mixed; boundary=" + boundary + b"\r\n\r\n" + inside + b"--b--\r\n"


# --- structure


@pytest.mark.parametrize("line_end", [b"\r\n", b"\n"])
def test_parts_are_found_where_they_are(line_end: bytes) -> None:
    message = MIXED.replace(b"\r\n", line_end)
    assert structure(message) == {
        "": "multipart/mixed", "1": "multipart/alternative", "1.1": "text/plain", "1.2": "text/html",
        "2": "message/rfc822", "2.1": "text/plain",
    }  # fmt: skip
    assert bodies(message) == {"1.1": b"one", "1.2": b"<p>two", "2.1": b"three" + line_end}


def test_what_stands_around_parts_is_found() -> None:
    entity = read_entity(io.BytesIO(MIXED))
    assert MIXED[entity.preamble.start : entity.preamble.end] == b"before"
    assert MIXED[entity.epilogue.start : entity.epilogue.end] == b"after\r\n"
    inner = entity.children[0]
    assert MIXED[inner.epilogue.start : inner.epilogue.end] == b"between"
    assert len(inner.preamble) == 0


def test_an_entity_begins_and_ends_where_it_is_said() -> None:
    message = b"skipped" + MIXED + b"\r\n--bb\r\nmore"
    entity = read_entity(io.BytesIO(message), 7, 7 + len(MIXED))
    assert message[entity.start : entity.end] == MIXED
    assert len(entity.children) == 2


def test_the_line_end_before_a_boundary_belongs_to_the_boundary() -> None:
    assert bodies(multipart(b"\r\n", b"\r\na\r\n", b"\r\n\r\n", b"\r\na"))[("2")] == b"a\r\n"
    assert list(bodies(multipart(b"\r\n", b"\r\na\r\n")).values()) == [b"", b"a\r\n"]


def test_a_part_may_be_nothing_but_a_header_or_nothing_at_all() -> None:
    message = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nX: y\r\n--b\r\n--b\r\n\r\n--b--"
    assert list(bodies(message).values()) == [b"", b"", b""]
    assert read_entity(io.BytesIO(message)).closed


@pytest.mark.parametrize(
    "line",
    [b"--bc", b"--b-", b"--b--c", b" --b", b"-- b", b"--B", b"--b x", b"x" * 70_000 + b"--b", b"---b", b"--"],
)
def test_what_only_resembles_a_boundary_is_content(line: bytes) -> None:
    message = multipart(b"\r\n" + line + b"\r\nend")
    assert bodies(message) == {"1": line + b"\r\nend"}


def test_a_boundary_is_found_wherever_reads_are_cut() -> None:
    for size in (*range(16_360, 16_400), *range(65_500, 65_540)):
        message = multipart(b"\r\n" + b"x" * size, b"\r\ny")
        assert list(map(len, bodies(message).values())) == [size, 1]


def test_a_boundary_that_begins_another_one_ends_only_its_own() -> None:
    inner = b"Content-Type: multipart/mixed; boundary=bb\r\n\r\n--bb\r\n\r\none\r\n--bb--"
    assert structure(multipart(inner, b"\r\ntwo")) == {
        "": "multipart/mixed", "1": "multipart/mixed", "1.1": "text/plain", "2": "text/plain",
    }  # fmt: skip


def test_an_outer_boundary_ends_an_inner_multipart_that_is_cut_off() -> None:
    """RFC 2046 section 5.1.2."""
    inner = b"Content-Type: multipart/mixed; boundary=in\r\n\r\n--in\r\n\r\none"
    entity = read_entity(io.BytesIO(multipart(inner, b"\r\ntwo")))
    assert [child.closed for child in entity.children] == [False, True]
    assert entity.closed


@pytest.mark.parametrize("message", [MIXED[: MIXED.index(b"--bb--")], MIXED[: MIXED.index(b"--bb \t")]])
def test_a_missing_last_boundary_is_told(message: bytes) -> None:
    assert not read_entity(io.BytesIO(message)).closed


def test_parts_of_a_digest_are_mails() -> None:
    message = multipart(b"\r\nSubject: x\r\n\r\ntext").replace(b"/mixed", b"/digest")
    assert structure(message) == {"": "multipart/digest", "1": "message/rfc822", "1.1": "text/plain"}


def test_the_first_line_of_a_mailbox_file_is_passed_over() -> None:
    entity = read_entity(io.BytesIO(b"From a@b Sat Nov 21 10:00:00 2026\nSubject: x\n\nbody"))
    assert [field.name for field in entity.fields] == ["Subject"]
    assert entity.ambiguous is None


# --- where readers disagree


@pytest.mark.parametrize(
    ("header", "words"),
    [
        (b"Content-Type: text/plain\r\nContent-Type: text/html\r\n", "Content-Type stands more than once"),
        (
            b"Content-Transfer-Encoding: 7bit\r\ncontent-transfer-encoding: base64\r\n",
            "stands more than once",
        ),
        (b"Content-Type: multipart/mixed; boundary=b; boundary=c\r\n", "parameter .* stands twice"),
        (b"Content-Type: multipart/mixed\r\n", "without a usable boundary"),
        (b'Content-Type: multipart/mixed; boundary=""\r\n', "without a usable boundary"),
        (b"Content-Type: multipart/mixed; boundary*=us-ascii''b%0Ab\r\n", "without a usable boundary"),
        (b"Content-Type: multipart/mixed; boundary=" + b"b" * 300 + b"\r\n", "without a usable boundary"),
        (
            b"Content-Type: multipart/mixed; boundary=b\r\nContent-Transfer-Encoding: base64\r\n",
            "yet encoded",
        ),
        (b"Content-Type: message/rfc822\r\nContent-Transfer-Encoding: base64\r\n", "yet encoded"),
        (b"Content-Type: multipart/mixed; boundary*0=b; boundary*0=c\r\n", "pieces that do not fit"),
        (b"Content-Type: multipart/mixed; boundary*0=b; boundary*2=c\r\n", "pieces that do not fit"),
        (b"Content-Type: multipart/mixed; boundary*1=b\r\n", "pieces that do not fit"),
        (b"Content-Type: multipart/mixed; boundary=b; name*=undefined''x\r\n", "cannot be read"),
        (b"Content-Type: multipart/mixed; boundary=b; name*=a%00''x\r\n", "cannot be read"),
        (b"Content-Type: multipart/mixed; boundary*" + b"9" * 5000 + b"=b\r\n", "cannot be read"),
        (b"Content-Type: nonsense\r\n", "cannot be read"),
        (b"Content-Type: \r\n", "cannot be read"),
        (b"Content-Type: text/plain; x=" + b"y" * 20_000 + b"\r\n", "cannot be read"),
        (b"Subject: x\rContent-Type: multipart/mixed; boundary=b\r\n", "bare carriage return"),
        (b"Subject: x\0\r\n", "NUL"),
        (b"Subject: x\r\n \r\n y\r\n", "white space only"),
        (b"Subject: x\r\nno field\r\n", "no empty line"),
    ],
)
def test_what_readers_understand_in_different_ways_is_ambiguous(header: bytes, words: str) -> None:
    entity = read_entity(io.BytesIO(header + b"\r\n--b\r\n\r\none\r\n--b--\r\n"))
    assert entity.ambiguous is not None
    assert re.search(words, entity.ambiguous)
    assert entity.children == ()


def test_a_body_without_an_empty_line_before_it_is_kept_whole() -> None:
    message = b"Subject: x\r\nThis is text.\r\nmore: text\r\n"
    entity = read_entity(io.BytesIO(message))
    assert message[entity.body_start : entity.end] == b"This is text.\r\nmore: text\r\n"


@pytest.mark.parametrize("inner", [b"b", b"b--"])
def test_a_boundary_that_is_that_of_a_multipart_around_it_is_ambiguous(inner: bytes) -> None:
    part = b"Content-Type: multipart/mixed; boundary=" + inner + b"\r\n\r\n--" + inner + b"\r\n\r\none"
    entity = read_entity(
        io.BytesIO(b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n" + part + b"\r\n--b--\r\n")
    )
    assert entity.ambiguous is None
    assert entity.children[0].ambiguous == "its boundary is that of a multipart around it"
    assert entity.children[0].children == ()


# --- kinds


@pytest.mark.parametrize(
    ("field", "name"),
    [
        (b'Content-Disposition: attachment; filename="winmail.dat"', "winmail.dat"),
        (b"Content-Type: application/octet-stream; name=smime.p7m", "smime.p7m"),
        (b"Content-Disposition: attachment; filename*=utf-8''%C3%BC.pdf", "ü.pdf"),
        (b"Content-Disposition: attachment; filename*0=smi; filename*1=me.p7m", "smime.p7m"),
        (b'Content-Type: text/plain; name="=?utf-8?q?=C3=BC.txt?="', "ü.txt"),
        (b"Content-Disposition: inline", None),
    ],
)
def test_file_names_are_read(field: bytes, name: str | None) -> None:
    assert read_entity(io.BytesIO(field + b"\r\n\r\n")).file_name == name


@pytest.mark.parametrize(
    ("encoding", "body", "content"),
    [
        (b"base64", b"aGVs\r\nbG8=\r\n", b"hello"),
        (b"BASE64", b"aGVsbG8=", b"hello"),
        (b"quoted-printable", b"h=65llo=\r\n you \r\n=\r\n", b"hello you\r\n"),
        (b"8bit", b"h\xc3\xa9\n", b"h\xc3\xa9\n"),
        (b"binary", b"\0\r\n\n", b"\0\r\n\n"),
    ],
)
def test_contents_are_decoded(encoding: bytes, body: bytes, content: bytes) -> None:
    stream = io.BytesIO(b"Content-Transfer-Encoding: " + encoding + b"\r\n\r\n" + body)
    with read_entity(stream).decoded(stream) as decoded:
        assert decoded.read() == content


@pytest.mark.parametrize("header", [b"x-uuencode", b"base64"])
def test_what_cannot_be_decoded_is_refused(header: bytes) -> None:
    stream = io.BytesIO(b"Content-Transfer-Encoding: " + header + b"\r\n\r\n***")
    with pytest.raises(MalformedError):
        read_entity(stream).decoded(stream)


def test_quoted_printable_without_line_ends_is_decoded_whole() -> None:
    stream = io.BytesIO(b"Content-Transfer-Encoding: quoted-printable\r\n\r\n" + b"=41=42" * 400_000)
    with read_entity(stream).decoded(stream) as decoded:
        assert decoded.read() == b"AB" * 400_000


# --- limits


def nested(depth: int) -> bytes:
    message = b"\r\ntext"
    for level in range(depth):
        boundary = b"b%d" % level
        message = (
            b"Content-Type: multipart/mixed; boundary=" + boundary + b"\r\n\r\n--" + boundary + b"\r\n"
            + message + b"\r\n--" + boundary + b"--\r\n"
        )  # fmt: skip
    return message


def test_parts_inside_each_other_are_limited() -> None:
    assert len(structure(nested(MAX_DEPTH))) == MAX_DEPTH + 1
    with pytest.raises(MalformedError, match=f"more than {MAX_DEPTH} parts inside"):
        structure(nested(MAX_DEPTH + 1))
    with pytest.raises(MalformedError, match="parts inside"):
        structure(b"Content-Type: message/rfc822\r\n\r\n" * 100)


def test_parts_are_limited() -> None:
    assert len(structure(multipart(*[b"\r\nx"] * (MAX_PARTS - 1)))) == MAX_PARTS
    with pytest.raises(MalformedError, match=f"more than {MAX_PARTS} parts"):
        structure(multipart(*[b"\r\nx"] * MAX_PARTS))


def test_headers_are_limited() -> None:
    with pytest.raises(MalformedError, match="header is larger"):
        structure(b"X: " + b"y" * (1 << 20) + b"\r\n\r\n")
    with pytest.raises(MalformedError, match="fields"):
        structure(b"X: y\r\n" * 2001)
    with pytest.raises(MalformedError, match="headers of the mail's parts"):
        structure(multipart(*[b"X: " + b"y" * 900_000 + b"\r\n\r\n"] * 10))


def test_many_multiparts_in_deep_ones_are_read_in_linear_time() -> None:
    def opened(number: int) -> bytes:
        boundary = b"%d" % number + b"b" * 190
        return b"Content-Type: multipart/mixed; boundary=" + boundary + b"\r\n\r\n--" + boundary + b"\r\n"

    deep = b"".join(map(opened, range(46)))
    again = b"--45" + b"b" * 190 + b"\r\n"
    start = time.process_time()
    found = structure(deep + b"".join(opened(number) + b"\r\nx\r\n" + again for number in range(100, 1000)))
    assert time.process_time() - start < 4
    assert len(found) == 46 + 2 * 900 + 1


@pytest.mark.parametrize("filler", [b"--\n", b"--b\t", b"\n--b \r", b"\r", b"-", b"\n"])
def test_hostile_bodies_are_read_in_linear_time(filler: bytes) -> None:
    start = time.process_time()
    with contextlib.suppress(MalformedError):  # one has too many parts
        structure(multipart(b"\r\n" + filler * (4_000_000 // len(filler))))
    assert time.process_time() - start < 5


# --- against Python's own reading


def leaves(message: Message) -> list[tuple[str, Any]]:
    return [
        (part.get_content_type(), part.get_payload(decode=True))
        for part in message.walk()
        if not part.is_multipart()
    ]


TEXTS = st.binary(max_size=40).filter(lambda text: b"\r" not in text and b"\0" not in text)


@st.composite
def trees(draw: st.DrawFn, depth: int = 3) -> bytes:
    if depth == 0 or draw(st.booleans()):
        body = draw(TEXTS).replace(b"\n", b"\r\n")
        return b"Content-Type: text/" + draw(st.sampled_from([b"plain", b"html"])) + b"\r\n\r\n" + body
    boundary = draw(st.sampled_from([b"=_%d" % depth, b"--%d" % depth, b"x%d'()+_,-./:=?y" % depth]))
    parts = draw(st.lists(trees(depth=depth - 1), min_size=1, max_size=3))
    before, after = draw(TEXTS).replace(b"\n", b""), draw(TEXTS).replace(b"\n", b"")
    inside = b"".join(b"\r\n--" + boundary + b"\r\n" + part for part in parts)
    head = b'Content-Type: multipart/mixed; boundary="' + boundary + b'"\r\n\r\n'
    return head + before + inside + b"\r\n--" + boundary + b"--\r\n" + after


@given(trees())
def test_trees_are_read_as_the_email_package_reads_them(message: bytes) -> None:
    ours = [
        (part.content_type, message[part.body_start : part.end])
        for _, part in read_entity(io.BytesIO(message)).walk()
        if not part.children
    ]
    assert ours == leaves(message_from_bytes(message))


@given(st.binary(max_size=300))
def test_arbitrary_octets_are_an_entity_within_bounds(message: bytes) -> None:
    def check(entity: Entity, start: int, end: int) -> None:
        assert start <= entity.start <= entity.body_start <= entity.end <= end
        for child in entity.children:
            check(child, entity.body_start, entity.end)

    head = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n"
    for octets in (message, head + message.replace(b"\x00", b"\r\n--b")):
        check(read_entity(io.BytesIO(octets)), 0, len(octets))
