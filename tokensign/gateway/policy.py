"""What the gateway does with whose mail: the table [gateway] of the configuration.

    [gateway]
    folder = "/var/lib/tokensign/gateway"   # its journal; private
    size-limit = 52428800                   # octets of a mail
    next-trust = ["next-ca.pem"]            # CAs of a next hop on another machine

    [gateway.outgoing]
    listen = "127.0.0.1:10025"              # where the mail server delivers, by LMTP
    next = "127.0.0.1:10026"                # where mail goes on

    [[gateway.outgoing.senders]]            # the first one that fits the From field decides
    from = "acme.example"                   # a domain, or an address
    key = "acme"                            # signs
    encrypt = "prefer"                      # off; prefer: if all recipients have certificates; require

    [gateway.incoming]
    listen = "127.0.0.1:10035"
    next = "lmtp:unix:/run/dovecot/lmtp"
    authserv-id = "mail.acme.example"       # of Authentication-Results (RFC 8601)
    open-unauthenticated = false            # also what is encrypted with CBC and not signed

    [[gateway.incoming.recipients]]         # whose mail is decrypted; other mail is verified only
    to = "acme.example"
    keys = ["acme"]

Paths in it are relative to the folder of the file. Certificates of recipients are taken from the contacts.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from tokensign.errors import ConfigurationError
from tokensign.gateway.lmtp import SIZE_MAXIMUM
from tokensign.mailboxes import same_mailbox
from tokensign.settings import FLAG, LIST, NUMBER, TABLE, TABLES, TEXT, check_table

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = [
    "Encryption",
    "GatewaySettings",
    "IncomingSettings",
    "OutgoingSettings",
    "RecipientRule",
    "SenderRule",
    "covers",
    "read_gateway_settings",
]

Encryption = Literal["off", "prefer", "require"]

_KEYS: Final = {
    "folder": TEXT,
    "size-limit": NUMBER,
    "next-trust": LIST,
    "outgoing": TABLE,
    "incoming": TABLE,
}
_OUTGOING_KEYS: Final = {"listen": TEXT, "next": TEXT, "senders": TABLES}
_INCOMING_KEYS: Final = {
    "listen": TEXT,
    "next": TEXT,
    "authserv-id": TEXT,
    "open-unauthenticated": FLAG,
    "recipients": TABLES,
}
_SENDER_KEYS: Final = {"from": TEXT, "key": TEXT, "encrypt": TEXT}
_RECIPIENT_KEYS: Final = {"to": TEXT, "keys": LIST}
_AUTHSERV_ID: Final = re.compile(r"[A-Za-z0-9._-]+")  # RFC 8601 section 2.5, without what needs quotes


@dataclass(frozen=True, slots=True)
class SenderRule:
    """What is done with the mail of a sender.

    Attributes:
        sender: An address, or a domain.
        key: The name of the key that signs.
        encrypt: Whether it is encrypted: never; where every recipient has a certificate; or always, and a
            recipient without a certificate does not get it.
    """

    sender: str
    key: str
    encrypt: Encryption = "off"


@dataclass(frozen=True, slots=True)
class RecipientRule:
    """Which keys decrypt the mail of a recipient.

    Attributes:
        recipient: An address, or a domain.
        keys: The names of the keys.
    """

    recipient: str
    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class OutgoingSettings:
    """The way out.

    Attributes:
        listen: Where the mail server delivers, or None.
        next_hop: Where mail goes on, or None.
        senders: The rules, of which the first that fits decides.
    """

    listen: str | None = None
    next_hop: str | None = None
    senders: tuple[SenderRule, ...] = ()


@dataclass(frozen=True, slots=True)
class IncomingSettings:
    """The way in.

    Attributes:
        listen: Where the mail server delivers, or None.
        next_hop: Where mail goes on, or None.
        authserv_id: Who says what is in Authentication-Results, or None: that is not written.
        open_unauthenticated: Whether mail is decrypted which nothing protects from changes on its way.
        recipients: The rules, of which the first that fits decides.
    """

    listen: str | None = None
    next_hop: str | None = None
    authserv_id: str | None = None
    open_unauthenticated: bool = False
    recipients: tuple[RecipientRule, ...] = ()


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    """The gateway.

    Attributes:
        folder: Where its journal is, or None.
        size_limit: Octets of a mail at the most.
        next_trust: Files with the CAs of a next hop on another machine; empty for the system's.
        outgoing: The way out.
        incoming: The way in.
    """

    folder: Path | None = None
    size_limit: int = SIZE_MAXIMUM
    next_trust: tuple[Path, ...] = ()
    outgoing: OutgoingSettings = OutgoingSettings()
    incoming: IncomingSettings = IncomingSettings()


def read_gateway_settings(table: Mapping[str, Any], folder: Path) -> GatewaySettings:
    """Read the table [gateway].

    Args:
        table: As TOML has it.
        folder: The folder to which paths in it are relative.

    Raises:
        ConfigurationError: A setting is not known, or has a value that it cannot have.
    """
    check_table(table, _KEYS, "[gateway]:")
    return GatewaySettings(
        folder=folder / table["folder"] if "folder" in table else None,
        size_limit=int(table.get("size-limit", SIZE_MAXIMUM)),
        next_trust=tuple(folder / entry for entry in table.get("next-trust", ())),
        outgoing=_outgoing(table.get("outgoing", {})),
        incoming=_incoming(table.get("incoming", {})),
    )


def covers(rule: str, address: str) -> bool:
    """Whether an address is the one of a rule, or in its domain."""
    if "@" in rule:
        return same_mailbox(rule, address)
    local, at, _ = address.rpartition("@")
    return bool(local and at) and same_mailbox(f"{local}@{rule}", address)


def _outgoing(table: dict[str, Any]) -> OutgoingSettings:
    where = "[gateway.outgoing]:"
    check_table(table, _OUTGOING_KEYS, where)
    rules = tuple(
        SenderRule(rule["from"], rule["key"], _encryption(rule.get("encrypt", "off"), where))
        for rule in _rules(table, "senders", _SENDER_KEYS, ("from", "key"), where)
    )
    return OutgoingSettings(table.get("listen"), table.get("next"), rules)


def _incoming(table: dict[str, Any]) -> IncomingSettings:
    where = "[gateway.incoming]:"
    check_table(table, _INCOMING_KEYS, where)
    name = table.get("authserv-id")
    if name is not None and not _AUTHSERV_ID.fullmatch(name):
        raise ConfigurationError(f"{where} {name!r} is no authserv-id", hint="write the name of the machine")
    rules = tuple(
        RecipientRule(rule["to"], tuple(rule["keys"]))
        for rule in _rules(table, "recipients", _RECIPIENT_KEYS, ("to", "keys"), where)
    )
    opens = table.get("open-unauthenticated", False)
    return IncomingSettings(table.get("listen"), table.get("next"), name, opens, rules)


def _rules(
    table: dict[str, Any], name: str, known: dict[str, str], needed: tuple[str, ...], where: str
) -> list[dict[str, Any]]:
    rules: list[dict[str, Any]] = table.get(name, [])
    for rule in rules:
        check_table(rule, known, f"{where} {name}:")
        missing = [key for key in needed if not rule.get(key)]
        if missing:
            raise ConfigurationError(f"{where} one of {name} has no {missing[0]!r}")
    return rules


def _encryption(value: str, where: str) -> Encryption:
    match value:
        case "off" | "prefer" | "require":
            return value
        case _:
            raise ConfigurationError(
                f"{where} encrypt cannot be {value!r}", hint="it is off, prefer or require"
            )
