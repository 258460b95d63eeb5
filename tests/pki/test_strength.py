from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from asn1crypto import algos, keys
from cryptography.hazmat.primitives.asymmetric import rsa

from tokensign.errors import LegacyAlgorithmError, UnsupportedError
from tokensign.pki.strength import AlgorithmPolicy, require_key_strength, require_signature_strength

if TYPE_CHECKING:
    from conftest import Toolbox


def algorithm(name: str) -> algos.SignedDigestAlgorithm:
    return algos.SignedDigestAlgorithm({"algorithm": name})


@pytest.mark.parametrize("name", ["sha256_rsa", "sha384_ecdsa", "ed25519", "ed448", "sha512_rsa", "mldsa65"])
def test_strong_signatures_are_accepted(name: str) -> None:
    require_signature_strength(algorithm(name), legacy=False)
    assert AlgorithmPolicy(legacy=False).signature_algorithm_allowed(algorithm(name), None, None)


@pytest.mark.parametrize("name", ["md5_rsa", "sha1_rsa", "sha1_ecdsa", "sha256_dsa"])
def test_weak_signatures_are_accepted_with_legacy_only(name: str) -> None:
    require_signature_strength(algorithm(name), legacy=True)
    with pytest.raises(LegacyAlgorithmError, match="no longer secure"):
        require_signature_strength(algorithm(name), legacy=False)
    assert not AlgorithmPolicy(legacy=False).signature_algorithm_allowed(algorithm(name), None, None)


@pytest.mark.parametrize("name", ["md2_rsa", "1.2.3.4"])
def test_unknown_signatures_are_refused_always(name: str) -> None:
    with pytest.raises(UnsupportedError, match="not supported"):
        require_signature_strength(algorithm(name), legacy=True)


def test_pss_is_as_strong_as_its_hash() -> None:
    weak = algos.SignedDigestAlgorithm(
        {"algorithm": "rsassa_pss", "parameters": {"hash_algorithm": {"algorithm": "sha1"}}}
    )
    with pytest.raises(LegacyAlgorithmError):  # SHA-1 by default (RFC 8017)
        require_signature_strength(weak, legacy=False)


@pytest.mark.parametrize("kind", ["rsa:2048", "p256", "ed25519", "x25519"])
def test_today_s_keys_are_accepted(toolbox: Toolbox, kind: str) -> None:
    require_key_strength(toolbox.private_key(kind).public_key(), legacy=False)


@pytest.mark.parametrize("kind", ["rsa:1024", "p192", "dsa:1024"])
def test_short_and_old_keys_are_accepted_with_legacy_only(toolbox: Toolbox, kind: str) -> None:
    public_key = toolbox.private_key(kind).public_key()
    require_key_strength(public_key, legacy=True)
    with pytest.raises(LegacyAlgorithmError):
        require_key_strength(public_key, legacy=False)


def test_a_gigantic_key_is_refused_always() -> None:
    public_key = rsa.RSAPublicNumbers(65537, (1 << 20000) + 1).public_key()
    with pytest.raises(UnsupportedError, match="20001 bits is too large"):
        require_key_strength(public_key, legacy=True)


@pytest.mark.parametrize(
    ("bits", "legacy", "allowed"), [(1024, False, False), (1024, True, True), (20001, True, False)]
)
def test_the_validator_is_told_about_key_sizes(bits: int, legacy: bool, allowed: bool) -> None:  # noqa: FBT001 - parameters
    numbers = keys.RSAPublicKey({"modulus": (1 << (bits - 1)) + 1, "public_exponent": 65537})
    public_key = keys.PublicKeyInfo({"algorithm": {"algorithm": "rsa"}, "public_key": numbers})
    policy = AlgorithmPolicy(legacy=legacy)
    assert bool(policy.signature_algorithm_allowed(algorithm("sha256_rsa"), None, public_key)) is allowed
