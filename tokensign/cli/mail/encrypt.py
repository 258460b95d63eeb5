"""`tokensign mail encrypt`."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tokensign.cli.address_book import contacts_option
from tokensign.cli.command import PATH, Cli, Command
from tokensign.cli.inputs import announce_pins, described, find_signer
from tokensign.cli.mail.composing import Composing, composing_options, signer_rows, warn_of_doubts
from tokensign.cli.mail.contact_recipients import contact_recipients
from tokensign.cli.output import named
from tokensign.cli.recipients import recipient_options, recipients_from, transport_from
from tokensign.errors import UsageError
from tokensign.files import STANDARD_STREAM, open_input, open_output

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tokensign.cms.encrypt import Recipient
    from tokensign.smime.header_policy import HeaderPolicy

__all__ = ["encrypt"]


@click.command(cls=Command)
@click.argument("source", metavar="IN.eml", type=PATH)
@recipient_options
@click.option(
    "--sign-with", "keys", metavar="KEY", multiple=True, help="Who signs it first; may be repeated."
)
@click.option("--triple-wrap", is_flag=True, help="Sign the encrypted mail once more.")
@click.option("--cipher", metavar="NAME", help="Encrypts the content. [default: aes-256-gcm]")
@click.option(
    "--hcp",
    type=click.Choice(["baseline", "no-confidentiality", "shy"]),
    default="baseline",
    show_default=True,
    help="What of the header is seen outside.",
)
@click.option(
    "--legacy-display/--no-legacy-display",
    default=True,
    help="Repeat the hidden Subject in the text, for older programs (default), or not.",
)
@click.option(
    "-o", "--output", metavar="OUT.eml", type=PATH, required=True, help="Where the encrypted mail goes."
)
@contacts_option
@composing_options
@click.pass_obj
def encrypt(
    cli: Cli,
    source: str,
    recipients: tuple[str, ...],
    password_source: str | None,
    key_transport: str,
    oaep_digest: str,
    keys: tuple[str, ...],
    triple_wrap: bool,
    cipher: str | None,
    hcp: HeaderPolicy,
    legacy_display: bool,
    output: str,
    place: str | None,
    composing: Composing,
) -> None:
    """Encrypt a mail, or sign and encrypt it (S/MIME, RFC 8551).

    Every address in To, Cc and Bcc needs a certificate that was issued for it. Without --to they come from
    the contacts, and with them a cipher that all recipients can read. Nobody learns of those in Bcc:
    each of them gets a copy of their own, OUT.bcc-1.eml and so on in the order of Bcc. Send each file to its
    recipients only.

    The Subject outside becomes "[...]" and Comments and Keywords go; --hcp shy hides names and time zones,
    too, and --hcp no-confidentiality nothing. The cipher aes-256-cbc is for older programs; it does not
    show changes.

    \b
    Examples:
      tokensign mail encrypt letter.eml --to bob.pem -o secret.eml
      tokensign mail encrypt letter.eml -o secret.eml
      tokensign mail encrypt letter.eml --to bob.pem --sign-with alice -o secret.eml
      tokensign mail encrypt letter.eml --to bob.pem --sign-with alice --triple-wrap -o secret.eml
    """
    from tokensign.algorithms import DEFAULT_CONTENT_CIPHER, content_cipher
    from tokensign.smime.compose_mail import MailOptions, check_recipients, encrypt_copies, mail_copies

    if triple_wrap and not keys:
        raise UsageError("--triple-wrap signs the mail twice", hint="say who signs it with --sign-with")
    if composing.security_label and not keys:
        raise UsageError("--security-label is signed, and nobody signs", hint="say who does with --sign-with")
    options = MailOptions(
        signing=composing.signing(),
        opaque=composing.opaque,
        triple_wrap=triple_wrap,
        compress=composing.compress,
        cipher=content_cipher(cipher) if cipher else DEFAULT_CONTENT_CIPHER,
        key_transport=transport_from(key_transport, oaep_digest),
        protect_headers=composing.protect_headers,
        hcp=hcp,
        legacy_display=legacy_display,
    )
    with contextlib.ExitStack() as stack:
        message = stack.enter_context(open_input(source))
        action = f"sign {described(source, message)}"
        if recipients or password_source is not None:
            found = recipients_from(cli, stack, recipients, password_source)
        else:
            found, options = contact_recipients(cli, place, message, options)
        readers = [recipient for _, recipient in found]
        check_recipients(message, readers, options)
        copies = mail_copies(message)
        targets = _targets(output, copies)
        outputs = [stack.enter_context(open_output(target, force=composing.force)) for target in targets]
        signers = [stack.enter_context(find_signer(cli, name, action=action)) for name in keys]
        announce_pins(cli, signers * (1 + len(copies) * triple_wrap), "signature")
        message.seek(0)  # the header was read
        watched = stack.enter_context(cli.output.progress(message, f"encrypting {source}"))
        mails = encrypt_copies(
            watched, readers, dict(zip(copies, outputs, strict=True)), options, signers=signers
        )
    composed = [
        (target, bcc, _names(found, mails[bcc].recipients))
        for bcc, target in zip(copies, targets, strict=True)
    ]
    for target, bcc, names in composed:
        cli.output.status(f"{named(target)}: encrypted with {options.cipher.name} to {'; '.join(names)}")
        if bcc is not None:
            cli.output.status(f"{target}: for {bcc} alone; send it with `tokensign mail send --to {bcc}`")
    if options.protect_headers and not mails[copies[0]].headers_protected:
        cli.output.status(
            "warning: the mail was signed or encrypted before; its Subject stays readable outside"
        )
    if signers:
        warn_of_doubts(cli, mails[copies[0]], signers)
    cli.output.document(
        {
            "output": output,
            "cipher": options.cipher.name,
            "key_transport": str(options.key_transport),
            "headers_protected": mails[copies[0]].headers_protected,
            "hcp": options.hcp,
            "copies": [
                {"output": target, "bcc": bcc, "recipients": names} for target, bcc, names in composed
            ],
            "signers": signer_rows(signers, options.signing),
        },
        on_stderr=output == STANDARD_STREAM,
    )


def _targets(output: str, copies: Sequence[str | None]) -> list[str]:
    """Where each copy goes: OUT.eml for the one to all, OUT.bcc-1.eml and so on for those in Bcc."""
    if output == STANDARD_STREAM and len(copies) > 1:
        raise UsageError("the mail has recipients in Bcc, and each gets a file", hint="name a file with -o")
    if output == STANDARD_STREAM:
        return [output]
    path = Path(output)
    blind = [bcc for bcc in copies if bcc is not None]
    numbered = [
        str(path.with_name(f"{path.stem}.bcc-{number}{path.suffix}")) for number, _ in enumerate(blind, 1)
    ]
    return numbered if len(blind) == len(copies) else [output, *numbered]


def _names(found: Sequence[tuple[str, Recipient]], readers: Sequence[Recipient]) -> list[str]:
    return [name for name, recipient in found if recipient in readers]
