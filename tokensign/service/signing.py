"""Signatures of a key behind a lane: as they are, and in CMS."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from functools import lru_cache
from itertools import repeat
from typing import TYPE_CHECKING, Final

from tokensign.algorithms import default_scheme
from tokensign.cms.deferred import DeferredSigning
from tokensign.cms.signer_info import SigningOptions
from tokensign.errors import SigningError, TokensignError, UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Sequence

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
    """Sign hash values, or messages where the scheme hashes nothing.

    Returns:
        For each, in order, its signature, or why there is none.

    Raises:
        LaneError: None was signed, or it is not known.
    """
    if scheme.prehashed:
        return await key.sign_digests(items, scheme)
    return await _one_by_one(key, scheme, items)


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
    if len(items) < _THREAD_FROM:
        return list(map(_message, repeat(signing), attributes, signatures))
    return await asyncio.to_thread(lambda: list(map(_message, repeat(signing), attributes, signatures)))


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
