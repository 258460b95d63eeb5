"""API keys: an id that is looked up, and a secret of which only a hash is kept.

A key is `tokensign_ID_SECRET`, so that those who search code for secrets that were left there find it. Its
secret has 256 random bits: nobody can search for what SHA-256 made of that, so no slow hash is needed.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from tokensign.errors import UnauthenticatedError

if TYPE_CHECKING:
    from tokensign.service.permissions import ApiKey, Snapshot

__all__ = ["PREFIX", "check_api_key", "new_api_key", "secret_hash"]

PREFIX: Final = "tokensign_"
_ID_SIZE: Final = 8  # octets
_SECRET_SIZE: Final = 32  # octets
_KEY: Final = re.compile(rf"{PREFIX}([0-9a-f]{{16}})_([0-9a-f]{{64}})")
_NO_SECRET: Final = bytes(32)  # what no secret hashes to


def new_api_key() -> tuple[str, str, str]:
    """A random key.

    Returns:
        The whole key, which is shown once; its id; and its secret.
    """
    name, secret = secrets.token_hex(_ID_SIZE), secrets.token_hex(_SECRET_SIZE)
    return f"{PREFIX}{name}_{secret}", name, secret


def secret_hash(secret: str) -> bytes:
    """What is kept of a secret, 32 octets."""
    return hashlib.sha256(secret.encode("ascii")).digest()


def check_api_key(presented: str, snapshot: Snapshot) -> ApiKey:
    """The key that was presented.

    Args:
        presented: All of it.
        snapshot: The keys that there are.

    Raises:
        UnauthenticatedError: There is none like that, or it was revoked or has ended.
    """
    match = _KEY.fullmatch(presented)
    if match is None:
        raise UnauthenticatedError("what was presented as an API key has not the form of one")
    known = snapshot.api_keys.get(match[1])
    expected = _NO_SECRET if known is None else known.sha256
    if not hmac.compare_digest(secret_hash(match[2]), expected) or known is None:
        raise UnauthenticatedError(f"the API key {match[1]} is not known, or its secret is another")
    if known.expires_at <= datetime.now(UTC):
        raise UnauthenticatedError(f"the API key {match[1]} of {known.principal} has ended")
    return known
