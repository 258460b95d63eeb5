"""`tokensign timestamp`, and `sign --level`, with OpenSSL's timestamp authority behind HTTP."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from loopback import closed_port
from timestamping import OpensslTsa, certify

if TYPE_CHECKING:
    from loopback import Website

    from tests.cli.conftest import Terminal

TRUST = ("--trust", "ca.pem", "--trust", "tsa-root.pem")
CRLS = ("--crl", "none-revoked.crl", "--crl", "tsa-root.crl")
LATER = ("--at", "2090-01-01")  # when every certificate has expired


@dataclass(frozen=True)
class Authority:
    url: str
    tsa: OpensslTsa


@pytest.fixture
def authority_of_times(terminal: Terminal, website: Website) -> Authority:
    root = certify("TSA root", ca=True)
    terminal.write("tsa-root.pem", root.certificate.pem())
    terminal.write("tsa-root.crl", root.crl())
    tsa = OpensslTsa(terminal.folder / "tsa", root.issue("TSA", timestamping=True))
    return Authority(website.serve("/tsa", tsa.page), tsa)


def level(terminal: Terminal, name: str, *options: str) -> str | None:
    report = terminal.run("verify", name, *TRUST, *options, "--revocation", "require", "--no-fetch", "--json")
    found: str | None = report.json["signers"][0]["level"]
    return found


def test_a_request_is_answered_and_the_answer_verified(
    terminal: Terminal, authority_of_times: Authority
) -> None:
    terminal.run("timestamp", "query", "letter.txt", "-o", "letter.tsq")
    terminal.write("letter.tsr", authority_of_times.tsa.reply(terminal.read("letter.tsq")))
    command = ("timestamp", "verify", "letter.tsr", "--data", "letter.txt", "--trust", "tsa-root.pem")
    told = terminal.run(*command, "--query", "letter.tsq")
    assert "letter.txt existed on 20" in told.text
    document = terminal.run(*command, "--json").json
    assert set(document) == {
        "time", "accuracy_seconds", "authority", "serial_number", "policy", "digest", "path",
    }  # fmt: skip
    assert document["authority"] == "CN=TSA"


def test_a_timestamp_of_other_data_or_another_authority_does_not_hold(
    terminal: Terminal, authority_of_times: Authority
) -> None:
    terminal.run("timestamp", "query", "letter.txt", "-o", "letter.tsq")
    terminal.run("timestamp", "query", "letter.txt", "-o", "other.tsq")
    terminal.write("letter.tsr", authority_of_times.tsa.reply(terminal.read("letter.tsq")))
    command = ("timestamp", "verify", "letter.tsr", "--data")
    terminal.run(*command, "alice.pem", "--trust", "tsa-root.pem", code=1)
    terminal.run(*command, "letter.txt", "--trust", "ca.pem", code=1)
    terminal.run(*command, "letter.txt", "--trust", "tsa-root.pem", "--query", "other.tsq", code=1)
    terminal.run(*command, "letter.txt", "--trust", "tsa-root.pem", *LATER, code=1)


def test_a_request_says_what_it_was_told_to(terminal: Terminal, authority_of_times: Authority) -> None:
    terminal.run(
        "timestamp",
        "query",
        "letter.txt",
        "-o",
        "q.tsq",
        "--policy",
        "1.2.3.9",
        "--no-nonce",
        "--digest",
        "sha512",
    )
    terminal.write("refused.tsr", authority_of_times.tsa.reply(terminal.read("q.tsq")))
    refused = terminal.run(
        "timestamp", "verify", "refused.tsr", "--data", "letter.txt", "--trust", "tsa-root.pem", code=4
    )
    assert "unaccepted policy" in refused.error
    terminal.run("timestamp", "query", "letter.txt", "-o", "-", "--policy", "mine", code=2)


@pytest.mark.parametrize("wanted", ["b-lt", "b-lta"])
def test_a_signature_is_made_at_a_level(
    terminal: Terminal, authority_of_times: Authority, wanted: str
) -> None:
    terminal.run(
        "sign", "letter.txt", "--key", "alice", "--level", wanted, "--tsa", authority_of_times.url,
        *TRUST, *CRLS, "--no-fetch",
    )  # fmt: skip
    assert level(terminal, "letter.txt.p7s") == wanted
    if wanted == "b-lta":
        assert level(terminal, "letter.txt.p7s", *LATER) == wanted


def test_a_level_can_be_demanded(terminal: Terminal, authority_of_times: Authority) -> None:
    terminal.run("sign", "letter.txt", "--key", "alice", "--level", "b-t", "--tsa", authority_of_times.url)
    terminal.run("verify", "letter.txt.p7s", *TRUST, "--level", "b-t")
    report = terminal.run("verify", "letter.txt.p7s", *TRUST, "--level", "b-lta", "--json", code=1).json
    assert report["failed"] == ["policy"]


def test_a_plain_signature_does_not_last(terminal: Terminal) -> None:
    terminal.run("sign", "letter.txt", "--key", "alice")
    terminal.run("verify", "letter.txt.p7s", "--trust", "ca.pem", *LATER, code=1)


@pytest.mark.parametrize(
    "form",
    [
        ("--attached",),
        ("--attached", "--form", "pem"),
        ("--form", "smime"),
        ("--attached", "--form", "smime"),
    ],
)
def test_every_form_takes_timestamps(
    terminal: Terminal, authority_of_times: Authority, form: tuple[str, ...]
) -> None:
    terminal.run(
        "sign", "letter.txt", "--key", "alice", *form, "-o", "signed", "--level", "b-lta",
        "--tsa", authority_of_times.url, *TRUST, *CRLS, "--no-fetch",
    )  # fmt: skip
    assert level(terminal, "signed", *LATER) == "b-lta"


def test_without_trust_a_timestamp_is_taken_and_said_to_be_unchecked(
    terminal: Terminal, authority_of_times: Authority
) -> None:
    told = terminal.run(
        "sign", "letter.txt", "--key", "alice", "--level", "b-t", "--tsa", authority_of_times.url
    )
    assert "not checked who issued the TSA's certificate" in told.error
    report = terminal.run("verify", "letter.txt.p7s", *TRUST, "--json").json
    assert report["signers"][0]["level"] == "b-t"


def test_a_signature_is_extended_and_renewed_without_its_key(
    terminal: Terminal, authority_of_times: Authority
) -> None:
    terminal.run("sign", "letter.txt", "--key", "alice")
    (terminal.folder / "pin").unlink()
    for source, target in (("letter.txt.p7s", "once.p7s"), ("once.p7s", "twice.p7s")):
        terminal.run(
            "timestamp", "extend", source, "--content", "letter.txt", "-o", target, "--level", "b-lta",
            "--tsa", authority_of_times.url, *TRUST, *CRLS, "--no-fetch",
        )  # fmt: skip
        assert level(terminal, target, "--content", "letter.txt", *LATER) == "b-lta"


def test_an_archived_signature_that_was_changed_does_not_hold(
    terminal: Terminal, authority_of_times: Authority
) -> None:
    terminal.run(
        "sign", "letter.txt", "--key", "alice", "--level", "b-lta", "--tsa", authority_of_times.url,
        *TRUST, *CRLS, "--no-fetch",
    )  # fmt: skip
    changed = bytearray(terminal.read("letter.txt.p7s"))
    changed[-1] ^= 1  # in an index of an archive timestamp, or in its signature
    terminal.write("letter.txt.p7s", bytes(changed))
    terminal.run("verify", "letter.txt.p7s", *TRUST, code=1)


def test_a_signature_of_another_content_is_not_extended(
    terminal: Terminal, authority_of_times: Authority
) -> None:
    terminal.run("sign", "letter.txt", "--key", "alice")
    terminal.run(
        "timestamp", "extend", "letter.txt.p7s", "--content", "alice.pem", "-o", "out.p7s", "--level", "b-t",
        "--tsa", authority_of_times.url, code=1,
    )  # fmt: skip
    assert not terminal.exists("out.p7s")


def test_a_tsa_that_is_not_there_leaves_nothing_behind(terminal: Terminal) -> None:
    url = f"http://127.0.0.1:{closed_port()}/"
    terminal.run("sign", "letter.txt", "--key", "alice", "--level", "b-t", "--tsa", url, code=5)
    assert not terminal.exists("letter.txt.p7s")


@pytest.mark.parametrize(
    "options",
    [
        ("--level", "b-t"),
        ("--tsa", "http://127.0.0.1/"),
        ("--level", "b-lt", "--tsa", "http://127.0.0.1/"),
        ("--level", "b-t", "--tsa", "http://127.0.0.1/", "--no-certificates"),
        ("--level", "b-t", "--tsa", "http://127.0.0.1/", "--countersign", "signed.p7m"),
    ],
    ids=" ".join,
)
def test_what_cannot_be_meant_is_refused(terminal: Terminal, options: tuple[str, ...]) -> None:
    terminal.run("sign", "letter.txt", "--key", "alice", *options, code=2)


def test_a_level_says_the_media_type(terminal: Terminal) -> None:
    terminal.run("sign", "letter.txt", "--key", "alice", "--level", "b-b")
    assert b"text/plain" in terminal.read("letter.txt.p7s")
