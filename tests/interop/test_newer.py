"""ML-DSA, SLH-DSA, ML-KEM and X25519 with a Bouncy Castle that knows them; private keys on tokens."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from peers.bouncy_castle import NewerBouncyCastle
from peers.schemes import LATTICE_KEY_TYPES, Envelope
from peers.structures import (
    NEWER,
    READ_ONLY,
    Agreement,
    Encapsulation,
    HashSignature,
    LatticeSignature,
    Parties,
)

from tokensign.algorithms import KeySpec
from tokensign.certificates import Certificate
from tokensign.cms.decrypt import decrypt
from tokensign.cms.encrypt import encrypt
from tokensign.cms.signed import sign_attached
from tokensign.cms.signed_data import read_signed_data
from tokensign.cms.verify import verify_signatures
from tokensign.token import generate_key, import_certificate, open_key

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from peers.identities import Authority
    from peers.peer import Peer
    from peers.schemes import KeyType

    from tokensign.token import Token, TokenKey

TABLE = "Post-quantum cryptography, and what else is new"
CONTENT = b"bytes that text modes would change: \n \r\n \r \x00 \x1a \xff" * 500

Structure = LatticeSignature | HashSignature | Encapsulation | Agreement | Envelope

pytestmark = pytest.mark.parametrize("structure", NEWER, ids=str)


@pytest.fixture(scope="module")
def peer(start_peer: Callable[[str], Peer]) -> Peer:
    """The only one that knows these; hides the fixture for all others."""
    return start_peer(NewerBouncyCastle.name)


@pytest.fixture(scope="module")
def keys(
    nss_token: Token, token_keys: Mapping[KeyType, TokenKey], authority: Authority
) -> Mapping[KeyType, TokenKey]:
    """The keys on SoftHSM, and those on a token that knows ML-DSA and ML-KEM."""
    lattice_keys: dict[KeyType, TokenKey] = {}
    for key_type in LATTICE_KEY_TYPES:
        info = generate_key(nss_token, key_type, KeySpec.parse(key_type))
        certificate = authority.issue(f"token-{key_type}", open_key(nss_token, info).public_key)
        import_certificate(nss_token, Certificate(certificate.public_bytes(Encoding.DER)))
        lattice_keys[key_type] = open_key(nss_token, info)
    return {**token_keys, **lattice_keys}


@pytest.fixture(scope="module")
def parties(parties: Parties, keys: Mapping[KeyType, TokenKey], authority: Authority) -> Parties:
    """Those with classical keys, and those with ML-DSA and ML-KEM."""
    people = {name: authority.person(f"peer-{name}", name) for name in LATTICE_KEY_TYPES}
    token = {
        name: x509.load_der_x509_certificate(keys[name].certificates[0].der) for name in LATTICE_KEY_TYPES
    }
    return Parties({**parties.people, **people}, {**parties.token, **token})


def write(
    structure: LatticeSignature | Encapsulation | Agreement | Envelope,
    parties: Parties,
    keys: Mapping[KeyType, TokenKey],
) -> bytes:
    output = io.BytesIO()
    if isinstance(structure, LatticeSignature):
        sign_attached(io.BytesIO(CONTENT), [keys[structure.key_type]], output)
    else:
        certificate = parties.people[structure.key_type].certificate.public_bytes(Encoding.DER)
        encrypt(io.BytesIO(CONTENT), [Certificate(certificate)], output, cipher=structure.cipher)
    return output.getvalue()


def read(structure: Structure, encoded: bytes, keys: Mapping[KeyType, TokenKey]) -> bytes:
    output = io.BytesIO()
    if isinstance(structure, LatticeSignature | HashSignature):
        message = read_signed_data(io.BytesIO(encoded))
        assert message.content is not None
        (result,) = verify_signatures(message, message.content.chunks(), copy=output.write)
        assert result.error is None
    else:
        result = decrypt(io.BytesIO(encoded), [keys[structure.key_type]], output)
        assert result.cipher == structure.cipher
    return output.getvalue()


def test_peer_reads_what_tokensign_writes(
    peer: Peer,
    parties: Parties,
    keys: Mapping[KeyType, TokenKey],
    record_cell: Callable[..., None],
    structure: Structure,
) -> None:
    refusal: str | None = READ_ONLY
    if not isinstance(structure, HashSignature) and getattr(structure, "written", True):
        message = write(structure, parties, keys)
        with peer.attempt("read", structure) as attempt:
            assert peer.read(structure, message, parties) == CONTENT
        refusal = attempt.refusal
    record_cell(TABLE, structure, "tokensign → {peer}", refusal)


def test_tokensign_reads_what_peer_writes(
    peer: Peer,
    parties: Parties,
    keys: Mapping[KeyType, TokenKey],
    record_cell: Callable[..., None],
    structure: Structure,
) -> None:
    with peer.attempt("write", structure) as attempt:
        message = peer.write(structure, CONTENT, parties)
    if attempt.refusal is None:
        assert read(structure, message, keys) == CONTENT
    record_cell(TABLE, structure, "{peer} → tokensign", attempt.refusal)
