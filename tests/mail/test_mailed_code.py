"""The one-time code of a registration authority travels over real mail servers."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives.asymmetric import ec
from software_signer import SoftwareSigner

from tokensign.authority import create_authority, load_profile
from tokensign.cli.root import root
from tokensign.errors import NetworkError, UsageError
from tokensign.pki.request import certificate_request
from tokensign.store import Store

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result
    from conftest import Organisation, Post

ALICE = "alice@acme.example"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a CA in `ca.sqlite` and Alice's request."""
    with Store(tmp_path / "ca.sqlite") as store:
        key = SoftwareSigner(ec.generate_private_key(ec.SECP256R1()))
        create_authority(store, "acme", key, "CN=Acme CA,O=Acme,C=CH", profile=load_profile("root-ca"))
    alice = SoftwareSigner(ec.generate_private_key(ec.SECP256R1()))
    (tmp_path / "alice.csr").write_bytes(certificate_request(alice, f"CN={ALICE}", [ALICE]))
    return tmp_path


def run(folder: Path, *arguments: str) -> Result:
    common = ["--config", str(folder / "config.toml"), "--json"]
    environment = {"TOKENSIGN_DATABASE": str(folder / "ca.sqlite")}
    return CliRunner().invoke(root, [*arguments, *common], env=environment)


def configure(folder: Path, port: int, post: Post, acme: Organisation) -> None:
    (folder / "config.toml").write_text(f"""
[mail]
submission = "smtps://alice%40acme.example@localhost:{port}"
password-source = "file:{acme.folder / "password"}"
trust = ["{post.office.tls.ca}"]
""")


@pytest.mark.usefixtures("outgoing")
def test_the_code_goes_to_the_address_and_nowhere_else(post: Post, acme: Organisation, folder: Path) -> None:
    configure(folder, post.office.submission, post, acme)
    made = run(folder, "ra", "submit", str(folder / "alice.csr"), "--from", "office@acme.example")
    assert made.exit_code == 0, made.stderr
    assert json.loads(made.stdout)["codes"] == {}
    (arrived,) = post.wait_for(ALICE, 1)
    (code,) = re.findall(r"^ +((?:[A-Z2-7]{6}-?){4})\r?$", arrived.read_text(), re.MULTILINE)
    assert code not in made.stdout + made.stderr
    proved = run(folder, "ra", "verify", "1", code)
    assert json.loads(proved.stdout)["state"] == "waiting"


def test_a_request_whose_code_was_not_sent_gets_another(post: Post, acme: Organisation, folder: Path) -> None:
    configure(folder, 1, post, acme)  # where no server is
    made = run(folder, "ra", "submit", str(folder / "alice.csr"))
    assert isinstance(made.exception, NetworkError)
    assert made.exception.hint is not None
    assert "request 1 is recorded" in made.exception.hint
    (folder / "config.toml").write_text("")
    again = json.loads(run(folder, "ra", "challenge", "1").stdout)
    assert json.loads(run(folder, "ra", "verify", "1", again["codes"][ALICE]).stdout)["state"] == "waiting"


@pytest.mark.parametrize(
    "sender",
    [
        "office@acme.example\nBcc: bob@acme.example",
        "office@acme.example, bob@acme.example",
        "office",
        "\udcff@a",
    ],
)
def test_codes_are_mailed_from_one_address_and_nothing_beside_it(
    post: Post, acme: Organisation, folder: Path, sender: str
) -> None:
    configure(folder, 1, post, acme)
    made = run(folder, "ra", "submit", str(folder / "alice.csr"), "--from", sender)
    assert isinstance(made.exception, UsageError)
    assert made.exception.hint is not None
    assert "request 1 is recorded" in made.exception.hint
