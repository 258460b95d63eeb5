"""`tokensign mail gateway`."""

from __future__ import annotations

import contextlib
import logging
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from tokensign.cli.command import Cli, Command
from tokensign.cli.inputs import find_signer, key_name, open_holder
from tokensign.cli.trust import TrustOptions
from tokensign.errors import UsageError

if TYPE_CHECKING:
    from tokensign.gateway.delivery import Processor
    from tokensign.gateway.policy import GatewaySettings
    from tokensign.gateway.server import Server
    from tokensign.pki.policy import TrustPolicy

__all__ = ["gateway"]


@click.command(cls=Command)
@click.argument("direction", type=click.Choice(["outgoing", "incoming"]))
@click.option(
    "--listen",
    metavar="ADDRESS",
    help="Where the mail server delivers by LMTP: HOST:PORT or unix:/PATH, on this machine only.",
)
@click.option(
    "--next",
    "next_hop",
    metavar="ADDRESS",
    help="Where mail goes on: HOST:PORT by SMTP, or lmtp:HOST:PORT, or lmtp:unix:/PATH.",
)
@click.pass_obj
def gateway(cli: Cli, direction: str, listen: str | None, next_hop: str | None) -> None:
    """Sign, encrypt and open mail between mail servers.

    What is done with whose mail stands in the table [gateway] of the configuration. A mail is accepted when
    the next server has accepted it, so that it is always with one of the two servers. SIGTERM ends the
    gateway after the mails that it works on; if it is killed, none is lost and none goes twice.

    \b
    Examples:
      tokensign mail gateway outgoing --config gateway.toml
      tokensign mail gateway incoming --listen 127.0.0.1:10035 --next 127.0.0.1:10036 --config gateway.toml
    """
    from tokensign.gateway.delivery import Delivery
    from tokensign.gateway.hops import listening, parse_address, parse_hop
    from tokensign.gateway.journal import Journal
    from tokensign.gateway.next_hop import NextHop
    from tokensign.gateway.policy import read_gateway_settings
    from tokensign.gateway.server import Server

    settings = read_gateway_settings(cli.settings.gateway, cli.settings.folder)
    way = settings.outgoing if direction == "outgoing" else settings.incoming
    place = parse_address(_needed(listen or way.listen, "--listen", direction))
    hop = parse_hop(_needed(next_hop or way.next_hop, "--next", direction))
    folder = Path(_needed(str(settings.folder) if settings.folder else None, "folder", direction))
    _log_work(cli)
    with contextlib.ExitStack() as stack:
        make = _outgoing if direction == "outgoing" else _incoming
        processor = make(cli, stack, settings)
        journal = Journal(folder / direction)
        onward = stack.enter_context(NextHop(journal, hop, settings.next_trust))
        server = Server(listening(place), Delivery(journal, processor, onward), settings.size_limit)
        _stop_at_signals(server)
        cli.output.status(f"{direction} mail goes from {place} to {hop}")
        server.run()
    cli.output.status("the gateway has ended")


def _needed(value: str | None, name: str, direction: str) -> str:
    if value is None:
        where = "[gateway]" if name == "folder" else f"[gateway.{direction}]"
        raise UsageError(f"the gateway has no {name}", hint=f"set it in {where} of the configuration")
    return value


def _log_work(cli: Cli) -> None:
    """A line a mail, as the log of a server has it; -q leaves the errors."""
    if not cli.quiet:
        logging.getLogger("tokensign.gateway").setLevel(logging.INFO)


def _stop_at_signals(server: Server) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: server.stop())


def _outgoing(cli: Cli, stack: contextlib.ExitStack, settings: GatewaySettings) -> Processor:
    from tokensign.cli.address_book import open_contacts
    from tokensign.gateway.processing import Outgoing

    rules = settings.outgoing.senders
    if not rules:
        raise UsageError("the gateway has no senders to sign for", hint="write [[gateway.outgoing.senders]]")
    names = {rule.key for rule in rules}
    signers = {name: stack.enter_context(find_signer(cli, name, action="sign mail")) for name in names}
    contacts = None
    if any(rule.encrypt != "off" for rule in rules):
        contacts = stack.enter_context(open_contacts(cli, None))
    return Outgoing(rules, signers, contacts, _trust(cli) if cli.settings.trust else None)


def _incoming(cli: Cli, stack: contextlib.ExitStack, settings: GatewaySettings) -> Processor:
    from tokensign.algorithms import KeyUsage
    from tokensign.gateway.processing import Incoming
    from tokensign.verification import Expectations

    names = {name for rule in settings.incoming.recipients for name in rule.keys}
    strict = cli.settings.require_non_extractable
    keys = {
        name: stack.enter_context(open_holder(cli, name, action="open mail")).open_key(
            key_name(name), KeyUsage.DECRYPT, require_non_extractable=strict
        )
        for name in names
    }
    return Incoming(settings.incoming, keys, Expectations(trust=_trust(cli)))


def _trust(cli: Cli) -> TrustPolicy:
    """Whom to trust, as the configuration says."""
    from tokensign.pki.purpose import Purpose

    return _AS_CONFIGURED.policy(cli, Purpose.EMAIL_PROTECTION, None)


_AS_CONFIGURED: Final = TrustOptions((), None, (), (), (), no_fetch=False, allow_private=())
