"""AuthenticatedData: content that whoever shares its key can tell to be unchanged (RFC 5652 section 9).

The key reaches the recipients as that of EnvelopedData does. Nobody learns who sent the message, because
every recipient could have made it, and the content can be read by everybody.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Final

from cryptography.hazmat.primitives import constant_time, hmac

from tokensign import der
from tokensign.algorithms import (
    DIGESTS,
    MACS,
    Digest,
    Mac,
    Strength,
    digest_by_oid,
    mac_algorithm,
    require_strength,
)
from tokensign.certificates import Certificate
from tokensign.cms.attributes import CONTENT_TYPE, MESSAGE_DIGEST, parse_signed_attributes
from tokensign.cms.ber import OCTET_STRING, SEQUENCE, SET, context
from tokensign.cms.content_info import (
    DATA,
    Content,
    content_info_header,
    enter_content,
    read_integer,
)
from tokensign.cms.content_key import find_content_key
from tokensign.cms.encapsulated import encapsulated_header, read_attached, remaining_size
from tokensign.cms.envelope import read_recipient_infos, skip_optional
from tokensign.cms.recipients import encode_recipient_info
from tokensign.cms.signed_data import algorithm_of
from tokensign.errors import DecryptionError, FileError, MalformedError, UnsupportedError, UsageError
from tokensign.files import chunks
from tokensign.keys import OaepTransport

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tokensign.cms.attributes import SignedAttributes
    from tokensign.cms.ber import BerReader
    from tokensign.cms.encrypt import Recipient
    from tokensign.cms.recipients import RecipientInfo
    from tokensign.keys import DecryptionKey, KeyTransport

__all__ = [
    "AUTHENTICATED_DATA",
    "AuthenticatedData",
    "AuthenticationResult",
    "authenticate",
    "read_authenticated_data",
    "verify_authenticated_data",
]

AUTHENTICATED_DATA: Final = "1.2.840.113549.1.9.16.1.2"
_CANNOT_AUTHENTICATE: Final = "the message cannot be authenticated"  # the one text for every cause
_KEY_SIZES: Final = range(16, 129)  # octets; shorter is guessed, longer HMAC would hash first (RFC 2104)
_MAX_ATTRIBUTES_SIZE: Final = 1 << 16  # octets of what an attacker could pass off as content; see below


@dataclass(frozen=True, slots=True)
class AuthenticatedData:
    """An authenticated message whose content is still where it was.

    Attributes:
        recipients: Who can check it.
        mac_algorithm: Makes the message authentication code.
        digest_algorithm: Hashes the content for messageDigest; None without attributes.
        content_type: That of the content, dotted.
        content: Where the content lies.
        attributes: authAttrs as the SET OF that is authenticated, or None.
        mac: The message authentication code.
    """

    recipients: tuple[RecipientInfo, ...]
    mac_algorithm: Mac
    digest_algorithm: Digest | None
    content_type: str
    content: Content
    attributes: bytes | None
    mac: bytes


@dataclass(frozen=True, slots=True)
class AuthenticationResult:
    """What is known about authenticated content.

    Attributes:
        content_type: What it is, dotted.
        mac_algorithm: How it was authenticated.
    """

    content_type: str
    mac_algorithm: Mac


def authenticate(
    content: BinaryIO,
    recipients: Sequence[Recipient],
    output: BinaryIO,
    *,
    mac: Mac = MACS["hmac-sha256"],
    digest: Digest = DIGESTS["sha256"],
    transport: KeyTransport | None = None,
    content_type: str = DATA,
) -> None:
    """Authenticate content for recipients of any mixture, under a fresh key.

    Args:
        content: From its current position to its end; it must be able to seek.
        recipients: As for `tokensign.cms.encrypt.encrypt`.
        output: Receives AuthenticatedData, DER.
        mac: Makes the message authentication code.
        digest: Hashes the content.
        transport: Encrypts the key to RSA certificates; OAEP with SHA-256 unless told.
        content_type: What the content is, dotted; id-data unless told.

    Raises:
        UsageError: No recipient.
        UnsupportedError: An algorithm is too weak to be written, or a recipient cannot be reached.
        FileError: The content changed meanwhile.
    """
    if not recipients:
        raise UsageError("a message needs at least one recipient")
    if not mac.writable or digest.strength is not Strength.STRONG:
        raise UnsupportedError("SHA-1 and MD5 are not written", hint="use hmac-sha256 and sha256")
    key = os.urandom(mac.digest.size)  # RFC 2104 section 3: as long as the hash
    size = remaining_size(content)
    before = der.integer(0) + der.set_of(*_recipient_infos(recipients, key, transport or OaepTransport()))
    before += der.sequence(der.object_identifier(mac.oid), der.NULL)
    before += der.tlv(context(1), der.content(digest.algorithm_identifier))
    before += encapsulated_header(content_type, size)
    placeholder = _attributes(content_type, bytes(digest.size))
    total = len(before) + size + len(placeholder) + len(der.octet_string(bytes(mac.digest.size)))
    opening = der.header(SEQUENCE, total)
    output.write(content_info_header(AUTHENTICATED_DATA, len(opening) + total) + opening + before)
    state, taken = digest.new(), 0
    for piece in chunks(content):
        state.update(piece)
        taken += len(piece)
        output.write(piece)
    if taken != size:
        raise FileError("the content changed while it was being authenticated")
    attributes = _attributes(content_type, state.digest())
    code = hmac.HMAC(key, mac.digest.primitive())
    code.update(attributes)
    output.write(bytes((context(2),)) + attributes[1:] + der.octet_string(code.finalize()))


def read_authenticated_data(stream: BinaryIO) -> AuthenticatedData:
    """Read an AuthenticatedData message for its structure; the content is passed over.

    Args:
        stream: The message in DER or BER from its current position; it must be able to seek.

    Raises:
        MalformedError: The structure is broken or exceeds a limit.
        UnsupportedError: It is another kind of message, or an algorithm is not known here.
    """
    _, reader = enter_content(stream, "AuthenticatedData", AUTHENTICATED_DATA)
    read_integer(reader, "version")
    skip_optional(reader, 0)  # originatorInfo
    recipients = read_recipient_infos(reader)
    mac = mac_algorithm(algorithm_of(reader.read(reader.expect(SEQUENCE, "macAlgorithm"))))
    digest_identifier = _read_optional(reader, 1)
    digest = digest_by_oid(algorithm_of(digest_identifier)) if digest_identifier else None
    content_type, content = read_attached(reader)
    attributes = _read_optional(reader, 2)
    if attributes:
        attributes = der.set_of(*der.elements(attributes))  # RFC 5652 section 9.2: DER, with the tag SET OF
    value = b"".join(reader.octets(reader.expect(OCTET_STRING, "mac")))
    skip_optional(reader, 3)  # unauthAttrs
    for _ in range(3):  # AuthenticatedData, the explicit tag, ContentInfo
        reader.leave()
    if len(value) != mac.digest.size:
        raise MalformedError(f"the code has {len(value)} bytes and should have {mac.digest.size}")
    return AuthenticatedData(recipients, mac, digest, content_type, content, attributes, value)


def verify_authenticated_data(
    message: BinaryIO,
    keys: Sequence[DecryptionKey],
    output: BinaryIO | None = None,
    *,
    legacy: bool = False,
) -> AuthenticationResult:
    """Check that the content of a message is unchanged since somebody who had its key made it.

    Args:
        message: AuthenticatedData in DER or BER; it must be able to seek.
        keys: The keys and passwords that may open it.
        output: Receives the content, once it was checked; None where nobody wants it.
        legacy: Whether old algorithms are accepted.

    Raises:
        NoRecipientError: The message is for other keys.
        DecryptionError: It was changed, or is not for this key after all; every cause looks the same.
        MalformedError: Its structure or its attributes are broken.
        UnsupportedError: It uses something that is not done here.
        TokenError: The token failed.
    """
    data = read_authenticated_data(message)
    attributes = _checked_attributes(data, legacy=legacy)
    mac = data.mac_algorithm
    key, genuine = find_content_key(data.recipients, keys, mac.digest.size, legacy=legacy, sizes=_KEY_SIZES)
    code = hmac.HMAC(key, mac.digest.primitive())
    if attributes is None or data.attributes is None or data.digest_algorithm is None:
        for piece in data.content.chunks():
            code.update(piece)
    else:
        state = data.digest_algorithm.new()
        for piece in data.content.chunks():
            state.update(piece)
        genuine &= attributes.check_message_digest(state.digest())
        code.update(data.attributes)
    genuine &= constant_time.bytes_eq(code.finalize(), data.mac)
    if not genuine:
        raise DecryptionError(
            _CANNOT_AUTHENTICATE, hint="it was changed on its way, or it was not made for this key"
        )
    if output is not None:
        output.writelines(data.content.chunks())
    return AuthenticationResult(data.content_type, mac)


def _recipient_infos(recipients: Sequence[Recipient], key: bytes, transport: KeyTransport) -> list[bytes]:
    return [
        encode_recipient_info(one, key, transport) if isinstance(one, Certificate) else one.encode(key)
        for one in dict.fromkeys(recipients)
    ]


def _attributes(content_type: str, digest: bytes) -> bytes:
    """AuthAttributes with what RFC 5652 section 9.2 asks for, as the SET OF that is authenticated."""
    values = {CONTENT_TYPE: der.object_identifier(content_type), MESSAGE_DIGEST: der.octet_string(digest)}
    return der.set_of(
        *(der.sequence(der.object_identifier(kind), der.set_of(value)) for kind, value in values.items())
    )


def _read_optional(reader: BerReader, number: int) -> bytes | None:
    element = reader.peek()
    return reader.read(element) if element is not None and element.tag == context(number) else None


def _checked_attributes(data: AuthenticatedData, *, legacy: bool) -> SignedAttributes | None:
    """The authAttrs, after what can be told without the key (RFC 5652 section 9.2)."""
    if data.attributes is None:
        if data.content_type != DATA:
            raise MalformedError("content other than id-data needs authenticated attributes")
        _refuse_attributes_as_content(data.content)
        return None
    if data.digest_algorithm is None:
        raise MalformedError("there are authenticated attributes without a digestAlgorithm")
    require_strength(data.digest_algorithm.name.upper(), data.digest_algorithm.strength, legacy=legacy)
    attributes = parse_signed_attributes(data.attributes)
    attributes.check_content_type(data.content_type)
    attributes.check_message_digest(b"")  # that it is there, once
    return attributes


def _refuse_attributes_as_content(content: Content) -> None:
    """Refuse content that is the authAttrs of another message.

    The code over attributes is one over content, too: without this, whoever saw a message with attributes
    could pass them off as the content of a message without, which RFC 5652 does not prevent.
    """
    if content.size() > _MAX_ATTRIBUTES_SIZE:
        return
    octets = b"".join(content.chunks())
    if octets[:1] != bytes((SET,)):
        return
    try:
        found = parse_signed_attributes(octets).types
    except MalformedError:
        return
    if CONTENT_TYPE in found and MESSAGE_DIGEST in found:
        raise MalformedError("the content is the authenticated attributes of another message")
