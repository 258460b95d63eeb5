"""`verify` and the servers that its certificates name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from loopback import Website

    from tests.cli.conftest import Authority, Terminal

VERIFY = (
    "verify",
    "letter.txt.p7s",
    "--content",
    "letter.txt",
    "--trust",
    "ca.pem",
    "--untrusted",
    "dave.pem",
)
HERE = ("--allow-private", "127.0.0.1")


@pytest.fixture
def signed(
    terminal: Terminal, certify: Callable[..., None], website: Website, authority: Authority
) -> Terminal:
    """A terminal where Dave has signed, whose certificate says where the CRL of its CA is."""
    website.serve("/ca.crl", lambda exchange: exchange.answer(authority.revocation_list()))
    certify("dave", crl=website.at("/ca.crl"))
    terminal.run("sign", "letter.txt", "--key", "dave")
    return terminal


def test_a_mere_verify_asks_nobody(signed: Terminal, website: Website) -> None:
    assert "signature of CN=Dave: good" in signed.run(*VERIFY).text
    assert website.asked == []


def test_the_crl_is_asked_for_once_a_day(signed: Terminal, website: Website) -> None:
    for mode in ("require", "prefer"):
        assert "signature of CN=Dave: good" in signed.run(*VERIFY, "--revocation", mode, *HERE).text
    assert website.asked == ["/ca.crl"]
    signed.run(*VERIFY, "--revocation", "require", "--no-fetch", code=1)
    assert website.asked == ["/ca.crl"]


def test_a_certificate_on_the_crl_is_refused(
    signed: Terminal, website: Website, authority: Authority
) -> None:
    crl = authority.revocation_list(signed.read("dave.pem"))
    website.serve("/ca.crl", lambda exchange: exchange.answer(crl))
    refused = signed.run(*VERIFY, "--revocation", "prefer", *HERE, code=1)
    assert "the certificate of Dave was revoked on" in refused.error


def test_a_private_address_is_asked_only_where_that_is_allowed(signed: Terminal, website: Website) -> None:
    refused = signed.run(*VERIFY, "--revocation", "require", code=1)
    assert "127.0.0.1 is not asked: its address 127.0.0.1 is not public" in refused.error
    assert website.asked == []
    signed.write("allowing.toml", '[revocation]\nmode = "require"\nallow-private = ["127.0.0.0/8"]\n')
    signed.run("--config", "allowing.toml", *VERIFY)
    assert website.asked == ["/ca.crl"]


def test_the_configuration_switches_servers_on_and_off(signed: Terminal, website: Website) -> None:
    signed.write("off.toml", "[revocation]\nfetch = false\n")
    signed.run("--config", "off.toml", *VERIFY, "--revocation", "require", *HERE, code=1)
    assert website.asked == []
    signed.write("on.toml", "[revocation]\nfetch = true\n")
    signed.run("--config", "on.toml", *VERIFY, *HERE)
    assert website.asked == ["/ca.crl"]


def test_a_network_that_is_none_is_refused(terminal: Terminal) -> None:
    refused = terminal.run(*VERIFY, "--allow-private", "intranet", code=2)
    assert "'intranet' is not a network; write 10.0.0.0/8 or 192.168.1.7" in refused.error
