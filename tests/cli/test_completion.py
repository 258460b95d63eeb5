"""Completion in shells: commands, options, and files."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest
from click.shell_completion import ShellComplete
from cryptography.hazmat.primitives.asymmetric import ec
from software_signer import SoftwareSigner

from tokensign.authority import create_authority, load_profile
from tokensign.cli.root import root
from tokensign.store import Store

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Terminal

VARIABLE = "_TOKENSIGN_COMPLETE"


def completions(*words: str) -> list[str]:
    """What a shell is offered for the last word, as "type,value"."""
    offered = ShellComplete(root, {}, "tokensign", VARIABLE).get_completions(list(words[:-1]), words[-1])
    return [f"{item.type},{item.value}" for item in offered]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_gets_its_script(terminal: Terminal, shell: str) -> None:
    script = terminal.run(environment={VARIABLE: f"{shell}_source"}).text
    assert VARIABLE in script
    if shell == "bash":
        subprocess.run(["bash", "-n"], input=script, text=True, check=True)


def test_commands_are_completed() -> None:
    assert completions("dec") == ["plain,decrypt", "plain,decompress"]
    assert completions("key", "ge") == ["plain,generate"]


def test_options_are_completed() -> None:
    assert "plain,--add-to" in completions("sign", "--a")
    assert "plain,--pin-source" in completions("sign", "--p")


@pytest.mark.parametrize(
    "words",
    [("sign", "let"), ("sign", "-o", "let"), ("verify", "--trust", "ca"), ("encrypt", "--to", "bo"),
     ("authenticate", "--to", "bo"), ("digest", "let"), ("decrypt", "let"), ("decrypt", "--content", "let"),
     ("inspect", "let"), ("cert", "import", "al"), ("--config", "to")],
    ids=" ".join,
)  # fmt: skip
def test_files_are_completed(words: tuple[str, ...]) -> None:
    assert completions(*words) == [f"file,{words[-1]}"]


def test_folders_are_completed() -> None:
    assert completions("demo", "--dir", "to") == ["dir,to"]


def test_choices_are_completed() -> None:
    assert completions("sign", "--form", "") == ["plain,der", "plain,pem", "plain,smime"]


def test_pin_sources_are_completed() -> None:
    assert completions("sign", "--pin-source", "") == [
        "plain,prompt", "plain,env:", "plain,file:", "plain,fd:", "plain,keyring:", "plain,credential:",
        "plain,pinentry", "plain,pad",
    ]  # fmt: skip
    assert completions("--pin-source", "pi") == ["plain,pinentry"]
    assert completions("token", "unblock-pin", "--so-pin-source", "k") == ["plain,keyring:"]
    assert completions("decrypt", "--password-source", "e") == ["plain,env:"]


def test_profiles_and_reasons_are_completed() -> None:
    assert completions("ra", "submit", "--profile", "smime-s") == [
        "plain,smime-sponsor-multipurpose", "plain,smime-sponsor-strict", "plain,smime-subordinate-ca",
    ]  # fmt: skip
    assert completions("ca", "issue", "--profile", "badge") == ["file,badge"]
    assert completions("ca", "revoke", "--reason", "key")[0].casefold() == "plain,keycompromise"


def test_cas_are_completed_and_no_database_is_made_for_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "ca.sqlite"
    monkeypatch.setenv("TOKENSIGN_DATABASE", str(place))
    assert completions("ra", "submit", "--ca", "") == []
    assert not place.exists()
    with Store(place) as store:
        for name in ("people", "servers"):
            key = SoftwareSigner(ec.generate_private_key(ec.SECP256R1()))
            create_authority(store, name, key, f"CN={name},O=Acme,C=CH", profile=load_profile("root-ca"))
    assert completions("ra", "submit", "--ca", "") == ["plain,people", "plain,servers"]
    assert completions("ca", "crl", "--database", str(place), "--ca", "p") == ["plain,people"]
    place.write_bytes(b"no database")
    assert completions("ra", "submit", "--ca", "") == []
