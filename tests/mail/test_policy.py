"""The table [gateway] of the configuration, and where a gateway listens and hands on."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from next_server import next_server

from tokensign.errors import ConfigurationError, NetworkError, UsageError
from tokensign.gateway.hops import Address, Hop, connect, listening, parse_address, parse_hop
from tokensign.gateway.policy import covers, read_gateway_settings

COMPLETE = """
folder = "state"
size-limit = 1000
next-trust = ["ca.pem"]

[outgoing]
listen = "127.0.0.1:1"
next = "127.0.0.1:2"

[[outgoing.senders]]
from = "acme.example"
key = "acme"
encrypt = "prefer"

[incoming]
authserv-id = "mail.acme.example"

[[incoming.recipients]]
to = "bob@acme.example"
keys = ["bob"]
"""


def test_the_settings_are_what_the_table_says() -> None:
    settings = read_gateway_settings(tomllib.loads(COMPLETE), Path("/etc/tokensign"))
    assert settings.folder == Path("/etc/tokensign/state")
    assert settings.next_trust == (Path("/etc/tokensign/ca.pem"),)
    assert settings.size_limit == 1000
    (sender,) = settings.outgoing.senders
    assert (sender.sender, sender.key, sender.encrypt) == ("acme.example", "acme", "prefer")
    (recipient,) = settings.incoming.recipients
    assert (recipient.recipient, recipient.keys) == ("bob@acme.example", ("bob",))
    assert not settings.incoming.open_unauthenticated


@pytest.mark.parametrize(
    "table",
    [
        {"outgoin": {}},
        {"outgoing": {"senders": "acme.example"}},
        {"outgoing": {"senders": [{"from": "acme.example"}]}},
        {"outgoing": {"senders": [{"from": "acme.example", "key": "acme", "encrypt": "maybe"}]}},
        {"incoming": {"recipients": [{"to": "acme.example", "keys": []}]}},
        {"incoming": {"authserv-id": "a; smime=pass"}},
        {"incoming": {"open-unauthenticated": "no"}},
    ],
)
def test_a_slip_of_the_finger_is_an_error(table: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        read_gateway_settings(table, Path())


@pytest.mark.parametrize(
    ("rule", "address", "covered"),
    [
        ("acme.example", "alice@acme.example", True),
        ("acme.example", "alice@ACME.example", True),
        ("bücher.example", "a@xn--bcher-kva.example", True),
        ("acme.example", "alice@sub.acme.example", False),
        ("acme.example", "alice@evilacme.example", False),
        ("acme.example", "acme.example", False),
        ("alice@acme.example", "alice@acme.example", True),
        ("alice@acme.example", "bob@acme.example", False),
        ("acme.example", "", False),
    ],
)
def test_a_rule_covers_an_address_or_a_domain(rule: str, address: str, covered: bool) -> None:  # noqa: FBT001
    assert covers(rule, address) is covered


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:10025", Address("127.0.0.1", 10025)),
        ("[::1]:25", Address("::1", 25)),
        ("unix:/run/x", Address("/run/x", None)),
    ],
)
def test_an_address_reads_as_it_is_written(text: str, address: Address) -> None:
    assert parse_address(text) == address
    assert str(address) == text


@pytest.mark.parametrize("text", ["10025", "h:0", "h:65536", "unix:run", "h", "a b:25"])
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(UsageError):
        parse_address(text)


def test_the_next_hop_speaks_smtp_unless_said() -> None:
    assert parse_hop("h:25") == parse_hop("smtp:h:25") == Hop("smtp", Address("h", 25))
    assert parse_hop("lmtp:unix:/run/x") == Hop("lmtp", Address("/run/x", None))
    with pytest.raises(UsageError, match="SMTP needs a host"):
        parse_hop("unix:/run/x")


@pytest.mark.parametrize("text", ["0.0.0.0:10025", "192.0.2.1:10025", "mail.acme.example:10025"])
def test_the_gateway_listens_to_its_own_machine_only(text: str) -> None:
    with pytest.raises(UsageError, match="whoever connects there has mail signed"):
        listening(parse_address(text))


def test_mail_to_another_machine_goes_over_tls_or_not_at_all() -> None:
    with next_server() as server:
        elsewhere = Hop("smtp", Address("127.1", server.port))  # a name that is not known to be this machine
        with pytest.raises(NetworkError, match="offers no TLS"), connect(elsewhere):
            pass
        assert not any(command.upper().startswith("MAIL") for command in server.commands)
