"""What several commands read from their arguments: keys, certificates, times, trust."""

from __future__ import annotations

import contextlib
import hmac
import logging
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from tokensign.certificates import Certificate, load_certificates
from tokensign.errors import MalformedError, UntrustedError, UsageError
from tokensign.files import read_small

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tokensign.algorithms import KeyUsage
    from tokensign.cli.command import Cli
    from tokensign.keys import Password
    from tokensign.token import Module, Pin, Token, TokenKey
    from tokensign.uri import KeyUri

__all__ = [
    "MOMENT",
    "default_output",
    "find_key",
    "module_of",
    "open_token",
    "password_from",
    "pin_from",
    "read_certificates",
    "require_valid_now",
    "secret_key_from",
    "token_name",
    "trust_anchors",
]

_log: Final = logging.getLogger(__name__)


def module_of(cli: Cli) -> Module:
    """The PKCS#11 module that the options, or the usual places, name."""
    from tokensign.token import load_module

    return load_module(cli.module or cli.settings.module)


def token_name(cli: Cli) -> str | KeyUri | None:
    """The token that the options name, or None."""
    from tokensign.uri import KeyUri, is_uri

    name = cli.token or cli.settings.token
    return KeyUri.parse(name) if name and is_uri(name) else name


@contextlib.contextmanager
def open_token(cli: Cli, key: str | None = None, *, read_write: bool = False) -> Iterator[Token]:
    """The token that the options name, or that a key's URI names.

    Args:
        cli: The common options.
        key: A key's name; where it is a URI that says something of the token, it chooses the token.
        read_write: Whether the token will be changed.
    """
    from tokensign import token as tokens
    from tokensign.uri import KeyUri, is_uri

    uri = KeyUri.parse(key) if key and is_uri(key) else None
    name = token_name(cli)
    if uri is not None and (name is None or any((uri.token, uri.serial, uri.model, uri.manufacturer))):
        name = uri
    module = cli.module or (uri.module_path if uri else None) or cli.settings.module
    pin_source = cli.pin_source or (None if uri and uri.pin_source else cli.settings.pin_source)
    with tokens.open_token(module, name, pin_source, read_write=read_write) as opened:
        _log.info("module %s, token %s", opened.module.path, opened.uri)
        yield opened


@contextlib.contextmanager
def find_key(cli: Cli, name: str, usage: KeyUsage | None = None) -> Iterator[TokenKey]:
    """The key with a name, on a token that is open as long as the block lasts."""
    from tokensign.token import open_key

    with open_token(cli, name) as token:
        yield open_key(token, name, usage)


def pin_from(specification: str | None, purpose: str, *, repeat: bool = False) -> Pin:
    """A PIN from a source; where a new one is typed, it is typed twice.

    Args:
        specification: As --pin-source takes it; None: a prompt.
        purpose: What it is for, for the prompt.
        repeat: Whether it is a new PIN.
    """
    return _secret_from(specification or "prompt", "PIN", purpose, repeat=repeat)


def password_from(specification: str, purpose: str, *, repeat: bool = False) -> Password:
    """A password of a message; the sources are those of PINs.

    Args:
        specification: As --password-source takes it.
        purpose: What it is for, for the prompt.
        repeat: Whether it is a new password.
    """
    from tokensign.keys import Password

    return Password(_secret_from(specification, "password", purpose, repeat=repeat).reveal())


def secret_key_from(specification: str, purpose: str, *, repeat: bool = False) -> bytes:
    """A symmetric key in hexadecimal; the sources are those of PINs.

    Args:
        specification: As --secret-key-source takes it.
        purpose: What it is for, for the prompt.
        repeat: Whether it is a new key; one that is typed is then typed twice.

    Raises:
        UsageError: What comes is not hexadecimal; it is not repeated.
    """
    text = _secret_from(specification, "secret key", purpose, repeat=repeat).reveal()
    try:
        return bytes.fromhex(text.decode("ascii"))
    except ValueError:
        raise UsageError("the secret key is not hexadecimal", hint="write it as 00ff...") from None


def _secret_from(specification: str, what: str, purpose: str, *, repeat: bool) -> Pin:
    from tokensign.token import PromptSource, parse_pin_source

    source = parse_pin_source(specification, what)
    secret = source.get(purpose)
    if repeat and isinstance(source, PromptSource):
        again = source.get(f"{purpose}, once more")
        if not hmac.compare_digest(secret.reveal(), again.reveal()):
            raise UsageError(f"the two {what}s differ")
    return secret


def read_certificates(files: Iterable[str]) -> list[Certificate]:
    """All certificates in some files, in order.

    Raises:
        MalformedError: A file, which is named, holds none or a broken one.
    """
    found: list[Certificate] = []
    for file in files:
        try:
            found += load_certificates(read_small(file))
        except MalformedError as error:
            raise MalformedError(f"{file}: {error.message}", hint=error.hint) from error
    return found


def require_valid_now(certificate: Certificate, hint: str) -> None:
    """Refuse a certificate that has expired or is not valid yet.

    Raises:
        UntrustedError: It is not valid now; `hint` tells what to do.
    """
    now = datetime.now(UTC)
    if now > certificate.not_after:
        state = f"expired on {certificate.not_after:%Y-%m-%d}"
    elif now < certificate.not_before:
        state = f"is not valid before {certificate.not_before:%Y-%m-%d}"
    else:
        return
    raise UntrustedError(f"the certificate of {certificate.subject} {state}", hint=hint)


def trust_anchors(cli: Cli, files: Iterable[str]) -> tuple[Certificate, ...]:
    """The anchors in the files and folders that --trust names, or else the configuration."""
    from tokensign.pki.trust import load_anchors

    paths = tuple(map(Path, files)) or cli.settings.trust
    if not paths:
        raise UsageError(
            "no trust anchor is given",
            hint="name one with --trust or in the configuration; --signature-only judges no certificate",
        )
    return load_anchors(paths)


def default_output(source: str, suffix: str) -> str:
    """Where a result goes when -o is not given: beside its source, or from standard input to output."""
    return "-" if source == "-" else f"{source}{suffix}"


class _Moment(click.ParamType[datetime]):
    """A time in ISO 8601; without a zone it is UTC."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:  # noqa: ANN401 - click's
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} is not a time; write 2026-01-31 or 2026-01-31T12:00:00Z", param, ctx)
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


MOMENT = _Moment()
