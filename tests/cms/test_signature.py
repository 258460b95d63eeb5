from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils, x25519

from tokensign import der
from tokensign.algorithms import (
    DIGESTS,
    ECDSA_OIDS,
    ED25519_OID,
    MGF1_OID,
    RSA_ENCRYPTION_OID,
    RSA_PKCS1_OIDS,
    RSASSA_PSS_OID,
    Digest,
    default_scheme,
    signature_scheme,
)
from tokensign.cms.signature import ReceivedScheme, read_signature_algorithm, verify_fresh, verify_signature
from tokensign.errors import BadSignatureError, LegacyAlgorithmError, MalformedError, UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Callable

SHA256, SHA512, SHA1 = DIGESTS["sha256"], DIGESTS["sha512"], DIGESTS["sha1"]
MESSAGE = b"what is signed"


def identifier(oid: str, *parameters: bytes) -> bytes:
    return der.sequence(der.object_identifier(oid), *parameters)


def pss(*fields: bytes) -> bytes:
    return identifier(RSASSA_PSS_OID, der.sequence(*fields))


def hash_field(digest: Digest) -> bytes:
    return der.explicit(0, identifier(digest.oid, der.NULL))


def mgf_field(digest: Digest, oid: str = MGF1_OID) -> bytes:
    return der.explicit(1, identifier(oid, identifier(digest.oid, der.NULL)))


# --- which signature it claims to be


@pytest.mark.parametrize("parameters", [b"", der.NULL])
def test_rsa_encryption_takes_the_digest_of_the_signer_info(parameters: bytes) -> None:
    found = read_signature_algorithm(identifier(RSA_ENCRYPTION_OID, parameters), SHA512)
    assert found == ReceivedScheme("rsa-pkcs1", SHA512, SHA512)


@pytest.mark.parametrize(("oid", "digest"), RSA_PKCS1_OIDS.items())
def test_rsa_with_a_digest(oid: str, digest: Digest) -> None:
    assert read_signature_algorithm(identifier(oid, der.NULL), digest).family == "rsa-pkcs1"
    with pytest.raises(MalformedError, match=f"made with {digest.name}, but .* with sha3_512|sha3_384"):
        read_signature_algorithm(
            identifier(oid, der.NULL), DIGESTS["sha3_384" if digest.name == "sha3_512" else "sha3_512"]
        )


@pytest.mark.parametrize(("oid", "digest"), ECDSA_OIDS.items())
def test_ecdsa_with_a_digest(oid: str, digest: Digest) -> None:
    found = read_signature_algorithm(identifier(oid), digest)
    assert (found.family, found.digest) == ("ecdsa", digest)
    with pytest.raises(MalformedError):
        read_signature_algorithm(identifier(oid), DIGESTS["md5"])


def test_ed25519_goes_with_sha512_only() -> None:
    """RFC 8419 section 3.1."""
    assert read_signature_algorithm(identifier(ED25519_OID), SHA512).family == "eddsa"
    with pytest.raises(MalformedError, match="made with sha512"):
        read_signature_algorithm(identifier(ED25519_OID), SHA256)


def test_an_unknown_algorithm_is_not_supported() -> None:
    with pytest.raises(UnsupportedError, match=r"signature algorithm 1\.2\.3\.4 is not supported"):
        read_signature_algorithm(identifier("1.2.3.4"), SHA1)


@pytest.mark.parametrize("encoded", [b"", b"\x30\x00", b"\x30\x03\x02\x01\x00", der.NULL])
def test_a_broken_algorithm_is_refused(encoded: bytes) -> None:
    with pytest.raises(MalformedError):
        read_signature_algorithm(encoded, SHA256)


def test_pss_parameters_are_read() -> None:
    encoded = pss(hash_field(SHA256), mgf_field(SHA512), der.explicit(2, der.integer(20)))
    assert read_signature_algorithm(encoded, SHA256) == ReceivedScheme("rsa-pss", SHA256, SHA512, 20)


@pytest.mark.parametrize("encoded", [pss(), identifier(RSASSA_PSS_OID)], ids=["empty", "absent"])
def test_pss_parameters_that_are_left_out_mean_sha1(encoded: bytes) -> None:
    """RFC 4055 section 3.1: SHA-1 throughout, and 20 octets of salt; which makes it a legacy signature."""
    assert read_signature_algorithm(encoded, SHA1) == ReceivedScheme("rsa-pss", SHA1, SHA1, 20)


def test_pss_without_a_mask_generation_function_means_mgf1_with_sha1() -> None:
    found = read_signature_algorithm(pss(hash_field(SHA256)), SHA256)
    assert found.mgf_digest == SHA1


@pytest.mark.parametrize(
    "encoded",
    [
        identifier(RSASSA_PSS_OID),
        identifier(RSASSA_PSS_OID, der.NULL),
        identifier(RSASSA_PSS_OID, der.octet_string(b"x")),
        pss(hash_field(SHA256), mgf_field(SHA256), der.explicit(2, der.integer(-1))),
        pss(hash_field(SHA256), mgf_field(SHA256), der.explicit(2, der.integer(513))),
        pss(hash_field(SHA256), mgf_field(SHA256), der.explicit(2, der.integer(1 << 70))),
        pss(hash_field(SHA256), mgf_field(SHA256), der.explicit(3, der.integer(2))),
    ],
    ids=["absent", "null", "string", "negative salt", "large salt", "huge salt", "trailer"],
)
def test_impossible_pss_parameters_are_refused(encoded: bytes) -> None:
    with pytest.raises(MalformedError):
        read_signature_algorithm(encoded, SHA256)


def test_a_pss_hash_other_than_the_digest_is_refused() -> None:
    with pytest.raises(MalformedError, match="PSS signature is made with sha512"):
        read_signature_algorithm(pss(hash_field(SHA512), mgf_field(SHA512)), SHA256)


def test_another_mask_generation_function_is_not_supported() -> None:
    with pytest.raises(UnsupportedError, match=r"mask generation function 1\.2\.3\.4"):
        read_signature_algorithm(pss(hash_field(SHA256), mgf_field(SHA256, "1.2.3.4")), SHA256)


@pytest.mark.parametrize("unknown", ["hash", "mgf"])
def test_an_unknown_pss_hash_is_not_supported(unknown: str) -> None:
    strange = Digest("strange", "1.2.3.4", 32, "STRANGE", hashes.SHA256)
    encoded = pss(
        hash_field(strange if unknown == "hash" else SHA256),
        mgf_field(strange if unknown == "mgf" else SHA256),
    )
    with pytest.raises(UnsupportedError, match=r"1\.2\.3\.4"):
        read_signature_algorithm(encoded, SHA256)


# --- whether it is one


@pytest.mark.parametrize(
    ("kind", "family"),
    [("rsa:2048", "rsa-pkcs1"), ("rsa:2048", "rsa-pss"), ("p256", "ecdsa"), ("ed25519", "eddsa")],
)
def test_a_signature_holds_for_its_message_only(kind: str, family: str, software: Callable[..., Any]) -> None:
    key = software(kind)
    scheme = default_scheme(key.public_key, family=family)
    signature = key.sign(MESSAGE, scheme)
    verify_fresh(key.public_key, scheme, signature, message=MESSAGE)
    if scheme.prehashed:
        hashed = hashlib.new(scheme.digest.name, MESSAGE).digest()
        verify_fresh(key.public_key, scheme, signature, digest=hashed)
    with pytest.raises(BadSignatureError, match="message was changed, or another key"):
        verify_fresh(key.public_key, scheme, signature, message=MESSAGE + b"!")
    with pytest.raises(BadSignatureError):
        verify_fresh(software(kind, 1).public_key, scheme, signature, message=MESSAGE)
    for broken in (b"", signature[:-1], signature + b"\0", bytes(len(signature))):
        with pytest.raises(BadSignatureError):
            verify_fresh(key.public_key, scheme, broken, message=MESSAGE)


def test_a_pss_salt_of_another_size_does_not_hold(software: Callable[..., Any]) -> None:
    key = software("rsa:2048")
    padded = padding.PSS(padding.MGF1(hashes.SHA256()), 20)
    signature = key.key.sign(MESSAGE, padded, hashes.SHA256())
    verify_signature(
        key.public_key, ReceivedScheme("rsa-pss", SHA256, SHA256, 20), signature, message=MESSAGE
    )
    with pytest.raises(BadSignatureError):
        verify_signature(
            key.public_key, ReceivedScheme("rsa-pss", SHA256, SHA256, 32), signature, message=MESSAGE
        )


def test_a_salt_that_does_not_fit_the_key_is_a_bad_signature(software: Callable[..., Any]) -> None:
    scheme = ReceivedScheme("rsa-pss", SHA256, SHA256, 500)
    with pytest.raises(BadSignatureError):
        verify_signature(software("rsa:2048").public_key, scheme, bytes(256), message=MESSAGE)


@pytest.mark.parametrize(
    ("kind", "family"), [("p256", "rsa-pkcs1"), ("rsa:2048", "ecdsa"), ("p256", "eddsa")]
)
def test_a_key_of_another_type_does_not_fit(kind: str, family: Any, software: Callable[..., Any]) -> None:  # noqa: ANN401
    scheme = ReceivedScheme(family, SHA256, SHA256)
    with pytest.raises(UnsupportedError, match="does not fit a signature"):
        verify_signature(software(kind).public_key, scheme, b"", message=MESSAGE)


def test_a_key_that_only_agrees_does_not_fit() -> None:
    public_key = x25519.X25519PrivateKey.generate().public_key()
    with pytest.raises(UnsupportedError):
        verify_signature(public_key, ReceivedScheme("eddsa", SHA512, SHA512), b"", message=MESSAGE)


def test_eddsa_needs_the_message_itself(software: Callable[..., Any]) -> None:
    with pytest.raises(UnsupportedError):
        verify_signature(
            software("ed25519").public_key, ReceivedScheme("eddsa", SHA512, SHA512), b"", digest=bytes(64)
        )


def test_legacy_digests_are_read_only_on_request(software: Callable[..., Any]) -> None:
    key = software("rsa:2048")
    signature = key.key.sign(MESSAGE, padding.PKCS1v15(), hashes.SHA1())  # noqa: S303 - weak on purpose
    scheme = ReceivedScheme("rsa-pkcs1", SHA1, SHA1)
    with pytest.raises(LegacyAlgorithmError, match="SHA1 is no longer secure") as failure:
        verify_signature(key.public_key, scheme, signature, message=MESSAGE)
    assert "--legacy" in str(failure.value.hint)
    verify_signature(key.public_key, scheme, signature, message=MESSAGE, legacy=True)


def test_a_legacy_mask_generation_hash_is_read_only_on_request(software: Callable[..., Any]) -> None:
    key = software("rsa:2048")
    padded = padding.PSS(padding.MGF1(hashes.SHA1()), 32)  # noqa: S303 - weak on purpose
    signature = key.key.sign(MESSAGE, padded, hashes.SHA256())
    scheme = ReceivedScheme("rsa-pss", SHA256, SHA1, 32)
    with pytest.raises(LegacyAlgorithmError, match="MGF1 with SHA1"):
        verify_signature(key.public_key, scheme, signature, message=MESSAGE)
    verify_signature(key.public_key, scheme, signature, message=MESSAGE, legacy=True)


def test_short_rsa_keys_are_read_only_on_request(nameless: Callable[..., Any]) -> None:
    key = nameless("rsa:1024")
    signature = key.sign(MESSAGE, signature_scheme("rsa-pkcs1", SHA256))
    scheme = ReceivedScheme("rsa-pkcs1", SHA256, SHA256)
    with pytest.raises(LegacyAlgorithmError, match="RSA with 1024 bits"):
        verify_signature(key.public_key, scheme, signature, message=MESSAGE)
    verify_signature(key.public_key, scheme, signature, message=MESSAGE, legacy=True)


def test_a_huge_rsa_key_is_not_computed_with() -> None:
    modulus = (1 << 16400) + 1
    public_key = rsa.RSAPublicNumbers(65537, modulus).public_key()
    with pytest.raises(UnsupportedError, match="16401 bits is larger than 16384"):
        verify_signature(
            public_key, ReceivedScheme("rsa-pkcs1", SHA256, SHA256), bytes(2051), message=MESSAGE
        )


# --- odd encodings


@pytest.mark.parametrize("kind", ["trailing", "long length", "padded r", "negative r", "zero", "empty"])
def test_odd_encodings_of_ecdsa_signatures_do_not_hold(kind: str) -> None:
    """Ecdsa-Sig-Value is DER (RFC 3279 section 2.2.3): one signature has one encoding."""
    key = ec.generate_private_key(ec.SECP256R1())
    while True:
        signature = key.sign(MESSAGE, ec.ECDSA(hashes.SHA256()))
        r, s = utils.decode_dss_signature(signature)
        if r >> 255:  # its first octet in DER is a zero, which can be left out
            break
    body = der.content(signature)
    octets = r.to_bytes(32, "big")
    odd = {
        "trailing": signature + b"\0",
        "long length": b"\x30\x81" + bytes((len(body),)) + body,
        "padded r": der.sequence(der.tlv(0x02, b"\0\0" + octets), der.integer(s)),
        "negative r": der.sequence(der.tlv(0x02, octets), der.integer(s)),
        "zero": der.sequence(der.integer(0), der.integer(s)),
        "empty": b"",
    }[kind]
    scheme = ReceivedScheme("ecdsa", SHA256, SHA256)
    verify_signature(key.public_key(), scheme, signature, message=MESSAGE)
    with pytest.raises(BadSignatureError):
        verify_signature(key.public_key(), scheme, odd, message=MESSAGE)
