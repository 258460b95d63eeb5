"""Signatures of a key behind a lane: as they are, and in CMS."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Final

from tokensign.algorithms import default_scheme
from tokensign.cms.deferred import DeferredSigning
from tokensign.cms.signature import verify_fresh
from tokensign.cms.signer_info import SigningOptions
from tokensign.errors import BadSignatureError, SigningError, TokensignError, UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tokensign.algorithms import SignatureScheme
    from tokensign.service.lanes import LaneKey

__all__ = ["scheme_of", "sign_cms", "sign_raw"]

_THREAD_FROM: Final = (
    8  # messages that are verified in a thread: the event loop would do nothing else for a ms
)


def scheme_of(key: LaneKey, name: str | None) -> SignatureScheme:
    """The scheme of a name, or else the usual one of a key.

    Raises:
        UnsupportedError: The key does not sign in it.
    """
    name = name or _usual_scheme(key)
    scheme = key.schemes.get(name)
    if scheme is None:
        known = ", ".join(sorted(key.schemes)) or "none"
        raise UnsupportedError(f"the key {key.id} does not sign with {name[:64]!r}; its schemes are: {known}")
    return scheme


@lru_cache(maxsize=4096)  # keys; a restart of a lane makes new ones
def _usual_scheme(key: LaneKey) -> str:
    return default_scheme(key.public_key).name


async def sign_raw(
    key: LaneKey, scheme: SignatureScheme, items: Sequence[bytes]
) -> list[bytes | TokensignError]:
    """Sign hash values, or messages where the scheme hashes nothing, and verify what comes back.

    ECDSA is not verified here. That takes as long as to sign, and a wrong value is of no use to anybody; one
    of RSA reveals the key (Boneh, DeMillo and Lipton, 1997).

    Returns:
        For each, in order, its signature, or why there is none.

    Raises:
        LaneError: None was signed, or it is not known.
    """
    if not scheme.prehashed:
        signatures = await _one_by_one(key, scheme, items)
    else:
        signatures = await key.sign_digests(items, scheme)
        if scheme.family == "ecdsa":
            return signatures
    return await _for_each(partial(_verified, key, scheme), items, signatures)


async def sign_cms(
    key: LaneKey, scheme: SignatureScheme, items: Sequence[bytes]
) -> list[bytes | TokensignError]:
    """Sign signed attributes about each hash value of a content, and verify what comes back.

    Returns:
        For each, in order, a detached SignedData in DER, or why there is none.

    Raises:
        UsageError: The key has no certificate.
        LaneError: None was signed, or it is not known.
    """
    signing = DeferredSigning(key.signer(), SigningOptions(family=scheme.family, digest=scheme.digest))
    moment = datetime.now(UTC).replace(microsecond=0)
    attributes = [signing.signed_attributes(item, moment) for item in items]
    if scheme.prehashed:
        hashed = [scheme.digest.new(one).digest() for one in attributes]
        signatures = await key.sign_digests(hashed, scheme)
    else:
        signatures = await _one_by_one(key, scheme, attributes)
    return await _for_each(partial(_message, signing), attributes, signatures)


async def _for_each(
    function: Callable[[bytes, bytes | TokensignError], bytes | TokensignError],
    signed: Sequence[bytes],
    signatures: Sequence[bytes | TokensignError],
) -> list[bytes | TokensignError]:
    """The results of a function that verifies."""
    if len(signed) < _THREAD_FROM:
        return list(map(function, signed, signatures))
    return await asyncio.to_thread(lambda: list(map(function, signed, signatures)))


def _verified(
    key: LaneKey, scheme: SignatureScheme, item: bytes, signature: bytes | TokensignError
) -> bytes | TokensignError:
    if not isinstance(signature, bytes):
        return signature
    what = {"digest" if scheme.prehashed else "message": item}
    try:
        verify_fresh(key.public_key, scheme, signature, **what)
    except BadSignatureError:
        return SigningError(
            f"the signature that the token made with {key.id} is wrong and was thrown away",
            hint="run `tokensign doctor`; the key, the token or its module is damaged",
        )
    return signature


def _message(
    signing: DeferredSigning, attributes: bytes, signature: bytes | TokensignError
) -> bytes | TokensignError:
    if not isinstance(signature, bytes):
        return signature
    try:
        return signing.message(attributes, signature)
    except SigningError as error:
        return error


async def _one_by_one(
    key: LaneKey, scheme: SignatureScheme, messages: Sequence[bytes]
) -> list[bytes | TokensignError]:
    results: list[bytes | TokensignError] = []
    for message in messages:
        try:
            results.append(await key.sign(message, scheme))
        except TokensignError as error:
            results.append(error)
    return results
