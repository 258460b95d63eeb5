"""What other programs say about themselves when they sign."""

from __future__ import annotations

import io
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest
from correspondents import BOB, Authority, Mail, private_key
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    pkcs12,
)
from cryptography.x509 import load_der_x509_certificate

from tokensign.contacts import choose_algorithms, recipients_for
from tokensign.errors import UntrustedError
from tokensign.keys import Pkcs1Transport
from tokensign.verification import Expectations, verify

if TYPE_CHECKING:
    from pathlib import Path

    from tokensign.certificates import Certificate
    from tokensign.contacts import ContactStore

BOTH = ("digital_signature", "key_encipherment")


def run(*command: str | Path) -> None:
    done = subprocess.run(command, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr.decode()


def need(program: str) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not at hand")


def learn(store: ContactStore, mail: Mail, message: bytes) -> None:
    report = verify(io.BytesIO(message), Expectations(trust=mail.trust, email=BOB))
    assert store.learn(report, BOB, mail.trust).problem is None


def test_openssl_tells_what_it_reads(
    store: ContactStore, mail: Mail, authority: Authority, tmp_path: Path
) -> None:
    certificate = authority.issue("bob rsa", usage=BOTH)
    learn(store, mail, signed_by_openssl(certificate, tmp_path))
    (bob,) = recipients_for([BOB], store)
    assert bob.certificate == certificate
    chosen = choose_algorithms([bob])
    assert (chosen.cipher.name, chosen.transport) == ("aes-256-cbc", Pkcs1Transport())


def test_a_signature_without_attributes_teaches_nothing(
    store: ContactStore, mail: Mail, authority: Authority, tmp_path: Path
) -> None:
    """It has no signing time, so nobody could tell what is newer."""
    with pytest.raises(UntrustedError, match="the signature has no signing time"):
        learn(store, mail, signed_by_openssl(authority.issue("bob rsa", usage=BOTH), tmp_path, "-noattr"))
    assert store.all() == []


def test_nss_tells_what_it_reads_and_which_certificate_it_prefers(
    store: ContactStore, mail: Mail, authority: Authority, tmp_path: Path
) -> None:
    for program in ("cmsutil", "certutil", "pk12util"):
        need(program)
    signing = authority.issue("bob rsa", usage=("digital_signature",))
    encrypting = authority.issue("bob rsa 2", usage=("key_encipherment",))
    database = f"sql:{tmp_path}"
    run("certutil", "-N", "-d", database, "--empty-password")
    (tmp_path / "ca.pem").write_text(authority.certificate.pem())
    run("certutil", "-A", "-d", database, "-n", "ca", "-t", "C,C,C", "-i", tmp_path / "ca.pem")
    for name, certificate in (("bob rsa", signing), ("bob rsa 2", encrypting)):
        (tmp_path / "bob.p12").write_bytes(as_pkcs12(name, certificate))
        run("pk12util", "-d", database, "-i", tmp_path / "bob.p12", "-W", "secret")
    (tmp_path / "hello").write_bytes(b"Hello")
    run(
        *("cmsutil", "-S", "-d", database, "-N", "bob rsa", "-Y", "bob rsa 2", "-P", "-G", "-H", "SHA256"),
        *("-i", tmp_path / "hello", "-o", tmp_path / "message"),
    )
    learn(store, mail, (tmp_path / "message").read_bytes())
    (bob,) = recipients_for([BOB], store)
    assert bob.certificate == encrypting
    assert choose_algorithms([bob]).cipher.name.startswith("aes-")


def signed_by_openssl(certificate: Certificate, folder: Path, *options: str) -> bytes:
    need("openssl")
    key = private_key("bob rsa").private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / "bob.pem").write_text(certificate.pem())
    (folder / "key.pem").write_bytes(key)
    (folder / "hello").write_bytes(b"Hello")
    run(
        *("openssl", "cms", "-sign", "-nodetach", "-binary", "-outform", "DER", *options),
        *("-in", folder / "hello", "-out", folder / "message"),
        *("-signer", folder / "bob.pem", "-inkey", folder / "key.pem"),
    )
    return (folder / "message").read_bytes()


def as_pkcs12(name: str, certificate: Certificate) -> bytes:
    loaded = load_der_x509_certificate(certificate.der)
    encryption = BestAvailableEncryption(b"secret")
    return pkcs12.serialize_key_and_certificates(name.encode(), private_key(name), loaded, None, encryption)
