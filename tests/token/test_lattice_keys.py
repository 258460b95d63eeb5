"""ML-KEM and ML-DSA on a token that has them."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pkcs11
import pytest
from cryptography.hazmat.primitives.asymmetric import mldsa, mlkem, x25519
from pkcs11 import Attribute, KeyType, ObjectClass
from pkcs11.mechanisms import MLKEMParameterSet

from tokensign.algorithms import DIGESTS, KEMS, KeySpec, KeyUsage, default_scheme, signature_scheme
from tokensign.errors import DecryptionError, MechanismError, UsageError
from tokensign.token import (
    Token,
    TokenKey,
    check_key,
    delete_key,
    find_key,
    generate_key,
    list_keys,
    oaep,
    open_decrypters,
    open_key,
    shared_secret,
)
from tokensign.token.public_key import decode, key_identifier, spec_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tokensign.keys import Decapsulator

KEM_KINDS = {"ml-kem-768": mlkem.MLKEM768PublicKey, "ml-kem-1024": mlkem.MLKEM1024PublicKey}
DSA_KINDS = {
    "ml-dsa-44": (mldsa.MLDSA44PublicKey, 2420),
    "ml-dsa-65": (mldsa.MLDSA65PublicKey, 3309),
    "ml-dsa-87": (mldsa.MLDSA87PublicKey, 4627),
}


@pytest.fixture(scope="module")
def lattice_key(nss_token: Token) -> Iterator[Callable[[str], TokenKey]]:
    """A key on NSS's token, made at its first use: `lattice_key("ml-kem-768")`."""
    made: dict[str, TokenKey] = {}

    def get(spec: str) -> TokenKey:
        if spec not in made:
            made[spec] = open_key(nss_token, generate_key(nss_token, f"a {spec}", KeySpec.parse(spec)))
        return made[spec]

    yield get
    for key in made.values():
        delete_key(nss_token, key.info)


@pytest.mark.parametrize("spec", KEM_KINDS)
def test_what_is_encapsulated_is_decapsulated(lattice_key: Callable[[str], TokenKey], spec: str) -> None:
    key: Decapsulator = lattice_key(spec)
    assert isinstance(key.public_key, KEM_KINDS[spec])
    assert key.kem == KEMS[spec]
    for _ in range(3):
        secret, ciphertext = key.public_key.encapsulate()
        assert key.decapsulate(ciphertext) == secret


@pytest.mark.parametrize("spec", KEM_KINDS)
def test_a_ciphertext_of_another_size_is_refused(lattice_key: Callable[[str], TokenKey], spec: str) -> None:
    key = lattice_key(spec)
    for size in (0, KEMS[spec].ciphertext_size - 1, KEMS[spec].ciphertext_size + 1):
        with pytest.raises(DecryptionError) as failure:
            key.decapsulate(bytes(size))
        assert failure.value.message == oaep.CANNOT_DECRYPT


@pytest.mark.parametrize("spec", KEM_KINDS)
def test_a_wrong_ciphertext_gives_another_secret(lattice_key: Callable[[str], TokenKey], spec: str) -> None:
    key = lattice_key(spec)  # implicit rejection (FIPS 203 section 6.3): no error, and nothing to learn
    assert isinstance(key.public_key, mlkem.MLKEM768PublicKey | mlkem.MLKEM1024PublicKey)
    secret, ciphertext = key.public_key.encapsulate()
    changed = bytes([ciphertext[0] ^ 1]) + ciphertext[1:]
    assert key.decapsulate(changed) != secret
    assert key.decapsulate(changed) == key.decapsulate(changed)


@pytest.mark.parametrize("spec", DSA_KINDS)
def test_signatures_verify_with_the_public_key(lattice_key: Callable[[str], TokenKey], spec: str) -> None:
    key = lattice_key(spec)
    kind, size = DSA_KINDS[spec]
    assert isinstance(key.public_key, kind)
    signature = key.sign(b"message", default_scheme(key.public_key))
    assert len(signature) == size
    key.public_key.verify(signature, b"message")


def test_a_key_does_not_sign_for_another_parameter_set(lattice_key: Callable[[str], TokenKey]) -> None:
    other = default_scheme(lattice_key("ml-dsa-87").public_key)
    with pytest.raises(MechanismError, match="does not sign with ml-dsa-87"):
        lattice_key("ml-dsa-44").sign(b"message", other)
    with pytest.raises(MechanismError, match="does not sign with ecdsa"):
        lattice_key("ml-dsa-44").sign(b"message", signature_scheme("ecdsa", DIGESTS["sha256"]))


@pytest.mark.parametrize("spec", [*KEM_KINDS, *DSA_KINDS])
def test_a_generated_key_is_protected_and_named_by_its_public_key(
    nss_token: Token, lattice_key: Callable[[str], TokenKey], spec: str
) -> None:
    info = lattice_key(spec).info
    assert info.spec == spec
    assert info.usages == ({"decapsulate"} if "kem" in spec else {"sign"})
    assert (info.sensitive, info.extractable, info.private) == (True, False, True)
    assert info.public_key is not None
    assert info.id == key_identifier(info.public_key)
    findings = {finding.name: finding.verdict.name for finding in check_key(nss_token, info).findings}
    assert findings["size"] == "OK"
    assert find_key(nss_token, info.uri) == info


def test_usages_that_a_kind_does_not_have_are_refused(nss_token: Token) -> None:
    with pytest.raises(UsageError, match="ml-kem-768 keys only decrypt"):
        generate_key(nss_token, "x", KeySpec.parse("ml-kem-768"), KeyUsage.SIGN)
    with pytest.raises(UsageError, match="ml-dsa-65 keys only sign"):
        generate_key(nss_token, "x", KeySpec.parse("ml-dsa-65"), KeyUsage.BOTH)


def test_every_key_that_decapsulates_is_found(
    nss_token: Token, lattice_key: Callable[[str], TokenKey]
) -> None:
    wanted = {lattice_key(spec).info.label for spec in KEM_KINDS}
    assert wanted <= {key.info.label for key in open_decrypters(nss_token)}


def test_another_token_knows_x25519_as_a_key_of_its_own_kind(nss_token: Token) -> None:
    key = open_key(nss_token, generate_key(nss_token, "montgomery", KeySpec.parse("x25519")))
    peer = x25519.X25519PrivateKey.generate()
    assert isinstance(key.public_key, x25519.X25519PublicKey)
    assert key.agree(peer.public_key()) == peer.exchange(key.public_key)
    with pytest.raises(DecryptionError):
        key.agree(x25519.X25519PublicKey.from_public_bytes(bytes(32)))
    delete_key(nss_token, key.info)


def test_a_key_that_is_gone_with_its_public_half(nss_token: Token) -> None:
    before = {key.label for key in list_keys(nss_token)}
    delete_key(nss_token, generate_key(nss_token, "short-lived", KeySpec.parse("ml-kem-768")))
    assert {key.label for key in list_keys(nss_token)} == before
    with nss_token.borrow("look for public keys") as session:
        template = {Attribute.CLASS: ObjectClass.PUBLIC_KEY, Attribute.LABEL: "short-lived"}
        assert list(session.binding.get_objects(template)) == []


def test_a_key_that_may_not_decapsulate_is_told(
    lattice_key: Callable[[str], TokenKey], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_secret, "decapsulate", lambda key, _: shared_secret._method(key, "missing"))  # noqa: SLF001
    with pytest.raises(MechanismError, match="not made to agree"):
        lattice_key("ml-kem-768").decapsulate(bytes(1088))


@pytest.mark.parametrize(
    ("failure", "expected"),
    [
        (pkcs11.ArgumentsBad, DecryptionError),
        (pkcs11.TemplateInconsistent, MechanismError),
        (pkcs11.MechanismInvalid, MechanismError),
    ],
)
def test_a_refusal_is_told_apart_from_what_a_token_cannot_do(
    lattice_key: Callable[[str], TokenKey],
    monkeypatch: pytest.MonkeyPatch,
    failure: type[Exception],
    expected: type[Exception],
) -> None:
    def fail(*_: object) -> bytes:
        raise failure

    monkeypatch.setattr(shared_secret, "decapsulate", fail)
    with pytest.raises(expected):
        lattice_key("ml-kem-768").decapsulate(bytes(1088))


def test_wycheproof_through_the_token(
    nss_token: Token,
    lattice_key: Callable[[str], TokenKey],
    corpora: Callable[[str], Path],
    tally: Any,  # noqa: ANN401
) -> None:
    content = json.loads(corpora("wycheproof/mlkem_768_test.json").read_text())
    for case in (case for group in content["testGroups"] for case in group["tests"]):
        seed, ciphertext = bytes.fromhex(case["seed"]), bytes.fromhex(case["c"])
        if len(seed) != 64:
            assert case["result"] == "invalid"
            tally.skip("a seed of another size than 64 octets makes no key")
            continue
        public_key = mlkem.MLKEM768PrivateKey.from_seed_bytes(seed).public_key()
        with nss_token.borrow("import a test key", change=True) as session:
            made = session.binding.create_object(
                {
                    Attribute.CLASS: ObjectClass.PRIVATE_KEY,
                    Attribute.KEY_TYPE: KeyType.ML_KEM,
                    Attribute.TOKEN: False,
                    Attribute.PRIVATE: True,
                    Attribute.SENSITIVE: True,
                    Attribute.EXTRACTABLE: False,
                    Attribute.DECAPSULATE: True,
                    Attribute.LABEL: "wycheproof",
                    Attribute.ID: b"wycheproof",
                    Attribute.PARAMETER_SET: MLKEMParameterSet.ML_KEM_768,
                    Attribute.SEED: seed,
                }
            )
        info = replace(
            lattice_key("ml-kem-768").info, label="wycheproof", id=b"wycheproof", public_key=public_key
        )
        try:
            outcome = TokenKey(nss_token, info).decapsulate(ciphertext).hex()
        except DecryptionError:
            outcome = None
        finally:
            made.destroy()
        tally.check(case["tcId"], outcome, case["K"] if case["result"] == "valid" else None)
    assert tally.passed + tally.skips.total() == content["numberOfTests"] == 193


def test_parameter_sets_that_are_not_known_are_named_as_such() -> None:
    odd = {Attribute.KEY_TYPE: int(KeyType.ML_KEM), Attribute.PARAMETER_SET: 9, Attribute.VALUE: b""}
    assert spec_of(odd) == "ml-kem:unknown"
    assert decode(odd) is None
    small = odd | {Attribute.PARAMETER_SET: 1}
    assert spec_of(small) == "ml-kem-512"
    assert decode(small) is None
