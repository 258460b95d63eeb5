"""Signed attributes: made from parts that are encoded once, and checked as RFC 5652 section 11 says."""

from __future__ import annotations

import hashlib
import hmac
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, cast

from asn1crypto import cms, tsp

from tokensign import der
from tokensign.algorithms import CONTENT_CIPHERS, Digest, SignatureScheme, digest_by_oid
from tokensign.cms.content_info import parsing
from tokensign.errors import MalformedError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from tokensign.certificates import Certificate

__all__ = [
    "ATTRIBUTE_NAMES",
    "CMS_ALGORITHM_PROTECTION",
    "CONTENT_TYPE",
    "MESSAGE_DIGEST",
    "ONLY_SIGNED",
    "SIGNING_CERTIFICATE",
    "SIGNING_CERTIFICATE_V2",
    "SIGNING_TIME",
    "SMIME_CAPABILITIES",
    "SignedAttributes",
    "build_signed_attributes",
    "parse_signed_attributes",
]

CONTENT_TYPE: Final = "1.2.840.113549.1.9.3"
MESSAGE_DIGEST: Final = "1.2.840.113549.1.9.4"
SIGNING_TIME: Final = "1.2.840.113549.1.9.5"
SMIME_CAPABILITIES: Final = "1.2.840.113549.1.9.15"  # RFC 8551 section 2.5.2
CMS_ALGORITHM_PROTECTION: Final = "1.2.840.113549.1.9.52"  # RFC 6211
SIGNING_CERTIFICATE: Final = "1.2.840.113549.1.9.16.2.12"  # RFC 2634
SIGNING_CERTIFICATE_V2: Final = "1.2.840.113549.1.9.16.2.47"  # RFC 5035

ATTRIBUTE_NAMES: Final = {
    CONTENT_TYPE: "contentType",
    MESSAGE_DIGEST: "messageDigest",
    SIGNING_TIME: "signingTime",
    SMIME_CAPABILITIES: "SMIMECapabilities",
    CMS_ALGORITHM_PROTECTION: "CMSAlgorithmProtection",
    SIGNING_CERTIFICATE: "SigningCertificate",
    SIGNING_CERTIFICATE_V2: "SigningCertificateV2",
}

ONLY_SIGNED: Final = frozenset(  # RFC 5652 sections 11.1 to 11.3, RFC 8551 2.5.2, RFC 6211, RFC 5035
    {
        CONTENT_TYPE,
        MESSAGE_DIGEST,
        SIGNING_TIME,
        SMIME_CAPABILITIES,
        CMS_ALGORITHM_PROTECTION,
        SIGNING_CERTIFICATE,
        SIGNING_CERTIFICATE_V2,
    }
)

_ANNOUNCED_CIPHERS: Final = ("aes-256-gcm", "aes-256-cbc", "aes-128-gcm", "aes-128-cbc")  # best first


def _attribute(kind: str, value: bytes) -> bytes:
    return der.sequence(der.object_identifier(kind), der.constructed(0x31, value))


_CAPABILITIES: Final = _attribute(
    SMIME_CAPABILITIES,
    der.sequence(
        *(der.sequence(der.object_identifier(CONTENT_CIPHERS[name].oid)) for name in _ANNOUNCED_CIPHERS)
    ),
)


@lru_cache(maxsize=256)
def _constant_attributes(
    certificate: Certificate | None, scheme: SignatureScheme, content_type: str
) -> tuple[bytes, ...]:
    """The attributes that are the same in every signature of a key with a scheme."""
    protection = der.sequence(  # RFC 6211: the signature algorithm has the implicit tag [1]
        scheme.digest.algorithm_identifier,
        b"\xa1" + scheme.algorithm_identifier[1:],
    )
    constant = [
        _attribute(CONTENT_TYPE, der.object_identifier(content_type)),
        _attribute(CMS_ALGORITHM_PROTECTION, protection),
        _CAPABILITIES,
    ]
    if certificate is not None:
        constant.append(_attribute(SIGNING_CERTIFICATE_V2, _signing_certificate_v2(certificate)))
    return tuple(constant)


def _signing_certificate_v2(certificate: Certificate) -> bytes:
    """SigningCertificateV2 with one ESSCertIDv2, whose hash is the default SHA-256 (RFC 5035 section 4)."""
    issuer, serial_number = der.elements(certificate.issuer_and_serial_number)
    general_names = der.sequence(der.explicit(4, issuer))  # one directoryName
    issuer_serial = der.sequence(general_names, serial_number)
    return der.sequence(der.sequence(der.sequence(der.octet_string(certificate.sha256), issuer_serial)))


def build_signed_attributes(
    certificate: Certificate | None,
    scheme: SignatureScheme,
    content_type: str,
    message_digest: bytes,
    signing_time: datetime,
) -> bytes:
    """The SignedAttributes of one signature as the SET OF that is signed (RFC 5652 section 5.4).

    Args:
        certificate: The signer's, for SigningCertificateV2; None leaves that attribute out.
        scheme: The signature scheme, for CMSAlgorithmProtection.
        content_type: The eContentType, dotted.
        message_digest: The hash value of the content.
        signing_time: When it is signed, to the second.

    Returns:
        DER with the tag SET OF; in the SignerInfo the tag is [0].
    """
    return der.set_of(
        *_constant_attributes(certificate, scheme, content_type),
        _attribute(MESSAGE_DIGEST, der.octet_string(message_digest)),
        _attribute(SIGNING_TIME, der.time(signing_time)),
    )


class SignedAttributes:
    """The signed attributes of a received signature.

    Args:
        values: Attribute type, dotted, to its values as asn1crypto has them.
    """

    def __init__(self, values: Mapping[str, list[Any]]) -> None:
        self._values = values

    @property
    def types(self) -> tuple[str, ...]:
        """The attribute types that are present, dotted."""
        return tuple(self._values)

    @property
    def signing_time(self) -> datetime | None:
        """What the signer says about the time, or None.

        Raises:
            MalformedError: It is not a time.
        """
        value = self._single(SIGNING_TIME, "signingTime", required=False)
        if value is None:
            return None
        with parsing("signingTime"):
            return cast("datetime", value.native)

    def check_content_type(self, content_type: str) -> None:
        """Check that contentType is there once and is the eContentType (RFC 5652 section 11.1).

        Raises:
            MalformedError: It is not.
        """
        value = self._single(CONTENT_TYPE, "contentType")
        if value.dotted != content_type:
            raise MalformedError("the signed contentType differs from that of the content")

    def check_message_digest(self, digest: bytes) -> bool:
        """Whether messageDigest, which must be there once (RFC 5652 section 11.2), is this hash value.

        Raises:
            MalformedError: messageDigest is missing or repeated.
        """
        value = self._single(MESSAGE_DIGEST, "messageDigest")
        return hmac.compare_digest(value.native, digest)

    def check_algorithm_protection(self, digest_oid: str, signature_algorithm: bytes) -> None:
        """CMSAlgorithmProtection, where present, repeats the algorithms of the SignerInfo (RFC 6211).

        Args:
            digest_oid: The digestAlgorithm of the SignerInfo, dotted.
            signature_algorithm: The signatureAlgorithm of the SignerInfo, DER.

        Raises:
            MalformedError: It names others, so one of both was changed.
        """
        value = self._single(CMS_ALGORITHM_PROTECTION, "CMSAlgorithmProtection", required=False)
        if value is None:
            return
        with parsing("CMSAlgorithmProtection"):
            protected_digest = value["digest_algorithm"]["algorithm"].dotted
            protected_signature = value["signature_algorithm"]
            same = protected_digest == digest_oid and (
                not protected_signature or protected_signature.contents == der.content(signature_algorithm)
            )
        if not same:
            raise MalformedError("CMSAlgorithmProtection names other algorithms than the signature")

    def check_signing_certificate(self, certificate: Certificate) -> None:
        """SigningCertificate and SigningCertificateV2, where present, name the signer's certificate.

        Raises:
            MalformedError: They name another one (RFC 5035 section 5).
        """
        for kind, name in (
            (SIGNING_CERTIFICATE_V2, "SigningCertificateV2"),
            (SIGNING_CERTIFICATE, "SigningCertificate"),
        ):
            value = self._single(kind, name, required=False)
            if value is None:
                continue
            with parsing(name):
                first = value["certs"][0]
                algorithm = _hash_of(first)
                named = first["cert_hash"].native
            actual = hashlib.new(algorithm.name, certificate.der, usedforsecurity=False).digest()
            if not hmac.compare_digest(named, actual):
                raise MalformedError(f"{name} names another certificate than the signer's")

    def _single(self, kind: str, name: str, *, required: bool = True) -> Any:  # noqa: ANN401 - asn1crypto
        values = self._values.get(kind)
        if values is None:
            if required:
                raise MalformedError(f"the signed attribute {name} is missing")
            return None
        if len(values) != 1:
            raise MalformedError(f"the signed attribute {name} has {len(values)} values instead of one")
        return values[0]


def _hash_of(identifier: tsp.ESSCertID | tsp.ESSCertIDv2) -> Digest:
    if isinstance(identifier, tsp.ESSCertIDv2):
        return digest_by_oid(identifier["hash_algorithm"]["algorithm"].dotted)
    return digest_by_oid("1.3.14.3.2.26")


def parse_signed_attributes(encoded: bytes) -> SignedAttributes:
    """Read signed attributes.

    Args:
        encoded: The SET OF Attribute, in definite form, with the tag SET OF.

    Raises:
        MalformedError: They are broken, empty, or one type occurs twice (RFC 5652 section 5.3).
    """
    values: dict[str, list[Any]] = {}
    with parsing("signedAttrs"):
        attributes = cms.CMSAttributes.load(encoded, strict=True)
        for attribute in attributes:
            kind = attribute["type"].dotted
            if kind in values:
                raise MalformedError(f"the signed attribute {kind} occurs twice")
            values[kind] = list(attribute["values"])
    if not values:
        raise MalformedError("the signed attributes are empty")
    return SignedAttributes(values)
