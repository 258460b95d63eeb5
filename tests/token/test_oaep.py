from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.serialization import load_der_private_key
from hypothesis import given
from hypothesis import strategies as st
from pkcs11 import Attribute, KeyType, ObjectClass

from tokensign.algorithms import DIGESTS, digest
from tokensign.errors import DecryptionError
from tokensign.keys import OaepTransport
from tokensign.token import Token, delete_key, oaep, open_key

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

SHA256 = OaepTransport()


def encode(message: bytes, size: int, transport: OaepTransport, seed: bytes) -> bytes:
    """EME-OAEP encoding, RFC 8017 section 7.1.1."""
    label_hash = transport.digest.primitive
    state = transport.digest.new()
    state.update(transport.label)
    assert label_hash.digest_size == state.digest_size
    room = size - 2 * transport.digest.size - 2
    block = state.digest() + bytes(room - len(message)) + b"\1" + message
    masked_block = xor(block, oaep.mask(seed, len(block), transport.mgf_digest))
    return b"\0" + xor(seed, oaep.mask(masked_block, len(seed), transport.mgf_digest)) + masked_block


def xor(left: bytes, right: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(left, right, strict=True))


@given(
    st.binary(max_size=62),
    st.sampled_from(["sha1", "sha256"]),
    st.sampled_from(["sha1", "sha256"]),
    st.binary(max_size=8),
)
def test_what_was_encoded_is_decoded(message: bytes, name: str, mgf_name: str, label: bytes) -> None:
    transport = OaepTransport(DIGESTS[name], DIGESTS[mgf_name], label)
    assert oaep.decode(encode(message, 128, transport, b"s" * transport.digest.size), transport) == message


@given(st.integers(0, 127), st.integers(1, 255))
def test_a_changed_block_is_refused_with_the_one_text(position: int, change: int) -> None:
    encoded = bytearray(encode(b"content key", 128, SHA256, b"s" * 32))
    encoded[position] ^= change
    with pytest.raises(DecryptionError) as failure:
        oaep.decode(bytes(encoded), SHA256)
    assert failure.value.message == oaep.CANNOT_DECRYPT
    assert failure.value.hint is None


def test_a_block_without_a_separator_is_refused() -> None:
    seed = b"s" * 32
    state = SHA256.digest.new()
    block = state.digest() + bytes(63)
    masked = xor(block, oaep.mask(seed, len(block), SHA256.mgf_digest))
    encoded = b"\0" + xor(seed, oaep.mask(masked, 32, SHA256.mgf_digest)) + masked
    with pytest.raises(DecryptionError):
        oaep.decode(encoded, SHA256)


def import_private_key(token: Token, key: RSAPrivateKey, label: str) -> None:
    """Put a published test key on the token, as if it had been born there as far as that can be said."""
    numbers = key.private_numbers()

    def octets(value: int) -> bytes:
        return value.to_bytes((value.bit_length() + 7) // 8)

    with token.borrow("import a test key", change=True) as session:
        session.binding.create_object(
            {
                Attribute.CLASS: ObjectClass.PRIVATE_KEY,
                Attribute.KEY_TYPE: KeyType.RSA,
                Attribute.TOKEN: True,
                Attribute.PRIVATE: True,
                Attribute.SENSITIVE: True,
                Attribute.EXTRACTABLE: False,
                Attribute.DECRYPT: True,
                Attribute.LABEL: label,
                Attribute.ID: label.encode(),
                Attribute.MODULUS: octets(numbers.public_numbers.n),
                Attribute.PUBLIC_EXPONENT: octets(numbers.public_numbers.e),
                Attribute.PRIVATE_EXPONENT: octets(numbers.d),
                Attribute.PRIME_1: octets(numbers.p),
                Attribute.PRIME_2: octets(numbers.q),
                Attribute.EXPONENT_1: octets(numbers.dmp1),
                Attribute.EXPONENT_2: octets(numbers.dmq1),
                Attribute.COEFFICIENT: octets(numbers.iqmp),
            }
        )


@pytest.mark.parametrize(
    "name",
    [
        "rsa_oaep_2048_sha1_mgf1sha1_test",
        "rsa_oaep_2048_sha256_mgf1sha1_test",
        "rsa_oaep_2048_sha256_mgf1sha256_test",
        "rsa_oaep_misc_test",
    ],
)
def test_wycheproof_through_the_token(
    token: Token,
    corpora: Callable[[str], Path],
    name: str,
    tally: Any,  # noqa: ANN401
) -> None:
    content = json.loads(corpora(f"wycheproof/{name}.json").read_text())
    imported: dict[str, str] = {}
    for group in content["testGroups"]:
        if "SHA-512/" in group["sha"] + group["mgfSha"]:
            for _ in group["tests"]:
                tally.skip("the truncated SHA-512/t are not among our digests")
            continue
        encoded = group["privateKeyPkcs8"]
        if encoded not in imported:
            imported[encoded] = f"{name}-{len(imported)}"
            private = load_der_private_key(bytes.fromhex(encoded), None, unsafe_skip_rsa_key_validation=True)
            import_private_key(token, private, imported[encoded])  # type: ignore[arg-type]
        key = open_key(token, imported[encoded])
        for case in group["tests"]:
            transport = OaepTransport(
                digest(group["sha"]), digest(group["mgfSha"]), bytes.fromhex(case["label"])
            )
            outcome: bytes | str
            try:
                outcome = key.unwrap(bytes.fromhex(case["ct"]), transport)
            except DecryptionError as error:
                outcome = error.message
            invalid = case["result"] == "invalid"
            expected = oaep.CANNOT_DECRYPT if invalid else bytes.fromhex(case["msg"])
            tally.check(case["tcId"], outcome, expected)
    for label in imported.values():
        delete_key(token, label)
    assert tally.passed > 25
