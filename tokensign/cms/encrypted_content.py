"""EncryptedContentInfo: encrypted content with its type and its cipher (RFC 5652 section 6.1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tokensign import der
from tokensign.cms.ber import SEQUENCE, context
from tokensign.cms.content_cipher import (
    ContentEncryption,
    encode_content_encryption,
    read_content_encryption,
)
from tokensign.cms.content_info import Content, read_object_identifier
from tokensign.errors import MalformedError, UnsupportedError

if TYPE_CHECKING:
    from tokensign.cms.ber import BerReader

__all__ = ["EncryptedContentInfo", "encrypted_content_header", "read_encrypted_content_info"]

_IMPLICIT_PRIMITIVE_0: Final = 0x80


@dataclass(frozen=True, slots=True)
class EncryptedContentInfo:
    """Encrypted content that is still where it was.

    Attributes:
        content_type: That of the content inside, dotted.
        encryption: How the content is encrypted.
        content: Where the encrypted content lies.
    """

    content_type: str
    encryption: ContentEncryption
    content: Content


def read_encrypted_content_info(reader: BerReader) -> EncryptedContentInfo:
    """The EncryptedContentInfo at the cursor; the encrypted content is passed over.

    Raises:
        MalformedError: There is none, or it is broken.
        UnsupportedError: The cipher is not known here, or the encrypted content is not in the message.
    """
    reader.enter(reader.expect(SEQUENCE, "encryptedContentInfo"))
    content_type = read_object_identifier(reader, "contentType")
    encryption = read_content_encryption(reader.read(reader.expect(SEQUENCE, "contentEncryptionAlgorithm")))
    element = reader.peek()
    if element is None:
        raise UnsupportedError("the encrypted content is not in the message")
    if element.tag not in (
        _IMPLICIT_PRIMITIVE_0,
        context(0),
    ):  # [0] IMPLICIT OCTET STRING, whole or in segments
        raise MalformedError("there is another element in the place of encryptedContent")
    reader.skip(element)
    reader.leave()
    return EncryptedContentInfo(content_type, encryption, Content(reader.stream, element))


def encrypted_content_header(content_type: str, encryption: ContentEncryption, encrypted_size: int) -> bytes:
    """All octets of an EncryptedContentInfo before its encrypted content, DER.

    Args:
        content_type: That of the content inside, dotted.
        encryption: How the content is encrypted.
        encrypted_size: Octets of the encrypted content.
    """
    info = der.object_identifier(content_type) + encode_content_encryption(encryption)
    info += der.header(_IMPLICIT_PRIMITIVE_0, encrypted_size)
    return der.header(SEQUENCE, len(info) + encrypted_size) + info
