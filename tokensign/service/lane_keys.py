"""The keys behind a lane: for the event loop, and for threads in which CMS is written and read."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Final

from tokensign.algorithms import KEMS, SCHEMES
from tokensign.errors import MechanismError, UsageError
from tokensign.lane_protocol import MESSAGE_MAXIMUM, Operation
from tokensign.service.lane_settings import BATCH_MAXIMUM
from tokensign.wire import public_key_octets, transport_document

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping, Sequence

    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

    from tokensign.algorithms import Kem, SignatureScheme
    from tokensign.certificates import Certificate
    from tokensign.errors import TokensignError
    from tokensign.keys import KeyTransport
    from tokensign.lane_protocol import KeyListing
    from tokensign.service.lane import Lane
    from tokensign.uri import KeyUri

__all__ = ["BlockingKey", "LaneKey", "key_id"]

_PLAIN: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._")


def key_id(lane: str, listing: KeyListing) -> str:
    """What a key is called in URLs, grants and the audit log: `LANE/LABEL`.

    Both are of letters, digits, "-", "." and "_"; each other octet is "=" and two hexadecimal digits, so that
    the id is the same before and after a URL is decoded. Where several keys of a token have a label, or none,
    "~" and the CKA_ID in hexadecimal follow.
    """
    distinct = f"~{listing.id.hex()}" if listing.ambiguous else ""
    return f"{_escaped(lane)}/{_escaped(listing.label)}{distinct}"


def _escaped(text: str) -> str:
    return "".join(chr(octet) if octet in _PLAIN else f"={octet:02X}" for octet in text.encode())


class LaneKey:
    """A private key behind a lane, for the event loop in which the lane was started.

    Each operation raises `LaneBusyError` or `LaneDownError` where the lane does not take it on, and
    `LaneDownError` where the worker ends meanwhile. It is answered by the lane's deadline. One that is
    cancelled may be done by the token all the same.

    Attributes:
        id: Names it; see `key_id`.
        token: The token's label.
        uri: The URI that names it.
        spec: Its type, such as "rsa:3072".
        public_key: The public half.
        usages: What it may be used for, as `tokensign.token.KeyInfo` has it.
        schemes: In which it signs, by name.
        certificates: Every certificate on the token with this public key, newest first.
        certificate: The one to sign with, or None.
        chain: The CA certificates on the token above that one.
        lane: The lane's name.
    """

    def __init__(self, lane: Lane, listing: KeyListing) -> None:
        self._lane = lane
        self._name = listing.name
        self.lane = lane.settings.name
        self.id = key_id(self.lane, listing)
        self.token = listing.uri.token or ""
        self.uri: KeyUri = listing.uri
        self.spec = listing.spec
        self.public_key: PublicKeyTypes = listing.public_key
        self.usages = listing.usages
        self.schemes: Mapping[str, SignatureScheme] = {name: SCHEMES[name] for name in listing.schemes}
        self.certificates: Sequence[Certificate] = listing.certificates
        self.certificate = listing.certificate
        self.chain: Sequence[Certificate] = listing.chain

    def __repr__(self) -> str:
        return f"<LaneKey {self.id}>"

    async def sign_digests(
        self, digests: Sequence[bytes], scheme: SignatureScheme
    ) -> list[bytes | TokensignError]:
        """Sign hash values.

        Args:
            digests: 1 to `BATCH_MAXIMUM` hash values that `scheme.digest` made.
            scheme: The scheme, which must be prehashed.

        Returns:
            For each, in order, its signature as CMS carries it, or why there is none.

        Raises:
            LaneError: None was signed, or it is not known.
            UsageError: There are none, or too many.
        """
        if not 0 < len(digests) <= BATCH_MAXIMUM:
            raise UsageError(f"{len(digests)} hash values are not signed at once: 1 to {BATCH_MAXIMUM} are")
        return await self._lane.call(Operation.SIGN_DIGEST, self._name, scheme.name.encode(), digests)

    async def sign(self, message: bytes, scheme: SignatureScheme) -> bytes:
        """Sign a message; see `tokensign.keys.Signer.sign`.

        Raises:
            MechanismError: The key or the token cannot do the scheme, or it signs the message itself, which
                is too large.
            TokenError: The token or the lane failed or is gone.
        """
        parameter = scheme.name.encode()
        if len(message) <= MESSAGE_MAXIMUM:
            return await self._operate(Operation.SIGN, parameter, message)
        if not scheme.prehashed:
            raise MechanismError(f"at most {MESSAGE_MAXIMUM} bytes are signed with {scheme}")
        return await self._operate(Operation.SIGN_DIGEST, parameter, scheme.digest.new(message).digest())

    async def sign_digest(self, digest: bytes, scheme: SignatureScheme) -> bytes:
        """Sign one hash value; see `tokensign.keys.Signer.sign_digest`.

        Raises:
            MechanismError: The key or the token cannot do the scheme, or it signs only the message itself.
            TokenError: The token or the lane failed or is gone.
        """
        return await self._operate(Operation.SIGN_DIGEST, scheme.name.encode(), digest)

    async def unwrap(self, encrypted_key: bytes, transport: KeyTransport) -> bytes:
        """Recover a content-encryption key; see `tokensign.keys.Decrypter.unwrap`.

        Raises:
            DecryptionError: The ciphertext or its padding is wrong; one text for every cause.
            TokenError: The token or the lane failed or is gone.
        """
        parameter = json.dumps(transport_document(transport)).encode()
        return await self._operate(Operation.UNWRAP, parameter, encrypted_key)

    async def agree(self, peer: PublicKeyTypes) -> bytes:
        """The raw shared secret with another public key; see `tokensign.keys.KeyAgreement.agree`.

        Raises:
            DecryptionError: It is of another curve, or the token refuses it; one text.
            TokenError: The token or the lane failed or is gone.
        """
        return await self._operate(Operation.AGREE, b"", public_key_octets(peer))

    async def decapsulate(self, ciphertext: bytes) -> bytes:
        """The shared secret in a KEM ciphertext; see `tokensign.keys.Decapsulator.decapsulate`.

        Raises:
            DecryptionError: The ciphertext has another size, or the token refuses it; one text.
            TokenError: The token or the lane failed or is gone.
        """
        return await self._operate(Operation.DECAPSULATE, b"", ciphertext)

    def signer(self) -> BlockingKey:
        """The key as a `tokensign.keys.Signer`, for other threads than that of the event loop."""
        return BlockingKey(self, self._lane.loop)

    def decryption_key(self) -> BlockingKey:
        """The key as a `tokensign.keys.DecryptionKey`, for other threads than that of the event loop."""
        return BlockingKey(self, self._lane.loop)

    async def _operate(self, operation: Operation, parameter: bytes, item: bytes) -> bytes:
        (result,) = await self._lane.call(operation, self._name, parameter, (item,))
        if isinstance(result, bytes):
            return result
        raise result


class BlockingKey:
    """A key behind a lane with the protocols of `tokensign.keys`, for threads beside the event loop.

    `LaneKey.signer` and `LaneKey.decryption_key` make it. Its operations wait; in the event loop's own thread
    they would wait for ever.
    """

    def __init__(self, key: LaneKey, loop: asyncio.AbstractEventLoop) -> None:
        self._key = key
        self._loop = loop
        self.certificates = key.certificates
        self.certificate = key.certificate
        self.chain = key.chain

    @property
    def public_key(self) -> PublicKeyTypes:
        """The public half, as cryptography has it."""
        return self._key.public_key

    @property
    def kem(self) -> Kem | None:
        """The key encapsulation mechanism of the key, or None."""
        return KEMS.get(self._key.spec)

    def __repr__(self) -> str:
        return f"<BlockingKey {self._key.id}>"

    def sign(self, message: bytes, scheme: SignatureScheme) -> bytes:
        """See `LaneKey.sign`."""
        return self._wait(self._key.sign(message, scheme))

    def sign_digest(self, digest: bytes, scheme: SignatureScheme) -> bytes:
        """See `LaneKey.sign_digest`."""
        return self._wait(self._key.sign_digest(digest, scheme))

    def unwrap(self, encrypted_key: bytes, transport: KeyTransport) -> bytes:
        """See `LaneKey.unwrap`."""
        return self._wait(self._key.unwrap(encrypted_key, transport))

    def agree(self, peer: PublicKeyTypes) -> bytes:
        """See `LaneKey.agree`."""
        return self._wait(self._key.agree(peer))

    def decapsulate(self, ciphertext: bytes) -> bytes:
        """See `LaneKey.decapsulate`."""
        return self._wait(self._key.decapsulate(ciphertext))

    def _wait(self, operation: Coroutine[None, None, bytes]) -> bytes:
        return asyncio.run_coroutine_threadsafe(operation, self._loop).result()
