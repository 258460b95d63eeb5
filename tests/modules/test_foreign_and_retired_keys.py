"""Keys from outside, and retired keys, with modules beside SoftHSM."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.modules.base import RunningModule

IMPORTED_AND_RETIRED = """
    import json
    from cryptography.hazmat.primitives.asymmetric import padding, rsa
    from tokensign.algorithms import KeyUsage
    from tokensign.errors import MechanismError

    outside = rsa.generate_private_key(65537, 2048)
    encrypted = outside.public_key().encrypt(b"k" * 16, padding.PKCS1v15())
    said = {}
    with opened(read_write=True) as token:
        info = import_key(token, "old", outside, KeyUsage.BOTH)
        try:
            said["local"] = info.local
            key = open_key(token, "old", KeyUsage.SIGN)
            sign(key)  # which is verified before it is released
            said["retired"] = sorted(retire_key(token, "old").usages)
            try:
                sign(key)
                said["signs"] = True
            except MechanismError:
                said["signs"] = False
            reader = open_key(token, "old", KeyUsage.DECRYPT)
            said["reads"] = reader.unwrap(encrypted, Pkcs1Transport()) == b"k" * 16
        finally:
            delete_key(token, info)
        said["left"] = [one.label for one in list_keys(token) if one.label == "old"]
    print(json.dumps(said))
"""


REFUSED = """
    from cryptography.hazmat.primitives.asymmetric import rsa
    from tokensign.algorithms import KeyUsage
    from tokensign.errors import MechanismError

    with opened(read_write=True) as token:
        try:
            import_key(token, "old", rsa.generate_private_key(65537, 2048), KeyUsage.BOTH)
        except MechanismError as error:
            print(error, "|", [one.label for one in list_keys(token) if one.label == "old"])
"""


@pytest.mark.parametrize(
    "name",
    [
        "nss",
        pytest.param("opencryptoki", marks=pytest.mark.full),
        pytest.param("p11-kit-proxy", marks=pytest.mark.full),
    ],
)
def test_an_imported_key_signs_until_it_is_retired_and_decrypts_on(
    start_module: Callable[[str], RunningModule],
    python: Callable[[RunningModule, str], str],
    name: str,
) -> None:
    said = json.loads(python(start_module(name), IMPORTED_AND_RETIRED))
    assert said.pop("local") is not True  # NSS does not say where a key was born
    assert said == {"retired": ["decrypt"], "signs": False, "reads": True, "left": []}


def test_a_token_that_takes_no_key_from_outside_says_so(
    start_module: Callable[[str], RunningModule], python: Callable[[RunningModule, str], str]
) -> None:
    said = python(start_module("tpm"), REFUSED)
    assert said == "the token does not take the key old from outside | []"
