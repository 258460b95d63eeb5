"""Principals by the tokens of an OpenID Connect provider: signed JWTs (RFC 7519), checked as RFC 8725 asks.

Only algorithms with public keys are known, and the keys come from the operator's file or URL, never from the
token. A token may be bound to the client certificate (RFC 8705 section 3.1); who stole it alone has nothing.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from joserfc import jwt
from joserfc.errors import InvalidKeyIdError, JoseError
from joserfc.jwk import KeySet
from joserfc.jws import JWSRegistry

from tokensign.errors import ConfigurationError, FileError, TokensignError, UnauthenticatedError
from tokensign.files import read_small
from tokensign.pki.http import EVERYWHERE, HttpClient, Limits

__all__ = ["ALGORITHMS", "BearerTokens", "TokenPolicy"]

ALGORITHMS: Final = ("RS256", "PS256", "ES256", "EdDSA", "Ed25519")
"""The last two name the same (RFC 9864)."""
TOKEN_SIZE_MAXIMUM: Final = 16384
"""Characters of a token; those of large providers have some thousand."""
LEEWAY: Final = 30
"""Seconds by which the clocks of a provider and this machine may differ."""
_KEYS_SECONDS: Final = (
    300.0  # after which keys are asked for again, so that one that was withdrawn counts no more
)
_KEYS_PAUSE: Final = (
    10.0  # at least, between two times: tokens with unknown keys must not make us ask each time
)
_SEEN_MAXIMUM: Final = 1024  # tokens that are remembered, until the keys are asked for again
_KEYS_SIZE_MAXIMUM: Final = 1 << 20  # octets of a JWK set
_SECURE: Final = "https://"


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenPolicy:
    """Which tokens are taken.

    Attributes:
        issuer: `iss` of all of them.
        audience: What `aud` must have.
        keys: The provider's keys, a JWK set (RFC 7517): a file, or an https URL.
        certificate_bound: Whether a token must be bound to the client certificate.
    """

    issuer: str
    audience: str
    keys: str
    certificate_bound: bool = False


class BearerTokens:
    """Checks tokens, for one event loop.

    Args:
        policy: Which are taken.

    Raises:
        ConfigurationError: The URL of the keys is not one of https.
    """

    def __init__(self, policy: TokenPolicy) -> None:
        if "://" in policy.keys and not policy.keys.startswith(_SECURE):
            raise ConfigurationError("the keys of a token issuer come from a file or over https")
        self._policy = policy
        self._claims = jwt.JWTClaimsRegistry(
            leeway=LEEWAY,
            iss={"essential": True, "value": policy.issuer},
            aud={"essential": True, "value": policy.audience},
            sub={"essential": True},
            exp={"essential": True},
        )
        self._keys = KeySet([])
        self._asked_at = float("-inf")
        self._loading = asyncio.Lock()
        self._seen: dict[bytes, dict[str, Any]] = {}  # claims of tokens whose signatures were good

    async def have_keys(self) -> None:
        """Have the issuer's keys, asked for at most some minutes ago.

        Raises:
            FileError, NetworkError: They cannot be had.
        """
        await self._load(_KEYS_SECONDS)

    async def subject(self, token: str, certificate: bytes | None) -> str:
        """Whom a token is about: `iss` and `sub`, with a blank between them.

        Args:
            token: The JWS in compact form.
            certificate: The client certificate of the connection, DER, or None.

        Raises:
            UnauthenticatedError: The token is not to be taken.
            FileError, NetworkError: The issuer's keys cannot be had.
        """
        if len(token) > TOKEN_SIZE_MAXIMUM:
            raise UnauthenticatedError("the token is too large")
        await self.have_keys()
        try:
            try:
                claims = self._verified(token)
            except InvalidKeyIdError:  # perhaps the issuer has a new key
                await self._load(_KEYS_PAUSE)
                claims = self._verified(token)
        except (JoseError, ValueError, TypeError, KeyError, RecursionError) as error:
            raise UnauthenticatedError(f"the token is not taken: {type(error).__name__}") from error
        self._check_binding(claims, certificate)
        return f"{claims['iss']} {claims['sub']}"

    def _verified(self, token: str) -> dict[str, Any]:
        name = hashlib.sha256(token.encode()).digest()
        claims = self._seen.get(name)
        if claims is None:
            claims = jwt.decode(token, self._keys, algorithms=ALGORITHMS, registry=_REGISTRY).claims
            if len(self._seen) >= _SEEN_MAXIMUM:
                self._seen.clear()
            self._seen[name] = claims
        self._claims.validate(claims)
        return claims

    def _check_binding(self, claims: dict[str, Any], certificate: bytes | None) -> None:
        confirmation = claims.get("cnf")
        if confirmation is None and not self._policy.certificate_bound:
            return
        expected = confirmation.get("x5t#S256") if isinstance(confirmation, dict) else None
        if not isinstance(expected, str):
            raise UnauthenticatedError(
                "the token is not bound to a certificate, or in a way that is not known"
            )
        thumbprint = b"" if certificate is None else hashlib.sha256(certificate).digest()
        actual = base64.urlsafe_b64encode(thumbprint).rstrip(b"=")
        if certificate is None or not hmac.compare_digest(actual, expected.encode()):
            raise UnauthenticatedError(
                "the token is bound to another certificate than that of the connection"
            )

    async def _load(self, age: float) -> None:
        """Have keys that are not older than some seconds."""
        if time.monotonic() - self._asked_at < age:
            return
        async with self._loading:
            if time.monotonic() - self._asked_at < age:
                return
            self._asked_at = time.monotonic()
            try:
                self._keys = await asyncio.to_thread(_read_keys, self._policy.keys)
                self._seen.clear()
            except TokensignError:
                if not self._keys:
                    self._asked_at = float("-inf")
                    raise


_REGISTRY: Final = JWSRegistry(algorithms=list(ALGORITHMS))


def _read_keys(place: str) -> KeySet:
    if place.startswith(_SECURE):
        limits = Limits(octets=_KEYS_SIZE_MAXIMUM, redirects=0, private_networks=EVERYWHERE)
        encoded = HttpClient(limits)(place)
    else:
        encoded = read_small(Path(place), _KEYS_SIZE_MAXIMUM)
    try:
        return KeySet.import_key_set(json.loads(encoded))
    except (JoseError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise FileError(f"{place} has no keys that can be used (a JWK set, RFC 7517)") from error
