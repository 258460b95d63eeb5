"""Signed attributes passed off as content, and content that looks like them."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import pytest

from tokensign import der
from tokensign.cms.attributes import CONTENT_TYPE, MESSAGE_DIGEST
from tokensign.cms.signed import sign_detached
from tokensign.cms.signed_content import SignedContent
from tokensign.cms.signed_data import read_signed_data
from tokensign.cms.verify import verify_signatures
from tokensign.errors import MalformedError

if TYPE_CHECKING:
    from collections.abc import Callable

OID = der.object_identifier(CONTENT_TYPE)


def looks_like_attributes(content: bytes, step: int = 1000) -> bool:
    signed = SignedContent([], None)
    for start in range(0, len(content), step):
        signed.update(content[start : start + step])
    return signed.looks_like_attributes


@pytest.mark.parametrize("kind", ["rsa:2048", "p256", "ed25519"])
def test_signed_attributes_are_not_taken_for_content(
    kind: str, forge: Callable[..., Any], software: Callable[..., Any]
) -> None:
    """The forgery of draft-vangeest-lamps-cms-euf-cma-signeddata, with a signature that was really made."""
    (genuine,) = read_signed_data(
        io.BytesIO(sign_detached(io.BytesIO(b"harmless"), [software(kind)]))
    ).signer_infos
    assert genuine.signed_attributes is not None
    forged = forge(
        kind,
        content=genuine.signed_attributes,
        attributes=None,
        signature=genuine.signature,
        digest="sha512" if kind == "ed25519" else "sha256",
    )
    message = read_signed_data(io.BytesIO(forged.encode()))
    assert message.content is not None
    (result,) = verify_signatures(message, message.content.chunks())
    assert isinstance(result.error, MalformedError)
    assert "looks like the signed attributes" in str(result.error)


@pytest.mark.parametrize("size", [0, 100, 200, 70_000])
@pytest.mark.parametrize("step", [1, 7, 1 << 20])
def test_attributes_of_any_size_are_recognised_however_they_arrive(size: int, step: int) -> None:
    values = der.set_of(der.octet_string(bytes(size)))
    content = der.set_of(
        der.sequence(OID, values), der.sequence(der.object_identifier(MESSAGE_DIGEST), values)
    )
    assert looks_like_attributes(content, step)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"1",
        b"10",
        b"10\x06",
        b"1. First of all",
        der.sequence(OID),
        der.set_of(),
        der.set_of(der.sequence()),
        der.set_of(der.integer(1)),
        der.set_of(der.sequence(der.integer(1))),
        der.set_of(der.sequence(OID)) + b"more",
        der.set_of(der.sequence(OID))[:-1],
        b"\x31\x80\x30\x80\x06\x01\x00\x00\x00\x00\x00",
    ],
)
def test_other_content_is_let_through(content: bytes) -> None:
    assert not looks_like_attributes(content)


def test_content_that_is_signed_with_attributes_may_be_anything(software: Callable[..., Any]) -> None:
    content = der.set_of(der.sequence(OID, der.set_of(OID)))
    message = read_signed_data(io.BytesIO(sign_detached(io.BytesIO(content), [software()])))
    (result,) = verify_signatures(message, [content])
    assert result.error is None
