from __future__ import annotations

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from tokensign.algorithms import DIGESTS
from tokensign.errors import MechanismError
from tokensign.token import pss

MESSAGE = b"what is signed"


def sign(key: rsa.RSAPrivateKey, name: str) -> bytes:
    """The private-key operation, as a token does it, on a block that was padded here."""
    entry = DIGESTS[name]
    hash_value = entry.new(MESSAGE).digest()
    block = pss.encode(hash_value, bits=key.key_size - 1, digest=entry, salt_size=entry.size)
    size = (key.key_size + 7) // 8
    assert len(block) == size
    numbers = key.private_numbers()
    return pow(int.from_bytes(block), numbers.d, numbers.public_numbers.n).to_bytes(size)


def verify(key: rsa.RSAPrivateKey, signature: bytes, name: str) -> None:
    hash_algorithm = DIGESTS[name].primitive()
    scheme = padding.PSS(padding.MGF1(hash_algorithm), DIGESTS[name].size)
    key.public_key().verify(signature, MESSAGE, scheme, hash_algorithm)


@pytest.mark.parametrize("bits", [2041, 2047, 2048, 2049])
@pytest.mark.parametrize("name", ["sha224", "sha256", "sha512", "sha3_384"])
def test_what_is_padded_here_verifies_elsewhere(bits: int, name: str) -> None:
    key = rsa.generate_private_key(65537, bits)
    signature = sign(key, name)
    verify(key, signature, name)
    with pytest.raises(InvalidSignature):
        verify(key, signature, "sha384")


def test_the_salt_is_fresh_each_time() -> None:
    key = rsa.generate_private_key(65537, 2048)
    assert sign(key, "sha256") != sign(key, "sha256")


def test_a_key_that_is_too_small_is_refused() -> None:
    entry = DIGESTS["sha512"]
    assert len(pss.encode(bytes(64), bits=1039, digest=entry, salt_size=64)) == 130
    with pytest.raises(MechanismError, match="too small for PSS with sha512"):
        pss.encode(bytes(64), bits=1031, digest=entry, salt_size=64)
