"""Compressed, digested, encrypted and authenticated data, and certificates alone, with every peer."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from peers.structures import (
    CONTENTS,
    IDENTIFIER,
    PASSWORD,
    READ_ONLY,
    Authenticated,
    CertificatesOnly,
    Compressed,
    Digested,
    Encrypted,
    SharedKey,
    shared_key,
)

from tokensign import der
from tokensign.certificates import Certificate
from tokensign.cms.authenticated import authenticate, verify_authenticated_data
from tokensign.cms.certificates_only import read_certificates_only, write_certificates_only
from tokensign.cms.compressed import compress, decompress
from tokensign.cms.digested import make_digested_data, verify_digested_data
from tokensign.cms.encrypted import decrypt_with_key, encrypt_with_key
from tokensign.cms.recipients.kek import KekRecipient
from tokensign.cms.recipients.kek_bytes import KeyEncryptionKeyBytes
from tokensign.cms.recipients.key_derivation import Pbkdf2Derivation
from tokensign.cms.recipients.password import PasswordRecipient
from tokensign.keys import Password

if TYPE_CHECKING:
    from collections.abc import Callable

    from peers.peer import Peer
    from peers.structures import Parties

    from tokensign.cms.recipients import RecipientEncoder

TABLE = "Other contents"
CONTENT = b"bytes that text modes would change: \n \r\n \r \x00 \x1a \xff" * 500

Contents = Compressed | Digested | Encrypted | Authenticated | CertificatesOnly

pytestmark = pytest.mark.parametrize("structure", CONTENTS, ids=str)


def encoder(structure: Authenticated) -> RecipientEncoder:
    if isinstance(structure.recipient, SharedKey):
        return KekRecipient(KeyEncryptionKeyBytes(IDENTIFIER, shared_key(structure.recipient.size)))
    assert structure.recipient.prf is not None
    return PasswordRecipient(Password(PASSWORD), Pbkdf2Derivation.fresh(2000, structure.recipient.prf))


def write(structure: Contents, parties: Parties) -> bytes:
    content, output = io.BytesIO(CONTENT), io.BytesIO()
    match structure:
        case Compressed():
            compress(content, output)
        case Digested(digest):
            make_digested_data(content, output, digest=digest)
        case Encrypted(cipher):
            encrypt_with_key(content, shared_key(cipher.key_size), output, cipher=cipher)
        case Authenticated(mac=mac):
            authenticate(content, [encoder(structure)], output, mac=mac)
        case CertificatesOnly():
            output.write(write_certificates_only(map(Certificate, peers_certificates(parties, structure))))
    return output.getvalue()


def read(structure: Contents, encoded: bytes) -> bytes:
    message, output = io.BytesIO(encoded), io.BytesIO()
    match structure:
        case Compressed():
            decompress(message, output)
        case Digested(digest):
            assert verify_digested_data(message, output).digest_algorithm == digest
        case Encrypted(cipher):
            assert decrypt_with_key(message, shared_key(cipher.key_size), output).cipher == cipher
        case Authenticated(recipient, mac):
            key = (
                KeyEncryptionKeyBytes(IDENTIFIER, shared_key(recipient.size))
                if isinstance(recipient, SharedKey)
                else Password(PASSWORD)
            )
            assert verify_authenticated_data(message, [key], output).mac_algorithm == mac
        case CertificatesOnly():
            certificates = read_certificates_only(message).certificates
            return b"".join(sorted(certificate.der for certificate in certificates))
    return output.getvalue()


def peers_certificates(parties: Parties, structure: CertificatesOnly) -> list[bytes]:
    people = [parties.people[key_type] for key_type in structure.key_types]
    return [person.certificate.public_bytes(Encoding.DER) for person in people]


def test_peer_reads_what_tokensign_writes(
    peer: Peer, parties: Parties, record_cell: Callable[..., None], structure: Contents
) -> None:
    refusal: str | None = READ_ONLY
    if not isinstance(structure, Authenticated) or structure.written:
        message = write(structure, parties)
        with peer.attempt("read", structure) as attempt:
            received = peer.read(structure, message, parties)
            if isinstance(structure, CertificatesOnly):
                certificates = der.elements(der.sequence(received))
                assert sorted(certificates) == sorted(peers_certificates(parties, structure))
            else:
                assert received == CONTENT
        refusal = attempt.refusal
    record_cell(TABLE, structure, "tokensign → {peer}", refusal)


def test_tokensign_reads_what_peer_writes(
    peer: Peer, parties: Parties, record_cell: Callable[..., None], structure: Contents
) -> None:
    with peer.attempt("write", structure) as attempt:
        message = peer.write(structure, CONTENT, parties)
    if attempt.refusal is None:
        expected = CONTENT
        if isinstance(structure, CertificatesOnly):
            certificates = [parties.token[key_type] for key_type in structure.key_types]
            expected = b"".join(sorted(one.public_bytes(Encoding.DER) for one in certificates))
        assert read(structure, message) == expected
    record_cell(TABLE, structure, "{peer} → tokensign", attempt.refusal)
