"""Key agreement and encapsulation: the secret is the one that cryptography computes, and opens a message."""

from __future__ import annotations

import io
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from cryptography.hazmat.primitives.asymmetric import ec, x448, x25519

from tests.modules.suite.bench import MESSAGE, Bench, decrypted
from tests.modules.suite.cells import Case
from tests.modules.suite.signing import CURVES
from tokensign.algorithms import KeyUsage
from tokensign.cms.encrypt import encrypt

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["AGREEING", "ENCAPSULATING", "cases"]

TABLE: Final = "Key agreement and encapsulation"
AGREEING: Final = (*CURVES, "x25519", "x448")
ENCAPSULATING: Final = ("ml-kem-768", "ml-kem-1024")


def cases(bench: Bench) -> Iterator[Case]:
    """Each type of key, alone and in CMS."""
    for spec in AGREEING:
        yield Case(TABLE, f"a secret, {spec}", partial(_agree, bench, spec))
    for spec in ENCAPSULATING:
        yield Case(TABLE, f"a secret, {spec}", partial(_decapsulate, bench, spec))
    for spec in (*AGREEING, *ENCAPSULATING):
        yield Case(TABLE, f"a CMS message, {spec}", partial(_open, bench, spec))


def _agree(bench: Bench, spec: str) -> None:
    key = bench.key(spec, KeyUsage.DECRYPT)
    own: Any = key.public_key
    peer: Any
    match own:
        case ec.EllipticCurvePublicKey():
            peer = ec.generate_private_key(own.curve)
            secret = peer.exchange(ec.ECDH(), own)
        case x25519.X25519PublicKey():
            peer = x25519.X25519PrivateKey.generate()
            secret = peer.exchange(own)
        case _:
            peer = x448.X448PrivateKey.generate()
            secret = peer.exchange(own)
    assert key.agree(peer.public_key()) == secret


def _decapsulate(bench: Bench, spec: str) -> None:
    key = bench.key(spec, KeyUsage.DECRYPT)
    public_key: Any = key.public_key
    secret, ciphertext = public_key.encapsulate()
    assert key.decapsulate(ciphertext) == bytes(secret)


def _open(bench: Bench, spec: str) -> None:
    key = bench.recipient(spec)
    message = io.BytesIO()
    encrypt(io.BytesIO(MESSAGE), key.certificates[:1], message)
    assert decrypted(message.getvalue(), key) == MESSAGE
