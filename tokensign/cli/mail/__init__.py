"""`tokensign mail`: mail that is signed and encrypted. One module a command, imported when it is called."""

from __future__ import annotations

from typing import Final

import click

from tokensign.cli.command import LazyGroup

__all__ = ["mail"]

_COMMANDS: Final = {
    "sign": ("tokensign.cli.mail.sign", "sign", "Sign a mail."),
    "encrypt": ("tokensign.cli.mail.encrypt", "encrypt", "Encrypt a mail, or sign and encrypt it."),
    "open": ("tokensign.cli.mail.open", "open_", "Decrypt a mail, and verify all of its layers."),
    "receipt": ("tokensign.cli.mail.receipt", "receipt", "Give and verify signed receipts."),
    "send": ("tokensign.cli.mail.send", "send", "Send a mail with a submission server."),
    "fetch": ("tokensign.cli.mail.fetch", "fetch", "Fetch mail from an IMAP server."),
    "gateway": ("tokensign.cli.mail.gateway", "gateway", "Sign, encrypt and open mail between mail servers."),
}


@click.group(cls=LazyGroup, lazy=_COMMANDS, outermost=False)
def mail() -> None:
    """Sign, encrypt, open, send and fetch mail (S/MIME)."""
