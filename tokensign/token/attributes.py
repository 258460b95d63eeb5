"""Reading the attributes of objects, from modules that do not agree on what is missing."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import pkcs11

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pkcs11 import Object
    from pkcs11.constants import Attribute

    from tokensign.token.session import Session

__all__ = ["objects", "read"]

_ABSENT = (pkcs11.AttributeTypeInvalid, pkcs11.AttributeSensitive, pkcs11.FunctionFailed)


def objects(session: Session, template: dict[Attribute, Any]) -> list[Object]:
    """The objects that have these attributes.

    Raises:
        PKCS11Error: The module fails.
    """
    return session.find(template)


def read(item: Object, names: Iterable[Attribute]) -> dict[Attribute, Any]:
    """The values of attributes; those that the object does not have are left out.

    Args:
        item: The object.
        names: The attributes, none of which is secret.

    Raises:
        PKCS11Error: The module fails for another reason than a missing attribute.
    """
    wanted = list(names)
    try:
        return dict(item.get_attributes(wanted))
    except (*_ABSENT, struct.error, ValueError):  # one bad value spoils them all: ask one by one
        found: dict[Attribute, Any] = {}
        for name in wanted:
            try:
                found[name] = item[name]
            except (*_ABSENT, struct.error, ValueError):
                continue
        return found
