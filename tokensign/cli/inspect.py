"""`tokensign inspect`: what is in a message or certificate, layer by layer, without judging it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, BinaryIO, Final

import click
from asn1crypto import cms

from tokensign.certificates import load_certificates
from tokensign.cli.cert import certificate_document
from tokensign.cli.command import PATH, Cli, Command
from tokensign.cli.output import in_words
from tokensign.cms.authenticated import AUTHENTICATED_DATA, read_authenticated_data
from tokensign.cms.compressed import COMPRESSED_DATA, read_compressed_data
from tokensign.cms.content_info import (
    AUTH_ENVELOPED_DATA,
    CONTENT_TYPE_NAMES,
    ENVELOPED_DATA,
    SIGNED_DATA,
    open_content_info,
)
from tokensign.cms.countersignature import countersignatures_of
from tokensign.cms.digested import DIGESTED_DATA, read_digested_data
from tokensign.cms.encrypted import ENCRYPTED_DATA, read_encrypted_data
from tokensign.cms.envelope import read_envelope
from tokensign.cms.layers import walk_layers
from tokensign.cms.recipients import (
    KekRecipientInfo,
    KemRecipientInfo,
    KeyAgreeRecipientInfo,
    KeyTransRecipientInfo,
    PasswordRecipientInfo,
    RecipientInfo,
)
from tokensign.cms.signed_data import read_signed_data
from tokensign.errors import MalformedError, MessageError
from tokensign.files import open_input

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from tokensign.cms.signed_data import SignedData, SignerInfo

__all__ = ["inspect"]

_CERTIFICATE_FILE_LIMIT: Final = 1 << 24  # octets; larger files are not looked at as certificates
_MAX_COUNTERSIGNATURES_SHOWN: Final = 3  # levels; a stranger nests them


@click.command(cls=Command)
@click.argument("source", metavar="FILE", type=PATH)
@click.pass_obj
def inspect(cli: Cli, source: str) -> None:
    """Tell what is in FILE: a CMS or S/MIME message, or certificates. Nothing is verified or decrypted.

    A message inside a message is told, too, as far as it can be seen without a key.

    \b
    Examples:
      tokensign inspect contract.pdf.p7s
      tokensign inspect mail.eml --json
    """
    with open_input(source) as stream, cli.output.progress(stream, f"reading {source}") as watched:
        document = _certificates(watched) or _message(watched)
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
        outermost: dict[str, Any] = {"kind": _name(kind), "form": opened.form}
        innermost = outermost
        try:
            for layer in walk_layers(opened.cms):
                if layer.depth:
                    innermost["inside"] = {"kind": _name(layer.kind)}
                    innermost = innermost["inside"]
                innermost["content_type"] = _name(layer.content_type)
                reader = _READERS.get(layer.kind)
                if reader is not None:
                    innermost |= reader(layer.message)
        except MessageError as error:
            if (
                isinstance(error, MalformedError)
                and innermost is outermost
                and "content_type" not in outermost
            ):
                raise  # it is no message at all
            innermost["problem"] = error.message
        return outermost


def _name(content_type: str) -> str:
    return CONTENT_TYPE_NAMES.get(content_type, content_type)


def _signed(stream: BinaryIO) -> dict[str, Any]:
    message = read_signed_data(stream)
    carried = {
        "certificates": [certificate_document(entry) for entry in message.certificates],
        "revocation_lists": len(message.revocation_choices),
    }
    if message.content is None and not message.signer_infos:
        return {"certificates_only": True} | carried
    return {
        "detached": message.content is None,
        "content_size": message.content.size() if message.content else None,
        "signers": [_signer(message, signer) for signer in message.signer_infos],
        **carried,
    }


def _signer(message: SignedData, signer: SignerInfo, level: int = 0) -> dict[str, Any]:
    from tokensign.cms.attributes import parse_signed_attributes, parse_unsigned_attributes
    from tokensign.cms.signature import read_signature_algorithm
    from tokensign.ess.attributes import ess_of

    certificate = message.certificate_of(signer)
    document: dict[str, Any] = {
        "identifier": str(signer.identifier),
        "subject": certificate.subject if certificate else None,
        "digest_algorithm": signer.digest_algorithm,
        "scheme": None,
        "signing_time": None,
        "signed_attributes": [],
        "unsigned_attributes": [],
    }
    try:
        if signer.unsigned_attributes:
            kinds = [kind for kind, _ in parse_unsigned_attributes(signer.unsigned_attributes)]
            document["unsigned_attributes"] = _attribute_names(kinds)
        countersigners = countersignatures_of(signer)
        if countersigners and level < _MAX_COUNTERSIGNATURES_SHOWN:
            document["countersignatures"] = [_signer(message, one, level + 1) for one in countersigners]
        document["digest_algorithm"] = signer.digest.name
        document["scheme"] = str(read_signature_algorithm(signer.signature_algorithm, signer.digest))
        if signer.signed_attributes:
            attributes = parse_signed_attributes(signer.signed_attributes)
            document["signed_attributes"] = _attribute_names(attributes.types)
            moment = attributes.signing_time
            document["signing_time"] = moment.isoformat() if moment else None
            document |= ess_of(signer).to_json()
    except MessageError as error:
        document["problem"] = error.message
    return document


def _attribute_names(kinds: Iterable[str]) -> list[str]:
    """Ours, or else those of asn1crypto, which knows more."""
    from tokensign.cms.attributes import ATTRIBUTE_NAMES

    return [ATTRIBUTE_NAMES.get(kind) or cms.CMSAttributeType(kind).native for kind in kinds]


def _enveloped(stream: BinaryIO) -> dict[str, Any]:
    envelope = read_envelope(stream)
    return {
        "encrypted_size": envelope.encrypted_content.size(),
        "cipher": envelope.encryption.cipher.name,
        "authenticated": envelope.authenticated,
        "recipients": [_recipient(entry) for entry in envelope.recipients],
    }


def _authenticated(stream: BinaryIO) -> dict[str, Any]:
    message = read_authenticated_data(stream)
    return {
        "content_size": message.content.size(),
        "mac_algorithm": message.mac_algorithm.name,
        "digest_algorithm": message.digest_algorithm.name if message.digest_algorithm else None,
        "recipients": [_recipient(entry) for entry in message.recipients],
    }


def _encrypted(stream: BinaryIO) -> dict[str, Any]:
    encrypted = read_encrypted_data(stream)
    return {"encrypted_size": encrypted.content.size(), "cipher": encrypted.encryption.cipher.name}


def _digested(stream: BinaryIO) -> dict[str, Any]:
    message = read_digested_data(stream)
    return {
        "detached": message.content is None,
        "content_size": message.content.size() if message.content else None,
        "digest_algorithm": message.digest_algorithm.name,
        "digest": message.digest.hex(),
    }


def _compressed(stream: BinaryIO) -> dict[str, Any]:
    return {"compressed_size": read_compressed_data(stream).compressed.size(), "compression": "zlib"}


_READERS: Final[dict[str, Callable[[BinaryIO], dict[str, Any]]]] = {
    SIGNED_DATA: _signed,
    ENVELOPED_DATA: _enveloped,
    AUTH_ENVELOPED_DATA: _enveloped,
    AUTHENTICATED_DATA: _authenticated,
    ENCRYPTED_DATA: _encrypted,
    DIGESTED_DATA: _digested,
    COMPRESSED_DATA: _compressed,
}


_KEY_MANAGEMENT: Final[dict[type[RecipientInfo], str]] = {
    KeyTransRecipientInfo: "key transport",
    KeyAgreeRecipientInfo: "key agreement",
    KekRecipientInfo: "shared key",
    PasswordRecipientInfo: "password",
    KemRecipientInfo: "key encapsulation",
}


def _recipient(recipient: RecipientInfo) -> dict[str, Any]:
    """Who can open it, and how the key reaches them."""
    document: dict[str, Any] = {
        "recipient": str(recipient),
        "key_management": _KEY_MANAGEMENT.get(type(recipient)),
        "algorithm": None,
    }
    try:
        document["algorithm"] = _algorithm(recipient)
    except MessageError as error:
        document["problem"] = error.message
    return document


def _algorithm(recipient: RecipientInfo) -> str | None:
    match recipient:
        case KeyTransRecipientInfo():
            return str(recipient.transport)
        case KeyAgreeRecipientInfo():
            scheme, key_wrap = recipient.algorithms
            return f"{scheme.name}, {key_wrap.name}"
        case KekRecipientInfo():
            return recipient.wrap.name
        case PasswordRecipientInfo():
            return f"{recipient.derivation}, {recipient.encryption.cipher.name}"
        case KemRecipientInfo():
            return f"{recipient.kem.name}, HKDF with {recipient.digest.name}, {recipient.key_wrap.name}"
        case _:
            return None


def _lines(value: dict[str, Any], indent: int = 0) -> Iterator[str]:
    """A document as a tree for people."""
    margin = "  " * indent
    for name, entry in value.items():
        label = f"{margin}{name.replace('_', ' ')}:"
        if isinstance(entry, dict):
            yield label
            yield from _lines(entry, indent + 1)
        elif isinstance(entry, list) and entry and isinstance(entry[0], dict):
            yield label
            for number, item in enumerate(entry, 1):
                yield f"{margin}  {number}."
                yield from _lines(item, indent + 2)
        else:
            yield f"{label} {in_words(entry)}"
