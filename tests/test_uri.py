from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokensign.errors import UsageError
from tokensign.uri import OBJECT_TYPES, KeyUri, is_uri

TEXT = st.text(st.characters(codec="utf-8"), max_size=20)
VENDOR_NAME = st.from_regex(r"x-[a-zA-Z0-9_-]{1,8}", fullmatch=True)
URIS = st.builds(
    KeyUri,
    **dict.fromkeys(
        (
            "token",
            "manufacturer",
            "serial",
            "model",
            "library_manufacturer",
            "library_description",
            "object",
            "slot_manufacturer",
            "slot_description",
            "pin_source",
            "module_name",
            "module_path",
        ),
        st.none() | TEXT,
    ),
    library_version=st.none() | st.from_regex(r"[0-9]{1,3}(\.[0-9]{1,3})?", fullmatch=True),
    type=st.none() | st.sampled_from(OBJECT_TYPES),
    id=st.none() | st.binary(max_size=20),
    slot_id=st.none() | st.integers(0, 2**64 - 1),
    vendor=st.lists(st.tuples(VENDOR_NAME, TEXT), max_size=3).map(tuple),
)


@given(URIS)
def test_a_printed_uri_is_read_as_the_same(uri: KeyUri) -> None:
    assert KeyUri.parse(str(uri)) == uri


@given(st.text(max_size=40))
def test_any_text_is_read_or_refused_with_a_usage_error(text: str) -> None:
    try:
        uri = KeyUri.parse("pkcs11:" + text)
    except UsageError:
        return
    if uri.pin_value is None:
        assert KeyUri.parse(str(uri)) == uri


def test_every_attribute_of_rfc_7512_is_read() -> None:
    uri = KeyUri.parse(
        "pkcs11:token=The%20Software%20PKCS%2311%20Softtoken;manufacturer=Snake%20Oil,%20Inc.;serial=%01a;"
        "model=1.0;library-manufacturer=m;library-description=d;library-version=3.12;object=my-certificate;"
        "type=cert;id=%69%95%3E%5C%F4%BD%EC%91;slot-id=327;slot-manufacturer=sm;slot-description=sd"
        "?pin-source=file:/etc/token_pin&module-name=mypkcs11&module-path=/a/b.so&x-grace=1&x-grace=2"
    )
    assert uri == KeyUri(
        token="The Software PKCS#11 Softtoken",
        manufacturer="Snake Oil, Inc.",
        serial="\x01a",
        model="1.0",
        library_manufacturer="m",
        library_description="d",
        library_version="3.12",
        object="my-certificate",
        type="cert",
        id=bytes.fromhex("69953E5CF4BDEC91"),
        slot_id=327,
        slot_manufacturer="sm",
        slot_description="sd",
        pin_source="file:/etc/token_pin",
        module_name="mypkcs11",
        module_path="/a/b.so",
        vendor=(("x-grace", "1"), ("x-grace", "2")),
    )


def test_the_canonical_form_is_percent_encoded() -> None:
    uri = KeyUri(token="a b;c=d/ä", id=b"az\x00", module_path="/usr/x.so")
    assert str(uri) == "pkcs11:token=a%20b%3Bc%3Dd%2F%C3%A4;id=%61%7A%00?module-path=/usr/x.so"


def test_the_empty_uri_names_everything() -> None:
    assert KeyUri.parse("pkcs11:") == KeyUri()
    assert str(KeyUri()) == "pkcs11:"


def test_a_pin_value_is_not_shown() -> None:
    uri = KeyUri.parse("PKCS11:token=t?pin-value=se%63ret")
    assert uri.pin_value == "secret"
    assert "secret" not in str(uri)
    assert "secret" not in repr(uri)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("token=t", "starts with pkcs11:"),
        ("pkcs11:token=a;token=b", "token occurs twice, at character 16"),
        ("pkcs11:token=a?pin-source=a&pin-source=b", "pin-source occurs twice"),
        ("pkcs11:token=a?pin-source=a&pin-value=b", "both pin-source and pin-value"),
        ("pkcs11:colour=red", "unknown attribute 'colour', at character 8"),
        ("pkcs11:token", "expected name=value, at character 8"),
        ("pkcs11:token=a;", "expected name=value, at character 16"),
        ("pkcs11:token=a?", "expected name=value"),
        ("pkcs11:to ken=a", "expected name=value"),
        ("pkcs11:token=a b", "the character ' ' in token, at character 15"),
        ("pkcs11:token=a/b", "the character '/' in token"),
        ("pkcs11:token=ä", "the character 'ä' in token"),
        ("pkcs11:token=a%2", "a broken percent-encoding in token"),
        ("pkcs11:token=%ff", "the value of token is not UTF-8"),
        ("pkcs11:slot-id=x", "slot-id is not a number"),
        ("pkcs11:type=key", "type is not one of"),
        ("pkcs11:library-version=1.2.3", "library-version is not"),
        ("pkcs11:token=a?x-v=#", "the character '#' in x-v"),
    ],
)
def test_a_malformed_uri_is_refused_and_the_place_is_named(text: str, message: str) -> None:
    with pytest.raises(UsageError) as refusal:
        KeyUri.parse(text)
    assert message in refusal.value.message


def test_a_refusal_does_not_repeat_the_pin() -> None:
    with pytest.raises(UsageError) as refusal:
        KeyUri.parse("pkcs11:?pin-value=12 34")
    assert "12" not in refusal.value.message.replace("character 21", "")
    assert "34" not in refusal.value.message


def test_matching_looks_only_at_what_both_sides_say() -> None:
    uri = KeyUri(token="acme", id=b"\x01")
    assert uri.matches({"token": "acme", "serial": "9"})
    assert uri.matches({"token": "acme", "id": b"\x01"})
    assert not uri.matches({"token": "other"})
    assert not uri.matches({"token": "acme", "id": b"\x02"})


def test_a_missing_minor_library_version_is_zero() -> None:
    assert KeyUri(library_version="2").matches({"library_version": "2.0"})
    assert not KeyUri(library_version="2").matches({"library_version": "2.6"})


def test_labels_are_not_uris() -> None:
    assert is_uri("pkcs11:token=a")
    assert is_uri("PKCS11:")
    assert not is_uri("alice")
    assert not is_uri("pkcs11")
