"""Whom a message is for: the options of `encrypt` and `authenticate`, and what they name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from tokensign.cli.command import PATH, PIN_SOURCE, Cli
from tokensign.cli.inputs import (
    open_holder,
    open_token,
    password_from,
    read_certificates,
    require_valid_now,
)
from tokensign.errors import UnsupportedError, UntrustedError, UsageError

if TYPE_CHECKING:
    import contextlib
    from collections.abc import Callable, Sequence
    from typing import Any

    from tokensign.certificates import Certificate
    from tokensign.cms.encrypt import Recipient
    from tokensign.keys import KeyTransport
    from tokensign.token import Token

__all__ = ["recipient_options", "recipients_from", "transport_from"]

_OPTIONS: Final = (
    click.option(
        "--to",
        "recipients",
        metavar="CERT",
        type=PATH,
        multiple=True,
        help="Who it is for: a certificate file; or on a token the address, subject or URI of a certificate, "
        "or the URI of an AES key; may be repeated.",
    ),
    click.option(
        "--password-source", metavar="SPEC", type=PIN_SOURCE, help="A password from there opens it, too."
    ),
    click.option(
        "--key-transport",
        type=click.Choice(["oaep", "pkcs1"]),
        default="oaep",
        show_default=True,
        help="Encrypts the key to RSA certificates.",
    ),
    click.option(
        "--oaep-digest",
        type=click.Choice(["sha1", "sha224", "sha256", "sha384", "sha512"]),
        default="sha256",
        show_default=True,
        help="The hash of OAEP and its MGF1.",
    ),
)


def recipient_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the parameters `recipients`, `password_source`, `key_transport` and `oaep_digest`."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def recipients_from(
    cli: Cli, stack: contextlib.ExitStack, names: Sequence[str], password_source: str | None
) -> list[tuple[str, Recipient]]:
    """The recipients that the options name, each with what to call it.

    Args:
        cli: The common options.
        stack: Keeps tokens open as long as their keys are needed.
        names: As --to takes them.
        password_source: As --password-source takes it, or None.

    Raises:
        UsageError: The options name nobody.
    """
    if not names and password_source is None:
        raise UsageError(
            "the message is for nobody", hint="name recipients with --to, or a --password-source"
        )
    found = [entry for name in names for entry in _named(cli, stack, name)]
    return found if password_source is None else [*found, _password(password_source)]


def transport_from(key_transport: str, oaep_digest: str) -> KeyTransport:
    """How keys reach RSA certificates, as --key-transport and --oaep-digest say."""
    from tokensign.algorithms import digest
    from tokensign.keys import OaepTransport, Pkcs1Transport

    if key_transport == "pkcs1":
        return Pkcs1Transport()
    return OaepTransport(digest(oaep_digest), digest(oaep_digest))


def _named(cli: Cli, stack: contextlib.ExitStack, name: str) -> Sequence[tuple[str, Recipient]]:
    """What --to names, with their names: certificates in a file, or a certificate or AES key on a token.

    What has an @ or an = in it and is no file is the address or the subject of a certificate on the token.
    """
    from tokensign.uri import KeyUri, is_uri

    if not is_uri(name) and (Path(name).exists() or not set("@=") & set(name)):
        return [_certificate(certificate) for certificate in read_certificates([name])]
    from tokensign.cms.recipients.kek import KekRecipient

    if is_uri(name) and KeyUri.parse(name).type == "secret-key":
        key = stack.enter_context(open_holder(cli, name)).open_secret_key(name)
        return [(f"the key {key.label}", KekRecipient(key))]
    token = stack.enter_context(open_token(cli, name))
    return [_certificate(_certificate_on(token, name))]


def _certificate_on(token: Token, name: str) -> Certificate:
    """The newest certificate with a name on a token that can be encrypted to, if it is one key's.

    Raises:
        KeyNotFoundError: None has the name.
        AmbiguousNameError: Several keys' certificates have it; they are listed.
    """
    from tokensign.token import find_certificate, find_certificates

    found = [stored.certificate for stored in find_certificates(token, name)]
    usable = [certificate for certificate in found if _is_usable(certificate)] or found
    if len({certificate.public_key_info for certificate in usable}) > 1:
        return find_certificate(token, name).certificate
    return max(usable, key=lambda certificate: certificate.not_before)


def _is_usable(certificate: Certificate) -> bool:
    try:
        _certificate(certificate)
    except (UntrustedError, UnsupportedError):
        return False
    return True


def _certificate(certificate: Certificate) -> tuple[str, Recipient]:
    """A recipient's certificate; refused where it is not valid now or was not issued for encryption."""
    from tokensign.pki.purpose import check_encryption_use

    require_valid_now(certificate, "ask the recipient for a current one")
    check_encryption_use(certificate)
    return certificate.subject, certificate


def _password(source: str) -> tuple[str, Recipient]:
    from tokensign.cms.recipients.password import PasswordRecipient

    return "a password", PasswordRecipient(password_from(source, "the message", repeat=True))
