"""Time-Stamp Protocol (RFC 3161, RFC 5816): the request, the response, and the token that proves a time.

A token is a SignedData over TSTInfo. Here is what makes it whole: its structure, its signature, and that it
answers a request. Whom to believe a time is `tokensign.pki.timestamping`'s business.
"""

from __future__ import annotations

import hmac
import io
import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, Self

from asn1crypto import core, tsp

from tokensign import der
from tokensign.algorithms import Digest, digest_by_oid, require_strength
from tokensign.cms.attributes import SIGNING_CERTIFICATE, SIGNING_CERTIFICATE_V2, parse_signed_attributes
from tokensign.cms.ber import to_der
from tokensign.cms.content_info import parsing
from tokensign.cms.signed_data import SignedData, SignerInfo, read_signed_data
from tokensign.cms.verify import verify_signatures
from tokensign.errors import BadSignatureError, MalformedError, UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tokensign.certificates import Certificate

__all__ = [
    "REPLY_TYPE",
    "REQUEST_TYPE",
    "TOKEN_SIZE_MAXIMUM",
    "TST_INFO",
    "TimestampRequest",
    "TimestampResponse",
    "TimestampToken",
    "TstInfo",
]

TST_INFO: Final = "1.2.840.113549.1.9.16.1.4"  # id-ct-TSTInfo
REQUEST_TYPE: Final = "application/timestamp-query"  # RFC 3161 section 3.4
REPLY_TYPE: Final = "application/timestamp-reply"
TOKEN_SIZE_MAXIMUM: Final = 1 << 20  # octets; real ones have 1 to 20 thousand

_VERSION: Final = 1
_NONCE_SIZE_MAXIMUM: Final = 64  # octets; 8 are usual, and a foreign request shall not be kept for its size
_GENERALIZED_TIME: Final = re.compile(rb"[0-9]{14}(\.[0-9]*[1-9])?Z")  # RFC 3161 section 2.4.2
_GRANTED: Final = frozenset({"granted", "granted_with_mods"})


@dataclass(frozen=True, slots=True, kw_only=True)
class TimestampRequest:
    """TimeStampReq (RFC 3161 section 2.4.1).

    Attributes:
        digest: Made the hash value.
        hashed_message: The hash value of the data.
        nonce: A large random number that the answer must repeat, or None.
        policy: The TSA policy that is asked for, dotted, or None.
        wants_certificate: certReq: whether the token shall hold the TSA's certificate.
    """

    digest: Digest
    hashed_message: bytes
    nonce: int | None = None
    policy: str | None = None
    wants_certificate: bool = True

    def encode(self) -> bytes:
        """The request, DER."""
        imprint = der.sequence(self.digest.algorithm_identifier, der.octet_string(self.hashed_message))
        fields = [der.integer(_VERSION), imprint]
        if self.policy is not None:
            fields.append(der.object_identifier(self.policy))
        if self.nonce is not None:
            fields.append(der.integer(self.nonce))
        if self.wants_certificate:  # FALSE is the default, which DER leaves out
            fields.append(der.boolean(value=True))
        return der.sequence(*fields)

    @classmethod
    def load(cls, encoded: bytes) -> Self:
        """Read a request.

        Raises:
            MalformedError: It is none, or its hash value does not have the size of its digest.
            UnsupportedError: The digest is not known, or the request has a critical extension.
        """
        with parsing("TimeStampReq"):
            request = tsp.TimeStampReq.load(encoded, strict=True)
            _require_version(request["version"], "TimeStampReq")
            digest, hashed = _imprint(request["message_imprint"])
            nonce = _nonce(request["nonce"])
            policy = request["req_policy"].dotted if request["req_policy"] else None
            wants_certificate = bool(request["cert_req"].native)
            _refuse_critical(request["extensions"], "the timestamp request")
        return cls(
            digest=digest,
            hashed_message=hashed,
            nonce=nonce,
            policy=policy,
            wants_certificate=wants_certificate,
        )


@dataclass(frozen=True, slots=True)
class TimestampResponse:
    """TimeStampResp (RFC 3161 section 2.4.2).

    Attributes:
        token: The TimeStampToken, DER, or None: the request was refused.
        status: PKIStatus in words: "granted", "granted with mods", "rejection", "waiting" ...
        reason: Why it was refused, as far as the TSA says, fit to be shown; else "".
    """

    token: bytes | None
    status: str
    reason: str

    @classmethod
    def load(cls, encoded: bytes) -> Self:
        """Read a response.

        Raises:
            MalformedError: It is none; or it grants and has no token, or refuses and has one.
        """
        with parsing("TimeStampResp"):
            fields = der.elements(to_der(encoded))
            status = tsp.PKIStatusInfo.load(fields[0], strict=True)
            word: str = status["status"].native
            texts = [str(text.native) for text in status["status_string"] or ()]
            failures = sorted(status["fail_info"].native or ())
        if (word in _GRANTED) != (len(fields) == 2) or len(fields) > 2:  # noqa: PLR2004 - status and token
            raise MalformedError(f"the timestamp response says {word!r}, and its token does not fit that")
        reason = "; ".join([*texts, *(failure.replace("_", " ") for failure in failures)])
        shown = "".join(letter if letter.isprintable() else "\ufffd" for letter in reason)
        return cls(fields[1] if word in _GRANTED else None, word.replace("_", " "), shown[:_REASON_MAXIMUM])


_REASON_MAXIMUM: Final = 200  # letters of a stranger's text in an error


@dataclass(frozen=True, slots=True)
class TstInfo:
    """TSTInfo (RFC 3161 section 2.4.2): what a TSA signs.

    Attributes:
        policy: The TSA policy, dotted.
        digest: Made the hash value.
        hashed_message: The hash value of the data that existed.
        serial_number: Of the token, unique for its TSA.
        time: genTime: when the data existed.
        accuracy: By how much the time may be wrong, or None: the policy says.
        nonce: That of the request, or None.
    """

    policy: str
    digest: Digest
    hashed_message: bytes
    serial_number: int
    time: datetime
    accuracy: timedelta | None
    nonce: int | None

    @classmethod
    def load(cls, encoded: bytes) -> Self:
        """Read a TSTInfo.

        Raises:
            MalformedError: It is none, or its hash value does not have the size of its digest.
            UnsupportedError: The digest is not known, or there is a critical extension.
        """
        with parsing("TSTInfo"):
            info = tsp.TSTInfo.load(encoded, strict=True)
            _require_version(info["version"], "TSTInfo")
            digest, hashed = _imprint(info["message_imprint"])
            if not _GENERALIZED_TIME.fullmatch(info["gen_time"].contents):
                raise MalformedError("the genTime of the timestamp is not as RFC 3161 section 2.4.2 has it")
            _refuse_critical(info["extensions"], "the timestamp")
            return cls(
                policy=info["policy"].dotted,
                digest=digest,
                hashed_message=hashed,
                serial_number=int(info["serial_number"].native),
                time=info["gen_time"].native,
                accuracy=_accuracy(info["accuracy"]),
                nonce=_nonce(info["nonce"]),
            )


@dataclass(frozen=True)
class TimestampToken:
    """TimeStampToken (RFC 3161 section 2.4.2): a SignedData over TSTInfo with one signature.

    Attributes:
        encoded: The whole token, in definite form.
        message: Its SignedData.
        info: What it says. Not to be believed before `verify`, and a validation of the TSA's certificate.
    """

    encoded: bytes
    message: SignedData
    info: TstInfo

    @classmethod
    def load(cls, encoded: bytes) -> Self:
        """Read a token.

        Raises:
            MalformedError: It is none, or has not exactly one signature.
            UnsupportedError: Something in it is not known here.
        """
        if len(encoded) > TOKEN_SIZE_MAXIMUM:
            raise MalformedError(f"the timestamp is larger than {TOKEN_SIZE_MAXIMUM} octets")
        whole = to_der(encoded)
        message = read_signed_data(io.BytesIO(whole))
        if message.content_type != TST_INFO or message.content is None:
            raise MalformedError("this CMS message is not a timestamp")
        if len(message.signer_infos) != 1:
            raise MalformedError(f"the timestamp has {len(message.signer_infos)} signatures instead of one")
        return cls(whole, message, TstInfo.load(b"".join(message.content.chunks())))

    @property
    def signer(self) -> SignerInfo:
        """The signature of the TSA."""
        return self.message.signer_infos[0]

    @cached_property
    def _signed_types(self) -> tuple[str, ...]:
        if self.signer.signed_attributes is None:
            return ()
        return parse_signed_attributes(self.signer.signed_attributes).types

    def check_digest(self, digest: bytes, *, legacy: bool = False) -> None:
        """Check that it is about data with a hash value.

        Args:
            digest: The hash value by `info.digest`.
            legacy: Whether SHA-1 and MD5 are accepted.

        Raises:
            BadSignatureError: It is about other data.
            LegacyAlgorithmError: The digest is too weak.
        """
        name = self.info.digest.name.upper()
        require_strength(f"a timestamp over {name}", self.info.digest.strength, legacy=legacy)
        if not hmac.compare_digest(self.info.hashed_message, digest):
            raise BadSignatureError("the timestamp is about other data, or the data was changed after it")

    def check_request(self, request: TimestampRequest) -> None:
        """Check that it answers a request (RFC 3161 section 2.4.2).

        Raises:
            BadSignatureError: Its hash value, nonce or policy is not that of the request.
            MalformedError: It lacks the certificate that was asked for, or has certificates that were not.
        """
        info = self.info
        if info.digest != request.digest:
            raise BadSignatureError(
                f"the timestamp has a hash value by {info.digest.name}, not by {request.digest.name}"
            )
        self.check_digest(request.hashed_message, legacy=True)  # the caller chose it
        if info.nonce != request.nonce:
            raise BadSignatureError(
                "the timestamp answers another request: its nonce is not the one that was sent"
            )
        if request.policy is not None and info.policy != request.policy:
            raise BadSignatureError(
                f"the timestamp was made under policy {info.policy}, not {request.policy}"
            )
        if bool(self.message.certificate_choices) != request.wants_certificate:
            state = "lacks the certificate" if request.wants_certificate else "has a certificate"
            wanted = "was asked for" if request.wants_certificate else "nobody asked for"
            raise MalformedError(f"the timestamp {state} that {wanted}")

    def verify(self, certificates: Sequence[Certificate] = (), *, legacy: bool = False) -> Certificate:
        """Check the signature of the TSA.

        Args:
            certificates: Where to look for the TSA's certificate if the token does not hold it.
            legacy: Whether weak algorithms are accepted.

        Returns:
            The TSA's certificate, on which the signature insists (ESSCertID, ESSCertIDv2). Nobody has said
            that it is to be trusted.

        Raises:
            BadSignatureError: The signature is wrong.
            MalformedError: It does not say which certificate is the TSA's.
            MessageError: The certificate is not at hand, or an algorithm is not accepted.
        """
        content = self.message.content
        pieces = content.chunks() if content is not None else ()
        (result,) = verify_signatures(self.message, pieces, certificates=certificates, legacy=legacy)
        if result.error is not None:
            raise result.error
        if not {SIGNING_CERTIFICATE, SIGNING_CERTIFICATE_V2} & {*self._signed_types}:
            raise MalformedError("the timestamp does not sign which certificate is the TSA's (RFC 5816)")
        if result.certificate is None:
            raise MalformedError("the certificate of the TSA is not at hand")
        return result.certificate


def _imprint(imprint: Any) -> tuple[Digest, bytes]:  # noqa: ANN401 - asn1crypto has no types
    digest = digest_by_oid(imprint["hash_algorithm"]["algorithm"].dotted)
    hashed: bytes = imprint["hashed_message"].native
    if len(hashed) != digest.size:
        raise MalformedError(f"the messageImprint has not the size of a hash value by {digest.name}")
    return digest, hashed


def _require_version(version: Any, what: str) -> None:  # noqa: ANN401 - asn1crypto has no types
    if int(version) != _VERSION:
        raise UnsupportedError(f"{what} has version {int(version)}; only version {_VERSION} is known")


def _nonce(value: Any) -> int | None:  # noqa: ANN401 - asn1crypto has no types
    if isinstance(value, core.Void) or value.native is None:
        return None
    if len(value.contents) > _NONCE_SIZE_MAXIMUM:
        raise MalformedError(f"the nonce is larger than {_NONCE_SIZE_MAXIMUM} octets")
    return int(value.native)


def _accuracy(value: Any) -> timedelta | None:  # noqa: ANN401 - asn1crypto has no types
    if isinstance(value, core.Void) or value.native is None:
        return None
    seconds, millis, micros = (value[name].native or 0 for name in ("seconds", "millis", "micros"))
    return timedelta(seconds=seconds, milliseconds=millis, microseconds=micros)


def _refuse_critical(extensions: Any, what: str) -> None:  # noqa: ANN401 - asn1crypto has no types
    """No extension is known here, so a critical one cannot be understood (RFC 5280 section 4.2)."""
    for extension in extensions or ():
        if extension["critical"].native:
            raise UnsupportedError(f"{what} has the critical extension {extension['extn_id'].dotted}")
