"""`tokensign verify`."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

import click

from tokensign.cli.command import PATH, Cli, Command
from tokensign.cli.forms import LEVELS
from tokensign.cli.inputs import MOMENT
from tokensign.cli.trust import TrustOptions, policy_inputs, trust_options
from tokensign.errors import VerificationError
from tokensign.files import STANDARD_STREAM, open_input, open_output

if TYPE_CHECKING:
    from datetime import datetime

    from tokensign.smime.unwrap import OpenedMessage
    from tokensign.verification import Expectations, VerificationReport

__all__ = ["verify"]

_PURPOSES: Final = {  # as the option has it: the name of a Purpose, whose module is slow to load
    "email": "EMAIL_PROTECTION",
    "code-signing": "CODE_SIGNING",
    "timestamping": "TIME_STAMPING",
    "any": "ANY",
}


@click.command(cls=Command)
@click.argument("signature", metavar="SIGNATURE", type=PATH)
@click.option("--content", metavar="FILE", type=PATH, help="What was signed, for a detached signature.")
@trust_options
@click.option(
    "--revocation",
    type=click.Choice(["off", "prefer", "require"]),
    help="Whether certificates were revoked: use what is at hand and ask their servers for what is missing"
    " (prefer), and refuse where nothing tells (require). [default: prefer, and ask no server]",
)
@click.option(
    "--at", "moment", type=MOMENT, metavar="TIME", help="Judge certificates at this time. [default: now]"
)
@click.option("--email", metavar="ADDRESS", help="Whose signature it must be.")
@click.option(
    "--purpose",
    type=click.Choice(list(_PURPOSES)),
    default="email",
    show_default=True,
    help="What the signer's certificate must be meant for.",
)
@click.option("--policy", "policies", metavar="OID", multiple=True, help="Acceptable certificate policies.")
@click.option(
    "--explicit-policy",
    is_flag=True,
    help="The path must be valid for one of them (or, without --policy, for any).",
)
@click.option("--inhibit-any-policy", is_flag=True, help="anyPolicy in certificates does not count.")
@click.option("--inhibit-policy-mapping", is_flag=True, help="CAs may not map policies.")
@click.option("--countersigned", is_flag=True, help="Each signature must have a good countersignature.")
@click.option("--level", type=LEVELS, help="The level of CAdES that each signature must have at least.")
@click.option("--any-signer", is_flag=True, help="One good signature is enough.")
@click.option("--signature-only", is_flag=True, help="Check the signature and nobody's certificate.")
@click.option("--legacy", is_flag=True, help="Accept SHA-1, MD5 and short RSA keys of old messages.")
@click.option(
    "-o", "--output", metavar="CONTENT", type=PATH, help="Write the content here if everything holds."
)
@click.option("--report", metavar="FILE", type=PATH, help="Write the report here as JSON.")
@click.option("--force", is_flag=True, help="Replace files that exist.")
@click.pass_obj
def verify(
    cli: Cli,
    signature: str,
    content: str | None,
    trusting: TrustOptions,
    revocation: str | None,
    moment: datetime | None,
    email: str | None,
    purpose: str,
    policies: tuple[str, ...],
    explicit_policy: bool,
    inhibit_any_policy: bool,
    inhibit_policy_mapping: bool,
    countersigned: bool,
    level: str | None,
    any_signer: bool,
    signature_only: bool,
    legacy: bool,
    output: str | None,
    report: str | None,
    force: bool,
) -> None:
    """Verify SIGNATURE: a CMS message in DER, PEM or S/MIME.

    The first line has the verdict and its reason. Integrity (is it what was signed?), trust (does the
    certificate lead to an anchor?), identity (is it whom you expect? --email) and policy (are algorithms,
    certificate policies and revocation as you demand?) are judged separately. All signers must hold.
    Countersignatures are told beneath the signature that they sign, and decide nothing without
    --countersigned. Exit code 1: it does not hold.

    \b
    Examples:
      tokensign verify contract.pdf.p7s --content contract.pdf --trust ca.pem
      tokensign verify mail.eml --trust ca.pem --email alice@acme.example -o content
      tokensign verify contract.pdf.p7s --trust ca.pem --revocation require --report report.json
    """
    from tokensign.cades.levels import Level
    from tokensign.cli.verdicts import show
    from tokensign.pki.purpose import Purpose
    from tokensign.smime.unwrap import open_message
    from tokensign.verification import Expectations

    policy = None
    if not signature_only:
        inputs = policy_inputs(
            cli,
            policies,
            explicit=explicit_policy,
            inhibit_any=inhibit_any_policy,
            inhibit_mapping=inhibit_policy_mapping,
        )
        policy = trusting.policy(cli, Purpose[_PURPOSES[purpose]], revocation, inputs, legacy=legacy)
    expectations = Expectations(
        trust=policy,
        email=email,
        moment=moment,
        certificates=trusting.certificates(cli),
        any_signer=any_signer,
        legacy=legacy,
        countersigned=countersigned,
        level=Level(level) if level else None,
    )
    with contextlib.ExitStack() as stack:
        opened = stack.enter_context(open_message(stack.enter_context(open_input(signature))))
        name = content or _content_name(cli, signature, opened)
        signed = _content(cli, stack, name) if name else opened.content
        failure: VerificationError | None = None
        try:
            found = _run(opened, expectations, signed, output, force=force)
        except VerificationError as error:
            failure, found = error, error.report
    if report is not None:
        _write(found, report, force=force)
    show(cli.output, found, _shown(name or signature), on_stderr=output == STANDARD_STREAM)
    if failure is not None:
        if cli.json:
            raise click.exceptions.Exit(failure.exit_code)
        raise failure


def _content_name(cli: Cli, signature: str, opened: OpenedMessage) -> str | None:
    """The file after which a detached signature is named, if it is there."""
    from tokensign.cms.signed_data import read_signed_data

    if opened.content is not None:
        return None
    start = opened.cms.tell()
    detached = read_signed_data(opened.cms).content is None
    opened.cms.seek(start)
    beside = Path(signature).with_suffix("")
    if not detached or not signature.endswith(".p7s") or not beside.is_file():
        return None
    cli.output.status(f"the signed content is taken to be {beside}")
    return str(beside)


def _content(cli: Cli, stack: contextlib.ExitStack, name: str) -> BinaryIO:
    stream = stack.enter_context(open_input(name))
    return stack.enter_context(cli.output.progress(stream, f"verifying {name}"))


def _run(
    opened: OpenedMessage,
    expectations: Expectations,
    signed: BinaryIO | None,
    output: str | None,
    *,
    force: bool,
) -> VerificationReport:
    from tokensign.verification import verify, verify_to_file

    if output is None:
        return verify(opened.cms, expectations, signed)
    return verify_to_file(opened.cms, expectations, output, signed, force=force)


def _shown(name: str) -> str:
    return "standard input" if name == STANDARD_STREAM else name


def _write(found: VerificationReport, path: str, *, force: bool) -> None:
    with open_output(path, force=force) as file:
        file.write(json.dumps(found.to_json(), indent=2, ensure_ascii=False).encode() + b"\n")
