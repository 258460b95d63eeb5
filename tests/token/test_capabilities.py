"""What a token can do, and that tokensign finds its way: on SoftHSM, on a SoftHSM with less, and on NSS."""

from __future__ import annotations

import json
import os
import sys
import textwrap
from subprocess import run
from typing import TYPE_CHECKING, Any

import pytest

from tokensign.algorithms import KeySpec, KeyUsage
from tokensign.token import (
    Ability,
    Pin,
    Quirk,
    TokenKey,
    capabilities,
    check_key,
    delete_key,
    find_key,
    generate_key,
    generate_secret_key,
    open_key,
    open_token,
    try_key,
    try_secret_key,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tokensign.token import Module, Token

ON_HOST = "hashed on the host"
PADDED = "CKM_RSA_X_509, hashed and padded on the host"


@pytest.fixture(scope="module")
def fresh(module: Module, new_token: Callable[..., str], user_pin: str) -> Iterator[Token]:
    """A token of which nothing is known yet."""
    with open_token(module, new_token(), Pin(user_pin), read_write=True) as opened:
        yield opened


def named(abilities: tuple[Ability, ...]) -> dict[str, Ability]:
    return {ability.name: ability for ability in abilities}


def test_the_list_of_mechanisms_tells_what_may_work_without_a_pin(module: Module, fresh: Token) -> None:
    known = capabilities(fresh)
    assert capabilities(fresh) is known
    assert known.mechanisms["RSA_PKCS"].minimum_size == 512
    assert known.limits
    assert (known.limits.minimum_pin_size, known.limits.maximum_pin_size) == (4, 255)
    assert known.limits.maximum_sessions is None
    signatures = named(known.signatures)
    assert signatures["ecdsa with sha256"] == Ability(
        "sign", "ecdsa with sha256", possible=True, way=f"CKM_ECDSA, {ON_HOST}"
    )
    lacking = signatures["ml-dsa-65 with sha512"]
    assert (lacking.possible, lacking.way, lacking.tried) == (False, "the token lacks CKM_ML_DSA", False)
    assert named(known.abilities)["AES key wrap with padding"].way == "CKM_AES_KEY_WRAP_PAD"
    with module.gate.shared():  # nobody logged in for this
        assert not fresh.connection.module.functions.is_logged_in(_session(fresh))


def _session(token: Token) -> int:
    with token.borrow("look", public=True) as session:
        return session.handle


def test_a_key_shows_what_really_works(fresh: Token) -> None:
    info = generate_key(fresh, "rsa", KeySpec.parse("rsa:2048"), KeyUsage.BOTH)
    found = named(try_key(open_key(fresh, info)))
    assert all(ability.possible and ability.tried for ability in found.values())
    assert found["rsa-pss with sha256"].way == f"CKM_RSA_PKCS_PSS, {ON_HOST}"
    assert found["rsa-pss with sha3_256"].way == PADDED
    assert (
        found["RSA-OAEP with sha1, MGF1 with sha1"].way == "CKM_RSA_PKCS_OAEP, padding removed on the token"
    )
    assert found["RSA-OAEP with sha256, MGF1 with sha256"].way == "CKM_RSA_X_509, padding removed on the host"
    assert found.items() <= named(capabilities(fresh).abilities).items()


def test_a_trial_makes_no_signature(
    token_key: Callable[..., TokenKey], monkeypatch: pytest.MonkeyPatch
) -> None:
    key = token_key("ec:p256")
    with monkeypatch.context() as patch:
        patch.setattr(key.token.module.functions, "C_Sign", None)
        assert all(ability.possible for ability in try_key(key))


def test_agreement_and_derivation_are_tried(token_key: Callable[..., TokenKey]) -> None:
    found = named(try_key(token_key("ec:p384", KeyUsage.DECRYPT)))
    assert found["ECDH with ec:p384"].possible
    assert not found["ECDH with the X9.63 derivation of sha256"].possible  # SoftHSM has CKD_NULL only
    assert named(try_key(token_key("x25519", KeyUsage.DECRYPT)))["ECDH with x25519"].possible


def test_a_secret_key_shows_that_it_wraps(fresh: Token) -> None:
    ability = try_secret_key(generate_secret_key(fresh, "kek"))
    assert (ability.name, ability.possible, ability.tried) == ("AES key wrap", True, True)


# --- a token with less: SoftHSM that is configured to lack mechanisms

RESTRICTED = """
    import json, os, sys
    from cryptography.hazmat.primitives.asymmetric import ec, padding
    from tokensign.algorithms import DIGESTS, KeySpec, KeyUsage, signature_scheme
    from tokensign.errors import TokensignError
    from tokensign.keys import OaepTransport, Pkcs1Transport
    from tokensign.token import *
    SHA1, SHA256 = DIGESTS["sha1"], DIGESTS["sha256"]
    def told(function, *arguments):
        try:
            return function(*arguments)
        except TokensignError as error:
            return f"{type(error).__name__}: {error.message}"
    module = load_module(sys.argv[1])
    initialize_token(module, "small", Pin(sys.argv[2]), Pin(sys.argv[3]))
    answers = {}
    with open_token(module, "small", Pin(sys.argv[3]), read_write=True) as token:
        key = open_key(token, generate_key(token, "rsa", KeySpec.parse("rsa:2048"), KeyUsage.BOTH))
        def oaep(entry):
            mask = padding.MGF1(entry.primitive())
            return key.public_key.encrypt(b"secret", padding.OAEP(mask, entry.primitive(), None))
"""


@pytest.fixture
def restricted(
    tmp_path: Path, module_path: Path, so_pin: str, user_pin: str
) -> Callable[..., dict[str, Any]]:
    """Run a script on a token of SoftHSM that has these mechanisms and no others; what it answers."""

    def do(script: str, *mechanisms: str) -> dict[str, Any]:
        (tmp_path / "tokens").mkdir()
        listed = ",".join(f"CKM_{name}" for name in ("RSA_PKCS_KEY_PAIR_GEN", "EC_KEY_PAIR_GEN", *mechanisms))
        configuration = tmp_path / "softhsm2.conf"
        configuration.write_text(
            f"directories.tokendir = {tmp_path / 'tokens'}\nobjectstore.backend = file\n"
            f"log.level = ERROR\nslots.mechanisms = {listed}\n"
        )
        text = textwrap.dedent(RESTRICTED) + textwrap.indent(textwrap.dedent(script), "    ")
        text += "\nprint(json.dumps(answers))"
        done = run(
            [sys.executable, "-c", text, str(module_path), so_pin, user_pin],
            env=os.environ | {"SOFTHSM2_CONF": str(configuration)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return dict(json.loads(done.stdout))

    return do


def test_a_token_that_only_hashes_itself_signs_messages(restricted: Callable[..., dict[str, Any]]) -> None:
    answers = restricted(
        """
        scheme, pss = signature_scheme("rsa-pkcs1", SHA256), signature_scheme("rsa-pss", SHA256)
        hash_value = SHA256.new(b"message").digest()
        answers["before"] = told(key.sign_digest, hash_value, scheme)
        sha256 = SHA256.primitive()
        key.public_key.verify(key.sign(b"message", scheme), b"message", padding.PKCS1v15(), sha256)
        with_salt = padding.PSS(padding.MGF1(sha256), 32)
        key.public_key.verify(key.sign(b"message", pss), b"message", with_salt, sha256)
        answers["digest"] = told(key.sign_digest, hash_value, scheme)
        answers["sha512"] = told(key.sign, b"message", signature_scheme("rsa-pkcs1", DIGESTS["sha512"]))
        """,
        "SHA256_RSA_PKCS",
        "SHA256_RSA_PKCS_PSS",
    )
    assert answers["before"] == answers["digest"]
    assert answers["digest"].startswith(
        "MechanismError: the token signs with rsa-pkcs1 with sha256 only what"
    )
    assert "needs CKM_RSA_PKCS or CKM_SHA512_RSA_PKCS or CKM_RSA_X_509" in answers["sha512"]


def test_a_token_that_knows_no_padding_gets_it_from_the_host(
    restricted: Callable[..., dict[str, Any]],
) -> None:
    answers = restricted(
        """
        for name in ("sha224", "sha256", "sha3_512"):
            entry, algorithm = DIGESTS[name], DIGESTS[name].primitive()
            signature = key.sign(b"message", signature_scheme("rsa-pkcs1", entry))
            key.public_key.verify(signature, b"message", padding.PKCS1v15(), algorithm)
            hash_value = entry.new(b"message").digest()
            signature = key.sign_digest(hash_value, signature_scheme("rsa-pss", entry))
            key.public_key.verify(
                signature, b"message", padding.PSS(padding.MGF1(algorithm), entry.size), algorithm
            )
        answers["oaep"] = told(key.unwrap, oaep(SHA1), OaepTransport(SHA1, SHA1)).decode()
        answers["pkcs1"] = told(key.unwrap, bytes(256), Pkcs1Transport())
        """,
        "RSA_X_509",
    )
    assert answers["oaep"] == "secret"
    assert answers["pkcs1"].startswith("MechanismError: cannot decrypt with the key rsa")
    assert "MechanismInvalid" in answers["pkcs1"]


def test_a_token_without_raw_rsa_says_which_parameters_it_does_not_take(
    restricted: Callable[..., dict[str, Any]],
) -> None:
    answers = restricted(
        """
        answers["sha1"] = told(key.unwrap, oaep(SHA1), OaepTransport(SHA1, SHA1)).decode()
        answers["sha256"] = told(key.unwrap, oaep(SHA256), OaepTransport())
        answers["pss"] = told(key.sign, b"message", signature_scheme("rsa-pss", DIGESTS["sha3_256"]))
        """,
        "RSA_PKCS_OAEP",
        "RSA_PKCS_PSS",
    )
    assert answers["sha1"] == "secret"
    assert "ArgumentsBad" in answers["sha256"]
    assert "ArgumentsBad" in answers["pss"]


def test_a_key_that_the_token_could_not_use_is_not_made(restricted: Callable[..., dict[str, Any]]) -> None:
    answers = restricted(
        """
        made = told(generate_key, token, "ec", KeySpec.parse("ec:p256"), KeyUsage.DECRYPT)
        answers["agree"] = made
        answers["left"] = len(list_keys(token))
        key = open_key(token, generate_key(token, "ec", KeySpec.parse("ec:p256")))
        key.sign(b"message", signature_scheme("ecdsa", SHA256))
        """,
        "ECDSA",
    )
    assert answers["agree"].startswith("MechanismError: the token does not agree on secrets with EC keys")
    assert "CKM_ECDH1_DERIVE" in answers["agree"]
    assert answers["left"] == 1  # the RSA key


# --- NSS


def test_nss_signs_with_ed25519_and_with_pss_and_sha3(nss_token: Token) -> None:
    for spec in ("ed25519", "rsa:2048"):
        key = open_key(nss_token, generate_key(nss_token, f"tried {spec}", KeySpec.parse(spec)))
        found = named(try_key(key))
        assert all(ability.possible for ability in found.values())
        if spec == "ed25519":
            from tokensign.algorithms import default_scheme

            signature = key.sign(b"message", default_scheme(key.public_key))
            key.public_key.verify(signature, b"message")  # type: ignore[union-attr,call-arg]  # Ed25519
        else:
            assert found["rsa-pss with sha3_256"].way == PADDED
        delete_key(nss_token, key.info)


def test_nss_derives_with_a_kdf_as_well(nss_token: Token) -> None:
    info = generate_key(nss_token, "derives", KeySpec.parse("ec:p256"), KeyUsage.DECRYPT)
    found = named(try_key(open_key(nss_token, info)))
    assert found["ECDH with the X9.63 derivation of sha256"].possible
    delete_key(nss_token, info)


def test_the_origin_that_nss_denies_is_unknown_and_not_weak(nss_token: Token) -> None:
    assert capabilities(nss_token).has(Quirk.LOCAL_DENIED)
    generate_key(nss_token, "born here", KeySpec.parse("ec:p256"))
    info = find_key(nss_token, "born here")
    assert info.local is None
    assert not check_key(nss_token, info).weak
    delete_key(nss_token, info)
