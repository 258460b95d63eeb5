"""Mail that uses how differently programs read RFC 5322, 1847 and 5652, or that costs its reader too much."""

from __future__ import annotations

import io
import socket
import time
from typing import TYPE_CHECKING, NoReturn

import pytest
from hostile_mails import (
    FROM_ALICE,
    FROM_MALLORY,
    PLAIN,
    REST,
    TEXT,
    Forbidden,
    attached,
    clear_signed,
    enveloped,
    html,
    multipart,
    opened,
    pkcs7_mime,
    signed,
)

from tokensign.algorithms import KeyUsage
from tokensign.cms.certificates_only import write_certificates_only
from tokensign.cms.compressed import DecompressionLimit, compress
from tokensign.cms.signed import sign_detached
from tokensign.errors import UnsupportedError
from tokensign.report import Status
from tokensign.smime.compose_mail import encrypt_mail
from tokensign.smime.mail_report import LayerKind

if TYPE_CHECKING:
    from collections.abc import Callable

    from tokensign.token import TokenKey
    from tokensign.verification import Expectations

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
