from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tokensign import der
from tokensign.algorithms import CONTENT_CIPHERS, ContentCipher
from tokensign.cms import envelope as module
from tokensign.cms.content_cipher import ContentEncryption, encode_content_encryption
from tokensign.cms.content_info import AUTH_ENVELOPED_DATA, DATA, ENVELOPED_DATA
from tokensign.cms.decrypt import decrypt
from tokensign.cms.encrypt import encrypt
from tokensign.cms.envelope import read_envelope
from tokensign.cms.recipients import encode_key_trans
from tokensign.errors import DecryptionError, MalformedError, UnsupportedError
from tokensign.keys import OaepTransport

if TYPE_CHECKING:
    from collections.abc import Callable

CBC, GCM = CONTENT_CIPHERS["aes-128-cbc"], CONTENT_CIPHERS["aes-128-gcm"]
CONTENT = b"The key is under the mat."
KEY, NONCE = bytes(range(16)), bytes(range(12))
GCM_ALGORITHM = encode_content_encryption(ContentEncryption(GCM, NONCE, 16, 16))
CBC_ALGORITHM = encode_content_encryption(ContentEncryption(CBC, bytes(16), 0, 16))


def build(
    kind: str = AUTH_ENVELOPED_DATA,
    algorithm: bytes = GCM_ALGORITHM,
    encrypted: bytes | None = b"\x80\x04abcd",
    recipients: tuple[bytes, ...] = (),
    before: bytes = b"",
    after: bytes | None = None,
) -> io.BytesIO:
    info = der.sequence(der.object_identifier(DATA), algorithm, encrypted or b"")
    fields = (der.integer(0), before, der.set_of(*recipients), info)
    if after is None:
        after = der.octet_string(bytes(16)) if kind == AUTH_ENVELOPED_DATA else b""
    return io.BytesIO(
        der.sequence(der.object_identifier(kind), der.explicit(0, der.sequence(*fields, after)))
    )


def algorithm(cipher: ContentCipher, *parameters: bytes) -> bytes:
    return der.sequence(der.object_identifier(cipher.oid), *parameters)


def gcm(nonce: bytes, tag_size: bytes) -> bytes:
    return algorithm(GCM, der.sequence(der.octet_string(nonce), tag_size))


def test_the_structure_is_read() -> None:
    envelope = read_envelope(build())
    assert envelope.authenticated
    assert envelope.recipients == ()
    assert envelope.content_type == DATA
    assert envelope.encryption == ContentEncryption(GCM, NONCE, 16, 16)
    assert b"".join(envelope.encrypted_content.chunks()) == b"abcd"
    assert envelope.mac == bytes(16)
    assert envelope.authenticated_attributes is None


def test_optional_fields_are_passed_over() -> None:
    originator, unprotected = der.tlv(0xA0, der.NULL), der.tlv(0xA1, der.NULL)
    envelope = read_envelope(build(ENVELOPED_DATA, CBC_ALGORITHM, before=originator, after=unprotected))
    assert not envelope.authenticated
    assert envelope.mac == b""
    unauthenticated = der.octet_string(bytes(16)) + der.tlv(0xA2, der.NULL)
    assert read_envelope(build(after=unauthenticated)).mac == bytes(16)


def test_a_gcm_tag_has_12_octets_unless_told() -> None:
    """RFC 5084 section 3.2."""
    found = read_envelope(build(algorithm=gcm(NONCE, b""), after=der.octet_string(bytes(12))))
    assert found.encryption.tag_size == 12


@pytest.mark.parametrize("tag_size", [12, 13, 14, 15, 16])
@pytest.mark.parametrize("nonce", [bytes(8), NONCE, bytes(128)], ids=len)
def test_every_tag_and_nonce_size_is_decrypted(
    tag_size: int, nonce: bytes, software: Callable[..., Any]
) -> None:
    bob = software("rsa:2048")
    sealed = AESGCM(KEY).encrypt(nonce, CONTENT, None)
    encrypted, tag = sealed[:-16], sealed[-16:][:tag_size]
    message = build(
        algorithm=gcm(nonce, der.integer(tag_size)),
        encrypted=der.tlv(0x80, encrypted),
        recipients=(encode_key_trans(bob.certificate, KEY, OaepTransport()),),
        after=der.octet_string(tag),
    )
    output = io.BytesIO()
    assert decrypt(message, [bob], output).authenticated
    assert output.getvalue() == CONTENT


@pytest.mark.parametrize("form", ["sorted", "unsorted", "indefinite"])
def test_authenticated_attributes_are_covered_by_the_tag_as_der(
    form: str, software: Callable[..., Any], make_attribute: Callable[..., bytes]
) -> None:
    """RFC 5083 section 2.2: with the tag SET OF, sorted, however they travel."""
    bob = software("rsa:2048")
    attributes = [make_attribute("1.2.4", der.NULL), make_attribute("1.2.3", der.NULL)]
    sealed = AESGCM(KEY).encrypt(NONCE, CONTENT, der.set_of(*attributes))

    def message(travelling: list[bytes]) -> io.BytesIO:
        joined = b"".join(sorted(travelling) if form == "sorted" else travelling)
        field = b"\xa1\x80" + joined + b"\0\0" if form == "indefinite" else der.tlv(0xA1, joined)
        return build(
            encrypted=der.tlv(0x80, sealed[:-16]),
            recipients=(encode_key_trans(bob.certificate, KEY, OaepTransport()),),
            after=field + der.octet_string(sealed[-16:]),
        )

    output = io.BytesIO()
    decrypt(message(attributes), [bob], output)
    assert output.getvalue() == CONTENT
    with pytest.raises(DecryptionError):
        decrypt(message([attributes[0], make_attribute("1.2.5", der.NULL)]), [bob], io.BytesIO())
    with pytest.raises(DecryptionError):
        decrypt(message([]), [bob], io.BytesIO())


@pytest.mark.parametrize(
    ("stream", "words"),
    [
        (build(algorithm=gcm(NONCE, der.integer(11))), "no tags of 11 bytes"),
        (build(algorithm=gcm(NONCE, der.integer(17))), "no tags of 17 bytes"),
        (build(algorithm=gcm(NONCE, der.integer(-1))), "no tags of -1 bytes"),
        (build(algorithm=gcm(NONCE, der.integer(13))), "tag has 16 bytes and should have 13"),
        (build(algorithm=gcm(NONCE, der.NULL)), "parameters of the content encryption are broken"),
        (build(algorithm=gcm(NONCE, der.integer(16) + der.NULL)), "content encryption are broken"),
        (build(algorithm=algorithm(GCM)), "aes-128-gcm lacks its parameters"),
        (build(algorithm=algorithm(GCM, der.sequence())), "content encryption are broken"),
        (build(algorithm=algorithm(GCM, der.sequence(der.NULL))), "parameters of aes-128-gcm are broken"),
        (build(algorithm=der.sequence()), "AlgorithmIdentifier is empty"),
        (build(ENVELOPED_DATA, algorithm(CBC)), "aes-128-cbc lacks its parameters"),
        (build(ENVELOPED_DATA, algorithm(CBC, der.NULL)), "parameters of aes-128-cbc are broken"),
        (build(ENVELOPED_DATA, algorithm(CBC, der.octet_string(bytes(15)))), "vector has 15 bytes"),
        (build(encrypted=b"\x81\x01a"), "in the place of encryptedContent"),
        (build(after=b""), "lacks its mac"),
        (build(after=der.NULL), "in the place of mac"),
        (build(after=der.octet_string(bytes(16)) + der.NULL), "unexpected element"),
        (build(recipients=(der.sequence(),)), "KeyTransRecipientInfo is broken"),
        (build(recipients=(der.sequence(*[der.NULL] * 4),)), "KeyTransRecipientInfo is broken"),
    ],
)
def test_a_broken_structure_is_refused(stream: io.BytesIO, words: str) -> None:
    with pytest.raises(MalformedError, match=words):
        read_envelope(stream)


@pytest.mark.parametrize(
    ("stream", "words"),
    [
        (build(ENVELOPED_DATA, GCM_ALGORITHM), "aes-128-gcm does not belong into EnvelopedData"),
        (build(AUTH_ENVELOPED_DATA, CBC_ALGORITHM), "aes-128-cbc does not belong into AuthEnvelopedData"),
        (build(algorithm=der.sequence(der.object_identifier("1.2.3.4"))), r"encryption 1\.2\.3\.4"),
        (build(algorithm=gcm(bytes(7), der.integer(16))), "nonce of 7 bytes"),
        (build(algorithm=gcm(bytes(129), der.integer(16))), "nonce of 129 bytes"),
        (build(encrypted=None), "content is not in the message"),
        (build("1.2.840.113549.1.7.2"), "is signed-data, not enveloped-data"),
        (build("1.2.3.4"), r"is 1\.2\.3\.4, not enveloped-data"),
    ],
)
def test_what_is_not_done_is_named(stream: io.BytesIO, words: str) -> None:
    with pytest.raises(UnsupportedError, match=words):
        read_envelope(stream)


def test_the_number_of_recipients_has_a_limit(
    software: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_RECIPIENTS", 2)
    other = der.tlv(0xA7, der.NULL)
    assert len(read_envelope(build(recipients=(other,) * 2)).recipients) == 2
    with pytest.raises(MalformedError, match="more than 2 recipients"):
        read_envelope(build(recipients=(other,) * 3))
    output = io.BytesIO()
    encrypt(io.BytesIO(CONTENT), [software("rsa:2048").certificate], output)
    assert len(read_envelope(io.BytesIO(output.getvalue())).recipients) == 1
