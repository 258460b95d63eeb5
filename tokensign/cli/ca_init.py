"""`tokensign ca init`: make a CA."""

from __future__ import annotations

import click

from tokensign.cli.authorities import parent_ca
from tokensign.cli.cert import certificate_document
from tokensign.cli.command import PATH, Cli, Command
from tokensign.cli.completions import complete_authorities, complete_profiles
from tokensign.cli.database import database_option, open_database
from tokensign.cli.inputs import find_key
from tokensign.cli.output import named
from tokensign.files import STANDARD_STREAM, open_output

__all__ = ["init"]


@click.command(cls=Command)
@click.argument("name", metavar="NAME")
@click.option("--key", metavar="KEY", required=True, help="The key of the new CA.")
@click.option("--subject", metavar="DN", help='Such as "CN=Acme CA,O=Acme,C=CH".')
@click.option(
    "--parent",
    metavar="NAME",
    shell_complete=complete_authorities,
    help="The CA that issues its certificate. [default: it is a root]",
)
@click.option("--parent-key", metavar="KEY", help="That CA's key. [default: as `ca init` was told]")
@click.option(
    "--succeeds",
    metavar="NAME",
    shell_complete=complete_authorities,
    help="The CA whose place it takes, with another key.",
)
@click.option(
    "--profile",
    metavar="PROFILE",
    shell_complete=complete_profiles,
    help="[default: root-ca, or subordinate-ca with --parent]",
)
@click.option("--days", type=click.IntRange(min=1), help="How long it is valid. [default: the profile's]")
@click.option("--url", metavar="URL", help="Below which `ca serve` will serve CRLs, OCSP and certificates.")
@click.option(
    "--partitions",
    metavar="N",
    type=int,
    default=1,
    show_default=True,
    help="Over how many CRLs certificates are spread.",
)
@click.option("-o", "--output", metavar="CERT", type=PATH, default=STANDARD_STREAM, help="[default: stdout]")
@click.option("--force", is_flag=True, help="Replace CERT if it exists.")
@database_option
@click.pass_obj
def init(
    cli: Cli,
    name: str,
    key: str,
    subject: str | None,
    parent: str | None,
    parent_key: str | None,
    succeeds: str | None,
    profile: str | None,
    days: int | None,
    url: str | None,
    partitions: int,
    output: str,
    force: bool,
    database: str | None,
) -> None:
    """Make a CA that is called NAME, and write its certificate.

    The URL stands in what the CA issues, so that readers find CRLs and OCSP. It cannot be added to
    certificates that are there already.

    A CA that --succeeds another one has its subject unless --subject names one. The other one issues no
    more, and goes on with CRLs and OCSP for what it has issued.

    \b
    Examples:
      tokensign ca init root --key root --subject "CN=Acme Root,O=Acme,C=CH" -o root.pem
      tokensign ca init people --key people --subject "CN=Acme People,O=Acme,C=CH" --parent root
                --profile smime-subordinate-ca --url http://pki.acme.example/people -o people.pem
      tokensign ca init people-2 --key people-2 --succeeds people --parent root -o people-2.pem
    """
    from tokensign.algorithms import KeyUsage
    from tokensign.authority import create_authority, load_profile, open_authority

    chosen = load_profile(profile or ("subordinate-ca" if parent else "root-ca"))
    with (
        open_output(output, force=force) as file,
        open_database(cli, database) as store,
        parent_ca(cli, store, parent, parent_key) as above,
        find_key(cli, key, KeyUsage.SIGN, action=f"make the CA {name}") as signer,
    ):
        made = create_authority(
            store,
            name,
            signer,
            subject,
            profile=chosen,
            parent=above,
            succeeds=open_authority(store, succeeds) if succeeds else None,
            days=days,
            url=url,
            partitions=partitions,
            key_uri=str(signer.info.uri),
        )
        file.write(made.certificate.pem().encode("ascii"))
    cli.output.status(f"{named(output)}: the certificate of {made.certificate.subject}")
    document = certificate_document(made.certificate) | {"ca": name, "output": output}
    cli.output.document(document, on_stderr=output == STANDARD_STREAM)
