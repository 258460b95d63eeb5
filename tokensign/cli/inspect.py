"""`tokensign inspect`: what is in a message or certificate, without judging it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, BinaryIO

import click

from tokensign.certificates import load_certificates
from tokensign.cli.cert import certificate_document
from tokensign.cli.command import PATH, Cli, Command
from tokensign.cli.output import in_words
from tokensign.cms.content_info import (
    AUTH_ENVELOPED_DATA,
    CONTENT_TYPE_NAMES,
    ENVELOPED_DATA,
    SIGNED_DATA,
    open_content_info,
)
from tokensign.errors import MalformedError, MessageError, UnsupportedError
from tokensign.files import open_input

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tokensign.cms.signed_data import SignedData, SignerInfo

__all__ = ["inspect"]

_CERTIFICATE_FILE_LIMIT = 1 << 24  # octets; larger files are not looked at as certificates


@click.command(cls=Command)
@click.argument("source", metavar="FILE", type=PATH)
@click.pass_obj
def inspect(cli: Cli, source: str) -> None:
    """Tell what is in FILE: a CMS or S/MIME message, or certificates. Nothing is verified or decrypted.

    \b
    Examples:
      tokensign inspect contract.pdf.p7s
      tokensign inspect mail.eml --json
    """
    with open_input(source) as stream:
        document = _certificates(stream) or _message(stream)
    cli.output.document(document)
    for line in _lines(document):
        cli.output.text(line)


def _certificates(stream: BinaryIO) -> dict[str, Any] | None:
    """The document of a file of certificates, or None where it is something else."""
    start = stream.tell()
    data = stream.read(_CERTIFICATE_FILE_LIMIT)
    stream.seek(start)
    try:
        found = load_certificates(data)
    except MalformedError:
        return None
    return {"kind": "certificates", "certificates": [certificate_document(entry) for entry in found]}


def _message(stream: BinaryIO) -> dict[str, Any]:
    from tokensign.smime.unwrap import open_message

    with open_message(stream) as opened:
        start = opened.cms.tell()
        kind, _ = open_content_info(opened.cms)
        opened.cms.seek(start)
        document: dict[str, Any] = {"kind": CONTENT_TYPE_NAMES.get(kind, kind), "form": opened.form}
        try:
            if kind == SIGNED_DATA:
                document |= _signed(opened.cms)
            elif kind in (ENVELOPED_DATA, AUTH_ENVELOPED_DATA):
                document |= _enveloped(opened.cms)
        except UnsupportedError as error:
            document["problem"] = error.message
        return document


def _signed(stream: BinaryIO) -> dict[str, Any]:
    from tokensign.cms.signed_data import read_signed_data

    message = read_signed_data(stream)
    return {
        "content_type": CONTENT_TYPE_NAMES.get(message.content_type, message.content_type),
        "detached": message.content is None,
        "content_size": sum(map(len, message.content.chunks())) if message.content else None,
        "signers": [_signer(message, signer) for signer in message.signer_infos],
        "certificates": [certificate_document(entry) for entry in message.certificates],
        "revocation_lists": len(message.revocation_choices),
    }


def _signer(message: SignedData, signer: SignerInfo) -> dict[str, Any]:
    from tokensign.cms.attributes import ATTRIBUTE_NAMES, parse_signed_attributes
    from tokensign.cms.signature import read_signature_algorithm

    certificate = message.certificate_of(signer)
    document: dict[str, Any] = {
        "identifier": str(signer.identifier),
        "subject": certificate.subject if certificate else None,
        "digest_algorithm": signer.digest_algorithm,
        "scheme": None,
        "signing_time": None,
        "signed_attributes": [],
    }
    try:
        document["digest_algorithm"] = signer.digest.name
        document["scheme"] = str(read_signature_algorithm(signer.signature_algorithm, signer.digest))
        if signer.signed_attributes:
            attributes = parse_signed_attributes(signer.signed_attributes)
            document["signed_attributes"] = [ATTRIBUTE_NAMES.get(kind, kind) for kind in attributes.types]
            moment = attributes.signing_time
            document["signing_time"] = moment.isoformat() if moment else None
    except MessageError as error:
        document["problem"] = error.message
    return document


def _enveloped(stream: BinaryIO) -> dict[str, Any]:
    from tokensign.cms.envelope import read_envelope
    from tokensign.cms.recipients import KeyTransRecipientInfo

    envelope = read_envelope(stream)
    recipients = []
    for recipient in envelope.recipients:
        entry: dict[str, Any] = {"recipient": str(recipient), "key_transport": None}
        if isinstance(recipient, KeyTransRecipientInfo):
            try:
                entry["key_transport"] = str(recipient.transport)
            except MessageError as error:
                entry["problem"] = error.message
        recipients.append(entry)
    return {
        "content_type": CONTENT_TYPE_NAMES.get(envelope.content_type, envelope.content_type),
        "cipher": envelope.encryption.cipher.name,
        "authenticated": envelope.authenticated,
        "recipients": recipients,
    }


def _lines(value: Any, indent: int = 0) -> Iterator[str]:  # noqa: ANN401 - a JSON document
    """A document as an outline for people."""
    margin = "  " * indent
    for name, entry in value.items():
        label = f"{margin}{name.replace('_', ' ')}:"
        if isinstance(entry, list) and entry and isinstance(entry[0], dict):
            yield label
            for number, item in enumerate(entry, 1):
                yield f"{margin}  {number}."
                yield from _lines(item, indent + 2)
        else:
            yield f"{label} {in_words(entry)}"
