"""Session keys as no honest program writes them, made with keys in memory."""

from __future__ import annotations

import hashlib
import io
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest
from cryptography.hazmat.decrepit.ciphers.modes import CFB
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, x25519
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.keywrap import aes_key_wrap
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tokensign.errors import DecryptionError, MalformedError
from tokensign.openpgp.decrypt import decrypt
from tokensign.openpgp.packets import encode_mpi, encode_packet, read_packets
from tokensign.openpgp.public_key import PublicKey, public_key
from tokensign.openpgp.session_key import CANNOT_DECRYPT, RecipientKey, read_session_key

MOMENT = datetime(2026, 1, 31, tzinfo=UTC)
SESSION_KEY = os.urandom(32)


@dataclass
class Software:
    """A private key in memory, with what the token's keys have."""

    key: Any
    certificates: tuple[()] = ()

    @property
    def public_key(self) -> Any:  # noqa: ANN401 - of three types
        return self.key.public_key()

    def unwrap(self, encrypted_key: bytes, _transport: object) -> bytes:
        try:
            return self.key.decrypt(encrypted_key, padding.PKCS1v15())  # type: ignore[no-any-return]
        except ValueError:
            raise DecryptionError("the software key refuses it") from None

    def agree(self, peer: Any) -> bytes:  # noqa: ANN401 - of two types
        if isinstance(self.key, x25519.X25519PrivateKey):
            return self.key.exchange(peer)
        return self.key.exchange(ec.ECDH(), peer)  # type: ignore[no-any-return]


RSA = Software(rsa.generate_private_key(65537, 2048))
P256 = Software(ec.generate_private_key(ec.SECP256R1()))
X25519 = Software(x25519.X25519PrivateKey.generate())


def named(key: Software, *, native: bool = False) -> RecipientKey:
    return RecipientKey(key, public_key(key.public_key, MOMENT, encrypts=True, native=native))


def message(public: PublicKey, fields: bytes) -> bytes:
    """A message whose session key is `SESSION_KEY`, if only `fields` hold it."""
    session_key = b"\x03" + public.key_id + bytes((public.algorithm,)) + fields
    prefix = os.urandom(16)
    plain = prefix + prefix[-2:] + encode_packet(11, b"b\0\0\0\0\0content") + b"\xd3\x14"
    plain += hashlib.sha1(plain, usedforsecurity=False).digest()
    encryptor = Cipher(algorithms.AES(SESSION_KEY), CFB(bytes(16))).encryptor()
    return encode_packet(1, session_key) + encode_packet(18, b"\x01" + encryptor.update(plain))


def outcome(recipient: RecipientKey, fields: bytes) -> bytes | str:
    """The content, or the refusal."""
    output = io.BytesIO()
    try:
        decrypt(io.BytesIO(message(recipient.public, fields)), [recipient], output)
    except DecryptionError as error:
        return error.message
    return output.getvalue()


def checked(key: bytes, cipher: int = 9) -> bytes:
    return bytes((cipher,)) + key + (sum(key) % 65536).to_bytes(2)


def by_rsa(plain: bytes) -> bytes:
    return encode_mpi(int.from_bytes(RSA.public_key.encrypt(plain, padding.PKCS1v15())))


def by_ecdh(plain: bytes, public: PublicKey, curve: ec.EllipticCurve | None = None) -> bytes:
    """RFC 9580 section 11.5, from the sender's side; `plain` is padded."""
    ephemeral = ec.generate_private_key(curve or ec.SECP256R1())
    point = ephemeral.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    secret = ephemeral.exchange(ec.ECDH(), public.key) if curve is None else bytes(32)
    kdf = public.material[-4:]
    digest = {8: hashlib.sha256, 9: hashlib.sha384, 10: hashlib.sha512}[kdf[2]]
    parameters = public.material[:9] + b"\x12" + kdf + b"Anonymous Sender    " + public.fingerprint
    derived = digest(b"\0\0\0\1" + secret + parameters).digest()
    wrapped = aes_key_wrap(derived[: {7: 16, 8: 24, 9: 32}[kdf[3]]], plain)
    return encode_mpi(int.from_bytes(point)) + bytes((len(wrapped),)) + wrapped


def by_x25519(key: bytes, public: PublicKey, cipher: int = 9) -> bytes:
    """RFC 9580 section 5.1.6, from the sender's side."""
    ephemeral = x25519.X25519PrivateKey.generate()
    point = ephemeral.public_key().public_bytes_raw()
    shared = point + public.material + ephemeral.exchange(X25519.public_key)
    wrapped = aes_key_wrap(HKDF(SHA256(), 16, salt=None, info=b"OpenPGP X25519").derive(shared), key)
    return point + bytes((1 + len(wrapped), cipher)) + wrapped


def padded(plain: bytes) -> bytes:
    count = 8 - len(plain) % 8
    return plain + bytes((count,)) * count


def test_session_keys_that_are_right_are_taken() -> None:
    assert outcome(named(RSA), by_rsa(checked(SESSION_KEY))) == b"content"
    p256 = named(P256)
    assert outcome(p256, by_ecdh(padded(checked(SESSION_KEY)), p256.public)) == b"content"
    native = named(X25519, native=True)
    assert outcome(native, by_x25519(SESSION_KEY, native.public)) == b"content"


@pytest.mark.parametrize(
    "plain",
    [
        b"",
        checked(SESSION_KEY)[:-1],
        checked(SESSION_KEY)[:-1] + b"\0",
        checked(SESSION_KEY, 7),
        checked(SESSION_KEY, 10),
        checked(SESSION_KEY[:24], 2),
        checked(SESSION_KEY[:16]),
    ],
    ids=["nothing", "short", "checksum", "other size", "Twofish", "3DES", "size of another cipher"],
)
def test_session_keys_that_are_wrong_all_look_alike(plain: bytes) -> None:
    assert outcome(named(RSA), by_rsa(plain)) == CANNOT_DECRYPT
    p256 = named(P256)
    assert outcome(p256, by_ecdh(padded(plain + bytes(8)), p256.public)) == CANNOT_DECRYPT


@pytest.mark.parametrize(
    "fields",
    [b"", encode_mpi(1), encode_mpi(1 << 2100), by_rsa(checked(SESSION_KEY)) + b"x", b"\xff\xff"],
    ids=["nothing", "no padding", "larger than the key", "something behind", "cut off"],
)
def test_broken_fields_of_rsa_look_like_a_wrong_key(fields: bytes) -> None:
    assert outcome(named(RSA), fields) == CANNOT_DECRYPT


@pytest.mark.parametrize("last", [0, 9, 200])
def test_broken_padding_of_ecdh_looks_like_a_wrong_key(last: int) -> None:
    p256 = named(P256)
    plain = padded(checked(SESSION_KEY))
    assert outcome(p256, by_ecdh(plain[:-1] + bytes((last,)), p256.public)) == CANNOT_DECRYPT


def test_point_of_another_curve_looks_like_a_wrong_key() -> None:
    p256, x = named(P256), named(X25519)
    plain = padded(checked(SESSION_KEY))
    assert outcome(p256, by_ecdh(plain, p256.public, ec.SECP384R1())) == CANNOT_DECRYPT
    assert outcome(p256, encode_mpi((4 << 512) + 5) + b"\x08" + bytes(8)) == CANNOT_DECRYPT
    assert outcome(x, by_ecdh(plain, p256.public)) == CANNOT_DECRYPT
    assert outcome(x, encode_mpi(0) + b"\x08" + bytes(8)) == CANNOT_DECRYPT


def test_broken_fields_of_x25519_look_like_a_wrong_key() -> None:
    native = named(X25519, native=True)
    good = by_x25519(SESSION_KEY, native.public)
    for fields in (b"", good[:32], good[:-1], good + b"x", by_x25519(SESSION_KEY, native.public, 2)):
        assert outcome(native, fields) == CANNOT_DECRYPT


def test_key_that_only_signs_opens_nothing() -> None:
    signing = RecipientKey(P256, public_key(P256.public_key, MOMENT))
    assert outcome(signing, b"") == CANNOT_DECRYPT


def test_recipients_are_matched_by_name_and_algorithm() -> None:
    p256, native = named(P256), named(X25519, native=True)
    fingerprint = p256.public.fingerprint

    def read(body: bytes) -> Any:  # noqa: ANN401 - or None
        return read_session_key(next(read_packets(io.BytesIO(encode_packet(1, body)))))

    assert read(b"\x03" + fingerprint[-8:] + b"\x12").is_for(p256)
    assert read(b"\x03" + bytes(8) + b"\x12").is_for(p256)
    assert not read(b"\x03" + bytes(8) + b"\x12").is_for(native)
    assert not read(b"\x03" + bytes(7) + b"\x01\x12").is_for(p256)
    assert read(b"\x06\x15\x04" + fingerprint + b"\x12").is_for(p256)
    assert read(b"\x06\0\x12").is_for(p256)
    assert read(b"\x02" + bytes(20)) is None
    for broken in (b"\x06\x01\x04\x12", b"\x06\x15\x04", b"\x03abc"):
        with pytest.raises(MalformedError):
            read(broken)
