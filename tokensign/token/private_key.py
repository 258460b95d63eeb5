"""The operations of a private key on a token, behind the protocols of `tokensign.keys`."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import pkcs11
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mldsa, padding, rsa, x448, x25519
from pkcs11.constants import Attribute, ObjectClass
from pkcs11.exceptions import PKCS11Error

from tokensign.algorithms import KEMS, Kem, KeyUsage
from tokensign.errors import (
    AmbiguousNameError,
    DecryptionError,
    KeyNotFoundError,
    MechanismError,
    PinError,
    TokenError,
    TokenRemovedError,
    UsageError,
)
from tokensign.keys import OaepTransport
from tokensign.token import oaep, shared_secret
from tokensign.token.attributes import objects
from tokensign.token.cryptoki import OPERATION_ACTIVE, KeyFunctionNotPermittedError, error
from tokensign.token.failures import STALE, is_gone
from tokensign.token.mechanisms import RAW_RSA, RSA_PKCS1, SigningPlan, ecdsa_sig_value, signing_plan
from tokensign.token.mechanisms import oaep as oaep_mechanism
from tokensign.token.objects import KeyInfo, find_key, list_certificates, list_keys
from tokensign.token.public_key import public_key_info

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
    from pkcs11 import Object

    from tokensign.algorithms import SignatureScheme
    from tokensign.certificates import Certificate
    from tokensign.keys import KeyTransport
    from tokensign.token.connection import Session
    from tokensign.token.cryptoki import CkMechanism
    from tokensign.token.session import Token
    from tokensign.uri import KeyUri

__all__ = ["TokenKey", "open_key"]

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
_FAMILIES: Final[dict[str, Any]] = {
    "rsa-pkcs1": rsa.RSAPublicKey,
    "rsa-pss": rsa.RSAPublicKey,
    "ecdsa": ec.EllipticCurvePublicKey,
    "eddsa": ed25519.Ed25519PublicKey,
    "ml-dsa": (mldsa.MLDSA44PublicKey, mldsa.MLDSA65PublicKey, mldsa.MLDSA87PublicKey),
}
_PROBE_SIZE: Final = 16  # octets of the message that shows whether a token takes OAEP parameters


def open_key(
    token: Token,
    name: str | KeyUri | KeyInfo,
    usage: KeyUsage | None = None,
    *,
    certificate: Certificate | None = None,
) -> TokenKey:
    """A private key on a token, ready to sign and to decrypt.

    Args:
        token: An open token, which stays the caller's to close.
        name: The key, as for `tokensign.token.find_key`.
        usage: What it must be usable for.
        certificate: Which of the key's certificates signs; None for the newest that is valid.

    Raises:
        KeyNotFoundError: There is no such key, or its public half is not to be had.
        AmbiguousNameError: Several fit.
        UsageError: The certificate belongs to another key.
    """
    info = name if isinstance(name, KeyInfo) else find_key(token, name, usage)
    return TokenKey(token, info, certificate)


def open_decrypters(token: Token) -> list[TokenKey]:
    """Every key on a token that decrypts, agrees or decapsulates, for a message whose recipient is not known.

    Raises:
        TokenError: The token fails or refuses the PIN.
    """
    return [
        TokenKey(token, info)
        for info in list_keys(token)
        if info.serves(KeyUsage.DECRYPT) and info.public_key is not None
    ]


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
        self._functions = token.module.functions
        self._object = (info.id, info.label, info.spec)
        self._octets = (getattr(info.public_key, "key_size", 0) + 7) // 8
        self._plans: dict[tuple[str, str, str], SigningPlan] = {}
        self._signing = f"sign with the key {info.label}"
        self._decrypting = f"decrypt with the key {info.label}"

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
        """The certificate that was chosen; else the newest that is valid now; else the newest; else None."""
        if self._chosen:
            return self._chosen
        now = datetime.now(UTC)
        valid = [one for one in self.certificates if one.not_before <= now <= one.not_after]
        return next(iter((*valid, *self.certificates)), None)

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
            return self._sign(message, scheme)
        return self._sign(scheme.digest.new(message).digest(), scheme)

    def sign_digest(self, digest: bytes, scheme: SignatureScheme) -> bytes:
        """Sign a hash value; see `tokensign.keys.Signer.sign_digest`.

        Args:
            digest: The hash value that `scheme.digest` made.
            scheme: The scheme, which must fit the key and be prehashed.

        Raises:
            MechanismError: The key or the token cannot do the scheme, or it signs the message itself.
            UsageError: The hash value has another size than the scheme's digest makes.
            TokenError: The token failed or is gone.
        """
        if not scheme.prehashed:
            raise MechanismError(f"{scheme} signs the message itself, not a hash value made before")
        if len(digest) != scheme.digest.size:
            raise UsageError(
                f"a {scheme.digest.name} value has {scheme.digest.size} bytes, not {len(digest)}"
            )
        return self._sign(digest, scheme)

    def _sign(self, data: bytes, scheme: SignatureScheme) -> bytes:
        known = self._plans.get((scheme.family, scheme.digest.name, scheme.parameter_set))
        plan = known or self._plan(scheme)
        if plan.maximum is not None:
            data = data[: plan.maximum]
        elif plan.prefix:
            data = plan.prefix + data
        with self.token.borrow(self._signing) as session:
            self._begin(self._functions.C_SignInit, session, plan.mechanism)
            code = self._functions.C_Sign(session.handle, data, len(data), session.output, session.size)
            if code:
                raise error(code)
            signature = session.take_output()
        return ecdsa_sig_value(signature) if plan.encode_pair else signature

    def _plan(self, scheme: SignatureScheme) -> SigningPlan:
        if not isinstance(self._public_key, _FAMILIES[scheme.family]):
            raise MechanismError(
                f"the key {self.info.label} ({self.info.spec}) does not sign with {scheme.family}"
            )
        if scheme.parameter_set and scheme.parameter_set != self.info.spec:
            raise MechanismError(
                f"the key {self.info.label} ({self.info.spec}) does not sign with {scheme.parameter_set}"
            )
        plan = signing_plan(scheme, self._octets)
        self._plans[scheme.family, scheme.digest.name, scheme.parameter_set] = plan
        return plan

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
        if not isinstance(self._public_key, rsa.RSAPublicKey):
            raise MechanismError(
                f"the key {self.info.label} ({self.info.spec}) does not decrypt RSA key transport"
            )
        if len(encrypted_key) != self._octets:
            raise DecryptionError(oaep.CANNOT_DECRYPT)
        if not isinstance(transport, OaepTransport):
            return self._decrypt(encrypted_key, RSA_PKCS1)
        if self._octets < 2 * transport.digest.size + 2:  # RFC 8017 section 7.1.2, step 1 c
            raise DecryptionError(oaep.CANNOT_DECRYPT)
        if self._token_takes(transport, self._public_key):
            return self._decrypt(encrypted_key, oaep_mechanism(transport))
        block = self._decrypt(encrypted_key, RAW_RSA)
        return oaep.decode(block.rjust(self._octets, b"\0"), transport)

    def _decrypt(self, ciphertext: bytes, mechanism: CkMechanism) -> bytes:
        with self.token.borrow(self._decrypting) as session:
            self._begin(self._functions.C_DecryptInit, session, mechanism)
            code = self._functions.C_Decrypt(
                session.handle, ciphertext, len(ciphertext), session.output, session.size
            )
            if code:
                raise _decryption_failure(error(code))
            return session.take_output()

    def _token_takes(self, transport: OaepTransport, public_key: rsa.RSAPublicKey) -> bool:
        """Whether the token's own OAEP works with these parameters.

        Found out once, with a ciphertext made here. If it depended on the message, a stranger could learn
        from which way is taken whether the padding was right.
        """
        probe = OaepTransport(transport.digest, transport.mgf_digest, b"label" if transport.label else b"")
        remembered = self.token.connection.remembered
        question = (self._object, probe)
        if question not in remembered:
            remembered[question] = self._probe(probe, public_key)
        return bool(remembered[question])

    def _probe(self, transport: OaepTransport, public_key: rsa.RSAPublicKey) -> bool:
        room = self._octets - 2 * transport.digest.size - 2
        message = secrets.token_bytes(min(_PROBE_SIZE, room))
        try:
            mask = padding.MGF1(transport.mgf_digest.primitive())
            scheme = padding.OAEP(mask, transport.digest.primitive(), transport.label)
            return self._decrypt(public_key.encrypt(message, scheme), oaep_mechanism(transport)) == message
        except (TokenRemovedError, PinError, KeyNotFoundError, AmbiguousNameError):
            raise
        except (TokenError, DecryptionError, UnsupportedAlgorithm):
            return False

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
        own = self._public_key
        if not isinstance(own, ec.EllipticCurvePublicKey | x25519.X25519PublicKey | x448.X448PublicKey):
            raise MechanismError(f"the key {self.info.label} ({self.info.spec}) does not agree on secrets")
        point = shared_secret.point_of(peer, own)
        if point is None:
            raise DecryptionError(oaep.CANNOT_DECRYPT)
        with self.token.borrow(f"agree on a secret with the key {self.info.label}") as session:
            try:
                return shared_secret.derive(self._find(session), point, refusal=oaep.CANNOT_DECRYPT)
            except PKCS11Error as failure:
                raise _secret_failure(failure) from None

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
                return shared_secret.decapsulate(self._find(session), ciphertext)
            except PKCS11Error as failure:
                raise _secret_failure(failure) from None

    # --- common to all

    def _begin(self, initialize: Callable[..., int], session: Session, mechanism: CkMechanism) -> None:
        """C_SignInit or C_DecryptInit, the PIN where the key wants it each time, and room for the result."""
        key = session.objects.get(self._object) or self._look_up(session)
        if self.info.always_authenticate:  # before the operation begins, so that nothing comes between
            self.token.connection.require_tries_for(self.token.credential)
        code = initialize(session.handle, mechanism, key)
        if code == OPERATION_ACTIVE:  # some modules do not end an operation that failed
            self.token.connection.renew(session)
            code = initialize(session.handle, mechanism, self._look_up(session))
        if code:
            raise error(code)
        if self.info.always_authenticate:
            self.token.connection.log_in_for(session, self.token.credential)
        session.rewind()

    def _look_up(self, session: Session) -> int:
        """The key's handle in a session, remembered there."""
        found = self._find(session)
        session.objects[self._object] = int(found.handle)  # type: ignore[arg-type]  # found, so it has one
        return session.objects[self._object]

    def _find(self, session: Session) -> Object:
        """The one private key on the token with this name."""
        template: dict[Attribute, Any] = {Attribute.CLASS: ObjectClass.PRIVATE_KEY}
        if self.info.id:
            template[Attribute.ID] = self.info.id
        if self.info.label:
            template[Attribute.LABEL] = self.info.label
        found = objects(session, template)
        if not found:
            self.token.connection.require_token()
            raise KeyNotFoundError(
                f"the key {self.info.uri} is not there any more",
                hint="`tokensign key list` shows what is there",
            )
        if len(found) > 1:
            raise AmbiguousNameError(
                f"{len(found)} keys are {self.info.uri}",
                hint="give them different ids with the token's own tool",
            )
        return found[0]


def _secret_failure(failure: PKCS11Error) -> Exception:
    """What a failed derivation or decapsulation means; a token may also not grant that the secret is read."""
    if isinstance(failure, shared_secret.NOT_THE_TEMPLATE):
        return failure
    return _decryption_failure(failure)


def _decryption_failure(failure: PKCS11Error) -> Exception:
    """What C_Decrypt's failure means; modules say the most various things about a wrong padding."""
    if is_gone(failure) or isinstance(failure, _NOT_THE_CIPHERTEXT):
        return failure
    return DecryptionError(oaep.CANNOT_DECRYPT)
