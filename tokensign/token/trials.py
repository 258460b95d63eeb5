"""Trials: keys are used, for nothing but to see what the token can do with them.

No trial costs a PIN or leaves anything behind: what is decrypted and agreed on was made here, a signature
is begun and not made, and a key that wants the PIN for each operation is only asked what it would take.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any, Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, x448, x25519
from cryptography.hazmat.primitives.kdf.x963kdf import X963KDF
from pkcs11.mechanisms import KDF

from tokensign.algorithms import DIGESTS
from tokensign.errors import (
    AmbiguousNameError,
    DecryptionError,
    KeyNotFoundError,
    PinError,
    TokenError,
    TokenRemovedError,
    TokensignError,
)
from tokensign.keys import OaepTransport
from tokensign.token.capabilities import TRANSPORTS, capabilities, schemes_of, transport_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from tokensign.token.capabilities import Ability, AbilityKind
    from tokensign.token.private_key import TokenKey
    from tokensign.token.secret_key import TokenSecretKey

__all__ = ["oaep_works", "try_key", "try_secret_key"]

_MESSAGE_SIZE: Final = 16  # octets of what is encrypted for a trial
_DERIVATIONS: Final = {
    KDF.SHA1: DIGESTS["sha1"],
    KDF.SHA256: DIGESTS["sha256"],
    KDF.SHA384: DIGESTS["sha384"],
    KDF.SHA512: DIGESTS["sha512"],
}
_ABOUT_THE_TOKEN: Final = (TokenRemovedError, PinError, KeyNotFoundError, AmbiguousNameError)


def oaep_works(
    transport: OaepTransport, public_key: rsa.RSAPublicKey, decrypt: Callable[[bytes], bytes]
) -> bool:
    """Whether the token's own OAEP works with some parameters, as a ciphertext made here shows.

    Args:
        transport: The parameters.
        public_key: The public half of the key, large enough for them.
        decrypt: Decrypts on the token.

    Raises:
        TokenError: The token, its login or its key is gone, which says nothing.
    """
    room = public_key.key_size // 8 - 2 * transport.digest.size - 2
    message = secrets.token_bytes(min(_MESSAGE_SIZE, room))
    try:
        mask = padding.MGF1(transport.mgf_digest.primitive())
        scheme = padding.OAEP(mask, transport.digest.primitive(), transport.label)
        return decrypt(public_key.encrypt(message, scheme)) == message
    except _ABOUT_THE_TOKEN:
        raise
    except (TokenError, DecryptionError, UnsupportedAlgorithm):
        return False


def try_key(key: TokenKey) -> tuple[Ability, ...]:
    """What a private key can do with its token, in the schemes and transports of its type and usages.

    Args:
        key: The key.

    Raises:
        TokenError: The token, its login or the key is gone.
    """
    found = []
    if "sign" in key.info.usages:
        found += [key.try_scheme(scheme) for scheme in schemes_of(key.info.spec)]
    if "decrypt" in key.info.usages and isinstance(key.public_key, rsa.RSAPublicKey):
        found += _try_transports(key, key.public_key)
    if "derive" in key.info.usages or "decapsulate" in key.info.usages:
        found.append(_try_secret(key))
    if "derive" in key.info.usages and not key.info.always_authenticate:
        found += _try_derivations(key)
    return tuple(found)


def try_secret_key(key: TokenSecretKey) -> Ability:
    """Whether an AES key unwraps what it wrapped.

    Args:
        key: The key.

    Raises:
        TokenError: The token, its login or the key is gone.
    """
    shown = capabilities(key.token)
    secret = secrets.token_bytes(_MESSAGE_SIZE)
    try:
        worked = key.unwrap_key(key.wrap_key(secret)) == secret
    except _ABOUT_THE_TOKEN:
        raise
    except TokensignError as error:
        return shown.show("wrap", "AES key wrap", error.message, possible=False)
    way = "CKM_AES_KEY_WRAP" if worked else "what it unwraps is not what it wrapped"
    return shown.show("wrap", "AES key wrap", way, possible=worked)


def _try_transports(key: TokenKey, public_key: rsa.RSAPublicKey) -> list[Ability]:
    shown = capabilities(key.token)
    found = []
    for transport in TRANSPORTS:
        name = transport_name(transport)
        if key.info.always_authenticate:
            found.append(next(one for one in shown.key_transports if one.name == name))
            continue
        secret = secrets.token_bytes(_MESSAGE_SIZE)
        scheme: padding.AsymmetricPadding = padding.PKCS1v15()
        if isinstance(transport, OaepTransport):
            if public_key.key_size < 8 * (2 * transport.digest.size + 2 + _MESSAGE_SIZE):
                continue
            mask = padding.MGF1(transport.mgf_digest.primitive())
            scheme = padding.OAEP(mask, transport.digest.primitive(), transport.label)
        try:
            key.unwrap(public_key.encrypt(secret, scheme), transport)
        except _ABOUT_THE_TOKEN:
            raise
        except TokensignError as error:
            shown.show("decrypt", name, error.message, possible=False)
        else:
            if not isinstance(transport, OaepTransport):
                shown.show("decrypt", name, "CKM_RSA_PKCS, padding removed on the token")
        found.append(next(one for one in shown.key_transports if one.name == name))
    return found


def _try_secret(key: TokenKey) -> Ability:
    """Agree on a secret with a key made here, or decapsulate one."""
    shown = capabilities(key.token)
    kind: AbilityKind = "decapsulate" if key.kem else "agree"
    name = key.info.spec if key.kem else f"ECDH with {key.info.spec}"
    try:
        if key.kem:
            worked, way = _decapsulates(key), "CKM_ML_KEM"
        else:
            worked, way = _agrees(key), "the token gives the secret, the host derives the key from it"
    except _ABOUT_THE_TOKEN:
        raise
    except (TokensignError, UnsupportedAlgorithm) as error:
        return shown.show(kind, name, getattr(error, "message", str(error)), possible=False)
    return shown.show(kind, name, way if worked else "the secret is wrong", possible=worked)


def _try_derivations(key: TokenKey) -> list[Ability]:
    """The key derivations (ANSI X9.63, RFC 5753 section 7.2) that the token knows; the host does them all."""
    shown = capabilities(key.token)
    if not isinstance(key.public_key, ec.EllipticCurvePublicKey):
        return []
    peer = ec.generate_private_key(key.public_key.curve)
    secret = peer.exchange(ec.ECDH(), key.public_key)
    found = []
    for kdf, digest in _DERIVATIONS.items():
        name = f"ECDH with the X9.63 derivation of {digest.name}"
        right = X963KDF(digest.primitive(), digest.size, None).derive(secret)
        try:
            works = key.derive(peer.public_key(), kdf, digest.size) == right
        except _ABOUT_THE_TOKEN:
            raise
        except TokensignError:
            found.append(shown.show("agree", name, "the token refuses it; the host does it", possible=False))
        else:
            way = f"CKD_{kdf.name}_KDF; not used, the host does it"
            found.append(shown.show("agree", name, way if works else "it is wrong", possible=works))
    return found


def _agrees(key: TokenKey) -> bool:
    peer: Any
    match key.public_key:
        case ec.EllipticCurvePublicKey() as own:
            ephemeral = ec.generate_private_key(own.curve)
            return key.agree(ephemeral.public_key()) == ephemeral.exchange(ec.ECDH(), own)
        case x25519.X25519PublicKey() as own:
            peer = x25519.X25519PrivateKey.generate()
        case own:
            peer = x448.X448PrivateKey.generate()
    secret: bytes = peer.exchange(own)
    return key.agree(peer.public_key()) == secret


def _decapsulates(key: TokenKey) -> bool:
    public_key: Any = key.public_key  # of ML-KEM
    secret, ciphertext = public_key.encapsulate()
    return key.decapsulate(ciphertext) == bytes(secret)
