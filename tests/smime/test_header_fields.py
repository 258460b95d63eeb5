from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokensign.errors import MalformedError, UsageError
from tokensign.smime.addresses import Mailbox, parse_addresses
from tokensign.smime.encoded_words import decode_words
from tokensign.smime.header_fields import HeaderField, HeaderFields, format_field

PRINTABLE = st.text(st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp")), max_size=200)


def fields(*raw: bytes) -> HeaderFields:
    return HeaderFields(tuple(HeaderField(entry.partition(b":")[0].decode(), entry) for entry in raw))


# --- fields


def test_a_field_keeps_its_octets_and_gives_its_text() -> None:
    field = HeaderField("Subject", b"Subject: =?utf-8?q?Gr=C3=BC?=\r\n =?utf-8?b?w59l?= you\r\n")
    assert field.body == b"=?utf-8?q?Gr=C3=BC?= =?utf-8?b?w59l?= you"
    assert field.text == "Grüße you"
    assert not field.damaged


@pytest.mark.parametrize("raw", [b"Subject: a\rb\r\n", b"Subject: a\0\r\n", b"Subject: a\r\r\n"])
def test_a_field_with_a_bare_carriage_return_or_nul_is_damaged(raw: bytes) -> None:
    assert HeaderField("Subject", raw).damaged


def test_fields_are_found_in_any_case_and_keep_their_order() -> None:
    found = fields(b"To: a@b\r\n", b"SUBJECT: one\r\n", b"subject: two\r\n")
    assert [entry.text for entry in found.get_all("Subject")] == ["one", "two"]
    assert found.text("subject") == "one"
    assert found.text("Cc") is None
    assert [entry.name for entry in found.without(lambda entry: entry.name == "To")] == ["SUBJECT", "subject"]


def test_fields_are_written_with_cr_lf_and_otherwise_as_they_were() -> None:
    assert fields(b"To: a@b,\n\tc@d\n", b"X:  y \r\n").raw() == b"To: a@b,\r\n\tc@d\r\nX:  y \r\n"


@given(PRINTABLE)
def test_what_is_written_is_read_again_from_short_lines(text: str) -> None:
    field = format_field("Subject", text)
    assert field.text.split() == text.split()
    assert field.raw.isascii()
    assert field.raw.endswith(b"\r\n")
    assert not field.damaged
    if not text.isascii():
        assert all(len(line) <= 78 for line in field.raw.split(b"\r\n"))


def test_long_text_is_folded_at_white_space() -> None:
    field = format_field("Subject", "word " * 40)
    lines = field.raw.rstrip().split(b"\r\n")
    assert len(lines) > 2
    assert all(len(line) <= 78 for line in lines)
    assert field.text == ("word " * 40).strip()


@pytest.mark.parametrize(
    ("name", "text"),
    [("Subject", "a\r\nBcc: mallory@evil.example"), ("Subject", "a\0"), ("Sub ject", "a"), ("", "a")],
)
def test_a_field_that_would_inject_another_is_not_written(name: str, text: str) -> None:
    with pytest.raises(UsageError):
        format_field(name, text)


# --- encoded words


@pytest.mark.parametrize(
    ("text", "decoded"),
    [
        ("=?iso-8859-1?Q?a_b?=", "a b"),
        ("=?ISO-8859-1?q?Andr=E9?= Pirard", "André Pirard"),
        ("=?us-ascii*en?q?Keith?=", "Keith"),  # RFC 2231 section 5
        ("=?utf-8?b?w7w=?=\t=?utf-8?q?=C3=BC?=", "üü"),
        ("=?utf-8?b?w7w?=", "ü"),  # padding is often missing
        ("=?utf-8?q?a?= b =?utf-8?q?c?=", "a b c"),
        ("=?no-such-charset?q?a?=", "=?no-such-charset?q?a?="),
        ("=?utf-8?q?=FF?=", "=?utf-8?q?=FF?="),
        ("=?utf-8?b?*?=", "=?utf-8?b?*?="),
        ("=?utf-7?q?+AGE-?=", "=?utf-7?q?+AGE-?="),
        ("=?unicode_escape?q?=5Cx41?=", "=?unicode_escape?q?=5Cx41?="),
        ("=?rot13?q?nyvpr?=", "=?rot13?q?nyvpr?="),
        ("plain ? text =?", "plain ? text =?"),
    ],
)
def test_encoded_words_are_decoded_or_left_alone(text: str, decoded: str) -> None:
    assert decode_words(text) == decoded


# --- addresses


@pytest.mark.parametrize(
    ("text", "mailboxes"),
    [
        ("alice@acme.example", [Mailbox("alice@acme.example")]),
        ("Alice <alice@acme.example>", [Mailbox("alice@acme.example", "Alice")]),
        ('"A. \\"B\\"" <a@b>, <c@d>,', [Mailbox("a@b", 'A. "B"'), Mailbox("c@d")]),
        ("J. Smith <j@s.example>", [Mailbox("j@s.example", "J. Smith")]),
        ("a@b <a@b>", [Mailbox("a@b", "a@b")]),
        ("=?utf-8?q?J=C3=B6rg?= <j@s>", [Mailbox("j@s", "Jörg")]),
        ("a@b (one (two))", [Mailbox("a@b", comments=("one (two)",))]),
        ("Friends: a@b, C <c@d>;", [Mailbox("a@b", group="Friends"), Mailbox("c@d", "C", group="Friends")]),
        ("undisclosed-recipients:;", []),
        ("", []),
        ('"two words"@b', [Mailbox("two words@b")]),
        ("a@[192.0.2.1]", [Mailbox("a@[192.0.2.1]")]),
        ("zoë@bücher.example", [Mailbox("zoë@bücher.example")]),
    ],
)
def test_address_lists_are_read(text: str, mailboxes: list[Mailbox]) -> None:
    assert list(parse_addresses(text)) == mailboxes


@pytest.mark.parametrize(
    "text",
    [
        "alice", "a@b@c", "a b@c", "a@b c", "a@", "@b", "<a@b", "a@b>", "<a@b> c", "<a@b> <c@d>", "a..b@c",
        "<@x:a@b>", "=?utf-8?q?a?=@b", '"a@b', "(a@b", "a@b)", "x: a@b", "x: y: a@b;;", "a@b\0", "a@b\r\nc@d",
        "(" * 50 + ")" * 50 + "a@b", "a.@b", "a@.b", "a @b; c@d",
    ],
)  # fmt: skip
def test_what_is_no_address_list_is_refused(text: str) -> None:
    with pytest.raises(MalformedError):
        parse_addresses(text)


@given(st.text(max_size=100))
def test_arbitrary_text_is_read_or_refused(text: str) -> None:
    try:
        found = parse_addresses(text)
    except MalformedError:
        return
    assert all("@" in mailbox.address for mailbox in found)


def test_addresses_of_all_fields_with_a_name_are_read() -> None:
    found = fields(b"To: a@b\r\n", b"Cc: x@y\r\n", b"to: c@d,\r\n e@f\r\n").addresses("To")
    assert [mailbox.address for mailbox in found] == ["a@b", "c@d", "e@f"]
