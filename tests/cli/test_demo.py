"""`tokensign demo`: its story, and its files in the hands of OpenSSL."""

from __future__ import annotations

import subprocess
import time
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Finished, Terminal

SECONDS = 15  # what the demonstration may take once installed


@pytest.fixture(scope="module")
def story(new_terminal: object, tmp_path_factory: pytest.TempPathFactory) -> tuple[Terminal, Finished, float]:
    """A terminal in whose folder the demonstration ran, what it printed, and the seconds that it took."""
    terminal = new_terminal(tmp_path_factory.mktemp("demo"))  # type: ignore[operator] # a fixture that is a function
    started = time.monotonic()
    finished = terminal.run("demo")
    return terminal, finished, time.monotonic() - started


def openssl(folder: Path, *arguments: str, environment: dict[str, str] | None = None) -> bytes:
    done = subprocess.run(
        ["openssl", "cms", *arguments], cwd=folder, env=environment, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def test_demonstration_is_over_soon(story: tuple[Terminal, Finished, float]) -> None:
    assert story[2] < 2 * SECONDS  # twice, for machines that are busy with other tests


def test_story_tells_what_happens_where(story: tuple[Terminal, Finished, float]) -> None:
    text = story[1].text
    for line in (
        "[token]  an RSA 3072 key for Alice: sensitive, not extractable",
        "[token]  Alice's key signs them",
        "[token]  Bob's key unwraps the session key",
        "[host]   integrity: the content is what was signed",
        "[host]   trust: issued under CN=Demo CA,O=Acme",
        "[host]   identity: the certificate belongs to alice@acme.example",
        "a changed word: the signature of CN=Alice,O=Acme does not hold",
        "a changed byte of the encrypted mail: the message cannot be decrypted",
    ):
        assert line in text


@pytest.mark.parametrize("name", ["signed.eml", "decrypted.eml"])
def test_openssl_accepts_the_signed_mail(story: tuple[Terminal, Finished, float], name: str) -> None:
    folder = story[0].folder / "tokensign-demo"
    content = openssl(folder, "-verify", "-in", name, "-CAfile", "ca.pem")
    assert content == (folder / "content.eml").read_bytes()


def test_openssl_refuses_the_tampered_mail(story: tuple[Terminal, Finished, float]) -> None:
    folder = story[0].folder / "tokensign-demo"
    with pytest.raises(AssertionError, match="verification failure"):
        openssl(folder, "-verify", "-in", "tampered-signed.eml", "-CAfile", "ca.pem")


def test_openssl_decrypts_the_encrypted_mail_with_the_key_on_the_token(
    story: tuple[Terminal, Finished, float], module_path: Path
) -> None:
    """Bob's key stays where it is: OpenSSL reaches it through its own PKCS #11 engine."""
    engine = subprocess.run(
        ["openssl", "engine", "-t", "pkcs11"], capture_output=True, text=True, check=False
    )
    if "[ available ]" not in engine.stdout:
        pytest.skip("OpenSSL's PKCS #11 engine is not installed (libengine-pkcs11-openssl)")
    folder = story[0].folder / "tokensign-demo"
    environment = story[0].environment | {
        "SOFTHSM2_CONF": str(folder / "softhsm2.conf"),
        "PKCS11_MODULE_PATH": str(module_path),
    }
    key = f"pkcs11:token=demo;object=bob;type=private?pin-source=file:{folder / 'pin'}"
    decrypt = ("-decrypt", "-in", "encrypted.eml", "-recip", "bob.pem")
    content = openssl(
        folder, *decrypt, "-engine", "pkcs11", "-keyform", "engine", "-inkey", key, environment=environment
    )
    assert content == (folder / "decrypted.eml").read_bytes()


def test_the_users_own_token_is_not_touched(terminal: Terminal) -> None:
    before = {path: path.stat().st_mtime_ns for path in (terminal.folder / "tokens").rglob("*")}
    terminal.run("demo", "--dir", "elsewhere")
    assert {path: path.stat().st_mtime_ns for path in (terminal.folder / "tokens").rglob("*")} == before
    assert (terminal.folder / "elsewhere").stat().st_mode & 0o077 == 0


def test_demonstration_runs_again_in_its_own_folder_only(story: tuple[Terminal, Finished, float]) -> None:
    terminal = story[0]
    terminal.run("demo")
    finished = terminal.run("demo", "--dir", ".", code=5)
    assert "name another folder with --dir" in finished.error


def test_folder_with_other_things_is_left_alone(terminal: Terminal) -> None:
    before = sorted(terminal.folder.rglob("*"))
    finished = terminal.run("demo", "--dir", ".", code=5)  # where the user's own softhsm2.conf and tokens are
    assert "is not empty and not from an earlier demo" in finished.error
    assert sorted(terminal.folder.rglob("*")) == before


def test_module_that_is_not_softhsm_is_refused(terminal: Terminal) -> None:
    terminal.write("other.so", "")
    finished = terminal.run("demo", "--module", "other.so", code=3)
    assert "the demo needs SoftHSM" in finished.error
