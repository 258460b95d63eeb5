"""gpgsm judges our certificates: its dirmngr fetches CRLs from `ca serve`, and asks its OCSP responder.

The keys are RSA: dirmngr 2.2 cannot verify CRLs that are signed with ECDSA ("Provided object is too short").
"""

from __future__ import annotations

import hashlib
import io
import itertools
import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest
from certificate_authorities import private_key
from pki_serving import Pki, served_pki

from tokensign.authority import Reason, publications
from tokensign.cms.signed import SigningTemplate

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from software_signer import SoftwareSigner

CONTENT = b"a contract between Alice and Bob"

pytestmark = pytest.mark.skipif(
    shutil.which("gpgsm") is None or shutil.which("dirmngr") is None,
    reason="gpgsm and dirmngr are not installed",
)


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pki]:
    numbers = itertools.count()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(publications, "LOOK_SECONDS", 0)  # so that tests need not wait
        folder = tmp_path_factory.mktemp("pki")
        with served_pki(folder, new_key=lambda: private_key("rsa:3072", next(numbers))) as served:
            served.root.crl(served.root_key)
            served.people.crl(served.people_key)
            yield served


class Gpgsm:
    """gpgsm with a home folder of its own, which knows and trusts our CAs.

    Args:
        home: The folder; it is made.
        pki: The CAs.
        ocsp: Whether OCSP is asked instead of CRLs.
    """

    def __init__(self, home: Path, pki: Pki, *, ocsp: bool) -> None:
        self.home = home
        home.mkdir(mode=0o700)
        fingerprint = hashlib.sha1(pki.root.certificate.der, usedforsecurity=False).hexdigest().upper()
        (home / "trustlist.txt").write_text(f"{fingerprint} S relax\n")
        (home / "gpgsm.conf").write_text("enable-ocsp\n" if ocsp else "enable-crl-checks\n")
        (home / "dirmngr.conf").write_text("allow-ocsp\nno-use-tor\n" if ocsp else "no-use-tor\n")
        for name in ("root.pem", "people.pem"):
            assert self.run("--import", pki.folder / name).returncode == 0

    def run(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        return self._run("gpgsm", "--batch", "--no-tty", "--no-common-certs-import", *arguments)

    def forget(self) -> None:
        """What dirmngr has fetched so far."""
        self._run("gpgconf", "--kill", "dirmngr")
        shutil.rmtree(self.home / "crls.d", ignore_errors=True)

    def close(self) -> None:
        self._run("gpgconf", "--kill", "all")

    def _run(self, *command: object) -> subprocess.CompletedProcess[str]:
        environment = {"PATH": os.environ["PATH"], "LC_ALL": "C", "GNUPGHOME": str(self.home)}
        return subprocess.run(
            [*map(str, command)], env=environment, capture_output=True, text=True, timeout=60, check=False
        )


def sign(holder: SoftwareSigner, folder: Path) -> tuple[Path, Path]:
    """A detached signature, and its content."""
    signature, content = folder / "contract.p7s", folder / "contract"
    signature.write_bytes(SigningTemplate([holder]).detached(io.BytesIO(CONTENT)))
    content.write_bytes(CONTENT)
    return signature, content


@pytest.mark.parametrize("ocsp", [False, True], ids=["crl", "ocsp"])
def test_signature_is_good_until_its_certificate_is_revoked(pki: Pki, tmp_path: Path, *, ocsp: bool) -> None:
    alice = pki.issue()
    files = sign(alice, tmp_path)
    gpgsm = Gpgsm(tmp_path / "home", pki, ocsp=ocsp)
    try:
        accepted = gpgsm.run("--verify", *files)
        assert accepted.returncode == 0, accepted.stderr
        assert 'Good signature from "/CN=alice@acme.example"' in accepted.stderr
        pki.people.revoke(alice.certificate.serial_number, Reason.KEY_COMPROMISE)
        pki.people.crl(pki.people_key)
        gpgsm.forget()
        refused = gpgsm.run("--verify", *files)
        assert refused.returncode == 2
        assert "invalid certification chain: Certificate revoked" in refused.stderr
    finally:
        gpgsm.close()
