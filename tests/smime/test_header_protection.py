from __future__ import annotations

import io
import time
from typing import TYPE_CHECKING

import pytest
from mail_people import person, trusting

from tokensign.algorithms import DIGESTS
from tokensign.cms.decrypt import decrypt
from tokensign.cms.signed import sign_detached
from tokensign.smime.compose import write_multipart_signed
from tokensign.smime.compose_mail import MailOptions, encrypt_mail, sign_mail
from tokensign.smime.entity_writer import Changes, copy_entity
from tokensign.smime.header_fields import HeaderField, HeaderFields
from tokensign.smime.header_policy import outside_of
from tokensign.smime.header_protection import protect, read_protected
from tokensign.smime.legacy_display import remove_legacy_display
from tokensign.smime.mime import Entity, read_entity
from tokensign.smime.open_mail import open_mail
from tokensign.smime.unwrap import open_message

if TYPE_CHECKING:
    from tokensign.smime.header_policy import HeaderPolicy
    from tokensign.smime.header_protection import OpenedHeader

ALICE = person("alice@acme.example")
BOB = person("bob@acme.example")


def fields_of(text: str) -> HeaderFields:
    return read_entity(io.BytesIO(text.encode() + b"\n")).fields


def entity_of(text: str) -> Entity:
    return read_entity(io.BytesIO(text.encode()))


def decrypted(message: str, **options: object) -> bytes:
    """The Cryptographic Payload of a mail to Bob, as it was encrypted."""
    output, inside = io.BytesIO(), io.BytesIO()
    encrypt_mail(
        io.BytesIO(message.encode()),
        [BOB.certificate],
        output,
        MailOptions(**options),  # type: ignore[arg-type]
    )
    with open_message(io.BytesIO(output.getvalue())) as opened:
        decrypt(opened.cms, [BOB], inside)
    return inside.getvalue()


def rendered(payload: bytes) -> bytes:
    """A payload without its Legacy Display Elements."""
    stream, output = io.BytesIO(payload), io.BytesIO()
    entity = read_entity(stream)
    with Changes() as changes:
        remove_legacy_display(stream, entity, changes)
        copy_entity(stream, entity, output, changes)
    return output.getvalue()


MAIL = (
    "From: Alice <alice@acme.example>\r\n"
    "To: Bob <bob@acme.example>\r\n"
    "Subject: Dinner plans\r\n"
    "Date: Fri, 21 Jan 2022 20:40:48 -0500\r\n"
    "Keywords: dinner\r\n"
    "MIME-Version: 1.0\r\n"
)


# --- composing


def test_a_signed_payload_has_all_fields_but_those_of_mime() -> None:
    output = io.BytesIO()
    sign_mail(io.BytesIO(f"{MAIL}Content-Type: text/plain\r\n\r\nhello\r\n".encode()), [ALICE], output)
    stream = io.BytesIO(output.getvalue())
    payload = read_entity(stream).children[0]
    assert [field.name for field in payload.fields] == [
        "From", "To", "Subject", "Date", "Keywords", "Content-Type",
    ]  # fmt: skip
    assert payload.parameters == {"hp": "clear"}


def test_an_encrypted_payload_records_what_stays_outside() -> None:
    payload = decrypted(MAIL + "Content-Type: text/plain\r\n\r\nhello\r\n")
    assert payload == (
        b"From: Alice <alice@acme.example>\r\n"
        b"To: Bob <bob@acme.example>\r\n"
        b"Subject: Dinner plans\r\n"
        b"Date: Fri, 21 Jan 2022 20:40:48 -0500\r\n"
        b"Keywords: dinner\r\n"
        b"HP-Outer: From: Alice <alice@acme.example>\r\n"
        b"HP-Outer: To: Bob <bob@acme.example>\r\n"
        b"HP-Outer: Subject: [...]\r\n"
        b"HP-Outer: Date: Fri, 21 Jan 2022 20:40:48 -0500\r\n"
        b'Content-Type: text/plain; hp="cipher"; hp-legacy-display="1"\r\n'
        b"\r\n"
        b"Subject: Dinner plans\r\n"
        b"\r\n"
        b"hello\r\n"
    )


def test_an_earlier_protection_is_replaced() -> None:
    message = MAIL + (
        "HP-Outer: Subject: old\r\n"
        'Content-Type: text/plain; hp="clear"; hp-legacy-display=1; x="; hp=y"\r\n\r\n'
        "first\r\n\r\nsecond\r\n"
    )
    payload = decrypted(message, legacy_display=False)
    assert b'Content-Type: text/plain; x="; hp=y"; hp="cipher"\r\n' in payload
    assert b"old" not in payload
    assert rendered(payload).endswith(b"\r\n\r\nfirst\r\n\r\nsecond\r\n")


@pytest.mark.parametrize(
    ("policy", "name", "value", "expected"),
    [
        ("baseline", "Subject", "Dinner plans", "[...]"),
        ("baseline", "sUBJECT", "Dinner plans", "[...]"),
        ("baseline", "Keywords", "dinner", None),
        ("baseline", "Comments", "secret", None),
        ("baseline", "From", "Alice <alice@acme.example>", "Alice <alice@acme.example>"),
        ("no-confidentiality", "Subject", "Dinner plans", "Dinner plans"),
        ("no-confidentiality", "Comments", "secret", "secret"),
        ("shy", "Subject", "Dinner plans", "[...]"),
        ("shy", "Keywords", "dinner", None),
        ("shy", "From", "Alice <alice@acme.example>", "alice@acme.example"),
        (
            "shy",
            "To",
            "Bob <bob@acme.example>, carol@acme.example (C)",
            "bob@acme.example, carol@acme.example",
        ),
        ("shy", "Cc", '"B B"@acme.example', '"B B"@acme.example'),
        ("shy", "To", "friends: bob@acme.example;", "friends: bob@acme.example;"),
        ("shy", "To", "no address", "no address"),
        ("shy", "From", "a@acme.example, b@acme.example", "a@acme.example, b@acme.example"),
        ("shy", "Date", "Sat, 20 Feb 2021 10:09:02 -0500", "Sat, 20 Feb 2021 15:09:02 +0000"),
        ("shy", "Date", "Sat, 20 Feb 2021 10:09:02 -0000", "Sat, 20 Feb 2021 10:09:02 +0000"),
        ("shy", "Date", "soon", "soon"),
        ("shy", "Date", "Fri, 31 Dec 9999 23:59:59 -1200", "Fri, 31 Dec 9999 23:59:59 -1200"),
        ("shy", "X-Other", "Alice <alice@acme.example>", "Alice <alice@acme.example>"),
    ],
)
def test_policies_leave_outside_what_rfc_9788_says(
    policy: HeaderPolicy, name: str, value: str, expected: str | None
) -> None:
    left = outside_of(HeaderField(name, f"{name}: {value}\r\n".encode()), policy)
    assert (left and left.value) == expected


def test_policies_apply_to_the_mail_outside() -> None:
    output = io.BytesIO()
    message = io.BytesIO(f"{MAIL}\r\nhello\r\n".encode())
    encrypt_mail(message, [BOB.certificate], output, MailOptions(hcp="shy"))
    outside = read_entity(io.BytesIO(output.getvalue())).fields
    assert [field.value for field in outside][:4] == [
        "alice@acme.example", "bob@acme.example", "[...]", "Sat, 22 Jan 2022 01:40:48 +0000",
    ]  # fmt: skip
    assert outside.get("Keywords") is None


def test_bcc_is_never_copied_inside() -> None:
    header = protect(
        fields_of("From: a@acme.example\nBcc: b@acme.example\nResent-Bcc: c@acme.example\n"), None
    )
    assert [field.name for field in header.inside] == ["From"]


# --- Legacy Display Elements


def test_html_shows_hidden_fields_at_the_top_of_its_body() -> None:
    subject = MAIL.replace("Dinner plans", "=?utf-8?q?Gr=C3=BC=C3=9Fe?= <b>")
    html = '<html><head></head><body class="x">\r\n<p>hello</p>\r\n</body></html>\r\n'
    payload = decrypted(f"{subject}Content-Type: text/html\r\n\r\n{html}")
    assert (
        b'<body class="x"><div class="header-protection-legacy-display">\r\n'
        b"<pre>Subject: Gr&#252;&#223;e &lt;b&gt;</pre>\r\n</div>\r\n\r\n<p>hello</p>"
    ) in payload
    assert rendered(payload).endswith(html.encode())


def test_text_is_given_back_to_the_octet() -> None:
    text = "\r\nSubject: not this one\r\n\r\nhello\r\n"
    payload = decrypted(f"{MAIL}Content-Type: text/plain\r\n\r\n{text}")
    assert rendered(payload).partition(b"\r\n\r\n")[2] == text.encode()


def test_both_texts_of_an_alternative_show_them_and_no_attachment() -> None:
    plain = "Content-Type: text/plain\r\n\r\nhello\r\n"
    html = "Content-Type: text/html\r\n\r\n<p>hello</p>\r\n"
    attached = "Content-Type: text/plain\r\nContent-Disposition: attachment\r\n\r\nhello\r\n"
    inner = f"--i\r\n{plain}--i\r\n{html}--i--\r\n"
    alternative = f"Content-Type: multipart/alternative; boundary=i\r\n\r\n{inner}"
    body = f"--b\r\n{alternative}--b\r\n{attached}--b\r\n{plain}--b--\r\n"
    payload = decrypted(f"{MAIL}Content-Type: multipart/mixed; boundary=b\r\n\r\n{body}")
    mixed = read_entity(io.BytesIO(payload))
    marked = [path for path, part in mixed.walk() if "hp-legacy-display" in part.parameters]
    assert marked == ["1.1", "1.2"]
    assert mixed.children[0].children[0].parameters["hp-legacy-display"] == "1"
    assert b"legacy-display" not in rendered(payload)


@pytest.mark.parametrize(
    ("charset", "shown"),
    [
        ("us-ascii", "Subject: Grüße\r\n".encode()),
        ("utf-8", "Subject: Grüße\r\n".encode()),
        ("iso-8859-1", "Subject: Grüße\r\n".encode("latin-1")),
        ("iso-8859-5", b"Subject: Gr??e\r\n"),
        ("utf-16", None),
        ("nonsense", None),
    ],
)
def test_hidden_fields_are_written_in_the_charset_of_the_text(charset: str, shown: bytes | None) -> None:
    subject = MAIL.replace("Dinner plans", "=?utf-8?q?Gr=C3=BC=C3=9Fe?=")
    payload = decrypted(f"{subject}Content-Type: text/plain; charset={charset}\r\n\r\nhello\r\n")
    stream = io.BytesIO(payload)
    entity = read_entity(stream)
    with entity.decoded(stream) as text:
        assert text.read() == (shown + b"\r\n" if shown else b"") + b"hello\r\n"
    assert entity.parameters["charset"] == ("utf-8" if charset == "us-ascii" else charset)


def test_a_text_that_is_not_encoded_as_it_says_is_encrypted_as_it_is() -> None:
    header = "Content-Transfer-Encoding: base64\r\nContent-Type: text/plain; hp-legacy-display=1\r\n"
    payload = decrypted(f"{MAIL}{header}\r\nno base64!\r\n")
    assert payload.endswith(b"\r\n\r\nno base64!\r\n")
    assert b"legacy-display" not in payload


def test_a_subject_cannot_end_its_line_in_the_text() -> None:
    subject = MAIL.replace("Dinner plans", "=?utf-8?q?a=0D=0A=0D=0Ab?=")
    payload = decrypted(subject + "\r\nhello\r\n")
    assert b"\r\n\r\nSubject: a    b\r\n\r\nhello\r\n" in payload


@pytest.mark.parametrize("options", [{"hcp": "no-confidentiality"}, {"legacy_display": False}])
def test_what_is_not_hidden_or_not_wanted_is_not_repeated(options: dict[str, object]) -> None:
    payload = decrypted(MAIL + "\r\nhello\r\n", **options)
    assert payload.endswith(b"\r\n\r\nhello\r\n")
    assert b"legacy-display" not in payload


def test_only_encrypted_payloads_lose_their_first_lines() -> None:
    text = b'Content-Type: text/plain; hp="clear"; hp-legacy-display="1"\r\n\r\nSubject: a\r\n\r\nhello\r\n'
    assert rendered(text) == text


def test_elements_without_an_end_are_looked_for_in_linear_time() -> None:
    start = b'<div class="header-protection-legacy-display">'
    part = b'--b\r\nContent-Type: text/html; hp-legacy-display="1"\r\n\r\n' + start * 1400 + b"\r\n"
    kind = b'Content-Type: multipart/alternative; hp="cipher"; boundary=b\r\n\r\n'
    began = time.process_time()
    assert rendered(kind + part * 60 + b"--b--\r\n").count(start) == 60 * 1400
    assert time.process_time() - began < 5


# --- opening


def read(outer: str, inner: str, *, signed: bool = True, encrypted: bool = True) -> OpenedHeader:
    return read_protected(fields_of(outer), entity_of(inner), signed=signed, encrypted=encrypted)


OUTER = (
    "Received: by relay\n"
    "Subject: [...]\n"
    "From: Alice <alice@smime.example>\n"
    "To: Bob <bob@smime.example>\n"
    "Date: Sat, 20 Feb 2021 10:09:02 -0500\n"
)
CIPHER = (
    "Subject: the plan\n"
    "From: Alice <alice@smime.example>\n"
    "To: Bob <bob@smime.example>\n"
    "Date: Sat, 20 Feb 2021\n  10:09:02 -0500\n"
    "HP-Outer: Subject: [...]\n"
    "HP-Outer: From: Alice <alice@smime.example>\n"
    "HP-Outer: To: Bob <bob@smime.example>\n"
    "HP-Outer: Date: Sat, 20 Feb 2021 10:09:02 -0500\n"
    'Content-Type: text/plain; hp="cipher"\n\n'
    "hello\n"
)
CLEAR = (
    'Subject: the plan\nFrom: Alice <alice@smime.example>\nContent-Type: text/plain; hp="clear"\n\nhello\n'
)


@pytest.mark.parametrize(
    ("signed", "encrypted", "subject", "others"),
    [
        (True, True, "signed-and-encrypted", "signed-only"),
        (False, True, "encrypted-only", "unprotected"),
        (True, False, "signed-only", "signed-only"),
        (False, False, "unprotected", "unprotected"),
    ],
)
def test_a_field_is_protected_as_signature_and_encryption_do(
    signed: bool,  # noqa: FBT001 - a parameter of the test
    encrypted: bool,  # noqa: FBT001 - a parameter of the test
    subject: str,
    others: str,
) -> None:
    header = read(OUTER, CIPHER, signed=signed, encrypted=encrypted)
    status = {entry.field.name: entry.status for entry in header.fields}
    assert status == {"Subject": subject, "From": others, "To": others, "Date": others}
    assert [entry.outside for entry in header.fields] == ["hidden", "same", "same", "same"]
    assert [field.name for field in header.only_outside] == ["Received"]


@pytest.mark.parametrize(
    ("old", "new", "changed"),
    [
        ("Subject: [...]", "Subject: Pay Mallory", "Subject"),
        ("Subject: [...]\n", "", "Subject"),
        ("To: Bob <bob@smime.example>\n", "To: Bob <bob@smime.example>\nTo: mallory@evil.example\n", "To"),
        ("To: Bob <bob@smime.example>", "To: mallory@evil.example", "To"),
    ],
)
def test_a_field_that_was_changed_outside_is_told(old: str, new: str, changed: str) -> None:
    header = read(OUTER.replace(old, new), CIPHER)
    assert [entry.field.name for entry in header.fields if entry.outside == "changed"] == [changed]
    assert header.shown(signer_is_sender=True).text("Subject") == "the plan"
    assert [box.address for box in header.shown(signer_is_sender=True).addresses("To")] == [
        "bob@smime.example"
    ]


def test_clear_says_that_nothing_was_hidden() -> None:
    header = read("Subject: [...]\nFrom: Alice <alice@smime.example>\n", CLEAR)
    assert {entry.field.name: (entry.status, entry.outside) for entry in header.fields} == {
        "Subject": ("signed-only", "changed"),
        "From": ("signed-only", "same"),
    }


@pytest.mark.parametrize("parameter", ["", '; hp="other"', '; protected-headers="v1"'])
def test_without_the_parameter_nothing_is_protected(parameter: str) -> None:
    header = read("Subject: outside\n", CLEAR.replace('; hp="clear"', parameter))
    assert header.hp is None
    assert [(entry.field.value, entry.status) for entry in header.fields] == [("outside", "unprotected")]


@pytest.mark.parametrize(
    ("outside", "inside", "mismatch"),
    [
        ("Alice <alice@smime.example>", "alice@smime.example", False),
        ("alice@SMIME.example", "Alice <alice@smime.example>", False),
        ("alice@xn--mnchen-3ya.example", "alice@münchen.example", False),
        ("mallory@evil.example", "Alice <alice@smime.example>", True),
        ('"alice@smime.example" <mallory@evil.example>', "alice@smime.example", True),
        ("alice@smime.example, mallory@evil.example", "alice@smime.example", True),
        ("alice@smime.example", "broken <", True),
    ],
)
def test_from_inside_and_outside_are_compared_by_address(outside: str, inside: str, mismatch: bool) -> None:  # noqa: FBT001 - a parameter of the test
    header = read(f"From: {outside}\n", CLEAR.replace("Alice <alice@smime.example>", inside))
    assert header.from_mismatch is mismatch


def test_from_outside_is_shown_where_nobody_vouches_for_the_one_inside() -> None:
    """RFC 9788 section 4.4.2."""
    header = read("From: mallory@evil.example\nSubject: the plan\n", CLEAR)
    doubted, vouched = header.shown(signer_is_sender=False), header.shown(signer_is_sender=True)
    assert [field.value for field in doubted.get_all("From")] == ["mallory@evil.example"]
    assert [field.value for field in vouched.get_all("From")] == ["Alice <alice@smime.example>"]


def test_the_payload_of_rfc_9788_is_read() -> None:
    """Appendix C.3.1: signed and encrypted with the baseline policy, then as its reader sees it."""
    header = read(
        OUTER + "Message-ID: <smime-signed-enc-hp-baseline@example>\n",
        CIPHER.replace(
            "HP-Outer: Subject", "Message-ID: <smime-signed-enc-hp-baseline@example>\nHP-Outer: Subject"
        ),
    )
    status = {entry.field.name: (entry.status, entry.outside) for entry in header.fields}
    assert status["Message-ID"] == ("signed-and-encrypted", "changed")  # no HP-Outer says that it was outside


def test_a_mail_that_was_opened_has_its_header_back() -> None:
    output, shown = io.BytesIO(), io.BytesIO()
    message = io.BytesIO(f"{MAIL}Content-Type: text/plain\r\n\r\nhello\r\n".encode())
    encrypt_mail(message, [BOB.certificate], output, signers=[ALICE])
    report = open_mail(io.BytesIO(output.getvalue()), trusting(), [BOB], shown)
    assert {field.name: field.protection for field in report.headers.fields} == {
        "From": "signed-only",
        "To": "signed-only",
        "Subject": "signed-and-encrypted",
        "Date": "signed-only",
        "Keywords": "signed-and-encrypted",
    }
    header, _, text = shown.getvalue().partition(b"\r\n\r\n")
    assert b"Subject: Dinner plans\r\n" in header
    assert b"Keywords: dinner\r\n" in header
    assert b"hp-legacy-display" not in header
    assert text == b"hello\r\n"


def test_a_mail_that_was_only_signed_keeps_its_first_lines_whatever_it_says() -> None:
    output, shown = io.BytesIO(), io.BytesIO()
    outside = b"From: alice@acme.example\r\n"
    text = (
        outside
        + b'Content-Type: text/plain; hp="cipher"; hp-legacy-display="1"\r\n\r\nPay 100.\r\n\r\nBye.\r\n'
    )
    signature = sign_detached(io.BytesIO(text), [ALICE])
    write_multipart_signed(io.BytesIO(text), signature, [DIGESTS["sha256"]], output, outside)
    open_mail(io.BytesIO(output.getvalue()), trusting(), [], shown)
    assert shown.getvalue().endswith(b"Pay 100.\r\n\r\nBye.\r\n")
