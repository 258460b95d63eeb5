"""GnuPG's `gpgsm`, with a home folder of its own and without its directory manager."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from peers.peer import Operation, Peer, PeerRefusedError
from peers.schemes import Envelope, Scheme, is_sha3
from peers.structures import (
    PASSWORD,
    Agreement,
    CertificatesOnly,
    Countersigned,
    LegacyEnvelope,
    Passphrase,
    SeveralSigners,
)
from tokensign.algorithms import CURVES
from tokensign.keys import OaepTransport

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Sequence
    from pathlib import Path

    from cryptography import x509

    from peers.identities import Authority, Person
    from peers.structures import Parties, Structure
    from tokensign.algorithms import ContentCipher


class Gpgsm(Peer):
    name = "gpgsm"
    command = "gpgsm"
    tried_version = "2.2."

    def __init__(self, folder: Path, authority: Authority) -> None:
        super().__init__(folder, authority)
        self._home = folder / "home"
        self._home.mkdir(mode=0o700)
        fingerprint = authority.certificate.fingerprint(SHA1())  # noqa: S303 - how GnuPG names certificates
        (self._home / "trustlist.txt").write_text(f"{fingerprint.hex(':').upper()} S relax\n")
        (self._home / "private-keys-v1.d").mkdir(mode=0o700)
        self._gpgsm("--import", self.file(authority.pem))

    def close(self) -> None:
        with contextlib.suppress(PeerRefusedError):
            self.run("gpgconf", "--kill", "all", environment=self._environment)

    def version(self) -> str:
        return self._gpgsm("--version").stdout.decode().partition("\n")[0]

    def unknown(self, operation: Operation, what: Scheme | Envelope | Structure) -> str | None:
        match what:
            case Envelope():
                reason = _unknown_envelope(what)
            case Scheme():
                reason = _unknown_scheme(operation, what)
            case _:
                reason = _unknown_structure(operation, what)
        return reason and f"gpgsm 2.2 {reason}"

    def sign(self, signer: Person, scheme: Scheme, content: bytes, *, detached: bool) -> bytes:
        if scheme.family == "rsa-pss":
            raise PeerRefusedError("there is no option for RSA-PSS")
        output = self.path()
        self._gpgsm(
            *("--local-user", self._import_key(signer)),
            *("--digest-algo", scheme.digest.name.replace("_", "-").upper()),
            *("--output", output, "--detach-sign" if detached else "--sign", self.file(content)),
        )
        return output.read_bytes()

    def verify(self, message: bytes, content: bytes | None = None) -> bytes:
        output = self.path()
        if content is None:
            self._gpgsm("--output", output, "--verify", self.file(message))
            return output.read_bytes()
        self._gpgsm("--verify", self.file(message), self.file(content))
        return content

    def encrypt(self, content: bytes, certificates: Sequence[x509.Certificate], envelope: Envelope) -> bytes:
        if isinstance(envelope.transport, OaepTransport):
            raise PeerRefusedError("there is no option for OAEP")
        recipients = [self._import_certificate(certificate) for certificate in certificates]
        return self._encrypt(content, envelope.cipher, *recipients)

    def decrypt(self, message: bytes, recipient: Person) -> bytes:
        self._import_key(recipient)
        output = self.path()
        self._gpgsm("--output", output, "--decrypt", self.file(message))
        return output.read_bytes()

    def write(self, structure: Structure, content: bytes, parties: Parties) -> bytes:
        match structure:
            case SeveralSigners(key_types):
                signers = [("--local-user", self._import_key(parties.people[one])) for one in key_types]
                output = self.path()
                self._gpgsm(
                    *(word for option in signers for word in option),
                    *("--output", output, "--sign", self.file(content)),
                )
                return output.read_bytes()
            case Agreement(key_type=key_type):
                recipient = self._import_certificate(parties.token[key_type])
                return self._encrypt(content, structure.cipher, recipient)
            case LegacyEnvelope(cipher):
                return self._encrypt(content, cipher, self._import_certificate(parties.token["rsa"]))
            case _:
                return super().write(structure, content, parties)

    def read(self, structure: Structure, message: bytes, parties: Parties) -> bytes:
        match structure:
            case SeveralSigners():
                return self.verify(message)
            case Agreement(key_type=key_type):
                return self.decrypt(message, parties.people[key_type])
            case Passphrase():
                output = self.path()
                options = ("--pinentry-mode", "loopback", "--passphrase-fd", "0")
                options += ("--output", str(output), "--decrypt", str(self.file(message)))
                self._gpgsm(*options, stdin=PASSWORD.encode())
                return output.read_bytes()
            case CertificatesOnly(key_types):
                self._gpgsm("--import", self.file(message))
                people = [parties.people[key_type] for key_type in key_types]
                return b"".join(self._export(person.certificate) for person in people)
            case _:
                return super().read(structure, message, parties)

    def _encrypt(self, content: bytes, cipher: ContentCipher, *recipients: str) -> bytes:
        name = "3DES" if cipher.block_cipher == "3des" else cipher.name.removesuffix("-cbc").replace("-", "")
        output = self.path()
        self._gpgsm(
            *("--cipher-algo", name.upper(), "--output", output),
            *(word for recipient in recipients for word in ("--recipient", recipient)),
            *("--encrypt", self.file(content)),
        )
        return output.read_bytes()

    def _export(self, certificate: x509.Certificate) -> bytes:
        fingerprint = certificate.fingerprint(SHA1()).hex()  # noqa: S303 - as above
        return self._gpgsm("--export", fingerprint).stdout

    def _import_certificate(self, certificate: x509.Certificate) -> str:
        self._gpgsm("--import", self.file(certificate.public_bytes(Encoding.DER)))
        return certificate.fingerprint(SHA1()).hex().upper()  # noqa: S303 - as above

    def own(self, person: Person) -> None:
        """Keep somebody's key."""
        self._import_key(person)

    def _import_key(self, person: Person) -> str:
        fingerprint = self._import_certificate(person.certificate)
        listing = self._gpgsm("--with-colons", "--with-keygrip", "--list-keys", fingerprint).stdout.decode()
        grip = next(line.split(":")[9] for line in listing.splitlines() if line.startswith("grp:"))
        (self._home / "private-keys-v1.d" / f"{grip}.key").write_bytes(_private_key(person))
        return fingerprint

    def _gpgsm(self, *arguments: str | Path, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        return self.run(
            *("gpgsm", "--batch", "--yes", "--no-tty", "--quiet"),
            *("--disable-dirmngr", "--disable-crl-checks", "--no-common-certs-import", *arguments),
            stdin=stdin,
            environment=self._environment,
        )

    @property
    def _environment(self) -> dict[str, str]:
        return {"GNUPGHOME": str(self._home)}


def _unknown_envelope(envelope: Envelope) -> str | None:
    if isinstance(envelope.transport, OaepTransport):
        return "does not do OAEP"
    return "does not do AuthEnvelopedData" if envelope.cipher.authenticated else None


def _unknown_scheme(operation: Operation, scheme: Scheme) -> str | None:
    reason = None
    match operation, scheme.family:
        case _, "eddsa":
            reason = "does not do Ed25519 in CMS"
        case "sign", "rsa-pss":
            reason = "does not sign with RSA-PSS, and verifies only"
        case "verify", "rsa-pss":
            reason = "rejects SHA-224 in RSA-PSS" if scheme.digest.name == "sha224" else None
        case _, _ if is_sha3(scheme.digest):
            reason = "does not do SHA-3 here"
        case _, "ecdsa" if scheme.digest.size < CURVES[scheme.key_type].digest.size:
            reason = "refuses a hash that is shorter than the curve"
        case "verify", "ecdsa" if scheme.key_type == "p521":
            reason = "cannot verify P-521: it wants a hash of 521 bits"
    return reason


def _unknown_structure(operation: Operation, structure: Structure) -> str | None:
    reason: str | None = "has no option for it"
    match structure:
        case SeveralSigners(key_types):
            reason = "does not do Ed25519 in CMS" if "ed25519" in key_types else None
        case Countersigned():
            reason = "verifies a signature and does not look at its countersignature"
        case Agreement():
            reason = "fails at key agreement, also with messages of OpenSSL's"
        case LegacyEnvelope(cipher) if cipher.block_cipher == "3des":
            reason = None
        case Passphrase() if operation == "read":
            reason = None if structure.prf else "does not do scrypt"
        case CertificatesOnly() if operation == "read":
            reason = None
    return reason


def _private_key(person: Person) -> bytes:
    """The key as gpg-agent stores it; gpgsm 2.2's own import of PKCS#12 crashes on EC keys."""
    match person.private_key:
        case rsa.RSAPrivateKey() as key:
            numbers = key.private_numbers()
            parts = {  # libgcrypt wants p < q, others p > q
                "n": numbers.public_numbers.n,
                "e": numbers.public_numbers.e,
                "d": numbers.d,
                "p": min(numbers.p, numbers.q),
                "q": max(numbers.p, numbers.q),
                "u": pow(min(numbers.p, numbers.q), -1, max(numbers.p, numbers.q)),
            }
            return _private_key_expression(
                "rsa", *(_element(name, _integer(part)) for name, part in parts.items())
            )
        case ec.EllipticCurvePrivateKey() as key:
            point = key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
            secret = _integer(key.private_numbers().private_value)
            curve = f"NIST P-{key.key_size}".encode()
            return _private_key_expression(
                "ecc", _element("curve", curve), _element("q", point), _element("d", secret)
            )
        case ed25519.Ed25519PrivateKey() as key:
            point = b"\x40" + key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
            secret = key.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
            return _private_key_expression(
                *("ecc", _element("curve", b"Ed25519"), _element("flags", b"eddsa")),
                *(_element("q", point), _element("d", secret)),
            )
        case key:
            raise PeerRefusedError(f"keys of type {type(key).__name__} are not stored here")


def _private_key_expression(algorithm: str, *parts: bytes) -> bytes:
    return b"(11:private-key(%d:%s%s))" % (len(algorithm), algorithm.encode(), b"".join(parts))


def _element(name: str, value: bytes) -> bytes:
    """A pair as a canonical S-expression."""
    return b"(%d:%s%d:%s)" % (len(name), name.encode(), len(value), value)


def _integer(value: int) -> bytes:
    return value.to_bytes(value.bit_length() // 8 + 1, "big")
