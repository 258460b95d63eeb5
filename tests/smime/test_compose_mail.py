from __future__ import annotations

import base64
import email
import email.policy
import io
import quopri
import subprocess
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from mail_people import MailPerson, person, trusting

from tokensign.algorithms import CONTENT_CIPHERS, DIGESTS
from tokensign.cms.attributes import parse_signed_attributes
from tokensign.cms.decrypt import decrypt
from tokensign.cms.envelope import read_envelope
from tokensign.cms.recipients.password import PasswordRecipient
from tokensign.cms.signed import SigningOptions
from tokensign.cms.signed_data import read_signed_data
from tokensign.errors import MalformedError, UnsupportedError, UsageError
from tokensign.keys import Password
from tokensign.smime.compose_mail import MailOptions, encrypt_copies, encrypt_mail, mail_copies, sign_mail
from tokensign.smime.open_mail import open_mail
from tokensign.smime.unwrap import open_message

if TYPE_CHECKING:
    from collections.abc import Callable
    from email.message import EmailMessage
    from pathlib import Path

ALICE = person("alice@acme.example")
BOB = person("bob@acme.example")
DATE = "Date: Thu, 05 Nov 2026 09:00:00 +0100\n"
HEADER = f"From: Alice <alice@acme.example>\nTo: bob@acme.example\nSubject: Figures\n{DATE}"


def mail(body: str | bytes, content_type: str = "text/plain; charset=utf-8", header: str = HEADER) -> bytes:
    octets = body.encode() if isinstance(body, str) else body
    return f"{header}MIME-Version: 1.0\nContent-Type: {content_type}\n\n".encode() + octets


def signed(message: bytes, **options: Any) -> bytes:  # noqa: ANN401 - those of MailOptions
    output = io.BytesIO()
    sign_mail(io.BytesIO(message), [ALICE], output, MailOptions(**options))
    return output.getvalue()


def encrypted(
    message: bytes,
    *readers: MailPerson,
    signers: tuple[MailPerson, ...] = (),
    bcc: str | None = None,
    **options: Any,  # noqa: ANN401 - those of MailOptions
) -> bytes:
    output = io.BytesIO()
    certificates = [reader.certificate for reader in readers or (BOB,)]
    encrypt_mail(io.BytesIO(message), certificates, output, MailOptions(**options), signers=signers, bcc=bcc)
    return output.getvalue()


def parsed(message: bytes) -> EmailMessage:
    return email.message_from_bytes(message, policy=email.policy.default)


def text_of(message: bytes) -> str:
    return str(parsed(message).get_content()).replace("\r\n", "\n")


def opened(message: bytes, reader: MailPerson = BOB) -> bytes:
    """What the reader reads of a mail that is good."""
    output = io.BytesIO()
    report = open_mail(io.BytesIO(message), trusting(), [reader], output)
    assert report.holds, report.summary()
    return output.getvalue()


def opened_layer(message: bytes, reader: MailPerson) -> bytes:
    """What is in the encryption."""
    output = io.BytesIO()
    with open_message(io.BytesIO(message)) as unwrapped:
        decrypt(unwrapped.cms, [reader], output)
    return output.getvalue()


def signed_part(message: bytes) -> bytes:
    with open_message(io.BytesIO(message)) as unwrapped:
        assert unwrapped.content is not None
        return unwrapped.content.read()


# --- signed


def test_a_signed_mail_is_good_for_its_reader() -> None:
    report = open_mail(io.BytesIO(signed(mail("Pay 100 to Bob.\n"))), trusting())
    assert (report.verdict, report.sender_address, report.outside) == ("good", "alice@acme.example", ())


def test_fields_outside_stay_as_they_are_and_in_their_order() -> None:
    header = "X-First: a\n folded\n" + HEADER + "X-Last: \tb  \n"
    message = signed(mail("x\n", header=header + "MIME-Version: 1.0\n"))
    outside = message[: message.index(b"MIME-Version")]
    assert outside == header.replace("\n", "\r\n").encode()
    assert message[: message.index(b"\r\n\r\n")].lower().count(b"mime-version") == 1


def test_octets_beyond_ascii_in_a_field_stay() -> None:
    header = HEADER.replace("Figures", "Grüße")
    message = signed(mail("x\n", header=header))
    assert message.count("Subject: Grüße\r\n".encode()) == 2
    assert "Subject: Grüße\r\n".encode() in opened(message)


@pytest.mark.parametrize(
    ("digest", "micalg"), [(None, "sha-256"), ("sha384", "sha-384"), ("sha512", "sha-512")]
)
def test_micalg_is_the_name_of_rfc_8551(digest: str | None, micalg: str) -> None:
    options = SigningOptions(digest=DIGESTS[digest] if digest else None)
    message = parsed(signed(mail("x\n"), signing=options))
    assert message["content-type"].params["micalg"] == micalg
    assert message["content-type"].params["protocol"] == "application/pkcs7-signature"


def test_an_opaque_mail_holds_the_mail_in_the_signature() -> None:
    message = signed(mail("Pay 100.\n"), opaque=True)
    assert parsed(message)["content-type"].params["smime-type"] == "signed-data"
    assert parsed(message).get_filename() == "smime.p7m"
    assert b"Pay 100." not in message
    assert text_of(opened(message)) == "Pay 100.\n"


def test_several_people_sign_one_mail() -> None:
    output = io.BytesIO()
    sign_mail(io.BytesIO(mail("x\n")), [ALICE, BOB], output)
    with open_message(io.BytesIO(output.getvalue())) as unwrapped:
        assert len(read_signed_data(unwrapped.cms).signer_infos) == 2


def test_a_compressed_mail_is_opened() -> None:
    message = signed(mail("many words\n" * 1000), compress=True)
    assert parsed(message)["content-type"].params["smime-type"] == "compressed-data"
    assert parsed(message).get_filename() == "smime.p7z"
    assert len(message) < 8000
    assert text_of(opened(message)) == "many words\n" * 1000


# --- what relays would change


@pytest.mark.parametrize(
    "body",
    [
        "Viele Grüße\n",
        "white space \nat the end\t\n",
        "From here on\n",
        "a\n\nFrom here on\n",
        "x" * 999 + "\n",
        "bare\rreturn\n",
        "nul \0\n",
        "ends with a space ",
    ],
)
def test_text_that_relays_would_change_is_encoded_before_it_is_signed(body: str) -> None:
    part = signed_part(signed(mail(body)))
    header, _, content = part.partition(b"\r\n\r\n")
    assert b"Content-Transfer-Encoding: quoted-printable" in header
    assert quopri.decodestring(content) == body.replace("\n", "\r\n").encode()
    assert part.isascii()
    lines = part.split(b"\r\n")
    assert max(map(len, lines)) <= 78
    assert not any(line.endswith((b" ", b"\t")) or line.startswith(b"From ") for line in lines)


@pytest.mark.parametrize("body", ["x" * 998 + "\n", ">From here\n", "a\n\nb", "", "=3D\n", "--b--\n"])
def test_text_that_survives_relays_stays_as_it_is(body: str) -> None:
    part = signed_part(signed(mail(body)))
    assert part.partition(b"\r\n\r\n")[2] == body.replace("\n", "\r\n").encode()
    assert b"Transfer-Encoding" not in part


def test_text_that_is_mostly_not_ascii_becomes_base64() -> None:
    part = signed_part(signed(mail("Ünïcödé " * 20)))
    header, _, content = part.partition(b"\r\n\r\n")
    assert b"Content-Transfer-Encoding: base64" in header
    assert base64.b64decode(content).decode() == "Ünïcödé " * 20


@pytest.mark.parametrize("encoding", ["8bit", "binary"])
def test_a_part_that_only_says_that_it_is_not_ascii_is_called_what_it_is(encoding: str) -> None:
    header = HEADER + f"Content-Transfer-Encoding: {encoding}\n"
    part = signed_part(signed(mail("ascii\r\n", header=header)))
    assert b"Content-Transfer-Encoding: 7bit\r\n" in part
    assert part.endswith(b"\r\n\r\nascii\r\n")


def test_binary_content_keeps_every_octet() -> None:
    content = bytes(range(256)) * 3 + b"\n\r\n\r"
    header = HEADER + "Content-Transfer-Encoding: binary\n"
    part = signed_part(signed(mail(content, "application/octet-stream", header)))
    assert parsed(part).get_content() == content


def test_parts_that_are_encoded_already_are_not_touched() -> None:
    part = b"Content-Type: image/png\r\nContent-Transfer-Encoding: base64\r\n\r\nAAAA\r\nBBBB\r\n"
    body = b"--b\r\n" + part + b"\r\n--b\r\n\r\nlatin \xff\r\n--b--\r\n"
    message = signed(mail(body, "multipart/mixed; boundary=b"))
    assert b"--b\r\n" + part + b"\r\n--b\r\n" in message
    assert b"latin =FF" in message


@pytest.mark.parametrize(("encoding", "label"), [("8bit", "8bit"), ("7bit", "7bit")])
def test_a_mail_says_what_is_in_parts_that_somebody_else_signed(encoding: str, label: str) -> None:
    body = f"--b\nContent-Type: multipart/signed\nContent-Transfer-Encoding: {encoding}\n\nx\n--b--\n"
    header = HEADER + "Content-Transfer-Encoding: 8bit\n"
    part = parsed(signed_part(signed(mail(body, "multipart/mixed; boundary=b", header))))
    assert part["content-transfer-encoding"] == label


@pytest.mark.parametrize(("text", "stays"), [("plain", True), ("Grüße", False), ("space ", False)])
def test_text_around_the_parts_stays_where_it_is_plain(text: str, stays: bool) -> None:  # noqa: FBT001 - a parameter of the test
    body = f"{text}\r\n--b\r\n\r\nx\r\n--b--\r\n{text}\r\n"
    part = signed_part(signed(mail(body, "multipart/mixed; boundary=b")))
    if stays:
        assert part.endswith(b"\r\n\r\n" + body.encode())
    else:
        assert part.endswith(b"\r\n\r\n--b\r\n\r\nx\r\n--b--\r\n")


def test_an_encrypted_part_in_binary_keeps_its_octets() -> None:
    content = b"\x30\x80\n\r\n\r\0"
    part = b"Content-Type: application/pkcs7-mime\nContent-Transfer-Encoding: binary\n\n" + content
    message = signed(mail(b"--b\n" + part + b"\n--b--\n", "multipart/mixed; boundary=b"))
    (kept,) = parsed(opened(message)).iter_parts()
    assert kept.get_payload(decode=True) == content


def test_a_part_on_which_readers_disagree_is_signed_as_it_is() -> None:
    part = b"Content-Type: a/b\nContent-Type: c/d\nContent-Transfer-Encoding: binary\n\na\nb \n"
    message = signed(mail(b"--b\n" + part + b"\n--b--\n", "multipart/mixed; boundary=b"))
    assert part.replace(b"\n", b"\r\n") in opened(message)


def test_what_somebody_else_signed_is_not_touched() -> None:
    inner = signed(mail("old \n")).replace(b"=20", b" ").replace(b"quoted-printable", b"8bit")
    kept = inner[inner.index(b"--tokensign") :]
    boundary = parsed(inner).get_boundary()
    body = (
        b"--b\r\n\r\nforwarded \xff\r\n--b\r\n"
        b'Content-Type: multipart/signed; protocol="application/pkcs7-signature"; micalg=sha-256;\r\n'
        b' boundary="' + str(boundary).encode() + b'"\r\n\r\n' + kept + b"\r\n--b--\r\n"
    )
    message = signed(mail(body, "multipart/mixed; boundary=b"))
    assert kept in message
    assert b"forwarded =FF" in message


def test_a_forwarded_mail_is_encoded_part_by_part() -> None:
    forwarded = b"From: carol@acme.example\r\nSubject: old\r\n\r\nGr\xc3\xbc\xc3\x9fe\r\n"
    body = (
        b"--b\r\nContent-Type: message/rfc822\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
        + forwarded
        + b"--b--\r\n"
    )
    part = signed_part(signed(mail(body, "multipart/mixed; boundary=b")))
    assert part.isascii()
    (attached,) = parsed(part).iter_parts()
    assert attached["content-transfer-encoding"] == "7bit"
    assert attached.get_content().get_payload(decode=True) == "Grüße".encode()


def test_a_line_of_quoted_text_never_looks_like_a_boundary() -> None:
    text = "x" * 72 + "--b\r\n" + "ü" + "y" * 66 + "--b--\r\n"
    body = b"--b\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n" + text.encode() + b"\r\n--b--\r\n"
    message = signed(mail(body, "multipart/mixed; boundary=b"))
    (part,) = parsed(opened(message)).iter_parts()
    assert part.get_payload(decode=True) == text.encode()


def test_line_ends_of_quoted_text_are_cr_lf_whatever_the_file_has() -> None:
    header = HEADER + "Content-Transfer-Encoding: quoted-printable\n"
    shown = opened(encrypted(mail("a =\nb\nc=0A", header=header)))
    assert parsed(shown).get_payload(decode=True) == b"a b\r\nc\n"


def test_a_missing_end_is_written() -> None:
    message = signed(mail("--b\n\nthe first\n--b\n\nthe second\n", "multipart/mixed; boundary=b"))
    assert signed_part(message).endswith(b"\r\n--b--\r\n")
    parts = [part.get_content() for part in parsed(opened(message)).iter_parts()]
    assert [part.strip() for part in parts] == ["the first", "the second"]


def test_a_mail_on_which_readers_disagree_is_not_signed() -> None:
    with pytest.raises(MalformedError, match="Content-Type"):
        signed(mail("x\n", header=HEADER + "Content-Type: text/html\n"))


# --- encrypted


def test_an_encrypted_mail_hides_its_subject_and_its_text() -> None:
    message = encrypted(mail("Pay 100.\n"))
    assert parsed(message)["subject"] == "[...]"
    assert parsed(message)["content-type"].params["smime-type"] == "authEnveloped-data"
    assert parsed(message).get_filename() == "smime.p7m"
    inside = parsed(opened(message))
    assert inside["subject"] == "Figures"
    assert text_of(opened(message)) == "Pay 100.\n"


def test_a_cipher_for_older_programs_makes_enveloped_data() -> None:
    message = encrypted(mail("x\n"), cipher=CONTENT_CIPHERS["aes-256-cbc"])
    assert parsed(message)["content-type"].params["smime-type"] == "enveloped-data"
    assert text_of(opened(message)) == "x\n"


@pytest.mark.parametrize(
    "options",
    [{}, {"opaque": True}, {"compress": True}, {"triple_wrap": True}, {"triple_wrap": True, "opaque": True}],
)
def test_layers_are_put_around_each_other(options: dict[str, bool]) -> None:
    message = encrypted(mail("Pay 100.\n"), signers=(ALICE,), **options)
    output = io.BytesIO()
    report = open_mail(io.BytesIO(message), trusting(), [BOB], output)
    kinds = [layer.kind.value for layer in report.layers]
    expected = ["encrypted", "signed"]
    if options.get("compress"):
        expected.insert(1, "compressed")
    if options.get("triple_wrap"):
        expected.insert(0, "signed")
    assert (kinds, report.verdict) == (expected, "good")
    assert text_of(output.getvalue()) == "Pay 100.\n"


def test_nobody_signs_three_layers_without_a_key() -> None:
    with pytest.raises(UsageError, match="signed twice"):
        encrypted(mail("x\n"), triple_wrap=True)


def test_a_mail_that_is_signed_already_is_encrypted_as_it_is() -> None:
    clear = signed(mail("Pay 100 \n"))
    message = encrypted(clear)
    report = open_mail(io.BytesIO(message), trusting(), [BOB])
    assert report.verdict == "good"
    assert [layer.kind.value for layer in report.layers] == ["encrypted", "signed"]


def test_without_header_protection_no_field_goes_inside() -> None:
    message = encrypted(mail("x\n"), signers=(ALICE,), protect_headers=False)
    assert parsed(message)["subject"] == "Figures"
    report = open_mail(io.BytesIO(message), trusting(), [BOB])
    assert {field.protection for field in report.headers.fields} == {"unprotected"}


# --- recipients


def readers_of(message: bytes) -> int:
    with open_message(io.BytesIO(message)) as unwrapped:
        return len(read_envelope(unwrapped.cms).recipients)


def test_copies_have_one_signature() -> None:
    message = mail("x\n", header=HEADER + "Bcc: carol@acme.example\n")
    certificates = [BOB.certificate, person("carol@acme.example").certificate]
    outputs: dict[str | None, io.BytesIO] = {copy: io.BytesIO() for copy in mail_copies(io.BytesIO(message))}
    mails = encrypt_copies(io.BytesIO(message), certificates, outputs, signers=[ALICE])
    assert {copy: made.recipients for copy, made in mails.items()} == {
        None: (certificates[0],),
        "carol@acme.example": (certificates[1],),
    }
    inside = [
        opened_layer(output.getvalue(), reader)
        for output, reader in zip(outputs.values(), (BOB, person("carol@acme.example")), strict=True)
    ]
    assert inside[0] == inside[1]
    assert inside[0].startswith(b"MIME-Version: 1.0\r\nContent-Type: multipart/signed")


def test_a_list_that_names_nobody_is_no_recipient() -> None:
    message = mail(
        "x\n", header="From: alice@acme.example\nTo: undisclosed-recipients:;\nBcc: bob@acme.example\n"
    )
    assert mail_copies(io.BytesIO(message)) == ("bob@acme.example",)


def test_recipients_in_bcc_are_revealed_to_nobody() -> None:
    carol, dave = person("carol@acme.example"), person("dave@acme.example")
    message = mail("x\n", header=HEADER + "Bcc: Carol <carol@acme.example>,\n dave@acme.example\n")
    copies = mail_copies(io.BytesIO(message))
    assert copies == (None, "carol@acme.example", "dave@acme.example")
    made = [encrypted(message, ALICE, BOB, carol, dave, bcc=copy, signers=(ALICE,)) for copy in copies]
    assert [readers_of(copy) for copy in made] == [2, 1, 1]
    for copy, reader in zip(made, (BOB, carol, dave), strict=True):
        inside = opened(copy, reader)
        for text in (copy, inside):
            assert b"\nbcc:" not in text.lower()
            assert b"carol@" not in text
            assert b"dave@" not in text


def test_bcc_is_not_signed_where_all_see_the_mail() -> None:
    message = signed(mail("x\n", header=HEADER + "Bcc: carol@acme.example\n"))
    assert b"carol" not in signed_part(message)


def test_a_mail_to_bcc_only_has_no_copy_for_all() -> None:
    message = mail("x\n", header="From: alice@acme.example\nBcc: bob@acme.example\n")
    assert mail_copies(io.BytesIO(message)) == ("bob@acme.example",)
    with pytest.raises(UsageError, match="for nobody"):
        encrypted(message, ALICE, BOB)
    assert readers_of(encrypted(message, ALICE, BOB, bcc="bob@acme.example")) == 1


def test_who_is_in_to_and_bcc_gets_one_copy() -> None:
    message = mail("x\n", header=HEADER + "Bcc: bob@ACME.example\n")
    assert mail_copies(io.BytesIO(message)) == (None,)
    assert readers_of(encrypted(message)) == 1


@pytest.mark.parametrize("bcc", [None, "carol@acme.example"])
def test_an_address_without_certificate_is_named(bcc: str | None) -> None:
    field = "Bcc" if bcc else "Cc"
    message = mail("x\n", header=HEADER + f"{field}: carol@acme.example\n")
    with pytest.raises(UsageError, match=r"carol@acme\.example"):
        encrypted(message, bcc=bcc)


def test_who_has_no_certificate_may_be_left_out() -> None:
    message = mail("x\n", header=HEADER + "Cc: carol@acme.example\n")
    assert readers_of(encrypted(message, every_recipient=False)) == 1


def test_a_password_stands_for_whoever_has_it() -> None:
    output = io.BytesIO()
    encrypt_mail(io.BytesIO(mail("x\n")), [PasswordRecipient(Password("secret"))], output)
    report = open_mail(io.BytesIO(output.getvalue()), trusting(), [Password("secret")])
    assert report.encrypted


# --- time


def test_date_and_signing_time_are_one_moment_where_there_is_no_date() -> None:
    moment = datetime(2026, 11, 5, 8, 0, 1, tzinfo=UTC)
    output = io.BytesIO()
    message = mail("x\n", header="From: alice@acme.example\n")
    options = MailOptions(signing=SigningOptions(signing_time=moment))
    composed = sign_mail(io.BytesIO(message), [ALICE], output, options)
    assert composed.date == composed.signing_time == moment
    assert parsed(output.getvalue())["date"] == "Thu, 05 Nov 2026 08:00:01 +0000"
    with open_message(io.BytesIO(output.getvalue())) as unwrapped:
        (info,) = read_signed_data(unwrapped.cms).signer_infos
        assert info.signed_attributes is not None
        assert parse_signed_attributes(info.signed_attributes).signing_time == moment


@pytest.mark.parametrize(("minutes", "agrees"), [(0, True), (5, True), (6, False), (-6, False)])
def test_a_date_far_from_the_signing_time_is_told(minutes: int, agrees: bool) -> None:  # noqa: FBT001 - a parameter of the test
    moment = datetime(2026, 11, 5, 8, 0, tzinfo=UTC) + timedelta(minutes=minutes)
    options = MailOptions(signing=SigningOptions(signing_time=moment))
    composed = sign_mail(io.BytesIO(mail("x\n")), [ALICE], io.BytesIO(), options)
    assert composed.date_agrees is agrees


def test_a_date_that_cannot_be_read_does_not_agree() -> None:
    message = mail("x\n", header="From: alice@acme.example\nDate: soon\n")
    composed = sign_mail(io.BytesIO(message), [ALICE], io.BytesIO())
    assert (composed.date, composed.date_agrees) == (None, False)


# --- other programs


@pytest.fixture
def openssl(tmp_path: Path) -> Callable[..., bytes]:
    def run(*arguments: object, feed: bytes) -> bytes:
        done = subprocess.run(
            ["openssl", *map(str, arguments)],
            input=feed, capture_output=True, timeout=60, check=False, cwd=tmp_path,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr.decode(errors="replace")
        return done.stdout

    return run


@pytest.mark.parametrize("opaque", [False, True])
def test_openssl_verifies_what_was_composed(opaque: bool, openssl: Callable[..., bytes]) -> None:  # noqa: FBT001 - a parameter of the test
    message = signed(mail("Grüße \n"), opaque=opaque)
    content = openssl("cms", "-verify", "-noverify", feed=message)
    assert parsed(content)["subject"] == "Figures"
    assert text_of(content) == "Grüße \n"


def test_a_digest_that_the_key_does_not_sign_with_is_refused() -> None:
    with pytest.raises(UnsupportedError):
        signed(mail("x\n"), signing=SigningOptions(family="rsa-pss"))
