"""RC2: the vectors of RFC 2268, and cryptography's own with 128 bits as a second opinion."""

from __future__ import annotations

import secrets

import pytest
from cryptography.hazmat.decrepit.ciphers.algorithms import RC2
from cryptography.hazmat.primitives.ciphers import Cipher, modes

from tokensign.cms.rc2 import Rc2CbcDecryptor


@pytest.mark.parametrize(
    ("key", "plain", "encrypted"),
    [
        ("ffffffffffffffff", "ffffffffffffffff", "278b27e42e2f0d49"),
        ("3000000000000000", "1000000000000001", "30649edf9be7d2c2"),
        ("88bca90e90875a7f0f79c384627bafb2", "0000000000000000", "2269552ab0f85ca6"),
    ],
)
def test_the_vectors_of_rfc_2268(key: str, plain: str, encrypted: str) -> None:
    decryptor = Rc2CbcDecryptor(bytes.fromhex(key), bytes(8))
    assert decryptor.update(bytes.fromhex(encrypted)).hex() == plain
    assert decryptor.finalize() == b""


@pytest.mark.parametrize("cut", [1, 7, 8, 13, 400])
def test_it_agrees_with_cryptography(cut: int) -> None:
    key, iv, plain = secrets.token_bytes(16), secrets.token_bytes(8), secrets.token_bytes(400)
    encryptor = Cipher(RC2(key), modes.CBC(iv)).encryptor()
    encrypted = encryptor.update(plain) + encryptor.finalize()
    decryptor = Rc2CbcDecryptor(key, iv)
    pieces = [decryptor.update(encrypted[at : at + cut]) for at in range(0, len(encrypted), cut)]
    assert b"".join(pieces) + decryptor.finalize() == plain


def test_a_cut_block_is_noticed() -> None:
    decryptor = Rc2CbcDecryptor(bytes(5), bytes(8))
    decryptor.update(bytes(9))
    with pytest.raises(ValueError, match="multiple"):
        decryptor.finalize()
