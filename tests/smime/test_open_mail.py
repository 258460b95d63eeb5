from __future__ import annotations

import base64
import io
import re
import tracemalloc
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import ValidationError
from mail_people import person, trusting
from mail_reports import MAIL_SCHEMA, check_mail_document

from tokensign.algorithms import CONTENT_CIPHERS, KeyUsage
from tokensign.cms.compressed import compress
from tokensign.cms.content_info import ENVELOPED_DATA, SIGNED_DATA
from tokensign.cms.encrypt import encrypt, encrypt_streamed
from tokensign.cms.signed import SigningOptions, sign_attached, sign_detached
from tokensign.errors import (
    DecryptionError,
    MalformedError,
    NoRecipientError,
    TokensignError,
    UnsupportedError,
)
from tokensign.files import spool
from tokensign.report import Status
from tokensign.smime.compose_mail import MailOptions, encrypt_mail, sign_mail
from tokensign.smime.mail_report import LayerKind
from tokensign.smime.open_mail import open_mail
from tokensign.verification import Expectations

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tokensign.keys import DecryptionKey
    from tokensign.smime.mail_report import MailReport
    from tokensign.token import TokenKey

ENTITY = b"Content-Type: text/plain\r\n\r\nThe figures are good.\r\n"
HEADER = b"From: Alice <alice@acme.example>\r\nTo: bob@acme.example\r\nSubject: Figures\r\n"
MAIL = HEADER + ENTITY
SIGNATURE_ONLY = Expectations(trust=None)


def opened(
    message: bytes, expectations: Expectations, keys: Sequence[DecryptionKey] = ()
) -> tuple[MailReport, bytes]:
    output = io.BytesIO()
    report = open_mail(io.BytesIO(message), expectations, keys, output)
    check_mail_document(report.to_json())
    return report, output.getvalue()


def signed(message: bytes, *signers: TokenKey, **options: bool) -> bytes:
    output = io.BytesIO()
    sign_mail(io.BytesIO(message), signers, output, MailOptions(**options))  # type: ignore[arg-type]
    return output.getvalue()


def encrypted(message: bytes, bob: TokenKey, *signers: TokenKey, **options: bool) -> bytes:
    assert bob.certificate is not None
    output = io.BytesIO()
    encrypt_mail(
        io.BytesIO(message),
        [bob.certificate],
        output,
        MailOptions(**options),  # type: ignore[arg-type]
        signers=signers,
    )
    return output.getvalue()


def attached(entity: bytes, *signers: TokenKey, **options: str) -> bytes:
    output = io.BytesIO()
    sign_attached(io.BytesIO(entity), signers, output, SigningOptions(**options))  # type: ignore[arg-type]
    return output.getvalue()


def pkcs7_mime(cms: bytes, header: bytes = HEADER, content_type: bytes = b"application/pkcs7-mime") -> bytes:
    return (
        header + b"Content-Type: " + content_type + b"\r\nContent-Transfer-Encoding: base64\r\n\r\n"
        + base64.encodebytes(cms)
    )  # fmt: skip


def enveloped(
    content: bytes, bob: TokenKey, *, streamed: bool = False, content_type: str | None = None
) -> bytes:
    assert bob.certificate is not None
    output = io.BytesIO()
    write = encrypt_streamed if streamed else encrypt
    more = {"content_type": content_type} if content_type else {}
    write(io.BytesIO(content), [bob.certificate], output, cipher=CONTENT_CIPHERS["aes-256-cbc"], **more)
    return output.getvalue()


def kinds(report: MailReport) -> list[tuple[str, str]]:
    return [(layer.path, layer.kind.value) for layer in report.layers]


# --- the report


def test_the_manual_and_the_schema_have_the_same_keys() -> None:
    manual = (Path(__file__).parents[2] / "docs" / "mail.md").read_text()
    section = manual.partition("### The report as JSON")[2].partition("\n## ")[0]
    rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    told = {key for row in rows for key in re.findall("`([a-z0-9_]+)`", row)}
    objects = (MAIL_SCHEMA, MAIL_SCHEMA["$defs"]["layer"], MAIL_SCHEMA["$defs"]["field"])
    assert told == {key for entry in objects for key in entry["properties"]}


def test_the_schema_refuses_what_is_not_promised(alice: TokenKey, mail_trust: Expectations) -> None:
    document = opened(signed(MAIL, alice), mail_trust)[0].to_json()
    for broken in (
        document | {"verdict": "fine"},
        document | {"more": 1},
        {key: value for key, value in document.items() if key != "outside"},
        document | {"layers": [document["layers"][0] | {"kind": "sealed"}]},
        document | {"layers": [document["layers"][0] | {"verification": {}}]},
    ):
        with pytest.raises(ValidationError):
            check_mail_document(broken)


# --- layers


def test_each_layer_of_a_mail_is_taken_off_and_told(
    alice: TokenKey, bob: TokenKey, mail_trust: Expectations
) -> None:
    report, output = opened(encrypted(MAIL, bob, alice, triple_wrap=True), mail_trust, [bob])
    assert kinds(report) == [("", "signed"), ("1", "encrypted"), ("1.1", "signed")]
    assert [layer.covers for layer in report.layers] == ["1", "1.1", "1.1.1"]
    assert report.verdict == "good"
    assert report.sender.reason == "signed by alice@acme.example, as From says"
    assert report.layers[1].recipient == bob.certificate
    assert report.layers[1].cipher == CONTENT_CIPHERS["aes-256-gcm"]
    assert report.layers[1].authenticated
    assert b"The figures are good." in output
    assert b"Subject: Figures\r\n" in output
    innermost, outermost = report.signed[-1].verification, report.signed[0].verification
    assert innermost is not None
    assert outermost is not None
    assert innermost.signers[0].identity.status is Status.PASSED
    assert outermost.signers[0].identity.status is Status.NOT_CHECKED


@pytest.mark.parametrize("opaque", [True, False])
def test_a_signed_mail_comes_out_with_its_header(
    *, opaque: bool, alice: TokenKey, mail_trust: Expectations
) -> None:
    report, output = opened(signed(MAIL, alice, opaque=opaque), mail_trust)
    assert kinds(report) == [("", "signed")]
    assert (report.verdict, report.encrypted, report.authenticated) == ("good", False, True)
    assert report.headers.scheme == "header-protection"
    assert report.headers.protection_of("subject") == "signed-only"
    assert output.startswith(HEADER)
    assert output.endswith(b"The figures are good.\r\n")
    assert b"pkcs7" not in output


def test_compression_around_and_inside_of_a_signature_is_taken_off(
    alice: TokenKey, mail_trust: Expectations
) -> None:
    squeezed = io.BytesIO()
    compress(io.BytesIO(ENTITY), squeezed)
    inside = attached(pkcs7_mime(squeezed.getvalue(), b""), alice)
    report, output = opened(pkcs7_mime(inside), mail_trust)
    assert kinds(report) == [("", "signed"), ("1", "compressed")]
    assert report.verdict == "good"
    assert output.endswith(b"The figures are good.\r\n")
    report, _ = opened(signed(MAIL, alice, opaque=True, compress=True), mail_trust)
    assert report.verdict == "good"
    assert "compressed" in [kind for _, kind in kinds(report)]


@pytest.mark.parametrize(
    "content_type",
    [
        b"application/pkcs7-mime",
        b"application/x-pkcs7-mime; smime-type=enveloped-data",
        b"Application/PKCS7-MIME; NAME=smime.p7m",
        b'application/octet-stream; name="smime.p7m"',
        b"application/octet-stream\r\nContent-Disposition: attachment; filename=SMIME.P7M",
        b"application/cms; name=smime.p7m",
    ],
)
@pytest.mark.parametrize("streamed", [True, False], ids=["indefinite-length", "definite-length"])
def test_an_encrypted_mail_is_recognised_in_all_its_dresses(
    content_type: bytes, *, streamed: bool, bob: TokenKey, mail_trust: Expectations
) -> None:
    cms = enveloped(ENTITY, bob, streamed=streamed)
    report, output = opened(pkcs7_mime(cms, HEADER, content_type), mail_trust, [bob])
    assert kinds(report) == [("", "encrypted")]
    assert report.verdict == "unsigned"
    assert not report.authenticated
    assert output == HEADER + b"MIME-Version: 1.0\r\n" + ENTITY


def test_a_message_directly_in_another_one_is_opened(
    alice: TokenKey, bob: TokenKey, mail_trust: Expectations
) -> None:
    inside = attached(ENTITY, alice)
    report, output = opened(pkcs7_mime(enveloped(inside, bob, content_type=SIGNED_DATA)), mail_trust, [bob])
    assert [(layer.kind, layer.media_type) for layer in report.layers] == [
        (LayerKind.ENCRYPTED, "application/pkcs7-mime"),
        (LayerKind.SIGNED, "application/cms"),
    ]
    assert report.verdict == "good"
    assert output.endswith(b"The figures are good.\r\n")
    with pytest.raises(DecryptionError):  # it says enveloped-data and is not
        opened(pkcs7_mime(enveloped(inside, bob, content_type=ENVELOPED_DATA)), mail_trust, [bob])


def test_a_signature_around_the_encryption_does_not_prove_the_sender(
    alice: TokenKey, bob: TokenKey, mail_trust: Expectations
) -> None:
    report, _ = opened(
        pkcs7_mime(attached(pkcs7_mime(enveloped(ENTITY, bob), b""), alice)), mail_trust, [bob]
    )
    assert kinds(report) == [("", "signed"), ("1", "encrypted")]
    assert report.verdict == "intact"
    assert report.sender.status is Status.NOT_CHECKED
    assert "its signer need not know what is inside" in report.summary()
    assert not report.authenticated  # who changed what is in CBC signs that as well as what was sent


def test_content_that_is_no_mail_comes_as_an_attachment(alice: TokenKey, mail_trust: Expectations) -> None:
    receipt = attached(b"\x30\x03\x02\x01\x05", alice, content_type="1.2.840.113549.1.9.16.1.1")
    report, output = opened(pkcs7_mime(receipt), mail_trust)
    assert report.verdict == "good"
    assert "inside is receipt, which is no mail" in report.remarks
    assert b"Content-Type: application/octet-stream" in output
    assert base64.b64encode(b"\x30\x03\x02\x01\x05") in output


def test_other_kinds_of_messages_are_no_mail(mail_trust: Expectations) -> None:
    digested = bytes.fromhex("300d06092a864886f70d010705a000")
    with pytest.raises(UnsupportedError, match="holds digested-data, which is not S/MIME"):
        opened(pkcs7_mime(digested), mail_trust)


# --- what fails


def test_a_changed_octet_makes_the_mail_bad_and_nothing_comes_out(
    alice: TokenKey, mail_trust: Expectations
) -> None:
    report, output = opened(signed(MAIL, alice).replace(b"are good", b"are gone"), mail_trust)
    assert report.verdict == "bad"
    assert not report.holds
    assert not report.authenticated
    assert "does not hold" in report.summary()
    assert output == b""
    assert report.sender.reason == "a signature does not hold"


def test_nothing_is_opened_behind_a_signature_that_does_not_hold(
    alice: TokenKey, bob: TokenKey, mail_trust: Expectations
) -> None:
    message = encrypted(MAIL, bob, alice, triple_wrap=True)
    start = message.index(b"pkcs7-mime;")
    changed = message[:start] + message[start:].replace(b"pkcs7-mime;", b"pkcs7-mime; ", 1)
    report, output = opened(changed, mail_trust, [bob])
    assert kinds(report) == [("", "signed")]
    assert report.verdict == "bad"
    assert output == b""


def test_a_signer_whom_nobody_vouches_for_is_bad_or_told(
    alice: TokenKey, mail_trust: Expectations, token_key: Callable[..., TokenKey]
) -> None:
    from tokensign.pki.ca import self_signed
    from tokensign.token import open_key

    key = token_key("ed25519", name="mail-stranger")
    stranger = open_key(key.token, key.info, certificate=self_signed(key, "CN=X", ["alice@acme.example"]))
    assert opened(signed(MAIL, stranger), mail_trust)[0].verdict == "bad"
    report, output = opened(signed(MAIL, stranger), SIGNATURE_ONLY)
    assert report.verdict == "intact"
    assert report.sender.reason == "the certificate names alice@acme.example, and nobody vouches for it"
    assert output
    assert opened(signed(MAIL, alice), SIGNATURE_ONLY)[0].verdict == "intact"


def test_an_expected_address_must_be_the_signers_besides(alice: TokenKey, mail_trust: Expectations) -> None:
    message = signed(MAIL, alice)
    assert opened(message, replace(mail_trust, email="alice@acme.example"))[0].verdict == "good"
    report, output = opened(message, replace(mail_trust, email="carol@acme.example"))
    assert report.verdict == "bad"
    assert "not to carol@acme.example" in report.summary()
    assert output == b""


def test_a_mail_for_others_is_not_opened(
    alice: TokenKey, bob: TokenKey, mail_person: Callable[..., TokenKey], mail_trust: Expectations
) -> None:
    carol = mail_person("carol", "rsa:2048", KeyUsage.DECRYPT)
    with pytest.raises(NoRecipientError):
        opened(encrypted(MAIL, bob, alice), mail_trust, [carol])
    with pytest.raises(NoRecipientError):
        opened(encrypted(MAIL, bob, alice), mail_trust)


def test_a_layer_that_cannot_be_read_is_refused(mail_trust: Expectations) -> None:
    with pytest.raises(MalformedError):
        opened(pkcs7_mime(b"no CMS"), mail_trust)
    with pytest.raises(MalformedError):
        opened(pkcs7_mime(b"").replace(b"base64", b"x-unknown"), mail_trust)


# --- what the world does to mail


def test_a_mail_without_layers_comes_out_as_it_came(mail_trust: Expectations) -> None:
    for message in (MAIL, b"", b"no header at all", MAIL.replace(b"\r\n", b"\n")):
        report, output = opened(message, mail_trust)
        assert report.verdict == "unsigned"
        assert report.summary() == "nobody signed this mail"
        assert output == message


@pytest.mark.parametrize(
    "damage",
    [
        lambda message: message.replace(b"\r\n", b"\n"),
        lambda message: message.replace(b"\r\n--tokensign", b"\r\n--tokensign").replace(
            b"--\r\n", b"-- \t\r\n"
        ),
        lambda message: b"From alice@acme.example Sat Nov 21 10:00:00 2026\r\n" + message,
        lambda message: b"Received: from a by b;\r\n\tSat, 21 Nov 2026 10:00:00 +0000\r\n" + message,
        lambda message: message + b"\r\n\r\n",
    ],
)
def test_what_relays_do_to_a_signed_mail_does_no_harm(
    damage: Callable[[bytes], bytes], alice: TokenKey, mail_trust: Expectations
) -> None:
    report, output = opened(damage(signed(MAIL, alice)), mail_trust)
    assert report.verdict == "good"
    assert b"The figures are good." in output


def test_the_footer_of_a_mailing_list_is_told_as_outside(alice: TokenKey, mail_trust: Expectations) -> None:
    message = signed(MAIL, alice)
    entity = message[message.index(b"Content-Type: multipart/signed") :]
    listed = (
        HEADER + b"Content-Type: multipart/mixed; boundary==l\r\n\r\n--=l\r\n" + entity
        + b"\r\n--=l\r\nContent-Type: text/plain\r\n\r\nThe list.\r\n--=l--\r\n"
    )  # fmt: skip
    report, output = opened(listed, mail_trust)
    assert report.verdict == "partial"
    assert [layer.path for layer in report.signed_parts] == ["1"]
    assert report.outside == ("part 2 (text/plain, 9 bytes)",)
    assert report.summary().startswith("only a part is signed: part 1 is unchanged")
    assert output == listed


@pytest.mark.parametrize(
    "part",
    [
        b"Content-Type: application/ms-tnef\r\n\r\n",
        b"Content-Type: application/octet-stream; name=winmail.dat\r\n\r\n",
    ],
)
def test_winmail_dat_is_told(part: bytes, mail_trust: Expectations) -> None:
    message = (
        HEADER + b"Content-Type: multipart/mixed; boundary==t\r\n\r\n--=t\r\n" + part + b"\r\n--=t--\r\n"
    )
    report, _ = opened(message, mail_trust)
    assert any(remark.startswith("part 1 is winmail.dat (TNEF)") for remark in report.remarks)


def test_a_mail_that_was_cut_off_is_told(alice: TokenKey, mail_trust: Expectations) -> None:
    message = HEADER + b"Content-Type: multipart/mixed; boundary==t\r\n\r\n--=t\r\n\r\none\r\n"
    report, _ = opened(message, mail_trust)
    assert report.remarks == ("the mail is cut off: its last boundary is missing",)
    report, output = opened(signed(message, alice)[:-100], mail_trust)
    assert report.verdict == "bad"
    assert "cut off" in report.summary()
    assert output == b""


def test_a_mail_in_a_mail_may_carry_the_header(alice: TokenKey, mail_trust: Expectations) -> None:
    """RFC 8551 section 3.1, before RFC 9788."""
    wrapped = b"Content-Type: message/rfc822; forwarded=no\r\n\r\n" + MAIL
    report, output = opened(
        pkcs7_mime(attached(wrapped, alice), HEADER.replace(b"Figures", b"...")), mail_trust
    )
    assert report.headers.scheme == "wrapped"
    subject = next(entry for entry in report.headers.fields if entry.name == "Subject")
    assert (subject.text, subject.protection, subject.outside_text) == ("Figures", "signed-only", "...")
    assert report.verdict == "good"
    assert output == HEADER + b"MIME-Version: 1.0\r\n" + ENTITY


def test_a_part_that_is_named_is_held_against_the_address_that_is_expected(
    alice: TokenKey, mail_trust: Expectations
) -> None:
    part = pkcs7_mime(attached(ENTITY, alice), b"")
    message = HEADER + b"Content-Type: multipart/mixed; boundary==t\r\n\r\n--=t\r\n" + part + b"--=t--\r\n"
    for email, verdict in ((None, "partial"), ("alice@acme.example", "partial"), ("x@acme.example", "bad")):
        expectations = replace(mail_trust, email=email)
        assert opened(message, expectations)[0].verdict == verdict
        report = open_mail(io.BytesIO(message), expectations, part="1")
        assert report.verdict == verdict
        assert report.sender.status is Status.NOT_CHECKED
        assert report.sender_address is None


def test_parts_that_cannot_be_read_are_told_and_speak_for_nothing(
    alice: TokenKey, mail_trust: Expectations
) -> None:
    broken = pkcs7_mime(b"no CMS", b"")
    message = HEADER + b"Content-Type: multipart/mixed; boundary==t\r\n\r\n--=t\r\n" + broken + b"--=t--\r\n"
    report, _ = opened(message, mail_trust)
    assert report.verdict == "unsigned"
    assert any(remark.startswith("part 1 cannot be read") for remark in report.remarks)
    report, _ = opened(signed(message, alice), mail_trust)
    assert report.verdict == "good"
    assert report.signed_parts == ()


@pytest.mark.parametrize(
    ("field", "remark"),
    [
        (b"Sender: carol@acme.example", "it was sent by carol@acme.example, says the field Sender"),
        (b"Reply-To: carol@acme.example", "replies go to carol@acme.example, says the field Reply-To"),
        (b"Reply-To: <<", "the field Reply-To cannot be read"),
        (b"Subject: More", "the field Subject stands 2 times, and programs differ in which one they show"),
        (b"Sender: alice@acme.example", None),
    ],
)
def test_other_fields_that_may_mislead_are_told(
    field: bytes, remark: str | None, alice: TokenKey, mail_trust: Expectations
) -> None:
    report, _ = opened(pkcs7_mime(attached(ENTITY, alice), HEADER + field + b"\r\n"), mail_trust)
    assert report.verdict == "good"
    assert report.remarks == ((remark,) if remark else ())


# --- times


@pytest.mark.parametrize(
    "date",
    [b"", b"Date: yesterday\r\n", b"Date: Sat, 21 Nov 2026 10:00:00 -0000\r\n", b"Date: x\r\nDate: y\r\n"],
)
def test_a_date_that_cannot_be_read_is_compared_with_nothing(
    date: bytes, alice: TokenKey, mail_trust: Expectations
) -> None:
    report, _ = opened(pkcs7_mime(attached(ENTITY, alice), HEADER + date), mail_trust)
    assert report.verdict == "good"
    assert report.date_offset is None


@pytest.mark.parametrize(
    ("hours", "remark"), [(0, None), (-3, "3 hours after Date"), (50, "2 days before Date")]
)
def test_a_date_that_is_not_that_of_the_signature_is_told(
    hours: int, remark: str | None, alice: TokenKey, mail_trust: Expectations
) -> None:
    moment = datetime.now(UTC).replace(microsecond=0)
    date = (moment + timedelta(hours=hours, seconds=(hours > 0) * 60 - (hours < 0) * 60)).strftime(
        "%a, %d %b %Y %H:%M:%S +0000"
    )
    header = HEADER + b"Date: " + date.encode() + b"\r\n"
    report, _ = opened(pkcs7_mime(attached(ENTITY, alice), header), mail_trust)
    assert report.verdict == "good"
    assert report.date_offset is not None
    assert abs(report.date_offset + hours * 3600) < 60 + 60
    told = [entry for entry in report.remarks if "clock" in entry]
    assert told == ([f"the signer's clock was {remark}"] if remark else [])


# --- size


@pytest.mark.parametrize("clear", [True, False])
def test_a_large_attachment_is_opened_in_little_memory(
    *, clear: bool, alice: TokenKey, mail_trust: Expectations
) -> None:
    line = b"A" * 76 + b"\r\n"
    with spool() as message, spool() as composed, spool() as output:
        message.write(HEADER + b"Content-Type: application/octet-stream\r\n\r\n")
        for _ in range(400):
            message.write(line * 1000)
        message.seek(0)
        sign_mail(cast("BinaryIO", message), [alice], composed, MailOptions(opaque=not clear))
        composed.seek(0)
        tracemalloc.start()
        report = open_mail(composed, mail_trust, (), output)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert report.verdict == "good"
        assert output.tell() > 31_000_000
    assert peak < 30_000_000  # spools hold 8 MiB each before they go to files


def test_a_broken_signature_part_leaves_no_doubt(alice: TokenKey, mail_trust: Expectations) -> None:
    signature = sign_detached(io.BytesIO(ENTITY), [alice])
    for damaged in (signature[:-20], signature[:50], b"\x30\x00"):
        message = (
            HEADER
            + b'Content-Type: multipart/signed; protocol="application/pkcs7-signature"; boundary==s\r\n\r\n'
            b"--=s\r\n" + ENTITY + b"\r\n--=s\r\nContent-Type: application/pkcs7-signature\r\n"
            b"Content-Transfer-Encoding: base64\r\n\r\n" + base64.encodebytes(damaged) + b"--=s--\r\n"
        )
        report, output = opened(message, mail_trust)
        assert report.verdict == "bad"
        assert report.layers[0].failure is not None
        assert output == b""


# --- whatever comes

PIECES = st.sampled_from([
    b"\r\n", b"\n", b"\r", b"\0", b"--", b"--tokensign", b"From: x@y\r\n", b"=?utf-8?b?w?=", b";", b'"', b"(",
    b"Content-Type: multipart/signed; boundary=q\r\n", b"Content-Transfer-Encoding: base64\r\n", b"hp=cipher",
])  # fmt: skip
ALICE, BOB = person("alice@acme.example"), person("bob@acme.example")


def composed(*, encrypt: bool) -> bytes:
    output = io.BytesIO()
    if encrypt:
        encrypt_mail(io.BytesIO(MAIL), [BOB.certificate], output, signers=[ALICE])
    else:
        sign_mail(io.BytesIO(MAIL), [ALICE], output)
    return output.getvalue()


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from([composed(encrypt=False), composed(encrypt=True)]),
    st.lists(st.tuples(st.integers(0, 4000), PIECES | st.binary(min_size=1, max_size=3)), max_size=3),
)
def test_a_damaged_mail_gives_a_report_or_the_typed_error_and_never_other_words(
    message: bytes, changes: list[tuple[int, bytes]]
) -> None:
    for number, piece in changes:
        position = number % len(message)
        message = message[:position] + piece + message[position:]
    try:
        report, output = opened(message, trusting(), [BOB])
    except TokensignError:
        return
    if report.verdict == "good":
        assert output.endswith(b"The figures are good.\r\n")
        assert b"From: Alice <alice@acme.example>" in output
    elif report.verdict == "bad":
        assert output == b""
