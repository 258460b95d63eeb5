"""The recipients of a mail whom its header names and the contacts know."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, BinaryIO, Final

import click
from click.core import ParameterSource

from tokensign.cli.address_book import open_contacts
from tokensign.errors import UsageError

if TYPE_CHECKING:
    from tokensign.certificates import Certificate
    from tokensign.cli.command import Cli
    from tokensign.cms.encrypt import Recipient
    from tokensign.smime.compose_mail import MailOptions

__all__ = ["contact_recipients"]

_FIELDS: Final = ("To", "Cc", "Bcc", "Resent-To", "Resent-Cc", "Resent-Bcc")


def contact_recipients(
    cli: Cli, place: str | None, message: BinaryIO, options: MailOptions
) -> tuple[list[tuple[str, Recipient]], MailOptions]:
    """The certificates for the addresses in To, Cc and Bcc, and algorithms that all of them can read.

    Args:
        cli: The common options.
        place: Where the contacts are, as --contacts has it.
        message: The mail; it is read from its start, and stands there again.
        options: How the mail is encrypted. --cipher and --key-transport stay where they were given.

    Returns:
        The recipients, each with what to call it, and the options with the algorithms.

    Raises:
        UsageError: An address has no certificate, or the mail names nobody.
        UnsupportedError: There is no cipher that all can read.
        FileError: The contacts cannot be read.
    """
    from tokensign.contacts import choose_algorithms, recipients_for
    from tokensign.smime.mail_recipients import bcc_addresses
    from tokensign.smime.mime import read_entity

    message.seek(0)
    fields = read_entity(message).fields
    message.seek(0)
    addresses = [mailbox.address for name in _FIELDS for mailbox in fields.addresses(name)]
    if not addresses:
        raise UsageError(
            "the mail is for nobody", hint="write To into the mail, or name certificates with --to"
        )
    with open_contacts(cli, place) as store:
        found = recipients_for(list(dict.fromkeys(addresses)), store)
    certificates = {entry.address: entry.certificate for entry in found}
    for address in bcc_addresses(fields):
        _require_owner(address, certificates[address])
    algorithms = choose_algorithms(found)
    if not _is_given("cipher"):
        options = replace(options, cipher=algorithms.cipher)
    if not _is_given("key_transport"):
        options = replace(options, key_transport=algorithms.transport)
    # each address has a certificate, though one that the user gave need not name it
    options = replace(options, every_recipient=False)
    return [(entry.address, entry.certificate) for entry in found], options


def _require_owner(address: str, certificate: Certificate) -> None:
    """Only by its address is a certificate kept out of the copies that are not for Bcc."""
    if not certificate.belongs_to(address):
        raise UsageError(
            f"the certificate that is known for {address} was not issued for it, which Bcc needs",
            hint=f"send a mail of its own to {address}",
        )


def _is_given(name: str) -> bool:
    source = click.get_current_context().get_parameter_source(name)
    return source not in {None, ParameterSource.DEFAULT}
