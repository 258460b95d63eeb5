from __future__ import annotations

import hashlib
from typing import Any

import pytest
from asn1crypto import algos
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa, x25519

from tokensign import der
from tokensign.algorithms import (
    CONTENT_CIPHERS,
    CURVES,
    DEFAULT_CONTENT_CIPHER,
    DIGESTS,
    ML_DSA,
    SIGNATURE_FAMILIES,
    ContentCipher,
    Digest,
    KeySpec,
    KeyUsage,
    Strength,
    content_cipher,
    default_scheme,
    digest,
    digest_by_oid,
    require_strength,
    signature_scheme,
)
from tokensign.errors import LegacyAlgorithmError, UnsupportedError, UsageError

STRONG = [entry for entry in DIGESTS.values() if entry.strength is Strength.STRONG]


# --- digests


@pytest.mark.parametrize("entry", DIGESTS.values(), ids=lambda entry: entry.name)
def test_a_digest_is_the_same_everywhere(entry: Digest) -> None:
    state = entry.new()
    state.update(b"abc")
    assert state.digest() == hashlib.new(entry.name, b"abc", usedforsecurity=False).digest()
    assert state.digest_size == entry.size == entry.primitive.digest_size
    assert entry.primitive.name == entry.name.replace("_", "-")
    assert algos.DigestAlgorithmId(entry.oid).native == entry.name
    assert digest_by_oid(entry.oid) is entry


@pytest.mark.parametrize("entry", DIGESTS.values(), ids=lambda entry: entry.name)
def test_a_digest_identifier_has_no_parameters(entry: Digest) -> None:
    """RFC 5754 section 2."""
    parsed = algos.DigestAlgorithm.load(entry.algorithm_identifier, strict=True)
    assert parsed["algorithm"].dotted == entry.oid
    assert parsed["parameters"].native is None
    assert entry.algorithm_identifier.endswith(parsed["algorithm"].dump())


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("sha256", "sha256"),
        ("SHA-256", "sha256"),
        ("Sha512", "sha512"),
        ("sha3-256", "sha3_256"),
        ("SHA3_512", "sha3_512"),
        ("sha-1", "sha1"),
    ],
)
def test_a_digest_is_found_as_people_write_it(name: str, expected: str) -> None:
    assert digest(name).name == expected


def test_an_unknown_digest_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(UnsupportedError, match="digest 'whirlpool' is not supported") as failure:
        digest("whirlpool")
    assert "sha3_512" in str(failure.value.hint)
    with pytest.raises(UnsupportedError, match=r"1\.2\.3"):
        digest_by_oid("1.2.3")


def test_strength_decides_what_is_read() -> None:
    require_strength("X", Strength.STRONG, legacy=False)
    require_strength("X", Strength.LEGACY, legacy=True)
    with pytest.raises(LegacyAlgorithmError, match="X is no longer secure"):
        require_strength("X", Strength.LEGACY, legacy=False)
    for legacy in (False, True):
        with pytest.raises(UnsupportedError, match="X is broken and is refused"):
            require_strength("X", Strength.REFUSED, legacy=legacy)


def test_md5_and_sha1_are_legacy() -> None:
    assert {entry.name for entry in DIGESTS.values() if entry.strength is not Strength.STRONG} == {
        "md5",
        "sha1",
    }


# --- keys


@pytest.mark.parametrize(
    ("text", "algorithm", "bits", "curve", "name"),
    [
        ("rsa", "rsa", 3072, None, "rsa:3072"),
        ("RSA:2048", "rsa", 2048, None, "rsa:2048"),
        ("rsa:8192", "rsa", 8192, None, "rsa:8192"),
        ("ec", "ec", 0, "p256", "ec:p256"),
        ("ec:P-384", "ec", 0, "p384", "ec:p384"),
        ("ec:p521", "ec", 0, "p521", "ec:p521"),
        ("ed25519", "ed25519", 0, None, "ed25519"),
        ("ed448", "ed448", 0, None, "ed448"),
    ],
)
def test_a_key_type_is_read_and_written(
    text: str, algorithm: str, bits: int, curve: str | None, name: str
) -> None:
    spec = KeySpec.parse(text)
    assert (spec.algorithm, spec.bits, spec.curve) == (algorithm, bits, CURVES[curve] if curve else None)
    assert str(spec) == name
    assert KeySpec.parse(str(spec)) == spec


@pytest.mark.parametrize("text", ["rsa:1024", "rsa:2047", "rsa:2049", "rsa:16384", "rsa:99999"])
def test_rsa_sizes_that_are_not_generated_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="bits are not generated") as failure:
        KeySpec.parse(text)
    assert "2048 to 8192" in str(failure.value.hint)


@pytest.mark.parametrize(
    "text", ["", "dsa", "rsa:", "rsa:x", "rsa:-2048", "rsa:²048", "ec:k256", "ed25519:1"]
)
def test_other_key_types_are_refused(text: str) -> None:
    if text == "rsa:":
        assert KeySpec.parse(text).bits == 3072  # as without the colon
        return
    with pytest.raises(UsageError, match="not a key type"):
        KeySpec.parse(text)


def test_usages() -> None:
    assert [usage.signs for usage in (KeyUsage.SIGN, KeyUsage.DECRYPT, KeyUsage.BOTH)] == [True, False, True]
    assert [usage.decrypts for usage in (KeyUsage.SIGN, KeyUsage.DECRYPT, KeyUsage.BOTH)] == [
        False,
        True,
        True,
    ]


@pytest.mark.parametrize("name", CURVES)
def test_a_curve_is_the_same_everywhere(name: str) -> None:
    curve = CURVES[name]
    primitive = curve.primitive()
    assert primitive.key_size == curve.bits
    assert ec.get_curve_for_oid(ec.ObjectIdentifier(curve.oid)) is curve.primitive  # type: ignore[attr-defined]


# --- signature schemes


@pytest.mark.parametrize("entry", STRONG, ids=lambda entry: entry.name)
@pytest.mark.parametrize("family", [family for family in SIGNATURE_FAMILIES if family != "ml-dsa"])
def test_a_scheme_names_its_algorithm(family: str, entry: Digest) -> None:
    if family == "eddsa" and entry.name != "sha512":
        with pytest.raises(UnsupportedError, match=r"eddsa with .* are not made") as failure:
            signature_scheme(family, entry)
        assert "sha512" in str(failure.value.hint)
        return
    scheme = signature_scheme(family, entry)
    parsed = algos.SignedDigestAlgorithm.load(scheme.algorithm_identifier, strict=True)
    expected: dict[str, Any] = {
        "rsa-pkcs1": ("rsassa_pkcs1v15", "RSA_PKCS", 0),
        "rsa-pss": ("rsassa_pss", "RSA_PKCS_PSS", entry.size),
        "ecdsa": (f"{entry.name}_ecdsa", "ECDSA", 0),
        "eddsa": ("ed25519", "EDDSA", 0),
    }
    name, mechanism, salt_size = expected[family]
    assert parsed["algorithm"].native == name
    assert (scheme.mechanism, scheme.salt_size) == (mechanism, salt_size)
    assert scheme.prehashed is (family != "eddsa")
    assert str(scheme) == f"{family} with {entry.name}"


@pytest.mark.parametrize("entry", STRONG, ids=lambda entry: entry.name)
@pytest.mark.parametrize("oid", ML_DSA)
def test_ml_dsa_goes_with_digests_as_strong_as_its_parameter_set(oid: str, entry: Digest) -> None:
    """RFC 9882 section 3.3; the algorithm has no parameters."""
    found = ML_DSA[oid]
    if entry.size < found.digest_size:
        with pytest.raises(UnsupportedError, match=rf"{found.name} with {entry.name} are not made"):
            signature_scheme("ml-dsa", entry, found.name)
        return
    scheme = signature_scheme("ml-dsa", entry, found.name)
    assert scheme.algorithm_identifier == der.sequence(der.object_identifier(oid))
    assert (scheme.mechanism, scheme.prehashed) == ("ML_DSA", False)
    assert str(scheme) == f"{found.name} with {entry.name}"


@pytest.mark.parametrize("entry", STRONG, ids=lambda entry: entry.name)
def test_pss_parameters_are_explicit(entry: Digest) -> None:
    """RFC 4055 section 3.1: hash with NULL parameters, MGF1 with the same hash, a salt of its size."""
    parsed = algos.SignedDigestAlgorithm.load(signature_scheme("rsa-pss", entry).algorithm_identifier)
    parameters = parsed["parameters"]
    assert parameters["hash_algorithm"]["algorithm"].native == entry.name
    assert parameters["hash_algorithm"].dump().endswith(b"\x05\x00")
    assert parameters["mask_gen_algorithm"]["algorithm"].native == "mgf1"
    assert parameters["mask_gen_algorithm"]["parameters"]["algorithm"].native == entry.name
    assert parameters["salt_length"].native == entry.size
    assert parameters["trailer_field"].native == "trailer_field_bc"


@pytest.mark.parametrize("name", ["md5", "sha1"])
@pytest.mark.parametrize("family", SIGNATURE_FAMILIES)
def test_weak_digests_make_no_scheme(family: str, name: str) -> None:
    with pytest.raises(UnsupportedError, match="are not made"):
        signature_scheme(family, DIGESTS[name])


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        (rsa.generate_private_key(65537, 2048), "rsa-pkcs1 with sha256"),
        (ec.generate_private_key(ec.SECP256R1()), "ecdsa with sha256"),
        (ec.generate_private_key(ec.SECP384R1()), "ecdsa with sha384"),
        (ec.generate_private_key(ec.SECP521R1()), "ecdsa with sha512"),
        (ec.generate_private_key(ec.SECP224R1()), "ecdsa with sha256"),
        (ed25519.Ed25519PrivateKey.generate(), "eddsa with sha512"),
        (ed448.Ed448PrivateKey.generate(), "eddsa with shake256"),
    ],
    ids=["rsa", "p256", "p384", "p521", "p224", "ed25519", "ed448"],
)
def test_each_key_has_a_usual_scheme(key: Any, expected: str) -> None:  # noqa: ANN401 - of any type
    assert str(default_scheme(key.public_key())) == expected


def test_family_and_digest_can_be_chosen() -> None:
    key = rsa.generate_private_key(65537, 2048).public_key()
    assert str(default_scheme(key, family="rsa-pss", digest=DIGESTS["sha384"])) == "rsa-pss with sha384"
    with pytest.raises(UnsupportedError, match="does not sign with ecdsa") as failure:
        default_scheme(key, family="ecdsa")
    assert failure.value.hint == "it signs with rsa-pkcs1 or rsa-pss"


def test_keys_that_do_not_sign_have_no_scheme() -> None:
    with pytest.raises(UnsupportedError, match="X25519PublicKey do not sign"):
        default_scheme(x25519.X25519PrivateKey.generate().public_key())


# --- content ciphers


@pytest.mark.parametrize("name", CONTENT_CIPHERS)
def test_a_cipher_is_found_by_name_and_oid(name: str) -> None:
    cipher = content_cipher(name)
    assert content_cipher(name.upper()) is content_cipher(cipher.oid) is cipher
    assert cipher.name == name
    assert cipher.authenticated is (cipher.mode != "cbc")


@pytest.mark.parametrize(
    ("cipher", "expected"),
    [
        (cipher, {"des-ede3-cbc": "tripledes_3key", "rc2-cbc": "rc2"}.get(cipher.name))
        for cipher in CONTENT_CIPHERS.values()
        if cipher.mode != "chacha20"  # younger than asn1crypto
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_a_cipher_is_the_same_to_asn1crypto(cipher: ContentCipher, expected: str | None) -> None:
    algorithm = algos.EncryptionAlgorithmId(cipher.oid).native
    assert algorithm == (expected or f"aes{cipher.key_size * 8}_{cipher.mode}")


def test_the_old_ciphers_are_legacy() -> None:
    weak = {cipher.name for cipher in CONTENT_CIPHERS.values() if cipher.strength is not Strength.STRONG}
    assert weak == {"des-ede3-cbc", "rc2-cbc"}


def test_the_default_cipher_is_authenticated() -> None:
    assert DEFAULT_CONTENT_CIPHER.name == "aes-256-gcm"


def test_an_unknown_cipher_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(UnsupportedError, match="content encryption rc4 is not supported") as failure:
        content_cipher("rc4")
    assert "aes-128-cbc" in str(failure.value.hint)
