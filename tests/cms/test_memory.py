"""Content of any size goes through in constant memory."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import Any

MEBIBYTE = 1 << 20

# One operation in a process of its own, because the peak is that of a process and is never forgotten.
PROGRAM = """
import resource, sys
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from tokensign.algorithms import CONTENT_CIPHERS
from tokensign.certificates import load_certificates
from tokensign.cms.decrypt import decrypt_to_file
from tokensign.cms.encrypt import encrypt
from tokensign.cms.signed import sign_attached, sign_detached
from tokensign.smime.unwrap import open_message
from tokensign.verification import Expectations, verify, verify_to_file

operation, folder, source, target = sys.argv[1:]

class Key:
    key = load_pem_private_key(open(f"{folder}/key.pem", "rb").read(), None)
    certificates = load_certificates(open(f"{folder}/cert.pem", "rb").read())
    certificate, chain, public_key = certificates[0], (), key.public_key()

    def sign(self, message, scheme):
        return self.key.sign(message, padding.PKCS1v15(), SHA256())

    def unwrap(self, encrypted_key, transport):
        return self.key.decrypt(encrypted_key, padding.OAEP(padding.MGF1(SHA256()), SHA256(), None))

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

key, nothing = Key(), Expectations(trust=None)
before = peak()
with open(source, "rb") as stream:
    match operation:
        case "sign-attached":
            with open(target, "wb") as output:
                sign_attached(stream, [key], output)
        case "sign-detached":
            sign_detached(stream, [key])
        case "verify":
            verify(stream, nothing)
        case "verify-to-file":
            with open_message(stream) as opened:
                verify_to_file(opened.cms, nothing, target)
        case "encrypt-gcm" | "encrypt-cbc":
            with open(target, "wb") as output:
                encrypt(stream, key.certificates, output, cipher=CONTENT_CIPHERS[f"aes-256-{operation[-3:]}"])
        case "decrypt":
            decrypt_to_file(stream, [key], target)
print(peak() - before)
"""


@pytest.fixture
def growth(software: Callable[..., Any], tmp_path: Path) -> Callable[..., int]:
    """By how many octets the memory of a process grows at an operation."""
    key = software("rsa:2048")
    pem = key.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (tmp_path / "key.pem").write_bytes(pem)
    (tmp_path / "cert.pem").write_text(key.certificate.pem())

    def run(operation: str, source: Path, target: Path) -> int:
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, operation, str(tmp_path), str(source), str(target)],
            env={name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return int(done.stdout)

    return run


def write_content(path: Path, size: int) -> None:
    block = os.urandom(MEBIBYTE)
    with path.open("wb") as file:
        for _ in range(size // MEBIBYTE):
            file.write(block)


def same(one: Path, other: Path) -> bool:
    return subprocess.run(["cmp", "--silent", one, other], check=False).returncode == 0


def check(size: int, limit: int, folder: Path, growth: Callable[..., int]) -> None:
    content, message, output = folder / "content", folder / "message", folder / "output"
    write_content(content, size)
    grown = {"sign-detached": growth("sign-detached", content, message)}
    for write, read in (
        ("sign-attached", "verify"),
        ("sign-attached", "verify-to-file"),
        ("encrypt-gcm", "decrypt"),
        ("encrypt-cbc", "decrypt"),
    ):
        grown[write] = growth(write, content, message)
        assert message.stat().st_size > size
        grown[f"{read} of {write}"] = growth(read, message, output)
        if read != "verify":
            assert same(content, output)
            output.unlink()
        message.unlink()
    assert {name: octets for name, octets in grown.items() if octets > limit} == {}


def test_64_mebibytes_grow_the_process_by_less_than_their_size(
    tmp_path: Path, growth: Callable[..., int]
) -> None:
    check(64 * MEBIBYTE, 24 * MEBIBYTE, tmp_path, growth)


def test_a_message_that_openssl_streamed_is_read_in_constant_memory(
    tmp_path: Path, growth: Callable[..., int], openssl: Callable[..., bytes]
) -> None:
    """It consists of many thousand small segments."""
    content, message, output = tmp_path / "content", tmp_path / "message", tmp_path / "output"
    write_content(content, 32 * MEBIBYTE)
    openssl(
        *("cms", "-sign", "-stream", "-indef", "-nodetach", "-binary", "-outform", "DER"),
        *("-signer", tmp_path / "cert.pem", "-inkey", tmp_path / "key.pem", "-in", content, "-out", message),
    )
    assert growth("verify-to-file", message, output) < 24 * MEBIBYTE
    assert same(content, output)
    openssl(
        *("cms", "-encrypt", "-stream", "-indef", "-binary", "-aes-256-gcm", "-outform", "DER"),
        *("-recip", tmp_path / "cert.pem", "-keyopt", "rsa_padding_mode:oaep"),
        *("-keyopt", "rsa_oaep_md:sha256", "-in", content, "-out", message),
    )
    output.unlink()
    assert growth("decrypt", message, output) < 24 * MEBIBYTE
    assert same(content, output)


@pytest.mark.full
def test_a_gibibyte_grows_the_process_by_less_than_100_megabytes(
    tmp_path: Path, growth: Callable[..., int]
) -> None:
    check(1024 * MEBIBYTE, 100_000_000, tmp_path, growth)
