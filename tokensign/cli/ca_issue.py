"""`tokensign ca issue` and `renew`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from tokensign.cli.authorities import SERIAL, ca_key_option, ca_option, find_ca_key, record_document
from tokensign.cli.cert import certificate_document
from tokensign.cli.command import PATH, Cli, Command
from tokensign.cli.completions import complete_profiles
from tokensign.cli.database import database_option, open_database
from tokensign.cli.output import named
from tokensign.files import STANDARD_STREAM, open_output, read_small

if TYPE_CHECKING:
    from typing import BinaryIO

    from tokensign.authority import Authority, IssuedCertificate

__all__ = ["issue", "renew"]

_output_option = click.option(
    "-o", "--output", metavar="CERT", type=PATH, default=STANDARD_STREAM, help="[default: stdout]"
)
_days_option = click.option(
    "--days", type=click.IntRange(min=1), help="How long it is valid. [default: the profile's]"
)
_chain_option = click.option("--chain", is_flag=True, help="Write the certificates above it, too.")
_force_option = click.option("--force", is_flag=True, help="Replace CERT if it exists.")


@click.command(cls=Command)
@click.argument("csr", metavar="CSR", type=PATH)
@click.option(
    "--profile",
    "profile_name",
    metavar="PROFILE",
    shell_complete=complete_profiles,
    required=True,
    help="A name, or a .toml file.",
)
@click.option("--subject", metavar="DN", help="[default: as CSR says]")
@click.option("--email", "emails", metavar="ADDRESS", multiple=True, help="[default: as CSR says]")
@click.option("--dns", metavar="HOST", multiple=True, help="[default: as CSR says]")
@click.option(
    "--usage",
    type=click.Choice(["sign", "decrypt", "both"]),
    help="[default: the first of the profile that the key can do]",
)
@_days_option
@_output_option
@_chain_option
@_force_option
@ca_key_option
@ca_option
@database_option
@click.pass_obj
def issue(
    cli: Cli,
    csr: str,
    profile_name: str,
    subject: str | None,
    emails: tuple[str, ...],
    dns: tuple[str, ...],
    usage: str | None,
    days: int | None,
    output: str,
    chain: bool,
    force: bool,
    key: str | None,
    name: str | None,
    database: str | None,
) -> None:
    """Issue the certificate that CSR asks for, as far as PROFILE allows.

    Nothing but names is taken from CSR (PKCS #10), and what PROFILE does not allow is refused. This asks
    nobody whether they are who they say: `tokensign ra` does.

    \b
    Examples:
      tokensign ca issue alice.csr --profile smime-mailbox-strict -o alice.pem
      tokensign ca issue tsa.csr --profile timestamping --subject "CN=Acme Timestamps,O=Acme,C=CH" -o tsa.pem
    """
    from tokensign.algorithms import KeyUsage
    from tokensign.authority import load_profile, open_authority

    profile = load_profile(profile_name)
    encoded = read_small(csr)
    with (
        open_output(output, force=force) as file,
        open_database(cli, database) as store,
    ):
        authority = open_authority(store, name)
        with find_ca_key(cli, authority, key, action="issue a certificate") as signer:
            issued = authority.issue(
                signer,
                encoded,
                profile,
                subject=subject,
                emails=emails or None,
                dns=dns or None,
                usage=KeyUsage(usage) if usage else None,
                days=days,
            )
        _write(file, issued, chain=chain)
    _tell(cli, authority, issued, output)


@click.command(cls=Command)
@click.argument("serial", metavar="SERIAL", type=SERIAL)
@click.option("--csr", metavar="CSR", type=PATH, help="Of the new key (re-key). [default: the same key]")
@click.option(
    "--profile",
    "profile_name",
    metavar="FILE",
    shell_complete=complete_profiles,
    help="The .toml file of a profile of your own.",
)
@_days_option
@_output_option
@_chain_option
@_force_option
@ca_key_option
@ca_option
@database_option
@click.pass_obj
def renew(
    cli: Cli,
    serial: int,
    csr: str | None,
    profile_name: str | None,
    days: int | None,
    output: str,
    chain: bool,
    force: bool,
    key: str | None,
    name: str | None,
    database: str | None,
) -> None:
    """Issue a certificate with the names of the certificate SERIAL.

    Its profile is the same, too. The certificate SERIAL stays as it is.

    \b
    Examples:
      tokensign ca renew 570e72057d82 -o alice-2027.pem
      tokensign ca renew 570e72057d82 --csr new-key.csr -o alice-2027.pem
    """
    from tokensign.authority import load_profile, open_authority

    request = read_small(csr) if csr else None
    with (
        open_output(output, force=force) as file,
        open_database(cli, database) as store,
    ):
        authority = open_authority(store, name)
        profile = load_profile(profile_name or authority.find(serial).profile)
        with find_ca_key(cli, authority, key, action="renew a certificate") as signer:
            issued = authority.renew(signer, serial, profile, request=request, days=days)
        _write(file, issued, chain=chain)
    _tell(cli, authority, issued, output)


def _write(file: BinaryIO, issued: IssuedCertificate, *, chain: bool) -> None:
    certificates = (issued.certificate, *(issued.chain if chain else ()))
    file.write("".join(certificate.pem() for certificate in certificates).encode("ascii"))


def _tell(cli: Cli, authority: Authority, issued: IssuedCertificate, output: str) -> None:
    subject = issued.certificate.subject or ", ".join(issued.certificate.emails)
    cli.output.status(
        f"{named(output)}: the certificate of {subject}, serial number {issued.certificate.serial_number:x}"
    )
    document = certificate_document(issued.certificate) | record_document(authority, issued.record)
    cli.output.document(document | {"output": output}, on_stderr=output == STANDARD_STREAM)
