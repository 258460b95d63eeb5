"""The one interface to every peer."""

from __future__ import annotations

import abc
import contextlib
import itertools
import os
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from cryptography import x509

    from peers.identities import Authority, Person
    from peers.schemes import Envelope, Scheme
    from peers.structures import Parties, Structure

Operation = Literal["sign", "verify", "encrypt", "decrypt", "write", "read"]

TIMEOUT = 60  # seconds; each takes well under one


class PeerRefusedError(Exception):
    """The program refused, or has no option for what was asked. The text is its own."""


@dataclass
class Attempt:
    """How something that was asked of a peer ended."""

    refusal: str | None = None
    """Why the peer cannot do it, or None where it did."""


class Peer(abc.ABC):
    """A program that signs, verifies, encrypts and decrypts CMS messages.

    Contents and messages are bytes, DER. All but `unknown` and `version` raise PeerRefusedError.

    Args:
        folder: Where it keeps its files; its own, and short because sockets are made in it.
        authority: The CA that it trusts.
    """

    name: ClassVar[str]
    command: ClassVar[str]
    """The program without which there is no such peer here."""
    tried_version: ClassVar[str]
    """Part of the version for which the refusals in `unknown` were tried; another may have learned more."""

    def __init__(self, folder: Path, authority: Authority) -> None:
        self.folder = folder
        self.authority = authority
        self._numbers: Iterator[int] = itertools.count()

    @abc.abstractmethod
    def version(self) -> str:
        """The program's name and version as it says."""

    @abc.abstractmethod
    def unknown(self, operation: Operation, what: Scheme | Envelope | Structure) -> str | None:
        """Why the program cannot do an operation, or None where it can."""

    @contextlib.contextmanager
    def attempt(self, operation: Operation, what: Scheme | Envelope | Structure) -> Iterator[Attempt]:
        """A block that must go well, or be refused where `unknown` has a reason for it."""
        attempt = Attempt()
        reason = self.unknown(operation, what)
        try:
            yield attempt
        except PeerRefusedError:
            if reason is None:
                raise
            attempt.refusal = reason
        else:
            learned = reason is not None and self.tried_version in self.version()
            assert not learned, f"{self.version()} can {operation} {what} after all"

    @abc.abstractmethod
    def sign(self, signer: Person, scheme: Scheme, content: bytes, *, detached: bool) -> bytes:
        """Sign; the certificate and signed attributes are in the message."""

    @abc.abstractmethod
    def verify(self, message: bytes, content: bytes | None = None) -> bytes:
        """The content, where signature and path to the CA hold.

        Args:
            message: SignedData.
            content: The content of a detached signature.
        """

    @abc.abstractmethod
    def encrypt(self, content: bytes, certificates: Sequence[x509.Certificate], envelope: Envelope) -> bytes:
        """Encrypt to the holders of RSA certificates."""

    @abc.abstractmethod
    def decrypt(self, message: bytes, recipient: Person) -> bytes:
        """The content of EnvelopedData or AuthEnvelopedData."""

    def write(self, structure: Structure, content: bytes, parties: Parties) -> bytes:
        """A message of another structure, by the people and for those on the token."""
        del structure, content, parties
        raise PeerRefusedError(f"{self.name} has no option for it")

    def read(self, structure: Structure, message: bytes, parties: Parties) -> bytes:
        """The content of a message of another structure, by those on the token and for the people."""
        del structure, message, parties
        raise PeerRefusedError(f"{self.name} has no option for it")

    def close(self) -> None:  # noqa: B027 - most have nothing to end
        """End what still runs."""

    def path(self, suffix: str = "") -> Path:
        """A file name in the folder that is not used yet."""
        return self.folder / f"{next(self._numbers)}{suffix}"

    def file(self, content: bytes, suffix: str = "") -> Path:
        """A new file in the folder."""
        path = self.path(suffix)
        path.write_bytes(content)
        return path

    def run(
        self, *arguments: str | Path, stdin: bytes = b"", environment: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[bytes]:
        """Run the program; an exit code other than 0 is a refusal."""
        done = subprocess.run(
            [str(argument) for argument in arguments],
            input=stdin,
            capture_output=True,
            timeout=TIMEOUT,
            cwd=self.folder,
            env={**os.environ, "LC_ALL": "C", **(environment or {})},
            check=False,
        )
        if done.returncode:
            raise PeerRefusedError((done.stderr or done.stdout).decode(errors="replace").strip())
        return done
