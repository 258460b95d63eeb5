"""`tokensign cert`: request, make, import and export certificates."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from tokensign.cli.command import PATH, Cli, Group
from tokensign.cli.expiry import expiring_option, warn_of_expiry
from tokensign.cli.inputs import find_key, key_name, open_token, read_certificates
from tokensign.cli.output import named
from tokensign.files import STANDARD_STREAM, open_output

if TYPE_CHECKING:
    from tokensign.algorithms import KeyUsage
    from tokensign.certificates import Certificate
    from tokensign.cli.holder import HeldKey
    from tokensign.token import StoredCertificate

__all__ = ["cert", "certificate_document"]


@click.group(cls=Group)
def cert() -> None:
    """Request, make, import and export certificates."""


@cert.command()
@click.argument("name", metavar="KEY")
@click.option("--subject", metavar="DN", required=True, help='Such as "CN=Alice,O=Acme,C=CH".')
@click.option("--email", "emails", metavar="ADDRESS", multiple=True, help="An address of the subject.")
@click.option("-o", "--output", metavar="CSR", type=PATH, default=STANDARD_STREAM, help="[default: stdout]")
@click.option("--force", is_flag=True, help="Replace CSR if it exists.")
@click.pass_obj
def request(cli: Cli, name: str, subject: str, emails: tuple[str, ...], output: str, force: bool) -> None:
    """Make a certification request (PKCS #10) for KEY, signed by KEY.

    \b
    Example:
      tokensign cert request alice --subject "CN=Alice,O=Acme" --email alice@acme.example -o alice.csr
    """
    from tokensign.pki.request import certificate_request

    with find_key(cli, name) as found:
        encoded = certificate_request(found, subject, emails, usage=_usage(found))
        key = str(found.info.uri)
    with open_output(output, force=force) as file:
        file.write(encoded)
    cli.output.status(f"{named(output)}: certification request for {subject}")
    cli.output.document(
        {"output": output, "key": key, "subject": subject}, on_stderr=output == STANDARD_STREAM
    )


@cert.command("self-sign")
@click.argument("name", metavar="KEY")
@click.option("--subject", metavar="DN", required=True, help='Such as "CN=Alice,O=Acme,C=CH".')
@click.option("--email", "emails", metavar="ADDRESS", multiple=True, help="An address of the subject.")
@click.option(
    "--days", type=click.IntRange(1, 36500), default=730, show_default=True, help="How long it is valid."
)
@click.option("-o", "--output", metavar="CERT", type=PATH, help="Write it here too, as PEM.")
@click.option("--force", is_flag=True, help="Replace CERT if it exists.")
@click.pass_obj
def self_sign(
    cli: Cli, name: str, subject: str, emails: tuple[str, ...], days: int, output: str | None, force: bool
) -> None:
    """Make a self-signed certificate for KEY and store it beside KEY.

    \b
    Example:
      tokensign cert self-sign alice --subject "CN=Alice" --email alice@acme.example -o alice.pem
    """
    from tokensign.pki.ca import self_signed
    from tokensign.token import import_certificate, open_key

    wanted = key_name(name)
    with open_token(cli, name, read_write=True) as token:
        found = open_key(token, wanted, require_non_extractable=cli.settings.require_non_extractable)
        certificate = self_signed(found, subject, emails, days=days, usage=_usage(found))
        if output:
            with open_output(output, force=force) as file:
                file.write(certificate.pem().encode("ascii"))
        stored = import_certificate(token, certificate)
    cli.output.status(f"stored the certificate of {certificate.subject}: {stored.uri}")
    cli.output.document(_stored_document(stored) | {"output": output}, on_stderr=output == STANDARD_STREAM)


@cert.command("import")
@click.argument("files", metavar="FILE...", type=PATH, nargs=-1, required=True)
@click.option("--label", help="CKA_LABEL. [default: that of the key, or the common name]")
@click.pass_obj
def import_(cli: Cli, files: tuple[str, ...], label: str | None) -> None:
    """Store certificates on the token. Each is put beside its key if that is there.

    \b
    Example:
      tokensign cert import alice.pem ca.pem
    """
    from tokensign.token import import_certificate

    certificates = read_certificates(files)
    with open_token(cli, read_write=True) as token:
        stored = [import_certificate(token, certificate, label=label) for certificate in certificates]
    for entry in stored:
        cli.output.status(f"stored the certificate of {entry.certificate.subject}: {entry.uri}")
    cli.output.document([_stored_document(entry) for entry in stored])


@cert.command("list")
@expiring_option
@click.pass_obj
def list_certificates(cli: Cli, expiring: int | None) -> None:
    """List the certificates on a token. This needs no PIN.

    \b
    Examples:
      tokensign cert list --token acme
      tokensign cert list --expiring 30
    """
    from tokensign import token as tokens

    with open_token(cli) as token:
        found = tokens.list_certificates(token)
    if expiring is not None:
        found = [
            entry
            for entry in found
            if warn_of_expiry(
                cli, entry.certificate.subject, entry.certificate.not_after.isoformat(), expiring
            )
        ]
    cli.output.document([_stored_document(entry) for entry in found])
    cli.output.table(
        ("label", "subject", "e-mail", "issuer", "valid until"),
        [
            (
                entry.label,
                entry.certificate.subject,
                ", ".join(entry.certificate.emails),
                entry.certificate.issuer,
                f"{entry.certificate.not_after:%Y-%m-%d}",
            )
            for entry in found
        ],
        empty="There is no certificate on the token." if expiring is None else "No certificate ends by then.",
    )


@cert.command()
@click.argument("name", metavar="CERT")
@click.pass_obj
def show(cli: Cli, name: str) -> None:
    """Tell all about a certificate on a token.

    Its name is a label, a CKA_ID, a SHA-256 fingerprint, an e-mail address, a subject, or a pkcs11: URI.

    \b
    Example:
      tokensign cert show alice
    """
    from tokensign.token import find_certificate

    with open_token(cli, name) as token:
        document = _stored_document(find_certificate(token, name))
    cli.output.document(document)
    cli.output.fields(document)


@cert.command()
@click.argument("name", metavar="CERT")
@click.option("-o", "--output", metavar="FILE", type=PATH, default=STANDARD_STREAM, help="[default: stdout]")
@click.option("--form", type=click.Choice(["pem", "der"]), default="pem", show_default=True)
@click.option("--force", is_flag=True, help="Replace FILE if it exists.")
@click.pass_obj
def export(cli: Cli, name: str, output: str, form: str, force: bool) -> None:
    """Write a certificate from a token to a file.

    \b
    Example:
      tokensign cert export alice -o alice.pem
    """
    from tokensign.token import find_certificate

    with open_token(cli, name) as token:
        stored = find_certificate(token, name)
    with open_output(output, force=force) as file:
        file.write(stored.certificate.pem().encode("ascii") if form == "pem" else stored.certificate.der)
    cli.output.status(f"{named(output)}: the certificate of {stored.certificate.subject}")
    cli.output.document(_stored_document(stored) | {"output": output}, on_stderr=output == STANDARD_STREAM)


def certificate_document(certificate: Certificate) -> dict[str, Any]:
    """A certificate as JSON has it."""
    return {
        "subject": certificate.subject,
        "issuer": certificate.issuer,
        "serial_number": f"{certificate.serial_number:x}",
        "not_before": certificate.not_before.isoformat(),
        "not_after": certificate.not_after.isoformat(),
        "emails": list(certificate.emails),
        "key_usage": sorted(certificate.key_usage or ()),
        "extended_key_usage": sorted(certificate.extended_key_usage or ()),
        "ca": certificate.is_ca,
        "sha256": certificate.sha256.hex(),
    }


def _stored_document(stored: StoredCertificate) -> dict[str, Any]:
    place = {"label": stored.label, "id": stored.id.hex(), "uri": str(stored.uri)}
    return place | certificate_document(stored.certificate)


def _usage(key: HeldKey) -> KeyUsage:
    """What the key was made for, so that its certificate says the same."""
    from tokensign.algorithms import KeyUsage

    return KeyUsage.BOTH if key.info.serves(KeyUsage.BOTH) else KeyUsage.SIGN
