"""The integrity of SignedData: which signatures hold over the content (RFC 5652 sections 5.4 to 5.6).

Nothing here says whom to trust; `tokensign.verification` adds that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tokensign import der
from tokensign.algorithms import require_strength
from tokensign.cms.attributes import parse_signed_attributes
from tokensign.cms.content_info import DATA
from tokensign.cms.countersignature import countersignatures_of
from tokensign.cms.signature import (
    ReceivedScheme,
    read_signature_algorithm,
    verify_signature,
)
from tokensign.cms.signed_content import SignedContent
from tokensign.cms.verification_key import verification_key
from tokensign.errors import BadSignatureError, MalformedError, MessageError, TokensignError, UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from datetime import datetime

    from tokensign.certificates import Certificate
    from tokensign.cms.signed_data import SignedData, SignerInfo

__all__ = [
    "MAX_COUNTERSIGNATURES",
    "MAX_COUNTERSIGNATURE_DEPTH",
    "SignerResult",
    "verify_signatures",
]

MAX_COUNTERSIGNATURES: Final = 128  # in a message; each costs a public-key operation, as a signature does
MAX_COUNTERSIGNATURE_DEPTH: Final = 8  # a countersignature of a countersignature, and so on; two are in use


@dataclass(frozen=True, slots=True)
class SignerResult:
    """What was found about one signature.

    Attributes:
        signer: The signature.
        certificate: The certificate it names, or None where it is not at hand.
        scheme: How it is made, or None where that is not known here.
        signing_time: What the signer says about the time; signed, but only the signer's word.
        error: Why the signature does not hold, or None: it holds.
        countersignatures: What was found about the signatures over this one (RFC 5652 section 11.4). Whether
            they hold says nothing about this one: anybody can add and remove them.
    """

    signer: SignerInfo
    certificate: Certificate | None
    scheme: ReceivedScheme | None
    signing_time: datetime | None
    error: TokensignError | None
    countersignatures: tuple[SignerResult, ...] = ()


def verify_signatures(
    message: SignedData,
    content: Iterable[bytes],
    *,
    certificates: Sequence[Certificate] = (),
    legacy: bool = False,
    copy: Callable[[bytes], object] | None = None,
) -> tuple[SignerResult, ...]:
    """Check every signature of a message over its content, which is read once.

    Args:
        message: The message.
        content: The content in pieces: that of the message, or the detached one.
        certificates: Where to look for signers' certificates that the message does not carry, and for the
            issuers from which DSA keys inherit their parameters.
        legacy: Whether SHA-1, MD5, DSA and short RSA keys are accepted.
        copy: Called with each piece of the content as it passes.

    Returns:
        One result a signature, in the order of the message.

    Raises:
        MalformedError: The content cannot be read.
        UnsupportedError: The message has no signature.
    """
    if not message.signer_infos:
        raise UnsupportedError("the message carries no signature", hint="see `tokensign inspect`")
    signed = SignedContent(message.signer_infos, message.content_type)
    for piece in content:
        signed.update(piece)
        if copy is not None:
            copy(piece)
    checker = _Checker(message, certificates, iter(range(MAX_COUNTERSIGNATURES)), legacy=legacy)
    return tuple(checker.check(signer, signed) for signer in message.signer_infos)


@dataclass(frozen=True, slots=True)
class _Checker:
    """What every signature of a message is checked with."""

    message: SignedData
    certificates: Sequence[Certificate]
    budget: Iterator[int]  # of countersignatures
    legacy: bool

    def check(self, signer: SignerInfo, signed: SignedContent, depth: int = 0) -> SignerResult:
        certificate = self.message.certificate_of(signer, self.certificates)
        scheme: ReceivedScheme | None = None
        signing_time: datetime | None = None
        error: TokensignError | None = None
        countersignatures: tuple[SignerResult, ...] = ()
        try:
            countersignatures = self._countersignatures(signer, depth + 1)
            require_strength(signer.digest.name.upper(), signer.digest.strength, legacy=self.legacy)
            scheme = read_signature_algorithm(signer.signature_algorithm, signer.digest)
            if certificate is None:
                raise MessageError(
                    f"the signer's certificate ({signer.identifier}) is not in the message",
                    hint="give it with --untrusted FILE",
                )
            if signer.signed_attributes is None:
                self._check_content(signer, scheme, certificate, signed)
            else:
                signing_time = self._check_attributes(signer, scheme, certificate, signed)
        except TokensignError as caught:
            error = caught
        return SignerResult(signer, certificate, scheme, signing_time, error, countersignatures)

    def _countersignatures(self, signer: SignerInfo, depth: int) -> tuple[SignerResult, ...]:
        """The signatures over a signature: the content is the octets of its value (RFC 5652 section 11.4)."""
        found = countersignatures_of(signer)
        if not found:
            return ()
        if depth > MAX_COUNTERSIGNATURE_DEPTH:
            raise MalformedError(f"countersignatures nest deeper than {MAX_COUNTERSIGNATURE_DEPTH} levels")
        signed = SignedContent(found, None)
        signed.update(signer.signature)
        results = []
        for countersigner in found:
            if next(self.budget, None) is None:
                raise MalformedError(f"the message has more than {MAX_COUNTERSIGNATURES} countersignatures")
            results.append(self.check(countersigner, signed, depth))
        return tuple(results)

    def _check_content(
        self, signer: SignerInfo, scheme: ReceivedScheme, certificate: Certificate, signed: SignedContent
    ) -> None:
        """A signature without signed attributes, which only id-data may have (RFC 5652 section 5.3)."""
        if signed.content_type not in {DATA, None}:
            raise MalformedError("content of this type must be signed with signed attributes")
        if signed.looks_like_attributes:
            raise MalformedError(
                "the content looks like the signed attributes of another signature, and may be taken from it",
                hint="ask the signer for a signature with signed attributes",
            )
        verify_signature(
            verification_key(certificate, scheme, self.certificates),
            scheme,
            signer.signature,
            message=signed.whole if scheme.pure else None,
            digest=signed.digest(scheme.digest),
            legacy=self.legacy,
        )

    def _check_attributes(
        self, signer: SignerInfo, scheme: ReceivedScheme, certificate: Certificate, signed: SignedContent
    ) -> datetime | None:
        """A signature over signed attributes; what comes back is the signing time."""
        encoded = signer.signed_attributes or b""
        attributes = parse_signed_attributes(encoded)
        if signed.content_type is None:
            attributes.check_no_content_type()
        else:
            attributes.check_content_type(signed.content_type)
        if not attributes.check_message_digest(signed.digest(signer.digest)):
            raise BadSignatureError("the content was changed after it was signed")
        attributes.check_algorithm_protection(signer.digest_algorithm, signer.signature_algorithm)
        attributes.check_signing_certificate(certificate)
        try:  # in DER as RFC 5652 section 5.4 says
            self._verify(certificate, scheme, signer, _sorted_set(encoded))
        except BadSignatureError:  # old software signed the attributes in the order in which it sent them
            self._verify(certificate, scheme, signer, encoded)
        return attributes.signing_time

    def _verify(
        self, certificate: Certificate, scheme: ReceivedScheme, signer: SignerInfo, message: bytes
    ) -> None:
        key = verification_key(certificate, scheme, self.certificates)
        verify_signature(key, scheme, signer.signature, message=message, legacy=self.legacy)


def _sorted_set(encoded: bytes) -> bytes:
    return der.set_of(*der.elements(encoded))
