"""Schemes beyond RSA, ECDSA and Ed25519, with keys in memory."""

from __future__ import annotations

import hashlib
import io
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, mldsa, utils

from tokensign import der
from tokensign.algorithms import (
    DIGESTS,
    DSA_OIDS,
    ED448_OID,
    ML_DSA,
    PREHASHED_OIDS,
    READ_DIGESTS,
    RSASSA_PSS_SHAKE_OIDS,
    SLH_DSA,
    content_digest_by_oid,
    default_scheme,
    digest_by_oid,
    ml_dsa_of,
    signature_scheme,
)
from tokensign.cms.signature import ReceivedScheme, read_signature_algorithm, verify_fresh, verify_signature
from tokensign.cms.signed import SigningOptions, sign_detached
from tokensign.cms.signed_data import read_signed_data
from tokensign.cms.verify import verify_signatures
from tokensign.errors import BadSignatureError, LegacyAlgorithmError, MalformedError, UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from tokensign.certificates import Certificate

MESSAGE = b"what is signed"
SHAKE256 = READ_DIGESTS["shake256"]
ML_DSA_KEYS = {
    "ml-dsa-44": mldsa.MLDSA44PrivateKey,
    "ml-dsa-65": mldsa.MLDSA65PrivateKey,
    "ml-dsa-87": mldsa.MLDSA87PrivateKey,
}


def identifier(oid: str, *parameters: bytes) -> bytes:
    return der.sequence(der.object_identifier(oid), *parameters)


# --- pure schemes


@pytest.mark.parametrize("name", ML_DSA_KEYS)
def test_ml_dsa_signatures_are_made_and_hold(
    name: str, nameless: Callable[..., Any], issue: Callable[..., Certificate]
) -> None:
    signer = nameless()
    signer.key = ML_DSA_KEYS[name].generate()
    signer.certificate = issue(signer.key.public_key(), "post-quantum")
    message = sign_detached(io.BytesIO(MESSAGE), [signer])
    signed = read_signed_data(io.BytesIO(message))
    (result,) = verify_signatures(signed, [MESSAGE])
    assert result.error is None
    assert str(result.scheme) == f"{name} with sha512"
    (info,) = signed.signer_infos
    assert info.signature_algorithm == identifier(next(oid for oid in ML_DSA if ML_DSA[oid].name == name))
    (changed,) = verify_signatures(signed, [MESSAGE + b"!"])
    assert isinstance(changed.error, BadSignatureError)


def test_a_weak_digest_is_not_written_with_ml_dsa(
    nameless: Callable[..., Any], issue: Callable[..., Certificate]
) -> None:
    signer = nameless()
    signer.key = mldsa.MLDSA87PrivateKey.generate()
    signer.certificate = issue(signer.key.public_key(), "post-quantum")
    with pytest.raises(UnsupportedError, match="ml-dsa-87 with sha256 are not made") as failure:
        sign_detached(io.BytesIO(MESSAGE), [signer], SigningOptions(digest=DIGESTS["sha256"]))
    assert "sha512" in str(failure.value.hint)


@pytest.mark.parametrize("oid", [*ML_DSA, *SLH_DSA])
def test_parameter_sets_take_no_parameters_and_no_weak_digest(oid: str) -> None:
    found = (ML_DSA | SLH_DSA)[oid]
    scheme = read_signature_algorithm(identifier(oid), DIGESTS["sha512"])
    assert (scheme.parameter_set, scheme.pure) == (found.name, True)
    with pytest.raises(MalformedError, match="has parameters"):
        read_signature_algorithm(identifier(oid, der.NULL), DIGESTS["sha512"])
    with pytest.raises(MalformedError, match="sha224, which is too weak"):
        read_signature_algorithm(identifier(oid), DIGESTS["sha224"])


@pytest.mark.parametrize("oid", PREHASHED_OIDS)
def test_prehashed_schemes_are_refused_by_name(oid: str) -> None:
    with pytest.raises(UnsupportedError, match="is not used in CMS"):
        read_signature_algorithm(identifier(oid), DIGESTS["sha512"])


def test_a_key_of_another_parameter_set_does_not_fit() -> None:
    key = mldsa.MLDSA44PrivateKey.generate()
    assert ml_dsa_of(key.public_key()) == "ml-dsa-44"
    assert ml_dsa_of(ed25519.Ed25519PrivateKey.generate().public_key()) == ""
    scheme = signature_scheme("ml-dsa", DIGESTS["sha512"], "ml-dsa-65")
    with pytest.raises(UnsupportedError, match="does not fit a signature ml-dsa-65"):
        verify_fresh(key.public_key(), scheme, key.sign(MESSAGE), message=MESSAGE)


def test_ed448_goes_with_shake256_of_64_octets() -> None:
    """RFC 8419 section 2.3."""
    key = ed448.Ed448PrivateKey.generate()
    scheme = default_scheme(key.public_key())
    assert scheme.algorithm_identifier == identifier(ED448_OID)
    assert scheme.digest == SHAKE256
    received = read_signature_algorithm(identifier(ED448_OID), SHAKE256)
    verify_signature(key.public_key(), received, key.sign(MESSAGE), message=MESSAGE)
    with pytest.raises(BadSignatureError):
        verify_signature(key.public_key(), received, key.sign(MESSAGE), message=MESSAGE + b"!")
    with pytest.raises(MalformedError, match="made with shake256"):
        read_signature_algorithm(identifier(ED448_OID), DIGESTS["sha512"])
    with pytest.raises(MalformedError, match="has parameters"):
        read_signature_algorithm(identifier(ED448_OID, der.NULL), SHAKE256)


def test_ed448_messages_hold(nameless: Callable[..., Any], issue: Callable[..., Certificate]) -> None:
    signer = nameless()
    signer.key = ed448.Ed448PrivateKey.generate()
    signer.certificate = issue(signer.key.public_key(), "Edward")
    signed = read_signed_data(io.BytesIO(sign_detached(io.BytesIO(MESSAGE), [signer])))
    (result,) = verify_signatures(signed, [MESSAGE])
    assert result.error is None
    assert str(result.scheme) == "eddsa with shake256"


@pytest.mark.parametrize(
    ("key", "digest"),
    [
        (ed25519.Ed25519PrivateKey, SHAKE256),
        (ed448.Ed448PrivateKey, DIGESTS["sha512"]),
        (mldsa.MLDSA65PrivateKey, DIGESTS["sha512"]),
    ],
)
def test_an_eddsa_scheme_fits_its_own_curve_only(key: Any, digest: Any) -> None:  # noqa: ANN401
    private_key = key.generate()
    with pytest.raises(UnsupportedError, match="does not fit"):
        verify_signature(
            private_key.public_key(),
            ReceivedScheme("eddsa", digest, digest),
            private_key.sign(MESSAGE),
            message=MESSAGE,
        )


# --- SHAKE


@pytest.mark.parametrize("name", ["shake128", "shake256"])
def test_shake_digests_have_the_sizes_of_rfc_8702(name: str) -> None:
    entry = READ_DIGESTS[name]
    assert content_digest_by_oid(entry.oid) == entry
    hasher = entry.new()
    hasher.update(MESSAGE[:3])
    hasher.update(MESSAGE[3:])
    assert hasher.digest() == hashlib.new(name.replace("shake", "shake_"), MESSAGE).digest(entry.size)  # type: ignore[call-arg]
    assert entry.size == {"shake128": 32, "shake256": 64}[name]
    with pytest.raises(UnsupportedError):
        digest_by_oid(entry.oid)


@pytest.mark.parametrize(
    ("name", "oid"), [("shake128", "1.3.6.1.5.5.7.6.32"), ("shake256", "1.3.6.1.5.5.7.6.33")]
)
def test_ecdsa_with_shake_holds(name: str, oid: str) -> None:
    entry = READ_DIGESTS[name]
    key = ec.generate_private_key(ec.SECP384R1())
    hasher = entry.new()
    hasher.update(MESSAGE)
    signature = key.sign(hasher.digest(), ec.ECDSA(utils.Prehashed(entry.primitive())))
    scheme = read_signature_algorithm(identifier(oid), entry)
    verify_signature(key.public_key(), scheme, signature, message=MESSAGE)
    with pytest.raises(BadSignatureError):
        verify_signature(key.public_key(), scheme, signature, message=MESSAGE + b"!")


@pytest.mark.parametrize("oid", RSASSA_PSS_SHAKE_OIDS)
def test_pss_with_shake_is_refused_by_name(oid: str) -> None:
    with pytest.raises(UnsupportedError, match="RSASSA-PSS with SHAKE"):
        read_signature_algorithm(identifier(oid), READ_DIGESTS["shake128"])


@pytest.mark.parametrize("name", ["sha512_224", "sha512_256"])
def test_truncated_sha512_is_read(name: str) -> None:
    entry = READ_DIGESTS[name]
    hasher = entry.new()
    hasher.update(MESSAGE)
    assert hasher.digest() == hashlib.new(name, MESSAGE).digest()
    assert len(hasher.digest()) == entry.size


def test_an_unknown_digest_is_named() -> None:
    with pytest.raises(UnsupportedError, match=r"1\.2\.3\.4"):
        content_digest_by_oid("1.2.3.4")


# --- DSA


@pytest.mark.parametrize(("oid", "digest"), DSA_OIDS.items())
def test_dsa_is_read_only_on_request(oid: str, digest: Any) -> None:  # noqa: ANN401 - a digest
    key = dsa.generate_private_key(2048)
    scheme = read_signature_algorithm(identifier(oid), digest)
    signature = key.sign(MESSAGE, digest.primitive())
    with pytest.raises(LegacyAlgorithmError, match=r"SHA1|DSA"):
        verify_signature(key.public_key(), scheme, signature, message=MESSAGE)
    verify_signature(key.public_key(), scheme, signature, message=MESSAGE, legacy=True)
    with pytest.raises(BadSignatureError):
        verify_signature(key.public_key(), scheme, signature, message=MESSAGE + b"!", legacy=True)


def test_dsa_signatures_are_never_made() -> None:
    with pytest.raises(UnsupportedError, match="do not sign here"):
        default_scheme(dsa.generate_private_key(2048).public_key())


def test_a_huge_dsa_key_is_not_computed_with() -> None:
    numbers = dsa.DSAParameterNumbers(p=(1 << 4095) + 1, q=(1 << 255) + 1, g=2)
    try:
        key = dsa.DSAPublicNumbers(4, numbers).public_key()
    except ValueError:  # cryptography refuses it before we see it
        return
    scheme = ReceivedScheme("dsa", DIGESTS["sha256"], DIGESTS["sha256"])
    with pytest.raises(UnsupportedError, match="4096 bits is too large"):
        verify_signature(key, scheme, bytes(64), message=MESSAGE, legacy=True)
