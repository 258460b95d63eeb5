from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import pytest

from tokensign import der
from tokensign.algorithms import CONTENT_CIPHERS, Strength
from tokensign.cms import decrypt as module
from tokensign.cms.decrypt import decrypt, decrypt_to_file
from tokensign.cms.encrypt import encrypt
from tokensign.cms.envelope import read_envelope
from tokensign.cms.recipients import encode_recipient_info, load_recipient_infos
from tokensign.errors import (
    DecryptionError,
    LegacyAlgorithmError,
    MalformedError,
    NoRecipientError,
    OutputExistsError,
    TokenRemovedError,
    UnsupportedError,
)
from tokensign.keys import OaepTransport, Pkcs1Transport

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tokensign.certificates import Certificate
    from tokensign.cms.content_cipher import ContentEncryption, Stream
    from tokensign.keys import Decrypter, KeyTransport
    from tokensign.token import TokenKey

CONTENT = b"The key is under the mat.\n" * 10
CASES = [
    pytest.param("aes-256-gcm", OaepTransport(), id="gcm-oaep"),
    pytest.param("aes-256-gcm", Pkcs1Transport(), id="gcm-pkcs1"),
    pytest.param("aes-128-cbc", OaepTransport(), id="cbc-oaep"),
    pytest.param("aes-128-cbc", Pkcs1Transport(), id="cbc-pkcs1"),
]


def encrypted(
    *certificates: Certificate | None,
    cipher: str = "aes-256-gcm",
    transport: KeyTransport | None = None,
) -> bytes:
    output = io.BytesIO()
    people = [entry for entry in certificates if entry]
    encrypt(io.BytesIO(CONTENT), people, output, cipher=CONTENT_CIPHERS[cipher], transport=transport)
    return output.getvalue()


def decrypted(message: bytes, *keys: Decrypter, legacy: bool = False) -> bytes:
    output = io.BytesIO()
    decrypt(io.BytesIO(message), keys, output, legacy=legacy)
    return output.getvalue()


def failure(message: bytes, *keys: Decrypter) -> DecryptionError:
    """Why it cannot be decrypted; nothing may have come out.

    Where a random key stands in and no tag shows it, the padding holds once in 256 times: it is tried again.
    """
    for _ in range(4):
        output = io.BytesIO()
        try:
            decrypt(io.BytesIO(message), keys, output)
        except DecryptionError as error:
            assert output.getvalue() == b""
            return error
    pytest.fail("it is decrypted")


def flipped(message: bytes, offset: int) -> bytes:
    return message[:offset] + bytes((message[offset] ^ 1,)) + message[offset + 1 :]


# --- one failure for every cause


@pytest.mark.parametrize(("cipher", "transport"), CASES)
@pytest.mark.parametrize("where", ["token", "memory"])
def test_every_failure_looks_the_same(
    cipher: str,
    transport: KeyTransport,
    where: str,
    token_person: Callable[[str], TokenKey],
    software: Callable[..., Any],
) -> None:
    """RFC 3218 and RFC 8551 section 6: neither the key, nor the padding, nor the tag can be told apart."""
    key = token_person("rsa:2048") if where == "token" else software("rsa:2048")
    message = encrypted(key.certificate, cipher=cipher, transport=transport)
    envelope = read_envelope(io.BytesIO(message))
    encrypted_key: bytes = envelope.recipients[0].encrypted_key  # type: ignore[union-attr]
    content = b"".join(envelope.encrypted_content.chunks())
    other_key = encrypted(software("rsa:2048", 1).certificate, cipher=cipher, transport=transport)
    foreign = read_envelope(io.BytesIO(other_key)).recipients[0].encrypted_key  # type: ignore[union-attr]
    (short,) = load_recipient_infos(encode_recipient_info(key.certificate, b"short", transport))
    candidates = {
        "the first octet of the key": flipped(message, message.index(encrypted_key)),
        "the last octet of the key": flipped(message, message.index(encrypted_key) + 255),
        "a key for somebody else": message.replace(encrypted_key, foreign),
        "a key of another size": message.replace(encrypted_key, short.encrypted_key),
        "a key of zeros": message.replace(encrypted_key, bytes(256)),
        "a key above the modulus": message.replace(encrypted_key, b"\xff" * 256),
        "a padding of the content": flipped(message, message.index(content) + len(content) - 17),
    }
    if cipher.endswith("gcm"):
        candidates["the nonce"] = flipped(message, message.index(envelope.encryption.iv))
        candidates["the content"] = flipped(message, message.index(content))
        candidates["the tag"] = flipped(message, len(message) - 1)
    else:
        candidates["a content that is cut"] = shortened(message, content, 1)
        candidates["no content"] = shortened(message, content, len(content))
    seen = {name: failure(candidate, key) for name, candidate in candidates.items()}
    assert {(type(error), error.message, error.hint) for error in seen.values()} == {
        (
            DecryptionError,
            "the message cannot be decrypted",
            "it was damaged on its way, or it was not encrypted to this key",
        )
    }
    assert {error.__cause__ for error in seen.values()} == {None}


def shortened(message: bytes, content: bytes, count: int) -> bytes:
    """The EnvelopedData with its last `count` octets of encrypted content left out."""
    envelope = der.elements(der.content(der.elements(message)[1]))
    version, infos, encrypted_info = envelope
    kind, algorithm, _ = der.elements(encrypted_info)
    info = der.sequence(kind, algorithm, der.tlv(0x80, content[: len(content) - count]))
    return der.sequence(der.elements(message)[0], der.explicit(0, der.sequence(version, infos, info)))


@pytest.mark.parametrize("transport", [OaepTransport(), Pkcs1Transport()], ids=str)
def test_a_wrong_key_is_followed_by_a_decryption_with_a_random_one(
    transport: KeyTransport, software: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """RFC 3218 section 2.3.2: the content is decrypted all the same, so that it takes the same time."""
    key = software("rsa:2048")
    message = encrypted(key.certificate, cipher="aes-128-cbc", transport=transport)
    encrypted_key = read_envelope(io.BytesIO(message)).recipients[0].encrypted_key  # type: ignore[union-attr]
    tried = []
    decrypting = module.decrypting

    def watched(encryption: ContentEncryption, key: bytes, **options: Any) -> Stream:  # noqa: ANN401
        tried.append(key)
        return decrypting(encryption, key, **options)

    monkeypatch.setattr(module, "decrypting", watched)
    for _ in range(2):
        failure(message.replace(encrypted_key, b"\x01" * 256), key)
    assert len(set(tried)) == 2
    assert {len(one) for one in tried} == {16}


class Lenient:
    """A cipher that is content with any padding."""

    def update(self, data: bytes) -> bytes:
        return data

    def finalize(self) -> bytes:
        return b""


def test_oaep_that_does_not_hold_never_gives_content(
    software: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even when the padding of the garbage happens to be right."""
    key = software("rsa:2048")
    message = encrypted(key.certificate, cipher="aes-128-cbc")
    encrypted_key = read_envelope(io.BytesIO(message)).recipients[0].encrypted_key  # type: ignore[union-attr]
    monkeypatch.setattr(module, "decrypting", lambda *_, **__: Lenient())
    failure(message.replace(encrypted_key, bytes(256)), key)


# --- who is a recipient


def test_a_message_for_others_names_them(software: Callable[..., Any]) -> None:
    message = encrypted(software("rsa:2048", 1).certificate)
    with pytest.raises(NoRecipientError, match="no key here is a recipient") as caught:
        decrypted(message, software("rsa:2048"))
    assert f"serial {software('rsa:2048', 1).certificate.serial_number:x}" in str(caught.value.hint)


def test_of_many_recipients_some_are_named(software: Callable[..., Any], issue: Callable[..., Any]) -> None:
    public_key = software("rsa:2048", 1).public_key
    message = encrypted(*(issue(public_key, f"person {number}") for number in range(7)))
    with pytest.raises(NoRecipientError) as caught:
        decrypted(message, software("rsa:2048"))
    assert str(caught.value.hint).endswith("and 2 more")


def test_keys_that_do_not_transport_are_passed_over(software: Callable[..., Any]) -> None:
    bob = software("rsa:2048")
    assert decrypted(encrypted(bob.certificate), software("p256"), software("ed25519"), bob) == CONTENT
    with pytest.raises(NoRecipientError):
        decrypted(encrypted(bob.certificate), software("p256"))


def test_a_recipient_by_key_identifier_is_found(
    software: Callable[..., Any], nameless: Callable[..., Any], openssl: Callable[..., bytes], tmp_path: Path
) -> None:
    """By the certificate's identifier; and for a certificate that is not at hand by that of the key."""
    bob = software("rsa:2048")
    (tmp_path / "bob.pem").write_text(bob.certificate.pem())
    message = openssl(
        *("cms", "-encrypt", "-binary", "-keyid", "-aes-256-gcm", "-outform", "DER"),
        *("-recip", tmp_path / "bob.pem"),
        feed=CONTENT,
    )
    assert decrypted(message, bob) == CONTENT
    renewed = nameless("rsa:2048")
    renewed.certificate = software("rsa:2048", 1).certificate  # another one, which names another key
    assert decrypted(message, renewed) == CONTENT
    with pytest.raises(NoRecipientError):
        decrypted(message, software("rsa:2048", 1))


def test_a_key_without_certificate_is_tried_on_every_recipient(
    software: Callable[..., Any], nameless: Callable[..., Any]
) -> None:
    message = encrypted(software("rsa:2048", 1).certificate, software("rsa:2048", 0).certificate)
    key = nameless("rsa:2048", 0)
    assert decrypted(message, key) == CONTENT
    assert key.unwrapped == 2


def test_every_recipient_that_matches_is_tried(
    nameless: Callable[..., Any], issue: Callable[..., Certificate]
) -> None:
    """Two certificates of one key, of which one entry is damaged."""
    key = nameless("rsa:2048")
    known = [issue(key.public_key, "old"), issue(key.public_key, "new")]

    class Renewed:
        certificates = known
        public_key = key.public_key
        unwrap = key.unwrap

    message = encrypted(*known)
    for number in range(2):
        broken: bytes = read_envelope(io.BytesIO(message)).recipients[number].encrypted_key  # type: ignore[union-attr]
        assert decrypted(message.replace(broken, bytes(256)), Renewed()) == CONTENT
    assert key.unwrapped == 4


def with_recipients(message: bytes, *infos: bytes) -> bytes:
    """The message with further recipients."""
    kind, data = der.elements(message)
    version, recipient_infos, *rest = der.elements(der.content(data))
    found = [*der.elements(recipient_infos), *infos]
    return der.sequence(kind, der.explicit(0, der.sequence(version, der.set_of(*found), *rest)))


def recipient(certificate: Certificate, algorithm: bytes) -> bytes:
    return der.sequence(
        der.integer(0), certificate.issuer_and_serial_number, algorithm, der.octet_string(bytes(256))
    )


def test_recipients_of_unknown_kinds_are_passed_over(software: Callable[..., Any]) -> None:
    bob = software("rsa:2048")
    other = der.constructed(0xA4, der.object_identifier("1.2.3"), der.NULL)  # OtherRecipientInfo
    for unknown, tag in ((other, "a4"), (der.tlv(0xA7, der.integer(1)), "a7")):
        message = with_recipients(encrypted(bob.certificate), unknown)
        assert decrypted(message, bob) == CONTENT
        with pytest.raises(NoRecipientError) as caught:
            decrypted(message, software("rsa:2048", 1))
        assert f"a recipient of an unknown kind ({tag})" in str(caught.value.hint)


def test_a_transport_that_is_not_known_does_not_hide_one_that_is(
    software: Callable[..., Any], nameless: Callable[..., Any]
) -> None:
    bob = software("rsa:2048")
    strange = recipient(software("rsa:2048", 1).certificate, der.sequence(der.object_identifier("1.2.3.4")))
    message = with_recipients(encrypted(bob.certificate), strange)
    assert decrypted(message, nameless("rsa:2048")) == CONTENT


def test_a_transport_that_is_not_known_is_named(software: Callable[..., Any]) -> None:
    bob = software("rsa:2048", 1)
    strange = recipient(bob.certificate, der.sequence(der.object_identifier("1.2.3.4")))
    message = with_recipients(encrypted(software("rsa:2048").certificate), strange)
    with pytest.raises(UnsupportedError, match=r"key transport algorithm 1\.2\.3\.4"):
        decrypted(message, bob)


def test_a_message_for_nobody_is_for_nobody(software: Callable[..., Any]) -> None:
    kind, data = der.elements(encrypted(software("rsa:2048").certificate))
    version, _, *rest = der.elements(der.content(data))
    message = der.sequence(kind, der.explicit(0, der.sequence(version, der.set_of(), *rest)))
    with pytest.raises(NoRecipientError) as caught:
        decrypted(message, software("rsa:2048"))
    assert caught.value.hint == "it is for: nobody"


# --- legacy


def test_a_legacy_cipher_is_read_only_on_request(
    software: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    bob = software("rsa:2048")
    message = encrypted(bob.certificate)
    monkeypatch.setattr(module, "require_strength", require_strength_as_if_legacy)
    with pytest.raises(LegacyAlgorithmError, match="aes-256-gcm is no longer secure"):
        decrypted(message, bob)
    assert decrypted(message, bob, legacy=True) == CONTENT


def require_strength_as_if_legacy(name: str, strength: Strength, *, legacy: bool) -> None:
    from tokensign.algorithms import require_strength

    assert strength is Strength.STRONG
    require_strength(name, Strength.LEGACY, legacy=legacy)


def test_oaep_with_md5_is_read_only_on_request(software: Callable[..., Any]) -> None:
    from tokensign.algorithms import DIGESTS, MGF1_OID, RSAES_OAEP_OID

    bob = software("rsa:2048")
    md5 = der.sequence(der.object_identifier(DIGESTS["md5"].oid), der.NULL)
    parameters = der.sequence(
        der.explicit(0, md5), der.explicit(1, der.sequence(der.object_identifier(MGF1_OID), md5))
    )
    entry = recipient(bob.certificate, der.sequence(der.object_identifier(RSAES_OAEP_OID), parameters))
    kind, data = der.elements(encrypted(bob.certificate))
    version, _, *rest = der.elements(der.content(data))
    message = der.sequence(kind, der.explicit(0, der.sequence(version, der.set_of(entry), *rest)))
    with pytest.raises(LegacyAlgorithmError, match="MD5"):
        decrypted(message, bob)
    with pytest.raises(DecryptionError):
        decrypted(message, bob, legacy=True)


# --- output


def test_openssl_streams_and_it_is_decrypted_on_the_token(
    token_person: Callable[[str], TokenKey], openssl: Callable[..., bytes], tmp_path: Path
) -> None:
    """Indefinite lengths, and the content in many segments."""
    bob = token_person("rsa:2048")
    assert bob.certificate is not None
    (tmp_path / "bob.pem").write_text(bob.certificate.pem())
    content = CONTENT * 2000
    for cipher in ("-aes-256-cbc", "-aes-128-gcm"):
        message = openssl(
            *("cms", "-encrypt", "-binary", "-stream", "-indef", cipher, "-outform", "DER"),
            *("-recip", tmp_path / "bob.pem", "-keyopt", "rsa_padding_mode:oaep"),
            feed=content,
        )
        assert message[1] == 0x80
        assert decrypted(message, bob) == content


def test_a_file_appears_only_after_all_was_checked(software: Callable[..., Any], tmp_path: Path) -> None:
    bob = software("rsa:2048")
    message = encrypted(bob.certificate)
    path = tmp_path / "content"
    with pytest.raises(DecryptionError):
        decrypt_to_file(io.BytesIO(flipped(message, len(message) - 1)), [bob], path)
    assert list(tmp_path.iterdir()) == []
    result = decrypt_to_file(io.BytesIO(message), [bob], path)
    assert result.authenticated
    assert path.read_bytes() == CONTENT
    assert path.stat().st_mode & 0o077 == 0
    with pytest.raises(OutputExistsError):
        decrypt_to_file(io.BytesIO(message), [bob], path)
    decrypt_to_file(io.BytesIO(message), [bob], path, force=True)


def test_a_token_that_fails_is_not_mistaken_for_a_wrong_message(software: Callable[..., Any]) -> None:
    bob = software("rsa:2048")

    class Removed:
        certificates = bob.certificates
        public_key = bob.public_key

        def unwrap(self, encrypted_key: bytes, transport: KeyTransport) -> bytes:
            raise TokenRemovedError(f"the token went away ({len(encrypted_key)}, {transport})")

    with pytest.raises(TokenRemovedError):
        decrypted(encrypted(bob.certificate), Removed())


def test_segments_of_the_content_that_are_broken_are_refused(software: Callable[..., Any]) -> None:
    bob = software("rsa:2048")
    kind, data = der.elements(encrypted(bob.certificate, cipher="aes-128-cbc"))
    version, infos, info = der.elements(der.content(data))
    inner_type, algorithm, _ = der.elements(info)
    broken = der.sequence(inner_type, algorithm, der.tlv(0xA0, der.integer(1)))
    message = der.sequence(kind, der.explicit(0, der.sequence(version, infos, broken)))
    with pytest.raises(MalformedError, match="segment of the content"):
        decrypted(message, bob)
