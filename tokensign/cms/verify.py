"""The integrity of SignedData: which signatures hold over the content (RFC 5652 sections 5.4 to 5.6).

Nothing here says whom to trust; `tokensign.verification` adds that.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tokensign import der
from tokensign.algorithms import require_strength
from tokensign.cms.attributes import ATTRIBUTE_NAMES, ONLY_SIGNED, parse_signed_attributes
from tokensign.cms.content_info import DATA
from tokensign.cms.signature import (
    ReceivedScheme,
    read_signature_algorithm,
    verify_signature,
)
from tokensign.errors import BadSignatureError, MalformedError, MessageError, TokensignError, UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from datetime import datetime

    from tokensign.algorithms import Digest
    from tokensign.certificates import Certificate
    from tokensign.cms.signed_data import SignedData, SignerInfo

__all__ = ["SignerResult", "verify_signatures"]

MAX_PURE_CONTENT_SIZE: Final = 1 << 26  # 64 MiB: Ed25519 without signed attributes needs the content whole


@dataclass(frozen=True, slots=True)
class SignerResult:
    """What was found about one signature.

    Attributes:
        signer: The signature.
        certificate: The certificate it names, or None where it is not at hand.
        scheme: How it is made, or None where that is not known here.
        signing_time: What the signer says about the time; signed, but only the signer's word.
        error: Why the signature does not hold, or None: it holds.
    """

    signer: SignerInfo
    certificate: Certificate | None
    scheme: ReceivedScheme | None
    signing_time: datetime | None
    error: TokensignError | None


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
        certificates: Where to look for signers' certificates that the message does not carry.
        legacy: Whether SHA-1, MD5 and short RSA keys are accepted.
        copy: Called with each piece of the content as it passes.

    Returns:
        One result a signature, in the order of the message.

    Raises:
        MalformedError: The content cannot be read.
        UnsupportedError: The message has no signature.
    """
    if not message.signer_infos:
        raise UnsupportedError("the message carries no signature", hint="see `tokensign inspect`")
    hashers = {digest.name: digest.new() for digest in _known_digests(message)}
    whole = bytearray() if _signs_content_itself(message) else None
    for piece in content:
        for hasher in hashers.values():
            hasher.update(piece)
        if whole is not None:
            whole += piece
            if len(whole) > MAX_PURE_CONTENT_SIZE:
                raise UnsupportedError(
                    "Ed25519 signatures without signed attributes are verified over at most"
                    f" {MAX_PURE_CONTENT_SIZE} bytes of content"
                )
        if copy is not None:
            copy(piece)
    checker = _Checker(
        message=message,
        digests={name: hasher.digest() for name, hasher in hashers.items()},
        content=None if whole is None else bytes(whole),
        certificates=certificates,
        legacy=legacy,
    )
    return tuple(checker.check(signer) for signer in message.signer_infos)


def _known_digests(message: SignedData) -> set[Digest]:
    known = set()
    for signer in message.signer_infos:
        with contextlib.suppress(UnsupportedError):  # the signer's own result will say so
            known.add(signer.digest)
    return known


def _signs_content_itself(message: SignedData) -> bool:
    """Whether a signature is over the content and not over a hash value of it."""
    for signer in message.signer_infos:
        with contextlib.suppress(MessageError):  # as above
            scheme = read_signature_algorithm(signer.signature_algorithm, signer.digest)
            if signer.signed_attributes is None and scheme.family == "eddsa":
                return True
    return False


@dataclass(frozen=True, slots=True, kw_only=True)
class _Checker:
    """What every signature of a message is checked against."""

    message: SignedData
    digests: Mapping[str, bytes]
    content: bytes | None
    certificates: Sequence[Certificate]
    legacy: bool

    def check(self, signer: SignerInfo) -> SignerResult:
        certificate = self.message.certificate_of(signer, self.certificates)
        scheme: ReceivedScheme | None = None
        signing_time: datetime | None = None
        error: TokensignError | None = None
        try:
            require_strength(signer.digest.name.upper(), signer.digest.strength, legacy=self.legacy)
            scheme = read_signature_algorithm(signer.signature_algorithm, signer.digest)
            _check_unsigned_attributes(signer)
            if certificate is None:
                raise MessageError(
                    f"the signer's certificate ({signer.identifier}) is not in the message",
                    hint="give it with --untrusted FILE",
                )
            if signer.signed_attributes is None:
                self._check_content(signer, scheme, certificate)
            else:
                signing_time = self._check_attributes(signer, scheme, certificate)
        except TokensignError as caught:
            error = caught
        return SignerResult(signer, certificate, scheme, signing_time, error)

    def _check_content(self, signer: SignerInfo, scheme: ReceivedScheme, certificate: Certificate) -> None:
        """A signature without signed attributes, which only id-data may have (RFC 5652 section 5.3)."""
        if self.message.content_type != DATA:
            raise MalformedError("content of this type must be signed with signed attributes")
        verify_signature(
            certificate.public_key,
            scheme,
            signer.signature,
            message=self.content if scheme.family == "eddsa" else None,
            digest=self.digests[scheme.digest.name],
            legacy=self.legacy,
        )

    def _check_attributes(
        self, signer: SignerInfo, scheme: ReceivedScheme, certificate: Certificate
    ) -> datetime | None:
        """A signature over signed attributes; what comes back is the signing time."""
        encoded = signer.signed_attributes or b""
        attributes = parse_signed_attributes(encoded)
        attributes.check_content_type(self.message.content_type)
        if not attributes.check_message_digest(self.digests[signer.digest.name]):
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
        verify_signature(
            certificate.public_key, scheme, signer.signature, message=message, legacy=self.legacy
        )


def _check_unsigned_attributes(signer: SignerInfo) -> None:
    """What has a meaning only when it is signed must not stand among what is not (RFC 5652 section 11)."""
    if signer.unsigned_attributes is None:
        return
    for kind in map(_type_of, der.elements(signer.unsigned_attributes)):
        if kind in ONLY_SIGNED:
            raise MalformedError(f"the attribute {ATTRIBUTE_NAMES[kind]} is not signed, and must be")


def _type_of(attribute: bytes) -> str:
    match der.elements(attribute):
        case [kind, _]:
            return der.dotted(kind)
        case _:
            raise MalformedError("an unsigned attribute is broken")


def _sorted_set(encoded: bytes) -> bytes:
    return der.set_of(*der.elements(encoded))
