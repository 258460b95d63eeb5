from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.asymmetric import mlkem

from tokensign import der
from tokensign.algorithms import KEMS, KeySpec
from tokensign.cms.recipients import load_recipient_infos
from tokensign.cms.recipients.key_encapsulation import KemRecipientInfo, encode_kem, load_kem
from tokensign.errors import DecryptionError, MalformedError, NoRecipientError, UnsupportedError
from tokensign.token import (
    delete_key,
    generate_key,
    import_certificate,
    open_decrypters,
    open_key,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from tokensign.certificates import Certificate
    from tokensign.token import Token

KEY = bytes(range(32))
KINDS = ("ml-kem-768", "ml-kem-1024")
MAKERS = {"ml-kem-768": mlkem.MLKEM768PrivateKey, "ml-kem-1024": mlkem.MLKEM1024PrivateKey}


@pytest.mark.parametrize("cipher", ["aes-128-cbc", "aes-192-cbc", "aes-256-gcm", "chacha20-poly1305"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_software_key_opens_what_was_encrypted_to_it(
    recipient_key: Callable[..., Any],
    sealed: Callable[..., bytes],
    opened: Callable[..., bytes],
    kind: str,
    cipher: str,
) -> None:
    key = recipient_key(kind)
    message = sealed([key.certificate], b"to you", cipher)
    assert opened(message, key) == b"to you"
    with pytest.raises(NoRecipientError):
        opened(message, recipient_key(kind, 1))


@pytest.mark.parametrize("kind", KINDS)
def test_a_token_opens_what_was_encrypted_to_it(
    nss_token: Token,
    issue: Callable[..., Certificate],
    sealed: Callable[..., bytes],
    opened: Callable[..., bytes],
    kind: str,
) -> None:
    info = generate_key(nss_token, f"encapsulated {kind}", KeySpec.parse(kind))
    import_certificate(nss_token, issue(open_key(nss_token, info).public_key, kind))
    key = open_key(nss_token, info)
    assert key.certificate is not None
    message = sealed([key.certificate], b"to the token")
    assert opened(message, key) == b"to the token"
    assert opened(message, *open_decrypters(nss_token)) == b"to the token"
    delete_key(nss_token, key.info.label)


def loaded(recipient_key: Callable[..., Any], kind: str = "ml-kem-768") -> tuple[Any, KemRecipientInfo]:
    key = recipient_key(kind)
    (recipient,) = load_recipient_infos(encode_kem(key.certificate, KEY))
    assert isinstance(recipient, KemRecipientInfo)
    return key, recipient


@pytest.mark.parametrize("kind", KINDS)
def test_the_content_key_arrives(recipient_key: Callable[..., Any], kind: str) -> None:
    key, recipient = loaded(recipient_key, kind)
    assert recipient.is_for(key)
    recipient.require_strength(legacy=False)
    assert recipient.content_key(key) == KEY
    assert not recipient.hides_failure
    assert "serial" in str(recipient)


def test_a_key_without_a_certificate_is_tried_if_its_type_fits(
    recipient_key: Callable[..., Any], as_recipient: type[Any]
) -> None:
    key, recipient = loaded(recipient_key)
    assert recipient.content_key(as_recipient(key.key)) == KEY
    assert recipient.is_for(as_recipient(key.key))
    assert not recipient.is_for(as_recipient(recipient_key("ml-kem-1024").key))
    assert not recipient.is_for(as_recipient(recipient_key("p256").key))
    assert not recipient.is_for(object())  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        recipient.content_key(object())  # type: ignore[arg-type]


def test_changed_ciphertexts_and_wrapped_keys_are_refused(recipient_key: Callable[..., Any]) -> None:
    key, recipient = loaded(recipient_key)
    damaged = bytes([recipient.ciphertext[0] ^ 1]) + recipient.ciphertext[1:]
    texts = set()
    for changed in (
        replace(recipient, ciphertext=damaged),
        replace(recipient, ciphertext=recipient.ciphertext[1:]),
        replace(recipient, ciphertext=b""),
        replace(recipient, encrypted_key=recipient.encrypted_key[:-1]),
        replace(recipient, ukm=b"other"),
        replace(recipient, kem_algorithm=der.sequence(der.object_identifier(KEMS["ml-kem-1024"].oid))),
    ):
        with pytest.raises(DecryptionError) as failure:
            changed.content_key(key)
        texts.add((failure.value.message, failure.value.hint))
    assert len(texts) == 1


def test_algorithms_that_are_not_known_are_told(recipient_key: Callable[..., Any]) -> None:
    _, recipient = loaded(recipient_key)
    unknown = der.sequence(der.object_identifier("1.2.3"))
    for name in ("kem_algorithm", "key_derivation_algorithm", "key_wrap_algorithm"):
        with pytest.raises(UnsupportedError, match=r"1\.2\.3"):
            replace(recipient, **{name: unknown}).require_strength(legacy=False)
    with pytest.raises(MalformedError, match="has 32 bytes, not 16"):
        replace(recipient, key_size=16).require_strength(legacy=False)


def test_broken_structures_are_malformed(recipient_key: Callable[..., Any]) -> None:
    value = der.elements(encode_kem(recipient_key("ml-kem-768").certificate, KEY))[1]
    fields = der.elements(value)
    assert (
        load_kem(der.sequence(*fields[:6], der.explicit(0, der.octet_string(b"u")), *fields[6:])).ukm == b"u"
    )
    variants = [
        fields[:-1],
        [*fields, der.NULL, der.NULL],
        [*fields[:3], der.NULL, *fields[4:]],
        [*fields[:5], der.NULL, *fields[6:]],
        [*fields[:6], der.explicit(0, der.NULL), *fields[6:]],
        [*fields[:6], der.explicit(1, der.octet_string(b"u")), *fields[6:]],
    ]
    for variant in variants:
        with pytest.raises(MalformedError):
            load_kem(der.sequence(*variant))


def test_only_ml_kem_certificates_are_encapsulated_to(recipient_key: Callable[..., Any]) -> None:
    with pytest.raises(UnsupportedError, match="no ML-KEM key"):
        encode_kem(recipient_key("p256").certificate, KEY)
