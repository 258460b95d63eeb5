from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, utils

from tokensign.errors import UnsupportedError
from tokensign.pki.signer_key import signer_key, signing_hash

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import SoftwareSigner

    Signers = Callable[..., SoftwareSigner]

KINDS = ["rsa:2048", "p256", "p384", "ed25519", "ed448", "ml-dsa-44", "ml-dsa-65", "ml-dsa-87"]


@pytest.mark.parametrize("kind", KINDS)
def test_the_key_is_of_the_type_of_its_public_half(software_signer: Signers, kind: str) -> None:
    signer = software_signer(kind)
    key = signer_key(signer)
    assert key.public_key() == signer.public_key
    assert isinstance(key, type(signer.key)) or type(signer.key).__name__.endswith("PrivateKey")
    if kind.startswith(("rsa", "p")):
        assert key.key_size == signer.public_key.key_size
    if kind.startswith("p"):
        assert key.curve.name == signer.public_key.curve.name


def test_rsa_signs_with_pkcs1_and_with_pss(software_signer: Signers) -> None:
    signer = software_signer("rsa:2048")
    for scheme in (padding.PKCS1v15(), padding.PSS(padding.MGF1(hashes.SHA384()), padding.PSS.DIGEST_LENGTH)):
        signature = signer_key(signer).sign(b"message", scheme, hashes.SHA384())
        signer.public_key.verify(signature, b"message", scheme, hashes.SHA384())


def test_ec_and_eddsa_sign(software_signer: Signers) -> None:
    signer = software_signer("p256")
    signature = signer_key(signer).sign(b"message", ec.ECDSA(hashes.SHA3_256()))
    signer.public_key.verify(signature, b"message", ec.ECDSA(hashes.SHA3_256()))
    for kind in ("ed25519", "ed448"):
        signer = software_signer(kind)
        signer.public_key.verify(signer_key(signer).sign(b"message"), b"message")


@pytest.mark.parametrize("kind", ["ml-dsa-44", "ml-dsa-65", "ml-dsa-87"])
def test_ml_dsa_signs_without_a_context(software_signer: Signers, kind: str) -> None:
    signer = software_signer(kind)
    signer.public_key.verify(signer_key(signer).sign(b"message"), b"message")
    with pytest.raises(UnsupportedError, match="without a context"):
        signer_key(signer).sign(b"message", b"context")


def test_hash_values_and_weak_hashes_are_not_signed(software_signer: Signers) -> None:
    key = signer_key(software_signer("p256"))
    with pytest.raises(UnsupportedError, match="not from a hash value"):
        key.sign(bytes(32), ec.ECDSA(utils.Prehashed(hashes.SHA256())))
    with pytest.raises(UnsupportedError, match="sha1 are not made"):
        key.sign(b"message", ec.ECDSA(hashes.SHA1()))  # noqa: S303 - refused


@pytest.mark.parametrize(
    ("kind", "method"),
    [
        ("rsa:2048", "decrypt"),
        ("rsa:2048", "private_numbers"),
        ("rsa:2048", "private_bytes"),
        ("p256", "exchange"),
        ("p256", "private_numbers"),
        ("p256", "private_bytes"),
        ("ed25519", "private_bytes"),
        ("ed25519", "private_bytes_raw"),
        ("ml-dsa-65", "private_bytes"),
        ("ml-dsa-65", "sign_mu"),
    ],
)
def test_nothing_private_comes_out(software_signer: Signers, kind: str, method: str) -> None:
    with pytest.raises(TypeError, match="stays on its token"):
        getattr(signer_key(software_signer(kind)), method)(None, None, None)


@pytest.mark.parametrize("kind", KINDS)
def test_a_copy_is_the_same_key(software_signer: Signers, kind: str) -> None:
    key = signer_key(software_signer(kind))
    assert copy.copy(key) is key
    assert copy.deepcopy(key) is key


def test_keys_that_do_not_sign_are_refused(software_signer: Signers) -> None:
    signer = software_signer("x25519")
    with pytest.raises(UnsupportedError):
        signer_key(signer)
    with pytest.raises(UnsupportedError):
        signing_hash(signer.public_key)
