"""Making SignedData (RFC 5652 section 5): detached, attached, and signatures added to a message.

Content is read once to hash it; an attached message reads it a second time to copy it, so that the
lengths in front of it are known and memory stays constant.

`SigningTemplate` is for those who sign again and again: it encodes once what all messages of the same signers
have in common. The functions make one and use it once.
"""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, BinaryIO

from tokensign import der
from tokensign.algorithms import SignatureScheme, default_scheme
from tokensign.cms.indefinite import segments
from tokensign.cms.signed_data_parts import SignedDataParts, join_detached
from tokensign.cms.signer_info import (
    DEFAULT_OPTIONS,
    SigningOptions,
    certificates_of,
    templates_of,
)
from tokensign.errors import UsageError
from tokensign.files import CHUNK_SIZE, chunks

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from tokensign.algorithms import Digest
    from tokensign.cms.signed_data import SignedData
    from tokensign.cms.signer_info import SignerInfoTemplate
    from tokensign.keys import Signer

__all__ = [
    "SigningOptions",
    "SigningTemplate",
    "add_signatures",
    "schemes_of",
    "sign_attached",
    "sign_detached",
    "sign_streamed",
]


class SigningTemplate:
    """The same signers, ready to sign message after message; safe for threads when the signers are.

    It keeps the certificates that the signers had when it was made: make another one when they are renewed.

    Args:
        signers: One or more keys, each with its certificate.
        options: How to sign.

    Raises:
        UsageError: No signer, or one without a certificate.
        UnsupportedError: A key cannot sign the way that was asked for.
    """

    def __init__(self, signers: Sequence[Signer], options: SigningOptions = DEFAULT_OPTIONS) -> None:
        self._templates = templates_of(signers, options, options.content_type)
        self._options = options
        self._digests = {template.scheme.digest for template in self._templates}
        self._parts = SignedDataParts(
            digest_algorithms=[digest.algorithm_identifier for digest in self._digests],
            content_type=options.content_type,
            certificates=certificates_of(self._templates, options),
            signer_infos=[der.sequence(template.head) for template in self._templates],  # tell their versions
        )
        self._before_signer_infos = self._parts.head(None) + self._parts.middle()

    def detached(self, content: BinaryIO) -> bytes:
        """Sign content that travels beside the signature; see `sign_detached`.

        Args:
            content: What is signed, from its current position to its end.

        Raises:
            SigningError: A fresh signature does not verify.
            TokenError: The token failed.
        """
        if len(self._templates) == 1:  # as nearly always, and here every microsecond counts
            (template,) = self._templates
            hasher = template.scheme.digest.new(content.read(CHUNK_SIZE))
            while piece := content.read(CHUNK_SIZE):
                hasher.update(piece)
            infos = [template.sign(hasher.digest(), _moment(self._options))]
        else:
            digests, _ = _hash(chunks(content), self._digests)
            infos = _sign_all(self._templates, digests, self._options)
        return join_detached(self._before_signer_infos, infos)

    def attached(self, content: BinaryIO, output: BinaryIO) -> None:
        """Sign content and put it into the message; see `sign_attached`.

        Args:
            content: What is signed, from its current position to its end; it must be able to seek.
            output: Receives a ContentInfo with SignedData, DER.

        Raises:
            SigningError: A fresh signature does not verify.
            TokenError: The token failed.
            FileError: The content changed while it was signed.
        """
        start = content.tell()
        digests, size = _hash(chunks(content), self._digests)
        parts = replace(self._parts, signer_infos=_sign_all(self._templates, digests, self._options))
        content.seek(start)
        parts.write(output, chunks(content), size)

    def streamed(self, content: BinaryIO, output: BinaryIO) -> None:
        """Sign content as it comes, into a message in BER; see `sign_streamed`.

        Args:
            content: What is signed, read once to its end; it need not seek.
            output: Receives a ContentInfo with SignedData, in BER with indefinite lengths.

        Raises:
            SigningError: A fresh signature does not verify.
            TokenError: The token failed.
        """
        output.write(self._parts.streamed_head())
        digests, _ = _hash(_written(chunks(content), output), self._digests)
        parts = replace(self._parts, signer_infos=_sign_all(self._templates, digests, self._options))
        output.write(parts.streamed_tail())


def sign_detached(
    content: BinaryIO, signers: Sequence[Signer], options: SigningOptions = DEFAULT_OPTIONS
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
    return SigningTemplate(signers, options).detached(content)


def sign_attached(
    content: BinaryIO,
    signers: Sequence[Signer],
    output: BinaryIO,
    options: SigningOptions = DEFAULT_OPTIONS,
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
    SigningTemplate(signers, options).attached(content, output)


def sign_streamed(
    content: BinaryIO,
    signers: Sequence[Signer],
    output: BinaryIO,
    options: SigningOptions = DEFAULT_OPTIONS,
) -> None:
    """Sign content that cannot seek, such as a pipe's, and put it into the message as it comes.

    Args:
        content: What is signed, read once to its end.
        signers: One or more keys, each with its certificate.
        output: Receives a ContentInfo with SignedData, in BER with indefinite lengths.
        options: How to sign.

    Raises:
        UsageError, UnsupportedError, SigningError, TokenError: As for `sign_detached`.
    """
    SigningTemplate(signers, options).streamed(content, output)


def add_signatures(
    message: SignedData,
    signers: Sequence[Signer],
    output: BinaryIO,
    options: SigningOptions = DEFAULT_OPTIONS,
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
    templates = templates_of(signers, options, message.content_type)
    digests, size = _hash(pieces, {template.scheme.digest for template in templates})
    parts = SignedDataParts.of(message)
    parts = replace(
        parts,
        digest_algorithms=[
            *parts.digest_algorithms,
            *(template.scheme.digest.algorithm_identifier for template in templates),
        ],
        certificates={*parts.certificates, *certificates_of(templates, options)},
        signer_infos=[*parts.signer_infos, *_sign_all(templates, digests, options)],
    )
    if message.content is None:
        output.write(parts.detached())
    else:
        parts.write(output, message.content.chunks(), size)


def schemes_of(
    signers: Sequence[Signer], options: SigningOptions = DEFAULT_OPTIONS
) -> tuple[SignatureScheme, ...]:
    """The schemes with which keys sign under some options.

    Raises:
        UnsupportedError: A key cannot sign the way that was asked for.
    """
    return tuple(
        default_scheme(signer.public_key, family=options.family, digest=options.digest) for signer in signers
    )


def _hash(pieces: Iterable[bytes], wanted: Collection[Digest]) -> tuple[dict[str, bytes], int]:
    """The hash values of content by digest name, and the content's size."""
    hashers = [digest.new() for digest in wanted]
    size = 0
    for piece in pieces:
        size += len(piece)
        for hasher in hashers:
            hasher.update(piece)
    return {digest.name: hasher.digest() for digest, hasher in zip(wanted, hashers, strict=True)}, size


def _written(pieces: Iterable[bytes], output: BinaryIO) -> Iterator[bytes]:
    """The same pieces, each written as a segment on its way."""
    for piece in pieces:
        output.writelines(segments([piece]))
        yield piece


def _sign_all(
    templates: Iterable[SignerInfoTemplate], digests: Mapping[str, bytes], options: SigningOptions
) -> list[bytes]:
    moment = _moment(options)
    return [template.sign(digests[template.scheme.digest.name], moment) for template in templates]


def _moment(options: SigningOptions) -> datetime:
    return options.signing_time or _whole_second(int(time.time()))


@lru_cache(maxsize=2)
def _whole_second(seconds: int) -> datetime:
    """The moment at some seconds since 1970: the same object for all signatures of a second."""
    return datetime.fromtimestamp(seconds, UTC)
