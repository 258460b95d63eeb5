"""`tokensign key import`, `retire` and `destroy`: the beginning and the end of a key, each with a record."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import click

from tokensign.cli.command import PATH, PIN_SOURCE, Cli, Command
from tokensign.cli.database import database_option, open_database
from tokensign.cli.inputs import confirm, key_name, open_token, password_from
from tokensign.errors import MalformedError, UsageError
from tokensign.files import read_small

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
    from cryptography.hazmat.primitives.serialization.pkcs12 import PKCS12KeyAndCertificates

    from tokensign.algorithms import KeyUsage
    from tokensign.certificates import Certificate
    from tokensign.store import Store
    from tokensign.token import KeyInfo

__all__ = ["destroy", "import_", "retire"]


@click.command("import", cls=Command)
@click.argument("file", metavar="FILE.p12", type=PATH)
@click.option(
    "--password-source",
    metavar="SPEC",
    type=PIN_SOURCE,
    default="prompt",
    help="Where its password comes from.",
)
@click.option("--label", help="CKA_LABEL. [default: the friendly name in FILE.p12]")
@click.option(
    "--usage",
    type=click.Choice(["sign", "decrypt", "both"]),
    help="What it may be used for. [default: what its certificate says]",
)
@database_option
@click.pass_obj
def import_(
    cli: Cli, file: str, password_source: str, label: str | None, usage: str | None, database: str | None
) -> None:
    """Bring the key and the certificates of FILE.p12 to the token.

    FILE.p12 is PKCS #12 (RFC 7292). This is for keys that exist already, so that old mail stays readable. The
    token marks such a key for ever as not born there, `key list` and `key check` say so, and copies may exist
    elsewhere: destroy FILE.p12 and its backups, and sign with a key that was generated on the token.

    \b
    Example:
      tokensign key import alice.p12 --password-source file:p12-password --label alice-old
    """
    from cryptography.hazmat.primitives.serialization import Encoding

    from tokensign.algorithms import KeyUsage
    from tokensign.certificates import Certificate
    from tokensign.token import import_certificate, import_key, list_certificates

    content, private_key = _read(file, password_from(password_source, file).reveal())
    friendly = (content.cert and content.cert.friendly_name) or b""
    wanted = label or friendly.decode("utf-8", "replace")
    inside = [one.certificate for one in (content.cert, *content.additional_certs) if one]
    certificates = [Certificate(one.public_bytes(Encoding.DER)) for one in inside]
    own = certificates[0] if content.cert else None
    purpose = KeyUsage(usage) if usage else _usage_of(own, private_key)
    with open_database(cli, database) as store, open_token(cli, read_write=True) as token:
        info = import_key(token, wanted, private_key, purpose)
        _record(store, "key imported", info, {"born": "elsewhere"})
        there = {stored.certificate for stored in list_certificates(token)}
        for certificate in certificates:
            if certificate not in there:
                import_certificate(token, certificate)
    cli.output.status(
        f"imported the {info.spec} key {info.label}, which was not born on the token: {info.uri}"
    )
    cli.output.document(
        {"key": str(info.uri), "type": info.spec, "local": info.local, "certificates": len(certificates)}
    )


@click.command(cls=Command)
@click.argument("name", metavar="KEY")
@click.option("--yes", is_flag=True, help="Do not ask.")
@database_option
@click.pass_obj
def retire(cli: Cli, name: str, yes: bool, database: str | None) -> None:
    """Let KEY sign no more. It still decrypts, and its certificates stay.

    The token itself refuses signatures from then on. Do this when a new key has taken over: what was
    encrypted to the old one stays readable. A key that may be in foreign hands is revoked instead.

    \b
    Example:
      tokensign key retire alice
    """
    from tokensign.token import find_key, retire_key

    wanted = key_name(name)
    with open_database(cli, database) as store, open_token(cli, name, read_write=True) as token:
        found = find_key(token, wanted)
        if not yes:
            confirm(f"Let the key {found.label} ({found.spec}) sign no more?", "nothing was changed")
        info = retire_key(token, found)
        _record(store, "key retired", info, {})
    left = ", ".join(sorted(info.usages)) or "nothing"
    cli.output.status(f"retired the key {info.label}; it is left to: {left}")
    cli.output.document({"retired": str(info.uri), "usages": sorted(info.usages)})


@click.command(cls=Command)
@click.argument("name", metavar="KEY")
@click.option("--reason", default="", help="Why, for the record.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@database_option
@click.pass_obj
def destroy(cli: Cli, name: str, reason: str, yes: bool, database: str | None) -> None:
    """Destroy KEY for ever, with a record of it. Nothing that was encrypted to it can be read again.

    The record is in the audit log before the key is destroyed, and says afterwards that it was. Its
    certificates stay, because old signatures are verified with them.

    \b
    Example:
      tokensign key destroy alice-old --reason "replaced in 2024"
    """
    from tokensign.token import delete_key, find_private_or_secret_key

    wanted = key_name(name)
    with open_database(cli, database) as store, open_token(cli, name, read_write=True) as token:
        found = find_private_or_secret_key(token, wanted)
        if not yes:
            confirm(f"Destroy the key {found.label} ({found.spec}) for ever?", "nothing was destroyed")
        _record(store, "key destruction begun", found, {"reason": reason})
        delete_key(token, found)
        _record(store, "key destroyed", found, {"reason": reason})
    cli.output.status(f"destroyed the key {found.label}, and recorded it")
    cli.output.document({"destroyed": str(found.uri), "reason": reason})


def _read(file: str, password: bytes) -> tuple[PKCS12KeyAndCertificates, PrivateKeyTypes]:
    """What is in a PKCS #12 file.

    Raises:
        MalformedError: It is none, the password is wrong, or there is no private key in it.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import pkcs12

    try:
        content = pkcs12.load_pkcs12(read_small(file), password)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise MalformedError(
            f"{file} is no PKCS #12 file, or this is not its password",
            hint="see what it is with `openssl pkcs12 -info`",
        ) from None
    if content.key is None:
        raise MalformedError(
            f"there is no private key in {file}", hint="import certificates with `cert import`"
        )
    return content, content.key


def _usage_of(certificate: Certificate | None, private_key: PrivateKeyTypes) -> KeyUsage:
    """What a certificate says that its key is for; where it says nothing, RSA keys do both, others sign."""
    from cryptography.hazmat.primitives.asymmetric import rsa

    from tokensign.algorithms import KeyUsage

    if certificate is None:
        raise UsageError(
            "there is no certificate of the key in the file", hint="say with --usage what it is for"
        )
    usage = certificate.key_usage
    if usage is None:
        return KeyUsage.BOTH if isinstance(private_key, rsa.RSAPrivateKey) else KeyUsage.SIGN
    if not usage & {"key_encipherment", "key_agreement"}:
        return KeyUsage.SIGN
    return KeyUsage.BOTH if usage & {"digital_signature", "non_repudiation"} else KeyUsage.DECRYPT


def _record(store: Store, action: str, info: KeyInfo, details: dict[str, str]) -> None:
    from tokensign.audit.changes import record_change
    from tokensign.token.public_key import public_key_info

    about = {"key": str(info.uri), "type": info.spec} | details
    if info.public_key is not None:
        about["key_sha256"] = hashlib.sha256(public_key_info(info.public_key)).hexdigest()
    with store.writing() as connection:
        record_change(connection, action, about)
