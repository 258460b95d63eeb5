"""A key pair of every type on a token, and the GnuPG that reads what they make."""

from __future__ import annotations

import functools
import re
import shutil
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pytest

from tokensign.algorithms import KeyUsage
from tokensign.openpgp.certificate import make_certificate
from tokensign.openpgp.public_key import public_key
from tokensign.openpgp.session_key import RecipientKey
from tokensign.openpgp.signature import SigningKey

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tokensign.token import TokenKey

CREATED = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1)
SPECS = {"rsa": "rsa:2048", "p256": "ec:p256", "p384": "ec:p384", "p521": "ec:p521"}
KINDS = ("rsa", "p256", "p384", "p521", "25519")


@dataclass(frozen=True)
class Owner:
    """Somebody with a key to sign and a key to decrypt.

    Attributes:
        user_id: Her name.
        signing: What she signs with.
        recipient: What opens mail to her.
        certificate: What others have of her.
    """

    user_id: str
    signing: SigningKey
    recipient: RecipientKey
    certificate: bytes

    @property
    def fingerprint(self) -> str:
        return self.signing.public.fingerprint.hex().upper()


@pytest.fixture(scope="session")
def owner(token_key: Callable[..., TokenKey]) -> Callable[..., Owner]:
    """Who has keys of a kind: `owner("p256")`; with the formats of RFC 9580 `owner("25519", native=True)`."""

    @functools.cache
    def get(kind: str, *, native: bool = False) -> Owner:
        own = token_key(SPECS.get(kind, "ed25519"), KeyUsage.SIGN, name="openpgp")
        other = token_key(SPECS.get(kind, "x25519"), KeyUsage.DECRYPT, name="openpgp")
        user_id = f"Alice <alice@{kind}{'-native' * native}.acme.example>"
        signing = SigningKey(own, public_key(own.public_key, CREATED, native=native))
        encryption = public_key(other.public_key, CREATED, encrypts=True, native=native)
        made = make_certificate(signing, [user_id], encryption=encryption)
        return Owner(user_id, signing, RecipientKey(other, encryption), made)

    return get


class Gpg:
    """GnuPG with a keyring of its own, without its agent: it has public keys only."""

    def __init__(self, home: Path) -> None:
        self._home = home

    def run(
        self, *arguments: str | Path, content: bytes = b"", check: bool = True
    ) -> subprocess.CompletedProcess[bytes]:
        options = [
            "--homedir",
            self._home,
            "--batch",
            "--no-autostart",
            "--trust-model",
            "always",
            "--no-tty",
        ]
        command = ["gpg", *options, "--status-fd", "2", *arguments]
        done = subprocess.run(
            list(map(str, command)), input=content, capture_output=True, timeout=60, check=False
        )
        assert not check or done.returncode == 0, done.stderr.decode(errors="replace")
        return done

    def verifies(self, signature: bytes, content: bytes) -> str | None:
        """The fingerprint of who made a detached signature; None if it is not good."""
        file = self._home / "signature"
        file.write_bytes(signature)
        done = self.run("--verify", file, "-", content=content, check=False)
        found = re.search(rb"^\[GNUPG:\] VALIDSIG ([0-9A-F]{40})", done.stderr, re.MULTILINE)
        return found[1].decode() if found and done.returncode == 0 else None

    def encrypt(self, content: bytes, *options: str, to: Owner) -> bytes:
        return self.run(*options, "--encrypt", "--recipient", to.fingerprint, content=content).stdout


@pytest.fixture(scope="session")
def gpg(owner: Callable[..., Owner]) -> Iterator[Gpg]:
    """GnuPG that has imported the certificate of every kind of owner."""
    if shutil.which("gpg") is None:
        pytest.skip("GnuPG is not installed")
    with TemporaryDirectory() as home:
        program = Gpg(Path(home))
        program.run("--import", content=b"".join(owner(kind).certificate for kind in KINDS))
        yield program
