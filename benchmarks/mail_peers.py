"""How the peers sign, encrypt and open mail, as their manuals say, with keys in files."""

from __future__ import annotations

import contextlib
import importlib.util
import re
import subprocess
from dataclasses import dataclass
from email import message_from_bytes
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Step = Callable[[bytes], bytes]

__all__ = ["Peer", "peers"]


@dataclass(frozen=True, slots=True)
class Peer:
    """A program or library that does to a mail what tokensign does.

    Attributes:
        name: What to call it.
        share: It does one mail where tokensign does as many.
        sign: Makes a signed mail.
        encrypt: Makes a signed and then encrypted mail.
        verify: Opens what `sign` made, and refuses what is wrong; None where it cannot.
        decrypt: Opens what `encrypt` made; None where it cannot.
    """

    name: str
    share: int
    sign: Step
    encrypt: Step
    verify: Step | None = None
    decrypt: Step | None = None


def peers(folder: Path) -> Iterator[Peer]:
    """The peers that are installed.

    Args:
        folder: Receives a key, a certificate and the mail on its way.
    """
    request = "req -x509 -newkey rsa:2048 -nodes -subj /CN=bench -days 2 -addext subjectAltName=email:"
    files = ["-keyout", str(folder / "key"), "-out", str(folder / "cert")]
    command = ["openssl", *f"{request}bench@acme.example".split(), *files]
    subprocess.run(command, check=True, capture_output=True)
    yield _openssl(folder)
    key, certificate = (folder / "key").read_bytes(), (folder / "cert").read_bytes()
    if importlib.util.find_spec("endesive"):
        yield _endesive(key, certificate)
    if importlib.util.find_spec("smail"):
        yield _smail(key, certificate)


def _openssl(folder: Path) -> Peer:
    """`openssl cms`, a process for each step and each mail."""
    key, certificate = folder / "key", folder / "cert"
    source, target = folder / "source", folder / "target"

    def step(mail: bytes, *arguments: object) -> bytes:
        source.write_bytes(mail)
        command = ["openssl", "cms", *arguments, "-in", source, "-out", target]
        subprocess.run(list(map(str, command)), check=True, capture_output=True, close_fds=False)
        return target.read_bytes()

    def sign(mail: bytes) -> bytes:
        return step(mail, "-sign", "-signer", certificate, "-inkey", key)

    def encrypt(mail: bytes) -> bytes:
        oaep = ("-recip", certificate, "-keyopt", "rsa_padding_mode:oaep")
        return step(sign(mail), "-encrypt", "-aes-256-gcm", *oaep)

    def verify(mail: bytes) -> bytes:
        return step(mail, "-verify", "-CAfile", certificate, "-purpose", "any")

    def decrypt(mail: bytes) -> bytes:
        return verify(step(mail, "-decrypt", "-recip", certificate, "-inkey", key))

    return Peer("openssl cms, a process a step", 50, sign, encrypt, verify, decrypt)


def _endesive(key: bytes, certificate: bytes) -> Peer:
    """Endesive's email functions, with its default cipher, AES-256-CBC. It signs a text without header."""
    with _single_digits():
        from endesive import email  # type: ignore[import-untyped]  # noqa: PLC0415 - not everybody has it

    private_key: Any = load_pem_private_key(key, None)
    parsed = x509.load_pem_x509_certificate(certificate)

    def sign(mail: bytes) -> bytes:
        text = mail.partition(b"\r\n\r\n")[2].replace(b"\r\n", b"\n")
        signed: bytes = email.sign(text, private_key, parsed, [])
        return signed

    def encrypt(mail: bytes) -> bytes:
        encrypted: str = email.encrypt(sign(mail), [parsed], oaep=True)
        return encrypted.encode()

    def verify(mail: bytes) -> bytes:
        found = email.verify(mail.decode().replace("\r\n", "\n"), [certificate])  # as a text file is read
        if not (found.hashok and found.signatureok and found.certok):
            raise ValueError("endesive refuses the signature")
        return b""

    def decrypt(mail: bytes) -> bytes:
        return verify(email.decrypt(mail.decode(), private_key))

    return Peer("endesive", 50, sign, encrypt, verify, decrypt)


def _smail(key: bytes, certificate: bytes) -> Peer:
    """python-smail, which writes only, with its default cipher, AES-256-CBC."""
    with _single_digits():
        import smail  # type: ignore[import-untyped]  # noqa: PLC0415 - not everybody has it
        from oscrypto import asymmetric  # type: ignore[import-untyped]  # noqa: PLC0415 - as above
    private_key = asymmetric.load_private_key(key)
    parsed = asymmetric.load_certificate(certificate)

    def sign(mail: bytes) -> bytes:
        signed: bytes = smail.sign_message(message_from_bytes(mail), private_key, parsed.asn1).as_bytes()
        return signed

    def encrypt(mail: bytes) -> bytes:
        encrypted: bytes = smail.encrypt_message(sign(mail), [parsed])
        return encrypted

    return Peer("python-smail", 10, sign, encrypt)


@contextlib.contextmanager
def _single_digits() -> Iterator[None]:
    """Let oscrypto 1.3.0, on which both stand, read the version of OpenSSL: 3.0.22 as 3.0.2.

    Its pattern has room for one digit only, and without a version it refuses to be imported.
    """
    search = re.search

    def shortened(pattern: Any, text: Any, flags: int = 0) -> Any:  # noqa: ANN401 - those of re.search
        if isinstance(text, str) and text.startswith("OpenSSL "):
            text = re.sub(r"(\d\.\d\.\d)\d+", r"\1", text)
        return search(pattern, text, flags)

    re.search = shortened  # type: ignore[assignment]
    try:
        yield
    finally:
        re.search = search
