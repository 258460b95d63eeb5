"""`tokensign verify`."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import click

from tokensign.cli.command import PATH, Cli, Command
from tokensign.cli.inputs import MOMENT, read_certificates, trust_anchors
from tokensign.errors import VerificationError
from tokensign.files import STANDARD_STREAM, open_input, open_output, read_small

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from tokensign.pki.policy import TrustPolicy
    from tokensign.smime.unwrap import OpenedMessage
    from tokensign.verification import Expectations, SignerReport, VerificationReport

__all__ = ["verify"]

_MARKS = {"passed": ("✓", "green"), "failed": ("✗", "red"), "not-checked": ("-", "yellow")}


@click.command(cls=Command)
@click.argument("signature", metavar="SIGNATURE", type=PATH)
@click.option("--content", metavar="FILE", type=PATH, help="What was signed, for a detached signature.")
@click.option("--trust", metavar="FILE", type=PATH, multiple=True, help="Trust anchors: files or folders.")
@click.option(
    "--untrusted", metavar="FILE", type=PATH, multiple=True, help="Certificates to build paths from."
)
@click.option("--crl", metavar="FILE", type=PATH, multiple=True, help="Certificate revocation lists.")
@click.option("--ocsp", metavar="FILE", type=PATH, multiple=True, help="OCSP responses.")
@click.option(
    "--revocation",
    type=click.Choice(["off", "prefer", "require"]),
    help="Ask for revocation information. [default: prefer if any is given, else off]",
)
@click.option(
    "--at", "moment", type=MOMENT, metavar="TIME", help="Judge certificates at this time. [default: now]"
)
@click.option("--email", metavar="ADDRESS", help="Whose signature it must be.")
@click.option(
    "--purpose",
    type=click.Choice(["email", "code-signing", "timestamping", "any"]),
    default="email",
    show_default=True,
    help="What the signer's certificate must be meant for.",
)
@click.option("--countersigned", is_flag=True, help="Each signature must have a good countersignature.")
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
    trust: tuple[str, ...],
    untrusted: tuple[str, ...],
    crl: tuple[str, ...],
    ocsp: tuple[str, ...],
    revocation: str | None,
    moment: datetime | None,
    email: str | None,
    purpose: str,
    countersigned: bool,
    any_signer: bool,
    signature_only: bool,
    legacy: bool,
    output: str | None,
    report: str | None,
    force: bool,
) -> None:
    """Verify SIGNATURE: a CMS message in DER, PEM or S/MIME.

    Integrity (is it what was signed?), trust (does the certificate lead to an anchor?) and identity (is
    it whom you expect? --email) are judged separately. All signers must hold. Countersignatures are told
    beneath the signature that they sign, and decide nothing without --countersigned. Exit code 1: it does
    not hold.

    \b
    Examples:
      tokensign verify contract.pdf.p7s --content contract.pdf --trust ca.pem
      tokensign verify mail.eml --trust ca.pem --email alice@acme.example -o content
    """
    from tokensign.smime.unwrap import open_message
    from tokensign.verification import Expectations

    policy = None
    if not signature_only:
        policy = _policy(cli, trust, purpose, crl, ocsp, revocation, legacy=legacy)
    expectations = Expectations(
        trust=policy,
        email=email,
        moment=moment,
        certificates=read_certificates(untrusted),
        any_signer=any_signer,
        legacy=legacy,
        countersigned=countersigned,
    )
    with contextlib.ExitStack() as stack:
        opened = stack.enter_context(open_message(stack.enter_context(open_input(signature))))
        signed = _content(cli, stack, signature, opened, content)
        try:
            found = _run(opened, expectations, signed, output, force=force)
        except VerificationError as error:
            _show(cli, error.report, report, force=force, on_stderr=output == STANDARD_STREAM)
            if cli.json:
                raise click.exceptions.Exit(error.exit_code) from None
            raise
    _show(cli, found, report, force=force, on_stderr=output == STANDARD_STREAM)


def _policy(
    cli: Cli,
    trust: tuple[str, ...],
    purpose: str,
    crl: tuple[str, ...],
    ocsp: tuple[str, ...],
    revocation: str | None,
    *,
    legacy: bool,
) -> TrustPolicy:
    from tokensign.pki.policy import TrustPolicy
    from tokensign.pki.purpose import Purpose

    purposes = {
        "email": Purpose.EMAIL_PROTECTION,
        "code-signing": Purpose.CODE_SIGNING,
        "timestamping": Purpose.TIME_STAMPING,
        "any": Purpose.ANY,
    }
    return TrustPolicy(
        anchors=trust_anchors(cli, trust),
        purpose=purposes[purpose],
        revocation=revocation or ("prefer" if crl or ocsp else "off"),  # type: ignore[arg-type] # click's choice
        crls=tuple(map(read_small, crl)),
        ocsp_responses=tuple(map(read_small, ocsp)),
        legacy=legacy,
    )


def _content(
    cli: Cli, stack: contextlib.ExitStack, signature: str, opened: OpenedMessage, name: str | None
) -> BinaryIO | None:
    """The detached content: the mail's, the one named, or the file after which the signature is named."""
    from tokensign.cms.signed_data import read_signed_data

    if opened.content is not None and name is None:
        return opened.content
    if name is None:
        start = opened.cms.tell()
        detached = read_signed_data(opened.cms).content is None
        opened.cms.seek(start)
        beside = Path(signature).with_suffix("")
        if not detached or not signature.endswith(".p7s") or not beside.is_file():
            return None
        cli.output.status(f"the signed content is taken to be {beside}")
        name = str(beside)
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


def _show(cli: Cli, found: VerificationReport, path: str | None, *, force: bool, on_stderr: bool) -> None:
    document = found.to_json()
    if path is not None:
        with open_output(path, force=force) as file:
            file.write(json.dumps(document, indent=2, ensure_ascii=False).encode() + b"\n")
    cli.output.document(document, on_stderr=on_stderr)
    tell = cli.output.status if on_stderr else cli.output.text
    for signer in found.signers:
        _tell(tell, signer, "signature")


def _tell(tell: Callable[..., None], signer: SignerReport, what: str, margin: str = "") -> None:
    """A signature, its verdicts, and its countersignatures beneath it."""
    tell(f"{margin}{what} of {signer.name}: {'good' if signer.holds else 'NOT GOOD'}")
    for name, verdict in signer.verdicts.items():
        mark, colour = _MARKS[verdict.status.value]
        tell(f"{name:9} {verdict.reason}", prefix=click.style(f"{margin}  {mark} ", fg=colour))
    tell(f"{margin}    signed    {_when(signer)}; {signer.scheme or 'in an unknown scheme'}")
    for entry in signer.countersignatures:
        _tell(tell, entry, "countersignature", f"{margin}    ")


def _when(signer: SignerReport) -> str:
    if signer.signing_time is None:
        return "at an unknown time"
    return f"{signer.signing_time:%Y-%m-%d %H:%M:%S} UTC by the signer's clock"
