"""Keys from outside, and keys that are retired."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa

from tokensign.algorithms import KeySpec, KeyUsage, default_scheme
from tokensign.errors import KeyNotFoundError, MechanismError, UnsupportedError, UsageError
from tokensign.keys import Pkcs1Transport
from tokensign.token import (
    Pin,
    Verdict,
    check_key,
    find_key,
    generate_key,
    import_key,
    list_keys,
    open_key,
    open_token,
    retire_key,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

    from tokensign.token import Module, Token

ALL_TYPES = {
    "rsa:2048": lambda: rsa.generate_private_key(65537, 2048),
    "ec:p256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "ec:p384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "ec:p521": lambda: ec.generate_private_key(ec.SECP521R1()),
    "ed25519": ed25519.Ed25519PrivateKey.generate,
}


@pytest.fixture
def own_token(module: Module, new_token: Callable[..., str], user_pin: str) -> Iterator[Token]:
    """A token that no other test uses."""
    with open_token(module, new_token(), Pin(user_pin), read_write=True) as opened:
        yield opened


def verify(private_key: PrivateKeyTypes, signature: bytes, message: bytes) -> None:
    """Raises InvalidSignature."""
    match private_key.public_key():
        case rsa.RSAPublicKey() as public_key:
            public_key.verify(signature, message, padding.PKCS1v15(), hashes.SHA256())
        case ec.EllipticCurvePublicKey() as public_key:
            scheme = default_scheme(public_key)
            public_key.verify(signature, message, ec.ECDSA(scheme.digest.primitive()))
        case ed25519.Ed25519PublicKey() as public_key:
            public_key.verify(signature, message)


@pytest.mark.parametrize("spec", ALL_TYPES)
def test_an_imported_key_signs_as_it_did_outside(own_token: Token, spec: str) -> None:
    outside = ALL_TYPES[spec]()
    info = import_key(own_token, "old", outside, KeyUsage.SIGN)
    assert info.spec == spec
    assert info.usages == {"sign"}
    key = open_key(own_token, "old", KeyUsage.SIGN)
    verify(outside, key.sign(b"hello", default_scheme(key.public_key)), b"hello")


def test_an_imported_key_decrypts_what_was_encrypted_before(own_token: Token) -> None:
    outside = rsa.generate_private_key(65537, 2048)
    encrypted = outside.public_key().encrypt(b"k" * 16, padding.PKCS1v15())
    import_key(own_token, "old", outside, KeyUsage.BOTH)
    key = open_key(own_token, "old", KeyUsage.DECRYPT)
    assert key.unwrap(encrypted, Pkcs1Transport()) == b"k" * 16


def test_an_imported_key_agrees_as_it_did_outside(own_token: Token) -> None:
    outside, peer = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    import_key(own_token, "old", outside, KeyUsage.DECRYPT)
    key = open_key(own_token, "old", KeyUsage.DECRYPT)
    assert key.agree(peer.public_key()) == outside.exchange(ec.ECDH(), peer.public_key())


def test_an_imported_key_is_marked_as_not_born_there(own_token: Token) -> None:
    import_key(own_token, "old", ALL_TYPES["ec:p256"](), KeyUsage.SIGN)
    info = find_key(own_token, "old")
    assert (info.local, info.always_sensitive, info.never_extractable) == (False, False, False)
    assert (info.sensitive, info.extractable, info.private) == (True, False, True)
    found = {finding.name: finding.verdict for finding in check_key(own_token, "old").findings}
    assert found["CKA_LOCAL"] is Verdict.WEAK
    assert found["CKA_EXTRACTABLE"] is Verdict.OK


def test_a_key_is_imported_once_and_under_a_label_of_its_own(own_token: Token) -> None:
    outside = ALL_TYPES["ec:p256"]()
    import_key(own_token, "old", outside, KeyUsage.SIGN)
    with pytest.raises(UsageError, match="on the token already"):
        import_key(own_token, "other", outside, KeyUsage.SIGN)
    with pytest.raises(UsageError, match="there is a key old already"):
        import_key(own_token, "old", ALL_TYPES["ec:p256"](), KeyUsage.SIGN)
    with pytest.raises(UsageError, match="needs a label"):
        import_key(own_token, "", ALL_TYPES["ec:p256"](), KeyUsage.SIGN)
    assert [key.label for key in list_keys(own_token)] == ["old"]


def test_what_cannot_be_imported_is_refused_before_the_token_is_asked(own_token: Token) -> None:
    with pytest.raises(UnsupportedError, match="secp256k1"):
        import_key(own_token, "old", ec.generate_private_key(ec.SECP256K1()), KeyUsage.SIGN)
    with pytest.raises(UnsupportedError, match="Ed448"):
        import_key(own_token, "old", ed448.Ed448PrivateKey.generate(), KeyUsage.SIGN)
    with pytest.raises(UsageError, match="only sign"):
        import_key(own_token, "old", ALL_TYPES["ed25519"](), KeyUsage.BOTH)
    assert list_keys(own_token) == []


def test_a_retired_key_decrypts_and_signs_no_more(own_token: Token) -> None:
    generate_key(own_token, "alice", KeySpec.parse("rsa:2048"), KeyUsage.BOTH)
    opened_before = open_key(own_token, "alice", KeyUsage.SIGN)
    scheme = default_scheme(opened_before.public_key)
    opened_before.sign(b"hello", scheme)
    assert retire_key(own_token, "alice").usages == {"decrypt"}
    with pytest.raises(MechanismError):
        opened_before.sign(b"hello", scheme)
    with pytest.raises(KeyNotFoundError, match="not made to sign"):
        open_key(own_token, "alice", KeyUsage.SIGN)
    public_key = opened_before.public_key
    assert isinstance(public_key, rsa.RSAPublicKey)
    encrypted = public_key.encrypt(b"k" * 16, padding.PKCS1v15())
    assert open_key(own_token, "alice", KeyUsage.DECRYPT).unwrap(encrypted, Pkcs1Transport()) == b"k" * 16


def test_a_key_that_does_not_sign_is_not_retired(own_token: Token) -> None:
    generate_key(own_token, "alice", KeySpec.parse("ec:p256"), KeyUsage.DECRYPT)
    with pytest.raises(UsageError, match="nothing to retire"):
        retire_key(own_token, "alice")
