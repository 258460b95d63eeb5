"""The operations of a private key on a token, behind the protocols of `tokensign.keys`."""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Final

import pkcs11
from cryptography.hazmat.primitives.asymmetric import ec, rsa, x448, x25519
from pkcs11.exceptions import PKCS11Error
from pkcs11.mechanisms import KDF, Mechanism

from tokensign.algorithms import KEMS, Kem, KeyUsage
from tokensign.errors import (
    DecryptionError,
    KeyNotFoundError,
    MechanismError,
    UsageError,
    WeakKeyError,
)
from tokensign.token import oaep, shared_secret
from tokensign.token.choosing import ChosenKey, choose_key, signing_certificate
from tokensign.token.decryption import Decryption, decryption_failure
from tokensign.token.key_access import KeyAccess
from tokensign.token.objects import KeyInfo, list_certificates, list_keys
from tokensign.token.protection import examine
from tokensign.token.public_key import public_key_info
from tokensign.token.signing import Signing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

    from tokensign.algorithms import SignatureScheme
    from tokensign.certificates import Certificate
    from tokensign.keys import KeyTransport
    from tokensign.token.capabilities import Ability
    from tokensign.token.opening import Token
    from tokensign.uri import KeyUri

__all__ = ["TokenKey", "open_key"]

_log: Final = logging.getLogger(__name__)


def open_key(
    token: Token,
    name: str | KeyUri | Certificate | KeyInfo,
    usage: KeyUsage | None = None,
    *,
    certificate: Certificate | None = None,
    require_non_extractable: bool = False,
) -> TokenKey:
    """A private key on a token, ready to sign and to decrypt.

    Args:
        token: An open token, which stays the caller's to close.
        name: The key, as for `tokensign.token.find_key`.
        usage: What it must be usable for.
        certificate: Which of the key's certificates signs; None for the one by which it is named, or else
            the newest that is valid and meant for signatures.
        require_non_extractable: Whether to refuse a key that the token does not vouch for never having been
            outside; see `ProtectionReport.require_non_extractable`.

    Raises:
        KeyNotFoundError: There is no such key, or its public half is not to be had.
        AmbiguousNameError: Several fit.
        UsageError: The certificate belongs to another key.
        WeakKeyError: The key is refused by `require_non_extractable`.
    """
    chosen = ChosenKey(name) if isinstance(name, KeyInfo) else choose_key(token, name, usage)
    if require_non_extractable:
        examine(chosen.key).require_non_extractable()
    return TokenKey(token, chosen.key, certificate or chosen.certificate)


def open_decrypters(token: Token, *, require_non_extractable: bool = False) -> list[TokenKey]:
    """Every key on a token that decrypts, agrees or decapsulates, for a message whose recipient is not known.

    So are keys whose certificates have expired or are not there any more: what was encrypted to them stays
    readable.

    Args:
        token: An open token, which stays the caller's to close.
        require_non_extractable: Whether to leave out, with a warning, the keys that `open_key` would refuse.

    Raises:
        TokenError: The token fails or refuses the PIN.
    """
    found = []
    for info in list_keys(token):
        if not info.serves(KeyUsage.DECRYPT) or info.public_key is None:
            continue
        try:
            if require_non_extractable:
                examine(info).require_non_extractable()
        except WeakKeyError as error:
            _log.warning("%s", error)
        else:
            found.append(TokenKey(token, info))
    return found


class TokenKey:
    """A private key on a token. `open_key` makes it.

    It has the operations of all protocols of `tokensign.keys`: `Signer`, `Decrypter`, `KeyAgreement` and
    `Decapsulator`. Those that its type does not have raise `MechanismError`.

    Safe for threads; N threads sign in parallel. Certificates and the public key are read once, at the
    first use: open the key again after one was imported.

    Attributes:
        info: The key.
        token: The token that it is on.
    """

    def __init__(self, token: Token, info: KeyInfo, certificate: Certificate | None = None) -> None:
        if info.public_key is None:
            raise KeyNotFoundError(
                f"the public half of the key {info.label} ({info.spec}) is not on the token",
                hint="import its certificate, or generate a key of another type",
            )
        self.token = token
        self.info = info
        self._public_key: PublicKeyTypes = info.public_key
        self._public_key_info = public_key_info(info.public_key)
        if certificate and certificate.public_key_info != self._public_key_info:
            raise UsageError(
                f"the certificate of {certificate.subject} belongs to another key than {info.label}"
            )
        self._chosen = certificate
        self._access = KeyAccess(token, info)
        self._signing = Signing(self._access)
        self._decryption = (
            Decryption(self._access, info.public_key)
            if isinstance(info.public_key, rsa.RSAPublicKey)
            else None
        )

    def __repr__(self) -> str:
        return f"<TokenKey {self.info.uri}>"

    # --- what is known of the key

    @property
    def public_key(self) -> PublicKeyTypes:
        """The public half, as cryptography has it."""
        return self._public_key

    @cached_property
    def certificates(self) -> Sequence[Certificate]:
        """Every certificate on the token with this public key, newest first."""
        own = [one for one in self._all_certificates if one.public_key_info == self._public_key_info]
        return tuple(sorted(own, key=lambda one: one.not_before, reverse=True))

    @property
    def certificate(self) -> Certificate | None:
        """The certificate that was chosen, or else the one to sign with, or None.

        That is the newest that is valid now, of those that are meant for signatures; where none is valid,
        the newest.
        """
        return self._chosen or signing_certificate(self.certificates)

    @cached_property
    def chain(self) -> Sequence[Certificate]:
        """The CA certificates on the token that lead upward from `certificate`, by issuer and subject."""
        found: list[Certificate] = []
        above = [self.certificate] if self.certificate else []
        while above:
            issuer = above.pop().asn1.issuer
            for one in self._all_certificates:
                if one.is_ca and one not in (*found, self.certificate) and one.asn1.subject == issuer:
                    found.append(one)
                    above.append(one)
        return tuple(found)

    @cached_property
    def _all_certificates(self) -> Sequence[Certificate]:
        return [stored.certificate for stored in list_certificates(self.token)]

    # --- signing

    def sign(self, message: bytes, scheme: SignatureScheme) -> bytes:
        """Sign a message; see `tokensign.keys.Signer.sign`.

        Args:
            message: What is signed.
            scheme: The scheme, which must fit the key.

        Raises:
            MechanismError: The key or the token cannot do the scheme.
            TokenError: The token failed or is gone.
        """
        if not scheme.prehashed:
            return self._signing.sign(message, scheme)
        return self._signing.sign(scheme.digest.new(message).digest(), scheme, message)

    def sign_digest(self, digest: bytes, scheme: SignatureScheme) -> bytes:
        """Sign a hash value; see `tokensign.keys.Signer.sign_digest`.

        Args:
            digest: The hash value that `scheme.digest` made.
            scheme: The scheme, which must fit the key and be prehashed.

        Raises:
            MechanismError: The key or the token cannot do the scheme, or it signs only the message itself.
            UsageError: The hash value has another size than the scheme's digest makes.
            TokenError: The token failed or is gone.
        """
        if not scheme.prehashed:
            raise MechanismError(f"{scheme} signs the message itself, not a hash value made before")
        if len(digest) != scheme.digest.size:
            raise UsageError(
                f"a {scheme.digest.name} value has {scheme.digest.size} bytes, not {len(digest)}"
            )
        return self._signing.sign(digest, scheme)

    def try_scheme(self, scheme: SignatureScheme) -> Ability:
        """See in which way the token would sign, without a signature or a PIN for it.

        Args:
            scheme: The scheme.

        Raises:
            TokenError: The token, its login or the key is gone.
        """
        return self._signing.try_scheme(scheme)

    # --- decrypting

    def unwrap(self, encrypted_key: bytes, transport: KeyTransport) -> bytes:
        """Recover a content-encryption key; see `tokensign.keys.Decrypter.unwrap`.

        Args:
            encrypted_key: As many octets as the modulus.
            transport: How it was encrypted.

        Raises:
            DecryptionError: The ciphertext or its padding is wrong; one text for every cause.
            MechanismError: The key is not RSA, or the token cannot do it.
            TokenError: The token failed or is gone.
        """
        if self._decryption is None:
            raise MechanismError(
                f"the key {self.info.label} ({self.info.spec}) does not decrypt RSA key transport"
            )
        return self._decryption.unwrap(encrypted_key, transport)

    # --- agreeing on a secret

    def agree(self, peer: PublicKeyTypes) -> bytes:
        """The raw shared secret with another public key; see `tokensign.keys.KeyAgreement.agree`.

        Args:
            peer: The other public key, which cryptography has found to be on its curve.

        Raises:
            DecryptionError: It is of another curve or of small order, or the token refuses it; one text.
            MechanismError: The key or the token cannot do it.
            TokenError: The token failed or is gone.
        """
        return self.derive(peer)

    def derive(self, peer: PublicKeyTypes, kdf: KDF = KDF.NULL, size: int | None = None) -> bytes:
        """A secret with another public key, after a key derivation of the token.

        `agree` is this without one, which is what all tokens can do.

        Args:
            peer: As for `agree`.
            kdf: The key derivation function (ANSI X9.63, without shared information), or none.
            size: Octets of the result; None for as many as the secret has.

        Raises:
            DecryptionError: As for `agree`.
            MechanismError: As for `agree`.
            TokenError: The token failed or is gone.
        """
        own = self._public_key
        if not isinstance(own, ec.EllipticCurvePublicKey | x25519.X25519PublicKey | x448.X448PublicKey):
            raise MechanismError(f"the key {self.info.label} ({self.info.spec}) does not agree on secrets")
        point = shared_secret.point_of(peer, own)
        if point is None:
            raise DecryptionError(oaep.CANNOT_DECRYPT)
        if size is not None:
            point = replace(point, secret_size=size)
        mechanism = Mechanism.ECDH1_DERIVE
        if isinstance(own, ec.EllipticCurvePublicKey) and not self._access.capabilities.lists(mechanism.name):
            mechanism = Mechanism.ECDH1_COFACTOR_DERIVE  # the same on the curves of NIST: their cofactor is 1
        with self.token.borrow(f"agree on a secret with the key {self.info.label}") as session:
            try:
                key = self._access.find(session)
                return shared_secret.derive(key, point, mechanism, kdf, refusal=oaep.CANNOT_DECRYPT)
            except PKCS11Error as failure:
                self._require_login(failure)
                raise self._secret_failure(failure) from None

    @property
    def kem(self) -> Kem | None:
        """The key encapsulation mechanism of the key, or None."""
        return KEMS.get(self.info.spec)

    def decapsulate(self, ciphertext: bytes) -> bytes:
        """The shared secret in a KEM ciphertext; see `tokensign.keys.Decapsulator.decapsulate`.

        Args:
            ciphertext: As many octets as the mechanism has.

        Raises:
            DecryptionError: The ciphertext has another size, or the token refuses it; one text.
            MechanismError: The key or the token cannot do it.
            TokenError: The token failed or is gone.
        """
        if self.kem is None:
            raise MechanismError(f"the key {self.info.label} ({self.info.spec}) does not decapsulate")
        if len(ciphertext) != self.kem.ciphertext_size:
            raise DecryptionError(oaep.CANNOT_DECRYPT)
        with self.token.borrow(f"decapsulate with the key {self.info.label}") as session:
            try:
                return shared_secret.decapsulate(self._access.find(session), ciphertext)
            except PKCS11Error as failure:
                self._require_login(failure)
                raise self._secret_failure(failure) from None

    def _require_login(self, failure: PKCS11Error) -> None:
        """Explain the refusal of a key that wants the PIN for each operation.

        A context-specific login stands between the beginning of an operation and the operation (PKCS#11 3.0
        section 5.6.8), and C_DeriveKey and C_DecapsulateKey have no beginning.
        """
        if self.info.always_authenticate and isinstance(failure, pkcs11.UserNotLoggedIn):
            raise MechanismError(
                f"the key {self.info.label} wants the PIN for each operation, and PKCS#11 has no way to give "
                "it for key agreement",
                hint="use a key without CKA_ALWAYS_AUTHENTICATE to decrypt",
            )

    def _secret_failure(self, failure: PKCS11Error) -> Exception:
        """What a failed derivation or decapsulation means; a token may also not let the secret be read."""
        if isinstance(failure, shared_secret.NOT_THE_TEMPLATE):
            return failure
        return decryption_failure(failure, self.token.connection)
