"""`tokensign sign`."""

from __future__ import annotations

import contextlib
import io
import mimetypes
import re
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import click

from tokensign.algorithms import SIGNATURE_FAMILIES
from tokensign.cli.command import PATH, Cli, Command
from tokensign.cli.forms import FORMS, LEVELS, written_as, written_as_smime
from tokensign.cli.inputs import (
    announce_pins,
    default_output,
    described,
    read_certificates,
)
from tokensign.cli.output import named
from tokensign.cli.remote import find_signers, service_option
from tokensign.cli.timestamp import extension_means
from tokensign.cli.trust import TrustOptions, trust_options
from tokensign.errors import BadSignatureError, UsageError
from tokensign.files import STANDARD_STREAM, chunks, open_input, open_output, spool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from tokensign.cli.remote import SigningKey
    from tokensign.cms.content_info import Content
    from tokensign.cms.signed import SigningOptions
    from tokensign.cms.signed_data import SignedData, SignerInfo

__all__ = ["sign"]


@click.command(cls=Command)
@click.argument("source", metavar="INPUT", type=PATH)
@click.option(
    "--key", "keys", metavar="KEY", multiple=True, required=True, help="Who signs; may be repeated."
)
@click.option(
    "-o", "--output", metavar="OUT", type=PATH, help="Where the result goes. [default: beside INPUT]"
)
@click.option(
    "--attached/--detached", default=False, help="Put the content into the message, or not (default)."
)
@click.option("--form", type=FORMS, default="der", show_default=True)
@click.option("--digest", metavar="NAME", help="sha256, sha384, sha512, sha3-256 ... [default: the key's]")
@click.option("--scheme", type=click.Choice(SIGNATURE_FAMILIES), help="[default: the key's]")
@click.option(
    "--chain", metavar="FILE", type=PATH, multiple=True, help="Certificates to include besides the token's."
)
@click.option(
    "--add-to", "existing", metavar="EXISTING", type=PATH, help="Add the signature to this message."
)
@click.option("--level", type=LEVELS, help="The level of CAdES. [default: b-b]")
@click.option("--tsa", metavar="URL", help="The timestamp authority, for b-t, b-lt and b-lta.")
@click.option(
    "--mime-type", metavar="TYPE", help="Sign the media type of INPUT too. [default: with --level, guessed]"
)
@click.option(
    "--countersign", metavar="EXISTING", type=PATH, help="Sign a signature of this message instead of INPUT."
)
@click.option(
    "--signer",
    metavar="NUMBER",
    help="Which signature is countersigned, as `inspect` counts; 1.2 is the second countersignature of the "
    "first. [default: the only one]",
)
@click.option(
    "--identifier",
    type=click.Choice(["issuer", "ski"]),
    default="issuer",
    show_default=True,
    help="Name the certificate by issuer and serial number, or by its key identifier.",
)
@click.option("--no-certificates", is_flag=True, help="Leave the certificates out of the message.")
@click.option("--check/--no-check", default=True, help="Verify each fresh signature (default), or not.")
@click.option("--force", is_flag=True, help="Replace OUT if it exists.")
@service_option
@trust_options
@click.pass_obj
def sign(
    cli: Cli,
    source: str,
    keys: tuple[str, ...],
    output: str | None,
    attached: bool,
    form: str,
    digest: str | None,
    scheme: str | None,
    chain: tuple[str, ...],
    existing: str | None,
    level: str | None,
    tsa: str | None,
    mime_type: str | None,
    countersign: str | None,
    signer: str | None,
    identifier: str,
    no_certificates: bool,
    check: bool,
    force: bool,
    service: str | None,
    trusting: TrustOptions,
) -> None:
    """Sign INPUT with a key on a token. The result is a CMS message (RFC 5652).

    A KEY is named by its label or CKA_ID, by an e-mail address, the subject or the SHA-256 fingerprint of
    its certificate, by file:CERT, or by a pkcs11: URI. Its newest valid certificate that is meant for
    signatures is taken.

    With --form smime, INPUT is taken for a MIME entity if it begins with MIME header fields; anything
    else is wrapped into one.

    With --level, the signature outlives its certificate: b-t adds a timestamp, b-lt what is needed to
    validate it later (from --crl, --ocsp and the servers that the certificates name), b-lta a timestamp over
    all of that. --trust tells whom to trust for it.

    \b
    Examples:
      tokensign sign contract.pdf --key alice
      tokensign sign contract.pdf --key alice@acme.example
      tokensign sign contract.pdf --key alice --scheme rsa-pss --form pem -o contract.pem
      tokensign sign contract.pdf --key bob --add-to contract.pdf.p7s -o both.p7s
      tokensign sign contract.pdf --key notary --countersign contract.pdf.p7s -o witnessed.p7s
      tokensign sign contract.pdf --key acme/alice --service https://signing.acme.example
      tokensign sign contract.pdf --key alice --level b-lta --tsa http://tsa.example --trust ca.pem
    """
    from tokensign import algorithms
    from tokensign.cms.signed import SigningOptions

    _check_together(existing, countersign, signer, level, form, no_certificates=no_certificates)
    changed = existing or countersign
    if level and form != "smime":  # an entity of MIME says its own type
        mime_type = mime_type or mimetypes.guess_type(source)[0]
    options = SigningOptions(
        family=scheme,
        digest=algorithms.digest(digest) if digest else None,
        identifier="ski" if identifier == "ski" else "issuer",
        include_certificates=not no_certificates,
        extra_certificates=read_certificates(chain),
        mime_type=mime_type,
        check=check,
    )
    raising = _raising(cli, level, tsa, trusting)
    target = output or default_output(source, ".eml" if form == "smime" else ".p7m" if attached else ".p7s")
    with contextlib.ExitStack() as stack:
        content = stack.enter_context(open_input(source))
        destination = stack.enter_context(open_output(target, force=force))
        action = f"sign {described(source, content)}"
        signers = stack.enter_context(find_signers(cli, keys, service, action=action))
        announce_pins(cli, signers, "signature")
        watched = stack.enter_context(cli.output.progress(content, f"signing {source}"))
        if changed:
            message = _read_existing(stack, changed)
            attached = message.content is not None
            with written_as(form, destination) as output_form, raising(watched, output_form) as result:
                if existing:
                    _add(message, signers, watched, result, options)
                else:
                    _countersign(message, signer, signers, watched, result, options)
        elif form == "smime":
            _sign_smime(watched, signers, destination, options, raising, attached=attached, source=source)
        else:
            with written_as(form, destination) as output_form, raising(watched, output_form) as result:
                _sign_plain(watched, signers, result, options, attached=attached)
    _report(cli, target, signers, options, attached=attached, form=form)


def _check_together(
    existing: str | None,
    countersign: str | None,
    signer: str | None,
    level: str | None,
    form: str,
    *,
    no_certificates: bool,
) -> None:
    """Refuse options that contradict each other."""
    if existing and countersign:
        raise UsageError("--add-to and --countersign are two things; do one after the other")
    if signer and not countersign:
        raise UsageError("--signer belongs to --countersign")
    if (existing or countersign) and form == "smime":
        raise UsageError(f"{'--add-to' if existing else '--countersign'} makes der or pem, not smime")
    if level and countersign:
        raise UsageError("--level is for signatures, not for countersignatures")
    if level and no_certificates:
        raise UsageError("every level of CAdES has the signer's certificate in the message")


def _sign_plain(
    content: BinaryIO,
    signers: Sequence[SigningKey],
    output: BinaryIO,
    options: SigningOptions,
    *,
    attached: bool,
) -> None:
    from tokensign.cms.signed import sign_attached, sign_detached

    if attached:
        sign_attached(content, signers, output, options)
    else:
        output.write(sign_detached(content, signers, options))


def _raising(
    cli: Cli, level: str | None, tsa: str | None, trusting: TrustOptions
) -> Callable[[BinaryIO, BinaryIO], AbstractContextManager[BinaryIO]]:
    """What takes a fresh signature over some content, and writes it with its timestamps."""
    from tokensign.cades.levels import Level

    wanted = Level(level or "b-b")
    if wanted is Level.B_B:
        if tsa is not None:
            raise UsageError("--tsa belongs to --level b-t, b-lt or b-lta")
        return lambda _, output: contextlib.nullcontext(output)
    means = extension_means(cli, wanted, tsa, trusting)

    @contextlib.contextmanager
    def raising(content: BinaryIO, output: BinaryIO) -> Iterator[BinaryIO]:
        from tokensign.cades.extend import extend_signatures
        from tokensign.cms.signed_data import read_signed_data

        start = content.tell()
        with spool() as fresh:
            yield fresh
            fresh.seek(0)
            message = read_signed_data(fresh)
            content.seek(start)
            extend_signatures(message, wanted, means, output, None if message.content else content)

    return raising


def _sign_smime(
    content: BinaryIO,
    signers: Sequence[SigningKey],
    destination: BinaryIO,
    options: SigningOptions,
    raising: Callable[[BinaryIO, BinaryIO], AbstractContextManager[BinaryIO]],
    *,
    attached: bool,
    source: str,
) -> None:
    from tokensign.cms.signed import schemes_of, sign_attached, sign_detached
    from tokensign.smime.compose import as_entity, write_multipart_signed

    if attached:
        with (
            written_as_smime(content, source, "signed-data", destination) as (entity, message),
            raising(entity, message) as result,
        ):
            sign_attached(entity, signers, result, options)
        return
    with as_entity(content, None if source == STANDARD_STREAM else Path(source).name) as entity:
        signature = io.BytesIO()
        with raising(entity, signature) as result:
            result.write(sign_detached(entity, signers, options))
        entity.seek(0)
        digests = [scheme.digest for scheme in schemes_of(signers, options)]
        write_multipart_signed(entity, signature.getvalue(), digests, destination)


def _read_existing(stack: contextlib.ExitStack, name: str) -> SignedData:
    from tokensign.cms.signed_data import read_signed_data
    from tokensign.smime.unwrap import open_message

    opened = stack.enter_context(open_message(stack.enter_context(open_input(name))))
    if opened.content is not None:
        raise UsageError(
            "signatures are not added to a multipart/signed mail", hint="sign it with all keys at once"
        )
    return read_signed_data(opened.cms)


def _add(
    message: SignedData,
    signers: Sequence[SigningKey],
    content: BinaryIO,
    output: BinaryIO,
    options: SigningOptions,
) -> None:
    """Add signatures; INPUT must be what the message signs, also where the message has it in itself."""
    from tokensign.cms.signed import add_signatures

    if message.content is None:
        _require_signed(message, content)
        add_signatures(message, signers, output, options, content)
    else:
        _require_held(message.content, content)
        add_signatures(message, signers, output, options)


def _countersign(
    message: SignedData,
    number: str | None,
    signers: Sequence[SigningKey],
    content: BinaryIO,
    output: BinaryIO,
    options: SigningOptions,
) -> None:
    """Sign a signature; INPUT must be what the message signs, and no signature may be about anything else."""
    from tokensign.cms.countersignature import add_countersignatures

    path = _path_of(number, message.signer_infos)
    if message.content is not None:
        _require_held(message.content, content)
        content.seek(0)
    _require_signed(message, content)
    add_countersignatures(message, signers, output, options, path=path)


def _path_of(number: str | None, signatures: Sequence[SignerInfo]) -> list[int]:
    """The signature that "1.2" names, counted from 0; without a name the only one."""
    from tokensign.cms.countersignature import countersignatures_of

    if number is None:
        if len(signatures) > 1:
            raise UsageError(
                f"the message has {len(signatures)} signatures", hint="say which one with --signer NUMBER"
            )
        number = "1"
    if not re.fullmatch(r"[1-9][0-9]{0,3}(\.[1-9][0-9]{0,3})*", number):
        raise UsageError(
            f"{number!r} names no signature", hint="write 1, 2, 1.1 ... as `inspect` counts them"
        )
    path = [int(part) - 1 for part in number.split(".")]
    for position in path:
        if position >= len(signatures):
            raise UsageError(
                f"there is no signature {number} in the message",
                hint="`tokensign inspect` lists those there are",
            )
        signatures = countersignatures_of(signatures[position])
    return path


def _require_held(held: Content, content: BinaryIO) -> None:
    """Refuse content that is not what a message has in itself."""
    if any(content.read(len(piece)) != piece for piece in held.chunks()) or content.read(1):
        raise UsageError("INPUT is not the content that the message holds")


def _require_signed(message: SignedData, content: BinaryIO) -> None:
    """Refuse content that is not what the signatures of a message are about."""
    from tokensign.cms.verify import verify_signatures

    start = content.tell()
    results = verify_signatures(message, chunks(content), legacy=True)
    content.seek(start)
    if any(isinstance(result.error, BadSignatureError) for result in results):
        raise UsageError("INPUT is not the content that the message signs")


def _report(
    cli: Cli,
    target: str,
    signers: Sequence[SigningKey],
    options: SigningOptions,
    *,
    attached: bool,
    form: str,
) -> None:
    from tokensign.cms.signed import schemes_of

    rows = []
    for signer, scheme in zip(signers, schemes_of(signers, options), strict=True):
        name = signer.certificate.subject if signer.certificate else signer.info.label
        cli.output.status(f"{named(target)}: signed by {name} ({scheme})")
        rows.append({"key": str(signer.info.uri), "signer": name, "scheme": str(scheme)})
    cli.output.document(
        {"output": target, "form": form, "detached": not attached, "signers": rows},
        on_stderr=target == STANDARD_STREAM,
    )
