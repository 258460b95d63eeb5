"""Both versions of encrypted data, written here from the sender's side."""

from __future__ import annotations

import hashlib
import io
import os

import pytest
from cryptography.hazmat.decrepit.ciphers.modes import CFB
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, AESOCB3
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from tokensign.errors import DecryptionError
from tokensign.openpgp.encrypted_data import read_protected_data
from tokensign.openpgp.packets import encode_packet, read_packets
from tokensign.openpgp.session_key import CANNOT_DECRYPT, SessionKey

KEY = os.urandom(32)
CHUNK = 64  # octets, the smallest there are
NONCES = {2: 15, 3: 12}

every_mode = pytest.mark.parametrize("mode", [2, 3], ids=["OCB", "GCM"])


def chunked(content: bytes, mode: int) -> tuple[bytes, list[bytes]]:
    """What stands before the chunks; the chunks, and the last tag (RFC 9580 section 5.13.2)."""
    parameters, salt = bytes((2, 9, mode, 0)), os.urandom(32)
    associated = b"\xd2" + parameters
    derived = HKDF(SHA256(), 32 + NONCES[mode] - 8, salt=salt, info=associated).derive(KEY)
    aead = (AESOCB3 if mode == 2 else AESGCM)(derived[:32])
    pieces = [content[start : start + CHUNK] for start in range(0, len(content), CHUNK)]
    chunks = [
        aead.encrypt(derived[32:] + number.to_bytes(8), piece, associated)
        for number, piece in enumerate(pieces)
    ]
    end = aead.encrypt(derived[32:] + len(chunks).to_bytes(8), b"", associated + len(content).to_bytes(8))
    return parameters + salt, [*chunks, end]


def in_feedback(plain: bytes) -> bytes:
    """The first version, of any octets instead of content and modification detection code."""
    prefix = os.urandom(16)
    encryptor = Cipher(algorithms.AES(KEY), CFB(bytes(16))).encryptor()
    return b"\x01" + encryptor.update(prefix + prefix[-2:] + plain)


def opened(body: bytes, session_key: SessionKey | None = None) -> bytes | str:
    output = io.BytesIO()
    packet = next(read_packets(io.BytesIO(encode_packet(18, body))))
    try:
        read_protected_data(packet).decrypt(session_key or SessionKey(None, KEY), output)
    except DecryptionError as error:
        return error.message
    return output.getvalue()


@every_mode
@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 5 * CHUNK, 1000])
def test_chunks_are_joined(mode: int, size: int) -> None:
    content = os.urandom(size)
    head, chunks = chunked(content, mode)
    assert opened(head + b"".join(chunks)) == content


@every_mode
def test_chunks_that_are_missing_or_in_another_order_are_noticed(mode: int) -> None:
    head, chunks = chunked(os.urandom(4 * CHUNK), mode)
    first, second, third, fourth, end = chunks
    for wrong in (
        [],
        [end],
        [first, second, third, fourth],
        [first, second, third, end],
        [second, third, fourth, end],
        [second, first, third, fourth, end],
        [first, first, second, third, fourth, end],
        [first, second, third, fourth, end, b"x"],
        [first, second, third, fourth, end, end],
    ):
        assert opened(head + b"".join(wrong)) == CANNOT_DECRYPT


@every_mode
def test_key_of_another_size_or_none_fails_like_any_other(mode: int) -> None:
    head, chunks = chunked(b"content", mode)
    body = head + b"".join(chunks)
    assert opened(body, SessionKey(None, KEY[:16])) == CANNOT_DECRYPT
    assert opened(body, SessionKey(None, os.urandom(32))) == CANNOT_DECRYPT
    packet = next(read_packets(io.BytesIO(encode_packet(18, body))))
    with pytest.raises(DecryptionError, match=CANNOT_DECRYPT):
        read_protected_data(packet).decrypt(None, io.BytesIO())


@pytest.mark.parametrize("plain", [b"", b"\xd3\x14", b"content\xd3\x14" + bytes(20), b"content"])
def test_content_without_its_modification_detection_code_is_refused(plain: bytes) -> None:
    assert opened(in_feedback(plain), SessionKey(9, KEY)) == CANNOT_DECRYPT


def test_modification_detection_code_covers_the_prefix_and_its_own_header() -> None:
    prefix = os.urandom(16)
    prefix += prefix[-2:]
    code = hashlib.sha1(prefix + b"content\xd3\x14", usedforsecurity=False).digest()

    def encrypted(plain: bytes) -> bytes:
        return b"\x01" + Cipher(algorithms.AES(KEY), CFB(bytes(16))).encryptor().update(plain)

    assert opened(encrypted(prefix + b"content\xd3\x14" + code), SessionKey(9, KEY)) == b"content"
    for wrong in (b"content\xd3\x15" + code, b"content" + code, b"contend\xd3\x14" + code):
        assert opened(encrypted(prefix + wrong), SessionKey(9, KEY)) == CANNOT_DECRYPT
    assert opened(encrypted(prefix[:-1] + b"content\xd3\x14" + code), SessionKey(9, KEY)) == CANNOT_DECRYPT
