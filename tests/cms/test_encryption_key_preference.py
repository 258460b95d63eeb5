from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest
from correspondents import Authority
from hypothesis import given
from hypothesis import strategies as st

from tokensign import der
from tokensign.cms.attributes import ENCRYPTION_KEY_PREFERENCE, parse_attributes, parse_unsigned_attributes
from tokensign.cms.encryption_key_preference import (
    encryption_key_preference,
    read_encryption_key_preference,
)
from tokensign.errors import MalformedError

if TYPE_CHECKING:
    from tokensign.certificates import Certificate


@pytest.fixture(scope="module")
def certificates() -> tuple[Certificate, Certificate]:
    """Two of one person."""
    authority = Authority("Acme CA")
    return authority.issue("bob"), authority.issue("bob 2")


def test_what_is_written_names_the_certificate_and_no_other(
    certificates: tuple[Certificate, Certificate],
) -> None:
    preferred, other = certificates
    ((kind, (value,)),) = parse_attributes(der.set_of(encryption_key_preference(preferred)))
    found = read_encryption_key_preference(value)
    assert kind == ENCRYPTION_KEY_PREFERENCE
    assert found.names(preferred)
    assert not found.names(other)


def test_a_recipient_key_identifier_may_have_a_date(certificates: tuple[Certificate, Certificate]) -> None:
    """RFC 5652 section 6.2.2: RecipientKeyIdentifier has a date and another attribute, both optional."""
    preferred, other = certificates
    identifier = der.octet_string(preferred.subject_key_identifier or b"")
    date = der.tlv(0x18, b"20260601120000Z")
    found = read_encryption_key_preference(der.constructed(0xA1, identifier, date))
    assert found.names(preferred)
    assert not found.names(other)


@pytest.mark.parametrize(
    "value",
    [b"", der.integer(1), der.constructed(0xA1), der.constructed(0xA1, der.integer(1)), der.tlv(0x81, b"x")],
    ids=["nothing", "a number", "no identifier", "another identifier", "another tag"],
)
def test_what_is_no_preference_is_refused(value: bytes) -> None:
    with pytest.raises(MalformedError, match="SMIMEEncryptionKeyPreference"):
        read_encryption_key_preference(value)


def test_an_unsigned_preference_is_refused(certificates: tuple[Certificate, Certificate]) -> None:
    """RFC 8551 section 2.5.3: anybody could have put it there."""
    with pytest.raises(MalformedError, match="is not signed, and must be"):
        parse_unsigned_attributes(der.set_of(encryption_key_preference(certificates[0])))


@given(st.binary(max_size=32) | st.binary(max_size=16).map(lambda octets: der.tlv(0xA1, octets)))
def test_any_octets_are_read_or_refused(value: bytes) -> None:
    with contextlib.suppress(MalformedError):
        read_encryption_key_preference(value)
