"""EnvelopedData and AuthEnvelopedData as both sides have them (RFC 5652 section 6.1, RFC 5083)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from asn1crypto import core

from tokensign import der
from tokensign.cms.ber import OCTET_STRING, SET, BerReader, context
from tokensign.cms.content_info import (
    AUTH_ENVELOPED_DATA,
    ENVELOPED_DATA,
    Content,
    enter_content,
    parsing,
    read_integer,
)
from tokensign.cms.encrypted_content import read_encrypted_content_info
from tokensign.cms.recipients import MAX_RECIPIENTS, RecipientInfo, load_recipient_infos
from tokensign.errors import MalformedError, UnsupportedError

if TYPE_CHECKING:
    from tokensign.cms.content_cipher import ContentEncryption

__all__ = ["Envelope", "read_envelope", "read_recipient_infos", "skip_optional"]


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


def read_envelope(stream: BinaryIO) -> Envelope:
    """Read an encrypted message for its structure; the encrypted content is passed over.

    Nothing that is read here depends on a key, so an error here tells an attacker nothing.

    Args:
        stream: The message in DER or BER from its current position; it must be able to seek.

    Raises:
        MalformedError: The structure is broken or exceeds a limit.
        UnsupportedError: It is another kind of message, or a cipher that is not known here.
    """
    content_type, reader = enter_content(stream, "EnvelopedData", ENVELOPED_DATA, AUTH_ENVELOPED_DATA)
    authenticated = content_type == AUTH_ENVELOPED_DATA
    read_integer(reader, "version")
    skip_optional(reader, 0)  # originatorInfo
    recipients = read_recipient_infos(reader)
    encrypted = read_encrypted_content_info(reader)
    encryption = encrypted.encryption
    if encryption.cipher.authenticated != authenticated:
        kind = "AuthEnvelopedData" if authenticated else "EnvelopedData"
        raise UnsupportedError(f"{encryption.cipher.name} does not belong into {kind}")

    attributes: bytes | None = None
    mac = b""
    if authenticated:
        attributes = _read_auth_attributes(reader)
        mac_element = reader.expect(OCTET_STRING, "mac")
        with parsing("mac"):
            mac = core.OctetString.load(reader.read(mac_element), strict=True).native
        if len(mac) != encryption.tag_size:
            raise MalformedError(f"the tag has {len(mac)} bytes and should have {encryption.tag_size}")
        skip_optional(reader, 2)  # unauthAttrs
    else:
        skip_optional(reader, 1)  # unprotectedAttrs
    for _ in range(3):  # EnvelopedData, the explicit tag, ContentInfo
        reader.leave()
    return Envelope(
        authenticated, recipients, encrypted.content_type, encryption, encrypted.content, attributes, mac
    )


def read_recipient_infos(reader: BerReader) -> tuple[RecipientInfo, ...]:
    """The RecipientInfos at the cursor.

    Raises:
        MalformedError: They are broken, or more than MAX_RECIPIENTS.
    """
    reader.enter(reader.expect(SET, "recipientInfos"))
    found: list[RecipientInfo] = []
    while (element := reader.peek()) is not None:
        if len(found) >= MAX_RECIPIENTS:
            raise MalformedError(f"the message has more than {MAX_RECIPIENTS} recipients")
        found += load_recipient_infos(reader.read(element))
    reader.leave()
    return tuple(found)


def _read_auth_attributes(reader: BerReader) -> bytes | None:
    """The authAttrs as DER with the tag SET OF, which is what the tag covers (RFC 5083 section 2.2)."""
    element = reader.peek()
    if element is None or element.tag != context(1):
        return None
    encoded = reader.read(element)
    return der.set_of(*der.elements(encoded))


def skip_optional(reader: BerReader, number: int) -> None:
    """Pass over the element with the context-specific tag `number`, if it is there."""
    element = reader.peek()
    if element is not None and element.tag == context(number):
        reader.skip(element)
