"""SignedData both ways between tokensign, with keys on a token, and every peer."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import pytest
from peers.schemes import SCHEMES, is_sha3

from tokensign.cms.signed import SigningOptions, sign_attached, sign_detached
from tokensign.cms.signed_data import read_signed_data
from tokensign.cms.verify import verify_signatures
from tokensign.errors import MechanismError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from peers.identities import Person
    from peers.peer import Peer
    from peers.schemes import KeyType, Scheme

    from tokensign.keys import Signer

TABLE = "Signatures"
CONTENT = b"bytes that text modes would change: \n \r\n \r \x00 \x1a \xff" * 5000

pytestmark = [
    pytest.mark.parametrize("detached", [False, True], ids=["attached", "detached"]),
    pytest.mark.parametrize("scheme", SCHEMES, ids=str),
]


def sign(signer: Signer, scheme: Scheme, *, detached: bool) -> bytes:
    options = SigningOptions(family=scheme.family, digest=scheme.digest)
    if detached:
        return sign_detached(io.BytesIO(CONTENT), [signer], options)
    output = io.BytesIO()
    sign_attached(io.BytesIO(CONTENT), [signer], output, options)
    return output.getvalue()


def test_peer_verifies_what_tokensign_signs(
    peer: Peer,
    token_keys: Mapping[KeyType, Signer],
    record_cell: Callable[..., None],
    scheme: Scheme,
    *,
    detached: bool,
) -> None:
    try:
        message = sign(token_keys[scheme.key_type], scheme, detached=detached)
    except MechanismError:
        assert scheme.family == "rsa-pss"
        assert is_sha3(scheme.digest)
        refusal: str | None = "SoftHSM 2.6 does not do RSA-PSS with SHA-3"
    else:
        with peer.attempt("verify", scheme) as attempt:
            assert peer.verify(message, CONTENT if detached else None) == CONTENT
        refusal = attempt.refusal
    record_cell(TABLE, scheme, "tokensign → {peer}", refusal)


def test_tokensign_verifies_what_peer_signs(
    peer: Peer,
    people: Mapping[KeyType, Person],
    record_cell: Callable[..., None],
    scheme: Scheme,
    *,
    detached: bool,
) -> None:
    with peer.attempt("sign", scheme) as attempt:
        signature = peer.sign(people[scheme.key_type], scheme, CONTENT, detached=detached)
    if attempt.refusal is None:
        message = read_signed_data(io.BytesIO(signature))
        assert (message.content is None) is detached
        copy = io.BytesIO()
        content = [CONTENT] if message.content is None else message.content.chunks()
        (result,) = verify_signatures(message, content, copy=copy.write)
        assert result.error is None
        assert result.scheme is not None
        assert (result.scheme.family, result.scheme.digest) == (scheme.family, scheme.digest)
        assert copy.getvalue() == CONTENT
    record_cell(TABLE, scheme, "{peer} → tokensign", attempt.refusal)
