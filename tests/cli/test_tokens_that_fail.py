"""Tokens, modules, keys and certificates that are not as they should be: code 3, 4 or 1, and what to do."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.cli.conftest import Terminal

SIGN = ("sign", "letter.txt", "--key", "alice")


@pytest.fixture
def pkcs11_tool(terminal: Terminal, module_path: Path, user_pin: str) -> Callable[..., None]:
    """OpenSC's pkcs11-tool, logged in to the terminal's token."""
    if not shutil.which("pkcs11-tool"):
        pytest.skip("pkcs11-tool is not installed; it comes with OpenSC")

    def run(*arguments: str | Path) -> None:
        login = ("--module", module_path, "--login", "--pin", user_pin)
        subprocess.run(
            ["pkcs11-tool", *login, *arguments],
            env=terminal.environment,
            cwd=terminal.folder,
            check=True,
            capture_output=True,
        )

    return run


def test_token_that_is_gone_is_told(terminal: Terminal) -> None:
    (terminal.folder / "tokens").rename(terminal.folder / "pulled")
    (terminal.folder / "tokens").mkdir()
    finished = terminal.run(*SIGN, code=3)
    assert "has no initialised token" in finished.error
    assert "hint: plug one in" in finished.error
    assert not terminal.exists("letter.txt.p7s")


def test_token_that_is_pulled_out_in_the_middle_is_told(terminal: Terminal) -> None:
    reading, writing = os.pipe()
    arguments = (*SIGN, "--pin-source", f"fd:{reading}")
    with terminal.start(*arguments, pass_fds=[reading]) as process:
        while not terminal.leftovers():  # until it waits for the PIN
            time.sleep(0.001)
        (terminal.folder / "tokens").rename(terminal.folder / "pulled")
        os.write(writing, terminal.read("pin"))
        os.close(writing)
        finished = terminal.finish(process, 3)
    os.close(reading)
    assert finished.error.startswith("error: ")
    assert "hint: " in finished.error
    assert not terminal.exists("letter.txt.p7s")


def test_missing_module_is_named(terminal: Terminal) -> None:
    finished = terminal.run(*SIGN, "--module", "/nowhere.so", code=3)
    assert "there is no PKCS#11 module /nowhere.so" in finished.error
    assert "--module or TOKENSIGN_MODULE" in finished.error


@pytest.mark.parametrize(
    ("content", "words"),
    [("no library", "cannot be loaded"), (b"", "cannot be loaded")],
    ids=["text", "empty"],
)
def test_module_that_is_no_library_is_told(terminal: Terminal, content: str | bytes, words: str) -> None:
    terminal.write("module.so", content)
    finished = terminal.run(*SIGN, "--module", "module.so", code=3)
    assert words in finished.error


def test_library_that_is_no_module_is_told(terminal: Terminal) -> None:
    library = next(Path("/").glob("lib/*/libm.so.6"), Path("/lib64/libm.so.6"))
    finished = terminal.run(*SIGN, "--module", library, code=3)
    assert "is a library, but no PKCS#11 module" in finished.error


@pytest.mark.parametrize(
    ("days", "words"),
    [((-20, -10), "expired on"), ((10, 20), "is not valid before")],
    ids=["expired", "too-early"],
)
def test_nothing_is_signed_with_a_certificate_that_is_not_valid_now(
    terminal: Terminal, certify: Callable[..., None], days: tuple[int, int], words: str
) -> None:
    certify("dave", days=days)
    finished = terminal.run("sign", "letter.txt", "--key", "dave", code=1)
    assert f"the certificate of CN=Dave {words}" in finished.error
    assert "tokensign cert request" in finished.error
    assert not terminal.exists("letter.txt.p7s")


@pytest.mark.parametrize(("when", "words"), [(40, "expired"), (-40, "is not valid before")])
def test_signature_is_not_trusted_outside_of_the_time_of_its_certificate(
    terminal: Terminal, when: int, words: str
) -> None:
    terminal.run(*SIGN)
    moment = (datetime.now(UTC) + timedelta(days=when)).isoformat()
    finished = terminal.run("verify", "letter.txt.p7s", "--trust", "ca.pem", "--at", moment, code=1)
    assert words in finished.error
    assert "✓ integrity" in finished.text
    assert "✗ trust" in finished.text


@pytest.mark.parametrize(
    ("days", "words"),
    [((-20, -10), "expired on"), ((10, 20), "is not valid before")],
    ids=["expired", "too-early"],
)
def test_nothing_is_encrypted_to_a_certificate_that_is_not_valid_now(
    terminal: Terminal, certify: Callable[..., None], days: tuple[int, int], words: str
) -> None:
    certify("dave", kind="rsa:2048", days=days)
    finished = terminal.run("encrypt", "letter.txt", "--to", "dave.pem", code=1)
    assert f"the certificate of CN=Dave {words}" in finished.error
    assert not terminal.exists("letter.txt.p7m")


def test_key_without_a_certificate_does_not_sign(terminal: Terminal) -> None:
    terminal.run("key", "generate", "dave", "--type", "ec:p256")
    finished = terminal.run("sign", "letter.txt", "--key", "dave", code=3)
    assert "has no certificate" in finished.error
    assert "tokensign cert import" in finished.error
    assert not terminal.exists("letter.txt.p7s")


def test_certificate_without_its_key_does_not_sign(terminal: Terminal) -> None:
    terminal.run("key", "delete", "alice", "--yes")
    finished = terminal.run(*SIGN, code=3)
    assert "there is no key alice on the token acme" in finished.error
    assert "object=bob" in finished.error
    assert not terminal.exists("letter.txt.p7s")


def test_certificate_without_its_key_does_not_decrypt(terminal: Terminal) -> None:
    terminal.run("encrypt", "letter.txt", "--to", "alice.pem")
    terminal.run("key", "delete", "alice", "--yes")
    finished = terminal.run("decrypt", "letter.txt.p7m", "-o", "output", code=4)
    assert "no key here is a recipient of this message" in finished.error
    assert "of CN=Acme CA" in finished.error
    assert not terminal.exists("output")


def test_decrypting_on_a_token_without_keys_is_told(terminal: Terminal) -> None:
    terminal.run("encrypt", "letter.txt", "--to", "alice.pem")
    for name in ("alice", "bob", "carol"):
        terminal.run("key", "delete", name, "--yes")
    terminal.run("decrypt", "letter.txt.p7m", "-o", "output", code=4)
    assert not terminal.exists("output")


def test_key_without_a_certificate_decrypts(terminal: Terminal) -> None:
    terminal.run("encrypt", "letter.txt", "--to", "alice.pem")
    terminal.run("key", "generate", "alice2", "--type", "rsa:2048")
    for name in ("bob", "carol"):
        terminal.run("key", "delete", name, "--yes", "--with-certificates")
    terminal.run("decrypt", "letter.txt.p7m", "-o", "output")
    assert terminal.read("output") == terminal.read("letter.txt")


def test_key_that_was_imported_is_weak(terminal: Terminal, pkcs11_tool: Callable[..., None]) -> None:
    subprocess.run(
        ["openssl", "genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-outform", "DER",
         "-out", terminal.folder / "soft.der"],
        check=True, capture_output=True,
    )  # fmt: skip
    pkcs11_tool(
        "--write-object", "soft.der", "--type", "privkey", "--label", "soft", "--id", "07", "--extractable"
    )
    finished = terminal.run("key", "check", "soft", code=3)
    assert "soft (rsa:2048): WEAK" in finished.text
    assert "CKA_EXTRACTABLE" in finished.text
    assert "the key soft is not protected as it must be" in finished.error
    assert "it was imported, so a copy may exist elsewhere" in finished.error
    report = terminal.run("key", "check", "soft", "--json", code=3).json
    assert [entry["weak"] for entry in report] == [True]
    assert "keys         soft (rsa:2048) is weak" in terminal.run("doctor", code=3).text


def test_one_weak_key_fails_the_check_of_all(terminal: Terminal, pkcs11_tool: Callable[..., None]) -> None:
    pkcs11_tool("--keypairgen", "--key-type", "rsa:1024", "--label", "short", "--id", "08", "--sensitive")
    finished = terminal.run("key", "check", code=3)
    assert "alice (rsa:2048): protected" in finished.text
    assert "RSA keys of less than 2048 bits can be broken" in finished.error
