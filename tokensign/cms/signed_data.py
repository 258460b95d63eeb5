"""SignedData and SignerInfo as they are received (RFC 5652 sections 5.1 and 5.3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Final, Literal, Self

from asn1crypto import cms

from tokensign import der
from tokensign.algorithms import Digest, content_digest_by_oid
from tokensign.certificates import Certificate, name_string
from tokensign.cms.ber import OCTET_STRING, SEQUENCE, SET, context, to_der
from tokensign.cms.content_info import (
    SIGNED_DATA,
    enter_content,
    parsing,
    read_integer,
)
from tokensign.cms.encapsulated import read_encapsulated
from tokensign.errors import MalformedError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tokensign.cms.ber import BerReader
    from tokensign.cms.content_info import Content

__all__ = [
    "MAX_CERTIFICATES",
    "MAX_SIGNERS",
    "OCSP_RESPONSE",
    "SignedData",
    "SignerIdentifier",
    "SignerInfo",
    "algorithm_of",
    "read_signed_data",
    "revocation_choice",
]

OCSP_RESPONSE: Final = "1.3.6.1.5.5.7.16.2"  # id-ri-ocsp-response, RFC 5940 section 2.1
_IMPLICIT_0: Final = 0x80
_INTEGER: Final = 0x02
_SIGNED_DATA: Final = der.object_identifier(SIGNED_DATA)

MAX_SIGNERS: Final = 128  # each costs a public-key operation and a path validation
_SMALL: Final = 1 << 16  # octets of a message that is split in memory
MAX_CERTIFICATES: Final = 512  # path building tries them; real messages carry fewer than ten


@dataclass(frozen=True, slots=True)
class SignerIdentifier:
    """SignerIdentifier or RecipientIdentifier: one of both is set.

    Attributes:
        issuer_and_serial_number: DER, or None.
        subject_key_identifier: Its octets, or None.
    """

    issuer_and_serial_number: bytes | None = None
    subject_key_identifier: bytes | None = None

    @classmethod
    def load(cls, encoded: bytes) -> Self:
        """Read an identifier: IssuerAndSerialNumber, or [0] SubjectKeyIdentifier.

        Raises:
            MalformedError: It is neither.
        """
        if encoded[0] == SEQUENCE:
            return cls(issuer_and_serial_number=encoded)
        if encoded[0] == _IMPLICIT_0:  # a string, so primitive
            return cls(subject_key_identifier=der.content(encoded))
        raise MalformedError("a signer or recipient is named in an unknown way")

    def names(self, certificate: Certificate) -> bool:
        """Whether it names a certificate."""
        if self.issuer_and_serial_number is not None:
            return self.issuer_and_serial_number == certificate.issuer_and_serial_number
        return self.subject_key_identifier == certificate.subject_key_identifier

    def __str__(self) -> str:
        if self.subject_key_identifier is not None:
            return f"key identifier {self.subject_key_identifier.hex()}"
        return _in_words(self.issuer_and_serial_number or b"")


@der.remembered(256)
def _in_words(issuer_and_serial_number: bytes) -> str:
    with parsing("issuerAndSerialNumber"):
        fields = cms.IssuerAndSerialNumber.load(issuer_and_serial_number)
        return f"serial {fields['serial_number'].native:x} of {name_string(fields['issuer'])}"


@dataclass(frozen=True, slots=True)
class SignerInfo:
    """One signature of a message.

    Attributes:
        identifier: Names the signer's certificate.
        digest_algorithm: Dotted.
        signed_attributes: With the tag SET OF as received, or None.
        signature_algorithm: AlgorithmIdentifier, DER.
        signature: Its octets.
        unsigned_attributes: With the tag SET OF as received, or None. Anybody may have changed them.
        encoded: The whole SignerInfo in definite form.
    """

    identifier: SignerIdentifier
    digest_algorithm: str
    signed_attributes: bytes | None
    signature_algorithm: bytes
    signature: bytes
    unsigned_attributes: bytes | None
    encoded: bytes

    @classmethod
    def load(cls, encoded: bytes) -> SignerInfo:
        """Read a SignerInfo.

        Raises:
            MalformedError: It is none.
        """
        fields = der.elements(encoded)
        signed = fields.pop(3) if len(fields) > 3 and fields[3][0] == context(0) else None  # noqa: PLR2004
        unsigned = fields.pop() if fields and fields[-1][0] == context(1) else None
        match fields:
            case [_, identifier, digest_algorithm, signature_algorithm, signature] if (
                encoded[0] == digest_algorithm[0] == signature_algorithm[0] == SEQUENCE
                and signature[0] == OCTET_STRING
            ):
                return cls(
                    identifier=SignerIdentifier.load(identifier),
                    digest_algorithm=algorithm_of(digest_algorithm),
                    signed_attributes=_as_set(signed),
                    signature_algorithm=signature_algorithm,
                    signature=der.content(signature),
                    unsigned_attributes=_as_set(unsigned),
                    encoded=encoded,
                )
            case _:
                raise MalformedError("a SignerInfo is broken")

    @property
    def digest(self) -> Digest:
        """The digest algorithm.

        Raises:
            UnsupportedError: It is not known here.
        """
        return content_digest_by_oid(self.digest_algorithm)


@dataclass(frozen=True, slots=True)
class SignedData:
    """A SignedData message whose content is still where it was.

    Attributes:
        version: CMSVersion as received; what reads the message does not depend on it.
        digest_algorithms: Each AlgorithmIdentifier, DER.
        content_type: The eContentType, dotted.
        content: Where the encapsulated content lies, or None for a detached signature.
        certificate_choices: Each CertificateChoices as received, also the unreadable ones.
        certificates: Those of them that are X.509 certificates.
        revocation_choices: Each RevocationInfoChoice as received.
        signer_infos: The signatures.
    """

    version: int
    digest_algorithms: tuple[bytes, ...]
    content_type: str
    content: Content | None
    certificate_choices: tuple[bytes, ...]
    certificates: tuple[Certificate, ...]
    revocation_choices: tuple[bytes, ...]
    signer_infos: tuple[SignerInfo, ...]

    def certificate_of(self, signer: SignerInfo, others: Sequence[Certificate] = ()) -> Certificate | None:
        """The certificate that a signature names, from the message or else from `others`."""
        candidates = (*self.certificates, *others)
        return next((entry for entry in candidates if signer.identifier.names(entry)), None)

    @property
    def crls(self) -> tuple[bytes, ...]:
        """The CRLs that the message carries, DER."""
        return tuple(entry for entry in self.revocation_choices if entry[0] == SEQUENCE)

    @property
    def ocsp_responses(self) -> tuple[bytes, ...]:
        """The OCSP responses that the message carries (RFC 5940), each an OCSPResponse, DER.

        Raises:
            MalformedError: An OtherRevocationInfoFormat is broken.
        """
        return tuple(filter(None, map(_ocsp_response, self.revocation_choices)))


def revocation_choice(kind: Literal["crl", "ocsp"], encoded: bytes) -> bytes:
    """The RevocationInfoChoice for a CRL or an OCSP response (RFC 5652 section 10.2.1, RFC 5940 section 2.1).

    Args:
        kind: Which of the two.
        encoded: CertificateList or OCSPResponse, DER.
    """
    if kind == "crl":
        return encoded
    return der.constructed(context(1), der.object_identifier(OCSP_RESPONSE), encoded)


def _ocsp_response(choice: bytes) -> bytes | None:
    """The OCSPResponse in a RevocationInfoChoice, or None where it is something else."""
    if choice[0] != context(1):
        return None
    match der.elements(choice):
        case [kind, response] if der.dotted(kind) == OCSP_RESPONSE:
            return response
        case _:
            return None


def _as_set(attributes: bytes | None) -> bytes | None:
    """Attributes with the tag SET OF instead of the IMPLICIT one."""
    return None if attributes is None else bytes((SET,)) + attributes[1:]


@der.remembered(256)
def algorithm_of(identifier: bytes) -> str:
    """The algorithm in an AlgorithmIdentifier, dotted.

    Raises:
        MalformedError: It is none.
    """
    match der.elements(identifier):
        case [algorithm, *_]:
            return der.dotted(algorithm)
        case _:
            raise MalformedError("an AlgorithmIdentifier is empty")


def read_signed_data(stream: BinaryIO) -> SignedData:
    """Read a SignedData message for its structure; the content is passed over.

    Args:
        stream: The message in DER or BER from its current position; it must be able to seek.

    Raises:
        MalformedError: The structure is broken or exceeds a limit.
        UnsupportedError: It is another kind of message.
    """
    return _read_small(stream) or _read_in_place(stream)


def _read_in_place(stream: BinaryIO) -> SignedData:
    """Any message, element by element; the content stays where it is."""
    _, reader = enter_content(stream, "SignedData", SIGNED_DATA)
    version = read_integer(reader, "version")
    digest_algorithms = _read_set(reader, "digestAlgorithms")
    content_type, content = read_encapsulated(reader)
    certificates = _read_choices(reader, 0, "certificates")
    revocation = _read_choices(reader, 1, "crls")
    signer_infos = _read_set(reader, "signerInfos")
    for _ in range(3):  # SignedData, the explicit tag, ContentInfo
        reader.leave()
    return SignedData(
        version=version,
        digest_algorithms=digest_algorithms,
        content_type=content_type,
        content=content,
        certificate_choices=certificates,
        certificates=_readable(certificates),
        revocation_choices=revocation,
        signer_infos=tuple(map(SignerInfo.load, signer_infos)),
    )


def _read_set(reader: BerReader, what: str) -> tuple[bytes, ...]:
    return reader.read_children(reader.expect(SET, what), what, MAX_SIGNERS)


def _read_choices(reader: BerReader, number: int, what: str) -> tuple[bytes, ...]:
    element = reader.peek()
    if element is None or element.tag != context(number):
        return ()
    return reader.read_children(element, what, MAX_CERTIFICATES)


def _read_small(stream: BinaryIO) -> SignedData | None:
    """The most frequent kind of message in a quarter of the time: detached, small, and in the definite form.

    Returns:
        None for any other message and for a broken one, which `_read_in_place` reads, or says what is wrong
        with it. The stream is where it was then.
    """
    start = stream.tell()
    encoded = stream.read(_SMALL)
    stream.seek(start)
    if len(encoded) == _SMALL:
        return None
    try:
        kind, explicit = _split(encoded, SEQUENCE)
        (signed_data,) = _split(explicit, context(0))
        version, digest_algorithms, encapsulated, *choices, signer_infos = _split(signed_data, SEQUENCE)
        (content_type,) = _split(encapsulated, SEQUENCE)  # without content
        certificates, revocation = (_split_choices(choices, number) for number in (0, 1))
        if kind != _SIGNED_DATA or version[0] != _INTEGER or choices:
            return None
        return SignedData(
            version=int.from_bytes(der.content(version), signed=True),
            digest_algorithms=_definite(_split(digest_algorithms, SET), MAX_SIGNERS),
            content_type=der.dotted(content_type),
            content=None,
            certificate_choices=certificates,
            certificates=_readable(certificates),
            revocation_choices=revocation,
            signer_infos=tuple(map(SignerInfo.load, _definite(_split(signer_infos, SET), MAX_SIGNERS))),
        )
    except (MalformedError, ValueError):  # ValueError: another number of fields
        return None


def _split(encoded: bytes, tag: int) -> list[bytes]:
    """The elements in a constructed one, which must have an identifier octet."""
    if not encoded or encoded[0] != tag:
        raise MalformedError(f"there is another element in the place of one with tag {tag:02x}")
    return der.elements(encoded)


def _split_choices(fields: list[bytes], number: int) -> tuple[bytes, ...]:
    """The elements of an optional field, which is taken away if it comes next."""
    if not fields or fields[0][0] != context(number):
        return ()
    return _definite(der.elements(fields.pop(0)), MAX_CERTIFICATES)


def _definite(elements: list[bytes], maximum: int) -> tuple[bytes, ...]:
    if len(elements) > maximum:
        raise MalformedError(f"the message has more than {maximum} elements in a set")
    return tuple(map(to_der, elements))


def _readable(choices: Sequence[bytes]) -> tuple[Certificate, ...]:
    """The X.509 certificates among CertificateChoices; a broken one that nobody needs does no harm."""
    found = []
    for encoded in choices:
        if encoded[0] == SEQUENCE:
            try:
                found.append(_certificate(encoded))
            except MalformedError:
                continue
    return tuple(found)


@der.remembered(256)
def _certificate(encoded: bytes) -> Certificate:
    """A certificate, with all that was already read from it."""
    return Certificate(encoded)
