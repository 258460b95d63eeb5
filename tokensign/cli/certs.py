"""`tokensign certs`: certificates into a certificates-only message, and out of one."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import click
from asn1crypto import crl as asn1_crl
from asn1crypto import pem

from tokensign.certificates import load_certificates
from tokensign.cli.cert import certificate_document
from tokensign.cli.command import PATH, Cli, Command
from tokensign.cli.forms import FORMS, written_as
from tokensign.cli.output import named
from tokensign.errors import MalformedError, MessageError
from tokensign.files import STANDARD_STREAM, open_output, read_small

if TYPE_CHECKING:
    from tokensign.certificates import Certificate
    from tokensign.cms.signed_data import SignedData

__all__ = ["certs"]


@click.command(cls=Command)
@click.argument("files", metavar="FILE...", type=PATH, nargs=-1, required=True)
@click.option(
    "--crl", metavar="FILE", type=PATH, multiple=True, help="Certificate revocation lists to put in."
)
@click.option("--form", type=FORMS, default="der", show_default=True, help="Of the message.")
@click.option("-o", "--output", metavar="OUT", type=PATH, required=True, help="Where the result goes.")
@click.option("--force", is_flag=True, help="Replace OUT if it exists.")
@click.pass_obj
def certs(
    cli: Cli, files: tuple[str, ...], crl: tuple[str, ...], form: str, output: str, force: bool
) -> None:
    """Put certificates into a certificates-only message (.p7c, .p7b), or take them out of one.

    Where every FILE is such a message, OUT has their certificates and revocation lists as PEM. Where there
    are certificates among them, or --crl is given, OUT is a message that carries all. It is not signed.

    \b
    Examples:
      tokensign certs alice.pem ca.pem -o chain.p7c
      tokensign certs chain.p7c -o chain.pem
    """
    certificates: dict[Certificate, None] = {}
    lists = dict.fromkeys(map(_revocation_list, crl))
    take_out = not crl
    for file in files:
        found = _read(file)
        if isinstance(found, list):
            take_out = False
            certificates |= dict.fromkeys(found)
        else:
            certificates |= dict.fromkeys(found.certificates)
            lists |= dict.fromkeys(found.crls)
    if take_out:
        result = "".join(certificate.pem() for certificate in certificates).encode("ascii")
        result += b"".join(pem.armor("X509 CRL", encoded) for encoded in lists)
    else:
        result = _message(certificates, lists, form)
    with open_output(output, force=force) as destination:
        destination.write(result)
    what = "taken out" if take_out else "in a certificates-only message"
    subjects = "; ".join(certificate.subject for certificate in certificates) or "none"
    cli.output.status(f"{named(output)}: {what}: {subjects}")
    cli.output.document(
        {
            "output": output,
            "form": "pem" if take_out else form,
            "message": not take_out,
            "certificates": [certificate_document(certificate) for certificate in certificates],
            "revocation_lists": len(lists),
        },
        on_stderr=output == STANDARD_STREAM,
    )


def _read(file: str) -> list[Certificate] | SignedData:
    """What a file is: certificates, or a message that carries some."""
    from tokensign.cms.certificates_only import read_certificates_only
    from tokensign.smime.unwrap import open_message

    data = read_small(file)
    try:
        return load_certificates(data)
    except MalformedError:
        pass
    try:
        with open_message(io.BytesIO(data)) as opened:
            return read_certificates_only(opened.cms)
    except MessageError as error:
        raise type(error)(f"{file}: {error.message}", hint=error.hint) from error


def _revocation_list(file: str) -> bytes:
    data = read_small(file)
    try:
        encoded = bytes(pem.unarmor(data)[2]) if pem.detect(data) else data
        _ = asn1_crl.CertificateList.load(encoded, strict=True).issuer.chosen
    except (ValueError, TypeError) as error:
        raise MalformedError(f"{file}: the certificate revocation list cannot be read") from error
    return encoded


def _message(certificates: dict[Certificate, None], lists: dict[bytes, None], form: str) -> bytes:
    from tokensign.cms.certificates_only import write_certificates_only
    from tokensign.smime.compose import write_pkcs7_mime

    encoded = write_certificates_only(certificates, lists)
    destination = io.BytesIO()
    if form == "smime":
        write_pkcs7_mime(io.BytesIO(encoded), "certs-only", destination)
    else:
        with written_as(form, destination) as message:
            message.write(encoded)
    return destination.getvalue()
