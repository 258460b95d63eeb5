"""`tokensign ca request`, `adopt`, `renew-ca` and `cross`: the certificates of CAs themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from tokensign.cli.authorities import ca_key_option, ca_option, find_ca_key, parent_ca
from tokensign.cli.cert import certificate_document
from tokensign.cli.command import PATH, Cli, Command
from tokensign.cli.completions import complete_profiles
from tokensign.cli.database import database_option, open_database
from tokensign.cli.inputs import find_key, read_certificates
from tokensign.cli.output import named
from tokensign.errors import UsageError
from tokensign.files import STANDARD_STREAM, open_output

if TYPE_CHECKING:
    from tokensign.authority import Authority
    from tokensign.certificates import Certificate

__all__ = ["adopt", "cross", "renew_ca", "request"]

_days_option = click.option(
    "--days", type=click.IntRange(min=1), help="How long it is valid. [default: the profile's]"
)
_output_option = click.option(
    "-o", "--output", metavar="CERT", type=PATH, default=STANDARD_STREAM, help="[default: stdout]"
)
_force_option = click.option("--force", is_flag=True, help="Replace the file if it exists.")


@click.command(cls=Command)
@click.option("--key", metavar="KEY", required=True, help="The key of the CA.")
@click.option("--subject", metavar="DN", required=True, help='Such as "CN=Acme People,O=Acme,C=CH".')
@click.option("-o", "--output", metavar="CSR", type=PATH, default=STANDARD_STREAM, help="[default: stdout]")
@_force_option
@click.pass_obj
def request(cli: Cli, key: str, subject: str, output: str, force: bool) -> None:
    """Make a request (PKCS #10) for the certificate of a CA.

    A CA elsewhere issues the certificate; `ca adopt` takes it.

    \b
    Example:
      tokensign ca request --key people --subject "CN=Acme People,O=Acme,C=CH" -o people.csr
    """
    from tokensign.algorithms import KeyUsage
    from tokensign.pki.request import authority_request

    with (
        open_output(output, force=force) as file,
        find_key(cli, key, KeyUsage.SIGN, action="ask for the certificate of a CA") as signer,
    ):
        file.write(authority_request(signer, subject))
    cli.output.status(f"{named(output)}: certification request for {subject}")
    cli.output.document({"output": output, "subject": subject}, on_stderr=output == STANDARD_STREAM)


@click.command(cls=Command)
@click.argument("name", metavar="NAME")
@click.argument("certificate", metavar="CERT", type=PATH)
@click.option("--key", metavar="KEY", required=True, help="The key of the CA.")
@click.option("--chain", metavar="FILE", type=PATH, multiple=True, help="Certificates above it.")
@click.option("--url", metavar="URL", help="Below which `ca serve` will serve CRLs, OCSP and certificates.")
@click.option("--partitions", metavar="N", type=int, help="Over how many CRLs certificates are spread.")
@database_option
@click.pass_obj
def adopt(
    cli: Cli,
    name: str,
    certificate: str,
    key: str,
    chain: tuple[str, ...],
    url: str | None,
    partitions: int | None,
    database: str | None,
) -> None:
    """Make a CA that is called NAME of CERT, which a CA elsewhere issued.

    Where there is a CA of that name, CERT takes the place of its certificate: it must be for the same
    subject and key.

    \b
    Examples:
      tokensign ca adopt people people.pem --key people --chain root.pem --url http://pki.acme.example/people
      tokensign ca adopt people people-2030.pem --key people --chain root.pem
    """
    from tokensign.algorithms import KeyUsage
    from tokensign.authority import adopt_authority, list_authorities, replace_own_certificate

    own, above = _certificate(certificate), read_certificates(chain)
    with (
        open_database(cli, database) as store,
        find_key(cli, key, KeyUsage.SIGN, action=f"prove that it is the key of the CA {name}") as signer,
    ):
        known = next((one for one in list_authorities(store) if one.name == name), None)
        if known is None:
            uri = str(signer.info.uri)
            made = adopt_authority(
                store, name, signer, own, above, url=url, partitions=partitions or 1, key_uri=uri
            )
        elif url is not None or partitions is not None:
            raise UsageError(
                f"there is a CA {name} in the database already, whose URL and partitions stay as they are",
                hint="leave --url and --partitions out, or choose another name",
            )
        else:
            made = replace_own_certificate(known, signer, own, above)
    cli.output.status(f"the CA {name} has the certificate of {own.subject}, until {own.not_after:%Y-%m-%d}")
    cli.output.document(certificate_document(made.certificate) | {"ca": name})


@click.command("renew-ca", cls=Command)
@click.option("--parent-key", metavar="KEY", help="The key of the CA above. [default: as `ca init` was told]")
@click.option(
    "--profile",
    metavar="PROFILE",
    shell_complete=complete_profiles,
    help="[default: that of its certificate; root-ca for a root]",
)
@_days_option
@_output_option
@_force_option
@ca_key_option
@ca_option
@database_option
@click.pass_obj
def renew_ca(
    cli: Cli,
    parent_key: str | None,
    profile: str | None,
    days: int | None,
    output: str,
    force: bool,
    key: str | None,
    name: str | None,
    database: str | None,
) -> None:
    """Renew the certificate of a CA, for the same subject and key.

    What it has issued and revoked holds under the new certificate, too. Start `ca serve` anew after that.
    For a new key, make a CA with `ca init --succeeds`.

    \b
    Examples:
      tokensign ca renew-ca --ca people -o people-2030.pem
      tokensign ca renew-ca --ca root --days 3650 -o root-2030.pem
    """
    from tokensign.authority import load_profile, open_authority, parent_of, renew_own_certificate

    with open_output(output, force=force) as file, open_database(cli, database) as store:
        authority = open_authority(store, name)
        above = parent_of(authority)
        chosen = load_profile(profile or _profile_of(authority, above))
        with (
            parent_ca(cli, store, above.name if above else None, parent_key) as parent,
            find_ca_key(cli, authority, key, action="renew the certificate of a CA") as signer,
        ):
            renewed = renew_own_certificate(authority, signer, chosen, parent=parent, days=days)
        file.write(renewed.certificate.pem().encode("ascii"))
    _tell(cli, renewed.certificate, {"ca": authority.name}, output)


@click.command(cls=Command)
@click.argument("certificate", metavar="CERT", type=PATH)
@click.option(
    "--profile",
    metavar="PROFILE",
    shell_complete=complete_profiles,
    default="subordinate-ca",
    show_default=True,
    help="A name, or a .toml file.",
)
@_days_option
@_output_option
@_force_option
@ca_key_option
@ca_option
@database_option
@click.pass_obj
def cross(
    cli: Cli,
    certificate: str,
    profile: str,
    days: int | None,
    output: str,
    force: bool,
    key: str | None,
    name: str | None,
    database: str | None,
) -> None:
    """Certify another CA, whose certificate is CERT: a cross-certificate.

    Subject and key are those of CERT. PROFILE says how many CAs may follow below and which names they may
    certify.

    \b
    Examples:
      tokensign ca cross partner-root.pem --ca root --profile partner.toml -o partner-cross.pem
      tokensign ca cross root.pem --ca root-2 --profile root-ca -o root-by-root-2.pem
    """
    from tokensign.authority import cross_certify, load_profile, open_authority

    other, chosen = _certificate(certificate), load_profile(profile)
    with open_output(output, force=force) as file, open_database(cli, database) as store:
        authority = open_authority(store, name)
        with find_ca_key(cli, authority, key, action="certify another CA") as signer:
            issued = cross_certify(authority, signer, other, chosen, days=days)
        file.write(issued.certificate.pem().encode("ascii"))
    _tell(cli, issued.certificate, {"ca": authority.name}, output)


def _certificate(path: str) -> Certificate:
    found = read_certificates((path,))
    if len(found) != 1:
        raise UsageError(f"{named(path)} has {len(found)} certificates", hint="name a file with one")
    return found[0]


def _profile_of(authority: Authority, above: Authority | None) -> str:
    return "root-ca" if above is None else above.find(authority.certificate.serial_number).profile


def _tell(cli: Cli, made: Certificate, about: dict[str, str], output: str) -> None:
    cli.output.status(f"{named(output)}: the certificate of {made.subject}, until {made.not_after:%Y-%m-%d}")
    document = certificate_document(made) | about | {"output": output}
    cli.output.document(document, on_stderr=output == STANDARD_STREAM)
