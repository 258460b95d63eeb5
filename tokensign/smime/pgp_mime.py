"""PGP/MIME (RFC 3156): mail for correspondents who have OpenPGP and no S/MIME."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, BinaryIO, Final

from tokensign.errors import MalformedError
from tokensign.files import chunks, spool
from tokensign.openpgp.armor import armor
from tokensign.openpgp.decrypt import decrypt
from tokensign.openpgp.signature import sign_detached
from tokensign.smime.entity_writer import Changes, write_for_relays
from tokensign.smime.header_fields import HeaderFields
from tokensign.smime.mime import octets, read_entity
from tokensign.smime.mime_fields import is_structural

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from tokensign.openpgp.message import Literal
    from tokensign.openpgp.session_key import RecipientKey
    from tokensign.openpgp.signature import SigningKey

__all__ = ["open_pgp_mime_encrypted", "write_pgp_mime_signed"]

_ENCRYPTED_PROTOCOL: Final = "application/pgp-encrypted"


def write_pgp_mime_signed(
    message: BinaryIO, key: SigningKey, output: BinaryIO, *, moment: datetime | None = None
) -> None:
    """Sign a mail with OpenPGP, as multipart/signed (RFC 3156 section 5).

    What is signed is the body with its MIME fields, in a form that relays leave alone. The header fields of
    the mail stay outside: From, To and Subject are not signed.

    Args:
        message: The mail, which can seek, from its current position.
        key: Who signs.
        output: Receives the signed mail.
        moment: When it is signed; None for now.

    Raises:
        MalformedError: The mail has more parts or header fields than the limits allow.
        UsageError, SigningError, TokenError: As for `tokensign.openpgp.signature.sign_detached`.
    """
    entity = read_entity(message, message.tell())
    outside = entity.fields.without(is_structural)
    signed = HeaderFields(
        tuple(field for field in entity.fields if field.name.lower().startswith("content-"))
    )
    boundary = f"tokensign-{secrets.token_hex(16)}"
    with spool() as content:
        write_for_relays(message, entity, content, Changes(fields={entity.start: signed}))
        content.seek(0)
        signature = armor("SIGNATURE", sign_detached(chunks(content), key, moment=moment))
        content.seek(0)
        output.write(
            outside.raw() + b"MIME-Version: 1.0\r\n"
            b'Content-Type: multipart/signed; protocol="application/pgp-signature";\r\n'
            + f' micalg="pgp-{key.scheme.digest.name}"; boundary="{boundary}"\r\n\r\n'.encode("ascii")
            + f"This is an OpenPGP/MIME signed message (RFC 3156).\r\n\r\n--{boundary}\r\n".encode("ascii")
        )
        output.writelines(chunks(content))
    output.write(
        f"\r\n--{boundary}\r\n".encode("ascii")
        + b'Content-Type: application/pgp-signature; name="signature.asc"\r\n'
        b"Content-Description: OpenPGP digital signature\r\n"
        b'Content-Disposition: attachment; filename="signature.asc"\r\n\r\n'
        + signature.replace(b"\n", b"\r\n")
        + f"\r\n--{boundary}--\r\n".encode("ascii")
    )


def open_pgp_mime_encrypted(message: BinaryIO, keys: Sequence[RecipientKey], output: BinaryIO) -> Literal:
    """Decrypt a mail of type multipart/encrypted (RFC 3156 section 4).

    What comes out is a mail: the decrypted entity with its header fields, and before them those from outside,
    unless the entity has a field of that name itself. Those from outside are not protected by anything.

    Args:
        message: The mail, which can seek, from its current position.
        keys: The keys that may open it.
        output: Receives the mail.

    Raises:
        MalformedError: It is no such mail, or is broken.
        NoRecipientError, DecryptionError, UnsupportedError, TokenError: As for
            `tokensign.openpgp.decrypt.decrypt`.
    """
    entity = read_entity(message, message.tell())
    kinds = [child.content_type for child in entity.children]
    if entity.content_type != "multipart/encrypted" or kinds != [
        _ENCRYPTED_PROTOCOL,
        "application/octet-stream",
    ]:
        raise MalformedError(
            "this is not a mail that is encrypted with OpenPGP/MIME",
            hint="without --mail, an OpenPGP message itself is decrypted",
        )
    with spool() as inside:
        with entity.children[1].decoded(message) as encrypted:
            found = decrypt(encrypted, keys, inside)
        size = inside.tell()
        protected = read_entity(inside, 0, size)
        names = {field.name.lower() for field in protected.fields}
        outside = entity.fields.without(lambda field: is_structural(field) or field.name.lower() in names)
        output.write(outside.raw() + b"MIME-Version: 1.0\r\n")
        output.write(protected.fields.without(lambda field: field.name.lower() == "mime-version").raw())
        output.write(b"\r\n")
        output.writelines(octets(inside, protected.body_start, size))
    return found
