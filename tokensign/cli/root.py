"""The root command."""

from __future__ import annotations

from typing import Final

import click

from tokensign import __version__
from tokensign.cli.command import Cli, LazyGroup

__all__ = ["root"]

_COMMANDS: Final = {
    "demo": ("tokensign.cli.demo", "demo", "Show the whole story on a throw-away token."),
    "doctor": ("tokensign.cli.doctor", "doctor", "Tell what works here and how to mend what does not."),
    "token": ("tokensign.cli.token", "token", "List, initialise and look after tokens."),
    "key": ("tokensign.cli.key", "key", "Generate, list and check keys."),
    "cert": ("tokensign.cli.cert", "cert", "Request, import and export certificates."),
    "ca": ("tokensign.cli.ca", "ca", "Issue and revoke certificates, as a certificate authority."),
    "ra": ("tokensign.cli.ra", "ra", "Take requests for certificates, and decide on them."),
    "grant": ("tokensign.cli.grant", "grant", "Tell who may use the signing service, and for what."),
    "audit": ("tokensign.cli.audit", "audit", "Verify and export the audit log."),
    "agent": ("tokensign.cli.agent", "agent", "Keep a login open, so that the PIN is asked for once."),
    "sign": ("tokensign.cli.sign", "sign", "Sign a file."),
    "verify": ("tokensign.cli.verify", "verify", "Verify a signature."),
    "timestamp": ("tokensign.cli.timestamp", "timestamp", "Prove when data and signatures existed."),
    "encrypt": ("tokensign.cli.encrypt", "encrypt", "Encrypt a file to certificates and passwords."),
    "decrypt": ("tokensign.cli.decrypt", "decrypt", "Decrypt a file, or check one with a code or digest."),
    "authenticate": ("tokensign.cli.authenticate", "authenticate", "Put a code to a file for recipients."),
    "digest": ("tokensign.cli.digest", "digest", "Put a digest to a file."),
    "compress": ("tokensign.cli.compress", "compress", "Compress a file."),
    "decompress": ("tokensign.cli.compress", "decompress", "Decompress a file."),
    "mail": ("tokensign.cli.mail", "mail", "Sign, encrypt, open, send and fetch mail."),
    "contacts": ("tokensign.cli.contacts", "contacts", "Look after the certificates of correspondents."),
    "openpgp": ("tokensign.cli.openpgp", "openpgp", "Sign and decrypt OpenPGP."),
    "certs": ("tokensign.cli.certs", "certs", "Put certificates into a message, or take them out."),
    "serve": ("tokensign.cli.serve", "serve", "Run the signing service."),
    "inspect": ("tokensign.cli.inspect", "inspect", "Tell what is in a message or certificate."),
}


@click.group(cls=LazyGroup, lazy=_COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="tokensign %(version)s")
@click.pass_context
def root(context: click.Context) -> None:
    """Sign, verify, encrypt and decrypt with keys that stay on their PKCS#11 token.

    \b
    Examples:
      tokensign demo
      tokensign sign contract.pdf --key alice
      tokensign verify contract.pdf.p7s --content contract.pdf --trust ca.pem
    """
    context.ensure_object(Cli)
