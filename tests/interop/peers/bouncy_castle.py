"""Bouncy Castle, driven through one Java process that BouncyCastle.java describes."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import pytest
from cryptography.hazmat.primitives import serialization

from peers.peer import TIMEOUT, Peer, PeerRefusedError
from peers.schemes import Envelope, Scheme, is_sha3
from peers.structures import (
    AES_256_CBC,
    IDENTIFIER,
    PASSWORD,
    USUAL_SCHEMES,
    Agreement,
    Authenticated,
    CertificatesOnly,
    Compressed,
    Countersigned,
    Digested,
    Encapsulation,
    Encrypted,
    HashSignature,
    LatticeSignature,
    LegacyEnvelope,
    Passphrase,
    PssVariant,
    SeveralSigners,
    SharedKey,
    WithoutAttributes,
    shared_key,
)
from tokensign import der
from tokensign.algorithms import DIGESTS, key_wrap_for
from tokensign.cms.content_info import AUTH_ENVELOPED_DATA, ENVELOPED_DATA
from tokensign.keys import OaepTransport, Pkcs1Transport

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cryptography import x509

    from peers.identities import Authority, Person
    from peers.peer import Operation
    from peers.structures import Parties, Structure
    from tokensign.algorithms import Digest


class BouncyCastle(Peer):
    name = "Bouncy Castle"
    command = "javac"
    tried_version = "1.72"
    sources: ClassVar[tuple[str, ...]] = ("BouncyCastle", "BouncyCastleStructures")
    main_class: ClassVar[str] = "BouncyCastle"
    libraries: ClassVar[tuple[str, ...]] = ("bcprov.jar", "bcutil.jar", "bcpkix.jar")

    def __init__(self, folder: Path, authority: Authority) -> None:
        super().__init__(folder, authority)
        class_path = os.pathsep.join(str(self.jars() / jar) for jar in self.libraries)
        sources = [Path(__file__).with_name(f"{name}.java") for name in self.sources]
        # What a newer version deprecates is all that an older one has; a library has annotations of its own.
        lint = "-Xlint:all,-path,-deprecation,-processing"
        self.run("javac", lint, "-Werror", "-cp", class_path, "-d", folder, *sources)
        self._process = subprocess.Popen(
            ["java", "-XX:+UseSerialGC", "-cp", f"{folder}{os.pathsep}{class_path}", self.main_class],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            encoding="utf-8",
        )

    @staticmethod
    def jars() -> Path:
        """The folder of its class libraries."""
        return Path(os.environ.get("BOUNCY_CASTLE_JARS", "/usr/share/java"))

    def close(self) -> None:
        self._process.communicate(timeout=TIMEOUT)  # it ends with its input

    def version(self) -> str:
        return f"{self.name} {self._request('version')}"

    def unknown(self, operation: Operation, what: Scheme | Envelope | Structure) -> str | None:
        match what:
            case Envelope(cipher=cipher) if cipher.mode == "chacha20" and operation == "encrypt":
                return "Bouncy Castle 1.72 puts ChaCha20-Poly1305 into EnvelopedData, against RFC 8103"
            case Digested() if operation == "write":
                return "Bouncy Castle has no generator for DigestedData"
            case Passphrase(prf=None):
                return "Bouncy Castle 1.72 does not do scrypt in CMS"
            case PssVariant(mgf_digest=digest) if digest.name != "sha256":
                return "Bouncy Castle takes the same hash for MGF1"
            case Agreement(key_type="x25519"):
                return "Bouncy Castle 1.72 does not do X25519 in CMS"
            case Agreement(cipher=cipher) if operation == "read" and cipher.authenticated:
                return "Bouncy Castle 1.72 does not open AuthEnvelopedData with a key agreement"
            case _:
                return None

    def sign(self, signer: Person, scheme: Scheme, content: bytes, *, detached: bool) -> bytes:
        return self._sign(content, self._signer(signer, scheme), detached=detached)

    def verify(self, message: bytes, content: bytes | None = None) -> bytes:
        return self._verify(message, content)[0]

    def encrypt(self, content: bytes, certificates: Sequence[x509.Certificate], envelope: Envelope) -> bytes:
        transport = ("pkcs1", "", "")
        if isinstance(envelope.transport, OaepTransport):
            oaep = envelope.transport
            transport = (_jca_name(oaep.digest), _jca_name(oaep.mgf_digest), oaep.label.hex())
        output = self.path()
        self._request(
            *("encrypt", envelope.cipher.oid, *transport, self.file(content), output),
            *(self._certificate(certificate) for certificate in certificates),
        )
        message = output.read_bytes()
        kind = AUTH_ENVELOPED_DATA if envelope.cipher.authenticated else ENVELOPED_DATA
        if der.object_identifier(kind) not in message:
            raise PeerRefusedError("it is of another content type")
        return message

    def decrypt(self, message: bytes, recipient: Person) -> bytes:
        output = self.path()
        certificate = self._certificate(recipient.certificate)
        self._request("decrypt", self._key(recipient), certificate, self.file(message), output)
        return output.read_bytes()

    def write(self, structure: Structure, content: bytes, parties: Parties) -> bytes:
        match structure:
            case WithoutAttributes(scheme):
                signer = self._signer(parties.people[scheme.key_type], scheme, attributes=False)
                return self._sign(content, signer)
            case PssVariant(mgf_digest, salt_size):
                scheme = Scheme("rsa-pss", "rsa", DIGESTS["sha256"])
                signer = self._signer(parties.people["rsa"], scheme)
                signer[2:4] = _jca_name(mgf_digest), str(salt_size)
                return self._sign(content, signer)
            case SeveralSigners(key_types):
                return self._sign(
                    content, *(self._signer(parties.people[one], USUAL_SCHEMES[one]) for one in key_types)
                )
            case Countersigned(first, second):
                message = self._sign(content, self._signer(parties.people[first], USUAL_SCHEMES[first]))
                signer = self._signer(parties.people[second], USUAL_SCHEMES[second])
                return self._transform(message, "countersign", *signer)
            case LegacyEnvelope(cipher):
                return self.encrypt(content, [parties.token["rsa"]], Envelope(Pkcs1Transport(), cipher))
            case CertificatesOnly(key_types):
                certificates = [self._certificate(parties.token[key_type]) for key_type in key_types]
                return self._transform(b"", "certificates", *certificates)
            case _:
                return self._transform(content, *self._writing(structure, parties))

    def _writing(self, structure: Structure, parties: Parties) -> tuple[str, ...]:
        """The request that makes a structure of content."""
        match structure:
            case Agreement(key_type=key_type, cipher=cipher):
                recipient = _agreement(structure, self._certificate(parties.token[key_type]))
                return "seal", recipient, cipher.oid
            case SharedKey() | Passphrase():
                return "seal", _recipient(structure), AES_256_CBC.oid
            case Compressed():
                return ("compress",)
            case Encrypted(cipher):
                return "encrypt-with-key", cipher.oid, shared_key(cipher.key_size).hex()
            case Authenticated(recipient, mac, digest):
                return "authenticate", _recipient(recipient), mac.oid, digest.oid if digest else "-"
            case _:
                raise PeerRefusedError(f"there is no request for {structure}")

    def read(self, structure: Structure, message: bytes, parties: Parties) -> bytes:
        match structure:
            case WithoutAttributes() | PssVariant() | SeveralSigners():
                return self._verify(message)[0]
            case Countersigned():
                content, countersignatures = self._verify(message)
                assert countersignatures == 1
                return content
            case Agreement(key_type=key_type):
                recipient = _agreement(structure, self._key(parties.people[key_type]))
                return self._transform(message, "open", recipient)
            case SharedKey() | Passphrase():
                return self._transform(message, "open", _recipient(structure))
            case Compressed():
                return self._transform(message, "decompress")
            case Digested():
                return self._transform(message, "check-digest")
            case Encrypted(cipher):
                return self._transform(message, "decrypt-with-key", shared_key(cipher.key_size).hex())
            case Authenticated(recipient=recipient):
                return self._transform(message, "check-mac", _recipient(recipient))
            case CertificatesOnly():
                return self._transform(message, "list-certificates")
            case _:
                raise PeerRefusedError(f"there is no request for {structure}")

    def _signer(self, person: Person, scheme: Scheme, *, attributes: bool = True) -> list[str]:
        """The fields of a signer."""
        digest = _jca_name(scheme.digest)
        prefix = digest if is_sha3(scheme.digest) else digest.replace("-", "")
        algorithm = {
            "rsa-pkcs1": f"{prefix}withRSA",
            "rsa-pss": "RSASSA-PSS",
            "ecdsa": f"{prefix}withECDSA",
            "eddsa": "Ed25519",
        }[scheme.family]
        return [
            *(algorithm, digest, digest, str(scheme.digest.size), "attributes" if attributes else "direct"),
            *(self._key(person), self._certificate(person.certificate)),
        ]

    def _sign(self, content: bytes, *signers: list[str], detached: bool = False) -> bytes:
        output = self.path()
        fields = [field for signer in signers for field in signer]
        self._request("sign", "detached" if detached else "attached", self.file(content), output, *fields)
        return output.read_bytes()

    def _verify(self, message: bytes, content: bytes | None = None) -> tuple[bytes, int]:
        """The content, and how many countersignatures hold."""
        output = self.path()
        detached = "-" if content is None else self.file(content)
        countersignatures = self._request(
            "verify", self._certificate(self.authority.certificate), self.file(message), detached, output
        )
        return output.read_bytes(), int(countersignatures)

    def _transform(self, given: bytes, *request: str) -> bytes:
        output = self.path()
        self._request(*request, self.file(given), output)
        return output.read_bytes()

    def _key(self, person: Person) -> str:
        return str(
            self.file(
                person.private_key.private_bytes(
                    serialization.Encoding.DER,
                    serialization.PrivateFormat.PKCS8,
                    serialization.NoEncryption(),
                )
            )
        )

    def _certificate(self, certificate: x509.Certificate) -> str:
        return str(self.file(certificate.public_bytes(serialization.Encoding.DER)))

    def _request(self, *request: str | Path) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\t".join(map(str, request)) + "\n")
        self._process.stdin.flush()
        verdict, _, text = self._process.stdout.readline().rstrip("\n").partition("\t")
        if verdict != "ok":
            raise PeerRefusedError(text or "the Java process ended")
        return text


class NewerBouncyCastle(BouncyCastle):
    """A version that knows post-quantum cryptography; softhsm/forky.sh fetches it."""

    name = "newer Bouncy Castle"
    tried_version = "1.86"
    sources = (*BouncyCastle.sources, "BouncyCastlePostQuantum")
    main_class = "BouncyCastlePostQuantum"

    @staticmethod
    def jars() -> Path:
        folder = Path(os.environ.get("BOUNCY_CASTLE_FORKY", Path(__file__).parents[3] / ".forky"))
        found = next(folder.rglob("java/bcpkix.jar"), None)
        if found is None:
            pytest.skip("the newer Bouncy Castle is not at hand: softhsm/forky.sh fetches it")
        return found.parent

    def unknown(self, operation: Operation, what: Scheme | Envelope | Structure) -> str | None:
        del operation, what
        return None  # it does everything that it is asked for

    def write(self, structure: Structure, content: bytes, parties: Parties) -> bytes:
        match structure:
            case LatticeSignature(key_type):
                person = parties.people[key_type]
                key, certificate = self._key(person), self._certificate(person.certificate)
                unused = ("-", "-", "-")  # digests and salt
                return self._sign(content, [key_type.upper(), *unused, "attributes", key, certificate])
            case HashSignature(parameter_set):
                return self._transform(content, "sign-slh-dsa", parameter_set.upper())
            case Envelope():
                return self.encrypt(content, [parties.token["rsa"]], structure)
            case Encapsulation(key_type, cipher):
                certificate = self._certificate(parties.token[key_type])
                wrap = key_wrap_for(cipher.key_size).oid
                return self._transform(content, "encapsulate", wrap, cipher.oid, certificate)
            case _:
                return super().write(structure, content, parties)

    def read(self, structure: Structure, message: bytes, parties: Parties) -> bytes:
        match structure:
            case LatticeSignature():
                return self._verify(message)[0]
            case Envelope():
                return self.decrypt(message, parties.people["rsa"])
            case Encapsulation(key_type=key_type):
                return self._transform(message, "decapsulate", self._key(parties.people[key_type]))
            case Agreement(key_type=key_type):
                return self._transform(message, "agree", self._key(parties.people[key_type]))
            case _:
                return super().read(structure, message, parties)


def _recipient(recipient: SharedKey | Passphrase) -> str:
    match recipient:
        case SharedKey(size):
            return f"key AES {IDENTIFIER.hex()} {shared_key(size).hex()}"
        case Passphrase(prf):
            return f"password {PASSWORD} {prf.name if prf else 'scrypt'}"


def _agreement(agreement: Agreement, file: str) -> str:
    return f"agree {agreement.scheme.oid} {key_wrap_for(agreement.cipher.key_size).oid} {file}"


def _jca_name(digest: Digest) -> str:
    """What Java calls a digest: "SHA-256", "SHA3-256"."""
    name = digest.name.upper()
    return name.replace("_", "-") if is_sha3(digest) else name.replace("SHA", "SHA-")
