"""What several commands read from their arguments: keys, certificates, secrets, times."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final, cast

import click

from tokensign.certificates import Certificate, load_certificates
from tokensign.cli.loading import load, load_all, load_module_of
from tokensign.errors import (
    KeyNotFoundError,
    MalformedError,
    TokenNotFoundError,
    UntrustedError,
    UsageError,
)
from tokensign.files import STANDARD_STREAM, read_small

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tokensign.algorithms import KeyUsage
    from tokensign.cli.command import Cli
    from tokensign.cli.holder import HeldKey, KeyHolder
    from tokensign.keys import Password
    from tokensign.token import Module, Pin, PinSource, Token
    from tokensign.uri import KeyUri

__all__ = [
    "MOMENT",
    "announce_pins",
    "confirm",
    "default_output",
    "described",
    "find_key",
    "find_signer",
    "key_name",
    "module_of",
    "modules_of",
    "named_token",
    "open_holder",
    "open_token",
    "password_from",
    "read_certificates",
    "require_valid_now",
    "secret_key_from",
    "source_from",
    "token_name",
]

_log: Final = logging.getLogger(__name__)


def module_of(cli: Cli) -> Module:
    """The PKCS#11 module that the options, or the usual places, name; of several the one with the token."""
    return _load(cli, cli.module, token_name(cli))


def modules_of(cli: Cli) -> list[Module]:
    """All PKCS#11 modules that the options, or the usual places, name."""
    if cli.module or not cli.settings.modules:
        return [load(cli, cli.module)]
    return load_all(cli, cli.settings.modules)


def _load(cli: Cli, named: Path | str | None, token: str | KeyUri | None) -> Module:
    configured = cli.settings.modules
    if named is None and len(configured) > 1:
        return load_module_of(cli, configured, token)
    return load(cli, named or next(iter(configured), None))


def token_name(cli: Cli) -> str | KeyUri | None:
    """The token that the options name, or None."""
    from tokensign.uri import KeyUri, is_uri

    name = cli.token or cli.settings.token
    if not name or not is_uri(name):
        return name
    uri = KeyUri.parse(name)
    _named_source(uri)  # refuses a PIN in it, also where none will be needed
    return uri


def named_token(cli: Cli, key: str | None = None) -> tuple[Path | None, str | KeyUri | None]:
    """The module and the token that the options name, or that a key's URI names; None where nothing does."""
    from tokensign.uri import KeyUri, is_uri

    uri = KeyUri.parse(key) if key and is_uri(key) else None
    name = token_name(cli)
    if uri is not None and (name is None or any((uri.token, uri.serial, uri.model, uri.manufacturer))):
        name = uri
    module = cli.module or (uri.module_path if uri else None)
    if module is not None:
        return Path(module), name
    configured = cli.settings.modules
    return configured[0] if len(configured) == 1 else None, name


@contextlib.contextmanager
def open_token(
    cli: Cli, key: str | None = None, *, read_write: bool = False, action: str = ""
) -> Iterator[Token]:
    """The token that the options name, or that a key's URI names.

    What is not found on the token may be on one of another module; then the error says which were not looked
    at.

    Args:
        cli: The common options.
        key: A key's name; where it is a URI that says something of the token, it chooses the token.
        read_write: Whether the token will be changed.
        action: What is going to be done, for a person who is asked for the PIN.
    """
    from tokensign import token as tokens
    from tokensign.uri import KeyUri, is_uri

    uri = KeyUri.parse(key) if key and is_uri(key) else None
    module, name = named_token(cli, key)
    pin_source = cli.pin_source or _named_source(uri, name) or cli.settings.pin_source
    try:
        with tokens.open_token(
            _load(cli, module, name),
            name,
            pin_source,
            read_write=read_write,
            allow_last_try=cli.last_try,
            action=action,
        ) as opened:
            _log.info("module %s, token %s", opened.module.path, opened.uri)
            yield opened
    except (TokenNotFoundError, KeyNotFoundError) as error:
        passed_over = tokens.modules_in_usual_places()[1:]
        looked_at_one = module is None and not cli.settings.modules
        if looked_at_one and passed_over and (isinstance(error, TokenNotFoundError) or not error.hint):
            others = f"not looked at: {', '.join(map(str, passed_over))}; --module names one of them"
            error.hint = f"{error.hint}; {others}" if error.hint else others
        raise


@contextlib.contextmanager
def open_holder(cli: Cli, key: str | None = None, *, action: str = "") -> Iterator[KeyHolder]:
    """Who holds the keys: the agent that serves the token, or else the token, as `open_token` has it.

    Args:
        cli: The common options.
        key: As for `open_token`.
        action: As for `open_token`; an agent asks for no PIN.
    """
    from tokensign.cli.holder import TokenHolder, agent_of

    module, name = named_token(cli, key)
    agent = agent_of(cli, module, name)
    if agent is not None:
        with agent:
            yield agent
    else:
        with open_token(cli, key, action=action) as token:
            yield TokenHolder(token)


@contextlib.contextmanager
def find_key(cli: Cli, name: str, usage: KeyUsage | None = None, *, action: str = "") -> Iterator[HeldKey]:
    """The key with a name, on a token that is open, or behind an agent, as long as the block lasts.

    Args:
        cli: The common options.
        name: As `key_name` reads it.
        usage: What it must be usable for.
        action: What is going to be done with it, for a person who is asked for the PIN: "sign letter.txt".
    """
    wanted = key_name(name)
    action = f"{action} with" if action else "use"
    with open_holder(cli, name, action=f"{action} the key {_called(name)}") as holder:
        yield holder.open_key(wanted, usage, require_non_extractable=cli.settings.require_non_extractable)


@contextlib.contextmanager
def find_signer(cli: Cli, name: str, *, action: str = "") -> Iterator[HeldKey]:
    """The signing key with a name, as `find_key`; refused without a certificate that others would accept.

    Raises:
        KeyNotFoundError: The key has no certificate.
        UntrustedError: It has none that is meant for signatures, or that one is not valid now.
    """
    from tokensign.algorithms import KeyUsage
    from tokensign.pki.purpose import Purpose, check_signing_use

    with find_key(cli, name, KeyUsage.SIGN, action=action) as signer:
        if signer.certificate is None:
            for certificate in signer.certificates[:1]:
                check_signing_use(certificate, Purpose.EMAIL_PROTECTION)
            raise KeyNotFoundError(
                f"the key {signer.info.label} has no certificate",
                hint="store one with `tokensign cert import`, or make one with `tokensign cert self-sign`",
            )
        require_valid_now(signer.certificate, "get a new one with `tokensign cert request` and `cert import`")
        yield signer


def key_name(name: str) -> str | Certificate:
    """What a name on the command line stands for: the first certificate of `file:PATH`, or else itself.

    Raises:
        MalformedError: There is no certificate in the file.
    """
    path = name.removeprefix("file:")
    return name if path == name else read_certificates([path])[0]


def described(source: str, stream: BinaryIO) -> str:
    """What is read, for a person: "report.pdf (12,345 bytes)".

    Args:
        source: Its name on the command line.
        stream: What can seek.
    """
    start = stream.tell()
    size = stream.seek(0, os.SEEK_END) - start
    stream.seek(start)
    name = "standard input" if source == STANDARD_STREAM else Path(source).name
    return f"{name} ({size:,} bytes)"


def announce_pins(cli: Cli, keys: Iterable[object], operation: str) -> None:
    """Say beforehand which keys want their PIN for each operation, where a person is asked for it.

    Args:
        cli: The common options.
        keys: Those that will be used once each; only keys on tokens want PINs.
        operation: What is done with them: "signature".
    """
    from tokensign.token import InteractiveSource, TokenKey

    wanting = [
        key
        for key in keys
        if isinstance(key, TokenKey)
        and key.info.always_authenticate
        and isinstance(key.token.credential.source, InteractiveSource)
    ]
    for key in wanting:
        cli.output.status(f"the key {key.info.label} wants its PIN for each {operation}")
    if wanting:
        plural = "s" if len(wanting) > 1 else ""
        cli.output.status(f"{len(wanting)} more PIN{plural} will be asked for")


def confirm(question: str, otherwise: str) -> None:
    """Ask the person at the terminal before something that cannot be taken back.

    Args:
        question: What is asked.
        otherwise: What is said where the answer is no: "nothing was deleted".

    Raises:
        UsageError: Nobody is there to answer, or the answer is no.
    """
    if not sys.stdin.isatty():
        raise UsageError("nobody is here to confirm it", hint="pass --yes")
    if not click.confirm(question, err=True):
        raise UsageError(otherwise)


def source_from(specification: str | None) -> PinSource | None:
    """The source of a PIN; None where none is named, which is the token's own PIN pad, or a prompt."""
    from tokensign.token import parse_pin_source

    return parse_pin_source(specification) if specification else None


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


def _secret_from(specification: str, what: str, purpose: str, *, repeat: bool = False) -> Pin:
    from tokensign.token import PinRequest, parse_pin_source

    if specification == "pad":
        raise UsageError(f"a {what} is not typed on the PIN pad of a token", hint="name another source")
    request = PinRequest(purpose=purpose, what=what, new=repeat)
    return cast("Pin", parse_pin_source(specification, what).get(request))  # only a pad gives none


def _named_source(*names: str | KeyUri | None) -> PinSource | None:
    """The PIN source that one of some URIs names; a PIN in any of them is refused."""
    from tokensign.token.pin import pin_source_of
    from tokensign.uri import KeyUri

    named = [pin_source_of(name) for name in names if isinstance(name, KeyUri)]
    return next((source for source in named if source is not None), None)


def _called(key: str) -> str:
    """What to call a key by its name on the command line, in which a URI says much more."""
    from tokensign.uri import KeyUri, is_uri

    return (KeyUri.parse(key).object or "of that URI") if is_uri(key) else key


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
