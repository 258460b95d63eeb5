"""A worker that tells nonsense, because its module wrote over its memory: it is not believed."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from journals import outcomes
from service_place import digest_of

from tokensign.errors import MalformedError
from tokensign.lane_protocol import KeyListing, Listing, Messages, answer_of, framed
from tokensign.uri import KeyUri

if TYPE_CHECKING:
    from typing import Any

    from service_place import RunningService

KEY = KeyListing(
    name=b"name",
    label="alice",
    id=b"\1",
    ambiguous=False,
    spec="ec:p256",
    uri=KeyUri(token="acme", object="alice", type="private"),
    public_key=ec.generate_private_key(ec.SECP256R1()).public_key(),
    usages=frozenset({"sign"}),
    schemes=("ecdsa-sha256",),
    certificates=(),
    certificate=None,
    chain=(),
)


@pytest.mark.parametrize("told", [b"[" * 100_000, b"[1]", b"\xff"], ids=["deep", "list", "no-text"])
def test_an_error_that_cannot_be_read_is_refused(told: bytes) -> None:
    result = b"\1" + told
    with pytest.raises(MalformedError):
        answer_of(bytes(4) + len(result).to_bytes(4, "big") + result)


@pytest.mark.parametrize("changed", [{"schemes": ["rot13"]}, {"schemes": [[]]}, {"label": "\ud800"}])
def test_a_key_that_cannot_be_named_or_used_is_refused(changed: dict[str, Any]) -> None:
    with pytest.raises(MalformedError):
        Listing.read(json.dumps({"keys": [KEY.to_json() | changed]}).encode())


def test_a_listing_that_is_nested_deeply_is_refused() -> None:
    with pytest.raises(MalformedError):
        Listing.read(b"[" * 100_000)


def test_a_large_message_that_comes_in_small_pieces_costs_little() -> None:
    messages, content = Messages(), bytes(1 << 23)
    message = framed(content)
    begun = time.process_time()
    found = [one for at in range(0, len(message), 1024) for one in messages.feed(message[at : at + 1024])]
    assert found == [content]
    assert time.process_time() - begun < 1  # where each piece copied what was before it, that would be 32 GiB


@pytest.mark.parametrize(("spec", "items"), [("rsa:2048", 1), ("rsa:2048", 20)])
def test_a_wrong_signature_is_not_released(
    service: RunningService, monkeypatch: pytest.MonkeyPatch, spec: str, items: int
) -> None:
    digests = [digest_of(b"hello")] * items
    assert service.sign(spec, digests=digests).status == 200
    key = service.context.lanes.keys()[service.key(spec)]
    monkeypatch.setattr(key, "public_key", rsa.generate_private_key(65537, 2048).public_key())
    answer = service.sign(spec, digests=digests)
    assert (answer.status, answer.problem) == (500, "failed")
    assert b"signature" not in answer.body
    assert outcomes(service.context.store)[-1][1] == {"result": "failed", "error": "SigningError"}
