"""The drivers of the peers themselves: the peers understand one another, and refuse what they should."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from peers.identities import Authority
from peers.peer import PeerRefusedError
from peers.schemes import ENVELOPES, SCHEMES, Envelope, Scheme

from tokensign.algorithms import CONTENT_CIPHERS
from tokensign.keys import Pkcs1Transport

if TYPE_CHECKING:
    from collections.abc import Callable

    from peers.identities import Person
    from peers.peer import Peer
    from peers.schemes import KeyType

CONTENT = b"bytes that text modes would change: \n \r\n \r \x00 \x1a \xff" * 9
# Of the peers of every day, none writes ChaCha20-Poly1305 as RFC 8103 has it.
COMMON_ENVELOPES = [envelope for envelope in ENVELOPES if envelope.cipher.mode != "chacha20"]
PLAIN_SCHEME = SCHEMES[0]
PLAIN_ENVELOPE = Envelope(Pkcs1Transport(), CONTENT_CIPHERS["aes-128-cbc"])


@pytest.fixture
def reference(start_peer: Callable[[str], Peer]) -> Callable[[Scheme | Envelope], Peer]:
    """Whom a peer is tried against: OpenSSL, and where that does not do something, Bouncy Castle."""

    def choose(what: Scheme | Envelope) -> Peer:
        openssl = start_peer("OpenSSL")
        return start_peer("Bouncy Castle") if openssl.unknown("sign", what) else openssl

    return choose


@pytest.mark.parametrize("detached", [False, True], ids=["attached", "detached"])
@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
def test_peer_signs_what_another_peer_verifies(
    peer: Peer,
    reference: Callable[[Scheme], Peer],
    people: dict[KeyType, Person],
    scheme: Scheme,
    *,
    detached: bool,
) -> None:
    with peer.attempt("sign", scheme):
        message = peer.sign(people[scheme.key_type], scheme, CONTENT, detached=detached)
        assert (CONTENT in message) is not detached
        assert reference(scheme).verify(message, CONTENT if detached else None) == CONTENT


@pytest.mark.parametrize("detached", [False, True], ids=["attached", "detached"])
@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
def test_peer_verifies_what_another_peer_signs(
    peer: Peer,
    reference: Callable[[Scheme], Peer],
    people: dict[KeyType, Person],
    scheme: Scheme,
    *,
    detached: bool,
) -> None:
    message = reference(scheme).sign(people[scheme.key_type], scheme, CONTENT, detached=detached)
    with peer.attempt("verify", scheme):
        assert peer.verify(message, CONTENT if detached else None) == CONTENT


@pytest.mark.parametrize("envelope", COMMON_ENVELOPES, ids=str)
def test_peer_encrypts_what_another_peer_decrypts(
    peer: Peer, reference: Callable[[Envelope], Peer], people: dict[KeyType, Person], envelope: Envelope
) -> None:
    recipient = people["rsa"]
    with peer.attempt("encrypt", envelope):
        message = peer.encrypt(CONTENT, [recipient.certificate], envelope)
        assert CONTENT not in message
        assert reference(envelope).decrypt(message, recipient) == CONTENT


@pytest.mark.parametrize("envelope", COMMON_ENVELOPES, ids=str)
def test_peer_decrypts_what_another_peer_encrypts(
    peer: Peer, reference: Callable[[Envelope], Peer], people: dict[KeyType, Person], envelope: Envelope
) -> None:
    recipient = people["rsa"]
    message = reference(envelope).encrypt(CONTENT, [recipient.certificate], envelope)
    with peer.attempt("decrypt", envelope):
        assert peer.decrypt(message, recipient) == CONTENT


def test_peer_encrypts_to_several_recipients(peer: Peer, authority: Authority) -> None:
    recipients = [authority.person(name, "rsa") for name in ("first", "second")]
    message = peer.encrypt(CONTENT, [recipient.certificate for recipient in recipients], PLAIN_ENVELOPE)
    assert [peer.decrypt(message, recipient) for recipient in recipients] == [CONTENT, CONTENT]


def test_peer_refuses_another_content(
    peer: Peer, start_peer: Callable[[str], Peer], people: dict[KeyType, Person]
) -> None:
    message = start_peer("OpenSSL").sign(people["rsa"], PLAIN_SCHEME, CONTENT, detached=True)
    with pytest.raises(PeerRefusedError):
        peer.verify(message, CONTENT + b"!")


def test_peer_refuses_another_signature(
    peer: Peer, start_peer: Callable[[str], Peer], people: dict[KeyType, Person]
) -> None:
    message = start_peer("OpenSSL").sign(people["rsa"], PLAIN_SCHEME, CONTENT, detached=False)
    with pytest.raises(PeerRefusedError):
        peer.verify(message[:-1] + bytes([message[-1] ^ 1]))


def test_peer_refuses_a_signer_of_another_authority(peer: Peer, start_peer: Callable[[str], Peer]) -> None:
    stranger = Authority("Somebody else's CA").person("stranger", "rsa")
    message = start_peer("OpenSSL").sign(stranger, PLAIN_SCHEME, CONTENT, detached=False)
    with pytest.raises(PeerRefusedError):
        peer.verify(message)


def test_peer_refuses_to_decrypt_for_somebody_else(
    peer: Peer, authority: Authority, people: dict[KeyType, Person]
) -> None:
    other = authority.person("other", "rsa")
    message = peer.encrypt(CONTENT, [other.certificate], PLAIN_ENVELOPE)
    with pytest.raises(PeerRefusedError):
        peer.decrypt(message, people["rsa"])
