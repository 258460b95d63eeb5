"""What a program does with a token, once each; prints the outcomes as JSON.

    python -m tests.modules.try_token

It runs where the module lives, with the variables of `tests.modules.base.RunningModule`.
"""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from tokensign.algorithms import KeySpec, KeyUsage, default_scheme
from tokensign.errors import PinIncorrectError
from tokensign.keys import OaepTransport
from tokensign.token import (
    Pin,
    check_key,
    generate_key,
    list_keys,
    load_module,
    open_key,
    open_token,
    parse_pin_source,
)

if TYPE_CHECKING:
    from tokensign.token import Token

MESSAGE = b"message"
CONTENT_KEY = bytes(range(32))


def signs_with_elliptic_curve(token: Token) -> bool:
    key = open_key(token, generate_key(token, "elliptic", KeySpec.parse("ec:p256")))
    public_key = key.public_key
    assert isinstance(public_key, ec.EllipticCurvePublicKey)
    public_key.verify(key.sign(MESSAGE, default_scheme(public_key)), MESSAGE, ec.ECDSA(hashes.SHA256()))
    return not check_key(token, "elliptic").weak


def signs_with_rsa(token: Token) -> bool:
    key = open_key(token, generate_key(token, "rsa-sign", KeySpec.parse("rsa:2048"), KeyUsage.SIGN))
    public_key = key.public_key
    assert isinstance(public_key, rsa.RSAPublicKey)
    signature = key.sign(MESSAGE, default_scheme(public_key))
    public_key.verify(signature, MESSAGE, padding.PKCS1v15(), hashes.SHA256())
    return not check_key(token, "rsa-sign").weak


def decrypts_with_rsa(token: Token) -> bool:
    key = open_key(token, generate_key(token, "rsa-decrypt", KeySpec.parse("rsa:2048"), KeyUsage.DECRYPT))
    public_key = key.public_key
    assert isinstance(public_key, rsa.RSAPublicKey)
    scheme = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)
    return key.unwrap(public_key.encrypt(CONTENT_KEY, scheme), OaepTransport()) == CONTENT_KEY


def main() -> None:
    """Use the token that the environment names."""
    module = load_module(os.environ["TOKENSIGN_MODULE"])
    label, source = os.environ["TOKENSIGN_TOKEN"], parse_pin_source(os.environ["TOKENSIGN_PIN_SOURCE"])
    outcomes: dict[str, object] = {}
    try:
        with open_token(module, label, Pin("wrong-1")) as token:
            list_keys(token)
    except PinIncorrectError:
        outcomes["wrong PIN"] = "refused"
    with open_token(module, label, source, read_write=True) as token:
        for step in (signs_with_elliptic_curve, signs_with_rsa, decrypts_with_rsa):
            outcomes[step.__name__] = step(token)
        outcomes["keys"] = [key.label for key in list_keys(token)]
    json.dump(outcomes, sys.stdout)


if __name__ == "__main__":
    main()
