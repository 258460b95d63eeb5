"""Messages inside messages: `decrypt` opens one or all, `inspect` tells what is seen without a key."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import pytest

import tokensign
from tokensign.cms.compressed import COMPRESSED_DATA
from tokensign.cms.digested import DIGESTED_DATA

if TYPE_CHECKING:
    from tests.cli.conftest import Terminal

AUTHENTICATED_ONLY = {"kind": "authenticated-data", "cipher": None, "authenticated": True}


def compressed(content: bytes) -> bytes:
    output = io.BytesIO()
    tokensign.compress(io.BytesIO(content), output)
    return output.getvalue()


def digested(content: bytes, content_type: str) -> bytes:
    output = io.BytesIO()
    tokensign.make_digested_data(io.BytesIO(content), output, content_type=content_type)
    return output.getvalue()


@pytest.fixture
def layered(terminal: Terminal) -> bytes:
    """`layered.p7m`: the letter compressed, with a digest, encrypted to Bob."""
    inside = digested(compressed(terminal.read("letter.txt")), COMPRESSED_DATA)
    output = io.BytesIO()
    certificates = tokensign.load_certificates(terminal.read("bob.pem"))
    tokensign.encrypt(io.BytesIO(inside), certificates, output, content_type=DIGESTED_DATA)
    terminal.write("layered.p7m", output.getvalue())
    return inside


def test_one_layer_is_opened_and_the_next_is_named(terminal: Terminal, layered: bytes) -> None:
    finished = terminal.run("decrypt", "layered.p7m", "-o", "inside")
    assert terminal.read("inside") == layered
    assert finished.error.splitlines() == [
        "inside: decrypted (aes-256-gcm, unchanged since it was encrypted)",
        "inside: the content is digested-data; --all-layers opens it or makes a file of it",
    ]


@pytest.mark.usefixtures("layered")
def test_all_layers_are_opened_and_told(terminal: Terminal) -> None:
    finished = terminal.run("decrypt", "layered.p7m", "--all-layers", "-o", "inside", "--json")
    assert terminal.read("inside") == terminal.read("letter.txt")
    assert finished.json["content_type"] == "data"
    assert [layer["kind"] for layer in finished.json["layers"]] == [
        "auth-enveloped-data", "digested-data", "compressed-data",
    ]  # fmt: skip


def test_a_layer_that_was_changed_leaves_nothing(terminal: Terminal, layered: bytes) -> None:
    broken = layered[:-1] + bytes((layered[-1] ^ 1,))
    terminal.write("broken.p7m", broken)
    finished = terminal.run("decrypt", "broken.p7m", "--all-layers", "-o", "inside", code=4)
    assert "the content was changed" in finished.error
    assert not terminal.exists("inside")


def test_what_needs_no_key_needs_no_token(terminal: Terminal, layered: bytes) -> None:
    terminal.write("inside.p7m", layered)
    nowhere: dict[str, str | None] = {"TOKENSIGN_MODULE": "/nowhere.so"}
    terminal.run("decrypt", "inside.p7m", "--all-layers", "-o", "letter.again", environment=nowhere)
    assert terminal.read("letter.again") == terminal.read("letter.txt")


def test_inspect_goes_as_deep_as_it_sees(terminal: Terminal, layered: bytes) -> None:
    terminal.write("inside.p7m", layered)
    document = terminal.run("inspect", "inside.p7m", "--json").json
    assert document["kind"] == "digested-data"
    assert document["content_type"] == "compressed-data"
    assert document["inside"]["kind"] == "compressed-data"
    assert document["inside"]["content_type"] == "data"
    assert "inside" not in document["inside"]
    shown = terminal.run("inspect", "inside.p7m").text
    assert "inside:\n  kind: compressed-data\n  content type: data\n" in shown


def test_inspect_stops_at_what_it_cannot_see(terminal: Terminal, layered: bytes) -> None:
    assert layered
    document = terminal.run("inspect", "layered.p7m", "--json").json
    assert (document["kind"], document["content_type"]) == ("auth-enveloped-data", "digested-data")
    assert "inside" not in document


def test_more_layers_than_anybody_makes_are_refused(terminal: Terminal) -> None:
    message = digested(compressed(b""), COMPRESSED_DATA)
    for _ in range(8):
        message = digested(message, DIGESTED_DATA)
    terminal.write("deep.p7m", message)
    document = terminal.run("inspect", "deep.p7m", "--json").json
    while "inside" in document:
        document = document["inside"]
    assert document["problem"] == "there are more than 8 messages inside each other"
    terminal.run("decrypt", "deep.p7m", "--all-layers", "-o", "inside", code=4)
    assert not terminal.exists("inside")


def test_what_is_broken_inside_is_told_after_what_is_whole_outside(terminal: Terminal) -> None:
    terminal.write("broken.p7m", digested(b"this is no message", COMPRESSED_DATA))
    document = terminal.run("inspect", "broken.p7m", "--json").json
    assert document["kind"] == "digested-data"
    assert "cut off" in document["problem"]


def test_authenticated_content_is_checked(terminal: Terminal) -> None:
    output = io.BytesIO()
    certificates = tokensign.load_certificates(terminal.read("bob.pem"))
    tokensign.authenticate(io.BytesIO(b"Pay 100."), certificates, output)
    terminal.write("message.p7m", output.getvalue())
    finished = terminal.run("decrypt", "message.p7m", "-o", "content", "--json")
    assert terminal.read("content") == b"Pay 100."
    assert finished.json["layers"] == [AUTHENTICATED_ONLY]
    terminal.write("message.p7m", output.getvalue().replace(b"Pay 100.", b"Pay 900."))
    finished = terminal.run("decrypt", "message.p7m", "-o", "changed", code=4)
    assert "error: the message cannot be authenticated" in finished.error
    assert not terminal.exists("changed")
