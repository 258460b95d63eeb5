"""`tokensign key`: generate, list, check and delete keys."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import click

from tokensign.cli.command import PATH, Cli, Group
from tokensign.cli.expiry import expiring_option, warn_of_expiry
from tokensign.cli.inputs import confirm, find_signer, key_name, open_token
from tokensign.cli.key_life import destroy, import_, retire
from tokensign.cli.output import named
from tokensign.cli.remote import list_remotely, service_option
from tokensign.errors import UsageError
from tokensign.files import STANDARD_STREAM, open_output

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tokensign.token import KeyInfo, ProtectionReport, StoredCertificate

__all__ = ["key"]


@click.group(cls=Group)
def key() -> None:
    """Generate, list, check and delete keys on a token."""


@key.command()
@click.argument("label")
@click.option(
    "--type",
    "kind",
    metavar="TYPE",
    required=True,
    help="rsa:2048 ... rsa:8192, ec:p256, ec:p384, ec:p521, ed25519, ed448, x25519, x448, ml-dsa-44, "
    "ml-dsa-65, ml-dsa-87, ml-kem-768, ml-kem-1024; or of a secret key aes:256, aes:192, aes:128.",
)
@click.option(
    "--usage",
    type=click.Choice(["sign", "decrypt", "both"]),
    help="What it may be used for. [default: both for RSA, sign for the others that can]",
)
@click.option(
    "--id",
    "identifier",
    metavar="HEX",
    help="CKA_ID. [default: made from the public key; random for a secret key]",
)
@click.pass_obj
def generate(cli: Cli, label: str, kind: str, usage: str | None, identifier: str | None) -> None:
    """Generate a key pair or an AES key on the token, where it stays.

    Only the public half of a pair leaves it. An AES key wraps the keys of messages for all who share it
    (`encrypt --to "pkcs11:object=LABEL;type=secret-key"`).

    \b
    Examples:
      tokensign key generate alice --type rsa:3072
      tokensign key generate archive --type aes:256
    """
    from tokensign.algorithms import KeySpec, KeyUsage
    from tokensign.token import find_secret_key, generate_key, generate_secret_key

    key_id = _hexadecimal(identifier)
    document: dict[str, Any]
    if kind.lower().startswith("aes:"):
        if usage:
            raise UsageError("AES keys wrap and unwrap, and --usage has no meaning for them")
        bits = _aes_bits(kind)
        with open_token(cli, read_write=True) as token:
            made = generate_secret_key(token, label, bits, key_id=key_id)
            document = _document(find_secret_key(token, made.uri))
    else:
        spec = KeySpec.parse(kind)
        wanted = KeyUsage(usage) if usage else KeyUsage.BOTH if spec.algorithm == "rsa" else None
        with open_token(cli, read_write=True) as token:
            document = _document(generate_key(token, label, spec, wanted, key_id=key_id))
    cli.output.status(f"generated {document['type']} key {label}: {document['uri']}")
    cli.output.document(document)


@key.command("list")
@expiring_option
@service_option
@click.pass_obj
def list_keys(cli: Cli, expiring: int | None, service: str | None) -> None:
    """List the private keys and AES keys on a token, or at a service.

    A note tells which keys were not born on the token, and which are retired: they sign no more, though a
    certificate of theirs is for signatures.

    \b
    Examples:
      tokensign key list --token acme
      tokensign key list --expiring 30
      tokensign key list --service https://signing.acme.example
    """
    from tokensign import token as tokens

    if service is not None:
        if expiring is not None:
            raise UsageError("--expiring is for the keys on a token here")
        list_remotely(cli, service)
        return
    with open_token(cli) as token:
        keys = tokens.list_keys(token) + tokens.list_secret_keys(token)
        stored = tokens.list_certificates(token)
    found = [_document(entry) | _life(entry, stored) for entry in keys]
    if expiring is not None:
        found = [
            entry for entry in found if warn_of_expiry(cli, entry["label"], entry["valid_until"], expiring)
        ]
    cli.output.document(found)
    notes = any(entry["notes"] for entry in found)
    cli.output.table(
        ("label", "type", "usages", "certificate", "id", *(("note",) if notes else ())),
        [
            (
                entry["label"],
                entry["type"],
                ", ".join(entry["usages"]),
                "yes" if entry["has_certificate"] else "no",
                entry["id"],
                *((", ".join(entry["notes"]),) if notes else ()),
            )
            for entry in found
        ],
        empty="There is no key on the token."
        if expiring is None
        else "No certificate of a key ends by then.",
    )


@key.command()
@click.argument("name", metavar="KEY")
@click.pass_obj
def show(cli: Cli, name: str) -> None:
    """Tell all about KEY. Its name is a label, a CKA_ID in hexadecimal, or a pkcs11: URI.

    A private key is also named by its certificate: an e-mail address, the subject, the SHA-256 fingerprint,
    or file:CERT. With --json, its public half is there as PEM, for a CA that issues a certificate for a key
    that cannot sign a request itself (x25519, ml-kem-768).

    \b
    Example:
      tokensign key show alice
    """
    from tokensign.token import find_private_or_secret_key, list_certificates

    wanted = key_name(name)
    with open_token(cli, name) as token:
        found = find_private_or_secret_key(token, wanted)
        document = _document(found) | _life(found, list_certificates(token))
    cli.output.document(document | {"public_key": _public_key(found)})
    unknown = {name for name in ("valid_until", "notes") if not document[name]}
    cli.output.fields({name: value for name, value in document.items() if name not in unknown})


@key.command()
@click.argument("name", metavar="KEY")
@click.option("--with-certificates", is_flag=True, help="Delete its certificates too.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def delete(cli: Cli, name: str, with_certificates: bool, yes: bool) -> None:
    """Delete KEY for ever. Nothing that was encrypted to it can be read again.

    `tokensign key destroy` does so with a record in the audit log.

    \b
    Example:
      tokensign key delete alice --with-certificates
    """
    from tokensign.token import delete_key, find_private_or_secret_key

    wanted = key_name(name)
    with open_token(cli, name, read_write=True) as token:
        found = find_private_or_secret_key(token, wanted)
        if not yes:
            confirm(f"Delete the key {found.label} ({found.spec}) for ever?", "nothing was deleted")
        delete_key(token, found, certificates=with_certificates)
    cli.output.status(f"deleted the key {found.label}")
    cli.output.document({"deleted": str(found.uri)})


@key.command()
@click.argument("name", metavar="[KEY]", required=False)
@click.option("--report", metavar="FILE", type=PATH, help="Write what is found as a signed report.")
@click.option("--sign-with", "signer", metavar="KEY", help="Who signs the report; may be the same key.")
@click.option("--force", is_flag=True, help="Replace FILE if it exists.")
@click.pass_obj
def check(cli: Cli, name: str | None, report: str | None, signer: str | None, force: bool) -> None:
    """Prove the protection of KEY, or of all keys.

    The attributes that the token reports are judged one by one. Exit code 3: a key is weak.

    A report is a CMS message with a JSON document that `tokensign verify` reads. It proves that the signer
    saw these answers of the token at that time, not that the token's hardware vouches for them.

    \b
    Examples:
      tokensign key check alice
      tokensign key check alice --report alice.p7m --sign-with auditor
    """
    from tokensign.token import check_key, list_keys, list_secret_keys, protection_statement

    if (report is None) is not (signer is None):
        raise UsageError("a report needs somebody who signs it", hint="give --report and --sign-with")
    wanted = key_name(name) if name else None
    with open_token(cli, name) as token:
        chosen = [wanted] if wanted else [*list_keys(token), *list_secret_keys(token)]
        found = [check_key(token, entry) for entry in chosen]
        if report and signer:
            _write_report(cli, protection_statement(token, found), signer, report, force=force)
    if report != STANDARD_STREAM:
        for entry in found:
            _tell(cli, entry)
    cli.output.document([_report_document(entry) for entry in found], on_stderr=report == STANDARD_STREAM)
    if not found:
        cli.output.text("There is no key on the token.")
    if cli.json and any(entry.weak for entry in found):
        raise click.exceptions.Exit(3)
    for entry in found:
        entry.require_strong()


def _write_report(cli: Cli, statement: bytes, signer: str, target: str, *, force: bool) -> None:
    from tokensign.cms.signed import sign_attached

    with find_signer(cli, signer) as found, open_output(target, force=force) as file:
        sign_attached(io.BytesIO(statement), [found], file)
        name = found.certificate.subject if found.certificate else found.info.label
    cli.output.status(f"{named(target)}: report signed by {name}")


def _tell(cli: Cli, report: ProtectionReport) -> None:
    colours = {"ok": "green", "weak": "red", "unknown": "yellow"}
    cli.output.text(f"{report.key.label} ({report.key.spec}): {'WEAK' if report.weak else 'protected'}")
    for finding in report.findings:
        verdict = finding.verdict.value
        mark = click.style(f"  {verdict:8}", fg=colours[verdict])
        cli.output.text(f"{finding.name:24} {finding.value:8} {finding.reason}", prefix=mark)


def _report_document(report: ProtectionReport) -> dict[str, Any]:
    return {
        "key": str(report.key.uri),
        "weak": report.weak,
        "findings": [
            {
                "attribute": finding.name,
                "value": finding.value,
                "verdict": finding.verdict.value,
                "reason": finding.reason,
            }
            for finding in report.findings
        ],
    }


def _document(found: KeyInfo) -> dict[str, Any]:
    return {
        "label": found.label,
        "id": found.id.hex(),
        "type": found.spec,
        "usages": sorted(found.usages),
        "uri": str(found.uri),
        "has_certificate": found.has_certificate,
        "sensitive": found.sensitive,
        "extractable": found.extractable,
        "always_sensitive": found.always_sensitive,
        "never_extractable": found.never_extractable,
        "private": found.private,
        "local": found.local,
        "always_authenticate": found.always_authenticate,
    }


def _life(found: KeyInfo, stored: Iterable[StoredCertificate]) -> dict[str, Any]:
    """Until when a certificate of a key is valid, and what there is to note about the key."""
    from tokensign.token.public_key import public_key_info

    info = None if found.public_key is None else public_key_info(found.public_key)
    own = [one.certificate for one in stored if one.certificate.public_key_info == info]
    notes = []
    if found.local is False:
        notes.append("not born here")
    if "sign" not in found.usages and any(one.signs_messages for one in own):
        notes.append("retired")
    ends = max((one.not_after for one in own), default=None)
    return {"valid_until": ends and ends.isoformat(), "notes": notes}


def _public_key(found: KeyInfo) -> str | None:
    """The public half, SubjectPublicKeyInfo as PEM."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    if found.public_key is None:
        return None
    return found.public_key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode("ascii")


def _aes_bits(kind: str) -> int:
    bits = kind.partition(":")[2]
    if bits not in {"128", "192", "256"}:
        raise UsageError(
            f"{kind!r} is not a key type that can be generated", hint="use aes:256, aes:192 or aes:128"
        )
    return int(bits)


def _hexadecimal(text: str | None) -> bytes | None:
    if text is None:
        return None
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise UsageError(f"{text!r} is not hexadecimal", hint="write it as in --id 01af") from None


for _command in (import_, retire, destroy):
    key.add_command(_command)
