"""AES keys that wrap the keys of messages."""

from __future__ import annotations

import io
import secrets
from functools import partial
from typing import TYPE_CHECKING, Final

from tests.modules.suite.bench import MESSAGE, Bench, decrypted
from tests.modules.suite.cells import CannotDoError, Case
from tests.modules.suite.direct import secret_key_answer
from tokensign.cms.encrypt import encrypt
from tokensign.cms.recipients.kek import KekRecipient
from tokensign.errors import DecryptionError, MechanismError
from tokensign.token import generate_secret_key, list_secret_keys, open_secret_key

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tokensign.token import TokenSecretKey

__all__ = ["cases"]

TABLE: Final = "AES key wrap"
_SIZES: Final = (128, 192, 256)


def cases(bench: Bench) -> Iterator[Case]:
    """Each size of key."""
    for bits in _SIZES:
        yield Case(TABLE, f"aes:{bits}", partial(_wrap, bench, bits))
    yield Case(TABLE, "a CMS message, aes:256", partial(_open, bench))


def _key(bench: Bench, bits: int) -> TokenSecretKey:
    label = f"aes:{bits}"
    if label in (one.label for one in list_secret_keys(bench.token)):
        return open_secret_key(bench.token, label)
    try:
        return generate_secret_key(bench.token, label, bits)
    except MechanismError:
        raise CannotDoError(secret_key_answer(bench.token)) from None


def _wrap(bench: Bench, bits: int) -> None:
    key = _key(bench, bits)
    for size in (16, 24, 32):
        secret = secrets.token_bytes(size)
        wrapped = key.wrap_key(secret)
        assert len(wrapped) == size + 8  # RFC 3394 section 2.2.1: one block more
        assert key.unwrap_key(wrapped) == secret
    try:
        key.unwrap_key(wrapped[:-1] + bytes([wrapped[-1] ^ 1]))
    except DecryptionError:
        return
    raise AssertionError("a changed key is unwrapped")


def _open(bench: Bench) -> None:
    key = _key(bench, 256)
    message = io.BytesIO()
    encrypt(io.BytesIO(MESSAGE), [KekRecipient(key)], message)
    assert decrypted(message.getvalue(), key) == MESSAGE
