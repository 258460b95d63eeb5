"""Bouncy Castle, driven through one Java process that BouncyCastle.java describes."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives import serialization

from peers.peer import TIMEOUT, Peer, PeerRefusedError
from peers.schemes import is_sha3
from tokensign.keys import OaepTransport

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cryptography import x509

    from peers.identities import Authority, Person
    from peers.peer import Operation
    from peers.schemes import Envelope, Scheme
    from tokensign.algorithms import Digest

_JARS = ("bcprov.jar", "bcutil.jar", "bcpkix.jar")


class BouncyCastle(Peer):
    name = "Bouncy Castle"
    command = "javac"
    tried_version = "1.72"

    def __init__(self, folder: Path, authority: Authority) -> None:
        super().__init__(folder, authority)
        jars = Path(os.environ.get("BOUNCY_CASTLE_JARS", "/usr/share/java"))
        class_path = os.pathsep.join(str(jars / jar) for jar in _JARS)
        source = Path(__file__).with_name("BouncyCastle.java")
        self.run("javac", "-Xlint:all,-path", "-Werror", "-cp", class_path, "-d", folder, source)
        self._process = subprocess.Popen(
            ["java", "-XX:+UseSerialGC", "-cp", f"{folder}{os.pathsep}{class_path}", "BouncyCastle"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            encoding="utf-8",
        )

    def close(self) -> None:
        self._process.communicate(timeout=TIMEOUT)  # it ends with its input

    def version(self) -> str:
        return f"{self.name} {self._request('version')}"

    def unknown(self, operation: Operation, what: Scheme | Envelope) -> str | None:  # noqa: ARG002
        return None  # it does everything that tokensign does

    def sign(self, signer: Person, scheme: Scheme, content: bytes, *, detached: bool) -> bytes:
        digest = _jca_name(scheme.digest)
        prefix = digest if is_sha3(scheme.digest) else digest.replace("-", "")
        algorithm = {
            "rsa-pkcs1": f"{prefix}withRSA",
            "rsa-pss": "RSASSA-PSS",
            "ecdsa": f"{prefix}withECDSA",
            "eddsa": "Ed25519",
        }[scheme.family]
        output = self.path()
        self._request(
            *("sign", algorithm, digest, str(scheme.digest.size)),
            *(self._key(signer), self._certificate(signer.certificate), self.file(content), output),
            "detached" if detached else "attached",
        )
        return output.read_bytes()

    def verify(self, message: bytes, content: bytes | None = None) -> bytes:
        output = self.path()
        detached = "-" if content is None else self.file(content)
        self._request(
            "verify", self._certificate(self.authority.certificate), self.file(message), detached, output
        )
        return output.read_bytes()

    def encrypt(self, content: bytes, certificates: Sequence[x509.Certificate], envelope: Envelope) -> bytes:
        transport = ("pkcs1", "", "")
        if isinstance(envelope.transport, OaepTransport):
            oaep = envelope.transport
            transport = (_jca_name(oaep.digest), _jca_name(oaep.mgf_digest), oaep.label.hex())
        output = self.path()
        self._request(
            *("encrypt", envelope.cipher.name, *transport, self.file(content), output),
            *(self._certificate(certificate) for certificate in certificates),
        )
        return output.read_bytes()

    def decrypt(self, message: bytes, recipient: Person) -> bytes:
        output = self.path()
        certificate = self._certificate(recipient.certificate)
        self._request("decrypt", self._key(recipient), certificate, self.file(message), output)
        return output.read_bytes()

    def _key(self, person: Person) -> Path:
        return self.file(
            person.private_key.private_bytes(
                serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )

    def _certificate(self, certificate: x509.Certificate) -> Path:
        return self.file(certificate.public_bytes(serialization.Encoding.DER))

    def _request(self, *request: str | Path) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\t".join(map(str, request)) + "\n")
        self._process.stdin.flush()
        verdict, _, text = self._process.stdout.readline().rstrip("\n").partition("\t")
        if verdict != "ok":
            raise PeerRefusedError(text or "the Java process ended")
        return text


def _jca_name(digest: Digest) -> str:
    """What Java calls a digest: "SHA-256", "SHA3-256"."""
    name = digest.name.upper()
    return name.replace("_", "-") if is_sha3(digest) else name.replace("SHA", "SHA-")
