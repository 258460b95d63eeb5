"""`tokensign ca`: a certificate authority. The commands are in modules of their own, imported when called."""

from __future__ import annotations

from typing import Final

import click

from tokensign.cli.command import LazyGroup

__all__ = ["ca"]

_COMMANDS: Final = {
    "init": ("tokensign.cli.ca_init", "init", "Make a CA for a key: a root, or one below another CA."),
    "request": (
        "tokensign.cli.ca_certificates",
        "request",
        "Ask a CA elsewhere for the certificate of a CA.",
    ),
    "adopt": ("tokensign.cli.ca_certificates", "adopt", "Make a CA of a certificate from elsewhere."),
    "renew-ca": ("tokensign.cli.ca_certificates", "renew_ca", "Renew the certificate of a CA."),
    "cross": (
        "tokensign.cli.ca_certificates",
        "cross",
        "Certify another CA, which has a certificate already.",
    ),
    "issue": ("tokensign.cli.ca_issue", "issue", "Issue the certificate that a request asks for."),
    "renew": ("tokensign.cli.ca_issue", "renew", "Issue a certificate with the names of an older one."),
    "revoke": ("tokensign.cli.ca_revoke", "revoke", "Revoke a certificate, or put it on hold."),
    "release": ("tokensign.cli.ca_revoke", "release", "Take a certificate from hold."),
    "crl": ("tokensign.cli.ca_revoke", "crl", "Make certificate revocation lists."),
    "list": ("tokensign.cli.ca_list", "list_", "List the certificates that were issued."),
    "show": ("tokensign.cli.ca_list", "show", "Tell all about a CA, or a certificate that it issued."),
    "serve": ("tokensign.cli.ca_serve", "serve", "Answer OCSP, and serve CRLs and certificates over HTTP."),
}


@click.group(cls=LazyGroup, lazy=_COMMANDS, outermost=False)
def ca() -> None:
    """Issue and revoke certificates with keys on tokens."""
