"""What an archive timestamp is over: ats-hash-index-v3 and message imprint (ETSI EN 319 122-1 section 5.5).

An archive timestamp proves that a signature and all around it existed at a time. Certificates, revocation
information and unsigned attributes are added to a signature as it ages, so the timestamp does not hash them
in one piece: it carries an index of their hash values, and signs that.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

from tokensign import der
from tokensign.algorithms import Digest, digest_by_oid
from tokensign.cms.attributes import ATS_HASH_INDEX_V3
from tokensign.cms.signed_data import algorithm_of
from tokensign.cms.signed_data_parts import SignedDataParts
from tokensign.cms.unsigned_attributes import (
    signed_fields,
    unsigned_instances,
    unsigned_values,
    with_unsigned_attribute,
)
from tokensign.errors import BadSignatureError, MalformedError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tokensign.cms.signed_data import SignedData, SignerInfo
    from tokensign.cms.timestamp import TimestampToken

__all__ = ["HashIndex", "Unindexed", "imprint_input", "with_hash_index"]

_FIELDS = 4  # of ATSHashIndexV3


@dataclass(frozen=True, slots=True)
class Unindexed:
    """What a message has and an index does not: it was added after the archive timestamp.

    Attributes:
        certificates: CertificateChoices.
        revocation_choices: RevocationInfoChoices.
        unsigned: The type of an unsigned attribute, dotted, and one of its values.
    """

    certificates: tuple[bytes, ...]
    revocation_choices: tuple[bytes, ...]
    unsigned: tuple[tuple[str, bytes], ...]


@dataclass(frozen=True, slots=True)
class HashIndex:
    """ATSHashIndexV3 (EN 319 122-1 section 5.5.2).

    Attributes:
        digest: Made the hash values.
        certificates: The hash value of each CertificateChoices of the SignedData.
        revocation_choices: That of each RevocationInfoChoice.
        unsigned: That of each value of the unsigned attributes, behind the attribute's type.
        encoded: DER, or as it was received.
    """

    digest: Digest
    certificates: tuple[bytes, ...]
    revocation_choices: tuple[bytes, ...]
    unsigned: tuple[bytes, ...]
    encoded: bytes

    @classmethod
    def of(cls, message: SignedData, signer: SignerInfo, digest: Digest) -> Self:
        """The index of all that a message has now around one of its signatures."""
        certificates = _hashed(digest, message.certificate_choices)
        revocation = _hashed(digest, message.revocation_choices)
        unsigned = _hashed(digest, map(_joined, unsigned_instances(signer)))
        lists = (
            der.sequence(*map(der.octet_string, hashes)) for hashes in (certificates, revocation, unsigned)
        )
        encoded = der.sequence(digest.algorithm_identifier, *lists)
        return cls(digest, certificates, revocation, unsigned, encoded)

    @classmethod
    def of_token(cls, token: TimestampToken) -> Self:
        """The index that an archive timestamp carries.

        Raises:
            MalformedError: There is not exactly one, or it is broken.
            UnsupportedError: Its digest is not known.
        """
        match unsigned_values(token.signer, ATS_HASH_INDEX_V3):
            case [encoded]:
                return cls._load(encoded)
            case found:
                raise MalformedError(
                    f"the archive timestamp has {len(found)} ats-hash-index-v3 instead of one"
                )

    @classmethod
    def _load(cls, encoded: bytes) -> Self:
        fields = der.elements(encoded)
        if len(fields) != _FIELDS:
            raise MalformedError("the ats-hash-index-v3 cannot be read")
        digest = digest_by_oid(algorithm_of(fields[0]))
        lists = [tuple(map(der.content, der.elements(field))) for field in fields[1:]]
        return cls(digest, lists[0], lists[1], lists[2], encoded)

    def check(self, message: SignedData, signer: SignerInfo) -> Unindexed:
        """Check that all that the index lists is still there (EN 319 122-1 section 5.5.2).

        Returns:
            What it does not list.

        Raises:
            BadSignatureError: Something is missing or was changed.
        """
        instances = unsigned_instances(signer)
        certificates = self._left(self.certificates, message.certificate_choices, "a certificate")
        revocation = self._left(
            self.revocation_choices, message.revocation_choices, "a CRL or an OCSP response"
        )
        unsigned = self._left(self.unsigned, list(map(_joined, instances)), "an unsigned attribute")
        added = tuple(instance for instance in instances if _joined(instance) in unsigned)
        return Unindexed(tuple(certificates), tuple(revocation), added)

    def _left(self, listed: Sequence[bytes], present: Sequence[bytes], what: str) -> list[bytes]:
        """What is present and not listed."""
        by_hash = dict(zip(_hashed(self.digest, present), present, strict=True))
        if not by_hash.keys() >= {*listed}:
            raise BadSignatureError(f"{what} was changed or removed after the archive timestamp was made")
        return [entry for hashed, entry in by_hash.items() if hashed not in listed]


def imprint_input(message: SignedData, signer: SignerInfo, content_digest: bytes, index: HashIndex) -> bytes:
    """What the imprint of an archive timestamp is the hash value of (EN 319 122-1 section 5.5.3).

    Args:
        message: The message.
        signer: The signature that is timestamped.
        content_digest: The hash value of the content by the index's digest.
        index: What is around the signature.

    Returns:
        The eContentType, the hash value, the fields of the SignerInfo from version to signature, and the
        index; each as it was received.
    """
    return b"".join(
        [
            der.object_identifier(message.content_type),
            content_digest,
            *signed_fields(signer),
            index.encoded,
        ]
    )


def with_hash_index(token: TimestampToken, index: HashIndex) -> bytes:
    """A fresh archive timestamp with its index, which stands in it as an unsigned attribute.

    Args:
        token: The timestamp, as the TSA made it.
        index: What it is over.

    Returns:
        The TimeStampToken, DER.
    """
    content = b"".join(token.message.content.chunks()) if token.message.content else b""
    signer = with_unsigned_attribute(token.signer, ATS_HASH_INDEX_V3, index.encoded)
    output = io.BytesIO()
    replace(SignedDataParts.of(token.message), signer_infos=[signer]).write(
        output, iter([content]), len(content)
    )
    return output.getvalue()


def _hashed(digest: Digest, entries: Iterable[bytes]) -> tuple[bytes, ...]:
    return tuple(digest.new(entry).digest() for entry in entries)


def _joined(instance: tuple[str, bytes]) -> bytes:
    kind, value = instance
    return der.object_identifier(kind) + value
