"""Retiring a key: it signs no more, and what was encrypted to it can still be read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pkcs11
from pkcs11.constants import Attribute, ObjectClass

from tokensign.errors import KeyNotFoundError, MechanismError, UsageError
from tokensign.token.attributes import objects
from tokensign.token.choosing import find_key
from tokensign.token.objects import KeyInfo, read_keys

if TYPE_CHECKING:
    from tokensign.certificates import Certificate
    from tokensign.token.opening import Token
    from tokensign.uri import KeyUri

__all__ = ["retire_key"]

_REFUSED: Final = (
    pkcs11.AttributeReadOnly,
    pkcs11.AttributeTypeInvalid,
    pkcs11.AttributeValueInvalid,
    pkcs11.FunctionNotSupported,
    pkcs11.TemplateInconsistent,
)


def retire_key(token: Token, key: str | KeyUri | Certificate | KeyInfo) -> KeyInfo:
    """Take CKA_SIGN from a private key, so that the token itself refuses to sign with it.

    Decryption, key agreement and decapsulation stay, and so do the key's certificates. Whoever has the PIN
    and another program can give the attribute back where the token allows it; this is a rule for a key that
    is replaced, and no answer to one that is compromised.

    Args:
        token: A token opened with `read_write`.
        key: The key, as for `tokensign.token.find_key`.

    Returns:
        The key as it is now.

    Raises:
        KeyNotFoundError: There is no such key.
        AmbiguousNameError: Several fit.
        MechanismError: The token does not let the usages of a key be changed; nothing was changed.
        UsageError: The key does not sign, or the token is open only for reading.
    """
    token.require_change("retire a key")
    info = key if isinstance(key, KeyInfo) else find_key(token, key)
    if not info.usages & {"sign", "sign-recover"}:
        raise UsageError(
            f"the key {info.label} does not sign, so there is nothing to retire",
            hint=f"its usages are: {', '.join(sorted(info.usages)) or 'none'}",
        )
    template = {Attribute.CLASS: ObjectClass.PRIVATE_KEY, Attribute.LABEL: info.label, Attribute.ID: info.id}
    with token.borrow(f"retire the key {info.label}", change=True) as session:
        found = objects(session, template)
        if len(found) != 1:
            raise KeyNotFoundError(f"the key {info.uri} is not there any more")
        try:
            found[0][Attribute.SIGN] = False
            if "sign-recover" in info.usages:
                found[0][Attribute.SIGN_RECOVER] = False
        except _REFUSED:
            raise MechanismError(
                f"the token does not let the usages of the key {info.label} be changed",
                hint="make a new key, and delete the signing certificate of this one with the token's tool",
            ) from None
        now = next(one for one in read_keys(session, token.info) if one.uri == info.uri)
    if now.usages & {"sign", "sign-recover"}:
        raise MechanismError(f"the token says that the key {info.label} still signs; it is not retired")
    return now
