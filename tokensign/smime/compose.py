"""Writing S/MIME: multipart/signed and application/pkcs7-mime (RFC 8551 sections 3.2 to 3.5)."""

from __future__ import annotations

import base64
import re
import secrets
from email.message import Message
from typing import TYPE_CHECKING, BinaryIO, Final

from tokensign.cms.pem import encode_base64
from tokensign.files import spool
from tokensign.smime.canonical import write_canonical

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tokensign.algorithms import Digest

__all__ = ["as_entity", "split_message", "write_multipart_signed", "write_pkcs7_mime"]

_MICALG: Final = {  # RFC 8551 section 3.5.3.2
    "sha1": "sha-1",
    "sha224": "sha-224",
    "sha256": "sha-256",
    "sha384": "sha-384",
    "sha512": "sha-512",
}
_FILE_NAMES: Final = {  # RFC 8551 section 3.2.1
    "signed-data": "smime.p7m",
    "signed-receipt": "smime.p7m",  # RFC 2634 section 2.4
    "enveloped-data": "smime.p7m",
    "authEnveloped-data": "smime.p7m",
    "compressed-data": "smime.p7z",
    "certs-only": "smime.p7c",
}
_CONTENT_FIELD: Final = re.compile(rb"^content-", re.IGNORECASE)
_BLANK_LINE: Final = re.compile(rb"(?:\A|\r\n)\r\n")
_FIELD_END: Final = re.compile(rb"\r\n(?![ \t])")  # a line end that no folding follows
_MIME_START: Final = re.compile(rb"\A(content-[a-z-]+|mime-version):", re.IGNORECASE)


def as_entity(content: BinaryIO, name: str | None = None) -> BinaryIO:
    """Any content as a MIME entity in canonical form, in a private temporary stream.

    What begins with MIME header fields is taken for an entity already; everything else becomes an
    application/octet-stream in base64, which no relay changes.

    Args:
        content: The content, from its current position.
        name: The file name that the entity shall carry.
    """
    entity = spool()
    start = content.tell()
    head = content.read(64)
    content.seek(start)
    if _MIME_START.match(head):
        write_canonical(content, entity)
    else:
        header = Message()
        header["Content-Type"] = "application/octet-stream"
        header["Content-Transfer-Encoding"] = "base64"
        if name:
            header.add_header("Content-Disposition", "attachment", filename=name)
        entity.write(_encoded(header))
        encode_base64(content, entity, line_end=b"\r\n")
    entity.seek(0)
    return entity


def split_message(message: bytes) -> tuple[bytes, bytes]:
    """A mail as the header fields that stay outside and the entity that is signed or encrypted.

    Args:
        message: The whole mail (RFC 5322).

    Returns:
        All header fields but those of MIME, and the entity: the MIME fields and the body. Both in
        canonical form; no field is changed or folded anew.
    """
    canonical = message.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    header, *rest = _BLANK_LINE.split(canonical, maxsplit=1)
    body = rest[0] if rest else b""
    fields = [field for field in _FIELD_END.split(header) if field]
    inner = [field for field in fields if _CONTENT_FIELD.match(field)]
    outer = [
        field for field in fields if field not in inner and not field.lower().startswith(b"mime-version:")
    ]
    entity = b"".join(field + b"\r\n" for field in inner) + b"\r\n" + body
    return b"".join(field + b"\r\n" for field in outer), entity


def write_multipart_signed(
    entity: BinaryIO, signature: bytes, digests: Iterable[Digest], output: BinaryIO, fields: bytes = b""
) -> None:
    """Write a clear-signed mail.

    Args:
        entity: What was signed, in canonical form, from its current position.
        signature: The detached signature, DER.
        digests: The digests of its signers, for micalg.
        output: Receives the mail.
        fields: Header fields that stand first, each with its line end.
    """
    boundary = f"tokensign-{secrets.token_hex(16)}"
    micalg = ",".join(sorted({_MICALG.get(digest.name, digest.name.replace("_", "-")) for digest in digests}))
    output.write(fields)
    output.write(
        b"MIME-Version: 1.0\r\n"
        b'Content-Type: multipart/signed; protocol="application/pkcs7-signature";\r\n'
        + f' micalg="{micalg}"; boundary="{boundary}"\r\n\r\n'.encode("ascii")
        + f"--{boundary}\r\n".encode("ascii")
    )
    write_canonical(entity, output)
    output.write(
        f"\r\n--{boundary}\r\n".encode("ascii")
        + b'Content-Type: application/pkcs7-signature; name="smime.p7s"\r\n'
        b"Content-Transfer-Encoding: base64\r\n"
        b'Content-Disposition: attachment; filename="smime.p7s"\r\n\r\n'
    )
    text = base64.b64encode(signature)
    output.write(b"".join(text[start : start + 64] + b"\r\n" for start in range(0, len(text), 64)))
    output.write(f"\r\n--{boundary}--\r\n".encode("ascii"))


def write_pkcs7_mime(
    message: BinaryIO, smime_type: str | None, output: BinaryIO, fields: bytes = b""
) -> None:
    """Write a CMS message as an application/pkcs7-mime entity.

    Args:
        message: The message in DER, from its current position.
        smime_type: "signed-data", "signed-receipt", "enveloped-data", "authEnveloped-data", "compressed-data"
            or "certs-only"; None for a content type to which S/MIME gives no name.
        output: Receives the entity.
        fields: Header fields that stand first, each with its line end.
    """
    name = _FILE_NAMES[smime_type] if smime_type else "smime.p7m"
    parameter = f" smime-type={smime_type};" if smime_type else ""
    output.write(fields)
    output.write(
        "MIME-Version: 1.0\r\n"
        f'Content-Type: application/pkcs7-mime;{parameter} name="{name}"\r\n'
        "Content-Transfer-Encoding: base64\r\n"
        f'Content-Disposition: attachment; filename="{name}"\r\n\r\n'.encode("ascii")
    )
    encode_base64(message, output, line_end=b"\r\n")


def _encoded(header: Message) -> bytes:
    return header.as_bytes().replace(b"\n", b"\r\n")
