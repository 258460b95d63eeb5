"""ML-DSA and ML-KEM from the command line, on a token of an NSS that has them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from cryptography.x509 import load_pem_x509_certificate, load_pem_x509_csr

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.cli.conftest import Authority, Terminal

LABEL = "NSS Certificate DB"
SET_UP = """
import sys
from tokensign.token import load_module
module = load_module(sys.argv[1])
(empty,) = (info for info in module.tokens(uninitialized=True) if not info.initialized)
with module.slot(empty.slot_id).get_token().open(rw=True, so_pin="") as session:
    session.init_pin(sys.argv[2])
"""


@pytest.fixture(scope="module")
def new_nss_terminal(new_terminal: Callable[[Path], Terminal]) -> Callable[[Path], Terminal]:
    """Open a terminal in a folder, with the token of NSS whose database is there."""
    libraries = Path(os.environ.get("NSS_FORKY", Path(__file__).parents[2] / ".forky"))
    module = next(libraries.rglob("libsoftokn3.so"), None)
    if module is None:
        pytest.skip("an NSS with ML-KEM is not at hand: softhsm/forky.sh fetches it")

    def make(folder: Path) -> Terminal:
        terminal = new_terminal(folder)
        terminal.environment.update(
            NSS_LIB_PARAMS=f"configdir='sql:{folder}' certPrefix='' keyPrefix='' secmod='secmod.db' flags=",
            LD_PRELOAD=str(module.with_name("libnssutil3.so")),  # not where the loader looks
            TOKENSIGN_MODULE=str(module),
            TOKENSIGN_TOKEN=LABEL,
        )
        return terminal

    return make


@pytest.fixture(scope="module")
def nss_database(
    new_nss_terminal: Callable[[Path], Terminal],
    authority: Authority,
    tmp_path_factory: pytest.TempPathFactory,
    user_pin: str,
) -> Path:
    """A folder to be copied; see `nss_terminal`."""
    terminal = new_nss_terminal(tmp_path_factory.mktemp("nss"))
    command = [sys.executable, "-c", SET_UP, terminal.environment["TOKENSIGN_MODULE"], user_pin]
    subprocess.run(command, env=terminal.environment, check=True)
    terminal.write("ca.pem", authority.pem)
    terminal.write("letter.txt", "Dear Bob,\n\nthe figures are good.\n")
    for name, kind, usage in (
        ("dana", "ml-dsa-65", "digital_signature"),
        ("kim", "ml-kem-768", "key_encipherment"),
    ):
        terminal.run("key", "generate", name, "--type", kind)
        public_key = load_pem_public_key(
            terminal.run("key", "show", name, "--json").json["public_key"].encode()
        )
        certificate = authority.issue_for(public_key, name.capitalize(), usages=[usage])
        terminal.write(f"{name}.pem", certificate)
        terminal.run("cert", "import", f"{name}.pem")
    return terminal.folder


@pytest.fixture
def nss_terminal(
    nss_database: Path, new_nss_terminal: Callable[[Path], Terminal], tmp_path: Path
) -> Terminal:
    """A terminal with a token of NSS, and Dana's ML-DSA and Kim's ML-KEM key on it."""
    shutil.copytree(nss_database, tmp_path, dirs_exist_ok=True)
    return new_nss_terminal(tmp_path)


def test_ml_dsa_signature_is_made_and_verified(nss_terminal: Terminal) -> None:
    finished = nss_terminal.run("sign", "letter.txt", "--key", "dana", "--scheme", "ml-dsa")
    assert finished.error == "letter.txt.p7s: signed by CN=Dana (ml-dsa-65 with sha512)\n"
    finished = nss_terminal.run("verify", "letter.txt.p7s", "--trust", "ca.pem")
    first, *_ = finished.text.splitlines()
    assert first == "GOOD: letter.txt is unchanged since it was signed by Dana (says Acme CA)"
    (signer,) = nss_terminal.run("inspect", "letter.txt.p7s", "--json").json["signers"]
    assert signer["scheme"] == "ml-dsa-65 with sha512"


def test_ml_kem_recipient_decrypts(nss_terminal: Terminal) -> None:
    nss_terminal.run("encrypt", "letter.txt", "--to", "kim.pem")
    (recipient,) = nss_terminal.run("inspect", "letter.txt.p7m", "--json").json["recipients"]
    assert recipient["key_management"] == "key encapsulation"
    assert recipient["algorithm"].startswith("ml-kem-768, HKDF with sha256")
    nss_terminal.run("decrypt", "letter.txt.p7m", "-o", "back.txt")
    assert nss_terminal.read("back.txt") == nss_terminal.read("letter.txt")


def test_ml_dsa_key_decrypts_nothing(nss_terminal: Terminal) -> None:
    finished = nss_terminal.run("encrypt", "letter.txt", "--to", "dana.pem", "-o", "x.p7m", code=1)
    assert "nothing can be encrypted to the certificate of Dana: its key only signs" in finished.error
    assert not nss_terminal.exists("x.p7m")


def test_ml_dsa_key_asks_for_a_certificate_and_certifies_itself(nss_terminal: Terminal) -> None:
    nss_terminal.run("cert", "request", "dana", "--subject", "CN=Dana", "-o", "dana.csr")
    request = load_pem_x509_csr(nss_terminal.read("dana.csr"))
    assert request.is_signature_valid
    nss_terminal.run("cert", "self-sign", "dana", "--subject", "CN=Dana Self", "-o", "self.pem")
    certificate = load_pem_x509_certificate(nss_terminal.read("self.pem"))
    certificate.verify_directly_issued_by(certificate)
    finished = nss_terminal.run("sign", "letter.txt", "--key", "CN=Dana Self")
    assert "signed by CN=Dana Self (ml-dsa-65 with sha512)" in finished.error
    nss_terminal.run("verify", "letter.txt.p7s", "--signature-only")
