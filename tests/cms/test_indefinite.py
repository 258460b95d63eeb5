"""Content that cannot seek goes through once, into messages with indefinite lengths."""

from __future__ import annotations

import io
import os
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from tokensign.algorithms import CONTENT_CIPHERS, KeyUsage, Strength
from tokensign.cms import encrypt as encrypt_module
from tokensign.cms.decrypt import decrypt
from tokensign.cms.encrypt import encrypt_streamed
from tokensign.cms.signed import sign_streamed
from tokensign.cms.signed_data import read_signed_data
from tokensign.cms.verify import verify_signatures
from tokensign.errors import UnsupportedError, UsageError
from tokensign.token import TokenKey

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tokensign.token import Token

SIZES = (0, 1, 16, 1 << 18, (1 << 19) + 7)


class Pipe(io.RawIOBase):
    """Content that comes in pieces of odd sizes and does not seek."""

    def __init__(self, content: bytes) -> None:
        self._left = io.BytesIO(content)

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        return self._left.read(min(size, 100_003))


@pytest.fixture
def key(token_key: Callable[..., TokenKey], token: Token, issue: Callable[..., Any]) -> TokenKey:
    """An RSA key on the token that signs and decrypts, with a certificate that need not be stored."""
    found = token_key("rsa:2048", KeyUsage.BOTH)
    return TokenKey(token, found.info, issue(found.public_key, "Alice"))


@pytest.mark.parametrize("size", SIZES)
def test_a_signed_pipe_verifies(size: int, key: TokenKey) -> None:
    content, output = os.urandom(size), io.BytesIO()
    sign_streamed(Pipe(content), [key], output)  # type: ignore[arg-type]
    output.seek(0)
    message = read_signed_data(output)
    assert message.content is not None
    copy = io.BytesIO()
    (result,) = verify_signatures(message, message.content.chunks(), copy=copy.write)
    assert result.error is None
    assert copy.getvalue() == content


def test_openssl_verifies_a_signed_pipe(key: TokenKey, tmp_path: Path) -> None:
    content = os.urandom(300_000)
    with (tmp_path / "m.p7m").open("wb") as output:
        sign_streamed(Pipe(content), [key], output)  # type: ignore[arg-type]
    done = subprocess.run(
        ["openssl", "cms", "-verify", "-noverify", "-binary", "-inform", "DER", "-in", tmp_path / "m.p7m"],
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == content


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", ["aes-256-gcm", "chacha20-poly1305", "aes-128-cbc"])
def test_an_encrypted_pipe_is_decrypted_on_the_token(name: str, size: int, key: TokenKey) -> None:
    content, output, opened = os.urandom(size), io.BytesIO(), io.BytesIO()
    assert key.certificate is not None
    encrypt_streamed(Pipe(content), [key.certificate], output, cipher=CONTENT_CIPHERS[name])  # type: ignore[arg-type]
    output.seek(0)
    decrypt(output, [key], opened)
    assert opened.getvalue() == content


@pytest.mark.parametrize("name", ["aes-256-ccm", "aes-192-ccm", "aes-128-ccm"])
def test_ccm_cannot_encrypt_a_pipe(name: str, key: TokenKey) -> None:
    assert key.certificate is not None
    with pytest.raises(UnsupportedError, match="size of the content beforehand"):
        encrypt_streamed(io.BytesIO(), [key.certificate], io.BytesIO(), cipher=CONTENT_CIPHERS[name])


def test_what_is_not_written_is_not_streamed_either(key: TokenKey) -> None:
    assert key.certificate is not None
    with pytest.raises(UsageError, match="at least one recipient"):
        encrypt_streamed(io.BytesIO(), [], io.BytesIO())
    for cipher in CONTENT_CIPHERS.values():
        if cipher.strength is not Strength.STRONG:
            with pytest.raises(UnsupportedError, match="too weak"):
                encrypt_streamed(io.BytesIO(), [key.certificate], io.BytesIO(), cipher=cipher)


def test_gcm_stops_at_its_limit(key: TokenKey, monkeypatch: pytest.MonkeyPatch) -> None:
    assert key.certificate is not None
    monkeypatch.setattr(encrypt_module, "_GCM_LIMIT", 150_000)
    with pytest.raises(UnsupportedError, match="encrypts at most 150000 bytes"):
        encrypt_streamed(Pipe(bytes(200_000)), [key.certificate], io.BytesIO())  # type: ignore[arg-type]
