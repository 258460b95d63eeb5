"""Receipts and labels of mail that was opened: which mails get a receipt, who sees which label."""

from __future__ import annotations

import base64
import email
import email.policy
import io
import json
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from mail_people import MailPerson, person, trusting
from mail_reports import check_mail_document

from tokensign import der
from tokensign.algorithms import CONTENT_CIPHERS
from tokensign.cms.attributes import RECEIPT_REQUEST, attribute
from tokensign.cms.signed_data import read_signed_data
from tokensign.cms.signer_info import SigningOptions
from tokensign.errors import BadSignatureError, MalformedError, NoRecipientError, PolicyError, UsageError
from tokensign.ess.attributes import ess_of
from tokensign.ess.general_names import GeneralNames
from tokensign.ess.label_policy import Clearance, PolicyClearance
from tokensign.ess.labels import SecurityLabel
from tokensign.ess.mailing_list import ReceiptPolicy, ReceiptPolicyKind, expand
from tokensign.ess.receipt_request import request_receipt
from tokensign.smime.compose_mail import MailOptions, encrypt_mail, sign_mail
from tokensign.smime.labels import check_labels
from tokensign.smime.open_mail import open_mail
from tokensign.smime.receipts import (
    OwedReceipt,
    owed_receipt,
    read_sent,
    verify_receipt,
    write_receipt_mail,
    write_sent,
)

ALICE, BOB, LIST = (person(f"{name}@acme.example") for name in ("alice", "bob", "list"))
MAIL = b"From: alice@acme.example\r\nTo: bob@acme.example\r\nSubject: Lunch\r\n\r\nSee you at noon.\r\n"
REQUEST = request_receipt(["alice@acme.example"])
POLICY = "1.3.6.1.4.1.55555.1"


def signed(*attributes: bytes, by: MailPerson = ALICE, mail: bytes = MAIL, **form: bool) -> bytes:
    output = io.BytesIO()
    options = MailOptions(signing=SigningOptions(signed_attributes=attributes), **form)
    sign_mail(io.BytesIO(mail), [by], output, options)
    return output.getvalue()


def owed(mail: bytes, *keys: MailPerson) -> OwedReceipt:
    return owed_receipt(open_mail(io.BytesIO(mail), trusting(), keys), BOB.certificate)


def receipt_for(mail: bytes, *keys: MailPerson) -> bytes:
    output = io.BytesIO()
    write_receipt_mail(owed(mail, *keys), BOB, output)
    return output.getvalue()


@pytest.mark.parametrize("form", [{}, {"opaque": True}, {"compress": True}], ids=str)
def test_receipt_is_verified_with_the_mail_that_was_sent(form: dict[str, bool]) -> None:
    mail = signed(REQUEST.as_attribute(), **form)
    expected = replace(trusting(), email="bob@acme.example")
    report = verify_receipt(io.BytesIO(receipt_for(mail)), read_sent(io.BytesIO(mail)), expected)
    assert report.verdict == "good"


def test_receipt_for_an_encrypted_mail_is_verified_with_the_record() -> None:
    mail = signed(REQUEST.as_attribute())
    record, encrypted = io.BytesIO(), io.BytesIO()
    write_sent(read_sent(io.BytesIO(mail)), record)
    encrypt_mail(io.BytesIO(mail), [BOB.certificate], encrypted)
    receipt = receipt_for(encrypted.getvalue(), BOB)
    kept = read_sent(io.BytesIO(record.getvalue()))
    assert verify_receipt(io.BytesIO(receipt), kept, trusting()).verdict == "good"


def test_receipt_is_a_mail_to_those_who_shall_have_it() -> None:
    parsed = email.message_from_bytes(
        receipt_for(signed(REQUEST.as_attribute())), policy=email.policy.default
    )
    assert (parsed["From"], parsed["To"]) == ("bob@acme.example", "alice@acme.example")
    assert parsed.get_content_type() == "application/pkcs7-mime"
    assert parsed.get_param("smime-type") == "signed-receipt"


def test_receipt_of_somebody_else_is_not_the_expected_one() -> None:
    mail = signed(REQUEST.as_attribute())
    expected = replace(trusting(), email="carol@acme.example")
    report = verify_receipt(io.BytesIO(receipt_for(mail)), read_sent(io.BytesIO(mail)), expected)
    assert report.verdict == "bad"


def test_changed_receipt_is_refused() -> None:
    mail = signed(REQUEST.as_attribute())
    header, _, body = receipt_for(mail).partition(b"\r\n\r\n")
    changed = base64.b64decode(body).replace(REQUEST.content_identifier, bytes(32))
    receipt = header + b"\r\n\r\n" + base64.encodebytes(changed)
    report = verify_receipt(io.BytesIO(receipt), read_sent(io.BytesIO(mail)), trusting())
    assert report.verdict == "bad"


def test_encrypted_receipt_is_decrypted() -> None:
    mail = signed(REQUEST.as_attribute())
    encrypted = io.BytesIO()
    encrypt_mail(io.BytesIO(receipt_for(mail)), [ALICE.certificate], encrypted)
    sent = read_sent(io.BytesIO(mail))
    report = verify_receipt(io.BytesIO(encrypted.getvalue()), sent, trusting(), [ALICE])
    assert (report.verdict, report.encrypted) == ("good", True)


def test_receipt_for_another_mail_is_refused() -> None:
    receipt = receipt_for(signed(REQUEST.as_attribute()))
    other = signed(request_receipt(["alice@acme.example"]).as_attribute())
    with pytest.raises(BadSignatureError, match="another message"):
        verify_receipt(io.BytesIO(receipt), read_sent(io.BytesIO(other)), trusting())


@pytest.mark.parametrize("mail", [MAIL, signed(), signed(opaque=True)], ids=["unsigned", "clear", "opaque"])
def test_other_mail_is_no_receipt(mail: bytes) -> None:
    sent = read_sent(io.BytesIO(signed(REQUEST.as_attribute())))
    with pytest.raises(MalformedError, match="not a signed receipt"):
        verify_receipt(io.BytesIO(mail), sent, trusting())


def test_changed_mail_gets_no_receipt() -> None:
    mail = signed(REQUEST.as_attribute()).replace(b"noon", b"nine")
    with pytest.raises(PolicyError, match="when its signatures hold"):
        owed(mail)


def test_mail_that_is_not_from_its_signer_gets_no_receipt() -> None:
    mail = signed(REQUEST.as_attribute(), mail=MAIL.replace(b"From: alice", b"From: carol"))
    with pytest.raises(PolicyError, match="when its signatures hold"):
        owed(mail)


def test_mail_that_is_signed_in_part_gets_no_receipt() -> None:
    inner = signed(REQUEST.as_attribute()).partition(b"\r\nMIME-Version")[2].partition(b"\r\n")[2]
    mail = (
        b"From: alice@acme.example\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\n"
    )
    mail += b"--x\r\n\r\nPay first.\r\n--x\r\n" + inner + b"\r\n--x--\r\n"
    with pytest.raises(PolicyError, match="signed as a whole"):
        owed(mail)


@pytest.mark.parametrize("mail", [MAIL, signed()], ids=["unsigned", "signed"])
def test_mail_that_does_not_ask_gets_no_receipt(mail: bytes) -> None:
    with pytest.raises(PolicyError):
        owed(mail)


@pytest.mark.parametrize(
    ("policy", "receivers"),
    [
        (None, ("alice@acme.example",)),
        (ReceiptPolicyKind.INSTEAD_OF, ("owner@acme.example",)),
        (ReceiptPolicyKind.IN_ADDITION_TO, ("alice@acme.example", "owner@acme.example")),
        (ReceiptPolicyKind.NONE, ()),
    ],
)
def test_mailing_list_says_where_receipts_go(
    policy: ReceiptPolicyKind | None, receivers: tuple[str, ...]
) -> None:
    names = () if policy is ReceiptPolicyKind.NONE else (GeneralNames.of("owner@acme.example"),)
    own = ReceiptPolicy(policy, names) if policy else None
    history = expand(None, LIST.certificate, datetime.now(UTC), own)
    expanded = signed(history.as_attribute(), by=LIST, mail=signed(REQUEST.as_attribute()))
    if receivers:
        assert owed(expanded).receivers == receivers
    else:
        with pytest.raises(PolicyError, match="wants no receipts"):
            owed(expanded)


@pytest.mark.parametrize("address", [b"x@y.example\r\nBcc:z@y.ex", b"a@b.example, c@d.example", b"nobody"])
def test_stranger_cannot_write_the_header_of_a_receipt(address: bytes) -> None:
    names = GeneralNames.load(der.sequence(der.tlv(0x81, address)))
    asked = replace(REQUEST, receipts_to=(names,))
    output = io.BytesIO()
    with pytest.raises(MalformedError):
        write_receipt_mail(owed(signed(asked.as_attribute())), BOB, output)
    assert output.getvalue() == b""


@pytest.mark.parametrize(
    ("identifier", "answered"),
    [
        ("<1@acme.example>", "<1@acme.example>"),
        (None, None),
        ("1@acme.example", None),
        ("<1@acme.example> <2@acme.example>", None),
        ("<1@acme.example>\r\nBcc: z@y.example", None),
    ],
)
def test_receipt_answers_the_mail(identifier: str | None, answered: str | None) -> None:
    output = io.BytesIO()
    write_receipt_mail(owed(signed(REQUEST.as_attribute())), BOB, output, in_reply_to=identifier)
    parsed = email.message_from_bytes(output.getvalue())
    assert (parsed["In-Reply-To"], parsed["Bcc"]) == (answered, None)


def test_mail_that_did_not_ask_verifies_no_receipt() -> None:
    with pytest.raises(UsageError, match="does not ask"):
        read_sent(io.BytesIO(signed()))


def test_encrypted_mail_verifies_no_receipt() -> None:
    encrypted = io.BytesIO()
    encrypt_mail(io.BytesIO(signed(REQUEST.as_attribute())), [BOB.certificate], encrypted)
    with pytest.raises(NoRecipientError):
        read_sent(io.BytesIO(encrypted.getvalue()))


def test_receipt_goes_to_somebody_with_an_address_only() -> None:
    nameless = GeneralNames.load(der.sequence(der.explicit(4, ALICE.certificate.encoded_subject)))
    asked = replace(REQUEST, receipts_to=(nameless,))
    with pytest.raises(PolicyError, match="who has no e-mail address"):
        owed(signed(asked.as_attribute()))


def test_who_has_no_address_cannot_send_a_receipt() -> None:
    trust = trusting().trust
    assert trust is not None
    nobody = replace(BOB, certificate=trust.anchors[0])
    with pytest.raises(UsageError, match="no e-mail address"):
        write_receipt_mail(owed(signed(REQUEST.as_attribute())), nobody, io.BytesIO())


@pytest.mark.parametrize(
    "record", [b"{", b"{}", b'{"signatures": 1}', b'{"signatures": [{}]}', b'{"signatures": []}']
)
def test_broken_record_is_malformed(record: bytes) -> None:
    with pytest.raises(MalformedError, match="not a record"):
        read_sent(io.BytesIO(record))


def test_record_tells_nothing_about_the_content() -> None:
    record = io.BytesIO()
    write_sent(read_sent(io.BytesIO(signed(REQUEST.as_attribute()))), record)
    (kept,) = json.loads(record.getvalue())["signatures"]
    assert sorted(kept) == ["content_identifier", "content_type", "msg_sig_digest", "signature"]


def test_receipt_request_is_in_the_inner_signature_of_a_triple_wrapped_mail_only() -> None:
    output = io.BytesIO()
    options = MailOptions(
        signing=SigningOptions(signed_attributes=(REQUEST.as_attribute(),)),
        triple_wrap=True,
        opaque=True,
        cipher=CONTENT_CIPHERS["aes-256-gcm"],
    )
    encrypt_mail(io.BytesIO(MAIL), [BOB.certificate], output, options, signers=[ALICE])
    outer = email.message_from_bytes(output.getvalue()).get_payload(decode=True)
    assert isinstance(outer, bytes)
    (signer_info,) = read_signed_data(io.BytesIO(outer)).signer_infos
    assert ess_of(signer_info).receipt_request is None
    assert owed(output.getvalue(), BOB).receivers == ("alice@acme.example",)


def test_report_tells_what_a_good_signature_asks() -> None:
    report = open_mail(io.BytesIO(signed(REQUEST.as_attribute())), trusting()).to_json()
    check_mail_document(report)
    (signer,) = report["layers"][0]["verification"]["signers"]
    assert signer["ess"]["receipt_request"]["to"] == ["alice@acme.example"]


def test_report_tells_nothing_of_a_bad_signature() -> None:
    mail = signed(REQUEST.as_attribute()).replace(b"noon", b"nine")
    (signer,) = open_mail(io.BytesIO(mail), trusting()).to_json()["layers"][0]["verification"]["signers"]
    assert signer["ess"] == {}


def test_report_tells_that_an_attribute_is_broken() -> None:
    mail = signed(attribute(RECEIPT_REQUEST, der.NULL))
    (signer,) = open_mail(io.BytesIO(mail), trusting()).to_json()["layers"][0]["verification"]["signers"]
    assert signer["ess"] == {"problem": "ReceiptRequest cannot be read"}


# --- labels


def clearance(highest: int) -> Clearance:
    return Clearance((PolicyClearance(POLICY, "Acme", highest),))


def test_label_is_held_against_the_clearance() -> None:
    label = SecurityLabel(POLICY, 4)
    report = open_mail(io.BytesIO(signed(label.as_attribute())), trusting())
    assert check_labels(report, clearance(4)) == (label,)
    with pytest.raises(PolicyError, match="the content is secret"):
        check_labels(report, clearance(3))


def test_every_layer_may_have_a_label() -> None:
    inner = signed(SecurityLabel(POLICY, 4).as_attribute())
    outer = signed(SecurityLabel(POLICY, 1).as_attribute(), by=LIST, mail=inner)
    with pytest.raises(PolicyError, match="the content is secret"):
        check_labels(open_mail(io.BytesIO(outer), trusting()), clearance(3))


def test_mail_without_a_label_may_be_seen() -> None:
    assert check_labels(open_mail(io.BytesIO(signed()), trusting()), clearance(0)) == ()
    assert check_labels(open_mail(io.BytesIO(MAIL), trusting()), clearance(0)) == ()


def test_label_under_a_signature_that_does_not_hold_is_not_looked_at() -> None:
    mail = signed(SecurityLabel(POLICY, 4).as_attribute()).replace(b"noon", b"nine")
    report = open_mail(io.BytesIO(mail), trusting())
    assert not report.holds
    assert check_labels(report, clearance(0)) == ()
