"""Messages inside messages: walked, opened, refused."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import pytest

from tokensign import der
from tokensign.algorithms import CONTENT_CIPHERS
from tokensign.cms.authenticated import AUTHENTICATED_DATA, authenticate
from tokensign.cms.compressed import COMPRESSED_DATA, DecompressionLimit, compress
from tokensign.cms.content_info import AUTH_ENVELOPED_DATA, DATA, ENVELOPED_DATA, SIGNED_DATA
from tokensign.cms.digested import DIGESTED_DATA, make_digested_data
from tokensign.cms.encrypt import encrypt
from tokensign.cms.encrypted import ENCRYPTED_DATA, encrypt_with_key
from tokensign.cms.layers import MAX_LAYERS, open_layers, walk_layers
from tokensign.cms.recipients.kek import KekRecipient
from tokensign.cms.recipients.kek_bytes import KeyEncryptionKeyBytes
from tokensign.errors import (
    DecryptionError,
    LegacyAlgorithmError,
    MalformedError,
    NoRecipientError,
    UnsupportedError,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CONTENT = b"content " * 100
SHARED = KeyEncryptionKeyBytes(b"shared", bytes(range(32)))
PACKERS = {
    DIGESTED_DATA: make_digested_data,
    COMPRESSED_DATA: compress,
}


def pack(kind: str, content: bytes, content_type: str) -> bytes:
    """A message of a kind around content."""
    source, output = io.BytesIO(content), io.BytesIO()
    recipients = [KekRecipient(SHARED)]
    match kind:
        case str() if kind in PACKERS:
            PACKERS[kind](source, output, content_type=content_type)
        case str() if kind == AUTHENTICATED_DATA:
            authenticate(source, recipients, output, content_type=content_type)
        case str() if kind == ENCRYPTED_DATA:
            encrypt_with_key(source, bytes(32), output, content_type=content_type)
        case str() if kind == SIGNED_DATA:
            return signed(content, content_type)
        case _:
            name = "aes-256-gcm" if kind == AUTH_ENVELOPED_DATA else "aes-256-cbc"
            encrypt(source, recipients, output, cipher=CONTENT_CIPHERS[name], content_type=content_type)
    return output.getvalue()


def signed(content: bytes, content_type: str) -> bytes:
    """SignedData that nobody signed, which is enough to look inside."""
    inner = der.sequence(der.object_identifier(content_type), der.explicit(0, der.octet_string(content)))
    fields = der.sequence(der.integer(1), der.set_of(), inner, der.set_of())
    return der.sequence(der.object_identifier(SIGNED_DATA), der.explicit(0, fields))


def bare(message: bytes) -> bytes:
    """The structure without its ContentInfo."""
    return der.content(der.elements(message)[1])


def nest(*kinds: str, content: bytes = CONTENT, bare_inside: bool = False) -> bytes:
    """Messages of these kinds inside each other, the first outermost."""
    content_type = DATA
    for kind in reversed(kinds):
        content = pack(kind, bare(content) if bare_inside and content_type != DATA else content, content_type)
        content_type = kind
    return content


def opened(message: bytes, **options: object) -> tuple[bytes, str, list[str]]:
    output = io.BytesIO()
    result = open_layers(io.BytesIO(message), [SHARED], output, **options)  # type: ignore[arg-type]
    return output.getvalue(), result.content_type, [layer.kind for layer in result.layers]


KINDS = [DIGESTED_DATA, COMPRESSED_DATA, AUTHENTICATED_DATA, ENVELOPED_DATA, AUTH_ENVELOPED_DATA]


@pytest.mark.parametrize("bare_inside", [True, False], ids=["bare", "ContentInfo"])
@pytest.mark.parametrize("outer", [*KINDS, SIGNED_DATA])
@pytest.mark.parametrize("inner", KINDS)
def test_two_messages_of_any_kinds_are_opened(outer: str, inner: str, *, bare_inside: bool) -> None:
    message = nest(outer, inner, bare_inside=bare_inside)
    assert opened(message) == (CONTENT, DATA, [outer, inner])


def test_a_message_that_is_not_at_the_start_of_its_stream_is_opened() -> None:
    stream = io.BytesIO(b"before" + nest(COMPRESSED_DATA, COMPRESSED_DATA))
    stream.seek(6)
    assert [layer.depth for layer in walk_layers(stream)] == [0, 1]
    stream.seek(6)
    output = io.BytesIO()
    open_layers(stream, [], output)
    assert output.getvalue() == CONTENT


def test_what_protected_each_layer_is_told() -> None:
    output = io.BytesIO()
    kinds = (AUTHENTICATED_DATA, ENVELOPED_DATA, AUTH_ENVELOPED_DATA, COMPRESSED_DATA)
    result = open_layers(io.BytesIO(nest(*kinds)), [SHARED], output)
    assert [layer.authenticated for layer in result.layers] == [True, False, True, False]
    assert [layer.cipher and layer.cipher.name for layer in result.layers] == [
        None,
        "aes-256-cbc",
        "aes-256-gcm",
        None,
    ]
    assert [layer.content_type for layer in result.layers] == [*kinds[1:], DATA]


@pytest.mark.parametrize("bare_inside", [True, False], ids=["bare", "ContentInfo"])
@pytest.mark.parametrize("innermost", [SIGNED_DATA, ENCRYPTED_DATA])
def test_what_is_not_opened_here_is_written_as_a_message(innermost: str, *, bare_inside: bool) -> None:
    inside = pack(innermost, CONTENT, DATA)
    for form in (bare(inside), inside) if bare_inside else (inside,):
        message = pack(AUTH_ENVELOPED_DATA, form, innermost)
        assert opened(message) == (inside, innermost, [AUTH_ENVELOPED_DATA])


@pytest.mark.parametrize("kind", [SIGNED_DATA, ENCRYPTED_DATA])
def test_where_there_is_nothing_to_open_the_hint_says_what_to_do(kind: str) -> None:
    with pytest.raises(UnsupportedError, match="nothing to open") as error:
        opened(nest(kind))
    assert "tokensign verify" in str(error.value.hint)


def test_walking_goes_as_far_as_it_needs_no_key() -> None:
    kinds = (SIGNED_DATA, COMPRESSED_DATA, DIGESTED_DATA, AUTHENTICATED_DATA, AUTH_ENVELOPED_DATA)
    message = nest(*kinds, COMPRESSED_DATA)
    walked = []
    for layer in walk_layers(io.BytesIO(message)):
        assert layer.message.read(1) == b"\x30"
        walked.append((layer.depth, layer.kind, layer.content_type))
    assert walked == [
        (depth, kind, inner)
        for depth, (kind, inner) in enumerate(zip(kinds, (*kinds[1:], COMPRESSED_DATA), strict=True))
    ]
    assert [layer.kind for layer in walk_layers(io.BytesIO(nest(ENCRYPTED_DATA)))] == [ENCRYPTED_DATA]


def test_too_many_layers_are_refused() -> None:
    message = nest(*[COMPRESSED_DATA] * (MAX_LAYERS + 1))
    with pytest.raises(UnsupportedError, match=f"more than {MAX_LAYERS}"):
        opened(message)
    with pytest.raises(UnsupportedError, match=f"more than {MAX_LAYERS}"):
        list(walk_layers(io.BytesIO(message)))
    assert opened(message, max_layers=MAX_LAYERS + 1)[0] == CONTENT
    assert opened(nest(*[COMPRESSED_DATA] * MAX_LAYERS))[0] == CONTENT


def test_the_limit_of_decompression_counts_inside_too() -> None:
    message = nest(AUTH_ENVELOPED_DATA, COMPRESSED_DATA)
    with pytest.raises(UnsupportedError, match="100 bytes"):
        opened(message, limit=DecompressionLimit(size=100))


def test_a_layer_for_others_says_so() -> None:
    message = nest(COMPRESSED_DATA, AUTH_ENVELOPED_DATA)
    with pytest.raises(NoRecipientError, match="no key"):
        open_layers(io.BytesIO(message), [], io.BytesIO())


def test_what_is_wrong_behind_cbc_is_not_told() -> None:
    for content in (b"no message", b"\x30\x03\x02\x01\x00", b"", nest(SIGNED_DATA)):
        hidden = pack(ENVELOPED_DATA, content, COMPRESSED_DATA)
        with pytest.raises(DecryptionError, match="the message cannot be decrypted"):
            opened(hidden)
        told = pack(AUTH_ENVELOPED_DATA, content, COMPRESSED_DATA)
        with pytest.raises((MalformedError, UnsupportedError)):
            opened(told)


def test_old_algorithms_behind_cbc_ask_for_the_legacy_switch(corpora: Callable[[str], Path]) -> None:
    message = pack(ENVELOPED_DATA, corpora("rfc4134/6.0.bin").read_bytes(), DIGESTED_DATA)
    with pytest.raises(LegacyAlgorithmError):
        opened(message)
    assert opened(message, legacy=True)[0] == corpora("rfc4134/ExContent.bin").read_bytes()


def test_nothing_is_written_when_a_layer_fails() -> None:
    message = bytearray(nest(COMPRESSED_DATA, DIGESTED_DATA, AUTH_ENVELOPED_DATA))
    output = io.BytesIO()
    with pytest.raises(NoRecipientError):
        open_layers(io.BytesIO(bytes(message)), [], output)
    assert output.getvalue() == b""


def test_layers_of_compression_do_not_multiply_what_is_allowed() -> None:
    zeros = bytes(16 << 20)
    limit = DecompressionLimit(ratio=2000, free=1024)  # ZLIB stays below it in each layer
    content, _, _ = opened(nest(COMPRESSED_DATA, content=zeros), limit=limit)
    assert content == zeros
    twice = nest(COMPRESSED_DATA, COMPRESSED_DATA, content=zeros)
    with pytest.raises(UnsupportedError, match="are allowed"):
        opened(twice, limit=limit)
