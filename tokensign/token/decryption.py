"""Decryption of content-encryption keys by an RSA key on a token."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pkcs11

from tokensign.errors import DecryptionError
from tokensign.keys import OaepTransport
from tokensign.token import oaep
from tokensign.token.cryptoki import NOT_ABLE, KeyFunctionNotPermittedError, check, error
from tokensign.token.failures import STALE, UNSURE, is_gone
from tokensign.token.mechanisms import RAW_RSA, RSA_PKCS1
from tokensign.token.mechanisms import oaep as oaep_mechanism
from tokensign.token.quirks import Quirk
from tokensign.token.trials import oaep_works

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import rsa
    from pkcs11.exceptions import PKCS11Error

    from tokensign.keys import KeyTransport
    from tokensign.token.connection import Connection
    from tokensign.token.cryptoki import CkMechanism
    from tokensign.token.key_access import KeyAccess

__all__ = ["Decryption", "decryption_failure"]

_NOT_THE_CIPHERTEXT: Final = (  # failures of C_Decrypt that say nothing about what was to be decrypted
    *STALE,
    pkcs11.UserNotLoggedIn,
    pkcs11.HostMemory,
    pkcs11.DeviceMemory,
    pkcs11.OperationNotInitialized,
    pkcs11.FunctionNotSupported,
    pkcs11.MechanismInvalid,
    pkcs11.KeyTypeInconsistent,
    KeyFunctionNotPermittedError,
)


class Decryption:
    """The decryption of an RSA key. Safe for threads.

    Args:
        access: The key.
        public_key: Its public half.
    """

    def __init__(self, access: KeyAccess, public_key: rsa.RSAPublicKey) -> None:
        self._access = access
        self._functions = access.token.module.functions
        self._public_key = public_key
        self._octets = (access.bits + 7) // 8
        self._decrypting = f"decrypt with the key {access.info.label}"

    def unwrap(self, encrypted_key: bytes, transport: KeyTransport) -> bytes:
        """Recover a content-encryption key; see `tokensign.keys.Decrypter.unwrap`.

        Args:
            encrypted_key: As many octets as the modulus.
            transport: How it was encrypted.

        Raises:
            DecryptionError: The ciphertext or its padding is wrong; one text for every cause.
            MechanismError: The token cannot do it.
            TokenError: The token failed or is gone.
        """
        if len(encrypted_key) != self._octets:
            raise DecryptionError(oaep.CANNOT_DECRYPT)
        if not isinstance(transport, OaepTransport):
            return self._decrypt(encrypted_key, RSA_PKCS1)[1]
        if self._octets < 2 * transport.digest.size + 2:  # RFC 8017 section 7.1.2, step 1 c
            raise DecryptionError(oaep.CANNOT_DECRYPT)
        ways = self._oaep_ways(transport)
        mechanism, block = self._decrypt(encrypted_key, *ways)
        if len(ways) > 1:
            self._learn(_like(transport), works=mechanism is not RAW_RSA)
        if mechanism is not RAW_RSA:
            return block
        return oaep.decode(block.rjust(self._octets, b"\0"), transport)

    def _decrypt(self, ciphertext: bytes, *mechanisms: CkMechanism) -> tuple[CkMechanism, bytes]:
        """Decrypt with the first mechanism that C_DecryptInit takes, without having seen the ciphertext."""
        pin = self._access.operation_pin(self._decrypting) if self._access.info.always_authenticate else None
        with self._access.borrow(self._decrypting, pin) as session:
            for mechanism in mechanisms:
                code = self._access.begin(self._functions.C_DecryptInit, session, mechanism, pin)
                if code not in NOT_ABLE:
                    break
            check(code)
            code = self._functions.C_Decrypt(
                session.handle, ciphertext, len(ciphertext), session.output, session.size
            )
            connection = self._access.token.connection
            if code:
                failure = decryption_failure(error(code), connection)
                if self._access.capabilities.has(Quirk.FAILURE_STAYS_ACTIVE):
                    connection.renew(session)
                raise failure
            if not self._access.capabilities.has(Quirk.NOTICES_LATE):
                connection.is_there()  # asked after a failure, too: a wrong padding must not take longer
            return mechanism, session.take_output()

    def _oaep_ways(self, transport: OaepTransport) -> tuple[CkMechanism, ...]:
        """The token's own OAEP, or raw RSA for the host to remove the padding.

        Found out once, with a ciphertext made here. If it depended on the message, a stranger could learn
        from which way is taken whether the padding was right. A key that wants the PIN for each operation
        is not tried, nor is a slow card: there the table of quirks decides, and what C_DecryptInit says.
        """
        own, like = oaep_mechanism(transport), _like(transport)
        known = self._access.capabilities
        if not known.lists("RSA_X_509"):
            return (own,)
        if not known.lists("RSA_PKCS_OAEP"):
            return (RAW_RSA,)
        works = known.recall((self._access.name, like))
        if works is None and (self._access.info.always_authenticate or known.has(Quirk.OAEP_TRIAL_COSTS)):
            return (RAW_RSA,) if known.oaep_fails(transport) else (own, RAW_RSA)
        if works is None:
            trial = oaep_mechanism(like)
            works = oaep_works(like, self._public_key, lambda ciphertext: self._decrypt(ciphertext, trial)[1])
            self._learn(like, works=works)
        return (own,) if works else (RAW_RSA,)

    def _learn(self, transport: OaepTransport, *, works: bool) -> None:
        self._access.capabilities.remember((self._access.name, transport), works)
        self._access.capabilities.show_oaep(transport, works=works)


def _like(transport: OaepTransport) -> OaepTransport:
    """What stands for a key transport in trials: all labels are alike."""
    return OaepTransport(transport.digest, transport.mgf_digest, b"label" if transport.label else b"")


def decryption_failure(failure: PKCS11Error, connection: Connection) -> Exception:
    """What C_Decrypt's failure means; modules say the most various things about a wrong padding.

    One of them is what others say when the token is gone, so then it is asked whether it is there. What that
    takes depends on the module, not on the ciphertext: a module that is asked for longer never says this of a
    padding (`Quirk.NOTICES_LATE`).

    Args:
        failure: What the module answered.
        connection: The token's, inside the block of its `borrow`.

    Raises:
        TokenNotPresent: The token is gone.
    """
    if is_gone(failure) or isinstance(failure, _NOT_THE_CIPHERTEXT):
        return failure
    if isinstance(failure, UNSURE):
        connection.require_token(failure)
    return DecryptionError(oaep.CANNOT_DECRYPT)
