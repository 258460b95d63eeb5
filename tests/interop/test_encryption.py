"""EnvelopedData and AuthEnvelopedData both ways between tokensign, with a key on a token, and every peer."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from peers.schemes import ENVELOPES

from tokensign.certificates import Certificate
from tokensign.cms.decrypt import decrypt
from tokensign.cms.encrypt import encrypt

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from peers.identities import Person
    from peers.peer import Peer
    from peers.schemes import Envelope, KeyType

    from tokensign.keys import Decrypter

TABLE = "Encryption"
CONTENT = b"bytes that text modes would change: \n \r\n \r \x00 \x1a \xff" * 5000

pytestmark = pytest.mark.parametrize("envelope", ENVELOPES, ids=str)


def test_peer_decrypts_what_tokensign_encrypts(
    peer: Peer, people: Mapping[KeyType, Person], record_cell: Callable[..., None], envelope: Envelope
) -> None:
    recipient = people["rsa"]
    certificate = Certificate(recipient.certificate.public_bytes(Encoding.DER))
    output = io.BytesIO()
    encrypt(io.BytesIO(CONTENT), [certificate], output, cipher=envelope.cipher, transport=envelope.transport)
    with peer.attempt("decrypt", envelope) as attempt:
        assert peer.decrypt(output.getvalue(), recipient) == CONTENT
    record_cell(TABLE, envelope, "tokensign → {peer}", attempt.refusal)


def test_tokensign_decrypts_what_peer_encrypts(
    peer: Peer,
    token_keys: Mapping[KeyType, Decrypter],
    record_cell: Callable[..., None],
    envelope: Envelope,
) -> None:
    decrypter = token_keys["rsa"]
    certificate = x509.load_der_x509_certificate(decrypter.certificates[0].der)
    with peer.attempt("encrypt", envelope) as attempt:
        message = peer.encrypt(CONTENT, [certificate], envelope)
    if attempt.refusal is None:
        output = io.BytesIO()
        result = decrypt(io.BytesIO(message), [decrypter], output)
        assert output.getvalue() == CONTENT
        assert (result.cipher, result.authenticated) == (envelope.cipher, envelope.cipher.authenticated)
    record_cell(TABLE, envelope, "{peer} → tokensign", attempt.refusal)
