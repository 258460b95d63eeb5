"""Signatures without attributes, of several signers, countersigned, and RSA-PSS with odd parameters."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import pytest
from peers.structures import FORMS, READ_ONLY, Countersigned, PssVariant, SeveralSigners, WithoutAttributes

from tokensign.algorithms import Strength
from tokensign.cms.countersignature import add_countersignatures
from tokensign.cms.signed import sign_attached
from tokensign.cms.signed_data import read_signed_data
from tokensign.cms.verify import verify_signatures

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from peers.peer import Peer
    from peers.schemes import KeyType
    from peers.structures import Parties

    from tokensign.cms.verify import SignerResult
    from tokensign.keys import Signer

TABLE = "Forms of signatures"
CONTENT = b"bytes that text modes would change: \n \r\n \r \x00 \x1a \xff" * 500

Form = WithoutAttributes | PssVariant | SeveralSigners | Countersigned

pytestmark = pytest.mark.parametrize("form", FORMS, ids=str)


def sign(form: SeveralSigners | Countersigned, keys: Mapping[KeyType, Signer]) -> bytes:
    output = io.BytesIO()
    if isinstance(form, SeveralSigners):
        sign_attached(io.BytesIO(CONTENT), [keys[key_type] for key_type in form.key_types], output)
        return output.getvalue()
    sign_attached(io.BytesIO(CONTENT), [keys[form.signer]], output)
    countersigned = io.BytesIO()
    message = read_signed_data(io.BytesIO(output.getvalue()))
    add_countersignatures(message, [keys[form.countersigner]], countersigned)
    return countersigned.getvalue()


def verify(encoded: bytes, *, legacy: bool = False) -> tuple[SignerResult, ...]:
    message = read_signed_data(io.BytesIO(encoded))
    assert message.content is not None
    copy = io.BytesIO()
    results = verify_signatures(message, message.content.chunks(), legacy=legacy, copy=copy.write)
    assert [result.error for result in results] == [None] * len(results)
    assert copy.getvalue() == CONTENT
    return results


def test_peer_verifies_what_tokensign_signs(
    peer: Peer,
    parties: Parties,
    token_keys: Mapping[KeyType, Signer],
    record_cell: Callable[..., None],
    form: Form,
) -> None:
    refusal: str | None = READ_ONLY
    if isinstance(form, SeveralSigners | Countersigned):
        message = sign(form, token_keys)
        if isinstance(form, Countersigned):
            assert peer.verify(message) == CONTENT  # also where it does not look at the countersignature
        with peer.attempt("read", form) as attempt:
            assert peer.read(form, message, parties) == CONTENT
        refusal = attempt.refusal
    record_cell(TABLE, form, "tokensign → {peer}", refusal)


def test_tokensign_verifies_what_peer_signs(
    peer: Peer, parties: Parties, record_cell: Callable[..., None], form: Form
) -> None:
    with peer.attempt("write", form) as attempt:
        message = peer.write(form, CONTENT, parties)
    if attempt.refusal is None:
        legacy = isinstance(form, PssVariant) and form.mgf_digest.strength is Strength.LEGACY
        results = verify(message, legacy=legacy)
        match form:
            case WithoutAttributes(scheme):
                assert results[0].signer.signed_attributes is None
                assert results[0].scheme is not None
                assert results[0].scheme.digest == scheme.digest
            case PssVariant():
                assert results[0].scheme is not None
                assert results[0].scheme.family == "rsa-pss"
            case SeveralSigners(key_types):
                assert len(results) == len(key_types)
            case Countersigned():
                (countersignature,) = results[0].countersignatures
                assert countersignature.error is None
    record_cell(TABLE, form, "{peer} → tokensign", attempt.refusal)
