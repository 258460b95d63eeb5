"""Making SignedData (RFC 5652 section 5): detached, attached, and signatures added to a message.

Content is read once to hash it; an attached message reads it a second time to copy it, so that the
lengths in front of it are known and memory stays constant.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, BinaryIO, Final, Literal

from cryptography.hazmat.primitives.asymmetric import rsa

from tokensign import der
from tokensign.algorithms import (
    RSA_MAXIMUM_BITS,
    RSA_MINIMUM_BITS,
    Digest,
    SignatureScheme,
    default_scheme,
)
from tokensign.cms import content_info
from tokensign.cms.attributes import build_signed_attributes
from tokensign.cms.content_info import DATA, SIGNED_DATA
from tokensign.cms.signature import verify_fresh
from tokensign.errors import BadSignatureError, FileError, SigningError, UnsupportedError, UsageError
from tokensign.files import chunks

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from tokensign.certificates import Certificate
    from tokensign.cms.signed_data import SignedData
    from tokensign.keys import Signer

__all__ = ["SigningOptions", "add_signatures", "schemes_of", "sign_attached", "sign_detached"]

_VERSION_ISSUER_AND_SERIAL: Final = 1
_VERSION_SUBJECT_KEY_IDENTIFIER: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningOptions:
    """How to sign. The defaults are what S/MIME clients expect.

    Attributes:
        family: "rsa-pkcs1", "rsa-pss", "ecdsa" or "eddsa"; None: the usual one of each key's type.
        digest: The digest; None: the usual one of each key.
        identifier: Whether a certificate is named by issuer and serial number or by subject key identifier.
        include_certificates: Whether the signers' certificates and chains go into the message.
        extra_certificates: Further certificates that go into it.
        content_type: The eContentType, dotted; id-data unless told.
        signing_time: An aware datetime; None: now.
        check: Verify each fresh signature with the public key before it is released.
    """

    family: str | None = None
    digest: Digest | None = None
    identifier: Literal["issuer", "ski"] = "issuer"
    include_certificates: bool = True
    extra_certificates: Sequence[Certificate] = ()
    content_type: str = DATA
    signing_time: datetime | None = None
    check: bool = True


_DEFAULT_OPTIONS: Final = SigningOptions()


def sign_detached(
    content: BinaryIO, signers: Sequence[Signer], options: SigningOptions = _DEFAULT_OPTIONS
) -> bytes:
    """Sign content that travels beside the signature.

    Args:
        content: What is signed, from its current position to its end.
        signers: One or more keys, each with its certificate.
        options: How to sign.

    Returns:
        A ContentInfo with SignedData without content, DER.

    Raises:
        UsageError: No signer, or one without a certificate.
        UnsupportedError: A key cannot sign the way that was asked for.
        SigningError: A fresh signature does not verify.
        TokenError: The token failed.
    """
    plan = _plan(signers, options)
    digests = _hash(chunks(content), {scheme.digest for _, _, scheme in plan})[0]
    infos = _sign_all(plan, digests, options)
    parts = _Parts(
        digest_algorithms=_digest_algorithms(plan),
        content_type=options.content_type,
        certificates=_certificates(plan, options),
        signer_infos=infos,
    )
    head, tail = parts.encode(None)
    return head + tail


def sign_attached(
    content: BinaryIO,
    signers: Sequence[Signer],
    output: BinaryIO,
    options: SigningOptions = _DEFAULT_OPTIONS,
) -> None:
    """Sign content and put it into the message.

    Args:
        content: What is signed, from its current position to its end; it must be able to seek.
        signers: One or more keys, each with its certificate.
        output: Receives a ContentInfo with SignedData, DER.
        options: How to sign.

    Raises:
        UsageError, UnsupportedError, SigningError, TokenError: As for `sign_detached`.
        FileError: The content changed while it was signed.
    """
    plan = _plan(signers, options)
    start = content.tell()
    digests, size = _hash(chunks(content), {scheme.digest for _, _, scheme in plan})
    infos = _sign_all(plan, digests, options)
    parts = _Parts(
        digest_algorithms=_digest_algorithms(plan),
        content_type=options.content_type,
        certificates=_certificates(plan, options),
        signer_infos=infos,
    )
    content.seek(start)
    parts.write(output, chunks(content), size)


def add_signatures(
    message: SignedData,
    signers: Sequence[Signer],
    output: BinaryIO,
    options: SigningOptions = _DEFAULT_OPTIONS,
    content: BinaryIO | None = None,
) -> None:
    """Add signatures beside those of a message; the ones that are there stay as they are.

    Args:
        message: The message, from `tokensign.cms.signed_data.read_signed_data`.
        signers: The keys whose signatures are added.
        output: Receives the new message, DER.
        options: How to sign; the content type is the message's.
        content: The content of a detached signature; None for an attached one.

    Raises:
        UsageError: `content` is missing, or there is one though the message has its own.
        UnsupportedError, SigningError, TokenError: As for `sign_detached`.
    """
    if (content is None) == (message.content is None):
        raise UsageError(
            "the signature is detached, and its content is needed"
            if content is None
            else "the message holds its content already",
        )
    pieces = message.content.chunks() if message.content else chunks(content) if content else iter(())
    plan = _plan(signers, options)
    digests, size = _hash(pieces, {scheme.digest for _, _, scheme in plan})
    infos = _sign_all(plan, digests, options, content_type=message.content_type)
    parts = _Parts(
        digest_algorithms={*message.digest_algorithms, *_digest_algorithms(plan)},
        content_type=message.content_type,
        certificates={*message.certificate_choices, *_certificates(plan, options)},
        revocation_choices=message.revocation_choices,
        signer_infos=[*(info.encoded for info in message.signer_infos), *infos],
    )
    if message.content is None:
        output.write(b"".join(parts.encode(None)))
    else:
        parts.write(output, message.content.chunks(), size)


def schemes_of(
    signers: Sequence[Signer], options: SigningOptions = _DEFAULT_OPTIONS
) -> tuple[SignatureScheme, ...]:
    """The schemes with which keys sign under some options.

    Raises:
        UnsupportedError: A key cannot sign the way that was asked for.
    """
    return tuple(
        default_scheme(signer.public_key, family=options.family, digest=options.digest) for signer in signers
    )


_Plan = list[tuple["Signer", "Certificate", SignatureScheme]]


def _plan(signers: Sequence[Signer], options: SigningOptions) -> _Plan:
    """Which key signs with which certificate and scheme; every refusal comes before the first signature."""
    if not signers:
        raise UsageError("a signature needs at least one signer")
    plan: _Plan = []
    for signer, scheme in zip(signers, schemes_of(signers, options), strict=True):
        if signer.certificate is None:
            raise UsageError(
                "the signing key has no certificate",
                hint="import one with `tokensign cert import`, or make one with `tokensign cert self-sign`",
            )
        if options.identifier == "ski" and signer.certificate.subject_key_identifier is None:
            raise UsageError(f"the certificate of {signer.certificate.subject} has no subject key identifier")
        _require_size(signer)
        plan.append((signer, signer.certificate, scheme))
    return plan


def _require_size(signer: Signer) -> None:
    key = signer.public_key
    if isinstance(key, rsa.RSAPublicKey) and not RSA_MINIMUM_BITS <= key.key_size <= RSA_MAXIMUM_BITS:
        raise UnsupportedError(
            f"an RSA key of {key.key_size} bits does not sign here",
            hint=f"sizes from {RSA_MINIMUM_BITS} to {RSA_MAXIMUM_BITS} are used; generate another key",
        )


def _hash(pieces: Iterable[bytes], wanted: set[Digest]) -> tuple[dict[str, bytes], int]:
    """The hash values of content by digest name, and its size."""
    hashers = {entry.name: entry.new() for entry in wanted}
    size = 0
    for piece in pieces:
        size += len(piece)
        for hasher in hashers.values():
            hasher.update(piece)
    return {name: hasher.digest() for name, hasher in hashers.items()}, size


def _sign_all(
    plan: _Plan, digests: dict[str, bytes], options: SigningOptions, content_type: str | None = None
) -> list[bytes]:
    moment = options.signing_time or datetime.now(UTC)
    kind = content_type or options.content_type
    return [
        _signer_info(signer, certificate, scheme, kind, digests[scheme.digest.name], moment, options)
        for signer, certificate, scheme in plan
    ]


def _signer_info(  # noqa: PLR0917 - the parts of one structure
    signer: Signer,
    certificate: Certificate,
    scheme: SignatureScheme,
    content_type: str,
    message_digest: bytes,
    moment: datetime,
    options: SigningOptions,
) -> bytes:
    """One SignerInfo: the only place where a token signs a message."""
    attributes = build_signed_attributes(certificate, scheme, content_type, message_digest, moment)
    signature = signer.sign(attributes, scheme)
    if options.check:
        try:
            verify_fresh(signer.public_key, scheme, signature, message=attributes)
        except BadSignatureError as error:
            raise SigningError(
                f"the signature that the token made for {certificate.subject} is wrong and was thrown away",
                hint="run `tokensign doctor`; the key, the token or its module is damaged",
            ) from error
    head, tail = _constant_fields(certificate, scheme, options.identifier)
    return der.sequence(head, b"\xa0", attributes[1:], tail, der.octet_string(signature))


@lru_cache(maxsize=256)
def _constant_fields(
    certificate: Certificate, scheme: SignatureScheme, identifier: Literal["issuer", "ski"]
) -> tuple[bytes, bytes]:
    """What stands before and behind the signed attributes of every SignerInfo of a key."""
    if identifier == "ski":
        sid = der.tlv(0x80, certificate.subject_key_identifier or b"")
        version = _VERSION_SUBJECT_KEY_IDENTIFIER
    else:
        sid = certificate.issuer_and_serial_number
        version = _VERSION_ISSUER_AND_SERIAL
    return der.integer(version) + sid + scheme.digest.algorithm_identifier, scheme.algorithm_identifier


def _digest_algorithms(plan: _Plan) -> set[bytes]:
    return {scheme.digest.algorithm_identifier for _, _, scheme in plan}


def _certificates(plan: _Plan, options: SigningOptions) -> set[bytes]:
    found = {entry.der for entry in options.extra_certificates}
    if options.include_certificates:
        for signer, certificate, _ in plan:
            found.add(certificate.der)
            found.update(entry.der for entry in signer.chain)
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class _Parts:
    """The encoded parts of a SignedData."""

    digest_algorithms: Iterable[bytes]
    content_type: str
    certificates: Iterable[bytes]
    revocation_choices: Iterable[bytes] = ()
    signer_infos: Sequence[bytes]

    def encode(self, content_size: int | None) -> tuple[bytes, bytes]:
        """All octets of the message before and behind its content; None: there is no content."""
        tail = b""
        if certificates := list(self.certificates):
            tail += der.set_of(*certificates, tag=0xA0)
        if revocation := list(self.revocation_choices):
            tail += der.set_of(*revocation, tag=0xA1)
        tail += der.set_of(*self.signer_infos)

        kind = der.object_identifier(self.content_type)
        if content_size is None:
            encapsulated = der.sequence(kind)
            size = 0
        else:
            string = der.header(0x04, content_size)
            tag = der.header(0xA0, len(string) + content_size)
            encapsulated = der.header(0x30, len(kind) + len(tag) + len(string) + content_size)
            encapsulated += kind + tag + string
            size = content_size
        head = der.integer(self._version()) + der.set_of(*self.digest_algorithms) + encapsulated
        total = len(head) + size + len(tail)
        opening = der.header(0x30, total)
        return content_info.content_info_header(SIGNED_DATA, len(opening) + total) + opening + head, tail

    def write(self, output: BinaryIO, content: Iterator[bytes], size: int) -> None:
        """Write the message around its content, which must have `size` octets."""
        head, tail = self.encode(size)
        output.write(head)
        written = 0
        for piece in content:
            written += len(piece)
            output.write(piece)
        if written != size:
            raise FileError("the content changed while it was being signed")
        output.write(tail)

    def _version(self) -> int:
        """CMSVersion by RFC 5652 section 5.1."""
        choices = [entry[0] for entry in self.certificates]
        if 0xA3 in choices or any(entry[0] != 0x30 for entry in self.revocation_choices):  # noqa: PLR2004
            return 5
        if 0xA2 in choices:  # noqa: PLR2004 - v2AttrCert
            return 4
        by_key_identifier = any(_version_field(entry) == b"\x02\x01\x03" for entry in self.signer_infos)
        if 0xA1 in choices or by_key_identifier or self.content_type != DATA:  # noqa: PLR2004 - v1AttrCert
            return 3
        return 1


def _version_field(signer_info: bytes) -> bytes:
    """The version of a SignerInfo as encoded: the three octets behind its header."""
    length_octets = signer_info[1] & 0x7F if signer_info[1] & 0x80 else 0
    return signer_info[2 + length_octets : 5 + length_octets]
