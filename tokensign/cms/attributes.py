"""Signed attributes: made from parts that are encoded once, and checked as RFC 5652 section 11 says."""

from __future__ import annotations

import hashlib
import hmac
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, cast

from asn1crypto import cms

from tokensign import der
from tokensign.algorithms import DIGESTS, Digest, SignatureScheme, digest_by_oid
from tokensign.cms.capabilities import ANNOUNCED_CAPABILITIES
from tokensign.cms.content_info import parsing
from tokensign.errors import MalformedError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tokensign.certificates import Certificate

__all__ = [
    "ARCHIVE_TIME_STAMP_V3",
    "ATS_HASH_INDEX_V3",
    "ATTRIBUTE_NAMES",
    "CMS_ALGORITHM_PROTECTION",
    "CONTENT_HINTS",
    "CONTENT_IDENTIFIER",
    "CONTENT_REFERENCE",
    "CONTENT_TYPE",
    "COUNTERSIGNATURE",
    "ENCRYPTION_KEY_PREFERENCE",
    "EQUIVALENT_LABELS",
    "MESSAGE_DIGEST",
    "MIME_TYPE",
    "ML_EXPANSION_HISTORY",
    "MSG_SIG_DIGEST",
    "ONLY_SIGNED",
    "ONLY_UNSIGNED",
    "RECEIPT_REQUEST",
    "SECURITY_LABEL",
    "SIGNATURE_TIME_STAMP",
    "SIGNING_CERTIFICATE",
    "SIGNING_CERTIFICATE_V2",
    "SIGNING_TIME",
    "SMIME_CAPABILITIES",
    "SignedAttributes",
    "SignedAttributesTemplate",
    "attribute",
    "build_signed_attributes",
    "parse_attributes",
    "parse_signed_attributes",
    "parse_unsigned_attributes",
]

CONTENT_TYPE: Final = "1.2.840.113549.1.9.3"
MESSAGE_DIGEST: Final = "1.2.840.113549.1.9.4"
SIGNING_TIME: Final = "1.2.840.113549.1.9.5"
COUNTERSIGNATURE: Final = "1.2.840.113549.1.9.6"  # unsigned
SMIME_CAPABILITIES: Final = "1.2.840.113549.1.9.15"  # RFC 8551 section 2.5.2
CMS_ALGORITHM_PROTECTION: Final = "1.2.840.113549.1.9.52"  # RFC 6211
RECEIPT_REQUEST: Final = "1.2.840.113549.1.9.16.2.1"  # RFC 2634 section 2.7
SECURITY_LABEL: Final = "1.2.840.113549.1.9.16.2.2"  # RFC 2634 section 3.2
ML_EXPANSION_HISTORY: Final = "1.2.840.113549.1.9.16.2.3"  # RFC 2634 section 4.4
CONTENT_HINTS: Final = "1.2.840.113549.1.9.16.2.4"  # RFC 2634 section 2.9
MSG_SIG_DIGEST: Final = "1.2.840.113549.1.9.16.2.5"  # RFC 2634 section 2.10
CONTENT_IDENTIFIER: Final = "1.2.840.113549.1.9.16.2.7"  # RFC 2634 section 2.7
EQUIVALENT_LABELS: Final = "1.2.840.113549.1.9.16.2.9"  # RFC 2634 section 3.4
CONTENT_REFERENCE: Final = "1.2.840.113549.1.9.16.2.10"  # RFC 2634 section 2.11
ENCRYPTION_KEY_PREFERENCE: Final = "1.2.840.113549.1.9.16.2.11"  # RFC 8551 section 2.5.3
SIGNING_CERTIFICATE: Final = "1.2.840.113549.1.9.16.2.12"  # RFC 2634
SIGNING_CERTIFICATE_V2: Final = "1.2.840.113549.1.9.16.2.47"  # RFC 5035
MIME_TYPE: Final = "0.4.0.1733.2.1"  # ETSI EN 319 122-1 section 5.2.4.2
SIGNATURE_TIME_STAMP: Final = (
    "1.2.840.113549.1.9.16.2.14"  # unsigned, RFC 3161 appendix A, EN 319 122-1 section 5.3
)
ARCHIVE_TIME_STAMP_V3: Final = "0.4.0.1733.2.4"  # unsigned, EN 319 122-1 section 5.5.3
ATS_HASH_INDEX_V3: Final = "0.4.0.19122.1.5"  # unsigned, in an archive timestamp; EN 319 122-1 section 5.5.2

ATTRIBUTE_NAMES: Final = {
    CONTENT_TYPE: "contentType",
    MESSAGE_DIGEST: "messageDigest",
    SIGNING_TIME: "signingTime",
    COUNTERSIGNATURE: "countersignature",
    SMIME_CAPABILITIES: "SMIMECapabilities",
    CMS_ALGORITHM_PROTECTION: "CMSAlgorithmProtection",
    RECEIPT_REQUEST: "receiptRequest",
    SECURITY_LABEL: "ESSSecurityLabel",
    ML_EXPANSION_HISTORY: "mlExpansionHistory",
    CONTENT_HINTS: "contentHints",
    MSG_SIG_DIGEST: "msgSigDigest",
    CONTENT_IDENTIFIER: "contentIdentifier",
    EQUIVALENT_LABELS: "equivalentLabels",
    CONTENT_REFERENCE: "contentReference",
    ENCRYPTION_KEY_PREFERENCE: "SMIMEEncryptionKeyPreference",
    SIGNING_CERTIFICATE: "SigningCertificate",
    SIGNING_CERTIFICATE_V2: "SigningCertificateV2",
    MIME_TYPE: "mime-type",
    SIGNATURE_TIME_STAMP: "signature-time-stamp",
    ARCHIVE_TIME_STAMP_V3: "archive-time-stamp-v3",
    ATS_HASH_INDEX_V3: "ats-hash-index-v3",
}

_EPOCH: Final = datetime.fromtimestamp(0, UTC)
ONLY_SIGNED: Final = (
    frozenset(  # RFC 5652 sections 11.1 to 11.3, RFC 8551 2.5.2, RFC 6211, RFC 2634, EN 319 122-1
        {
            CONTENT_TYPE,
            MESSAGE_DIGEST,
            SIGNING_TIME,
            SMIME_CAPABILITIES,
            CMS_ALGORITHM_PROTECTION,
            RECEIPT_REQUEST,
            SECURITY_LABEL,
            ML_EXPANSION_HISTORY,
            MSG_SIG_DIGEST,
            EQUIVALENT_LABELS,
            ENCRYPTION_KEY_PREFERENCE,
            SIGNING_CERTIFICATE,
            SIGNING_CERTIFICATE_V2,
            MIME_TYPE,
        }
    )
)
ONLY_UNSIGNED: Final = frozenset(  # RFC 5652 section 11.4, EN 319 122-1
    {COUNTERSIGNATURE, SIGNATURE_TIME_STAMP, ARCHIVE_TIME_STAMP_V3, ATS_HASH_INDEX_V3}
)
_SEQUENCE: Final = 0x30
_SET: Final = 0x31
_OCTET_STRING: Final = 0x04
_TIMES: Final = (0x17, 0x18)  # UTCTime, GeneralizedTime
_USUAL_TIME: Final = re.compile(rb"\x17\x0d[0-9]{12}Z")  # UTCTime to the second in UTC
_FIRST_YEAR: Final = "50"  # of two digits, 19yy
_SIGNATURE_ALGORITHM: Final = 0xA1  # [1] IMPLICIT in CMSAlgorithmProtection


def attribute(kind: str, *values: bytes) -> bytes:
    """One Attribute.

    Args:
        kind: Its type, dotted.
        values: Its values, DER.
    """
    return der.sequence(der.object_identifier(kind), der.set_of(*values))


_CAPABILITIES: Final = attribute(SMIME_CAPABILITIES, ANNOUNCED_CAPABILITIES)


class SignedAttributesTemplate:
    """The signed attributes of a key with a scheme: what is the same in every signature is encoded once.

    Args:
        certificate: The signer's, for SigningCertificateV2; None leaves that attribute out.
        scheme: The signature scheme, for CMSAlgorithmProtection.
        content_type: The eContentType, dotted; None in a countersignature, which has none.
        mime_type: The media type of the content, such as "text/plain", for mime-type; None leaves that out.
        further: Other attributes, each an Attribute in DER.

    Raises:
        UsageError: A type is there twice, which RFC 5652 section 5.3 forbids, or must not be signed.
    """

    def __init__(
        self,
        certificate: Certificate | None,
        scheme: SignatureScheme,
        content_type: str | None,
        mime_type: str | None = None,
        further: Sequence[bytes] = (),
    ) -> None:
        protection = der.sequence(  # RFC 6211: the signature algorithm has the implicit tag [1]
            scheme.digest.algorithm_identifier,
            b"\xa1" + scheme.algorithm_identifier[1:],
        )
        self._constant = [attribute(CMS_ALGORITHM_PROTECTION, protection), _CAPABILITIES]
        if content_type is not None:
            self._constant.append(attribute(CONTENT_TYPE, der.object_identifier(content_type)))
        if certificate is not None:
            self._constant.append(attribute(SIGNING_CERTIFICATE_V2, _signing_certificate_v2(certificate)))
        if mime_type is not None:
            self._constant.append(attribute(MIME_TYPE, der.utf8_string(mime_type)))
        self._constant += further
        _require_signable(self._constant)
        self._placeholder = bytes(scheme.digest.size)
        self._framed = self._frame(_EPOCH)

    def encode(self, message_digest: bytes, signing_time: datetime) -> bytes:
        """The SignedAttributes of one signature as the SET OF that is signed (RFC 5652 section 5.4).

        Args:
            message_digest: The hash value of the content by the scheme's digest.
            signing_time: When it is signed, to the second.

        Returns:
            DER with the tag SET OF; in the SignerInfo the tag is [0].
        """
        framed = self._framed
        if framed[0] != signing_time:
            framed = self._framed = self._frame(signing_time)
        _, before, behind = framed
        return before + message_digest + behind

    def _frame(self, signing_time: datetime) -> tuple[datetime, bytes, bytes]:
        """The octets before and behind the hash value, which within a second are the same for all.

        The hash value stands last in its attribute and does not decide where that is sorted, because no other
        attribute begins with the same octets.
        """
        placed = attribute(MESSAGE_DIGEST, der.octet_string(self._placeholder))
        whole = der.set_of(*self._constant, placed, attribute(SIGNING_TIME, der.time(signing_time)))
        end = whole.index(placed) + len(placed)
        return signing_time, whole[: end - len(self._placeholder)], whole[end:]


def _require_signable(attributes: Sequence[bytes]) -> None:
    """Refuse attributes that a reader would refuse; messageDigest and signingTime are added later."""
    types = [MESSAGE_DIGEST, SIGNING_TIME]
    types += (der.dotted(der.elements(one)[0]) for one in attributes)
    for kind in types:
        if types.count(kind) > 1 or kind in ONLY_UNSIGNED:
            name = ATTRIBUTE_NAMES.get(kind, kind)
            raise UsageError(f"the attribute {name} cannot be among the signed ones, or is there already")


def _signing_certificate_v2(certificate: Certificate) -> bytes:
    """SigningCertificateV2 with one ESSCertIDv2, whose hash is the default SHA-256 (RFC 5035 section 4)."""
    issuer, serial_number = der.elements(certificate.issuer_and_serial_number)
    general_names = der.sequence(der.explicit(4, issuer))  # one directoryName
    issuer_serial = der.sequence(general_names, serial_number)
    return der.sequence(der.sequence(der.sequence(der.octet_string(certificate.sha256), issuer_serial)))


def build_signed_attributes(
    certificate: Certificate | None,
    scheme: SignatureScheme,
    content_type: str | None,
    message_digest: bytes,
    signing_time: datetime,
) -> bytes:
    """The SignedAttributes of one signature as the SET OF that is signed (RFC 5652 section 5.4).

    Args:
        certificate: The signer's, for SigningCertificateV2; None leaves that attribute out.
        scheme: The signature scheme, for CMSAlgorithmProtection.
        content_type: The eContentType, dotted; None in a countersignature.
        message_digest: The hash value of the content.
        signing_time: When it is signed, to the second.

    Returns:
        DER with the tag SET OF; in the SignerInfo the tag is [0].
    """
    return SignedAttributesTemplate(certificate, scheme, content_type).encode(message_digest, signing_time)


class SignedAttributes:
    """The signed attributes of a received signature.

    Args:
        values: Attribute type, dotted, to its values, DER.
    """

    def __init__(self, values: Mapping[str, Sequence[bytes]]) -> None:
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
        value = self._single(SIGNING_TIME, "signingTime")
        if value is None:
            return None
        if value[0] not in _TIMES:
            raise MalformedError("signingTime cannot be read")
        with parsing("signingTime"):
            if _USUAL_TIME.fullmatch(value):
                text = value[2:].decode("ascii")
                century = "19" if text >= _FIRST_YEAR else "20"  # RFC 5652 section 11.3
                return datetime.fromisoformat(f"{century}{text[:6]}T{text[6:]}")
            return cast("datetime", cms.Time.load(value, strict=True).native)

    def check_content_type(self, content_type: str) -> None:
        """Check that contentType is there once and is the eContentType (RFC 5652 section 11.1).

        Raises:
            MalformedError: It is not.
        """
        if der.dotted(self._required(CONTENT_TYPE, "contentType")) != content_type:
            raise MalformedError("the signed contentType differs from that of the content")

    def check_message_digest(self, digest: bytes) -> bool:
        """Whether messageDigest, which must be there once (RFC 5652 section 11.2), is this hash value.

        Raises:
            MalformedError: messageDigest is missing or repeated.
        """
        value = self._required(MESSAGE_DIGEST, "messageDigest")
        if value[0] != _OCTET_STRING:
            raise MalformedError("messageDigest cannot be read")
        return hmac.compare_digest(der.content(value), digest)

    def check_no_content_type(self) -> None:
        """Check that contentType is not there, as in a countersignature (RFC 5652 section 11.4).

        Raises:
            MalformedError: It is.
        """
        if CONTENT_TYPE in self._values:
            raise MalformedError("a countersignature has the signed attribute contentType")

    def check_algorithm_protection(self, digest_oid: str, signature_algorithm: bytes) -> None:
        """CMSAlgorithmProtection, where present, repeats the algorithms of the SignerInfo (RFC 6211).

        Args:
            digest_oid: The digestAlgorithm of the SignerInfo, dotted.
            signature_algorithm: The signatureAlgorithm of the SignerInfo, DER.

        Raises:
            MalformedError: It names others, so one of both was changed.
        """
        value = self._single(CMS_ALGORITHM_PROTECTION, "CMSAlgorithmProtection")
        if value is None:
            return
        named_digest, named_signature = _protected_algorithms(value)
        same_signature = named_signature is None or named_signature == der.content(signature_algorithm)
        if named_digest != digest_oid or not same_signature:
            raise MalformedError("CMSAlgorithmProtection names other algorithms than the signature")

    def check_signing_certificate(self, certificate: Certificate) -> None:
        """SigningCertificate and SigningCertificateV2, where present, name the signer's certificate.

        Raises:
            MalformedError: They name another one (RFC 5035 section 5).
        """
        for kind, name, named_hash in (
            (SIGNING_CERTIFICATE_V2, "SigningCertificateV2", _hash_in_v2),
            (SIGNING_CERTIFICATE, "SigningCertificate", _hash_in_v1),
        ):
            value = self._single(kind, name)
            if value is None:
                continue
            algorithm, named = named_hash(value)
            actual = certificate.sha256  # nearly always
            if algorithm.name != "sha256":
                actual = hashlib.new(algorithm.name, certificate.der, usedforsecurity=False).digest()
            if not hmac.compare_digest(named, actual):
                raise MalformedError(f"{name} names another certificate than the signer's")

    def _required(self, kind: str, name: str) -> bytes:
        value = self._single(kind, name)
        if value is None:
            raise MalformedError(f"the signed attribute {name} is missing")
        return value

    def _single(self, kind: str, name: str) -> bytes | None:
        values = self._values.get(kind)
        if values is None:
            return None
        if len(values) != 1:
            raise MalformedError(f"the signed attribute {name} has {len(values)} values instead of one")
        return values[0]


@der.remembered(256)
def _protected_algorithms(value: bytes) -> tuple[str, bytes | None]:
    """The digest in CMSAlgorithmProtection, dotted, and the content of its signatureAlgorithm."""
    digest, *others = _fields(value, "CMSAlgorithmProtection")
    named = next((one for one in others if one[0] == _SIGNATURE_ALGORITHM), None)
    digest_oid = der.dotted(_fields(digest, "CMSAlgorithmProtection")[0])
    return digest_oid, None if named is None else der.content(named)


@der.remembered(256)
def _hash_in_v1(value: bytes) -> tuple[Digest, bytes]:
    """The hash in the first ESSCertID, which is the signer's, and its algorithm."""
    return DIGESTS["sha1"], _octets(_first_certificate(value, "SigningCertificate")[0], "SigningCertificate")


@der.remembered(256)
def _hash_in_v2(value: bytes) -> tuple[Digest, bytes]:
    """The hash in the first ESSCertIDv2, which is the signer's, and its algorithm."""
    name = "SigningCertificateV2"
    digest = DIGESTS["sha256"]
    fields = _first_certificate(value, name)
    if fields[0][0] == _SEQUENCE:  # hashAlgorithm, which has a default
        digest = digest_by_oid(der.dotted(_fields(fields.pop(0), name)[0]))
    return digest, _octets(fields[0] if fields else b"\0", name)


def _first_certificate(value: bytes, name: str) -> list[bytes]:
    """The fields of the first ESSCertID or ESSCertIDv2."""
    return _fields(_fields(_fields(value, name)[0], name)[0], name)


def _octets(encoded: bytes, name: str) -> bytes:
    if encoded[0] != _OCTET_STRING:
        raise MalformedError(f"{name} cannot be read")
    return der.content(encoded)


def _fields(encoded: bytes, name: str) -> list[bytes]:
    """The fields of a SEQUENCE that has one at least."""
    fields = der.elements(encoded) if encoded[0] == _SEQUENCE else []
    if not fields:
        raise MalformedError(f"{name} cannot be read")
    return fields


def parse_signed_attributes(encoded: bytes) -> SignedAttributes:
    """Read signed attributes.

    Args:
        encoded: The SET OF Attribute, in definite form, with the tag SET OF.

    Raises:
        MalformedError: They are broken or empty, a type occurs twice (RFC 5652 section 5.3), or one is there
            that must not be signed.
    """
    values: dict[str, Sequence[bytes]] = {}
    for kind, of_kind in parse_attributes(encoded):
        if kind in values:
            raise MalformedError(f"the signed attribute {kind} occurs twice")
        if kind in ONLY_UNSIGNED:
            raise MalformedError(f"the attribute {ATTRIBUTE_NAMES[kind]} must not be signed")
        values[kind] = of_kind
    if not values:
        raise MalformedError("the signed attributes are empty")
    return SignedAttributes(values)


def parse_unsigned_attributes(encoded: bytes) -> list[tuple[str, tuple[bytes, ...]]]:
    """Read unsigned attributes, as `parse_attributes` does.

    Raises:
        MalformedError: They are broken, or one is there that must be signed.
    """
    found = parse_attributes(encoded)
    for kind, _ in found:
        if kind in ONLY_SIGNED:
            raise MalformedError(f"the attribute {ATTRIBUTE_NAMES[kind]} is not signed, and must be")
    return found


def parse_attributes(encoded: bytes) -> list[tuple[str, tuple[bytes, ...]]]:
    """Read attributes: each with its type, dotted, and its values, DER.

    Args:
        encoded: The SET OF Attribute, in definite form.

    Raises:
        MalformedError: They are broken.
    """
    return list(map(_attribute, der.elements(encoded)))


@der.remembered(512)  # most are the same in all signatures of a signer
def _attribute(encoded: bytes) -> tuple[str, tuple[bytes, ...]]:
    match der.elements(encoded):
        case [kind, values] if encoded[0] == _SEQUENCE and values[0] == _SET:
            return der.dotted(kind), tuple(der.elements(values))
        case _:
            raise MalformedError("an attribute is broken")
