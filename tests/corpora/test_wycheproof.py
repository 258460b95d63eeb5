"""C2SP Wycheproof: signatures as CMS checks them, and RSA PKCS#1 v1.5 decryption through the token.

The sets for OAEP, key agreement, key wrap and ML-KEM are run where the token's side of them is tested.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.serialization import load_der_private_key, load_der_public_key

from tokensign.algorithms import DIGESTS, digest
from tokensign.cms.signature import ReceivedScheme, verify_signature
from tokensign.errors import BadSignatureError, DecryptionError
from tokensign.keys import Pkcs1Transport

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tokensign.token import TokenKey

FAMILIES = {
    "EcdsaVerify": "ecdsa",
    "EddsaVerify": "eddsa",
    "RsassaPkcs1Verify": "rsa-pkcs1",
    "RsassaPssVerify": "rsa-pss",
    "RsassaPssWithParametersVerify": "rsa-pss",
}
SIGNATURES = [
    "ecdsa_secp256r1_sha256_test",
    "ed25519_test",
    "rsa_pss_2048_sha256_mgf1_32_params_test",
    "rsa_pss_misc_test",
    "rsa_signature_2048_sha256_test",
]
DECRYPTIONS = ["rsa_pkcs1_2048_test", "rsa_pkcs1_3072_test"]
ELSEWHERE = {  # pattern of the sets to the test module below tests/token
    "rsa_oaep_*": "test_oaep.py",
    "ecdh_*": "test_shared_secret.py",
    "x25519_*": "test_shared_secret.py",
    "aes_wrap_*": "test_secret_key.py",
    "mlkem_*": "test_lattice_keys.py",
}


def groups(path: Path) -> Iterator[dict[str, Any]]:
    content = json.loads(path.read_text())
    assert sum(len(group["tests"]) for group in content["testGroups"]) == content["numberOfTests"]
    yield from content["testGroups"]


@pytest.mark.parametrize("name", SIGNATURES)
def test_signatures_are_valid_as_wycheproof_says(
    name: str,
    corpora: Callable[[str], Path],
    tally: Any,  # noqa: ANN401
) -> None:
    for group in groups(corpora(f"wycheproof/{name}.json")):
        family: Any = FAMILIES[group["type"]]
        key: Any = load_der_public_key(bytes.fromhex(group["publicKeyDer"]))
        hashed = DIGESTS["sha512"] if family == "eddsa" else digest(group["sha"])
        mask = digest(group["mgfSha"]) if family == "rsa-pss" else hashed
        scheme = ReceivedScheme(family, hashed, mask, group.get("sLen", 0))
        for case in group["tests"]:
            if case["result"] == "acceptable":
                tally.skip("acceptable: a DigestInfo without NULL may be refused or not")
                continue
            signature, message = bytes.fromhex(case["sig"]), bytes.fromhex(case["msg"])
            try:
                verify_signature(key, scheme, signature, message=message, legacy=True)
                outcome = "valid"
            except BadSignatureError:
                outcome = "invalid"
            tally.check(case["tcId"], outcome, case["result"])


@pytest.mark.parametrize("name", DECRYPTIONS)
def test_pkcs1_decryption_through_the_token(
    name: str,
    corpora: Callable[[str], Path],
    import_key: Callable[..., TokenKey],
    tally: Any,  # noqa: ANN401
) -> None:
    """Every refusal has the one text; what came out of a wrong padding never is what was encrypted."""
    texts = set()
    imported: dict[str, TokenKey] = {}
    for group in groups(corpora(f"wycheproof/{name}.json")):
        encoded = group["privateKeyPkcs8"]
        if encoded not in imported:
            private = load_der_private_key(bytes.fromhex(encoded), None, unsafe_skip_rsa_key_validation=True)
            imported[encoded] = import_key(private)
        for case in group["tests"]:
            try:
                outcome = imported[encoded].unwrap(bytes.fromhex(case["ct"]), Pkcs1Transport())
            except DecryptionError as error:
                texts.add((str(error), error.hint))
                outcome = b""
            if case["result"] == "invalid":
                tally.check(case["tcId"], outcome, b"")
            else:
                tally.check(case["tcId"], outcome, bytes.fromhex(case["msg"]))
    assert len(texts) == 1


def test_every_set_is_run_once(corpora: Callable[[str], Path]) -> None:
    modules = Path(__file__).parents[1] / "token"
    assert all("wycheproof/" in (modules / name).read_text() for name in ELSEWHERE.values())
    for path in corpora("wycheproof").glob("*.json"):
        places = [path.stem in SIGNATURES, path.stem in DECRYPTIONS]
        places += [path.match(f"{pattern}.json") for pattern in ELSEWHERE]
        assert places.count(True) == 1, path.name
