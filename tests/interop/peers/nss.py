"""Mozilla NSS: `cmsutil`, with `certutil` and `pk12util` for its database."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.serialization import Encoding

from peers.identities import PASSPHRASE, fingerprint
from peers.peer import Operation, Peer, PeerRefusedError
from peers.schemes import Envelope, Scheme, is_sha3
from peers.structures import (
    Agreement,
    CertificatesOnly,
    Countersigned,
    Digested,
    LegacyEnvelope,
    PssVariant,
    SeveralSigners,
    WithoutAttributes,
)
from tokensign import der
from tokensign.keys import OaepTransport

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from cryptography import x509

    from peers.identities import Authority, Person
    from peers.structures import Parties, Structure

_PRINT_VERSION = """
import ctypes, ctypes.util
get_version = ctypes.CDLL(ctypes.util.find_library("nss3")).NSS_GetVersion
get_version.restype = ctypes.c_char_p
print(get_version().decode())
"""


class Nss(Peer):
    name = "NSS"
    command = "cmsutil"
    tried_version = "3.87"

    def __init__(self, folder: Path, authority: Authority) -> None:
        super().__init__(folder, authority)
        self._nicknames: set[str] = set()
        self._keys: set[str] = set()
        self._database = self._new_database()

    def version(self) -> str:
        # The tools have no option for it. In a process of its own, because a process holds one NSS, and some
        # test may want another version's token in this one.
        return f"{self.name} {self.run(sys.executable, '-c', _PRINT_VERSION).stdout.decode().strip()}"

    def unknown(self, operation: Operation, what: Scheme | Envelope | Structure) -> str | None:
        match what:
            case Envelope():
                return _unknown_envelope(operation, what)
            case Scheme():
                return _unknown_scheme(operation, what)
            case _:
                return _unknown_structure(operation, what)

    def sign(self, signer: Person, scheme: Scheme, content: bytes, *, detached: bool) -> bytes:
        if scheme.family == "rsa-pss":
            raise PeerRefusedError("cmsutil has no option for RSA-PSS")
        output = self.path()
        self.run(
            *("cmsutil", "-S", "-d", self._database, "-N", self._import_key(signer), "-G"),
            *("-H", scheme.digest.name.replace("_", "-").upper(), *(("-T",) if detached else ())),
            *("-i", self.file(content), "-o", output),
        )
        return output.read_bytes()

    def verify(self, message: bytes, content: bytes | None = None) -> bytes:
        output = self.path()
        detached = () if content is None else ("-c", self.file(content))
        self.run(*("cmsutil", "-D", "-d", self._database, "-i", self.file(message), *detached, "-o", output))
        return output.read_bytes() if content is None else content

    def encrypt(self, content: bytes, certificates: Sequence[x509.Certificate], envelope: Envelope) -> bytes:
        if isinstance(envelope.transport, OaepTransport):
            raise PeerRefusedError("cmsutil has no option for OAEP")
        output = self.path()
        recipients = ",".join(self._import_certificate(certificate) for certificate in certificates)
        self.run(
            *("cmsutil", "-E", "-d", self._database, "-r", recipients),
            *("-i", self.file(content), "-o", output),
        )
        message = output.read_bytes()
        if der.object_identifier(envelope.cipher.oid) not in message:
            raise PeerRefusedError("cmsutil took another cipher, and has no option for it")
        return message

    def decrypt(self, message: bytes, recipient: Person) -> bytes:
        self._import_key(recipient)
        output = self.path()
        self.run("cmsutil", "-D", "-d", self._database, "-i", self.file(message), "-o", output)
        return output.read_bytes()

    def write(self, structure: Structure, content: bytes, parties: Parties) -> bytes:
        match structure:
            case CertificatesOnly(key_types):
                certificates = [parties.token[key_type] for key_type in key_types]
                nicknames = ",".join(map(self._import_certificate, certificates))
                output = self.path()
                self.run("cmsutil", "-O", "-d", self._database, "-r", nicknames, "-o", output)
                return output.read_bytes()
            case _:
                return super().write(structure, content, parties)

    def read(self, structure: Structure, message: bytes, parties: Parties) -> bytes:
        match structure:
            case SeveralSigners():
                return self.verify(message)
            case CertificatesOnly(key_types):
                database = self._new_database()
                self.run("cmsutil", "-D", "-k", "-n", "-d", database, "-i", self.file(message))
                nicknames = [f"{parties.people[key_type].name}@example.test" for key_type in key_types]
                exports = [self.run("certutil", "-L", "-r", "-d", database, "-n", one) for one in nicknames]
                return b"".join(export.stdout for export in exports)
            case Agreement(key_type="p256" | "p384" | "p521" as key_type):
                return self.decrypt(message, parties.people[key_type])
            case _:
                return super().read(structure, message, parties)

    def _new_database(self) -> str:
        """A database that trusts the authority."""
        folder = self.path()
        folder.mkdir()
        database = f"sql:{folder}"
        self.run("certutil", "-N", "-d", database, "--empty-password")
        authority = self.file(self.authority.pem)
        self.run("certutil", "-A", "-d", database, "-n", "authority", "-t", "CT,CT,CT", "-i", authority)
        return database

    def _import_certificate(self, certificate: x509.Certificate) -> str:
        nickname = fingerprint(certificate)
        if nickname not in self._nicknames:
            file = self.file(certificate.public_bytes(Encoding.DER))
            self._certutil("-A", "-n", nickname, "-t", ",,", "-i", file)
            self._nicknames.add(nickname)
        return nickname

    def _import_key(self, person: Person) -> str:
        nickname = fingerprint(person.certificate)  # what the PKCS#12 bundle calls it too
        if nickname not in self._keys:
            bundle = self.file(person.pkcs12(), ".p12")
            self.run("pk12util", "-i", bundle, "-d", self._database, "-W", PASSPHRASE)
            self._keys.add(nickname)
        return nickname

    def _certutil(self, *arguments: str | Path) -> None:
        self.run("certutil", "-d", self._database, *arguments)


def _unknown_envelope(operation: Operation, envelope: Envelope) -> str | None:
    if isinstance(envelope.transport, OaepTransport):
        return "NSS 3.87 does not do OAEP in CMS"
    if envelope.cipher.authenticated:
        return "NSS 3.87 does not do AuthEnvelopedData"
    if operation == "encrypt" and envelope.cipher.name != "aes-128-cbc":
        return "cmsutil has no option for the cipher, and takes AES-128-CBC"
    return None


def _unknown_scheme(operation: Operation, scheme: Scheme) -> str | None:
    if scheme.family == "eddsa":
        return "NSS 3.87 does not do Ed25519"
    if is_sha3(scheme.digest):
        return "NSS 3.87 does not do SHA-3 in CMS"
    if operation == "sign" and scheme.family == "rsa-pss":
        return "cmsutil has no option for RSA-PSS, and verifies only"
    if operation == "sign" and scheme.digest.name == "sha224":
        return "cmsutil does not sign with SHA-224, and verifies only"
    return None


def _unknown_structure(operation: Operation, structure: Structure) -> str | None:
    match structure:
        case CertificatesOnly():
            return None
        case Digested() if operation == "read":
            return "NSS 3.87 takes the content out of DigestedData and does not check the digest"
        case SeveralSigners(key_types) if operation == "read":
            return "NSS 3.87 does not do Ed25519" if "ed25519" in key_types else None
        case SeveralSigners():
            return "cmsutil signs with one key only"
        case Countersigned():
            return "cmsutil verifies a signature and does not look at its countersignature"
        case WithoutAttributes() | PssVariant():
            return "cmsutil has no option for the form of a signature"
        case Agreement():
            return "NSS 3.87 does not do key agreement in CMS"
        case LegacyEnvelope():
            return "cmsutil has no option for the cipher, and takes AES-128-CBC"
        case _:
            return "cmsutil has no option for it"
