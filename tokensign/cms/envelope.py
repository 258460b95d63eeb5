"""EnvelopedData and AuthEnvelopedData as both sides have them (RFC 5652 section 6.1, RFC 5083)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import BinaryIO

from asn1crypto import core

from tokensign import der
from tokensign.algorithms import ContentCipher, content_cipher
from tokensign.cms.ber import OCTET_STRING, SEQUENCE, SET, BerReader, Element, context
from tokensign.cms.content_info import (
    AUTH_ENVELOPED_DATA,
    CONTENT_TYPE_NAMES,
    ENVELOPED_DATA,
    Content,
    open_content_info,
    parsing,
    read_integer,
    read_object_identifier,
)
from tokensign.cms.recipients import MAX_RECIPIENTS, RecipientInfo, load_recipient_info
from tokensign.cms.signed_data import algorithm_of
from tokensign.errors import MalformedError, UnsupportedError

__all__ = ["GCM_TAG_SIZES", "ContentEncryption", "Envelope", "encode_content_encryption", "read_envelope"]

GCM_TAG_SIZES = range(12, 17)  # octets (RFC 5084 section 3.2)
_GCM_DEFAULT_TAG_SIZE = 12
_IMPLICIT_PRIMITIVE_0 = 0x80


@dataclass(frozen=True, slots=True)
class ContentEncryption:
    """A contentEncryptionAlgorithm with its parameters.

    Attributes:
        cipher: The algorithm.
        iv: Initialisation vector (cbc) or nonce (gcm).
        tag_size: Octets of the authentication tag; 0 for cbc.
    """

    cipher: ContentCipher
    iv: bytes
    tag_size: int = 0


@dataclass(frozen=True, slots=True)
class Envelope:
    """An encrypted message whose encrypted content is still where it was.

    Attributes:
        authenticated: AuthEnvelopedData, as opposed to EnvelopedData.
        recipients: Who can decrypt it.
        content_type: That of the content inside, dotted.
        encryption: How the content is encrypted.
        encrypted_content: Where it lies.
        authenticated_attributes: authAttrs as the SET OF that is authenticated, or None.
        mac: The authentication tag; empty for EnvelopedData.
    """

    authenticated: bool
    recipients: tuple[RecipientInfo, ...]
    content_type: str
    encryption: ContentEncryption
    encrypted_content: Content
    authenticated_attributes: bytes | None = None
    mac: bytes = b""


def encode_content_encryption(encryption: ContentEncryption) -> bytes:
    """ContentEncryptionAlgorithmIdentifier, DER."""
    if encryption.cipher.mode == "cbc":
        parameters = der.octet_string(encryption.iv)
    else:
        parameters = der.sequence(der.octet_string(encryption.iv), der.integer(encryption.tag_size))
    return der.sequence(der.object_identifier(encryption.cipher.oid), parameters)


def read_envelope(stream: BinaryIO) -> Envelope:
    """Read an encrypted message for its structure; the encrypted content is passed over.

    Nothing that is read here depends on a key, so an error here tells an attacker nothing.

    Args:
        stream: The message in DER or BER from its current position; it must be able to seek.

    Raises:
        MalformedError: The structure is broken or exceeds a limit.
        UnsupportedError: It is another kind of message, or a cipher that is not known here.
    """
    content_type, reader = open_content_info(stream)
    if content_type not in (ENVELOPED_DATA, AUTH_ENVELOPED_DATA):
        kind = CONTENT_TYPE_NAMES.get(content_type, content_type)
        hint = "use `tokensign verify`" if "signed" in kind else "see `tokensign inspect`"
        raise UnsupportedError(f"this message is {kind}, not enveloped-data", hint=hint)
    authenticated = content_type == AUTH_ENVELOPED_DATA
    reader.enter(reader.expect(SEQUENCE, "EnvelopedData"))
    read_integer(reader, "version")
    _skip_optional(reader, 0)  # originatorInfo
    recipients = _read_recipients(reader)

    reader.enter(reader.expect(SEQUENCE, "encryptedContentInfo"))
    inner_type = read_object_identifier(reader, "contentType")
    encryption = _read_content_encryption(
        reader.read(reader.expect(SEQUENCE, "contentEncryptionAlgorithm")), authenticated=authenticated
    )
    element = _expect_encrypted_content(reader)
    encrypted_content = Content(reader.stream, element)
    reader.skip(element)
    reader.leave()

    attributes: bytes | None = None
    mac = b""
    if authenticated:
        attributes = _read_auth_attributes(reader)
        mac_element = reader.expect(OCTET_STRING, "mac")
        with parsing("mac"):
            mac = core.OctetString.load(reader.read(mac_element), strict=True).native
        if len(mac) != encryption.tag_size:
            raise MalformedError(f"the tag has {len(mac)} bytes and should have {encryption.tag_size}")
        _skip_optional(reader, 2)  # unauthAttrs
    else:
        _skip_optional(reader, 1)  # unprotectedAttrs
    for _ in range(3):  # EnvelopedData, the explicit tag, ContentInfo
        reader.leave()
    return Envelope(authenticated, recipients, inner_type, encryption, encrypted_content, attributes, mac)


def _read_recipients(reader: BerReader) -> tuple[RecipientInfo, ...]:
    reader.enter(reader.expect(SET, "recipientInfos"))
    found: list[RecipientInfo] = []
    while (element := reader.peek()) is not None:
        if len(found) == MAX_RECIPIENTS:
            raise MalformedError(f"the message has more than {MAX_RECIPIENTS} recipients")
        found.append(load_recipient_info(reader.read(element)))
    reader.leave()
    return tuple(found)


def _expect_encrypted_content(reader: BerReader) -> Element:
    """EncryptedContent, [0] IMPLICIT OCTET STRING, in one piece or in segments."""
    element = reader.peek()
    if element is None:
        raise UnsupportedError("the encrypted content is not in the message")
    if element.tag not in (_IMPLICIT_PRIMITIVE_0, context(0)):
        raise MalformedError("there is another element in the place of encryptedContent")
    return element


def _read_auth_attributes(reader: BerReader) -> bytes | None:
    """The authAttrs as DER with the tag SET OF, which is what the tag covers (RFC 5083 section 2.2)."""
    element = reader.peek()
    if element is None or element.tag != context(1):
        return None
    encoded = reader.read(element)
    return der.set_of(*der.elements(encoded))


def _skip_optional(reader: BerReader, number: int) -> None:
    element = reader.peek()
    if element is not None and element.tag == context(number):
        reader.skip(element)


def _read_content_encryption(encoded: bytes, *, authenticated: bool) -> ContentEncryption:
    cipher = content_cipher(algorithm_of(encoded))
    parameters = b"".join(der.elements(encoded)[1:])
    if cipher.authenticated != authenticated:
        kind = "AuthEnvelopedData" if authenticated else "EnvelopedData"
        raise UnsupportedError(f"{cipher.name} does not belong into {kind}")
    with parsing("content encryption parameters"):
        if cipher.mode == "cbc":
            iv, tag_size = core.OctetString.load(parameters, strict=True).native, 0
        else:
            iv, tag_size = _read_gcm_parameters(parameters)
    return _checked(ContentEncryption(cipher, iv, tag_size))


def _checked(encryption: ContentEncryption) -> ContentEncryption:
    if encryption.cipher.mode == "cbc" and len(encryption.iv) != encryption.cipher.iv_size:
        raise MalformedError(f"the initialisation vector has {len(encryption.iv)} bytes")
    if encryption.cipher.mode == "gcm":
        if not 8 <= len(encryption.iv) <= 128:  # noqa: PLR2004 - the range that cryptography's GCM takes
            raise UnsupportedError(f"a GCM nonce of {len(encryption.iv)} bytes is not supported")
        if encryption.tag_size not in GCM_TAG_SIZES:
            raise MalformedError(f"a GCM tag of {encryption.tag_size} bytes is not allowed (RFC 5084)")
    return encryption


def _read_gcm_parameters(encoded: bytes) -> tuple[bytes, int]:
    """Nonce and tag size of GCMParameters (RFC 5084 section 3.2)."""
    match der.elements(encoded):
        case [nonce]:
            tag_size = _GCM_DEFAULT_TAG_SIZE
        case [nonce, size]:
            tag_size = core.Integer.load(size, strict=True).native
        case _:
            raise MalformedError("the GCM parameters are broken")
    return core.OctetString.load(nonce, strict=True).native, tag_size
