"""Messages that were cut or changed on their way: refused, and nothing of their content comes out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.cli.conftest import Terminal

PARTS = [0.1, 0.95]  # where in the message


def damaged(terminal: Terminal, name: str, at: float, *, cut: bool) -> None:
    content = bytearray(terminal.read(name))
    place = int(len(content) * at)
    if cut:
        del content[place:]
    else:
        content[place] ^= 0x01
    terminal.write(name, bytes(content))


@pytest.mark.parametrize(
    ("at", "cut"),
    [(0.02, True), (0.3, True), (0.95, True), (0.3, False), (0.6, False), (0.95, False)],
    ids=lambda value: {True: "cut", False: "flipped"}.get(value, value),
)
def test_damaged_signature_is_refused(terminal: Terminal, at: float, *, cut: bool) -> None:
    damaged(terminal, "signed.p7m", at, cut=cut)
    with terminal.start("verify", "signed.p7m", "--trust", "ca.pem", "-o", "output") as process:
        output, error = process.communicate(timeout=60)
    assert process.returncode in ({4} if cut else {1, 4})
    assert b"error: " in error
    assert b"Traceback" not in error + output
    assert not terminal.exists("output")
    assert terminal.leftovers() == []


@pytest.mark.parametrize("form", ["der", "pem", "smime"])
@pytest.mark.parametrize("at", PARTS)
def test_truncated_encrypted_message_is_refused(terminal: Terminal, at: float, form: str) -> None:
    terminal.run("encrypt", "letter.txt", "--to", "bob.pem", "-o", "message", "--form", form)
    damaged(terminal, "message", at, cut=True)
    finished = terminal.run("decrypt", "message", "-o", "output", code=4)
    assert finished.error.startswith("error: ")
    assert not terminal.exists("output")


@pytest.mark.parametrize("form", ["der", "pem", "smime"])
@pytest.mark.parametrize("at", PARTS)
def test_truncated_compressed_message_is_refused(terminal: Terminal, at: float, form: str) -> None:
    terminal.write("large", bytes(range(256)) * 1000)
    terminal.run("compress", "large", "-o", "message", "--form", form)
    damaged(terminal, "message", at, cut=True)
    finished = terminal.run("decompress", "message", "-o", "output", code=4)
    assert finished.error.startswith("error: ")
    assert not terminal.exists("output")


@pytest.mark.parametrize("transport", ["oaep", "pkcs1"])
@pytest.mark.parametrize("cipher", ["aes-256-gcm", "aes-256-cbc"])
def test_every_cause_of_a_failed_decryption_reads_the_same(
    terminal: Terminal, cipher: str, transport: str
) -> None:
    options = ("--cipher", cipher, "--key-transport", transport, "-o", "message")
    terminal.run("encrypt", "letter.txt", "--to", "bob.pem", *options)
    whole = terminal.read("message")
    texts = set()
    encrypted_key = whole.index(b"\x04\x82\x01\x00") + 100
    last_octet = len(whole) - 1
    for place in (encrypted_key, last_octet) if cipher == "aes-256-gcm" else (encrypted_key,):
        message = bytearray(whole)
        message[place] ^= 0x80
        terminal.write("message", bytes(message))
        texts.add(terminal.run("decrypt", "message", "-o", "output", code=4).error)
        assert not terminal.exists("output")
    assert [text.splitlines() for text in texts] == [
        [
            "error: the message cannot be decrypted",
            "hint: it was damaged on its way, or it was not encrypted to this key",
        ]
    ]


def test_no_octet_of_a_forged_message_reaches_standard_output_or_a_pipe(terminal: Terminal) -> None:
    terminal.write("large", bytes(20 << 20))
    terminal.run("encrypt", "large", "--to", "bob.pem")
    damaged(terminal, "large.p7m", 0.9999, cut=False)
    for target in ("-", "/dev/stdout"):
        assert terminal.run("decrypt", "large.p7m", "-o", target, code=4).output == b""
