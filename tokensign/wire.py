"""What the processes of tokensign tell each other of keys and errors, as JSON has it: the agent, and lanes.

Octets are base64. Nothing here is secret, and of what a message says nothing is believed.
"""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING, Any, Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

from tokensign import errors
from tokensign.algorithms import DIGESTS, READ_DIGESTS, signature_scheme
from tokensign.certificates import Certificate
from tokensign.errors import MalformedError, TokensignError, UnsupportedError, VerificationError
from tokensign.keys import OaepTransport, Pkcs1Transport

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

    from tokensign.algorithms import Digest, SignatureScheme
    from tokensign.keys import KeyTransport

__all__ = [
    "certificates_of",
    "encoded",
    "error_document",
    "error_of",
    "octets",
    "public_key_octets",
    "public_key_of",
    "scheme_document",
    "scheme_of",
    "text",
    "transport_document",
    "transport_of",
]

_BASE_CLASSES: Final[dict[int, type[TokensignError]]] = {  # for errors of a process that knows more of them
    kind.exit_code: kind
    for kind in (errors.UsageError, errors.TokenError, errors.MessageError, errors.FileError)
}


def encoded(value: bytes) -> str:
    """Octets as they stand in a message."""
    return base64.b64encode(value).decode("ascii")


def octets(document: dict[str, Any], name: str) -> bytes:
    """A field with octets.

    Raises:
        MalformedError: There is none.
    """
    try:
        return base64.b64decode(text(document, name), validate=True)
    except (binascii.Error, ValueError):
        raise MalformedError(f"the field {name} is not base64") from None


def text(document: dict[str, Any], name: str) -> str:
    """A field with text.

    Raises:
        MalformedError: There is none.
    """
    value = document.get(name)
    if not isinstance(value, str):
        raise MalformedError(f"the field {name} is missing, or no text")
    return value


def error_document(error: TokensignError) -> dict[str, Any]:
    """An error, without its causes."""
    return {
        "kind": type(error).__name__,
        "message": error.message,
        "hint": error.hint,
        "exit_code": error.exit_code,
    }


def error_of(document: object, otherwise: type[TokensignError]) -> TokensignError:
    """The error in a document, of the same class.

    Args:
        document: From `error_document`.
        otherwise: The class for one that is not known here.

    Raises:
        MalformedError: It is no such document.
    """
    if not isinstance(document, dict):
        raise MalformedError("the error is no JSON object")
    hint = document.get("hint")
    named: Any = getattr(errors, str(document.get("kind")), None)
    if isinstance(named, type) and issubclass(named, TokensignError) and named is not VerificationError:
        kind = named
    else:
        kind = _BASE_CLASSES.get(document.get("exit_code", 0), otherwise)
    return kind(str(document.get("message")), hint=str(hint) if hint else None)


def certificates_of(entries: Iterable[str]) -> tuple[Certificate, ...]:
    """Certificates, each as its octets.

    Raises:
        MalformedError: One is none.
    """
    return tuple(Certificate(octets({"certificate": entry}, "certificate")) for entry in entries)


def public_key_octets(public_key: PublicKeyTypes) -> bytes:
    """SubjectPublicKeyInfo, DER."""
    return public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def public_key_of(content: bytes) -> PublicKeyTypes:
    """The public key in a SubjectPublicKeyInfo, DER.

    Raises:
        MalformedError: It is none that can be used.
    """
    try:
        return load_der_public_key(content)
    except (ValueError, UnsupportedAlgorithm):
        raise MalformedError("this is no public key that can be used") from None


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


def transport_of(document: object) -> KeyTransport:
    """The key transport in a document of `transport_document`.

    Raises:
        MalformedError: It is no such document.
        UnsupportedError: It is none that is known.
    """
    if not isinstance(document, dict):
        raise MalformedError("the field transport is missing")
    match text(document, "kind"):
        case "pkcs1":
            return Pkcs1Transport()
        case "oaep":
            digest, mgf_digest = _digest(document, "digest"), _digest(document, "mgf_digest")
            return OaepTransport(digest, mgf_digest, octets(document, "label"))
        case _:
            raise UnsupportedError("this key transport is not known")


def _digest(document: dict[str, Any], name: str) -> Digest:
    found = (DIGESTS | READ_DIGESTS).get(text(document, name))
    if found is None:
        raise UnsupportedError("this digest is not known")
    return found
