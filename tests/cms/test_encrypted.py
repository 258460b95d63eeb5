"""EncryptedData: OpenSSL both ways, wrong keys, and what does not belong into it."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import pytest

from tokensign import der
from tokensign.algorithms import CONTENT_CIPHERS
from tokensign.cms.content_cipher import encode_content_encryption, fresh_encryption
from tokensign.cms.content_info import DATA
from tokensign.cms.encrypted import ENCRYPTED_DATA, decrypt_with_key, encrypt_with_key, read_encrypted_data
from tokensign.errors import (
    DecryptionError,
    FileError,
    MalformedError,
    UnsupportedError,
    UsageError,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CONTENT = b"content " * 50_000
CIPHERS = {16: "aes-128-cbc", 24: "aes-192-cbc", 32: "aes-256-cbc"}


def encrypted(size: int = 32) -> io.BytesIO:
    output = io.BytesIO()
    encrypt_with_key(io.BytesIO(CONTENT), bytes(range(size)), output)
    output.seek(0)
    return output


def message_of(info: bytes) -> io.BytesIO:
    fields = der.sequence(der.integer(0), info)
    return io.BytesIO(der.sequence(der.object_identifier(ENCRYPTED_DATA), der.explicit(0, fields)))


@pytest.mark.parametrize("size", CIPHERS)
def test_what_is_encrypted_is_decrypted(size: int) -> None:
    output = io.BytesIO()
    result = decrypt_with_key(encrypted(size), bytes(range(size)), output)
    assert output.getvalue() == CONTENT
    assert (result.cipher.name, result.authenticated, result.content_type) == (CIPHERS[size], False, DATA)


@pytest.mark.parametrize("size", CIPHERS)
def test_openssl_reads_what_is_written(openssl: Callable[..., bytes], tmp_path: Path, size: int) -> None:
    message = tmp_path / "message.der"
    message.write_bytes(encrypted(size).getvalue())
    key = bytes(range(size)).hex()
    arguments = ("-inform", "DER", "-in", message, "-secretkey", key)
    assert openssl("cms", "-EncryptedData_decrypt", *arguments) == CONTENT


@pytest.mark.parametrize(("cipher", "size"), [("-aes128", 16), ("-aes256", 32), ("-des3", 24)])
def test_what_openssl_writes_is_read(openssl: Callable[..., bytes], cipher: str, size: int) -> None:
    key = bytes(range(size))
    arguments = ("-binary", "-outform", "DER", "-secretkey", key.hex(), cipher)
    message = openssl("cms", "-EncryptedData_encrypt", *arguments, feed=CONTENT)
    output = io.BytesIO()
    decrypt_with_key(io.BytesIO(message), key, output, legacy=cipher == "-des3")
    assert output.getvalue() == CONTENT


def test_a_wrong_key_releases_nothing() -> None:
    refused = 0
    for number in range(
        8
    ):  # about one wrong key of 256 gives a padding that holds: then the content is wrong
        output = io.BytesIO()
        try:
            decrypt_with_key(encrypted(), bytes((number,)) * 32, output)
        except DecryptionError as error:
            assert str(error) == "the message cannot be decrypted"  # noqa: PT017 - not every key raises
            assert output.getvalue() == b""
            refused += 1
    assert refused >= 6


def test_a_key_of_another_size_is_a_mistake() -> None:
    with pytest.raises(UsageError, match="32 bytes, not 5"):
        encrypt_with_key(io.BytesIO(CONTENT), b"short", io.BytesIO())
    with pytest.raises(UsageError, match="32 bytes, not 16"):
        decrypt_with_key(encrypted(), bytes(16), io.BytesIO())
    with pytest.raises(UsageError, match="16 bytes, not 32"):
        encrypt_with_key(io.BytesIO(CONTENT), bytes(32), io.BytesIO(), cipher=CONTENT_CIPHERS["aes-128-cbc"])


@pytest.mark.parametrize("cipher", ["aes-256-gcm", "chacha20-poly1305", "des-ede3-cbc"])
def test_ciphers_that_do_not_belong_there_are_not_written(cipher: str) -> None:
    with pytest.raises(UnsupportedError, match=cipher):
        encrypt_with_key(io.BytesIO(CONTENT), bytes(32), io.BytesIO(), cipher=CONTENT_CIPHERS[cipher])


def test_an_aead_in_encrypted_data_is_refused() -> None:
    algorithm = encode_content_encryption(fresh_encryption(CONTENT_CIPHERS["aes-256-gcm"], 0))
    info = der.sequence(der.object_identifier(DATA), algorithm, der.tlv(0x80, bytes(16)))
    with pytest.raises(UnsupportedError, match="EncryptedData"):
        read_encrypted_data(message_of(info))


def test_what_lacks_its_content_is_told_from_what_is_broken() -> None:
    algorithm = encode_content_encryption(fresh_encryption(CONTENT_CIPHERS["aes-256-cbc"], 0))
    with pytest.raises(UnsupportedError, match="not in the message"):
        read_encrypted_data(message_of(der.sequence(der.object_identifier(DATA), algorithm)))
    with pytest.raises(MalformedError, match="encryptedContent"):
        read_encrypted_data(message_of(der.sequence(der.object_identifier(DATA), algorithm, der.NULL)))


def test_other_messages_are_unsupported(corpora: Callable[[str], Path]) -> None:
    with pytest.raises(UnsupportedError, match="enveloped-data, not encrypted-data"):
        read_encrypted_data(io.BytesIO(corpora("rfc4134/5.1.bin").read_bytes()))


def test_content_that_changes_meanwhile_is_noticed() -> None:
    class Shrinking(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            self.truncate(10)
            return super().read(size)

    with pytest.raises(FileError, match="changed"):
        encrypt_with_key(Shrinking(CONTENT), bytes(32), io.BytesIO())
