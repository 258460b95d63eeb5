"""RSA decryption: every padding, and wrong ones, which nobody can tell from each other."""

from __future__ import annotations

import io
import secrets
from functools import partial
from typing import TYPE_CHECKING, Final

from asn1crypto import cms
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from tests.modules.suite.bench import MESSAGE, Bench, decrypted
from tests.modules.suite.cells import Case
from tests.modules.suite.signing import RSA
from tokensign.algorithms import KeyUsage
from tokensign.cms.encrypt import encrypt
from tokensign.errors import DecryptionError
from tokensign.keys import OaepTransport, Pkcs1Transport
from tokensign.token.capabilities import TRANSPORTS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tokensign.keys import KeyTransport

__all__ = ["cases"]

TABLE: Final = "RSA decryption"
_KEY_SIZE: Final = 32  # octets of an AES-256 key


def cases(bench: Bench) -> Iterator[Case]:
    """Every key transport, then messages, then wrong paddings."""
    for transport in TRANSPORTS:
        label = ", label" if isinstance(transport, OaepTransport) and transport.label else ""
        yield Case(TABLE, f"{transport}{label}", partial(_unwrap, bench, transport))
    for transport in (Pkcs1Transport(), OaepTransport()):
        name = "OAEP" if isinstance(transport, OaepTransport) else "PKCS#1 v1.5"
        yield Case(TABLE, f"a CMS message, {name}", partial(_open, bench, transport))
        yield Case(
            TABLE, f"wrong paddings fail like all else, {name}", partial(_refuse_all_alike, bench, transport)
        )


def _encrypted(public_key: rsa.RSAPublicKey, secret: bytes, transport: KeyTransport) -> bytes:
    scheme: padding.AsymmetricPadding = padding.PKCS1v15()
    if isinstance(transport, OaepTransport):
        mask = padding.MGF1(transport.mgf_digest.primitive())
        scheme = padding.OAEP(mask, transport.digest.primitive(), transport.label or None)
    return public_key.encrypt(secret, scheme)


def _unwrap(bench: Bench, transport: KeyTransport) -> None:
    key = bench.key(RSA, KeyUsage.DECRYPT)
    assert isinstance(key.public_key, rsa.RSAPublicKey)
    for size in (16, _KEY_SIZE):
        secret = secrets.token_bytes(size)
        assert key.unwrap(_encrypted(key.public_key, secret, transport), transport) == secret


def _open(bench: Bench, transport: KeyTransport) -> None:
    key = bench.recipient(RSA)
    assert decrypted(_message(bench, transport), key) == MESSAGE


def _message(bench: Bench, transport: KeyTransport) -> bytes:
    message = io.BytesIO()
    recipients = bench.recipient(RSA).certificates[:1]
    encrypt(io.BytesIO(MESSAGE), recipients, message, transport=transport)
    return message.getvalue()


def _refuse_all_alike(bench: Bench, transport: KeyTransport) -> None:
    """A wrong key, a short one, blocks of other types and no padding at all (RFC 3218): one answer."""
    key = bench.recipient(RSA)
    assert isinstance(key.public_key, rsa.RSAPublicKey)
    message = _message(bench, transport)
    own = cms.ContentInfo.load(message)["content"]["recipient_infos"][0].chosen["encrypted_key"].native
    octets = key.public_key.key_size // 8
    filler = b"\xff" * (octets - _KEY_SIZE - 3)
    wrong = {
        "another key": _encrypted(key.public_key, secrets.token_bytes(_KEY_SIZE), transport),
        "a short key": _encrypted(key.public_key, secrets.token_bytes(5), transport),
        "block type 1": _raw(key.public_key, b"\0\1" + filler + b"\0" + secrets.token_bytes(_KEY_SIZE)),
        "no zero octet": _raw(key.public_key, b"\0\2" + b"\xff" * (octets - 2)),
        "no padding": _raw(key.public_key, b"\0" * (octets - 1) + b"\2"),
    }
    assert decrypted(message, key) == MESSAGE
    answers = {name: _answer(message.replace(own, other), key) for name, other in wrong.items()}
    answers["a changed tag"] = _answer(message[:-1] + bytes([message[-1] ^ 1]), key)
    assert len(set(answers.values())) == 1, answers
    assert decrypted(message, key) == MESSAGE  # no session is spoiled


def _raw(public_key: rsa.RSAPublicKey, block: bytes) -> bytes:
    numbers = public_key.public_numbers()
    return pow(int.from_bytes(block), numbers.e, numbers.n).to_bytes(len(block))


def _answer(message: bytes, key: object) -> tuple[str, str, str | None]:
    """All that somebody outside sees of a decryption that fails."""
    try:
        decrypted(message, key)  # type: ignore[arg-type]  # a key of the token
    except DecryptionError as error:
        return type(error).__name__, error.message, error.hint
    raise AssertionError("it is decrypted")
