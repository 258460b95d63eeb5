"""A person with an old key and a new one on the token."""

from __future__ import annotations

import shutil
import subprocess
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.conftest import Authority, Terminal

EMAIL = "dave@acme.example"


@pytest.fixture(scope="module")
def with_two_keys(
    furnished: Path,
    new_terminal: Callable[[Path], Terminal],
    authority: Authority,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """A folder to be copied; see `rotated`."""
    folder = tmp_path_factory.mktemp("rotated")
    shutil.copytree(furnished, folder, dirs_exist_ok=True)
    terminal = new_terminal(folder)
    terminal.certify(authority, "old", "Dave", kind="rsa:2048", email=EMAIL, days=(-20, -10))
    terminal.certify(authority, "new", "Dave", kind="rsa:2048", email=EMAIL)
    for name, options in (("issuer", ()), ("ski", ("-keyid",))):
        output = ["-binary", "-outform", "DER", "-out", f"{name}.p7m"]
        recipient = ["-recip", "old.pem", *options]
        subprocess.run(
            ["openssl", "cms", "-encrypt", "-aes256", "-in", "letter.txt", *output, *recipient],
            cwd=folder,
            check=True,
        )
    return folder


@pytest.fixture
def rotated(with_two_keys: Path, new_terminal: Callable[[Path], Terminal], tmp_path: Path) -> Terminal:
    """A terminal with Dave's old RSA key, whose certificate has expired, and his new one beside it.

    `issuer.p7m` and `ski.p7m` are encrypted to the old one, named by issuer and serial number and by its
    subject key identifier.
    """
    shutil.copytree(with_two_keys, tmp_path, dirs_exist_ok=True)
    return new_terminal(tmp_path)


@pytest.mark.parametrize("message", ["issuer.p7m", "ski.p7m"])
def test_what_was_encrypted_to_a_retired_key_is_decrypted(rotated: Terminal, message: str) -> None:
    rotated.run("decrypt", message, "-o", "back.txt")
    assert rotated.read("back.txt") == rotated.read("letter.txt")


@pytest.mark.parametrize("message", ["issuer.p7m", "ski.p7m"])
def test_so_is_what_was_encrypted_to_a_key_that_has_no_certificate_any_more(
    rotated: Terminal, module_path: Path, user_pin: str, message: str
) -> None:
    key_id = rotated.run("key", "show", "old", "--json").json["id"]
    delete = ["--login", "--pin", user_pin, "--delete-object", "--type", "cert", "--id", key_id]
    subprocess.run(
        ["pkcs11-tool", "--module", module_path, *delete],
        env=rotated.environment,
        check=True,
        capture_output=True,
    )
    assert rotated.run("key", "show", "old", "--json").json["has_certificate"] is False
    rotated.run("decrypt", message, "-o", "back.txt")
    assert rotated.read("back.txt") == rotated.read("letter.txt")


def test_the_person_signs_with_the_new_key(rotated: Terminal) -> None:
    document = rotated.run("sign", "letter.txt", "--key", EMAIL, "--json").json
    (signer,) = document["signers"]
    assert signer["key"] == rotated.run("key", "show", "new", "--json").json["uri"]


def test_messages_are_encrypted_to_the_new_key(rotated: Terminal) -> None:
    rotated.run("encrypt", "letter.txt", "--to", EMAIL)
    rotated.run("decrypt", "letter.txt.p7m", "--key", "new", "-o", "back.txt")
    assert rotated.read("back.txt") == rotated.read("letter.txt")
    rotated.run("decrypt", "letter.txt.p7m", "--key", "old", "-o", "x.txt", code=4)


def test_the_retired_key_signs_nothing(rotated: Terminal) -> None:
    finished = rotated.run("sign", "letter.txt", "--key", "old", code=1)
    assert "the certificate of CN=Dave expired on" in finished.error
    assert not rotated.exists("letter.txt.p7s")


def test_an_old_key_whose_certificate_is_still_valid_is_retired_and_reads_on(
    terminal: Terminal, certify: Callable[..., None]
) -> None:
    certify("old", "Dave", kind="rsa:2048", email=EMAIL)
    terminal.run("encrypt", "letter.txt", "--to", "old.pem", "-o", "before.p7m")
    certify("new", "Dave", kind="rsa:2048", email=EMAIL)
    terminal.run("key", "retire", "old", "--yes")
    terminal.run("encrypt", "letter.txt", "--to", "old.pem", "-o", "late.p7m")  # by who has not heard yet
    (signer,) = terminal.run("sign", "letter.txt", "--key", EMAIL, "--json").json["signers"]
    assert signer["key"] == terminal.run("key", "show", "new", "--json").json["uri"]
    for message in ("before.p7m", "late.p7m"):
        terminal.run("decrypt", message, "-o", f"{message}.txt")
        assert terminal.read(f"{message}.txt") == terminal.read("letter.txt")
    notes = {one["label"]: one["notes"] for one in terminal.run("key", "list", "--json").json}
    assert (notes["old"], notes["new"]) == (["retired"], [])


def test_the_inventory_warns_of_what_has_ended_and_what_ends_soon(rotated: Terminal) -> None:
    ended = rotated.run("key", "list", "--expiring", "0")
    assert "warning: old: the certificate expired on" in ended.error
    assert [line.split()[0] for line in ended.text.splitlines()[2:]] == ["old"]
    assert rotated.run("cert", "list", "--expiring", "0", "--json").json[0]["label"] == "old"
    until = rotated.run("key", "show", "new", "--json").json["valid_until"]
    left = (datetime.fromisoformat(until) - datetime.now(UTC)).days
    assert f"in {left} days" in rotated.run("key", "list", "--expiring", str(left + 1)).error
    assert "new" not in rotated.run("key", "list", "--expiring", str(left - 1)).text
