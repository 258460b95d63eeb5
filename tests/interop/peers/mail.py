"""Programs that read and write S/MIME mail."""

from __future__ import annotations

import abc
import base64
import email
import email.policy
import re
from typing import TYPE_CHECKING, ClassVar

from cryptography.hazmat.primitives.serialization import Encoding

from peers.bouncy_castle import BouncyCastle
from peers.gpgsm import Gpgsm
from peers.nss import Nss
from peers.openssl import OpenSsl
from peers.peer import Peer, PeerRefusedError
from peers.schemes import Envelope, Scheme
from tokensign.algorithms import CONTENT_CIPHERS, DIGESTS
from tokensign.keys import Pkcs1Transport

if TYPE_CHECKING:
    from pathlib import Path

    from cryptography import x509

    from peers.identities import Authority, Person

BOUNDARY = "between the parts"
OLD_ENVELOPE = Envelope(Pkcs1Transport(), CONTENT_CIPHERS["aes-128-cbc"])
"""What every program writes and reads."""
SCHEME = Scheme("rsa-pkcs1", "rsa", DIGESTS["sha256"])


class MailProgram(abc.ABC):
    """A program that signs, verifies, encrypts and decrypts mail.

    A mail is From somebody To somebody, who are named by e-mail addresses; in it is a MIME entity with CR LF.
    Everything raises PeerRefusedError.
    """

    name: ClassVar[str]
    command: ClassVar[str]
    refused: ClassVar[tuple[str, ...]] = ()
    """What the program cannot do: "gcm" is AuthEnvelopedData, "oaep", "compressed"."""

    @abc.abstractmethod
    def version(self) -> str:
        """The program's name and version as it says."""

    @abc.abstractmethod
    def sign(self, entity: bytes, signer: Person, to: str, *, opaque: bool) -> bytes:
        """A mail that is signed."""

    @abc.abstractmethod
    def verify(self, mail: bytes) -> bytes:
        """The entity, where signature and path to the CA hold."""

    @abc.abstractmethod
    def encrypt(self, entity: bytes, sender: str, recipient: x509.Certificate, to: str) -> bytes:
        """A mail that is encrypted to the holder of an RSA certificate."""

    @abc.abstractmethod
    def decrypt(self, mail: bytes, recipient: Person) -> bytes:
        """The entity."""

    def compress(self, entity: bytes, sender: str, to: str) -> bytes:
        """A mail that is compressed."""
        del entity, sender, to
        raise PeerRefusedError(f"{self.name} has no option for it")

    def uncompress(self, mail: bytes) -> bytes:
        """The entity in a compressed mail."""
        del mail
        raise PeerRefusedError(f"{self.name} has no option for it")

    def close(self) -> None:  # noqa: B027 - most have nothing to end
        """End what still runs."""


class OpenSslMail(MailProgram):
    name = "OpenSSL"
    command = "openssl"
    refused = ("compressed",)

    def __init__(self, folder: Path, authority: Authority) -> None:
        self._peer = OpenSsl(folder, authority)

    def version(self) -> str:
        return self._peer.version()

    def sign(self, entity: bytes, signer: Person, to: str, *, opaque: bool) -> bytes:
        certificate = self._peer.file(signer.certificate.public_bytes(Encoding.PEM))
        form = ("-nodetach",) if opaque else ()
        people = ("-from", address_of(signer), "-to", to, "-subject", "Lunch")
        return self._cms(
            entity, "-sign", "-signer", certificate, "-inkey", self._peer.file(signer.pem()), *form, *people
        )

    def verify(self, mail: bytes) -> bytes:
        authority = self._peer.file(self._peer.authority.pem)
        return self._cms(mail, "-verify", "-CAfile", authority, "-no-CApath", "-no-CAstore")

    def encrypt(self, entity: bytes, sender: str, recipient: x509.Certificate, to: str) -> bytes:
        certificate = self._peer.file(recipient.public_bytes(Encoding.PEM))
        people = ("-from", sender, "-to", to, "-subject", "Lunch")
        oaep = ("-keyopt", "rsa_padding_mode:oaep", "-keyopt", "rsa_oaep_md:sha256")
        return self._cms(entity, "-encrypt", "-aes-256-gcm", *people, "-recip", certificate, *oaep)

    def decrypt(self, mail: bytes, recipient: Person) -> bytes:
        certificate = self._peer.file(recipient.certificate.public_bytes(Encoding.PEM))
        return self._cms(mail, "-decrypt", "-recip", certificate, "-inkey", self._peer.file(recipient.pem()))

    def compress(self, entity: bytes, sender: str, to: str) -> bytes:
        return self._cms(entity, "-compress", "-from", sender, "-to", to)

    def uncompress(self, mail: bytes) -> bytes:
        return self._cms(mail, "-uncompress")

    def _cms(self, given: bytes, operation: str, *options: str | Path) -> bytes:
        output = self._peer.path()
        self._peer.run(
            "openssl", "cms", operation, "-crlfeol", "-in", self._peer.file(given), "-out", output, *options
        )
        return output.read_bytes()


class _JavaMail(BouncyCastle):
    sources = (*BouncyCastle.sources, "BouncyCastleMail")
    main_class = "BouncyCastleMail"
    libraries = (*BouncyCastle.libraries, "bcmail.jar", "javax.mail.jar", "javax.activation.jar")

    def sign_mail(self, entity: bytes, signer: Person, to: str, form: str) -> bytes:
        output = self.path()
        self._request(
            "sign", form, address_of(signer), to, self.file(entity), output, *self._signer(signer, SCHEME)
        )
        return output.read_bytes()

    def verify_mail(self, mail: bytes) -> bytes:
        output = self.path()
        authority = self._certificate(self.authority.certificate)
        self._request("verify", authority, self.file(mail), output)
        return output.read_bytes()

    def encrypt_mail(self, entity: bytes, sender: str, recipient: x509.Certificate, to: str) -> bytes:
        output = self.path()
        cipher = CONTENT_CIPHERS["aes-256-cbc"]
        self._request(
            *("encrypt", cipher.oid, "SHA-256", "SHA-256", "", sender, to, self.file(entity), output),
            self._certificate(recipient),
        )
        return output.read_bytes()

    def decrypt_mail(self, mail: bytes, recipient: Person) -> bytes:
        output = self.path()
        certificate = self._certificate(recipient.certificate)
        self._request("decrypt", self._key(recipient), certificate, self.file(mail), output)
        return output.read_bytes()

    def compress_mail(self, entity: bytes, sender: str, to: str) -> bytes:
        return self._transform(entity, "compress", sender, to)

    def uncompress_mail(self, mail: bytes) -> bytes:
        return self._transform(mail, "uncompress")


class BouncyCastleMail(MailProgram):
    name = "Bouncy Castle"
    command = "javac"
    refused = ("gcm",)

    def __init__(self, folder: Path, authority: Authority) -> None:
        self._java = _JavaMail(folder, authority)

    def version(self) -> str:
        return self._java.version()

    def sign(self, entity: bytes, signer: Person, to: str, *, opaque: bool) -> bytes:
        return self._java.sign_mail(entity, signer, to, "opaque" if opaque else "clear")

    def verify(self, mail: bytes) -> bytes:
        return self._java.verify_mail(mail)

    def encrypt(self, entity: bytes, sender: str, recipient: x509.Certificate, to: str) -> bytes:
        return self._java.encrypt_mail(entity, sender, recipient, to)

    def decrypt(self, mail: bytes, recipient: Person) -> bytes:
        return self._java.decrypt_mail(mail, recipient)

    def compress(self, entity: bytes, sender: str, to: str) -> bytes:
        return self._java.compress_mail(entity, sender, to)

    def uncompress(self, mail: bytes) -> bytes:
        return self._java.uncompress_mail(mail)

    def close(self) -> None:
        self._java.close()


class Client(MailProgram):
    """What a mail client does around a program that knows CMS and no mail."""

    refused = ("gcm", "oaep", "compressed")
    peer_type: ClassVar[type[Peer]]

    def __init__(self, folder: Path, authority: Authority) -> None:
        self._peer = self.peer_type(folder, authority)

    def version(self) -> str:
        return self._peer.version()

    def sign(self, entity: bytes, signer: Person, to: str, *, opaque: bool) -> bytes:
        message = self._peer.sign(signer, SCHEME, entity, detached=not opaque)
        people = _header(address_of(signer), to)
        if opaque:
            return people + _pkcs7_mime("signed-data", message)
        return b"".join(
            (
                people,
                b'Content-Type: multipart/signed; micalg="sha-256"; boundary="%s";\r\n' % BOUNDARY.encode(),
                b' protocol="application/pkcs7-signature"\r\n\r\n',
                b"--%s\r\n%s\r\n--%s\r\n" % (BOUNDARY.encode(), entity, BOUNDARY.encode()),
                b"Content-Type: application/pkcs7-signature; name=smime.p7s\r\n",
                b"Content-Transfer-Encoding: base64\r\n\r\n",
                base64.encodebytes(message).replace(b"\n", b"\r\n"),
                b"--%s--\r\n" % BOUNDARY.encode(),
            )
        )

    def verify(self, mail: bytes) -> bytes:
        parsed = email.message_from_bytes(mail, policy=email.policy.SMTP)
        if parsed.get_content_type() != "multipart/signed":
            return self._peer.verify(parsed.get_payload(decode=True))
        delimiter = re.escape(f"--{parsed.get_boundary()}".encode())
        _, entity, *_ = re.split(rb"(?:\A|\r\n)" + delimiter + rb"(?:--)?[ \t]*\r\n", mail)
        signature = parsed.get_payload()[1].get_payload(decode=True)
        return self._peer.verify(signature, entity)

    def encrypt(self, entity: bytes, sender: str, recipient: x509.Certificate, to: str) -> bytes:
        message = self._peer.encrypt(entity, [recipient], OLD_ENVELOPE)
        return _header(sender, to) + _pkcs7_mime("enveloped-data", message)

    def decrypt(self, mail: bytes, recipient: Person) -> bytes:
        parsed = email.message_from_bytes(mail, policy=email.policy.SMTP)
        return self._peer.decrypt(parsed.get_payload(decode=True), recipient)

    def close(self) -> None:
        self._peer.close()


class GpgsmMail(Client):
    name = "gpgsm"
    command = "gpgsm"
    peer_type = Gpgsm


class NssMail(Client):
    name = "NSS"
    command = "cmsutil"
    peer_type = Nss


MAIL_PROGRAMS: dict[str, type[OpenSslMail | BouncyCastleMail | GpgsmMail | NssMail]] = {
    program.name: program for program in (OpenSslMail, GpgsmMail, NssMail, BouncyCastleMail)
}


def address_of(person: Person) -> str:
    """The e-mail address in the person's certificate."""
    return f"{person.name}@example.test"


def _header(sender: str, to: str) -> bytes:
    return f"From: {sender}\r\nTo: {to}\r\nSubject: Lunch\r\nMIME-Version: 1.0\r\n".encode()


def _pkcs7_mime(smime_type: str, message: bytes) -> bytes:
    return (
        f"Content-Type: application/pkcs7-mime; smime-type={smime_type}; name=smime.p7m\r\n"
        "Content-Transfer-Encoding: base64\r\n\r\n"
    ).encode() + base64.encodebytes(message).replace(b"\n", b"\r\n")
