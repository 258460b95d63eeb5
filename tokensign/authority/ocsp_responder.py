"""An OCSP responder (RFC 6960, RFC 9654) whose key is on a token: what it is asked, and what it signs.

This is the protocol alone. Which answers are kept, and how many are signed at once, is the business of
`tokensign.authority.ocsp_service`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp

from tokensign.algorithms import default_scheme
from tokensign.authority.records import Reason, Status
from tokensign.cms.signature import verify_fresh
from tokensign.errors import BadSignatureError, MalformedError, SigningError, UnsupportedError, UsageError
from tokensign.pki.names import display_name
from tokensign.pki.signer_key import signer_key, signing_hash

if TYPE_CHECKING:
    from tokensign.authority.records import CertificateStatus
    from tokensign.certificates import Certificate
    from tokensign.keys import Signer

__all__ = [
    "ANSWER_LIFE",
    "ANSWER_TYPE",
    "NONCE_SIZE_MAXIMUM",
    "SERIAL_BITS_MAXIMUM",
    "Answer",
    "OcspResponder",
    "Question",
    "certifies",
    "read_question",
    "refusal",
]

ANSWER_TYPE: Final = "application/ocsp-response"  # RFC 6960 appendix A.2
ANSWER_LIFE: Final = timedelta(hours=8)  # the shortest that the S/MIME BR section 4.9.10 allow
SERIAL_BITS_MAXIMUM: Final = 160  # RFC 5280 section 4.1.2.2
NONCE_SIZE_MAXIMUM: Final = 128  # octets; RFC 9654 section 2.1 has longer ones, and empty ones, refused

_HASHES: Final[dict[str, hashes.HashAlgorithm]] = {
    "sha1": hashes.SHA1(),  # noqa: S303 - finds an issuer among those that are known; nothing rests on it
    "sha256": hashes.SHA256(),
    "sha384": hashes.SHA384(),
    "sha512": hashes.SHA512(),
}


@dataclass(frozen=True, slots=True)
class Question:
    """What an OCSPRequest asks: a CertID (RFC 6960 section 4.1.1), and its nonce.

    Attributes:
        algorithm: Made the hash values: "sha1", "sha256", "sha384" or "sha512".
        name_hash: Of the issuer's name.
        key_hash: Of the issuer's key.
        serial_number: Of the certificate.
        nonce: What the answer shall repeat, or None.
    """

    algorithm: str
    name_hash: bytes
    key_hash: bytes
    serial_number: int
    nonce: bytes | None = None

    @property
    def without_nonce(self) -> Question:
        """The same question by somebody who takes an answer that was signed before."""
        return self if self.nonce is None else replace(self, nonce=None)


@dataclass(frozen=True, slots=True)
class Answer:
    """An OCSPResponse.

    Attributes:
        encoded: DER.
        status: What it says.
        this_update: When that was known to be right.
        next_update: Until when it may be used.
    """

    encoded: bytes = field(repr=False)
    status: CertificateStatus
    this_update: datetime
    next_update: datetime


def read_question(encoded: bytes) -> Question:
    """Read an OCSPRequest. Who signed it, if anybody, does not matter: the answers are for everyone.

    Args:
        encoded: DER; the caller has limited its size.

    Raises:
        MalformedError: It is none, its nonce has no size that RFC 9654 allows, no certificate can have the
            serial number, or it asks about more than one certificate, which clients that take answers from a
            cache do not (RFC 5019 section 2.1.1).
        UnsupportedError: Its hash is not known, or it has a critical extension.
    """
    try:
        request = ocsp.load_der_ocsp_request(encoded)
        algorithm = request.hash_algorithm.name
        extensions = list(request.extensions)
        question = Question(
            algorithm, request.issuer_name_hash, request.issuer_key_hash, request.serial_number
        )
    except UnsupportedAlgorithm as error:
        raise UnsupportedError("the OCSP request uses a hash that is not known here") from error
    except NotImplementedError as error:
        raise MalformedError("the OCSP request asks about more than one certificate") from error
    except ValueError as error:
        raise MalformedError("this is not an OCSP request") from error
    if not 0 <= question.serial_number < 1 << SERIAL_BITS_MAXIMUM:
        raise MalformedError("the OCSP request asks about what cannot be a serial number")
    if algorithm not in _HASHES:
        raise UnsupportedError(f"the OCSP request uses {algorithm}, which is not known here")
    for extension in extensions:
        if isinstance(extension.value, x509.OCSPNonce):
            question = replace(question, nonce=_require_nonce_size(extension.value.nonce))
        elif extension.critical:
            raise UnsupportedError(
                f"the OCSP request has the critical extension {extension.oid.dotted_string}"
            )
    return question


def refusal(status: ocsp.OCSPResponseStatus) -> bytes:
    """An OCSPResponse without an answer, such as tryLater, DER. It is not signed (RFC 6960 section 2.3)."""
    return ocsp.OCSPResponseBuilder.build_unsuccessful(status).public_bytes(Encoding.DER)


class OcspResponder:
    """Signs answers about the certificates of one CA; for any number of threads if the key is.

    Args:
        issuer: The CA's certificate.
        signer: The responder's key. Its certificate is issued by the CA itself and meant for OCSP, or it is
            the CA's own key (RFC 6960 section 4.2.2.2).
        life: How long an answer may be used.

    Raises:
        UsageError: The key has no such certificate.
        UnsupportedError: The key does not sign.
    """

    def __init__(self, issuer: Certificate, signer: Signer, life: timedelta = ANSWER_LIFE) -> None:
        self.issuer = issuer
        self.life = life
        self.certificate = _responder_certificate(issuer, signer)
        self._loaded = x509.load_der_x509_certificate(self.certificate.der)
        self._signer = signer
        self._key = signer_key(signer)
        self._hash = signing_hash(signer.public_key)
        self._named = {name: self._names(name) for name in _HASHES}

    def is_asked(self, question: Question) -> bool:
        """Whether a question is about a certificate of this CA."""
        return self._named[question.algorithm] == (question.name_hash, question.key_hash)

    def question_about(self, serial_number: int) -> Question:
        """What most clients ask about a certificate: its CertID by SHA-1 (RFC 5019 section 2.1.1)."""
        return Question("sha1", *self._named["sha1"], serial_number)

    def sign(self, question: Question, status: CertificateStatus, now: datetime | None = None) -> Answer:
        """Answer a question, with one operation on the token.

        Args:
            question: What is asked; its nonce is repeated.
            status: The answer.
            now: When the status was looked up; None: this very moment.

        Raises:
            UsageError: The responder's certificate has expired.
            SigningError: The fresh signature does not hold.
            TokenError: The token failed.
        """
        this_update = (now or datetime.now(UTC)).replace(microsecond=0)
        next_update = min(this_update + self.life, self.certificate.not_after)
        if next_update <= this_update:
            raise UsageError(
                f"the certificate of {display_name(self.certificate)} has expired",
                hint="issue a new one to the OCSP responder",
            )
        builder = ocsp.OCSPResponseBuilder().add_response_by_hash(
            issuer_name_hash=question.name_hash,
            issuer_key_hash=question.key_hash,
            serial_number=question.serial_number,
            algorithm=_HASHES[question.algorithm],
            cert_status=_STATES[status.status],
            this_update=this_update,
            next_update=next_update,
            revocation_time=status.revoked_at,
            revocation_reason=_reason(status),
        )
        builder = builder.responder_id(ocsp.OCSPResponderEncoding.HASH, self._loaded)
        builder = builder.certificates([self._loaded])  # the CA's own too: dirmngr does not look elsewhere
        if question.nonce is not None:
            builder = builder.add_extension(x509.OCSPNonce(question.nonce), critical=False)
        response = builder.sign(self._key, self._hash)
        self._require_valid(response)
        return Answer(response.public_bytes(Encoding.DER), status, this_update, next_update)

    def _require_valid(self, response: ocsp.OCSPResponse) -> None:
        public_key = self._signer.public_key
        try:
            verify_fresh(
                public_key,
                default_scheme(public_key),
                response.signature,
                message=response.tbs_response_bytes,
            )
        except BadSignatureError as error:
            raise SigningError(
                "the signature of the fresh OCSP response does not hold",
                hint="run `tokensign doctor`; the key, the token or its module is damaged",
            ) from error

    def _names(self, algorithm: str) -> tuple[bytes, bytes]:
        """The issuerNameHash and issuerKeyHash by which a CertID names the CA."""
        chosen = _HASHES[algorithm]
        return (
            _digest(chosen, self.issuer.asn1.subject.dump()),
            _digest(chosen, bytes(self.issuer.asn1.public_key["public_key"])),
        )


_STATES: Final = {
    Status.GOOD: ocsp.OCSPCertStatus.GOOD,
    Status.REVOKED: ocsp.OCSPCertStatus.REVOKED,
    Status.UNKNOWN: ocsp.OCSPCertStatus.UNKNOWN,
}


def _reason(status: CertificateStatus) -> x509.ReasonFlags | None:
    """The revocationReason; left out rather than unspecified (RFC 5280 section 5.3.1)."""
    return None if status.reason in {None, Reason.UNSPECIFIED} else status.reason.flag


def _digest(algorithm: hashes.HashAlgorithm, data: bytes) -> bytes:
    hashed = hashes.Hash(algorithm)
    hashed.update(data)
    return hashed.finalize()


def _require_nonce_size(nonce: bytes) -> bytes:
    if not 1 <= len(nonce) <= NONCE_SIZE_MAXIMUM:
        raise MalformedError(f"the nonce of the OCSP request has {len(nonce)} octets")
    return nonce


def certifies(issuer: Certificate, signer: Signer) -> bool:
    """Whether a CA vouches for a key: it is its own, or it has issued the key's certificate."""
    if signer.public_key == issuer.public_key:
        return True
    if signer.certificate is None:
        return False
    try:
        x509.load_der_x509_certificate(signer.certificate.der).verify_directly_issued_by(
            x509.load_der_x509_certificate(issuer.der)
        )
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _responder_certificate(issuer: Certificate, signer: Signer) -> Certificate:
    """The certificate with which a key answers for a CA.

    Raises:
        UsageError: The key has none.
    """
    if signer.public_key == issuer.public_key:
        return issuer
    certificate = signer.certificate
    if certificate is None or not certifies(issuer, signer):
        raise UsageError(
            f"the key for OCSP has no certificate that was issued by {display_name(issuer)}",
            hint="the CA whose certificates are asked about must issue it itself (RFC 6960 section 4.2.2.2)",
        )
    if "ocsp_signing" not in (certificate.extended_key_usage or ()):
        raise UsageError(
            f"the certificate of {display_name(certificate)} is not meant for OCSP",
            hint="issue one with the profile ocsp-responder",
        )
    return certificate
