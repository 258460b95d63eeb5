"""The keys and certificates on a token: what they are, and how they are found by name."""

from __future__ import annotations

import logging
import re
import string
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, TypeVar

from pkcs11.constants import Attribute, CertificateType, ObjectClass
from pkcs11.mechanisms import KeyType

from tokensign.certificates import Certificate
from tokensign.errors import (
    AmbiguousNameError,
    KeyNotFoundError,
    MalformedError,
    UnsupportedError,
    UsageError,
)
from tokensign.token.attributes import objects, read
from tokensign.token.public_key import PUBLIC_ATTRIBUTES, decode, public_key_info, spec_of
from tokensign.uri import KeyUri, is_uri

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
    from pkcs11 import Object

    from tokensign.algorithms import KeyUsage
    from tokensign.token.connection import Session
    from tokensign.token.info import TokenInfo
    from tokensign.token.session import Token

__all__ = [
    "KeyInfo",
    "StoredCertificate",
    "find_certificate",
    "find_key",
    "list_certificates",
    "list_keys",
]

_log: Final = logging.getLogger(__name__)

_USAGES: Final = {  # of a private key
    Attribute.SIGN: "sign",
    Attribute.SIGN_RECOVER: "sign-recover",
    Attribute.DECRYPT: "decrypt",
    Attribute.UNWRAP: "unwrap",
    Attribute.DERIVE: "derive",
    Attribute.DECAPSULATE: "decapsulate",
}
_LATTICE: Final = (KeyType.ML_KEM, KeyType.ML_DSA)  # their attributes are new; older modules fail on them
_PROTECTION: Final = (
    Attribute.SENSITIVE,
    Attribute.EXTRACTABLE,
    Attribute.ALWAYS_SENSITIVE,
    Attribute.NEVER_EXTRACTABLE,
    Attribute.PRIVATE,
    Attribute.LOCAL,
    Attribute.MODIFIABLE,
    Attribute.ALWAYS_AUTHENTICATE,
)
_OLD_USAGES: Final = tuple(attribute for attribute in _USAGES if attribute is not Attribute.DECAPSULATE)
_PRIVATE_KEY: Final = (Attribute.LABEL, Attribute.ID, *PUBLIC_ATTRIBUTES, *_OLD_USAGES, *_PROTECTION)


@dataclass(frozen=True, slots=True)
class KeyInfo:
    """A private key on a token. None means that the token does not say.

    Attributes:
        label: CKA_LABEL.
        id: CKA_ID.
        spec: Its type, such as "rsa:3072", "ec:p256", "ed25519" or "ml-kem-768".
        usages: What it may be used for: "sign", "decrypt", "derive", "decapsulate", "unwrap", "sign-recover".
        uri: The URI that names it.
        public_key: The public half, or None where the token does not have it or its type is not known.
        has_certificate: Whether a certificate for it is on the token.
        sensitive: CKA_SENSITIVE: its value cannot be read.
        extractable: CKA_EXTRACTABLE: it can leave the token wrapped.
        always_sensitive: CKA_ALWAYS_SENSITIVE.
        never_extractable: CKA_NEVER_EXTRACTABLE.
        private: CKA_PRIVATE: it is seen only after login.
        local: CKA_LOCAL: it was generated on the token.
        modifiable: CKA_MODIFIABLE.
        always_authenticate: CKA_ALWAYS_AUTHENTICATE: each operation wants the PIN.
    """

    label: str
    id: bytes
    spec: str
    usages: frozenset[str]
    uri: KeyUri
    public_key: PublicKeyTypes | None = field(compare=False, repr=False)
    has_certificate: bool
    sensitive: bool | None
    extractable: bool | None
    always_sensitive: bool | None
    never_extractable: bool | None
    private: bool | None
    local: bool | None
    modifiable: bool | None
    always_authenticate: bool | None

    def serves(self, usage: KeyUsage) -> bool:
        """Whether it was made for all of a usage.

        Decrypting means key agreement or decapsulation for other keys than RSA.
        """
        decrypts = {"rsa": "decrypt", "ml": "decapsulate"}.get(re.split("[:-]", self.spec)[0], "derive")
        return (not usage.signs or "sign" in self.usages) and (not usage.decrypts or decrypts in self.usages)


@dataclass(frozen=True, slots=True)
class StoredCertificate:
    """A certificate on a token.

    Attributes:
        certificate: The certificate.
        label: CKA_LABEL.
        id: CKA_ID, that of its key where there is one.
        uri: The URI that names it.
    """

    certificate: Certificate
    label: str
    id: bytes
    uri: KeyUri


def list_keys(token: Token) -> list[KeyInfo]:
    """The private keys, by label. This needs the PIN.

    Raises:
        TokenError: The token fails or refuses the PIN.
    """
    with token.borrow("list the keys") as session:
        return read_keys(session, token.info) or _nothing(token)


def list_certificates(token: Token) -> list[StoredCertificate]:
    """The X.509 certificates, by label. This needs no PIN. Those that cannot be read are logged and left out.

    Raises:
        TokenError: The token fails.
    """
    with token.borrow("list the certificates", public=True) as session:
        return read_certificates(session, token.info) or _nothing(token)


def find_key(token: Token, name: str | KeyUri, usage: KeyUsage | None = None) -> KeyInfo:
    """The one key with a name.

    Args:
        token: An open token.
        name: A PKCS#11 URI, a label, or a CKA_ID in hexadecimal.
        usage: What it must be usable for; None for anything. It also decides between keys of the same name.

    Raises:
        KeyNotFoundError: None fits; those that are there are listed.
        AmbiguousNameError: Several fit; they are listed.
        UsageError: The URI is malformed or names no key.
    """
    there = list_keys(token)
    named = _named(there, name, token, types=("private", "public"))
    found = [key for key in named if usage is None or key.serves(usage)]
    if named and not found and usage:
        raise KeyNotFoundError(
            f"the key {name} is not made to {_WORDS[usage.value]}",
            hint=f"its usages are: {', '.join(sorted(named[0].usages)) or 'none'}",
        )
    return _single(found, there, name, "key", token)


def find_certificate(token: Token, name: str | KeyUri) -> StoredCertificate:
    """The one certificate with a name; see `find_key`.

    Raises:
        KeyNotFoundError: None fits.
        AmbiguousNameError: Several fit.
        UsageError: The URI is malformed or names no certificate.
    """
    there = list_certificates(token)
    return _single(_named(there, name, token, types=("cert",)), there, name, "certificate", token)


def _nothing(token: Token) -> list[Any]:
    token.connection.require_token()
    return []


_WORDS: Final = {"sign": "sign", "decrypt": "decrypt", "both": "sign and decrypt"}
_Named = TypeVar("_Named", KeyInfo, StoredCertificate)


def _named(there: list[_Named], name: str | KeyUri, token: Token, types: Sequence[str]) -> list[_Named]:
    if isinstance(name, str) and not is_uri(name):
        by_label = [item for item in there if item.label == name]
        if by_label or not name or len(name) % 2 or set(name) - set(string.hexdigits):
            return by_label
        return [item for item in there if item.id == bytes.fromhex(name)]
    uri = KeyUri.parse(name) if isinstance(name, str) else name
    if uri.type not in (None, *types):
        raise UsageError(f"{uri} names an object of type {uri.type}, and {types[0]} is wanted")
    if not uri.matches(token.info.properties | token.module.properties):
        return []
    return [item for item in there if uri.matches({"object": item.label, "id": item.id})]


def _single(found: list[_Named], there: list[_Named], name: object, kind: str, token: Token) -> _Named:
    if len(found) == 1:
        return found[0]
    if found:
        raise AmbiguousNameError(
            f"{len(found)} {kind}s fit {name}: {', '.join(str(item.uri) for item in found)}",
            hint="name one of them by its URI",
        )
    if there:
        raise KeyNotFoundError(
            f"there is no {kind} {name} on the token {token.info.label}; there are: "
            f"{', '.join(str(item.uri) for item in there)}"
        )
    raise KeyNotFoundError(f"there is no {kind} {name}: the token {token.info.label} has no {kind} at all")


def read_keys(session: Session, token: TokenInfo) -> list[KeyInfo]:
    """`list_keys` within a session."""
    certificates = read_certificates(session, token)
    infos = {stored.certificate.public_key_info for stored in certificates}
    public = [read_public_key(item) for item in objects(session, {Attribute.CLASS: ObjectClass.PUBLIC_KEY})]
    found = []
    for item in objects(session, {Attribute.CLASS: ObjectClass.PRIVATE_KEY}):
        attributes = read(item, _PRIVATE_KEY)
        if attributes.get(Attribute.KEY_TYPE) in _LATTICE:
            attributes |= read(item, (Attribute.PARAMETER_SET, Attribute.DECAPSULATE))
        public_key = _public_half(attributes, public, certificates)
        found.append(
            _key_info(
                attributes,
                token,
                public_key,
                has_certificate=public_key is not None and public_key_info(public_key) in infos,
            )
        )
    return sorted(found, key=lambda key: (key.label, key.id))


def read_public_key(item: Object) -> dict[Attribute, Any]:
    """What `tokensign.token.public_key.decode` wants of a public-key object, and its CKA_ID."""
    attributes = read(item, (Attribute.ID, *PUBLIC_ATTRIBUTES))
    if attributes.get(Attribute.KEY_TYPE) in _LATTICE:
        attributes |= read(item, (Attribute.PARAMETER_SET, Attribute.VALUE))
    return attributes


def read_certificates(session: Session, token: TokenInfo) -> list[StoredCertificate]:
    """`list_certificates` within a session."""
    template = {Attribute.CLASS: ObjectClass.CERTIFICATE, Attribute.CERTIFICATE_TYPE: CertificateType.X_509}
    found = []
    for item in objects(session, template):
        attributes = read(item, (Attribute.LABEL, Attribute.ID, Attribute.VALUE))
        label, identifier = attributes.get(Attribute.LABEL, ""), attributes.get(Attribute.ID, b"")
        try:
            certificate = Certificate(attributes.get(Attribute.VALUE, b""))
        except MalformedError as error:
            _log.warning("the certificate %r on the token %s is passed over: %s", label, token.label, error)
            continue
        uri = replace(token.uri, object=label or None, id=identifier or None, type="cert")
        found.append(StoredCertificate(certificate, label, identifier, uri))
    return sorted(found, key=lambda stored: (stored.label, stored.id))


def _public_half(
    attributes: dict[Attribute, Any],
    public: list[dict[Attribute, Any]],
    certificates: list[StoredCertificate],
) -> PublicKeyTypes | None:
    """From the private key itself, which is surest; else from what bears its CKA_ID."""
    own = decode(attributes)
    if own is not None or not attributes.get(Attribute.ID):
        return own
    for candidate in public:
        if all(candidate.get(name) == attributes.get(name) for name in (Attribute.ID, Attribute.KEY_TYPE)):
            found = decode(candidate)
            if found is not None:
                return found
    for stored in certificates:
        if stored.id == attributes[Attribute.ID]:
            try:
                return stored.certificate.public_key
            except UnsupportedError:
                continue
    return None


def _key_info(
    attributes: dict[Attribute, Any],
    token: TokenInfo,
    public_key: PublicKeyTypes | None,
    *,
    has_certificate: bool,
) -> KeyInfo:
    label, identifier = attributes.get(Attribute.LABEL, ""), attributes.get(Attribute.ID, b"")
    return KeyInfo(
        label=label,
        id=identifier,
        spec=spec_of(attributes),
        usages=frozenset(name for attribute, name in _USAGES.items() if attributes.get(attribute)),
        uri=replace(token.uri, object=label or None, id=identifier or None, type="private"),
        public_key=public_key,
        has_certificate=has_certificate,
        **{attribute.name.lower(): attributes.get(attribute) for attribute in _PROTECTION},
    )
