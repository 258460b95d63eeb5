"""`tokensign doctor`: what works here, and how to mend what does not."""

from __future__ import annotations

import platform
from dataclasses import asdict, dataclass
from importlib import metadata
from typing import TYPE_CHECKING, Final, Literal

import click

from tokensign import __version__
from tokensign.cli.command import Cli, Command
from tokensign.cli.inputs import module_of, open_token, token_name
from tokensign.errors import TokensignError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tokensign.token import Ability, Capabilities, KeyInfo, Module, Token, TokenInfo

__all__ = ["doctor"]

_State = Literal["ok", "lacks", "warning", "failed"]
_COLOURS: Final = {"ok": "green", "lacks": "blue", "warning": "yellow", "failed": "red"}
_PIN_HINTS: Final = {
    "count-low": "a wrong PIN was given; the right one resets the counter",
    "final-try": "be sure of the PIN, then add --last-try",
    "locked": "set a new one with `tokensign token unblock-pin`",
    "to-be-changed": "change it with `tokensign token change-pin`",
    "not-set": "set it with `tokensign token unblock-pin`",
}
_LACKING_HINTS: Final = {  # by kind of ability: what to do instead
    "sign": "sign with a scheme and digest that it has: `--scheme`, `--digest`",
    "decrypt": "let others encrypt to this key in a way that it has, or with another key",
    "agree": "let others encrypt to an RSA key",
}


@dataclass(frozen=True, slots=True)
class _Finding:
    """A line of the report.

    Attributes:
        subject: What it is about.
        state: "lacks" is no fault: the token is not made for it.
        text: What was found.
        hint: How to mend it.
        abilities: What the line sums up, for programs.
    """

    subject: str
    state: _State
    text: str
    hint: str | None = None
    abilities: tuple[Ability, ...] = ()


@click.command(cls=Command)
@click.pass_obj
def doctor(cli: Cli) -> None:
    """Tell what works here: versions, module and its quirks, token, PIN state, abilities, certificates, keys.

    What the token can do is told from its list of mechanisms. If a PIN source is given, its keys are looked
    at as well and tried; otherwise nothing is asked. No signature is made, and keys that want the PIN for
    each operation are not used. Exit code 3: something failed.

    \b
    Example:
      tokensign doctor --pin-source prompt
    """
    findings = list(_examine(cli))
    for finding in findings:
        mark = click.style(f"{finding.state:8}", fg=_COLOURS[finding.state])
        cli.output.text(f"{finding.subject:12} {finding.text}", prefix=mark)
        if finding.hint:
            cli.output.text(f"{finding.hint}", prefix=" " * 21)
    cli.output.document([asdict(finding) for finding in findings])
    if any(finding.state == "failed" for finding in findings):
        raise click.exceptions.Exit(3)


def _examine(cli: Cli) -> Iterator[_Finding]:
    """Each stage stands on the one before, so the first failure ends it."""
    libraries = ("python-pkcs11", "cryptography", "asn1crypto", "pyhanko-certvalidator")
    versions = [f"{name} {metadata.version(name)}" for name in libraries]
    versions = [f"tokensign {__version__}", f"Python {platform.python_version()}", *versions]
    yield _Finding("versions", "ok", ", ".join(versions))
    subject = "module"
    try:
        module = module_of(cli)
        yield from _examine_module(module)
        subject = "token"
        from tokensign.token import capabilities, select_token

        info = select_token(module, token_name(cli))
        yield _Finding("token", "ok", f"{info.label} ({info.uri})")
        yield _examine_pin(info)
        with open_token(cli) as token:
            known = capabilities(token)
            yield from _examine_limits(known, info)
            subject = "keys"
            yield from _examine_keys(cli, token, known)
    except TokensignError as error:
        yield _Finding(subject, "failed", error.message, error.hint)


def _examine_module(module: Module) -> Iterator[_Finding]:
    version = ".".join(map(str, module.library_version))
    follows = ".".join(map(str, module.cryptoki_version))
    yield _Finding(
        "module",
        "ok",
        f"{module.path} ({module.manufacturer}: {module.description} {version}, PKCS#11 {follows})",
    )
    if module.locks:
        yield _Finding("module", "ok", "it locks for itself: threads use it side by side")
    else:
        yield _Finding("module", "warning", "one thread at a time uses it: threads wait for each other")


def _examine_pin(info: TokenInfo) -> _Finding:
    state = info.pin_state.value
    severity: _State = "ok"
    if state != "ok":
        severity = "failed" if state in ("locked", "not-set") else "warning"
    return _Finding("PIN", severity, info.pin_state.words, _PIN_HINTS.get(state))


def _examine_limits(known: Capabilities, info: TokenInfo) -> Iterator[_Finding]:
    pad = ", typed on the token's own PIN pad" if info.protected_authentication_path else ""
    if known.limits:
        limits = known.limits
        yield _Finding("PIN", "ok", f"{limits.minimum_pin_size} to {limits.maximum_pin_size} octets{pad}")
        most = limits.maximum_sessions
        yield _Finding("sessions", "ok", f"{most} at the most" if most else "no limit is told")
    for quirk in known.quirks:
        yield _Finding("quirk", "ok", f"{quirk.quirk.value} ({quirk.module}: {quirk.reason})", quirk.remedy)


def _examine_keys(cli: Cli, token: Token, known: Capabilities) -> Iterator[_Finding]:
    """The abilities come first, though a key may have to show them."""
    from tokensign.token import list_certificates, list_keys

    keys: list[KeyInfo] = []
    failure: TokensignError | None = None
    with_pin = bool(cli.pin_source or cli.settings.pin_source)
    try:
        if with_pin:
            keys = list_keys(token)
            _try(token, keys)
    except TokensignError as error:
        failure = error
    yield from _sum_up(known.abilities)
    yield _Finding("certificates", "ok", f"{len(list_certificates(token))} on the token")
    if failure:
        raise failure
    if not with_pin:
        hint = "give the PIN with --pin-source to have them checked, and what the token can do tried"
        yield _Finding("keys", "warning", "not looked at", hint)
    for key in keys:
        yield _examine_key(token, key)


def _try(token: Token, keys: list[KeyInfo]) -> None:
    """Try one key of each type and usage: the others will do the same."""
    from tokensign.token import open_key, open_secret_keys, try_key, try_secret_key

    different = {(key.spec, key.usages, key.always_authenticate): key for key in keys if key.public_key}
    for key in different.values():
        try_key(open_key(token, key))
    for secret in open_secret_keys(token)[:1]:
        try_secret_key(secret)


def _sum_up(abilities: Iterable[Ability]) -> Iterator[_Finding]:
    """A line for all abilities of a kind that work in the same way, or fail for the same reason."""
    groups: dict[tuple[str, bool, str, bool, str], list[Ability]] = {}
    for one in abilities:
        family = one.name.partition(" with ")[0] if one.kind == "sign" and "ml-" not in one.name else ""
        groups.setdefault((one.kind, one.possible, one.way, one.tried, family), []).append(one)
    for (kind, possible, way, tried, family), group in groups.items():
        if family:
            digests = ", ".join(one.name.removeprefix(f"{family} with ") for one in group)
            names = f"{family} with {digests}"
        else:
            names = "; ".join(one.name for one in group)
        if possible:
            yield _Finding(kind, "ok", f"{names}: {way}{' (tried)' if tried else ''}", abilities=tuple(group))
        else:
            yield _Finding(kind, "lacks", f"{names}: {way}", _LACKING_HINTS.get(kind), tuple(group))


def _examine_key(token: Token, key: KeyInfo) -> _Finding:
    from tokensign.token import check_key

    name = f"{key.label} ({key.spec})"
    pin = "; each operation wants the PIN" if key.always_authenticate else ""
    if key.private is False:
        pin = "; it needs no PIN"
    report = check_key(token, key)
    if report.weak:
        return _Finding("keys", "failed", f"{name} is weak: {report.reasons}")
    if not key.has_certificate:
        hint = "make one with `tokensign cert request` or `tokensign cert self-sign`"
        return _Finding("keys", "warning", f"{name} has no certificate{pin}", hint)
    return _Finding("keys", "ok", f"{name} is protected and has a certificate{pin}")
