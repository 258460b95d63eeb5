"""What really goes to the module, as OpenSC's pkcs11-spy sees it."""

from __future__ import annotations

import os
import re
import sys
import textwrap
from pathlib import Path
from subprocess import run
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

SPIES = (
    f"/usr/lib/{os.uname().machine}-linux-gnu/pkcs11-spy.so",
    "/usr/lib64/pkcs11-spy.so",
    "/usr/lib/pkcs11-spy.so",
    "/Library/OpenSC/lib/pkcs11-spy.so",
)
SECRET_ATTRIBUTES = (
    "CKA_PRIVATE_EXPONENT",
    "CKA_PRIME_1",
    "CKA_PRIME_2",
    "CKA_EXPONENT_1",
    "CKA_EXPONENT_2",
    "CKA_COEFFICIENT",
)
PIN = "a-very-secret-pin"

USE = """
    import logging, sys
    from cryptography.hazmat.primitives.asymmetric import ec, padding
    from tokensign.algorithms import KeySpec, KeyUsage, default_scheme
    from tokensign.errors import TokensignError
    from tokensign.keys import OaepTransport, Pkcs1Transport
    from tokensign.token import *
    logging.basicConfig(level=0)
    module = load_module(sys.argv[1])
"""
WORK = """
    with open_token(module, sys.argv[2], "env:PIN", read_write=True) as token:
        for spec in ("rsa:2048", "ec:p256", "ed25519"):
            info = generate_key(token, spec, KeySpec.parse(spec))
            key = open_key(token, info)
            key.sign(b"message", default_scheme(key.public_key))
            check_key(token, info).require_strong()
        key = open_key(token, generate_key(token, "decrypt", KeySpec.parse("rsa:2048"), KeyUsage.DECRYPT))
        key.unwrap(key.public_key.encrypt(b"k", padding.PKCS1v15()), Pkcs1Transport())
        from cryptography.hazmat.primitives import hashes
        oaep = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)
        key.unwrap(key.public_key.encrypt(b"k", oaep), OaepTransport())
        key = open_key(token, generate_key(token, "agree", KeySpec.parse("ec:p256"), KeyUsage.DECRYPT))
        key.agree(ec.generate_private_key(ec.SECP256R1()).public_key())
        print(token, token.info, list_keys(token), token.credential)
"""
EACH_TIME = """
    from pkcs11 import Attribute, KeyType
    from cryptography.hazmat.primitives import hashes
    from tokensign.algorithms import DIGESTS
    def oaep(name):
        entry = DIGESTS[name].primitive()
        return padding.OAEP(padding.MGF1(entry), entry, None), OaepTransport(DIGESTS[name], DIGESTS[name])
    with open_token(module, sys.argv[2], "env:PIN", read_write=True) as token:
        with token.borrow("generate", change=True) as session:
            session.binding.generate_keypair(
                KeyType.RSA, 2048, label="each", id=b"1", store=True,
                private_template={Attribute.ALWAYS_AUTHENTICATE: True},
            )
        key = open_key(token, "each")
        key.sign(b"message", default_scheme(key.public_key))
        assert key.unwrap(key.public_key.encrypt(b"k", padding.PKCS1v15()), Pkcs1Transport()) == b"k"
        for name in ("sha1", "sha256", "sha256"):  # on the token; raw RSA, since SoftHSM knows only SHA-1
            scheme, transport = oaep(name)
            assert key.unwrap(key.public_key.encrypt(b"k", scheme), transport) == b"k"
        try_key(key)
"""
WRAP = """
    from cryptography.hazmat.primitives import keywrap
    from pkcs11 import Attribute, KeyType, ObjectClass
    with open_token(module, sys.argv[2], "env:PIN", read_write=True) as token:
        with token.borrow("import", change=True) as session:
            session.binding.create_object({
                Attribute.CLASS: ObjectClass.SECRET_KEY, Attribute.KEY_TYPE: KeyType.AES,
                Attribute.VALUE: bytes(32), Attribute.TOKEN: True, Attribute.UNWRAP: True,
                Attribute.LABEL: "kek", Attribute.ID: b"kek",
            })
        key = open_secret_key(token, "kek")
        for _ in range(3):
            assert key.unwrap_padded_key(keywrap.aes_key_wrap_with_padding(bytes(32), b"key")) == b"key"
"""
WRONG = """
    with open_token(module, sys.argv[2], "env:PIN") as token:
        for _ in range(3):
            try:
                list_keys(token)
            except TokensignError as error:
                print(repr(error), error.hint)
"""


@pytest.fixture
def spied(
    module_path: Path, new_token: Callable[..., str], tmp_path: Path
) -> Callable[[str, str], tuple[str, str]]:
    """Run a script on a new token through the spy; the trace, and everything that the script printed."""
    spy = next((path for path in SPIES if Path(path).exists()), None)
    if spy is None:
        pytest.skip("pkcs11-spy is not installed: it comes with OpenSC")
    label = new_token()

    def do(script: str, pin: str) -> tuple[str, str]:
        trace = tmp_path / "trace"
        done = run(
            [sys.executable, "-c", textwrap.dedent(USE + script), str(spy), label],
            env=os.environ | {"PKCS11SPY": str(module_path), "PKCS11SPY_OUTPUT": str(trace), "PIN": pin},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return trace.read_text(errors="replace"), done.stdout + done.stderr

    return do


def calls(trace: str) -> list[str]:
    return re.findall(r"^\d+: (C_\w+)", trace, re.MULTILINE)


def outputs(trace: str, function: str) -> set[str]:
    """The handles of objects that calls of a function made."""
    return {
        handle
        for call in re.findall(rf"^\d+: {function}\n(.*?)(?=^\d+: |\Z)", trace, re.MULTILINE | re.DOTALL)
        for handle in re.findall(r"^\[out\] h\w*Key = (0x[0-9a-f]+)", call, re.MULTILINE)
    }


def values_read(trace: str) -> set[str]:
    """The handles of objects whose CKA_VALUE was asked for: of a private key it is the key itself."""
    asked = re.findall(r"^\d+: C_GetAttributeValue\n(.*?)(?=^\d+: |\Z)", trace, re.MULTILINE | re.DOTALL)
    return {
        handle
        for call in asked
        if "CKA_VALUE " in call
        for handle in re.findall(r"^\[in\] hObject = (0x[0-9a-f]+)", call, re.MULTILINE)
    }


def test_no_private_value_is_read_and_no_key_wrapped(
    spied: Callable[[str, str], tuple[str, str]], user_pin: str
) -> None:
    trace, output = spied(WORK, user_pin)
    made = calls(trace)
    assert made.count("C_GenerateKeyPair") == 5
    assert made.count("C_Sign") == made.count("C_SignInit") == 3
    assert made.count("C_Decrypt") == made.count("C_DecryptInit") - 1  # SoftHSM refuses OAEP with SHA-256
    assert made.count("C_Login") == 1
    assert not {"C_WrapKey", "C_GetOperationState"} & set(made)
    assert "CKA_SENSITIVE" in trace
    for name in SECRET_ATTRIBUTES:
        assert name not in trace
    secrets = outputs(trace, "C_DeriveKey")
    assert len(secrets) == made.count("C_DeriveKey") == 1
    assert values_read(trace) == secrets  # what a key agreed on, and nothing of a key
    assert user_pin not in output


def test_wrong_pin_reaches_the_token_once(spied: Callable[[str, str], tuple[str, str]]) -> None:
    trace, output = spied(WRONG, PIN)
    assert calls(trace).count("C_Login") == 1
    assert calls(trace).count("C_OpenSession") == calls(trace).count("C_CloseSession")
    assert output.count("tried once") == 1
    assert output.count("not tried again") == 2
    assert PIN not in output


def test_a_key_that_wants_the_pin_each_time_gets_it_between_init_and_operation(
    spied: Callable[[str, str], tuple[str, str]], user_pin: str
) -> None:
    trace, _ = spied(EACH_TIME, user_pin)
    made = calls(trace)
    operations = [number for number, name in enumerate(made) if name in ("C_Sign", "C_Decrypt")]
    for number in operations:
        name = made[number]
        assert made[number - 2 : number] == [f"{name}Init", "C_Login"]
    assert [made[number] for number in operations] == ["C_Sign", *["C_Decrypt"] * 4]
    assert made.count("C_Login") == 1 + len(operations)  # no trial costs a PIN
    assert trace.count("CKU_CONTEXT_SPECIFIC") == len(operations)


def test_the_way_to_unwrap_is_found_once(spied: Callable[[str, str], tuple[str, str]], user_pin: str) -> None:
    trace, _ = spied(WRAP, user_pin)
    mechanisms = re.findall(r"C_UnwrapKey\n.*?\[in\] pMechanism->type ?= ?(\w+)", trace, re.DOTALL)
    assert len(mechanisms) > 3
    assert len(set(mechanisms[-3:])) == 1
    assert mechanisms[-1] not in mechanisms[:-3]
