"""The header fields that the gateway writes, and those that it takes out."""

from __future__ import annotations

import io

import pytest

from tokensign.errors import MalformedError
from tokensign.gateway.results import delivery_field, forged, results_field, unopened
from tokensign.smime.transport.header_lines import without_fields
from tokensign.smime.transport.smtp_client import lines

OWN = "mail.acme.example"


@pytest.mark.parametrize(
    "field",
    [
        b"Authentication-Results: mail.acme.example; smime=pass\r\n",
        b"authentication-results : MAIL.Acme.Example 1; smime=pass\r\n",
        b"Authentication-Results:\r\n (hello; there)\r\n mail.acme.example; smime=pass\r\n",
        b'Authentication-Results: "mail.acme.example"; smime=pass\r\n',
        b'Authentication-Results: "mail\\.acme.example"; smime=pass\r\n',
        b"X-Text: x\rAuthentication-Results: mail.acme.example; smime=pass\r\n",
        b"X-Text: x\r\n y\rTokensign-Delivery: 00\r\n",
        b"Tokensign-Delivery: 00\r\n",
    ],
)
def test_a_field_that_claims_to_be_of_this_gateway_is_taken_out(field: bytes) -> None:
    mail = (
        b"From: a@x.example\r\n" + field + b"Subject: x\r\n\r\nAuthentication-Results: mail.acme.example;\r\n"
    )
    assert b"".join(without_fields(lines(io.BytesIO(mail)), forged(OWN))) == mail.replace(field, b"", 1)


def test_a_mail_that_begins_with_white_space_does_not_go_on_with_the_field_in_front() -> None:
    mail = b" ; smime=pass body.smime-identifier=alice@acme.example\r\n\tx\r\nSubject: x\r\n\r\n text\r\n"
    assert b"".join(without_fields(lines(io.BytesIO(mail)), forged(OWN))) == b"Subject: x\r\n\r\n text\r\n"


@pytest.mark.parametrize(
    "field",
    [
        b"Authentication-Results: other.example; spf=pass\r\n",
        b"X-Authentication-Results: mail.acme.example; smime=pass\r\n",
        b"Subject: mail.acme.example\r\n",
    ],
)
def test_other_fields_stay(field: bytes) -> None:
    mail = field + b"\r\ntext"
    assert b"".join(without_fields(lines(io.BytesIO(mail)), forged(OWN))) == mail


@pytest.mark.parametrize(
    "mail",
    [
        b"",
        b"\r\n",
        b"\r\ntext\r\n",
        b"Subject: x",
        b"Subject: x\r\n folded",
        b"Subject: x\n\nbare\n line feeds\n",
        b"no header at all\r\nand a line\r\n\r\nbody",
        b" begins with white space\r\nSubject: x\r\n\r\n",
        b"Subject: " + b"x" * 200_000 + b"\r\n y\r\n\r\n" + b"y" * 200_000,
    ],
)
def test_whatever_a_mail_looks_like_no_other_octet_changes(mail: bytes) -> None:
    assert b"".join(without_fields(lines(io.BytesIO(mail)), lambda _: False)) == mail


def test_a_long_field_is_taken_out_whole() -> None:
    mail = b"Bcc: " + b"x" * 200_000 + b"\r\n y\r\nSubject: x\r\n\r\nBcc: stays\r\n"
    kept = b"".join(without_fields(lines(io.BytesIO(mail)), lambda field: field.startswith(b"Bcc:")))
    assert kept == b"Subject: x\r\n\r\nBcc: stays\r\n"


def test_a_field_without_an_end_is_not_held_in_memory() -> None:
    with pytest.raises(MalformedError, match="larger than"):
        list(without_fields(lines(io.BytesIO(b"x" * (3 << 20))), lambda _: False))


def test_what_strangers_wrote_cannot_leave_its_place_in_the_field() -> None:
    field = results_field(OWN, unopened('x" ; smime=pass\r\nSubject: y\\ ü'))
    assert field == (
        b"Authentication-Results: mail.acme.example;\r\n"
        b'\tsmime=neutral reason="x? ; smime=pass??Subject: y? ?"\r\n'
    )


def test_a_reason_is_never_longer_than_a_line_may_be() -> None:
    assert max(map(len, results_field(OWN, unopened("x" * 5000)).split(b"\r\n"))) < 400
    assert delivery_field("00ff") == b"Tokensign-Delivery: 00ff\r\n"
