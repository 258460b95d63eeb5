"""The contacts of the user: the option that says where they are, and opening them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from tokensign.cli.command import PATH
from tokensign.errors import UntrustedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from tokensign.cli.command import Cli
    from tokensign.contacts import Change, ContactStore
    from tokensign.pki.policy import TrustPolicy
    from tokensign.smime.mail_report import MailReport

__all__ = ["contacts_option", "learn_sender", "open_contacts", "tell_change"]


def contacts_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the parameter `place`, for `open_contacts`."""
    return click.option(
        "--contacts",
        "place",
        metavar="FILE|URL",
        type=PATH,
        envvar="TOKENSIGN_CONTACTS",
        show_envvar=True,
        help="The database of contacts. [default: contacts.sqlite in the user's data folder]",
    )(command)


def open_contacts(cli: Cli, place: str | None) -> ContactStore:
    """The contacts that --contacts, the configuration, or else the user's data folder has.

    Raises:
        FileError, ConfigurationError: They cannot be opened.
    """
    from tokensign.contacts import ContactStore
    from tokensign.settings import default_contacts_path

    return ContactStore(place or cli.settings.contacts or default_contacts_path())


def learn_sender(store: ContactStore, report: MailReport, trust: TrustPolicy) -> Change:
    """Learn from the innermost signature of a mail that is wholly signed by whom it says it is from.

    Args:
        store: The contacts.
        report: What was found when the mail was opened.
        trust: What it was held against.

    Raises:
        UntrustedError: The mail does not prove enough.
        MalformedError, FileError: As for `ContactStore.learn`.
    """
    if report.verdict != "good" or report.author is None or report.sender_address is None:
        raise UntrustedError(
            f"nothing is learned from the mail: {report.summary()}",
            hint="contacts are learned from mail only where everything about its signature is proved",
        )
    return store.learn(report.author, report.sender_address, trust)


def tell_change(cli: Cli, change: Change) -> None:
    """Say what became of a contact; above all that mail goes to another key than before."""
    address = change.contact.address
    if change.problem:
        cli.output.status(f"warning: {address}: {change.problem}")
    if change.after is None:
        cli.output.status(f"{address}: no certificate can be used to encrypt")
    elif change.replaces_key and change.before:
        cli.output.status(
            f"warning: the key of {address} changed: mail was encrypted to {_named(change.before.sha256)},"
            f" and is to {_named(change.after.sha256)} from now on; ask {address} whether that is right"
        )
    elif change.before != change.after:
        cli.output.status(f"{address}: mail is encrypted to {_named(change.after.sha256)}")
    else:
        cli.output.status(f"{address}: mail is encrypted to {_named(change.after.sha256)}, as before")


def _named(fingerprint: bytes) -> str:
    return f"certificate {fingerprint.hex()[:16]}"
