"""Making SignerInfo (RFC 5652 section 5.3): what is the same in all signatures of a key is encoded once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final, Literal

from cryptography.hazmat.primitives.asymmetric import rsa

from tokensign import der
from tokensign.algorithms import (
    RSA_MAXIMUM_BITS,
    RSA_MINIMUM_BITS,
    Digest,
    SignatureScheme,
    default_scheme,
)
from tokensign.cms.attributes import SignedAttributesTemplate
from tokensign.cms.content_info import DATA
from tokensign.cms.signature import verify_fresh
from tokensign.errors import BadSignatureError, SigningError, UnsupportedError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from tokensign.certificates import Certificate
    from tokensign.keys import Signer

__all__ = ["DEFAULT_OPTIONS", "SignerInfoTemplate", "SigningOptions", "certificates_of", "templates_of"]

_VERSION_ISSUER_AND_SERIAL: Final = 1
_VERSION_SUBJECT_KEY_IDENTIFIER: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningOptions:
    """How to sign. The defaults are what S/MIME clients expect.

    Attributes:
        family: "rsa-pkcs1", "rsa-pss", "ecdsa", "eddsa" or "ml-dsa"; None: the usual one of each key's type.
        digest: The digest; None: the usual one of each key.
        identifier: Whether a certificate is named by issuer and serial number or by subject key identifier.
        include_certificates: Whether the signers' certificates and chains go into the message.
        extra_certificates: Further certificates that go into it.
        content_type: The eContentType, dotted; id-data unless told.
        mime_type: The media type of the content, such as "text/plain"; None: it is not said.
        signing_time: An aware datetime; None: now.
        signed_attributes: Further signed attributes, each an Attribute in DER, of types that not every
            signature has; left out of countersignatures.
        check: Verify each fresh signature with the public key before it is released.
    """

    family: str | None = None
    digest: Digest | None = None
    identifier: Literal["issuer", "ski"] = "issuer"
    include_certificates: bool = True
    extra_certificates: Sequence[Certificate] = ()
    content_type: str = DATA
    mime_type: str | None = None
    signing_time: datetime | None = None
    signed_attributes: tuple[bytes, ...] = ()
    check: bool = True


DEFAULT_OPTIONS: Final = SigningOptions()


class SignerInfoTemplate:
    """One signer, ready to sign content after content.

    Args:
        signer: The key, with its certificate.
        options: How to sign.
        content_type: The eContentType, dotted; None for countersignatures.

    Attributes:
        signer: The key.
        certificate: Its certificate, as it was when the template was made.
        scheme: How it signs.
        head: The fields version, sid and digestAlgorithm of its SignerInfo, DER.

    Raises:
        UsageError: The key has no certificate, or the certificate lacks what it is to be named by.
        UnsupportedError: The key cannot sign the way that was asked for.
    """

    def __init__(self, signer: Signer, options: SigningOptions, content_type: str | None) -> None:
        certificate = signer.certificate
        self.scheme: SignatureScheme = default_scheme(
            signer.public_key, family=options.family, digest=options.digest
        )
        if certificate is None:
            raise UsageError(
                "the signing key has no certificate that is meant for signatures",
                hint="import one with `tokensign cert import`, or make one with `tokensign cert self-sign`",
            )
        _require_size(signer)
        self.signer = signer
        self.certificate = certificate
        self._check = options.check
        mime_type, further = options.mime_type, options.signed_attributes
        if content_type is None:  # a countersignature
            mime_type, further = None, ()
        self._attributes = _signed_attributes(certificate, self.scheme, content_type, mime_type, further)
        version, sid = _identifier(certificate, options.identifier)
        self.head = der.integer(version) + sid + self.scheme.digest.algorithm_identifier

    def sign(self, message_digest: bytes, moment: datetime) -> bytes:
        """Sign: the only place where a token signs a message.

        Args:
            message_digest: The hash value of the content by the scheme's digest.
            moment: The signing time.

        Returns:
            A SignerInfo, DER.

        Raises:
            SigningError: The fresh signature does not verify.
            TokenError: The token failed.
        """
        attributes = self.signed_attributes(message_digest, moment)
        return self.signer_info(attributes, self.signer.sign(attributes, self.scheme))

    def signed_attributes(self, message_digest: bytes, moment: datetime) -> bytes:
        """What is signed, DER; `sign` has the arguments."""
        return self._attributes.encode(message_digest, moment)

    def signer_info(self, attributes: bytes, signature: bytes) -> bytes:
        """A SignerInfo, DER.

        Args:
            attributes: From `signed_attributes`.
            signature: The signature over them.

        Raises:
            SigningError: The fresh signature does not verify.
        """
        if self._check:
            self._require_valid(signature, attributes)
        octets = der.header(0x04, len(signature))
        algorithm = self.scheme.algorithm_identifier
        fields = b"".join((self.head, b"\xa0", attributes[1:], algorithm, octets, signature))
        return der.header(0x30, len(fields)) + fields

    def _require_valid(self, signature: bytes, attributes: bytes) -> None:
        try:
            verify_fresh(self.signer.public_key, self.scheme, signature, message=attributes)
        except BadSignatureError as error:
            name = self.certificate.subject
            raise SigningError(
                f"the signature that the token made for {name} is wrong and was thrown away",
                hint="run `tokensign doctor`; the key, the token or its module is damaged",
            ) from error


@lru_cache(maxsize=256)
def _signed_attributes(
    certificate: Certificate,
    scheme: SignatureScheme,
    content_type: str | None,
    mime_type: str | None,
    further: tuple[bytes, ...],
) -> SignedAttributesTemplate:
    """The template of a key's signed attributes, also for callers that sign one message at a time."""
    return SignedAttributesTemplate(certificate, scheme, content_type, mime_type, further)


def templates_of(
    signers: Sequence[Signer], options: SigningOptions, content_type: str | None
) -> list[SignerInfoTemplate]:
    """A template for each signer; every refusal comes before the first signature.

    Raises:
        UsageError: There is no signer; or as for `SignerInfoTemplate`.
        UnsupportedError: As for `SignerInfoTemplate`.
    """
    if not signers:
        raise UsageError("a signature needs at least one signer")
    return [SignerInfoTemplate(signer, options, content_type) for signer in signers]


def certificates_of(templates: Sequence[SignerInfoTemplate], options: SigningOptions) -> set[bytes]:
    """The certificates that the options put into the message, DER."""
    found = {entry.der for entry in options.extra_certificates}
    if options.include_certificates:
        for template in templates:
            found.add(template.certificate.der)
            found.update(entry.der for entry in template.signer.chain)
    return found


def _identifier(certificate: Certificate, kind: Literal["issuer", "ski"]) -> tuple[int, bytes]:
    """The version of the SignerInfo, and its sid."""
    if kind == "issuer":
        return _VERSION_ISSUER_AND_SERIAL, certificate.issuer_and_serial_number
    if certificate.subject_key_identifier is None:
        raise UsageError(f"the certificate of {certificate.subject} has no subject key identifier")
    return _VERSION_SUBJECT_KEY_IDENTIFIER, der.tlv(0x80, certificate.subject_key_identifier)


def _require_size(signer: Signer) -> None:
    key = signer.public_key
    if isinstance(key, rsa.RSAPublicKey) and not RSA_MINIMUM_BITS <= key.key_size <= RSA_MAXIMUM_BITS:
        raise UnsupportedError(
            f"an RSA key of {key.key_size} bits does not sign here",
            hint=f"sizes from {RSA_MINIMUM_BITS} to {RSA_MAXIMUM_BITS} are used; generate another key",
        )
