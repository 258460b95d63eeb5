from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509

from tokensign import der
from tokensign.cms.envelope import read_envelope
from tokensign.cms.recipients import (
    KemRecipientInfo,
    KeyAgreeRecipientInfo,
    KeyTransRecipientInfo,
    RecipientEncoder,
    RecipientIdentifier,
    UnknownRecipientInfo,
    encode_recipient_info,
    enveloped_data_version,
    load_recipient_infos,
)
from tokensign.errors import MalformedError, UnsupportedError, UsageError
from tokensign.keys import OaepTransport

if TYPE_CHECKING:
    from collections.abc import Callable

KEY = bytes(16)
UNKNOWN = der.constructed(0xA4, der.object_identifier("1.2.3"), der.NULL)


@dataclass
class FixedRecipient:
    """A recipient that is none of a certificate."""

    encoded: bytes
    seen: bytes = b""

    def encode(self, key: bytes) -> bytes:
        self.seen = key
        return self.encoded


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("rsa:2048", KeyTransRecipientInfo),
        ("p256", KeyAgreeRecipientInfo),
        ("x25519", KeyAgreeRecipientInfo),
        ("ml-kem-768", KemRecipientInfo),
    ],
)
def test_the_key_of_a_certificate_decides_about_the_kind(
    recipient_key: Callable[..., Any], kind: str, expected: type
) -> None:
    encoded = encode_recipient_info(recipient_key(kind).certificate, KEY, OaepTransport())
    (recipient,) = load_recipient_infos(encoded)
    assert isinstance(recipient, expected)


@pytest.mark.parametrize(
    ("kinds", "others", "version"),
    [  # RFC 5652 section 6.1
        (["rsa:2048"], [], 0),
        (["p256"], [], 2),
        (["rsa:2048", "x25519"], [], 2),
        (["rsa:2048"], [der.sequence(der.integer(2))], 2),
        (["rsa:2048"], [der.constructed(0xA2, der.integer(4))], 2),
        (["rsa:2048"], [der.constructed(0xA3, der.integer(0))], 3),
        (["ml-kem-768"], [], 3),
        (["p384", "ml-kem-768", "rsa:2048"], [UNKNOWN], 3),
    ],
)
def test_the_version_tells_the_kinds_of_recipients(
    recipient_key: Callable[..., Any],
    sealed: Callable[..., bytes],
    kinds: list[str],
    others: list[bytes],
    version: int,
) -> None:
    certificates = [recipient_key(kind).certificate for kind in kinds]
    infos = [encode_recipient_info(one, KEY, OaepTransport()) for one in certificates]
    assert enveloped_data_version([*infos, *others]) == version
    recipients = [*certificates, *map(FixedRecipient, others)]
    for cipher, expected in (("aes-128-cbc", version), ("aes-128-gcm", 0)):
        content = der.elements(sealed(recipients, b"", cipher))[1]
        assert der.elements(der.elements(content)[0])[0] == der.integer(expected)


def test_every_recipient_of_a_mixture_opens_it(
    recipient_key: Callable[..., Any],
    software: Callable[..., Any],
    sealed: Callable[..., bytes],
    opened: Callable[..., bytes],
) -> None:
    keys = [recipient_key(kind) for kind in ("p256", "p521", "x25519", "x448", "ml-kem-768", "ml-kem-1024")]
    keys.append(software("rsa:2048"))
    other = FixedRecipient(UNKNOWN)
    encoder: RecipientEncoder = other
    certificates = [key.certificate for key in keys]
    message = sealed([*certificates, encoder, *certificates], b"for all")
    assert len(read_envelope(io.BytesIO(message)).recipients) == len(keys) + 1
    assert len(other.seen) == 32
    for key in keys:
        assert opened(message, key) == b"for all"
    assert opened(message, *keys) == b"for all"


def test_nobody_is_not_enough(sealed: Callable[..., bytes]) -> None:
    with pytest.raises(UsageError, match="at least one recipient"):
        sealed([])


def test_recipients_of_unknown_kinds_are_passed_over(recipient_key: Callable[..., Any]) -> None:
    for encoded in (UNKNOWN, der.constructed(0xA7, der.integer(0))):
        (recipient,) = load_recipient_infos(encoded)
        assert isinstance(recipient, UnknownRecipientInfo)
        assert not recipient.is_for(recipient_key("p256"))
        recipient.require_strength(legacy=False)
        with pytest.raises(UnsupportedError, match="unknown kind"):
            recipient.content_key(recipient_key("p256"))


@pytest.mark.parametrize("encoded", [der.constructed(0xA4), der.constructed(0xA4, der.NULL, der.NULL)])
def test_a_broken_other_recipient_info_is_malformed(encoded: bytes) -> None:
    with pytest.raises(MalformedError):
        load_recipient_infos(encoded)


def test_a_key_is_found_by_its_own_identifier_where_its_certificates_lack_one(
    recipient_key: Callable[..., Any],
) -> None:
    key = recipient_key("p256")
    method_1 = x509.SubjectKeyIdentifier.from_public_key(key.public_key).digest
    assert key.certificate.subject_key_identifier is None
    assert RecipientIdentifier(subject_key_identifier=method_1).names_key(key)
    assert not RecipientIdentifier(subject_key_identifier=b"other").names_key(key)
