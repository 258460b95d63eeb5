"""KeyAgreeRecipientInfo: a shared secret encrypts the content-encryption key (RFC 5652 section 6.2.2).

With elliptic curves by RFC 5753, with X25519 and X448 by RFC 8418, and, to read only, with finite fields by
RFC 2631. The recipient's key gives the raw shared secret; what is made of it is made on the host.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from cryptography.hazmat.primitives.asymmetric import ec, x448, x25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tokensign import der
from tokensign.algorithms import (
    CURVES,
    DH_PUBLIC_NUMBER_OID,
    EC_PUBLIC_KEY_OID,
    KEY_AGREEMENT_SCHEMES,
    X448_OID,
    X25519_OID,
    KeyAgreementScheme,
    KeyWrap,
    key_agreement_scheme_by_oid,
    key_wrap_for,
    require_strength,
)
from tokensign.cms.ber import OCTET_STRING, SEQUENCE, context
from tokensign.cms.content_cipher import CANNOT_DECRYPT
from tokensign.cms.recipients import finite_field
from tokensign.cms.recipients.identifier import RecipientIdentifier
from tokensign.cms.recipients.kdf import agreed_key
from tokensign.cms.recipients.key_wrap import read_key_wrap, unwrap, wrap
from tokensign.cms.signed_data import algorithm_of
from tokensign.errors import DecryptionError, MalformedError, UnsupportedError
from tokensign.keys import KeyAgreement

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

    from tokensign.certificates import Certificate
    from tokensign.keys import DecryptionKey

__all__ = ["KeyAgreeRecipientInfo", "encode_key_agree", "load_key_agree"]

_BIT_STRING: Final = 0x03
_KEYS_OF: Final[dict[str, type[PublicKeyTypes]]] = {
    EC_PUBLIC_KEY_OID: ec.EllipticCurvePublicKey,
    X25519_OID: x25519.X25519PublicKey,
    X448_OID: x448.X448PublicKey,
}


@dataclass(frozen=True, slots=True)
class KeyAgreeRecipientInfo:
    """One of the recipients of a KeyAgreeRecipientInfo.

    Attributes:
        identifier: Names the recipient's certificate.
        originator: OriginatorIdentifierOrKey without its explicit tag, DER.
        ukm: The user keying material, or None.
        key_encryption_algorithm: AlgorithmIdentifier, DER.
        encrypted_key: The wrapped content-encryption key.
        hides_failure: False: the key wrap has an integrity check that nobody passes without the secret.
    """

    identifier: RecipientIdentifier
    originator: bytes
    ukm: bytes | None
    key_encryption_algorithm: bytes
    encrypted_key: bytes
    hides_failure: bool = False

    def is_for(self, key: DecryptionKey) -> bool:
        """Whether a key may open it; one without any certificate may be the one if its type fits."""
        if not isinstance(key, KeyAgreement) or _algorithm_of_key(key.public_key) is None:
            return False
        if key.certificates:
            return self.identifier.names_key(key)
        return self.originator[0] == context(1) and self._fits(key.public_key)

    def require_strength(self, *, legacy: bool) -> None:
        """Refuse weak key wraps, and senders that are named and not shown.

        Raises:
            LegacyAlgorithmError: It is 3DES, without the legacy switch.
            UnsupportedError: An algorithm that is not known, or the sender's key is not in the message.
            MalformedError: Broken parameters.
        """
        _, key_wrap = self.algorithms
        require_strength(key_wrap.name, key_wrap.strength, legacy=legacy)
        if self.originator[0] != context(1):
            raise UnsupportedError(
                "the sender's key is named by a certificate and is not in the message",
                hint="static key agreement is not done here; ask for a message with an ephemeral key",
            )

    def content_key(self, key: DecryptionKey) -> bytes:
        """The content-encryption key, by one operation of the recipient's key.

        Raises:
            DecryptionError: The sender's key is not valid, or the integrity check of the key wrap fails.
            TokenError: The token failed.
        """
        if not isinstance(key, KeyAgreement):
            raise TypeError("is_for comes first")
        scheme, key_wrap = self.algorithms
        secret = key.agree(self._originator_key(key.public_key))
        key_encryption_key = agreed_key(scheme, secret, key_wrap, self._wrap_identifier(), self.ukm)
        return unwrap(key_wrap, key_encryption_key, self.encrypted_key)

    @property
    def algorithms(self) -> tuple[KeyAgreementScheme, KeyWrap]:
        """How the secret becomes a key-encryption key, and what that wraps with.

        Raises:
            UnsupportedError: An algorithm that is not known.
            MalformedError: Broken parameters.
        """
        scheme = key_agreement_scheme_by_oid(algorithm_of(self.key_encryption_algorithm))
        return scheme, read_key_wrap(self._wrap_identifier())

    def _wrap_identifier(self) -> bytes:
        """The KeyWrapAlgorithm, as it was received."""
        match der.elements(self.key_encryption_algorithm):
            case [_, parameters]:
                return parameters
            case _:
                raise MalformedError("the key agreement algorithm lacks its key wrap")

    def _fits(self, public_key: PublicKeyTypes) -> bool:
        """Whether a recipient's key is of the sender's type."""
        return _algorithm_of_key(public_key) == algorithm_of(der.elements(self.originator)[0])

    def _originator_key(self, own: PublicKeyTypes) -> PublicKeyTypes:
        """The sender's public key, of the same curve or group as the recipient's own.

        Raises:
            DecryptionError: It is of another one, or it is no valid key.
        """
        algorithm, public_key = der.elements(self.originator)
        octets = der.content(public_key)[1:]  # without the count of unused bits
        if not self._fits(own):
            raise DecryptionError(CANNOT_DECRYPT)
        try:
            match own:
                case ec.EllipticCurvePublicKey():
                    _require_curve(der.elements(algorithm)[1:], own)
                    return ec.EllipticCurvePublicKey.from_encoded_point(own.curve, octets)
                case x25519.X25519PublicKey():
                    return x25519.X25519PublicKey.from_public_bytes(octets)
                case x448.X448PublicKey():
                    return x448.X448PublicKey.from_public_bytes(octets)
                case _:
                    return finite_field.originator_key(octets, own)
        except ValueError:
            raise DecryptionError(CANNOT_DECRYPT) from None

    def __str__(self) -> str:
        return str(self.identifier)


def load_key_agree(encoded: bytes) -> list[KeyAgreeRecipientInfo]:
    """Read a KeyAgreeRecipientInfo, in definite form.

    Returns:
        Each of its recipients.

    Raises:
        MalformedError: It is none.
    """
    fields = der.elements(encoded)
    ukm: bytes | None = None
    if len(fields) == 5 and fields[2][0] == context(1):  # noqa: PLR2004 - with ukm
        ukm = _octets(fields.pop(2), "ukm")
    match fields:
        case [_, originator, algorithm, keys] if originator[0] == context(0) and keys[0] == SEQUENCE:
            sender = _originator(originator)
            return [
                KeyAgreeRecipientInfo(*_recipient(one, sender, ukm, algorithm)) for one in der.elements(keys)
            ]
        case _:
            raise MalformedError("a KeyAgreeRecipientInfo is broken")


def encode_key_agree(certificate: Certificate, key: bytes) -> bytes:
    """A KeyAgreeRecipientInfo with a fresh ephemeral key, for a certificate by issuer and serial number.

    Args:
        certificate: The recipient's, with a key on P-256, P-384, P-521, X25519 or X448.
        key: The content-encryption key.

    Returns:
        DER.

    Raises:
        UnsupportedError: The certificate's key cannot be agreed with.
    """
    algorithm, ephemeral, secret, scheme = _ephemeral(certificate)
    key_wrap = key_wrap_for(len(key))
    identifier = key_wrap.algorithm_identifier
    key_encryption_key = agreed_key(scheme, secret, key_wrap, identifier, None)
    encrypted_key = der.octet_string(wrap(key_wrap, key_encryption_key, key))
    originator_key = der.constructed(
        context(1),
        der.sequence(
            der.object_identifier(algorithm)
        ),  # RFC 5753 section 3.1.1: the curve is the recipient's
        der.tlv(_BIT_STRING, b"\0" + ephemeral),
    )
    return der.constructed(
        context(1),
        der.integer(3),
        der.explicit(0, originator_key),
        der.sequence(der.object_identifier(scheme.oid), identifier),
        der.sequence(der.sequence(certificate.issuer_and_serial_number, encrypted_key)),
    )


def _ephemeral(certificate: Certificate) -> tuple[str, bytes, bytes, KeyAgreementScheme]:
    """An ephemeral public key as algorithm and octets, the shared secret, and the scheme that fits."""
    public_key = certificate.public_key
    private: Any
    try:
        match public_key:
            case ec.EllipticCurvePublicKey():
                curve = next(
                    (one for one in CURVES.values() if isinstance(public_key.curve, one.primitive)), None
                )
                if curve is not None:
                    private = ec.generate_private_key(public_key.curve)
                    octets = private.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
                    secret = private.exchange(ec.ECDH(), public_key)
                    scheme = KEY_AGREEMENT_SCHEMES[f"dhSinglePass-stdDH-{curve.digest.name}kdf"]
                    return EC_PUBLIC_KEY_OID, octets, secret, scheme
            case x25519.X25519PublicKey():
                private = x25519.X25519PrivateKey.generate()
                octets = private.public_key().public_bytes_raw()
                scheme = KEY_AGREEMENT_SCHEMES["dhSinglePass-stdDH-hkdf-sha256"]
                return X25519_OID, octets, private.exchange(public_key), scheme
            case x448.X448PublicKey():
                private = x448.X448PrivateKey.generate()
                octets = private.public_key().public_bytes_raw()
                scheme = KEY_AGREEMENT_SCHEMES["dhSinglePass-stdDH-hkdf-sha512"]
                return X448_OID, octets, private.exchange(public_key), scheme
            case _:
                pass
    except ValueError:  # a point of small order, whose secret everybody knows
        raise UnsupportedError(f"the public key of {certificate.subject} is not safe to agree with") from None
    raise UnsupportedError(
        f"the certificate of {certificate.subject} has a key that nobody encrypts to",
        hint="ask for one with RSA, P-256, P-384, P-521, X25519, X448 or ML-KEM",
    )


_Fields = tuple[RecipientIdentifier, bytes, bytes | None, bytes, bytes]


def _recipient(encoded: bytes, originator: bytes, ukm: bytes | None, algorithm: bytes) -> _Fields:
    """The fields for one RecipientEncryptedKey."""
    match der.elements(encoded):
        case [identifier, encrypted_key] if encrypted_key[0] == OCTET_STRING:
            return _identifier(identifier), originator, ukm, algorithm, der.content(encrypted_key)
        case _:
            raise MalformedError("a RecipientEncryptedKey is broken")


def _identifier(encoded: bytes) -> RecipientIdentifier:
    """KeyAgreeRecipientIdentifier: IssuerAndSerialNumber, or [0] RecipientKeyIdentifier."""
    if encoded[0] != context(0):
        return RecipientIdentifier.load(encoded)
    match der.elements(encoded):
        case [identifier, *_] if identifier[0] == OCTET_STRING:
            return RecipientIdentifier(subject_key_identifier=der.content(identifier))
        case _:
            raise MalformedError("a RecipientKeyIdentifier is broken")


def _originator(encoded: bytes) -> bytes:
    """What is inside the explicit tag; an OriginatorPublicKey is looked at."""
    match der.elements(encoded):
        case [originator] if originator[0] != context(1):
            return originator
        case [originator]:
            match der.elements(originator):
                case [algorithm, public_key] if algorithm[0] == SEQUENCE and public_key[:1] == b"\x03":
                    algorithm_of(algorithm)
                    return originator
    raise MalformedError("the originator of a KeyAgreeRecipientInfo is broken")


def _octets(encoded: bytes, what: str) -> bytes:
    """The content of an OCTET STRING in an explicit tag."""
    match der.elements(encoded):
        case [octets] if octets[0] == OCTET_STRING:
            return der.content(octets)
        case _:
            raise MalformedError(f"{what} is broken")


def _algorithm_of_key(public_key: PublicKeyTypes) -> str | None:
    """The algorithm of a key that agrees, dotted; None for other keys."""
    if finite_field.is_finite_field_key(public_key):
        return DH_PUBLIC_NUMBER_OID
    return next((oid for oid, kind in _KEYS_OF.items() if isinstance(public_key, kind)), None)


def _require_curve(parameters: list[bytes], own: ec.EllipticCurvePublicKey) -> None:
    """Refuse another curve than the recipient's, which absence or NULL means too (RFC 5753 section 3.1.1)."""
    if parameters in ([], [der.NULL]):
        return
    curve = next((one for one in CURVES.values() if isinstance(own.curve, one.primitive)), None)
    if curve is None or parameters != [der.object_identifier(curve.oid)]:
        raise DecryptionError(CANNOT_DECRYPT)
