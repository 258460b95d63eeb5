"""Options of commands that validate a path on their way: whom to trust, and what tells about revocation."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import wraps
from typing import TYPE_CHECKING, Any, Final

import click

from tokensign.cli.command import PATH
from tokensign.cli.inputs import NETWORK, intermediate_certificates, revocation_settings, trust_anchors
from tokensign.files import read_small

if TYPE_CHECKING:
    from collections.abc import Callable
    from ipaddress import IPv4Network, IPv6Network

    from tokensign.certificates import Certificate
    from tokensign.cli.command import Cli
    from tokensign.pki.policy import TrustPolicy
    from tokensign.pki.purpose import Purpose

__all__ = ["TrustOptions", "trust_options"]


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
        return tuple(intermediate_certificates(cli, self.untrusted))

    def policy(self, cli: Cli, purpose: Purpose, revocation: str | None) -> TrustPolicy:
        """Whom to trust, and how strictly.

        Args:
            cli: The common options.
            purpose: What the certificates are for.
            revocation: "off", "prefer" or "require"; None: the configuration says, or else "prefer".

        Raises:
            UsageError: Neither an option nor the configuration names a trust anchor.
            FileError, MalformedError: A file cannot be read.
        """
        from tokensign.pki.http import HttpClient, Limits
        from tokensign.pki.policy import TrustPolicy
        from tokensign.pki.revocation import default_cache

        asking = revocation_settings(
            cli, revocation, no_fetch=self.no_fetch, allow_private=self.allow_private
        )
        return TrustPolicy(
            anchors=trust_anchors(cli, self.trust, self.trust_password_source),
            purpose=purpose,
            revocation=asking.mode or "prefer",
            crls=tuple(map(read_small, self.crl)),
            ocsp_responses=tuple(map(read_small, self.ocsp)),
            fetch=HttpClient(Limits(private_networks=asking.allow_private)) if asking.fetch else None,
            cache=default_cache() if asking.fetch else None,
        )


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
        type=NETWORK,
        multiple=True,
        help="Servers in this network may be asked about certificates, though it is not public.",
    ),
)


def trust_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options about trust; it gets them as one argument, `trusting`."""

    @wraps(command)
    def with_options(*arguments: Any, **values: Any) -> Any:  # noqa: ANN401 - click's
        own = {entry.name: values.pop(entry.name) for entry in fields(TrustOptions)}
        return command(*arguments, trusting=TrustOptions(**own), **values)

    for option in reversed(_OPTIONS):
        with_options = option(with_options)
    return with_options
