"""OpenSSL's `openssl cms`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from peers.peer import Operation, Peer, PeerRefusedError
from peers.schemes import Envelope, Scheme, is_sha3
from peers.structures import (
    IDENTIFIER,
    PASSWORD,
    Agreement,
    Authenticated,
    CertificatesOnly,
    Compressed,
    Countersigned,
    Digested,
    Encrypted,
    LegacyEnvelope,
    Passphrase,
    PssVariant,
    SeveralSigners,
    SharedKey,
    WithoutAttributes,
    shared_key,
)
from tokensign import der
from tokensign.algorithms import MACS
from tokensign.keys import OaepTransport

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from peers.identities import Person
    from peers.structures import Parties, Structure
    from tokensign.algorithms import Mac


class OpenSsl(Peer):
    name = "OpenSSL"
    command = "openssl"
    tried_version = "3.0."

    def version(self) -> str:
        name, number, *_ = self.run("openssl", "version").stdout.decode().split()
        return f"{name} {number}"

    def unknown(self, operation: Operation, what: Scheme | Envelope | Structure) -> str | None:
        match what:
            case Scheme(family="eddsa") | WithoutAttributes(scheme=Scheme(family="eddsa")):
                return "openssl cms 3.0 does not do Ed25519"
            case SeveralSigners(key_types) if "ed25519" in key_types:
                return "openssl cms 3.0 does not do Ed25519"
            case Scheme(family="rsa-pss" | "ecdsa", digest=digest) if operation == "sign" and is_sha3(digest):
                return "OpenSSL 3.0 signs so with SHA-2 only, and verifies SHA-3"
            case Envelope(cipher=cipher) if cipher.mode in ("ccm", "chacha20"):
                return "openssl cms 3.0 does neither AES-CCM nor ChaCha20-Poly1305"
            case Agreement(key_type="x25519"):
                return "openssl cms 3.0 does not do X25519"
            case Passphrase(prf=None):
                return "openssl cms 3.0 does not do scrypt"
            case Passphrase(prf=prf) if operation == "write" and prf.name != "hmac-sha1":
                return "openssl cms has no option for the function, and takes HMAC-SHA-1"
            case Compressed():
                return "Debian builds OpenSSL without zlib"
            case Authenticated():
                return "openssl cms does not do AuthenticatedData"
            case Countersigned():
                return "openssl cms verifies a signature and does not look at its countersignature"
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
            *self._signer(signer),
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

    def write(self, structure: Structure, content: bytes, parties: Parties) -> bytes:
        if isinstance(structure, CertificatesOnly):
            return self._certificates_only([parties.token[key_type] for key_type in structure.key_types])
        output = self.path()
        self.run(
            *("openssl", "cms", "-binary", "-outform", "DER", "-in", self.file(content), "-out", output),
            *self._writing(structure, parties),
        )
        message = output.read_bytes()
        if isinstance(structure, Passphrase) and _derivation(message) != structure.prf:
            raise PeerRefusedError("there is no option for the key derivation")
        return message

    def _writing(self, structure: Structure, parties: Parties) -> list[str | Path]:
        """The options that make a structure of content."""
        match structure:
            case WithoutAttributes(scheme):
                return ["-sign", "-nodetach", "-noattr", *self._signer(parties.people[scheme.key_type])]
            case PssVariant(mgf_digest, salt_size):
                return [
                    *("-sign", "-nodetach", "-md", "sha256", *self._signer(parties.people["rsa"])),
                    *("-keyopt", "rsa_padding_mode:pss", "-keyopt", f"rsa_pss_saltlen:{salt_size}"),
                    *("-keyopt", f"rsa_mgf1_md:{mgf_digest.name}"),
                ]
            case SeveralSigners(key_types):
                signers = [self._signer(parties.people[key_type]) for key_type in key_types]
                return ["-sign", "-nodetach", *(option for signer in signers for option in signer)]
            case Agreement(key_type, scheme, cipher):
                options = [f"ecdh_kdf_md:{scheme.digest.name}"]
                if "cofactor" in scheme.name:
                    options.append("ecdh_cofactor_mode:1")
                key_options = [word for option in options for word in ("-keyopt", option)]
                recipient = self._pem(parties.token[key_type])
                return ["-encrypt", f"-{cipher.name}", "-recip", recipient, *key_options]
            case SharedKey(size):
                return ["-encrypt", "-aes-256-cbc", *_secret_key(size), "-secretkeyid", IDENTIFIER.hex()]
            case Passphrase():
                return ["-encrypt", "-aes-256-cbc", "-pwri_password", PASSWORD]
            case LegacyEnvelope(cipher):
                providers = ("-provider", "legacy", "-provider", "default")
                return ["-encrypt", f"-{cipher.name}", *providers, self._pem(parties.token["rsa"])]
            case Compressed():
                return ["-compress"]
            case Digested(digest):
                return ["-digest_create", "-md", digest.name.replace("_", "-")]
            case Encrypted(cipher):
                return ["-EncryptedData_encrypt", f"-{cipher.name}", *_secret_key(cipher.key_size)]
            case _:
                raise PeerRefusedError(f"there is no option for {structure}")

    def read(self, structure: Structure, message: bytes, parties: Parties) -> bytes:
        match structure:
            case CertificatesOnly():
                listing = self._print_certificates(message)
                return b"".join(one.public_bytes(Encoding.DER) for one in listing)
            case SeveralSigners():
                return self.verify(message)
        output = self.path()
        self.run(
            *("openssl", "cms", "-binary", "-inform", "DER", "-in", self.file(message), "-out", output),
            *self._reading(structure, parties),
        )
        return output.read_bytes()

    def _reading(self, structure: Structure, parties: Parties) -> list[str | Path]:
        """The options that take the content out of a structure."""
        match structure:
            case Agreement(key_type=key_type):
                person = parties.people[key_type]
                key = self.file(person.pem(), ".pem")
                return ["-decrypt", "-recip", self._pem(person.certificate), "-inkey", key]
            case SharedKey(size):
                return ["-decrypt", *_secret_key(size), "-secretkeyid", IDENTIFIER.hex()]
            case Passphrase():
                return ["-decrypt", "-pwri_password", PASSWORD]
            case Compressed():
                return ["-uncompress"]
            case Digested():
                return ["-digest_verify"]
            case Encrypted(cipher):
                return ["-EncryptedData_decrypt", *_secret_key(cipher.key_size)]
            case _:
                raise PeerRefusedError(f"there is no option for {structure}")

    def _certificates_only(self, certificates: Sequence[x509.Certificate]) -> bytes:
        output = self.path()
        files = [("-certfile", self._pem(certificate)) for certificate in certificates]
        self.run(
            *("openssl", "crl2pkcs7", "-nocrl", "-outform", "DER", "-out", output),
            *(word for option in files for word in option),
        )
        return output.read_bytes()

    def _print_certificates(self, message: bytes) -> list[x509.Certificate]:
        file = self.file(message)
        done = self.run("openssl", "pkcs7", "-inform", "DER", "-print_certs", "-in", file)
        return x509.load_pem_x509_certificates(done.stdout)

    def _signer(self, person: Person) -> tuple[str | Path, ...]:
        return "-signer", self._pem(person.certificate), "-inkey", self.file(person.pem(), ".pem")

    def _pem(self, certificate: x509.Certificate) -> Path:
        return self.file(certificate.public_bytes(Encoding.PEM), ".pem")


def _secret_key(size: int) -> tuple[str, str]:
    return "-secretkey", shared_key(size).hex()


def _derivation(message: bytes) -> Mac:
    """The function that PBKDF2 names in a message; HMAC-SHA-1 where it names none (RFC 8018 appendix A.2)."""
    named = (mac for mac in MACS.values() if der.object_identifier(mac.oid) in message)
    return next(named, MACS["hmac-sha1"])
