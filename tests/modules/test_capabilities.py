"""The ways that tokensign takes on modules that differ, and what it says of them."""

from __future__ import annotations

import json
import re
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.modules.registry import MODULES

if TYPE_CHECKING:
    from collections.abc import Callable
    from subprocess import CompletedProcess

    from tests.modules.base import RunningModule

SPIES = ("/usr/lib/x86_64-linux-gnu/pkcs11-spy.so", "/usr/lib64/pkcs11-spy.so", "/usr/lib/pkcs11-spy.so")
EACH_TIME = """
    import os
    from cryptography.hazmat.primitives.asymmetric import padding
    from tokensign.algorithms import DIGESTS, default_scheme
    from tokensign.keys import OaepTransport, Pkcs1Transport
    from tokensign.token import *

    with open_token(os.environ["TOKENSIGN_MODULE"], os.environ["TOKENSIGN_TOKEN"],
                    os.environ["TOKENSIGN_PIN_SOURCE"]) as token:
        key = open_key(token, "SIGN key")
        key.sign(b"message", default_scheme(key.public_key))
        if "decrypt" in key.info.usages:
            encrypted = key.public_key.encrypt(b"k", padding.PKCS1v15())
            assert key.unwrap(encrypted, Pkcs1Transport()) == b"k"
            for name, mask in (("sha256", "sha256"), ("sha256", "sha1")):
                digest, mask = DIGESTS[name], DIGESTS[mask]
                scheme = padding.OAEP(padding.MGF1(mask.primitive()), digest.primitive(), None)
                encrypted = key.public_key.encrypt(b"k", scheme)
                assert key.unwrap(encrypted, OaepTransport(digest, mask)) == b"k"
"""


@pytest.mark.parametrize(
    ("name", "expected"), [("piv", ["C_Sign", *["C_Decrypt"] * 3]), ("piv-ec", ["C_Sign"])]
)
def test_the_card_gets_the_pin_between_init_and_operation(
    start_module: Callable[[str], RunningModule], tmp_path: Path, name: str, expected: list[str]
) -> None:
    spy = next((path for path in SPIES if Path(path).exists()), None)
    if spy is None:
        pytest.skip("pkcs11-spy is not installed: it comes with OpenSC")
    running = start_module(name)
    before = running.counts()
    trace = tmp_path / "trace"
    done = running.run(
        [sys.executable, "-c", textwrap.dedent(EACH_TIME)],
        environment={
            "TOKENSIGN_MODULE": spy,
            "PKCS11SPY": str(running.path),
            "PKCS11SPY_OUTPUT": str(trace),
        },
    )
    assert done.returncode == 0, done.stderr
    made = re.findall(r"^\d+: (C_\w+)", trace.read_text(errors="replace"), re.MULTILINE)
    operations = [number for number, call in enumerate(made) if call in ("C_Sign", "C_Decrypt")]
    assert [made[number] for number in operations] == expected
    for number in operations:
        assert made[number - 2 : number] == [f"{made[number]}Init", "C_Login"]
    after = running.counts()
    assert after["VERIFY"] - before.get("VERIFY", 0) == 1 + len(expected)
    assert after["GENERAL AUTHENTICATE"] - before.get("GENERAL AUTHENTICATE", 0) == len(expected)


def test_a_tpm_hashes_where_its_raw_signature_fails(
    start_module: Callable[[str], RunningModule], python: Callable[[RunningModule, str], str]
) -> None:
    lines = """
        from tokensign.algorithms import DIGESTS, KeyUsage, signature_scheme
        from tokensign.errors import DecryptionError, MechanismError

        def refused(function, *arguments):
            try:
                function(*arguments)
            except (MechanismError, DecryptionError) as error:
                print(type(error).__name__, error.message)

        with opened(read_write=True) as token:
            key = open_key(token, generate_key(token, "signs", KeySpec.parse("rsa:2048")))
            sign(key)
            print(*(one.way for one in capabilities(token).signatures if one.tried))
            refused(key.sign_digest, bytes(32), signature_scheme("rsa-pkcs1", DIGESTS["sha256"]))
            refused(key.sign, b"message", signature_scheme("rsa-pss", DIGESTS["sha224"]))
            delete_key(token, key.info)
            refused(generate_key, token, "agrees", KeySpec.parse("ec:p256"), KeyUsage.DECRYPT)
            info = generate_key(token, "decrypts", KeySpec.parse("rsa:2048"), KeyUsage.DECRYPT)
            key = open_key(token, info)
            refused(key.unwrap, bytes(255) + b"\\2", Pkcs1Transport())
            print(info.id in [one.id for one in list_keys(token)])
    """
    said = python(start_module("tpm"), lines).splitlines()
    assert said[0] == "CKM_SHA256_RSA_PKCS, hashed on the token"
    assert said[1].startswith("MechanismError the token signs with rsa-pkcs1 with sha256 only")
    assert "cannot sign with rsa-pss with sha224" in said[2]
    assert "does not agree on secrets" in said[3]
    assert said[4] == "DecryptionError the content key cannot be decrypted"
    assert said[5] == "True"  # the session is of use again


def test_opencryptoki_has_montgomery_keys_and_decides_about_what_is_unwrapped(
    start_module: Callable[[str], RunningModule], python: Callable[[RunningModule, str], str]
) -> None:
    lines = """
        with opened(read_write=True) as token:
            for spec in ("x25519", "x448"):
                info = generate_key(token, spec, KeySpec.parse(spec))
                print(info.spec, all(one.possible for one in try_key(open_key(token, info))))
                delete_key(token, info)
            print(try_secret_key(generate_secret_key(token, "kek")).possible)
    """
    assert python(start_module("opencryptoki"), lines).split() == ["x25519", "True", "x448", "True", "True"]


def test_a_token_is_known_behind_the_proxy(
    start_module: Callable[[str], RunningModule], python: Callable[[RunningModule, str], str]
) -> None:
    lines = """
        with opened() as token:
            print(sorted({known.module.split()[0] for known in capabilities(token).quirks}))
    """
    assert python(start_module("p11-kit-proxy"), lines) == "['SoftHSM', 'p11-kit']"


@pytest.mark.parametrize("name", list(MODULES))
def test_doctor_tells_what_each_module_can_do(
    start_module: Callable[[str], RunningModule],
    tokensign: Callable[..., CompletedProcess[str]],
    name: str,
) -> None:
    done = tokensign(start_module(name), "doctor", "--json")
    findings = json.loads(done.stdout)
    assert [one for one in findings if one["state"] == "failed" and one["subject"] != "keys"] == []
    abilities = [ability for one in findings for ability in one["abilities"]]
    able = {ability["name"] for ability in abilities if ability["possible"]}
    assert {"rsa-pkcs1 with sha256", "ecdsa with sha256", "RSA PKCS#1 v1.5"} <= able
    assert "quirk" in {one["subject"] for one in findings}
