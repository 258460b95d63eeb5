"""OpenSSL's `openssl cms`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.serialization import Encoding

from peers.peer import Operation, Peer
from peers.schemes import Envelope, Scheme, is_sha3
from tokensign.keys import OaepTransport

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from cryptography import x509

    from peers.identities import Person


class OpenSsl(Peer):
    name = "OpenSSL"
    command = "openssl"
    tried_version = "3.0."

    def version(self) -> str:
        name, number, *_ = self.run("openssl", "version").stdout.decode().split()
        return f"{name} {number}"

    def unknown(self, operation: Operation, what: Scheme | Envelope) -> str | None:
        match what:
            case Scheme(family="eddsa"):
                return "openssl cms 3.0 does not do Ed25519"
            case Scheme(family="rsa-pss" | "ecdsa", digest=digest) if operation == "sign" and is_sha3(digest):
                return "OpenSSL 3.0 signs so with SHA-2 only, and verifies SHA-3"
            case _:
                return None

    def sign(self, signer: Person, scheme: Scheme, content: bytes, *, detached: bool) -> bytes:
        output = self.path()
        options = ["-md", scheme.digest.name.replace("_", "-")]
        if scheme.family == "rsa-pss":
            options += ["-keyopt", "rsa_padding_mode:pss", "-keyopt", "rsa_pss_saltlen:digest"]
        if not detached:
            options += ["-nodetach"]
        self.run(
            *("openssl", "cms", "-sign", "-binary", "-outform", "DER"),
            *("-signer", self._pem(signer.certificate), "-inkey", self.file(signer.pem(), ".pem")),
            *options,
            *("-in", self.file(content), "-out", output),
        )
        return output.read_bytes()

    def verify(self, message: bytes, content: bytes | None = None) -> bytes:
        output = self.path()
        detached = () if content is None else ("-content", self.file(content))
        self.run(
            *("openssl", "cms", "-verify", "-binary", "-inform", "DER", "-in", self.file(message), *detached),
            *("-CAfile", self._pem(self.authority.certificate), "-no-CApath", "-no-CAstore", "-out", output),
        )
        return output.read_bytes()

    def encrypt(self, content: bytes, certificates: Sequence[x509.Certificate], envelope: Envelope) -> bytes:
        output = self.path()
        options: list[str] = []
        if isinstance(envelope.transport, OaepTransport):
            transport = envelope.transport
            options += ["-keyopt", "rsa_padding_mode:oaep"]
            options += ["-keyopt", f"rsa_oaep_md:{transport.digest.name}"]
            options += ["-keyopt", f"rsa_mgf1_md:{transport.mgf_digest.name}"]
            if transport.label:
                options += ["-keyopt", f"rsa_oaep_label:{transport.label.hex()}"]
        recipients: list[str | Path] = [
            argument
            for certificate in certificates
            for argument in ("-recip", self._pem(certificate), *options)
        ]
        self.run(
            *("openssl", "cms", "-encrypt", "-binary", "-outform", "DER", f"-{envelope.cipher.name}"),
            *("-in", self.file(content), "-out", output),
            *recipients,
        )
        return output.read_bytes()

    def decrypt(self, message: bytes, recipient: Person) -> bytes:
        output = self.path()
        self.run(
            *("openssl", "cms", "-decrypt", "-binary", "-inform", "DER", "-in", self.file(message)),
            *("-recip", self._pem(recipient.certificate), "-inkey", self.file(recipient.pem(), ".pem")),
            *("-out", output),
        )
        return output.read_bytes()

    def _pem(self, certificate: x509.Certificate) -> Path:
        return self.file(certificate.public_bytes(Encoding.PEM), ".pem")
