"""Keys as they stand in the messages of the agent; `tokensign.wire` has what its operations take."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Final

from tokensign.algorithms import KeyUsage
from tokensign.certificates import Certificate
from tokensign.errors import MalformedError
from tokensign.token import KeyInfo
from tokensign.uri import KeyUri
from tokensign.wire import certificates_of, encoded, octets, public_key_octets, public_key_of, text

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "KeyDocument",
    "name_document",
    "name_of",
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
                public_key=public_key_of(octets(document, "public_key")) if document["public_key"] else None,
                **{name: document[name] for name in _PLAIN},
            )
            certificate = document["certificate"] and Certificate(octets(document, "certificate"))
            return cls(
                info,
                int(document["size"]),
                certificates_of(document["certificates"]),
                certificate,
                certificates_of(document["chain"]),
            )
        except (KeyError, TypeError, ValueError):
            raise MalformedError("the agent describes a key in another way than is known here") from None


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
