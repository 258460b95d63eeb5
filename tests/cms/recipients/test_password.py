"""PasswordRecipientInfo: RFC 3211's vectors, OpenSSL both ways, and what strangers may send."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import pytest

from tokensign import der
from tokensign.algorithms import CONTENT_CIPHERS, MACS, PWRI_KEK_OID
from tokensign.cms.decrypt import decrypt
from tokensign.cms.encrypt import encrypt
from tokensign.cms.recipients.kek_bytes import KeyEncryptionKeyBytes
from tokensign.cms.recipients.key_derivation import Pbkdf2Derivation, ScryptDerivation
from tokensign.cms.recipients.password import PasswordRecipient, PasswordRecipientInfo, load_password
from tokensign.errors import (
    DecryptionError,
    LegacyAlgorithmError,
    MalformedError,
    UnsupportedError,
    UsageError,
)
from tokensign.keys import Password

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PASSWORD = Password("correct horse battery staple")
FAST = Pbkdf2Derivation(bytes(16), 1000, MACS["hmac-sha256"])
SALT_OF_RFC_3211 = bytes.fromhex("1234567878563412")
AES_256_CBC = der.sequence(
    der.object_identifier(CONTENT_CIPHERS["aes-256-cbc"].oid), der.octet_string(bytes(16))
)


def encrypted_with(*recipients: PasswordRecipient, cipher: str = "aes-256-gcm") -> io.BytesIO:
    output = io.BytesIO()
    encrypt(io.BytesIO(b"hello"), recipients, output, cipher=CONTENT_CIPHERS[cipher])
    output.seek(0)
    return output


def recipient_info(
    encrypted_key: bytes = bytes(32),
    *,
    derivation: bytes | None = None,
    inner: bytes = AES_256_CBC,
    algorithm: str = PWRI_KEK_OID,
) -> bytes:
    return der.constructed(
        0xA3,
        der.integer(0),
        der.tlv(0xA0, der.content(derivation or FAST.encode())),
        der.sequence(der.object_identifier(algorithm), inner),
        der.octet_string(encrypted_key),
    )


@pytest.mark.parametrize(
    "derivation",
    [
        FAST,
        Pbkdf2Derivation.fresh(2000, MACS["hmac-sha384"]),
        Pbkdf2Derivation.fresh(2000, MACS["hmac-sha512"]),
        Pbkdf2Derivation.fresh(2000, MACS["hmac-sha3-256"]),
        ScryptDerivation.fresh(1 << 10),
    ],
    ids=str,
)
@pytest.mark.parametrize("cipher", ["aes-256-gcm", "aes-128-cbc"])
def test_a_password_opens_what_was_encrypted_with_it(
    derivation: Pbkdf2Derivation | ScryptDerivation, cipher: str
) -> None:
    output = io.BytesIO()
    decrypt(encrypted_with(PasswordRecipient(PASSWORD, derivation), cipher=cipher), [PASSWORD], output)
    assert output.getvalue() == b"hello"


def test_the_default_is_what_owasp_advises() -> None:
    assert str(PasswordRecipient(PASSWORD).derivation) == "PBKDF2 with hmac-sha256 and 600000 iterations"
    assert str(ScryptDerivation.fresh()) == "scrypt with N=131072, r=8, p=1"


def test_a_wrong_password_fails_as_damaged_content_does() -> None:
    message = encrypted_with(PasswordRecipient(PASSWORD, FAST))
    with pytest.raises(DecryptionError) as wrong_password:
        decrypt(message, [Password("wrong")], io.BytesIO())
    damaged = bytearray(message.getvalue())
    damaged[-1] ^= 1
    with pytest.raises(DecryptionError) as wrong_content:
        decrypt(io.BytesIO(bytes(damaged)), [PASSWORD], io.BytesIO())
    assert str(wrong_password.value) == str(wrong_content.value)
    assert wrong_password.value.hint == wrong_content.value.hint


def test_the_second_of_two_passwords_opens_it_too() -> None:
    other = Password("second")
    message = encrypted_with(PasswordRecipient(PASSWORD, FAST), PasswordRecipient(other, FAST))
    output = io.BytesIO()
    decrypt(message, [other], output)
    assert output.getvalue() == b"hello"


def test_the_first_derivation_of_rfc_3211() -> None:
    derivation = Pbkdf2Derivation(SALT_OF_RFC_3211, 5, MACS["hmac-sha1"])
    assert derivation.derive(b"password", 8).hex() == "d1daa78615f287e6"


def test_the_3des_vector_of_rfc_3211_is_read_with_the_legacy_switch_only() -> None:
    password = "All n-entities must communicate with other n-entities via n-1 entiteeheehees"
    derivation = Pbkdf2Derivation(SALT_OF_RFC_3211, 500, MACS["hmac-sha1"])
    encrypted = bytes.fromhex(
        "c03c514abdb9e2c5aac038572b5e24553876b377aafb82eca5a9d73f8ab143d9ec74e6cad7db260c"
    )
    inner = der.sequence(
        der.object_identifier(CONTENT_CIPHERS["des-ede3-cbc"].oid),
        der.octet_string(bytes.fromhex("baf1ca7931213c4e")),
    )
    info = load_password(recipient_info(encrypted, derivation=derivation.encode(), inner=inner))
    with pytest.raises(LegacyAlgorithmError):
        info.require_strength(legacy=False)
    info.require_strength(legacy=True)
    key = info.content_key(Password(password))
    assert key.hex() == "8c637d887223a2f965b566eb014b0fa5d52300a3f7ea40fffc577203c71baf3b"


def test_openssl_reads_what_is_written(openssl: Callable[..., bytes], tmp_path: Path) -> None:
    message = tmp_path / "message.der"
    written = encrypted_with(PasswordRecipient(PASSWORD, FAST), cipher="aes-256-cbc")
    message.write_bytes(written.getvalue())
    secret = PASSWORD.reveal().decode()
    assert openssl("cms", "-decrypt", "-inform", "DER", "-in", message, "-pwri_password", secret) == b"hello"


@pytest.mark.parametrize("cipher", ["-aes128", "-aes256", "-des3"])
def test_what_openssl_writes_is_read(openssl: Callable[..., bytes], cipher: str) -> None:
    secret = PASSWORD.reveal().decode()
    arguments = ("-binary", "-outform", "DER", "-pwri_password", secret, cipher)
    message = io.BytesIO(openssl("cms", "-encrypt", *arguments, feed=b"hello"))
    output = io.BytesIO()
    decrypt(message, [PASSWORD], output, legacy=cipher == "-des3")
    assert output.getvalue() == b"hello"


def test_an_empty_password_is_not_written() -> None:
    with pytest.raises(UsageError, match="empty"):
        encrypted_with(PasswordRecipient(Password(""), FAST))


@pytest.mark.parametrize("size", [0, 2, 256])
def test_keys_that_cannot_be_formatted_are_refused(size: int) -> None:
    with pytest.raises(UnsupportedError, match=f"{size} bytes"):
        PasswordRecipient(PASSWORD, FAST).encode(bytes(size))


@pytest.mark.parametrize("size", [3, 11, 12, 13, 32, 64, 255])
def test_keys_of_every_size_come_back(size: int) -> None:
    key = bytes(range(1, size + 1))
    info = load_password(PasswordRecipient(PASSWORD, FAST).encode(key))
    assert info.content_key(PASSWORD) == key


@pytest.mark.parametrize("encrypted_key", [b"", bytes(16), bytes(33), bytes(528)])
def test_encrypted_keys_of_impossible_sizes_fail_like_wrong_passwords(encrypted_key: bytes) -> None:
    with pytest.raises(DecryptionError, match="the message cannot be decrypted"):
        load_password(recipient_info(encrypted_key)).content_key(PASSWORD)


def test_a_password_is_not_shown() -> None:
    shown = repr(PasswordRecipient(PASSWORD, FAST)) + str(load_password(recipient_info()))
    assert "horse" not in shown


def test_only_passwords_are_for_it() -> None:
    info = load_password(recipient_info())
    shared = KeyEncryptionKeyBytes(b"x", bytes(32))
    assert info.is_for(PASSWORD)
    assert not info.is_for(shared)
    with pytest.raises(TypeError):
        info.content_key(shared)


@pytest.mark.parametrize(
    ("encoded", "expected"),
    [
        (recipient_info(algorithm="1.2.3"), UnsupportedError),
        (recipient_info(inner=b""), MalformedError),
        (
            recipient_info(
                inner=der.sequence(
                    der.object_identifier(CONTENT_CIPHERS["aes-256-gcm"].oid),
                    der.sequence(der.octet_string(bytes(12))),
                )
            ),
            UnsupportedError,
        ),
        (
            recipient_info(
                derivation=der.sequence(
                    der.object_identifier("1.2.840.113549.1.5.12"),
                    der.sequence(der.octet_string(b"salt"), der.integer(1000), der.integer(16)),
                )
            ),
            MalformedError,  # the key is shorter than the cipher needs
        ),
    ],
    ids=["algorithm", "without parameters", "gcm", "key length"],
)
def test_what_cannot_be_is_refused_before_the_password_is_used(
    encoded: bytes, expected: type[Exception]
) -> None:
    with pytest.raises(expected):
        load_password(encoded).require_strength(legacy=True)


def test_without_a_derivation_it_is_unsupported() -> None:
    algorithm = der.sequence(der.object_identifier(PWRI_KEK_OID), AES_256_CBC)
    info = load_password(der.constructed(0xA3, der.integer(0), algorithm, der.octet_string(bytes(32))))
    assert isinstance(info, PasswordRecipientInfo)
    with pytest.raises(UnsupportedError, match="without a key derivation"):
        info.require_strength(legacy=True)


@pytest.mark.parametrize(
    "encoded",
    [
        der.constructed(0xA3),
        der.constructed(0xA3, der.integer(0), der.integer(1), der.octet_string(b"")),
        der.constructed(0xA3, der.integer(0), AES_256_CBC, der.integer(1)),
    ],
)
def test_broken_structures_are_malformed(encoded: bytes) -> None:
    with pytest.raises(MalformedError, match="PasswordRecipientInfo"):
        load_password(encoded)


def test_the_structure_is_that_of_the_rfc(parse: Callable[[bytes], object]) -> None:
    written = encrypted_with(PasswordRecipient(PASSWORD, FAST), cipher="aes-256-cbc")
    envelope = parse(written.getvalue())
    assert envelope["version"].native == "v3"  # type: ignore[index]
    info = envelope["recipient_infos"][0].chosen  # type: ignore[index]
    assert info["version"].native == "v0"
    assert info["key_derivation_algorithm"]["algorithm"].native == "pbkdf2"
    assert info["key_derivation_algorithm"]["parameters"]["iteration_count"].native == 1000
