"""CompressedData: what comes back, bombs, and what is broken. OpenSSL is mostly built without ZLIB."""

from __future__ import annotations

import contextlib
import io
import os
import tracemalloc
import zlib
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokensign import der
from tokensign.cms.compressed import (
    COMPRESSED_DATA,
    DecompressionLimit,
    compress,
    decompress,
    read_compressed_data,
)
from tokensign.cms.content_info import DATA, SIGNED_DATA
from tokensign.errors import MalformedError, TokensignError, UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Callable

ZLIB = der.sequence(der.object_identifier("1.2.840.113549.1.9.16.3.8"))


def compressed(content: bytes, content_type: str = DATA) -> bytes:
    output = io.BytesIO()
    compress(io.BytesIO(content), output, content_type=content_type)
    return output.getvalue()


def decompressed(message: bytes, limit: DecompressionLimit | None = None) -> bytes:
    output = io.BytesIO()
    decompress(io.BytesIO(message), output, limit=limit or DecompressionLimit())
    return output.getvalue()


def message_with(packed: bytes, algorithm: bytes = ZLIB, kind: str = COMPRESSED_DATA) -> bytes:
    content = der.explicit(0, der.octet_string(packed))
    inner = der.sequence(der.object_identifier(DATA), content)
    fields = der.sequence(der.integer(0), algorithm, inner)
    return der.sequence(der.object_identifier(kind), der.explicit(0, fields))


@pytest.mark.parametrize("content", [b"", b"x", b"text " * 100_000, os.urandom(600_000)], ids=len)
def test_what_was_compressed_comes_back(content: bytes) -> None:
    assert decompressed(compressed(content)) == content


@given(st.binary(max_size=2000))
@settings(max_examples=50, deadline=None)
def test_any_content_comes_back(content: bytes) -> None:
    assert decompressed(compressed(content)) == content


def test_the_structure_is_that_of_rfc_3274(parse: Callable[[bytes], object]) -> None:
    fields = parse(compressed(b"text " * 1000))
    assert fields["version"].native == "v0"  # type: ignore[index]
    assert fields["compression_algorithm"]["algorithm"].native == "zlib"  # type: ignore[index]
    assert fields["encap_content_info"]["content_type"].native == "data"  # type: ignore[index]
    assert fields.dump(force=True) == fields.dump()  # type: ignore[attr-defined]


def test_the_content_type_is_told() -> None:
    message = compressed(b"content", SIGNED_DATA)
    assert decompress(io.BytesIO(message), io.BytesIO()) == SIGNED_DATA


def test_segments_of_indefinite_length_are_read() -> None:
    packed = zlib.compress(b"text " * 1000)
    segments = b"".join(der.octet_string(packed[at : at + 7]) for at in range(0, len(packed), 7))
    string = b"\x24\x80" + segments + b"\0\0"
    inner = b"\x30\x80" + der.object_identifier(DATA) + b"\xa0\x80" + string + b"\0\0\0\0"
    fields = b"\x30\x80" + der.integer(0) + ZLIB + inner + b"\0\0"
    message = b"\x30\x80" + der.object_identifier(COMPRESSED_DATA) + b"\xa0\x80" + fields + b"\0\0\0\0"
    assert decompressed(message) == b"text " * 1000


def test_a_bomb_is_stopped_by_its_ratio() -> None:
    message = compressed(bytes(2_000_000))
    with pytest.raises(UnsupportedError, match="200 times") as error:
        decompressed(message, DecompressionLimit(free=100_000))
    assert "raise the limit" in str(error.value.hint)


def test_a_bomb_is_stopped_by_its_size() -> None:
    message = compressed(os.urandom(300_000))
    with pytest.raises(UnsupportedError, match="200000 bytes"):
        decompressed(message, DecompressionLimit(size=200_000))
    assert len(decompressed(message, DecompressionLimit(size=300_000))) == 300_000


def test_a_small_bomb_does_no_harm_and_a_trusted_one_passes() -> None:
    message = compressed(bytes(2_000_000))
    assert decompressed(message) == bytes(2_000_000)
    assert decompressed(message, DecompressionLimit(ratio=2000, free=0)) == bytes(2_000_000)


def test_memory_stays_constant() -> None:
    class Nowhere(io.RawIOBase):
        def write(self, data: bytes) -> int:  # type: ignore[override]
            return len(data)

    message = io.BytesIO(compressed(bytes(40_000_000)))
    tracemalloc.start()
    try:
        decompress(message, Nowhere())  # type: ignore[arg-type]
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4_000_000


@pytest.mark.parametrize(
    ("packed", "match"),
    [
        (zlib.compress(b"content")[:-1], "cut off"),
        (b"", "cut off"),
        (zlib.compress(b"content") + b"x", "behind"),
        (zlib.compress(os.urandom(300_000)) + bytes(300_000), "behind"),
        (b"not ZLIB", "broken"),
        (zlib.compress(b"content")[:-1] + b"\xff", "broken"),
    ],
    ids=["cut", "empty", "tail", "long tail", "garbage", "checksum"],
)
def test_broken_content_is_malformed(packed: bytes, match: str) -> None:
    with pytest.raises(MalformedError, match=match):
        decompressed(message_with(packed))


def test_other_algorithms_and_messages_are_unsupported() -> None:
    packed = zlib.compress(b"content")
    with pytest.raises(UnsupportedError, match=r"1\.2\.3"):
        decompressed(message_with(packed, der.sequence(der.object_identifier("1.2.3"))))
    with pytest.raises(UnsupportedError, match="signed-data, not compressed-data"):
        decompressed(message_with(packed, kind=SIGNED_DATA))


def test_a_message_without_content_is_unsupported() -> None:
    inner = der.sequence(der.object_identifier(DATA))
    fields = der.sequence(der.integer(0), ZLIB, inner)
    message = der.sequence(der.object_identifier(COMPRESSED_DATA), der.explicit(0, fields))
    with pytest.raises(UnsupportedError, match="not in the message"):
        read_compressed_data(io.BytesIO(message))


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_damage_gives_errors_of_ours_only(data: st.DataObject) -> None:
    message = bytearray(compressed(b"text " * 50))
    position = data.draw(st.integers(0, len(message) - 1))
    message[position] ^= data.draw(st.integers(1, 255))
    with contextlib.suppress(TokensignError):
        decompressed(bytes(message))
