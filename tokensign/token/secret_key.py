"""AES keys on a token that wrap the keys of messages, behind `tokensign.keys.KeyEncryptionKey`.

The key on the token never leaves it. What is unwrapped is the key of one message, which the host needs to
decrypt the content: it becomes an object of the session, is read, and is destroyed.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import secrets
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import pkcs11
from pkcs11.constants import DEFAULT, Attribute, MechanismFlag, ObjectClass
from pkcs11.exceptions import PKCS11Error
from pkcs11.mechanisms import KeyType, Mechanism
from pkcs11.types import DecryptMixin, UnwrapMixin, WrapMixin

from tokensign.errors import (
    AmbiguousNameError,
    DecryptionError,
    KeyNotFoundError,
    MechanismError,
    UsageError,
    WeakKeyError,
)
from tokensign.token.attributes import objects, read
from tokensign.token.capabilities import capabilities
from tokensign.token.choosing import find_secret_key
from tokensign.token.cryptoki import KeyFunctionNotPermittedError
from tokensign.token.failures import STALE, UNSURE, is_gone
from tokensign.token.objects import list_secret_keys, read_secret_keys
from tokensign.token.protection import examine

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tokensign.token.connection import Connection
    from tokensign.token.objects import KeyInfo
    from tokensign.token.opening import Token
    from tokensign.token.session import Session
    from tokensign.uri import KeyUri

__all__ = ["TokenSecretKey", "generate_secret_key", "open_secret_key", "open_secret_keys"]

_log: Final = logging.getLogger(__name__)

_SPECS: Final = {f"aes:{8 * size}": size for size in (16, 24, 32)}  # octets of an AES key
_HALF_BLOCK: Final = 8  # octets; AES key wrap counts in them
_IDENTIFIER_SIZE: Final = 16  # octets, random: never that of another key
_MAX_WRAPPED_SIZE: Final = 1024  # octets; content-encryption keys have 32, keys of HMAC at most some hundred
_CANNOT_UNWRAP: Final = "the message cannot be decrypted"  # the one text for every cause (RFC 3218)
_GENERATE_HINT: Final = "a key that `generate_secret_key` made wraps and unwraps"
_PADDED: Final = (  # RFC 5649 in PKCS#11 3.1, and what SoftHSM takes for it
    Mechanism.AES_KEY_WRAP_KWP,
    Mechanism.AES_KEY_WRAP_PAD,
)

_NOT_ABLE: Final = (  # the token or the key cannot do it this way; says nothing about the wrapped key
    pkcs11.MechanismInvalid,
    pkcs11.MechanismParamInvalid,
    pkcs11.FunctionNotSupported,
    pkcs11.KeyTypeInconsistent,
    pkcs11.AttributeSensitive,
    pkcs11.AttributeTypeInvalid,
    pkcs11.AttributeValueInvalid,
    pkcs11.AttributeReadOnly,
    pkcs11.TemplateIncomplete,
    pkcs11.TemplateInconsistent,
    KeyFunctionNotPermittedError,
)
_NOT_THE_WRAPPED_KEY: Final = (  # other failures that say nothing about the wrapped key
    *STALE,
    pkcs11.UserNotLoggedIn,
    pkcs11.HostMemory,
    pkcs11.DeviceMemory,
    pkcs11.SessionReadOnly,
)
_MESSAGE_KEY: Final = {  # the key of a message, which the host is to have
    Attribute.TOKEN: False,
    Attribute.PRIVATE: True,
    Attribute.SENSITIVE: False,
    Attribute.EXTRACTABLE: True,
}
_PROTECTED: Final = {
    Attribute.TOKEN: True,
    Attribute.PRIVATE: True,
    Attribute.SENSITIVE: True,
    Attribute.EXTRACTABLE: False,
}
_USAGES: Final = {
    Attribute.WRAP: True,
    Attribute.UNWRAP: True,
    Attribute.ENCRYPT: False,
    Attribute.DECRYPT: False,
    Attribute.SIGN: False,
    Attribute.VERIFY: False,
    Attribute.DERIVE: False,
}
_TEMPLATE_REFUSED: Final = (
    pkcs11.AttributeTypeInvalid,
    pkcs11.AttributeValueInvalid,
    pkcs11.TemplateInconsistent,
)


class TokenSecretKey:
    """An AES key on a token: a `KeyEncryptionKey`. `open_secret_key` and `generate_secret_key` make it.

    Attributes:
        token: The token that it is on.
        label: CKA_LABEL.
        key_identifier: CKA_ID, which names it in messages.
        key_size: Octets of the key.
    """

    def __init__(self, token: Token, label: str, key_identifier: bytes, key_size: int) -> None:
        self.token = token
        self.label = label
        self.key_identifier = key_identifier
        self.key_size = key_size

    @property
    def uri(self) -> KeyUri:
        """The URI that names it."""
        return replace(
            self.token.uri, object=self.label or None, id=self.key_identifier or None, type="secret-key"
        )

    def __repr__(self) -> str:
        return f"<TokenSecretKey {self.uri}>"

    def wrap_key(self, key: bytes) -> bytes:
        """Wrap the key of a message with AES key wrap (RFC 3394), by one operation on the token.

        Args:
            key: 16 octets or more, in steps of 8.

        Raises:
            MechanismError: The key or the token cannot do it, or not with a key of this size.
            TokenError: The token failed or is gone.
        """
        if len(key) % _HALF_BLOCK or len(key) < 2 * _HALF_BLOCK:  # SoftHSM would add to it in silence
            raise MechanismError(f"AES key wrap does not wrap a key of {len(key)} bytes")
        with self.token.borrow(f"wrap with the key {self.label}") as session:
            own = self._look_up(session)
            if not isinstance(own, WrapMixin):
                raise MechanismError(f"the key {self.label} was not made to wrap", hint=_GENERATE_HINT)
            made: Any = session.binding.create_object(
                {
                    Attribute.CLASS: ObjectClass.SECRET_KEY,
                    Attribute.KEY_TYPE: KeyType.GENERIC_SECRET,
                    Attribute.VALUE: key,
                    **_MESSAGE_KEY,
                }
            )
            try:
                return bytes(own.wrap_key(made, mechanism=Mechanism.AES_KEY_WRAP))
            finally:
                made.destroy()

    def unwrap_key(self, wrapped: bytes) -> bytes:
        """Unwrap the key of a message with AES key wrap (RFC 3394), by one operation on the token.

        Raises:
            DecryptionError: Its integrity check fails, or the size is one that cannot be; one text.
            MechanismError: The key or the token cannot do it.
            TokenError: The token failed or is gone.
        """
        return self._unwrap(wrapped, (Mechanism.AES_KEY_WRAP,), least=3)

    def unwrap_padded_key(self, wrapped: bytes) -> bytes:
        """Unwrap the key of a message with AES key wrap with padding (RFC 5649); as `unwrap_key` otherwise.

        Raises:
            DecryptionError: Its integrity check fails, or the size is one that cannot be; one text.
            MechanismError: The key or the token cannot do it.
            TokenError: The token failed or is gone.
        """
        return self._unwrap(wrapped, _PADDED, least=2)

    def _unwrap(self, wrapped: bytes, mechanisms: Sequence[Mechanism], *, least: int) -> bytes:
        """Try the mechanisms, and the ways to use them, until the token can do one, which is remembered.

        Args:
            wrapped: The wrapped key.
            mechanisms: Different numbers of the same algorithm.
            least: The least 64-bit blocks that the algorithm makes.
        """
        if len(wrapped) % _HALF_BLOCK or not least * _HALF_BLOCK <= len(wrapped) <= _MAX_WRAPPED_SIZE:
            raise DecryptionError(_CANNOT_UNWRAP)  # without the token: modules answer such sizes variously
        known = capabilities(self.token)
        with self.token.borrow(f"unwrap with the key {self.label}") as session:
            own = self._look_up(session)
            question = (self.label, self.key_identifier, mechanisms)
            remembered: Any = known.recall(question)
            refusal: PKCS11Error | None = None
            for mechanism, way in [remembered] if remembered else itertools.product(mechanisms, _WAYS):
                try:
                    unwrapped: bytes = way(own, wrapped, mechanism)
                except PKCS11Error as error:
                    if not isinstance(error, _NOT_ABLE):
                        raise _meaning(error, self.token.connection) from None
                    refusal = refusal or error
                else:
                    known.remember(question, (mechanism, way))
                    return unwrapped
            raise MechanismError(
                f"the token {self.token.info.label} does not unwrap with the key {self.label}",
                hint=f"{_GENERATE_HINT}, or the token does not have AES key wrap",
            ) from refusal

    def _look_up(self, session: Session) -> Any:  # noqa: ANN401 - python-pkcs11's object
        template: dict[Attribute, Any] = {
            Attribute.CLASS: ObjectClass.SECRET_KEY,
            Attribute.KEY_TYPE: KeyType.AES,
        }
        if self.key_identifier:
            template[Attribute.ID] = self.key_identifier
        if self.label:
            template[Attribute.LABEL] = self.label
        found = objects(session, template)
        if len(found) == 1:
            return found[0]
        self.token.connection.require_token()
        if found:
            raise AmbiguousNameError(f"{len(found)} keys are {self.uri}")
        raise KeyNotFoundError(f"the key {self.uri} is not there any more")


def generate_secret_key(
    token: Token, label: str, bits: int = 256, *, key_id: bytes | None = None
) -> TokenSecretKey:
    """Generate an AES key on a token: private, sensitive, not extractable, and only to wrap and unwrap.

    Args:
        token: A token opened with `read_write`.
        label: CKA_LABEL, not yet used by such a key.
        bits: 128, 192 or 256.
        key_id: CKA_ID, which names the key in messages; None for a random one.

    Raises:
        UsageError: The label or id is taken or empty, or the size is none of AES.
        MechanismError: The token does not make such keys.
        WeakKeyError: The token made a key that is not protected as asked; it has been deleted again.
    """
    if not label or key_id == b"":
        raise UsageError("a key needs a label and an identifier that is not empty")
    if f"aes:{bits}" not in _SPECS:
        raise UsageError(f"AES keys have 128, 192 or 256 bits, not {bits}")
    identifier = key_id or secrets.token_bytes(_IDENTIFIER_SIZE)
    with token.borrow(f"generate the key {label}", change=True) as session:
        for there in read_secret_keys(session, token.info):
            if there.label == label or there.id == identifier:
                raise UsageError(
                    f"there is such a key already: {there.uri}", hint="choose another label or id"
                )
        made = _generate(session, label, bits, identifier)
        state = read(made, _PROTECTED)
        if any(state.get(name) != value for name, value in _PROTECTED.items()):
            with contextlib.suppress(PKCS11Error):
                made.destroy()
            raise WeakKeyError(
                f"the token made a key {label} that is not protected as it must be",
                hint="do not keep keys on this token",
            )
    return TokenSecretKey(token, label, identifier, bits // 8)


def open_secret_key(
    token: Token, name: str | KeyUri, *, require_non_extractable: bool = False
) -> TokenSecretKey:
    """The one AES key with a name.

    Args:
        token: An open token, which stays the caller's to close.
        name: A PKCS#11 URI, a label, or a CKA_ID in hexadecimal.
        require_non_extractable: Whether to refuse a key that the token does not vouch for never having been
            outside; see `ProtectionReport.require_non_extractable`.

    Raises:
        KeyNotFoundError: None fits; those that are there are listed.
        AmbiguousNameError: Several fit; they are listed.
        UsageError: The URI is malformed or names another kind of object.
        MechanismError: The token does not tell the size of the key.
        WeakKeyError: The key is refused by `require_non_extractable`.
    """
    info = find_secret_key(token, name)
    if require_non_extractable:
        examine(info).require_non_extractable()
    return _opened(token, info)


def open_secret_keys(token: Token, *, require_non_extractable: bool = False) -> list[TokenSecretKey]:
    """Every AES key on a token, by label, for a message whose recipient is not known beforehand.

    Args:
        token: An open token, which stays the caller's to close.
        require_non_extractable: Whether to leave out, with a warning, the keys that `open_secret_key` would
            refuse.

    Raises:
        TokenError: The token fails or refuses the PIN.
    """
    found = []
    for info in list_secret_keys(token):
        if info.spec not in _SPECS:
            continue
        try:
            if require_non_extractable:
                examine(info).require_non_extractable()
        except WeakKeyError as error:
            _log.warning("%s", error)
        else:
            found.append(_opened(token, info))
    return found


def _opened(token: Token, info: KeyInfo) -> TokenSecretKey:
    if info.spec not in _SPECS:  # SoftHSM does not tell the size of keys that came wrapped
        raise MechanismError(f"the token does not tell the size of the key {info.label}", hint=_GENERATE_HINT)
    return TokenSecretKey(token, info.label, info.id, _SPECS[info.spec])


def _generate(session: Session, label: str, bits: int, identifier: bytes) -> Any:  # noqa: ANN401
    """Say of each usage whether it is allowed; a token that refuses that is told only the protection."""

    def generate(usages: dict[Attribute, Any]) -> Any:  # noqa: ANN401
        return session.binding.generate_key(
            KeyType.AES,
            bits,
            label=label,
            id=identifier,
            store=True,
            capabilities=MechanismFlag(0),  # the template says it
            template=_PROTECTED | usages,
        )

    try:
        return generate(_USAGES)
    except _TEMPLATE_REFUSED:
        return generate({name: value or DEFAULT for name, value in _USAGES.items()})


def _by_unwrapping(
    own: Any,  # noqa: ANN401
    wrapped: bytes,
    mechanism: Mechanism,
    template: dict[Attribute, Any] = _MESSAGE_KEY,
) -> bytes:
    """C_UnwrapKey, then the value of what came of it."""
    if not isinstance(own, UnwrapMixin):
        raise KeyFunctionNotPermittedError
    made = own.unwrap_key(
        ObjectClass.SECRET_KEY,
        KeyType.GENERIC_SECRET,
        wrapped,
        mechanism=mechanism,
        capabilities=MechanismFlag(0),
        template=template,
    )
    try:
        return bytes(made[Attribute.VALUE])
    finally:
        made.destroy()


def _by_unwrapping_as_it_comes(own: Any, wrapped: bytes, mechanism: Mechanism) -> bytes:  # noqa: ANN401
    """C_UnwrapKey by modules that decide themselves how the result is protected (opencryptoki)."""
    return _by_unwrapping(own, wrapped, mechanism, {Attribute.TOKEN: False, Attribute.PRIVATE: True})


def _by_decrypting(own: Any, wrapped: bytes, mechanism: Mechanism) -> bytes:  # noqa: ANN401
    """C_Decrypt, for modules that do not give away what they unwrapped."""
    if not isinstance(own, DecryptMixin):
        raise KeyFunctionNotPermittedError
    decrypted: Any = own.decrypt(wrapped, mechanism=mechanism)
    return bytes(decrypted)


_WAYS: Final[tuple[Callable[[Any, bytes, Mechanism], bytes], ...]] = (
    _by_unwrapping,
    _by_unwrapping_as_it_comes,
    _by_decrypting,
)


def _meaning(failure: PKCS11Error, connection: Connection) -> Exception:
    """What a failed unwrapping means; modules say the most various things about a wrong integrity check.

    Raises:
        TokenNotPresent: The token is gone.
    """
    if is_gone(failure) or isinstance(failure, _NOT_THE_WRAPPED_KEY):
        return failure
    if isinstance(failure, UNSURE):
        connection.require_token(failure)
    return DecryptionError(_CANNOT_UNWRAP)
