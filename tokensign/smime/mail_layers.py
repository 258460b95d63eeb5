"""The layers of a mail: each takes an entity and writes an entity around it, with header fields in front."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING, BinaryIO

from tokensign import der
from tokensign.cms.attributes import RECEIPT_REQUEST
from tokensign.cms.compressed import compress
from tokensign.cms.encrypt import encrypt
from tokensign.cms.signed import schemes_of, sign_attached, sign_detached
from tokensign.files import spool
from tokensign.smime.compose import write_multipart_signed, write_pkcs7_mime

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from tokensign.algorithms import ContentCipher
    from tokensign.cms.encrypt import Recipient
    from tokensign.cms.signer_info import SigningOptions
    from tokensign.keys import KeyTransport, Signer
    from tokensign.smime.header_fields import HeaderFields

    Layer = Callable[[BinaryIO, BinaryIO, bytes], None]

__all__ = [
    "compressed_layer",
    "encrypted_layer",
    "put_around",
    "signed_layer",
    "signing_of_third_layer",
    "wrapped",
]


@contextlib.contextmanager
def wrapped(entity: BinaryIO, layers: Iterable[Layer]) -> Iterator[BinaryIO]:
    """An entity with layers around it, from the inside, in a private temporary stream where there is any."""
    with contextlib.ExitStack() as held:
        for layer in layers:
            around = held.enter_context(spool())
            layer(entity, around, b"")
            around.seek(0)
            entity = around
        yield entity


def put_around(entity: BinaryIO, layers: Sequence[Layer], output: BinaryIO, outside: HeaderFields) -> None:
    """Write a mail: an entity with layers around it, from the inside.

    Args:
        entity: What they go around, from its current position.
        layers: One or more.
        output: Receives the mail.
        outside: The header fields of the mail, which the outermost layer gets.
    """
    *inner, outermost = layers
    with wrapped(entity, inner) as content:
        outermost(content, output, outside.raw())


def signed_layer(signers: Sequence[Signer], signing: SigningOptions, *, opaque: bool) -> Layer:
    """multipart/signed, or application/pkcs7-mime with signed-data (RFC 8551 sections 3.5.2 and 3.5.3).

    Args:
        signers: Who signs.
        signing: How.
        opaque: Whether what is signed stands in the signature.
    """

    def sign_clear(entity: BinaryIO, output: BinaryIO, fields: bytes) -> None:
        signature = sign_detached(entity, signers, signing)
        entity.seek(0)
        digests = [scheme.digest for scheme in schemes_of(signers, signing)]
        write_multipart_signed(entity, signature, digests, output, fields)

    def sign_opaque(entity: BinaryIO, output: BinaryIO, fields: bytes) -> None:
        with spool() as message:
            sign_attached(entity, signers, message, signing)
            message.seek(0)
            write_pkcs7_mime(message, "signed-data", output, fields)

    return sign_opaque if opaque else sign_clear


def signing_of_third_layer(signing: SigningOptions) -> SigningOptions:
    """How a third layer is signed: receipts are asked for in the first only (RFC 2634 section 1.3.4)."""
    further = tuple(
        attribute
        for attribute in signing.signed_attributes
        if der.dotted(der.elements(attribute)[0]) != RECEIPT_REQUEST
    )
    return replace(signing, signed_attributes=further)


def compressed_layer(entity: BinaryIO, output: BinaryIO, fields: bytes) -> None:
    """application/pkcs7-mime with compressed-data (RFC 8551 section 3.6)."""
    with spool() as message:
        compress(entity, message)
        message.seek(0)
        write_pkcs7_mime(message, "compressed-data", output, fields)


def encrypted_layer(
    readers: Sequence[Recipient], cipher: ContentCipher, transport: KeyTransport | None
) -> Layer:
    """application/pkcs7-mime with authEnveloped-data or enveloped-data (RFC 8551 sections 3.3 and 3.4).

    Args:
        readers: Who can decrypt it.
        cipher: Encrypts the entity.
        transport: Encrypts the key to RSA certificates; None: OAEP with SHA-256.
    """

    def encrypted(entity: BinaryIO, output: BinaryIO, fields: bytes) -> None:
        with spool() as message:
            encrypt(entity, readers, message, cipher=cipher, transport=transport)
            message.seek(0)
            kind = "authEnveloped-data" if cipher.authenticated else "enveloped-data"
            write_pkcs7_mime(message, kind, output, fields)

    return encrypted
