"""`tokensign openpgp`: signatures and decryption for correspondents who have no S/MIME."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import click

from tokensign.cli.command import PATH, Cli, Group, grouped
from tokensign.cli.inputs import MOMENT, announce_pins, default_output, described, find_key
from tokensign.cli.output import named
from tokensign.errors import UsageError
from tokensign.files import STANDARD_STREAM, chunks, open_input, open_output

if TYPE_CHECKING:
    from tokensign.cli.holder import HeldKey
    from tokensign.openpgp.message import Literal
    from tokensign.openpgp.public_key import PublicKey

__all__ = ["openpgp"]


@dataclass(frozen=True, slots=True)
class _Naming:
    """What fixes the fingerprint of a key."""

    certificate: str | None
    created: datetime | None
    rfc9580: bool


_NAMING: Final = (
    click.option(
        "--certificate", metavar="FILE", type=PATH, help="The OpenPGP certificate that the key has already."
    ),
    click.option(
        "--created",
        metavar="TIME",
        type=MOMENT,
        help="When the key was made. [default: from when its first X.509 certificate is valid]",
    ),
    click.option(
        "--rfc9580",
        is_flag=True,
        help="Give Ed25519 and X25519 the formats of RFC 9580, which GnuPG does not read.",
    ),
)


_naming_options = grouped("naming", _Naming, _NAMING)


@click.group(cls=Group)
def openpgp() -> None:
    """Sign and decrypt OpenPGP (RFC 9580) with a key on a token.

    The fingerprint of an OpenPGP key depends on when the key was made. The time is that of --certificate,
    or --created, or when the first of the key's X.509 certificates on the token became valid. Keep the
    OpenPGP certificate that you publish, and name it.
    """


@openpgp.command("certificate")
@click.argument("key", metavar="KEY")
@click.option(
    "--user-id", "user_ids", metavar="ID", multiple=True, required=True, help="Whose it is; may be repeated."
)
@click.option("--encryption-key", metavar="KEY", help="The key that others encrypt to.")
@click.option("--expires", metavar="TIME", type=MOMENT, help="When it expires. [default: never]")
@_naming_options
@click.option("-o", "--output", metavar="OUT", type=PATH, default="-", help="[default: standard output]")
@click.option("--force", is_flag=True, help="Replace OUT if it exists.")
@click.pass_obj
def certificate_command(
    cli: Cli,
    key: str,
    user_ids: tuple[str, ...],
    encryption_key: str | None,
    expires: datetime | None,
    naming: _Naming,
    output: str,
    force: bool,
) -> None:
    """Make the OpenPGP certificate of a key: what others import.

    It has the public key, the user IDs, and, with --encryption-key, a subkey that others encrypt to, all
    bound by signatures that are made on the token. With the --certificate of before, the new one is about
    the same keys: it can expire later, or have other user IDs.

    \b
    Examples:
      tokensign openpgp certificate alice --user-id "Alice <alice@acme.example>" -o alice.asc
      tokensign openpgp certificate alice --user-id "Alice <alice@acme.example>" --encryption-key alice-mail
    """
    from tokensign.algorithms import KeyUsage
    from tokensign.openpgp.armor import armor
    from tokensign.openpgp.certificate import make_certificate
    from tokensign.openpgp.signature import SigningKey

    with contextlib.ExitStack() as stack:
        destination = stack.enter_context(open_output(output, force=force))
        action = "make an OpenPGP certificate"
        signer = stack.enter_context(find_key(cli, key, KeyUsage.SIGN, action=action))
        public = _public_key(signer, naming, encrypts=False)
        encryption = None
        if encryption_key is not None:
            other = stack.enter_context(find_key(cli, encryption_key, KeyUsage.DECRYPT, action=action))
            encryption = _public_key(other, naming, encrypts=True, otherwise=public.created)
        announce_pins(cli, [signer] * (len(user_ids) + bool(encryption)), "signature")
        made = make_certificate(SigningKey(signer, public), user_ids, encryption=encryption, expires=expires)
        destination.write(armor("PUBLIC KEY BLOCK", made))
    cli.output.status(
        f"{named(output)}: OpenPGP certificate {_shown(public)}, made {public.created:%Y-%m-%d}"
    )
    if encryption:
        cli.output.status(f"{named(output)}: others encrypt to {_shown(encryption)}")
    document = {
        "output": output,
        "fingerprint": _shown(public),
        "created": public.created.isoformat(),
        "encryption_fingerprint": _shown(encryption) if encryption else None,
        "user_ids": list(user_ids),
    }
    cli.output.document(document, on_stderr=output == STANDARD_STREAM)


@openpgp.command("sign")
@click.argument("source", metavar="INPUT", type=PATH)
@click.option("--key", metavar="KEY", required=True, help="Who signs.")
@click.option("--text", is_flag=True, help="Sign INPUT as text, whose line ends may change on the way.")
@click.option("--mail", is_flag=True, help="INPUT is a mail; the result is the signed mail.")
@_naming_options
@click.option(
    "-o", "--output", metavar="OUT", type=PATH, help="Where the result goes. [default: beside INPUT]"
)
@click.option("--force", is_flag=True, help="Replace OUT if it exists.")
@click.pass_obj
def sign_command(
    cli: Cli,
    source: str,
    key: str,
    text: bool,
    mail: bool,
    naming: _Naming,
    output: str | None,
    force: bool,
) -> None:
    """Sign INPUT with OpenPGP. The result is a detached signature in ASCII armor.

    With --mail, it is the mail with its signature (PGP/MIME, RFC 3156). Header fields such as From and
    Subject are not signed.

    \b
    Examples:
      tokensign openpgp sign release.tar.gz --key alice --certificate alice.asc
      tokensign openpgp sign letter.eml --mail --key alice -o signed.eml
    """
    from tokensign.algorithms import KeyUsage
    from tokensign.openpgp.armor import armor
    from tokensign.openpgp.signature import SigningKey, sign_detached
    from tokensign.smime.canonical import canonical_lines
    from tokensign.smime.pgp_mime import write_pgp_mime_signed

    if text and mail:
        raise UsageError("--text and --mail are two things; a mail is signed in the form that it is sent in")
    target = output or default_output(source, ".eml" if mail else ".asc")
    with contextlib.ExitStack() as stack:
        content = stack.enter_context(open_input(source))
        destination = stack.enter_context(open_output(target, force=force))
        action = f"sign {described(source, content)}"
        signer = stack.enter_context(find_key(cli, key, KeyUsage.SIGN, action=action))
        announce_pins(cli, [signer], "signature")
        watched = stack.enter_context(cli.output.progress(content, f"signing {source}"))
        public = _public_key(signer, naming, encrypts=False)
        signing_key = SigningKey(signer, public)
        if mail:
            write_pgp_mime_signed(watched, signing_key, destination)
        else:
            pieces = canonical_lines(chunks(watched)) if text else chunks(watched)
            destination.write(armor("SIGNATURE", sign_detached(pieces, signing_key, text=text)))
    cli.output.status(f"{named(target)}: signed by the OpenPGP key {_shown(public)} ({signing_key.scheme})")
    document = {
        "output": target,
        "fingerprint": _shown(public),
        "scheme": str(signing_key.scheme),
        "mail": mail,
    }
    cli.output.document(document, on_stderr=target == STANDARD_STREAM)


@openpgp.command("decrypt")
@click.argument("source", metavar="INPUT", type=PATH)
@click.option("--key", metavar="KEY", required=True, help="The key to decrypt with.")
@click.option("--mail", is_flag=True, help="INPUT is a mail that is encrypted with PGP/MIME.")
@click.option("--packets", is_flag=True, help="Keep the signature: OUT is the OpenPGP message inside.")
@_naming_options
@click.option("-o", "--output", metavar="OUT", type=PATH, required=True, help="Where the content goes.")
@click.option("--force", is_flag=True, help="Replace OUT if it exists.")
@click.pass_obj
def decrypt_command(
    cli: Cli,
    source: str,
    key: str,
    mail: bool,
    packets: bool,
    naming: _Naming,
    output: str,
    force: bool,
) -> None:
    """Decrypt an OpenPGP message with a key on a token.

    OUT appears only when all of INPUT was decrypted and found unchanged. A message without protection against
    change is refused. Signatures inside are not verified; --packets keeps them for `gpg --verify`.

    \b
    Examples:
      tokensign openpgp decrypt report.pdf.gpg --key alice-mail --certificate alice.asc -o report.pdf
      tokensign openpgp decrypt letter.eml --mail --key alice-mail -o opened.eml
    """
    from tokensign.algorithms import KeyUsage
    from tokensign.openpgp.decrypt import decrypt, decrypt_packets
    from tokensign.openpgp.message import Literal
    from tokensign.openpgp.session_key import RecipientKey
    from tokensign.smime.pgp_mime import open_pgp_mime_encrypted

    if mail and packets:
        raise UsageError("--packets is for OpenPGP messages, and --mail was given")
    with contextlib.ExitStack() as stack:
        message = stack.enter_context(open_input(source))
        destination = stack.enter_context(open_output(output, force=force, mode=0o600))
        action = f"decrypt {described(source, message)}"
        private = stack.enter_context(find_key(cli, key, KeyUsage.DECRYPT, action=action))
        announce_pins(cli, [private], "decryption")
        watched = stack.enter_context(cli.output.progress(message, f"decrypting {source}"))
        public = _public_key(private, naming, encrypts=True)
        keys = [RecipientKey(private, public)]
        if packets:
            decrypt_packets(watched, keys, destination)
            found = Literal()
        else:
            found = (open_pgp_mime_encrypted if mail else decrypt)(watched, keys, destination)
    _report_decrypted(cli, output, found, packets=packets)


def _report_decrypted(cli: Cli, output: str, found: Literal, *, packets: bool) -> None:
    cli.output.status(f"{named(output)}: decrypted (unchanged since it was encrypted)")
    if packets:
        cli.output.status(
            f"{named(output)}: the OpenPGP message inside; `gpg --decrypt` verifies and reads it"
        )
    elif found.signed:
        by = f" by {', '.join(found.signers)}" if found.signers else ""
        cli.output.status(
            f"{named(output)}: signed{by}, which was not verified; --packets keeps the signature"
        )
    document = {
        "output": output,
        "authenticated": True,
        "signed": None if packets else found.signed,
        "signers": None if packets else list(found.signers),
        "signatures_verified": False,
    }
    cli.output.document(document, on_stderr=output == STANDARD_STREAM)


def _public_key(
    key: HeldKey, naming: _Naming, *, encrypts: bool, otherwise: datetime | None = None
) -> PublicKey:
    """What OpenPGP calls a key.

    Args:
        key: The key.
        naming: The options.
        encrypts: Whether it is for encryption.
        otherwise: When it was made, if nothing tells.

    Raises:
        UsageError: Nothing tells when it was made, or two options do.
    """
    from tokensign.openpgp.armor import unarmored
    from tokensign.openpgp.public_key import find_public_key, public_key

    if naming.certificate is not None:
        if naming.created or naming.rfc9580:
            raise UsageError("--certificate says when the key was made and in which format it is")
        with open_input(naming.certificate) as file, unarmored(file) as stream:
            return find_public_key(stream, key.public_key, encrypts=encrypts)
    created = naming.created or min((one.not_before for one in key.certificates), default=otherwise)
    if created is None:
        raise UsageError(
            f"nothing tells when the key {key.info.label} was made, and OpenPGP needs it",
            hint="name the key's OpenPGP certificate with --certificate, or give a time with --created, "
            "always the same",
        )
    if created > datetime.now(UTC):
        raise UsageError(f"the OpenPGP key would be made in the future: {created:%Y-%m-%d}")
    return public_key(key.public_key, created, encrypts=encrypts, native=naming.rfc9580)


def _shown(key: PublicKey) -> str:
    return key.fingerprint.hex().upper()
