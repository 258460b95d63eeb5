from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import replace
from itertools import groupby
from typing import TYPE_CHECKING, Any

import pkcs11
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, x448, x25519
from pkcs11 import Attribute, KeyType, ObjectClass

from tokensign import der
from tokensign.algorithms import CURVES, KeySpec, KeyUsage
from tokensign.errors import DecryptionError, MechanismError, UsageError
from tokensign.keys import KeyAgreement
from tokensign.token import (
    KeyInfo,
    Token,
    TokenKey,
    check_key,
    delete_key,
    find_key,
    generate_key,
    oaep,
    open_decrypters,
    open_key,
    shared_secret,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

ECDH = ("ec:p256", "ec:p384", "ec:p521", "x25519", "x448")
MAKERS: dict[str, Callable[[], Any]] = {
    "ec:p256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "ec:p384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "ec:p521": lambda: ec.generate_private_key(ec.SECP521R1()),
    "x25519": x25519.X25519PrivateKey.generate,
    "x448": x448.X448PrivateKey.generate,
}


def exchange(private: Any, public: Any) -> bytes:  # noqa: ANN401 - of any type
    if isinstance(private, ec.EllipticCurvePrivateKey):
        return private.exchange(ec.ECDH(), public)
    return bytes(private.exchange(public))


@pytest.mark.parametrize("spec", ECDH)
def test_token_and_host_agree(token_key: Callable[..., TokenKey], spec: str) -> None:
    key: KeyAgreement = token_key(spec, KeyUsage.DECRYPT)
    assert isinstance(key, KeyAgreement)
    for _ in range(3):
        peer = MAKERS[spec]()
        assert key.agree(peer.public_key()) == exchange(peer, key.public_key)


@pytest.mark.parametrize("spec", ECDH)
def test_no_secret_stays_on_the_token(token: Token, token_key: Callable[..., TokenKey], spec: str) -> None:
    key = token_key(spec, KeyUsage.DECRYPT)
    key.agree(MAKERS[spec]().public_key())
    with token.borrow("look for secrets") as session:
        template = {Attribute.CLASS: ObjectClass.SECRET_KEY, Attribute.KEY_TYPE: KeyType.GENERIC_SECRET}
        assert list(session.binding.get_objects(template)) == []


@pytest.mark.parametrize("spec", ECDH)
def test_a_peer_of_another_curve_is_refused(token_key: Callable[..., TokenKey], spec: str) -> None:
    key = token_key(spec, KeyUsage.DECRYPT)
    for other in ECDH:
        if other != spec:
            with pytest.raises(DecryptionError) as failure:
                key.agree(MAKERS[other]().public_key())
            assert failure.value.message == oaep.CANNOT_DECRYPT


@pytest.mark.parametrize(
    ("spec", "kind", "size"),
    [("x25519", x25519.X25519PublicKey, 32), ("x448", x448.X448PublicKey, 56)],
)
def test_points_of_small_order_are_refused(
    token_key: Callable[..., TokenKey],
    spec: str,
    kind: Any,  # noqa: ANN401 - a class of keys
    size: int,
) -> None:
    key = token_key(spec, KeyUsage.DECRYPT)
    for octets in (bytes(size), b"\1" + bytes(size - 1)):
        with pytest.raises(DecryptionError) as failure:
            key.agree(kind.from_public_bytes(octets))
        assert failure.value.message == oaep.CANNOT_DECRYPT
    peer = MAKERS[spec]()
    assert key.agree(peer.public_key()) == exchange(peer, key.public_key)


@pytest.mark.parametrize("spec", ["x25519", "x448"])
def test_montgomery_keys_only_decrypt_and_that_is_their_usual_purpose(token: Token, spec: str) -> None:
    for usage in (KeyUsage.SIGN, KeyUsage.BOTH):
        with pytest.raises(UsageError, match=f"{spec} keys only decrypt") as failure:
            generate_key(token, "wrong", KeySpec.parse(spec), usage)
        assert failure.value.hint == "use rsa:3072, ec:p256 or " + (
            "x25519 to decrypt" if usage is KeyUsage.BOTH else "ed25519 to sign"
        )
    info = generate_key(token, f"montgomery {spec}", KeySpec.parse(spec))
    assert (info.spec, info.usages) == (spec, {"derive"})
    assert info.serves(KeyUsage.DECRYPT)
    assert not info.serves(KeyUsage.SIGN)
    assert not check_key(token, info).weak
    assert any(key.info == info for key in open_decrypters(token))
    delete_key(token, info)


@pytest.mark.parametrize("spec", ["ml-kem-768", "ml-kem-1024", "ml-dsa-44", "ml-dsa-65", "ml-dsa-87"])
def test_a_token_that_lacks_a_kind_of_key_says_so(token: Token, spec: str) -> None:
    with pytest.raises(
        MechanismError, match=f"cannot generate the key {spec}: .*MechanismInvalid"
    ) as failure:
        generate_key(token, spec, KeySpec.parse(spec))
    assert failure.value.hint


def test_keys_of_other_kinds_do_not_agree_or_decapsulate(token_key: Callable[..., TokenKey]) -> None:
    peer = MAKERS["ec:p256"]().public_key()
    for spec, usage in (("rsa:2048", KeyUsage.BOTH), ("ed25519", KeyUsage.SIGN)):
        with pytest.raises(MechanismError, match="does not agree on secrets"):
            token_key(spec, usage).agree(peer)
        with pytest.raises(MechanismError, match="does not decapsulate"):
            token_key(spec, usage).decapsulate(bytes(1088))
        assert token_key(spec, usage).kem is None


def test_a_key_that_was_made_to_sign_does_not_agree(token_key: Callable[..., TokenKey]) -> None:
    with pytest.raises(MechanismError, match="not made to agree") as failure:
        token_key("ec:p256").agree(MAKERS["ec:p256"]().public_key())
    assert failure.value.hint


def test_a_token_that_does_not_let_a_secret_be_read_is_not_a_broken_message(
    token_key: Callable[..., TokenKey], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> bytes:
        raise pkcs11.TemplateInconsistent

    monkeypatch.setattr(shared_secret, "derive", refuse)
    with pytest.raises(MechanismError, match=r"cannot agree on a secret .* TemplateInconsistent"):
        token_key("ec:p256", KeyUsage.DECRYPT).agree(MAKERS["ec:p256"]().public_key())


@pytest.fixture
def each_time(token: Token) -> Iterator[TokenKey]:
    """A key that wants the PIN for each operation, and agrees."""
    with token.borrow("generate", change=True) as session:
        session.binding.generate_keypair(
            KeyType.EC,
            label="agrees each time",
            id=b"agrees each time",
            store=True,
            public_template={Attribute.EC_PARAMS: der.object_identifier(CURVES["p256"].oid)},
            private_template={Attribute.ALWAYS_AUTHENTICATE: True, Attribute.DERIVE: True},
        )
    yield open_key(token, "agrees each time")
    delete_key(token, "agrees each time")


def test_a_key_that_wants_the_pin_each_time_agrees_where_the_token_lets_it(each_time: TokenKey) -> None:
    assert each_time.info.always_authenticate
    peer = MAKERS["ec:p256"]()
    assert each_time.agree(peer.public_key()) == exchange(peer, each_time.public_key)


def test_where_it_does_not_the_reason_is_told(each_time: TokenKey, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> bytes:
        raise pkcs11.UserNotLoggedIn

    monkeypatch.setattr(shared_secret, "derive", refuse)
    with pytest.raises(MechanismError, match="no way to give it for key agreement") as failure:
        each_time.agree(MAKERS["ec:p256"]().public_key())
    assert failure.value.hint
    assert "without CKA_ALWAYS_AUTHENTICATE" in failure.value.hint


class Careless:
    """A key on a token that looks at nothing: every secret is zero."""

    def derive_key(self, *_: object, **__: object) -> Careless:
        return self

    def __getitem__(self, _: object) -> bytes:
        return bytes(32)

    def destroy(self) -> None:
        pass


def test_a_zero_secret_of_a_careless_token_is_refused() -> None:
    careless: Any = Careless()
    with pytest.raises(DecryptionError, match="text"):
        shared_secret.derive(careless, shared_secret.Point(bytes(32), 32), refusal="text")
    with pytest.raises(DecryptionError, match="text"):
        shared_secret.derive(careless, shared_secret.Point(bytes(97), 48, may_give_zero=True), refusal="text")
    point = shared_secret.Point(bytes(65), 32, may_give_zero=True)
    assert shared_secret.derive(careless, point, refusal="text") == bytes(32)


@contextmanager
def imported(token: Token, like: KeyInfo, spec: str, value: bytes, public_key: Any) -> Iterator[TokenKey]:  # noqa: ANN401
    """A published private key that is on the token, not to be read or taken off, while the block runs."""
    kind = KeyType.EC if spec.startswith("ec") else KeyType.EC_EDWARDS
    curve = CURVES[spec.removeprefix("ec:")].oid if spec.startswith("ec") else "1.3.101.110"
    template = {
        Attribute.CLASS: ObjectClass.PRIVATE_KEY,
        Attribute.KEY_TYPE: kind,
        Attribute.TOKEN: False,
        Attribute.PRIVATE: True,
        Attribute.SENSITIVE: True,
        Attribute.EXTRACTABLE: False,
        Attribute.DERIVE: True,
        Attribute.LABEL: "wycheproof",
        Attribute.ID: b"wycheproof",
        Attribute.EC_PARAMS: der.object_identifier(curve),
        Attribute.VALUE: value,
    }
    with token.borrow("import a test key", change=True) as session:
        made = session.binding.create_object(template)
    info = replace(like, label="wycheproof", id=b"wycheproof", spec=spec, public_key=public_key)
    try:
        yield TokenKey(token, info)
    finally:
        made.destroy()


@pytest.fixture
def any_key(token: Token, token_key: Callable[..., TokenKey]) -> KeyInfo:
    return find_key(token, token_key("ec:p256").info.uri)


@pytest.mark.parametrize(("name", "curve"), [("256", "p256"), ("384", "p384"), ("521", "p521")])
def test_wycheproof_ecdh_through_the_token(
    token: Token,
    any_key: KeyInfo,
    corpora: Callable[[str], Path],
    name: str,
    curve: str,
    tally: Any,  # noqa: ANN401
) -> None:
    content = json.loads(corpora(f"wycheproof/ecdh_secp{name}r1_ecpoint_test.json").read_text())
    entry = CURVES[curve]
    size = (entry.bits + 7) // 8
    cases = sorted(content["testGroups"][0]["tests"], key=lambda case: int(case["private"], 16))
    for private, group in groupby(cases, key=lambda case: int(case["private"], 16)):
        public_key = ec.derive_private_key(private, entry.primitive()).public_key()
        with imported(token, any_key, f"ec:{curve}", private.to_bytes(size), public_key) as key:
            for case in group:
                expected = None if case["result"] == "invalid" else case["shared"]
                secret = secret_with(key, entry.primitive(), bytes.fromhex(case["public"]))
                tally.check(case["tcId"], secret, expected)
    assert tally.passed == content["numberOfTests"]


def secret_with(key: TokenKey, curve: ec.EllipticCurve, point: bytes) -> str | None:
    """What key and point agree on, in hexadecimal; the host refuses points that are not on the curve."""
    try:
        return key.agree(ec.EllipticCurvePublicKey.from_encoded_point(curve, point)).hex()
    except (DecryptionError, ValueError):
        return None


def test_wycheproof_x25519_through_the_token(
    token: Token,
    any_key: KeyInfo,
    corpora: Callable[[str], Path],
    tally: Any,  # noqa: ANN401
) -> None:
    content = json.loads(corpora("wycheproof/x25519_test.json").read_text())
    refused = 0
    for case in content["testGroups"][0]["tests"]:
        private = bytes.fromhex(case["private"])
        public_key = x25519.X25519PrivateKey.from_private_bytes(private).public_key()
        peer = x25519.X25519PublicKey.from_public_bytes(bytes.fromhex(case["public"]))
        with imported(token, any_key, "x25519", private, public_key) as key:
            if "ZeroSharedSecret" in case["flags"]:
                refused += 1
                expected = None
            else:
                expected = case["shared"]
            try:
                secret = key.agree(peer).hex()
            except DecryptionError:
                secret = None
            tally.check(case["tcId"], secret, expected)
    assert tally.passed == content["numberOfTests"]
    assert refused == 31
