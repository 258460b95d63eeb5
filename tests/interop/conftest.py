"""The peers, and people who have their keys in software on the peers' side."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # the test modules here are loaded by path, and share `peers`

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from peers.bouncy_castle import BouncyCastle, NewerBouncyCastle
from peers.gpgsm import Gpgsm
from peers.identities import Authority, Person
from peers.nss import Nss
from peers.openssl import OpenSsl
from peers.schemes import KEY_TYPES, KeyType
from peers.structures import Parties

from tokensign.algorithms import KeySpec, KeyUsage
from tokensign.certificates import Certificate
from tokensign.token import Pin, generate_key, import_certificate, open_key, open_token

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from peers.peer import Peer

    from tokensign.token import Module, TokenKey

EVERYDAY_PEERS = (OpenSsl, Gpgsm, Nss, BouncyCastle)
PEERS = {peer.name: peer for peer in (*EVERYDAY_PEERS, NewerBouncyCastle)}


@pytest.fixture(scope="session")
def authority() -> Authority:
    """The CA that every peer trusts; it issues for keys on tokens too."""
    return Authority()


@pytest.fixture(scope="session")
def people(authority: Authority) -> dict[KeyType, Person]:
    """For each type of key one person who has such a key in software."""
    return {key_type: authority.person(f"peer-{key_type}", key_type) for key_type in KEY_TYPES}


@pytest.fixture(scope="session")
def token_keys(
    module: Module, new_token: Callable[[str], str], user_pin: str, authority: Authority
) -> Iterator[dict[KeyType, TokenKey]]:
    """For each type of key one that was generated on a SoftHSM token, with its certificate beside it."""
    specs: dict[KeyType, str] = {
        "rsa": "rsa:2048",
        "p256": "ec:p256",
        "p384": "ec:p384",
        "p521": "ec:p521",
        "ed25519": "ed25519",
        "x25519": "x25519",
    }
    with open_token(module, new_token("interop"), Pin(user_pin), read_write=True) as token:
        keys: dict[KeyType, TokenKey] = {}
        for key_type, spec in specs.items():
            usages = KeySpec.parse(spec).usages
            usage = KeyUsage.BOTH if KeyUsage.BOTH in usages else usages[0]
            info = generate_key(token, key_type, KeySpec.parse(spec), usage)
            certificate = authority.issue(f"token-{key_type}", open_key(token, info).public_key)
            import_certificate(token, Certificate(certificate.public_bytes(Encoding.DER)))
            keys[key_type] = open_key(token, info)
        yield keys


@pytest.fixture(scope="session")
def parties(people: dict[KeyType, Person], token_keys: dict[KeyType, TokenKey]) -> Parties:
    """The people, and the certificates of those whose keys are on the token."""
    certificates = {
        key_type: x509.load_der_x509_certificate(key.certificates[0].der)
        for key_type, key in token_keys.items()
    }
    return Parties(people, certificates)


@pytest.fixture(scope="session")
def start_peer(
    authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], Peer]]:
    """A function that gives a peer by its name, started once a session."""
    started: dict[str, Peer] = {}

    def start(name: str) -> Peer:
        if name not in started:
            if shutil.which(PEERS[name].command) is None:
                missing = f"{PEERS[name].command} is not installed"
                if os.environ.get("CI"):
                    pytest.fail(missing)
                pytest.skip(missing)
            started[name] = PEERS[name](tmp_path_factory.mktemp(name.replace(" ", "")), authority)
        return started[name]

    yield start
    for peer in started.values():
        peer.close()


@pytest.fixture(params=[peer.name for peer in EVERYDAY_PEERS])
def peer(request: pytest.FixtureRequest, start_peer: Callable[[str], Peer]) -> Peer:
    """Each of the peers of every day."""
    return start_peer(request.param)


@pytest.fixture
def record_cell(request: pytest.FixtureRequest, peer: Peer) -> Callable[..., None]:
    """A function that notes a cell of docs/interop.md, which write_table.py makes from pytest's JUnit XML."""

    def record(table: str, row: object, direction: str, refusal: str | None) -> None:
        cell = {
            "table": table,
            "row": str(row),
            "peer": peer.name,
            "version": peer.version(),
            "direction": direction,
            "refusal": refusal,
        }
        request.node.user_properties.append(("interop", json.dumps(cell)))

    return record
