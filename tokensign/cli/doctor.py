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
    from collections.abc import Iterator

    from tokensign.token import Module, TokenInfo

__all__ = ["doctor"]

_COLOURS: Final = {"ok": "green", "warning": "yellow", "failed": "red"}
_ABILITIES: Final = {  # what to do, and the mechanisms of which one is needed
    "sign with RSA (rsa-pkcs1)": ("RSA_PKCS",),
    "sign with RSA-PSS (rsa-pss)": ("RSA_PKCS_PSS",),
    "sign with ECDSA (ecdsa)": ("ECDSA",),
    "sign with Ed25519 (eddsa)": ("EDDSA",),
    "decrypt with RSA": ("RSA_PKCS", "RSA_PKCS_OAEP"),
    "decrypt with RSA-OAEP of any digest": ("RSA_X_509",),
}


@dataclass(frozen=True, slots=True)
class _Finding:
    subject: str
    state: Literal["ok", "warning", "failed"]
    text: str
    hint: str | None = None


@click.command(cls=Command)
@click.pass_obj
def doctor(cli: Cli) -> None:
    """Tell what works here: versions, module, tokens, mechanisms, PIN state, certificates and keys.

    Keys are looked at only if a PIN source is given, so that nothing is asked. Exit code 3: something failed.

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
        from tokensign.token import select_token

        info = select_token(module, token_name(cli))
        yield _Finding("token", "ok", f"{info.label} ({info.uri})")
        yield from _examine_pin(info)
        subject = "mechanisms"
        yield from _examine_mechanisms(module, info)
        subject = "keys"
        yield from _examine_objects(cli)
    except TokensignError as error:
        yield _Finding(subject, "failed", error.message, error.hint)


def _examine_module(module: Module) -> Iterator[_Finding]:
    version = ".".join(map(str, module.library_version))
    yield _Finding("module", "ok", f"{module.path} ({module.manufacturer}: {module.description} {version})")
    if not module.locks:
        yield _Finding("module", "warning", "it cannot lock: threads wait for each other")


def _examine_pin(info: TokenInfo) -> Iterator[_Finding]:
    hints = {
        "count-low": "a wrong PIN was given; the right one resets the counter",
        "final-try": "one more wrong PIN locks it; be sure before you try",
        "locked": "set a new one with `tokensign token unblock-pin`",
        "to-be-changed": "change it with `tokensign token change-pin`",
        "not-set": "set it with `tokensign token unblock-pin`",
    }
    state = info.pin_state.value
    severity: Literal["ok", "warning", "failed"] = "ok"
    if state != "ok":
        severity = "failed" if state in ("locked", "not-set") else "warning"
    yield _Finding("PIN", severity, state, hints.get(state))


def _examine_mechanisms(module: Module, info: TokenInfo) -> Iterator[_Finding]:
    there = {mechanism.name for mechanism in module.mechanisms(info.slot_id)}
    for ability, needed in _ABILITIES.items():
        if there.intersection(needed):
            yield _Finding("mechanisms", "ok", f"can {ability}")
        else:
            yield _Finding(
                "mechanisms", "warning", f"cannot {ability}: the token lacks {' or '.join(needed)}"
            )


def _examine_objects(cli: Cli) -> Iterator[_Finding]:
    from tokensign.token import check_key, list_certificates, list_keys

    with open_token(cli) as token:
        certificates = list_certificates(token)
        yield _Finding("certificates", "ok", f"{len(certificates)} on the token")
        if not (cli.pin_source or cli.settings.pin_source):
            hint = "give the PIN with --pin-source to have them checked"
            yield _Finding("keys", "warning", "not looked at", hint)
            return
        for key in list_keys(token):
            name = f"{key.label} ({key.spec})"
            report = check_key(token, key)
            if report.weak:
                yield _Finding("keys", "failed", f"{name} is weak: {report.reasons}")
            elif not key.has_certificate:
                hint = "make one with `tokensign cert request` or `tokensign cert self-sign`"
                yield _Finding("keys", "warning", f"{name} has no certificate", hint)
            else:
                yield _Finding("keys", "ok", f"{name} is protected and has a certificate")
