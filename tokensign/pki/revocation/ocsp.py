"""One answer about one certificate in an OCSP response (RFC 6960), and the request for it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

from asn1crypto import ocsp
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import OCSPNonce
from cryptography.x509.ocsp import OCSPRequestBuilder
from pyhanko_certvalidator.revinfo.archival import OCSPContainer

from tokensign.errors import MalformedError, UntrustedError
from tokensign.pki.anchors import UNREADABLE
from tokensign.pki.revocation.errors import first_line, require_strength

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from tokensign.certificates import Certificate
    from tokensign.pki.validated_path import RevocationKind, RevocationStatus

__all__ = [
    "ANSWERS_MAXIMUM",
    "REQUEST_TYPE",
    "OcspAnswer",
    "certificate_id",
    "check_nonce",
    "load_ocsp_responses",
    "ocsp_request",
]

REQUEST_TYPE: Final = "application/ocsp-request"  # RFC 6960 appendix A.1
ANSWERS_MAXIMUM: Final = 100  # in one response; a responder tells about what it was asked, which is one

_NONCE_SIZE: Final = 32  # RFC 9654 section 2.1
_UNDERSTOOD: Final = frozenset({"nonce", "archive_cutoff", "crl", "extended_revoke"})  # RFC 6960 section 4.4


@dataclass(frozen=True, slots=True)
class OcspAnswer:
    """One SingleResponse of an OCSP response that could be read. Nothing in it is proven.

    Attributes:
        encoded: The whole OCSPResponse, DER.
        source: Where it comes from, as in `RevocationEvidence.source`.
        container: As pyhanko-certvalidator has it.
        produced_at: When the response was signed.
        this_update: When what it says was known to be right.
        next_update: When newer information is there, or None.
        status: What it says.
    """

    encoded: bytes
    source: str
    container: OCSPContainer
    produced_at: datetime
    this_update: datetime
    next_update: datetime | None
    status: RevocationStatus

    @property
    def kind(self) -> RevocationKind:
        """An OCSP response."""
        return "ocsp"


def load_ocsp_responses(encoded: Iterable[bytes], *, legacy: bool, source: str = "given") -> list[OcspAnswer]:
    """Read OCSP responses.

    Args:
        encoded: Each an OCSPResponse, DER, with responseStatus successful.
        legacy: Whether signatures with MD5 or SHA-1 are accepted.
        source: Where they come from.

    Returns:
        Their answers.

    Raises:
        MalformedError: One is not an OCSP response, or one without an answer, such as tryLater.
        UntrustedError: One has a signature that is too weak, or an extension that nobody here understands.
    """
    return [answer for entry in encoded for answer in _load(entry, source, legacy=legacy)]


def _load(encoded: bytes, source: str, *, legacy: bool) -> list[OcspAnswer]:
    try:
        response = ocsp.OCSPResponse.load(encoded, strict=True)
        status = response["response_status"].native
        if status != "successful":
            raise MalformedError(f"the OCSP responder gave no answer but {status!r}")
        basic = response.basic_ocsp_response
        data = basic["tbs_response_data"]
        if len(data["responses"]) > ANSWERS_MAXIMUM:
            raise MalformedError(f"the OCSP response has more than {ANSWERS_MAXIMUM} answers")
        algorithm = basic["signature_algorithm"]
        _ = data.native, algorithm.native
        for certificate in basic["certs"] or ():
            _read(certificate)
        produced_at = data["produced_at"].native
        answers = [
            _answer(encoded, source, container, produced_at)
            for container in OCSPContainer.load_multi(response)
        ]
        extensions = [data["response_extensions"], *(one["single_extensions"] for one in data["responses"])]
        unknown = [name for entry in extensions for name in _critical(entry) if name not in _UNDERSTOOD]
    except UNREADABLE as error:
        raise MalformedError("the OCSP response cannot be read", hint=first_line(error)) from error
    if unknown:
        raise UntrustedError(f"the OCSP response does not count: it has the critical extension {unknown[0]}")
    require_strength("the OCSP response", algorithm, legacy=legacy)
    return answers


def _answer(encoded: bytes, source: str, container: OCSPContainer, produced_at: datetime) -> OcspAnswer:
    single = cast("Any", container.extract_single_response())
    return OcspAnswer(
        encoded,
        source,
        container,
        produced_at,
        single["this_update"].native,
        single["next_update"].native,
        single["cert_status"].name,
    )


def _read(certificate: Any) -> None:  # noqa: ANN401 - asn1crypto has no types
    """Read what the validator will; it expects no failure."""
    _ = certificate.issuer_serial, certificate.subject.hashable, certificate.public_key.sha1
    _ = certificate.key_identifier, certificate.extended_key_usage_value, certificate.ocsp_no_check_value


def _critical(extensions: Any) -> list[str]:  # noqa: ANN401 - asn1crypto has no types
    return [entry["extn_id"].native for entry in extensions or () if entry["critical"].native]


def certificate_id(certificate: Certificate, issuer: Certificate) -> tuple[bytes, bytes, int]:
    """What names a certificate to a responder: the hashes of issuer name and key, and the serial number.

    SHA-1, which every responder knows (RFC 5019 section 2.1.1). The hash only finds an issuer among those of
    the responder; what the answer rests on is its signature.
    """
    hashed = hashes.Hash(hashes.SHA1())  # noqa: S303 - as the docstring says
    hashed.update(certificate.encoded_issuer)
    return hashed.finalize(), issuer.asn1.public_key.sha1, certificate.serial_number


def ocsp_request(certificate: Certificate, issuer: Certificate) -> tuple[bytes, bytes]:
    """Ask about a certificate (RFC 6960 section 4.1).

    Args:
        certificate: The certificate.
        issuer: Who issued it.

    Returns:
        The OCSPRequest, DER, and the nonce in it (RFC 9654).
    """
    name_hash, key_hash, serial_number = certificate_id(certificate, issuer)
    nonce = os.urandom(_NONCE_SIZE)
    request = (
        OCSPRequestBuilder()
        .add_certificate_by_hash(name_hash, key_hash, serial_number, hashes.SHA1())  # noqa: S303 - as above
        .add_extension(OCSPNonce(nonce), critical=False)
        .build()
    )
    return request.public_bytes(Encoding.DER), nonce


def check_nonce(answer: OcspAnswer, nonce: bytes) -> None:
    """Refuse an answer to another request.

    Most responders sign answers in advance, and those have no nonce (RFC 9654 section 2.1): they count for as
    long as they are fresh.

    Args:
        answer: The answer.
        nonce: That of the request.

    Raises:
        UntrustedError: The nonce is another one.
    """
    found = answer.container.ocsp_response_data.nonce_value
    if found is not None and found.native != nonce:
        raise UntrustedError(
            "the OCSP response answers another request: its nonce is not the one that was sent"
        )
