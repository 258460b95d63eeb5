"""Key agreement, shared keys, passwords and old ciphers, with every peer; private keys on a token."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from peers.structures import (
    AES_256_CBC,
    IDENTIFIER,
    PASSWORD,
    READ_ONLY,
    RECIPIENTS,
    Agreement,
    LegacyEnvelope,
    Passphrase,
    SharedKey,
    shared_key,
)

from tokensign.certificates import Certificate
from tokensign.cms.decrypt import decrypt
from tokensign.cms.encrypt import encrypt
from tokensign.cms.recipients.kek import KekRecipient
from tokensign.cms.recipients.kek_bytes import KeyEncryptionKeyBytes
from tokensign.cms.recipients.key_derivation import Pbkdf2Derivation, ScryptDerivation
from tokensign.cms.recipients.password import PasswordRecipient
from tokensign.errors import LegacyAlgorithmError
from tokensign.keys import Password

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from peers.peer import Peer
    from peers.schemes import KeyType
    from peers.structures import Parties

    from tokensign.keys import DecryptionKey
    from tokensign.token import TokenKey

TABLE = "Recipients"
CONTENT = b"bytes that text modes would change: \n \r\n \r \x00 \x1a \xff" * 500

Recipient = Agreement | SharedKey | Passphrase | LegacyEnvelope

pytestmark = pytest.mark.parametrize("recipient", RECIPIENTS, ids=str)


def written(recipient: Recipient) -> bool:
    match recipient:
        case SharedKey():
            return True
        case LegacyEnvelope():
            return False
        case _:
            return recipient.written


def seal(recipient: Recipient, parties: Parties) -> bytes:
    output, cipher = io.BytesIO(), AES_256_CBC
    encoder: Certificate | KekRecipient | PasswordRecipient
    match recipient:
        case Agreement(key_type=key_type, cipher=cipher):
            encoder = Certificate(parties.people[key_type].certificate.public_bytes(Encoding.DER))
        case SharedKey(size):
            encoder = KekRecipient(KeyEncryptionKeyBytes(IDENTIFIER, shared_key(size)))
        case Passphrase(prf):
            derivation = Pbkdf2Derivation.fresh(2000, prf) if prf else ScryptDerivation.fresh(1 << 14)
            encoder = PasswordRecipient(Password(PASSWORD), derivation)
        case LegacyEnvelope():
            raise AssertionError("it is not written")
    encrypt(io.BytesIO(CONTENT), [encoder], output, cipher=cipher)
    return output.getvalue()


def opening_key(recipient: Recipient, token_keys: Mapping[KeyType, TokenKey]) -> DecryptionKey:
    match recipient:
        case Agreement(key_type=key_type):
            return token_keys[key_type]
        case SharedKey(size):
            return KeyEncryptionKeyBytes(IDENTIFIER, shared_key(size))
        case Passphrase():
            return Password(PASSWORD)
        case LegacyEnvelope():
            return token_keys["rsa"]


def test_peer_opens_what_tokensign_seals(
    peer: Peer, parties: Parties, record_cell: Callable[..., None], recipient: Recipient
) -> None:
    refusal: str | None = READ_ONLY
    if written(recipient):
        message = seal(recipient, parties)
        with peer.attempt("read", recipient) as attempt:
            assert peer.read(recipient, message, parties) == CONTENT
        refusal = attempt.refusal
    record_cell(TABLE, recipient, "tokensign → {peer}", refusal)


def test_tokensign_opens_what_peer_seals(
    peer: Peer,
    parties: Parties,
    token_keys: Mapping[KeyType, TokenKey],
    record_cell: Callable[..., None],
    recipient: Recipient,
) -> None:
    with peer.attempt("write", recipient) as attempt:
        message = peer.write(recipient, CONTENT, parties)
    if attempt.refusal is None:
        key, output = opening_key(recipient, token_keys), io.BytesIO()
        legacy = isinstance(recipient, LegacyEnvelope)
        if legacy:
            with pytest.raises(LegacyAlgorithmError):
                decrypt(io.BytesIO(message), [key], output)
        result = decrypt(io.BytesIO(message), [key], output, legacy=legacy)
        assert output.getvalue() == CONTENT
        if isinstance(recipient, Agreement):
            assert result.cipher == recipient.cipher
    record_cell(TABLE, recipient, "{peer} → tokensign", attempt.refusal)
