"""Who asks: somebody with a client certificate, a token of an OpenID Connect provider, or an API key."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from tokensign.errors import UnauthenticatedError
from tokensign.service.api_keys import PREFIX, check_api_key
from tokensign.service.client_certificates import certificate_principal

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

    from tokensign.service.client_certificates import ClientCertificates
    from tokensign.service.permissions import Permissions
    from tokensign.service.tokens import BearerTokens

__all__ = ["Credentials", "Principal", "Principals"]


@dataclass(frozen=True, slots=True)
class Principal:
    """Somebody to whom grants can be given: a person or a program.

    Attributes:
        name: As `tokensign grant` calls it.
        kind: By what it was known in this request.
        operations: Those to which the credential itself is limited, whatever is granted; None: not limited.
    """

    name: str
    kind: Literal["certificate", "token", "api-key"]
    operations: AbstractSet[str] | None = None


@dataclass(frozen=True, slots=True)
class Credentials:
    """What came with a request.

    Attributes:
        certificate: The client certificate of the connection, DER. The TLS library has validated its path.
        authorization: The value of the header field Authorization: `Bearer` with a token or an API key.
    """

    certificate: bytes | None = None
    authorization: str | None = None


class Principals:
    """Knows principals by their credentials.

    Args:
        permissions: Who is known.
        certificates: Which client certificates were revoked; None: nothing tells.
        tokens: Which tokens are taken; None: none.
    """

    def __init__(
        self,
        permissions: Permissions,
        certificates: ClientCertificates | None = None,
        tokens: BearerTokens | None = None,
    ) -> None:
        self._permissions = permissions
        self._certificates = certificates
        self._tokens = tokens

    async def identify(self, credentials: Credentials) -> Principal:
        """Who asks. What is in the header goes before the certificate of the connection.

        Afterwards `Grants` decides by permissions that are fresh.

        Raises:
            UnauthenticatedError: Nobody is known by that, or a part of it is not to be trusted.
            FileError, NetworkError: Nothing is known of anybody, because the database or the issuer of tokens
                does not answer.
        """
        await self._permissions.refresh()
        certificate = credentials.certificate
        if certificate is not None and self._certificates is not None:
            self._certificates.check(certificate)
        if credentials.authorization is not None:
            return await self._by_header(credentials.authorization, certificate)
        if certificate is None:
            raise UnauthenticatedError("the request came with no certificate, token or API key")
        return Principal(certificate_principal(certificate, self._permissions.snapshot), "certificate")

    async def _by_header(self, authorization: str, certificate: bytes | None) -> Principal:
        kind, _, presented = authorization.partition(" ")
        presented = presented.strip()
        if kind.lower() != "bearer":
            raise UnauthenticatedError("the header field Authorization has no Bearer")
        if presented.startswith(PREFIX):
            key = check_api_key(presented, self._permissions.snapshot)
            return Principal(key.principal, "api-key", key.operations)
        if self._tokens is None:
            raise UnauthenticatedError("no tokens are taken here")
        subject = await self._tokens.subject(presented, certificate)
        principal = self._permissions.snapshot.identities.get(("subject", subject))
        if principal is None:
            raise UnauthenticatedError(
                f"nobody is known by the token of {subject}",
                hint="`tokensign grant identify` tells whose it is",
            )
        return Principal(principal, "token")
