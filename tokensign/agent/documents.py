"""Keys, and the parameters of their operations, as they stand in the messages of the agent."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

from tokensign.agent.protocol import encoded, octets, text
from tokensign.algorithms import DIGESTS, READ_DIGESTS, KeyUsage, signature_scheme
from tokensign.certificates import Certificate
from tokensign.errors import MalformedError, UnsupportedError
from tokensign.keys import OaepTransport, Pkcs1Transport
from tokensign.token import KeyInfo
from tokensign.uri import KeyUri

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

    from tokensign.algorithms import Digest, SignatureScheme
    from tokensign.keys import KeyTransport

__all__ = [
    "KeyDocument",
    "name_document",
    "name_of",
    "public_key_octets",
    "public_key_of",
    "scheme_document",
    "scheme_of",
    "transport_document",
    "transport_of",
    "usage_of",
]

_PLAIN: Final = [  # what JSON has as it is, or None: the token does not say
    entry.name for entry in fields(KeyInfo) if entry.name not in ("id", "usages", "uri", "public_key")
]


@dataclass(frozen=True, slots=True)
class KeyDocument:
    """A key as the agent tells it: nothing that is secret.

    Attributes:
        info: The key.
        size: Octets of an AES key; 0 of others.
        certificates: Those on the token with its public key, newest first.
        certificate: The one that was chosen, or that is to sign, or None.
        chain: The CA certificates above that one.
    """

    info: KeyInfo
    size: int = 0
    certificates: Sequence[Certificate] = ()
    certificate: Certificate | None = None
    chain: Sequence[Certificate] = ()

    def to_json(self) -> dict[str, Any]:
        """As it stands in a message."""
        info = self.info
        public_key = info.public_key
        return {
            **{name: getattr(info, name) for name in _PLAIN},
            "id": encoded(info.id),
            "usages": sorted(info.usages),
            "uri": str(info.uri),
            "public_key": None if public_key is None else encoded(public_key_octets(public_key)),
            "size": self.size,
            "certificates": [encoded(one.der) for one in self.certificates],
            "certificate": encoded(self.certificate.der) if self.certificate else None,
            "chain": [encoded(one.der) for one in self.chain],
        }

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> KeyDocument:
        """From what stands in a message.

        Raises:
            MalformedError: It is not that.
        """
        try:
            info = KeyInfo(
                id=octets(document, "id"),
                usages=frozenset(document["usages"]),
                uri=KeyUri.parse(text(document, "uri")),
                public_key=public_key_of(document, "public_key") if document["public_key"] else None,
                **{name: document[name] for name in _PLAIN},
            )
            certificate = document["certificate"] and Certificate(octets(document, "certificate"))
            return cls(
                info,
                int(document["size"]),
                _certificates(document["certificates"]),
                certificate,
                _certificates(document["chain"]),
            )
        except (KeyError, TypeError, ValueError):
            raise MalformedError("the agent describes a key in another way than is known here") from None


def _certificates(entries: list[str]) -> tuple[Certificate, ...]:
    return tuple(Certificate(octets({"certificate": entry}, "certificate")) for entry in entries)


def public_key_octets(public_key: PublicKeyTypes) -> bytes:
    """SubjectPublicKeyInfo, DER."""
    return public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def public_key_of(document: dict[str, Any], name: str) -> PublicKeyTypes:
    """A field with a public key.

    Raises:
        MalformedError: There is none.
    """
    try:
        return load_der_public_key(octets(document, name))
    except (ValueError, UnsupportedAlgorithm):
        raise MalformedError(f"the field {name} is no public key that can be used") from None


def name_document(name: str | Certificate) -> dict[str, str]:
    """What a key is called: by text, or by a certificate."""
    return {"certificate": encoded(name.der)} if isinstance(name, Certificate) else {"text": name}


def name_of(request: dict[str, Any]) -> str | Certificate:
    """The field `name` of a request.

    Raises:
        MalformedError: There is none.
    """
    document = request.get("name")
    if not isinstance(document, dict):
        raise MalformedError("the field name is missing")
    return (
        Certificate(octets(document, "certificate")) if "certificate" in document else text(document, "text")
    )


def usage_of(request: dict[str, Any]) -> KeyUsage | None:
    """The field `usage` of a request; None for any.

    Raises:
        MalformedError: It is none that is known.
    """
    try:
        return KeyUsage(request["usage"]) if request.get("usage") is not None else None
    except ValueError:
        raise MalformedError("the field usage is no usage of a key") from None


def scheme_document(scheme: SignatureScheme) -> dict[str, str]:
    """A signature scheme, by its names."""
    return {
        "family": scheme.family,
        "digest": scheme.digest.name,
        "parameter_set": scheme.parameter_set,
    }


def scheme_of(request: dict[str, Any]) -> SignatureScheme:
    """The field `scheme` of a request.

    Raises:
        MalformedError: There is none.
        UnsupportedError: It is none that is known.
    """
    document = request.get("scheme")
    if not isinstance(document, dict):
        raise MalformedError("the field scheme is missing")
    digest = _digest(document, "digest")
    return signature_scheme(text(document, "family"), digest, text(document, "parameter_set"))


def transport_document(transport: KeyTransport) -> dict[str, str]:
    """A key transport, by its names."""
    if isinstance(transport, Pkcs1Transport):
        return {"kind": "pkcs1"}
    return {
        "kind": "oaep",
        "digest": transport.digest.name,
        "mgf_digest": transport.mgf_digest.name,
        "label": encoded(transport.label),
    }


def transport_of(request: dict[str, Any]) -> KeyTransport:
    """The field `transport` of a request.

    Raises:
        MalformedError: There is none.
        UnsupportedError: It is none that is known.
    """
    document = request.get("transport")
    if not isinstance(document, dict):
        raise MalformedError("the field transport is missing")
    match text(document, "kind"):
        case "pkcs1":
            return Pkcs1Transport()
        case "oaep":
            digest, mgf_digest = _digest(document, "digest"), _digest(document, "mgf_digest")
            return OaepTransport(digest, mgf_digest, octets(document, "label"))
        case _:
            raise UnsupportedError("the agent does not know this key transport")


def _digest(document: dict[str, Any], name: str) -> Digest:
    found = (DIGESTS | READ_DIGESTS).get(text(document, name))
    if found is None:
        raise UnsupportedError("the agent does not know this digest")
    return found
