"""Options of commands that judge certificates: whom to trust, by which rules, what tells of revocation."""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, cast

import click

from tokensign.cli.command import PATH, PIN_SOURCE, grouped
from tokensign.cli.inputs import open_token, password_from, read_certificates
from tokensign.errors import UsageError
from tokensign.files import read_small
from tokensign.settings import STORE_PREFIX, SYSTEM_STORE, RevocationSettings

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tokensign.certificates import Certificate
    from tokensign.cli.command import Cli
    from tokensign.keys import Password
    from tokensign.pki.policy import PolicyInputs, TrustPolicy
    from tokensign.pki.purpose import Purpose
    from tokensign.settings import StoreSettings

__all__ = ["TrustOptions", "policy_inputs", "require_dotted", "trust_options"]

_DOTTED: Final = re.compile(r"[0-2](\.(0|[1-9][0-9]*))+")


@dataclass(frozen=True, slots=True)
class TrustOptions:
    """The values of `trust_options`.

    Attributes:
        trust: Trust anchors, as --trust has them.
        trust_password_source: Where the password of PKCS#12 files comes from, or None.
        untrusted: Certificates to build paths from.
        crl: Files with CRLs.
        ocsp: Files with OCSP responses.
        no_fetch: Whether no server is asked.
        allow_private: Networks that are not public and may be asked all the same.
    """

    trust: tuple[str, ...]
    trust_password_source: str | None
    untrusted: tuple[str, ...]
    crl: tuple[str, ...]
    ocsp: tuple[str, ...]
    no_fetch: bool
    allow_private: tuple[IPv4Network | IPv6Network, ...]

    def is_given(self, cli: Cli) -> bool:
        """Whether there is anything to trust: an option, or the configuration."""
        return bool(self.trust or cli.settings.trust)

    def certificates(self, cli: Cli) -> tuple[Certificate, ...]:
        """The certificates of --untrusted."""
        return tuple(_intermediates(cli, self.untrusted))

    def policy(
        self,
        cli: Cli,
        purpose: Purpose,
        revocation: str | None,
        inputs: PolicyInputs | None = None,
        *,
        legacy: bool = False,
    ) -> TrustPolicy:
        """Whom to trust, and how strictly.

        Args:
            cli: The common options.
            purpose: What the certificates are for.
            revocation: "off", "prefer" or "require"; None: the configuration says, or else "prefer".
            inputs: What is asked of certificate policies; None: nothing.
            legacy: Whether old algorithms are accepted.

        Raises:
            UsageError: Neither an option nor the configuration names a trust anchor.
            FileError, MalformedError: A file cannot be read.
        """
        from tokensign.pki.http import HttpClient, Limits
        from tokensign.pki.policy import PolicyInputs, TrustPolicy
        from tokensign.pki.revocation import default_cache

        asking = _revocation_settings(
            cli, revocation, no_fetch=self.no_fetch, allow_private=self.allow_private
        )
        return TrustPolicy(
            anchors=_anchors(cli, self.trust, self.trust_password_source),
            purpose=purpose,
            revocation=asking.mode or "prefer",
            crls=tuple(map(read_small, self.crl)),
            ocsp_responses=tuple(map(read_small, self.ocsp)),
            legacy=legacy,
            policies=inputs or PolicyInputs(),
            fetch=HttpClient(Limits(private_networks=asking.allow_private)) if asking.fetch else None,
            cache=default_cache() if asking.fetch else None,
        )


class _NetworkType(click.ParamType[IPv4Network | IPv6Network]):
    """A network, or a single address."""

    name = "network"

    def convert(
        self,
        value: Any,  # noqa: ANN401 - click's
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> IPv4Network | IPv6Network:
        try:
            return ip_network(value)
        except ValueError:
            self.fail(f"{value!r} is not a network; write 10.0.0.0/8 or 192.168.1.7", param, ctx)


_NETWORK: Final = _NetworkType()


_OPTIONS: Final = (
    click.option(
        "--trust",
        metavar="FILE",
        type=PATH,
        multiple=True,
        help="Trust anchors: files, folders, `system`, or `store:NAME` of the configuration.",
    ),
    click.option(
        "--trust-password-source",
        metavar="SPEC",
        type=PIN_SOURCE,
        help="Where the password of a PKCS#12 file of --trust comes from.",
    ),
    click.option(
        "--untrusted",
        metavar="FILE",
        type=PATH,
        multiple=True,
        help="Certificates to build paths from: files, or the pkcs11: URI of a token.",
    ),
    click.option("--crl", metavar="FILE", type=PATH, multiple=True, help="Certificate revocation lists."),
    click.option("--ocsp", metavar="FILE", type=PATH, multiple=True, help="OCSP responses."),
    click.option("--no-fetch", is_flag=True, help="Ask no server about certificates."),
    click.option(
        "--allow-private",
        metavar="NETWORK",
        type=_NETWORK,
        multiple=True,
        help="Servers in this network may be asked about certificates, though it is not public.",
    ),
)


trust_options = grouped("trusting", TrustOptions, _OPTIONS)
"""Give a command the options about trust; it gets them as one argument, `trusting`."""


def _intermediates(cli: Cli, names: Iterable[str]) -> list[Certificate]:
    """The certificates that --untrusted names: those in files, and all on a token, which needs no PIN.

    Args:
        cli: The common options.
        names: Files, and pkcs11: URIs of tokens.
    """
    from tokensign.uri import is_uri

    found: list[Certificate] = []
    for name in names:
        if is_uri(name):
            from tokensign.token import list_certificates

            with open_token(cli, name) as token:
                found += [entry.certificate for entry in list_certificates(token)]
        else:
            found += read_certificates([name])
    return found


def _anchors(cli: Cli, names: Iterable[str], password_source: str | None = None) -> tuple[Certificate, ...]:
    """The anchors that --trust names, or else the configuration.

    Args:
        cli: The common options.
        names: Files and folders, "system" for the system's, "store:NAME" for a store of the configuration.
        password_source: Where the password of PKCS#12 files comes from, or None.
    """
    from tokensign.pki.trust import load_anchors, system_anchors

    names = tuple(names) or cli.settings.trust
    if not names:
        raise UsageError("no trust anchor is given", hint=_how_to_trust())
    found: dict[Certificate, None] = {}
    for name in names:
        if name == SYSTEM_STORE:
            found |= dict.fromkeys(system_anchors())
        elif name.startswith(STORE_PREFIX):
            store = _named_store(cli, name.removeprefix(STORE_PREFIX))
            password = _store_password(store.password_source, name)
            found |= dict.fromkeys(load_anchors(store.files, password))
        else:
            found |= dict.fromkeys(load_anchors([Path(name)], _store_password(password_source, name)))
    return tuple(found)


def _how_to_trust() -> str:
    """What to do without trust anchors, as far as the command has options for it."""
    context = click.get_current_context()
    options = {name for parameter in context.command.params for name in parameter.opts}
    if "--trust" not in options:
        return "set trust in the configuration"
    advice = "name one with --trust or in the configuration"
    return f"{advice}; --signature-only judges no certificate" if "--signature-only" in options else advice


def _named_store(cli: Cli, name: str) -> StoreSettings:
    store = cli.settings.stores.get(name)
    if store is None:
        known = ", ".join(cli.settings.stores) or "none"
        raise UsageError(
            f"the configuration has no store {name!r}", hint=f"stores are: {known}; add [stores.{name}] to it"
        )
    return store


def _store_password(source: str | None, name: str) -> Password | None:
    return password_from(source, f"the trust anchors in {name}") if source else None


def policy_inputs(
    cli: Cli, initial: Iterable[str], *, explicit: bool, inhibit_any: bool, inhibit_mapping: bool
) -> PolicyInputs:
    """What the options ask of certificate policies; a flag adds to the configuration, policies replace its.

    Raises:
        UsageError: A policy is no object identifier.
    """
    from tokensign.pki.policy import PolicyInputs

    settings = cli.settings.policy
    policies = frozenset(initial) or frozenset(settings.initial)
    for policy in policies:
        require_dotted(policy)
    return PolicyInputs(
        initial_policies=policies,
        require_explicit_policy=explicit or settings.explicit,
        inhibit_any_policy=inhibit_any or settings.inhibit_any,
        inhibit_policy_mapping=inhibit_mapping or settings.inhibit_mapping,
    )


def require_dotted(policy: str) -> None:
    """Refuse what is no object identifier.

    Raises:
        UsageError: It is none.
    """
    if not _DOTTED.fullmatch(policy):
        raise UsageError(f"{policy!r} is no object identifier", hint="write it dotted, like 1.2.3.4")


def _revocation_settings(
    cli: Cli, mode: str | None, *, no_fetch: bool, allow_private: tuple[IPv4Network | IPv6Network, ...]
) -> RevocationSettings:
    """How it is found out whether certificates were revoked; options go before the configuration.

    Servers are asked where a mode was asked for, unless that is switched off: a mere `verify` tells nobody
    that a message is being read.
    """
    settings = cli.settings.revocation
    chosen = cast("Literal['off', 'prefer', 'require'] | None", mode) or settings.mode
    fetch = chosen is not None if settings.fetch is None else settings.fetch
    return RevocationSettings(
        mode=chosen,
        fetch=fetch and not no_fetch,
        allow_private=settings.allow_private + allow_private,
    )
