"""The keys and certificates on a token, as its attributes describe them."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from pkcs11.constants import Attribute, CertificateType, ObjectClass
from pkcs11.mechanisms import KeyType

from tokensign.certificates import Certificate
from tokensign.errors import MalformedError, UnsupportedError
from tokensign.token.attributes import objects, read
from tokensign.token.public_key import PUBLIC_ATTRIBUTES, decode, public_key_info, spec_of
from tokensign.token.quirks import denies_local

if TYPE_CHECKING:
    from datetime import datetime

    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
    from pkcs11 import Object

    from tokensign.algorithms import KeyUsage
    from tokensign.token.info import TokenInfo
    from tokensign.token.opening import Token
    from tokensign.token.session import Session
    from tokensign.uri import KeyUri

__all__ = ["KeyInfo", "StoredCertificate", "list_certificates", "list_keys", "list_secret_keys"]

_log: Final = logging.getLogger(__name__)

_USAGES: Final = {
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
_SECRET_USAGES: Final = {
    Attribute.WRAP: "wrap",
    Attribute.UNWRAP: "unwrap",
    Attribute.ENCRYPT: "encrypt",
    Attribute.DECRYPT: "decrypt",
    Attribute.SIGN: "sign",
    Attribute.VERIFY: "verify",
    Attribute.DERIVE: "derive",
}
_SECRET_PROTECTION: Final = tuple(name for name in _PROTECTION if name is not Attribute.ALWAYS_AUTHENTICATE)
_SECRET_KEY: Final = (
    Attribute.LABEL,
    Attribute.ID,
    Attribute.VALUE_LEN,
    *_SECRET_USAGES,
    *_SECRET_PROTECTION,
)


@dataclass(frozen=True, slots=True)
class KeyInfo:
    """A private or AES key on a token. None means that the token does not say.

    Attributes:
        label: CKA_LABEL.
        id: CKA_ID.
        spec: Its type, such as "rsa:3072", "ec:p256", "ed25519", "ml-kem-768" or "aes:256".
        usages: What it may be used for: "sign", "decrypt", "derive", "decapsulate", "unwrap", "sign-recover",
            and of AES keys "wrap", "unwrap", "encrypt", "decrypt", "sign", "verify", "derive".
        uri: The URI that names it.
        public_key: The public half, or None where the token does not have it or its type is not known, and
            of AES keys.
        has_certificate: Whether a certificate for it is on the token.
        sensitive: CKA_SENSITIVE: its value cannot be read.
        extractable: CKA_EXTRACTABLE: it can leave the token wrapped.
        always_sensitive: CKA_ALWAYS_SENSITIVE.
        never_extractable: CKA_NEVER_EXTRACTABLE.
        private: CKA_PRIVATE: it is seen only after login.
        local: CKA_LOCAL: it was generated on the token.
        modifiable: CKA_MODIFIABLE.
        always_authenticate: CKA_ALWAYS_AUTHENTICATE: each operation wants the PIN. AES keys do not have it.
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

    @property
    def secret(self) -> bool:
        """Whether it is an AES key and not a private key."""
        return self.spec.startswith("aes:")

    def serves(self, usage: KeyUsage) -> bool:
        """Whether a private key was made for all of a usage.

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


def list_secret_keys(token: Token) -> list[KeyInfo]:
    """The AES keys, by label. This needs the PIN.

    Raises:
        TokenError: The token fails or refuses the PIN.
    """
    with token.borrow("list the secret keys") as session:
        return read_secret_keys(session, token.info) or _nothing(token)


def list_certificates(token: Token) -> list[StoredCertificate]:
    """The X.509 certificates, by label and subject. This needs no PIN.

    Those that cannot be read are logged and left out.

    Raises:
        TokenError: The token fails.
    """
    with token.borrow("list the certificates", public=True) as session:
        return read_certificates(session, token.info) or _nothing(token)


def _nothing(token: Token) -> list[Any]:
    token.connection.require_token()
    return []


def read_keys(
    session: Session, token: TokenInfo, certificates: list[StoredCertificate] | None = None
) -> list[KeyInfo]:
    """`list_keys` within a session; the certificates are read unless they are at hand."""
    if certificates is None:
        certificates = read_certificates(session, token)
    infos = {stored.certificate.public_key_info for stored in certificates}
    public = [read_public_key(item) for item in objects(session, {Attribute.CLASS: ObjectClass.PUBLIC_KEY})]
    found = []
    local_denied = denies_local(token)
    for item in objects(session, {Attribute.CLASS: ObjectClass.PRIVATE_KEY}):
        attributes = read(item, _PRIVATE_KEY)
        if local_denied:
            attributes.pop(Attribute.LOCAL, None)
        if attributes.get(Attribute.KEY_TYPE) in _LATTICE:
            attributes |= read(item, (Attribute.PARAMETER_SET, Attribute.DECAPSULATE))
        public_key = _public_half(attributes, public, certificates)
        found.append(
            _key_info(
                attributes,
                replace(token.uri, type="private"),
                spec_of(attributes),
                _USAGES,
                public_key,
                has_certificate=public_key is not None and public_key_info(public_key) in infos,
            )
        )
    return sorted(found, key=lambda key: (key.label, key.id))


def read_secret_keys(session: Session, token: TokenInfo) -> list[KeyInfo]:
    """`list_secret_keys` within a session."""
    template = {
        Attribute.CLASS: ObjectClass.SECRET_KEY,
        Attribute.KEY_TYPE: KeyType.AES,
        Attribute.TOKEN: True,
    }
    found = []
    local_denied = denies_local(token)
    for item in objects(session, template):
        attributes = read(item, _SECRET_KEY)
        if local_denied:
            attributes.pop(Attribute.LOCAL, None)
        size = attributes.get(Attribute.VALUE_LEN)
        found.append(
            _key_info(
                attributes,
                replace(token.uri, type="secret-key"),
                f"aes:{8 * size}" if size else "aes:unknown",
                _SECRET_USAGES,
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
    return sorted(found, key=_order)


def _order(stored: StoredCertificate) -> tuple[str, str, datetime, bytes]:
    """The label, and what is the same each time where several have it: a CKA_ID may be any number."""
    return stored.label, stored.certificate.subject, stored.certificate.not_before, stored.id


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
    uri: KeyUri,
    spec: str,
    usages: dict[Attribute, str],
    public_key: PublicKeyTypes | None = None,
    *,
    has_certificate: bool = False,
) -> KeyInfo:
    label, identifier = attributes.get(Attribute.LABEL, ""), attributes.get(Attribute.ID, b"")
    return KeyInfo(
        label=label,
        id=identifier,
        spec=spec,
        usages=frozenset(name for attribute, name in usages.items() if attributes.get(attribute)),
        uri=replace(uri, object=label or None, id=identifier or None),
        public_key=public_key,
        has_certificate=has_certificate,
        **{attribute.name.lower(): attributes.get(attribute) for attribute in _PROTECTION},
    )
