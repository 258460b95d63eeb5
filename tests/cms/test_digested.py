"""DigestedData: RFC 4134, OpenSSL both ways, and changed content."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import pytest

from tokensign.algorithms import DIGESTS
from tokensign.cms.content_info import DATA, SIGNED_DATA
from tokensign.cms.digested import make_digested_data, read_digested_data, verify_digested_data
from tokensign.errors import (
    FileError,
    MalformedError,
    UnsupportedError,
    UsageError,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CONTENT = b"content " * 50_000
NAMES = [name for name in DIGESTS if name not in ("md5", "sha1")]


def digested(digest: str = "sha256", content_type: str = DATA, *, detached: bool = False) -> io.BytesIO:
    output = io.BytesIO()
    make_digested_data(
        io.BytesIO(CONTENT), output, digest=DIGESTS[digest], content_type=content_type, detached=detached
    )
    output.seek(0)
    return output


@pytest.mark.parametrize("digest", NAMES)
def test_what_is_written_verifies(digest: str) -> None:
    output = io.BytesIO()
    found = verify_digested_data(digested(digest), output)
    assert output.getvalue() == CONTENT
    assert (found.digest_algorithm.name, found.content_type) == (digest, DATA)


def test_detached_content_is_given_and_comes_out() -> None:
    output = io.BytesIO()
    stream = io.BytesIO(b"before" + CONTENT)
    stream.seek(6)
    verify_digested_data(digested(detached=True), output, content=stream)
    assert output.getvalue() == CONTENT


def test_detached_content_is_asked_for_and_attached_content_not_given_twice() -> None:
    with pytest.raises(UsageError, match="neither"):
        verify_digested_data(digested(detached=True))
    with pytest.raises(UsageError, match="given, too"):
        verify_digested_data(digested(), content=io.BytesIO(CONTENT))


def test_changed_content_is_refused_and_nothing_is_written() -> None:
    message = bytearray(digested().getvalue())
    message[len(message) // 2] ^= 1
    output = io.BytesIO()
    with pytest.raises(MalformedError, match="another digest"):
        verify_digested_data(io.BytesIO(bytes(message)), output)
    assert output.getvalue() == b""


@pytest.mark.parametrize(("content_type", "version"), [(DATA, "v0"), (SIGNED_DATA, "v2")])
def test_the_structure_is_that_of_the_rfc(
    parse: Callable[[bytes], object], content_type: str, version: str
) -> None:
    fields = parse(digested(content_type=content_type).getvalue())
    assert fields["version"].native == version  # type: ignore[index]
    assert fields["digest_algorithm"]["algorithm"].native == "sha256"  # type: ignore[index]


@pytest.mark.parametrize("digest", ["sha256", "sha512", "sha3_256"])
def test_openssl_verifies_what_is_written(openssl: Callable[..., bytes], tmp_path: Path, digest: str) -> None:
    message = tmp_path / "message.der"
    message.write_bytes(digested(digest).getvalue())
    assert openssl("cms", "-digest_verify", "-inform", "DER", "-in", message) == CONTENT


@pytest.mark.parametrize("digest", ["sha1", "sha256", "sha384", "sha512", "sha3-256"])
def test_what_openssl_writes_verifies(openssl: Callable[..., bytes], digest: str) -> None:
    arguments = ("-digest_create", "-binary", "-outform", "DER", "-nodetach", "-md", digest)
    message = openssl("cms", *arguments, feed=CONTENT)
    output = io.BytesIO()
    verify_digested_data(io.BytesIO(message), output, legacy=digest == "sha1")
    assert output.getvalue() == CONTENT


def test_weak_digests_are_not_written() -> None:
    with pytest.raises(UnsupportedError, match="sha1"):
        digested("sha1")


def test_other_messages_are_unsupported(corpora: Callable[[str], Path]) -> None:
    with pytest.raises(UnsupportedError, match="signed-data, not digested-data"):
        read_digested_data(io.BytesIO(corpora("rfc4134/4.2.bin").read_bytes()))


def test_content_that_changes_meanwhile_is_noticed() -> None:
    class Shrinking(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            self.truncate(10)
            return super().read(size)

    with pytest.raises(FileError, match="changed"):
        make_digested_data(Shrinking(CONTENT), io.BytesIO())
