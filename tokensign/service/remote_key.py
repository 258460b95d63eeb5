"""A key of a signing service, with the protocol of `tokensign.keys.Signer`."""

from __future__ import annotations

import binascii
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from tokensign.certificates import Certificate, load_certificates
from tokensign.errors import MechanismError, NetworkError
from tokensign.uri import KeyUri

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

    from tokensign.algorithms import SignatureScheme
    from tokensign.service.client import ServiceClient

__all__ = ["RemoteKey", "RemoteKeyInfo"]


@dataclass(frozen=True, slots=True)
class RemoteKeyInfo:
    """What is told of a key.

    Attributes:
        label: Its id at the service.
        spec: Its type, such as "rsa:3072".
        uri: The URI that names it on its token.
        schemes: In which it signs.
        operations: What the caller may do with it.
        state: That of its lane: "up", "starting", "down" or "latched".
    """

    label: str
    spec: str
    uri: KeyUri
    schemes: tuple[str, ...]
    operations: tuple[str, ...]
    state: str


class RemoteKey:
    """A private key on a token of a service. `ServiceClient.key` makes it.

    Args:
        client: The service.
        document: What GET /v1/keys tells of it.

    Attributes:
        id: Names it at the service.
        info: What is told of it.
        public_key: The public half.
        certificate: The certificate to sign with, or None.
        certificates: The same in a list.
        chain: The CA certificates above it.

    Raises:
        NetworkError: The document cannot be understood.
    """

    def __init__(self, client: ServiceClient, document: dict[str, Any]) -> None:
        self._client = client
        try:
            self.id = _require_texts(document["id"])[0]
            self.info = RemoteKeyInfo(
                label=self.id,
                spec=_require_texts(document["type"])[0],
                uri=KeyUri.parse(*_require_texts(document["uri"])),
                schemes=_require_texts(*document["schemes"]),
                operations=_require_texts(*document["operations"]),
                state=_require_texts(document["state"])[0],
            )
            self.public_key: PublicKeyTypes = load_pem_public_key(document["public_key"].encode())
            pem = document["certificate"]
            self.certificates: Sequence[Certificate] = load_certificates(pem.encode()) if pem else ()
            self.chain: Sequence[Certificate] = [
                one for pem in document["chain"] for one in load_certificates(pem.encode())
            ]
        except (KeyError, TypeError, ValueError, AttributeError, UnsupportedAlgorithm) as error:
            raise NetworkError(f"{client.url} describes a key in another way than is known here") from error
        self.certificate = self.certificates[0] if self.certificates else None

    def __repr__(self) -> str:
        return f"<RemoteKey {self.id}>"

    def sign(self, message: bytes, scheme: SignatureScheme) -> bytes:
        """Sign a message; see `tokensign.keys.Signer.sign`. A prehashed scheme hashes it here.

        Raises:
            NetworkError: The service gives no answer.
            AccessError: It does not let the caller.
            TokenError: Its token failed.
        """
        if scheme.prehashed:
            return self.sign_digest(scheme.digest.new(message).digest(), scheme)
        return self._signature("messages", message, scheme)

    def sign_digest(self, digest: bytes, scheme: SignatureScheme) -> bytes:
        """Sign a hash value; see `tokensign.keys.Signer.sign_digest`.

        Raises:
            MechanismError: The scheme signs messages and not hash values.
            NetworkError, AccessError, TokenError: As for `sign`.
        """
        if not scheme.prehashed:
            raise MechanismError(f"{scheme} signs a message, not a hash value of it")
        return self._signature("digests", digest, scheme)

    def _signature(self, kind: str, item: bytes, scheme: SignatureScheme) -> bytes:
        wanted = {kind: [binascii.b2a_base64(item, newline=False).decode()], "scheme": scheme.name}
        answer = self._client.use(self.id, "signatures", wanted)
        try:
            return binascii.a2b_base64(answer["results"][0]["signature"], strict_mode=True)
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise NetworkError(f"{self._client.url} answered with no signature") from error


def _require_texts(*values: Any) -> tuple[str, ...]:  # noqa: ANN401 - any JSON
    """The same values, all of which are texts that can be sent and printed.

    Raises:
        TypeError, ValueError: One is not.
    """
    for value in values:
        if not isinstance(value, str):
            raise TypeError
        value.encode()  # a lone surrogate cannot be
    return values
