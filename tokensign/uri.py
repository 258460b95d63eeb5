"""PKCS#11 URIs (RFC 7512): the names of tokens and of the objects on them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from tokensign.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["OBJECT_TYPES", "KeyUri", "is_uri"]

SCHEME: Final = "pkcs11:"
OBJECT_TYPES: Final = ("public", "private", "cert", "secret-key", "data")

_PATH_ATTRIBUTES: Final = {  # RFC 7512 section 2.3, in the order in which a URI is printed
    "library-manufacturer": "library_manufacturer",
    "library-description": "library_description",
    "library-version": "library_version",
    "slot-manufacturer": "slot_manufacturer",
    "slot-description": "slot_description",
    "slot-id": "slot_id",
    "manufacturer": "manufacturer",
    "model": "model",
    "serial": "serial",
    "token": "token",
    "id": "id",
    "object": "object",
    "type": "type",
}
_QUERY_ATTRIBUTES: Final = {
    "pin-source": "pin_source",
    "pin-value": "pin_value",
    "module-name": "module_name",
    "module-path": "module_path",
}

_RESERVED_AVAILABLE: Final = ":[]@!$'()*+,="  # pk11-res-avail
_PATH_AVAILABLE: Final = _RESERVED_AVAILABLE + "&"
_QUERY_AVAILABLE: Final = _RESERVED_AVAILABLE + "/?|"
_UNRESERVED: Final = r"A-Za-z0-9._~\-"
_PATH_VALUE: Final = re.compile(rf"(?:[{_UNRESERVED}{re.escape(_PATH_AVAILABLE)}]|%[0-9A-Fa-f]{{2}})*")
_QUERY_VALUE: Final = re.compile(rf"(?:[{_UNRESERVED}{re.escape(_QUERY_AVAILABLE)}]|%[0-9A-Fa-f]{{2}})*")
_VENDOR_NAME: Final = re.compile(r"[A-Za-z0-9_-]+")
_VERSION: Final = re.compile(r"[0-9]+(?:\.[0-9]+)?")
_NUMBER: Final = re.compile(r"[0-9]+")


def is_uri(text: str) -> bool:
    """Whether a text is meant as a PKCS#11 URI and not as a bare label; it may still be malformed."""
    return text[: len(SCHEME)].lower() == SCHEME


@dataclass(frozen=True, slots=True)
class KeyUri:
    """A PKCS#11 URI (RFC 7512). What is None matches anything.

    Printing gives the canonical form, in which everything outside the unreserved characters is
    percent-encoded and `id` wholly. A `pin_value` is neither printed nor in the repr.

    Attributes:
        token: The token's label.
        manufacturer: The token's manufacturer.
        serial: The token's serial number.
        model: The token's model.
        library_manufacturer: The module's manufacturer.
        library_description: The module's description.
        library_version: The module's version, "2" or "2.6".
        object: The object's label.
        type: "public", "private", "cert", "secret-key" or "data".
        id: The object's CKA_ID.
        slot_id: The number of the slot.
        slot_manufacturer: The slot's manufacturer.
        slot_description: The slot's description.
        pin_source: Where the PIN comes from, as the URI has it ("file:/etc/pin").
        pin_value: The PIN itself.
        module_name: The name of the module, without folder and suffix.
        module_path: The path of the module.
        vendor: Query attributes that RFC 7512 does not define; names may repeat.
    """

    token: str | None = None
    manufacturer: str | None = None
    serial: str | None = None
    model: str | None = None
    library_manufacturer: str | None = None
    library_description: str | None = None
    library_version: str | None = None
    object: str | None = None
    type: str | None = None
    id: bytes | None = None
    slot_id: int | None = None
    slot_manufacturer: str | None = None
    slot_description: str | None = None
    pin_source: str | None = None
    pin_value: str | None = field(default=None, repr=False)
    module_name: str | None = None
    module_path: str | None = None
    vendor: tuple[tuple[str, str], ...] = ()

    @classmethod
    def parse(cls, text: str) -> KeyUri:
        """Read a URI, strictly.

        Args:
            text: For example "pkcs11:token=acme;object=alice;type=private".

        Raises:
            UsageError: It does not follow the grammar of RFC 7512 section 2.3, repeats an attribute, or has
                a path attribute that RFC 7512 does not define.
        """
        if not is_uri(text):
            raise UsageError("a PKCS#11 URI starts with pkcs11:", hint="for example pkcs11:token=acme")
        path, question, query = text[len(SCHEME) :].partition("?")
        values: dict[str, str | bytes | int] = {}
        vendor: list[tuple[str, str]] = []
        offset = len(SCHEME)
        for part in path.split(";") if path else ():
            name, octets = _attribute(part, offset, _PATH_VALUE)
            if name not in _PATH_ATTRIBUTES:
                raise _malformed(f"unknown attribute {name!r}", offset)
            _once(name, _PATH_ATTRIBUTES[name], values, offset)
            values[_PATH_ATTRIBUTES[name]] = _path_value(name, octets, offset)
            offset += len(part) + 1
        offset = len(text) - len(query)
        for part in query.split("&") if question else ():
            name, octets = _attribute(part, offset, _QUERY_VALUE)
            value = _text(name, octets, offset)
            if name in _QUERY_ATTRIBUTES:
                _once(name, _QUERY_ATTRIBUTES[name], values, offset)
                values[_QUERY_ATTRIBUTES[name]] = value
            else:
                vendor.append((name, value))
            offset += len(part) + 1
        if "pin_source" in values and "pin_value" in values:  # RFC 7512 section 2.4
            raise UsageError("the PKCS#11 URI has both pin-source and pin-value; it may have one of them")
        return cls(**values, vendor=tuple(vendor))  # type: ignore[arg-type]  # each value was read for its field

    def matches(self, properties: Mapping[str, str | bytes | int | None]) -> bool:
        """Whether something with these properties is meant by the URI.

        Args:
            properties: Values under the names of this class's attributes, such as
                {"token": "acme", "serial": "01"}. Attributes that are not in it are not looked at.
        """
        for name, value in properties.items():
            wanted = getattr(self, name)
            if wanted is None:
                continue
            # RFC 7512 section 2.3: a missing minor version is 0
            same = _version(wanted) == _version(str(value)) if name == "library_version" else wanted == value
            if not same:
                return False
        return True

    def __str__(self) -> str:
        path = (
            f"{name}={_encode(getattr(self, attribute))}"
            for name, attribute in _PATH_ATTRIBUTES.items()
            if getattr(self, attribute) is not None
        )
        query = [
            f"{name}={_encode_query(getattr(self, attribute))}"
            for name, attribute in _QUERY_ATTRIBUTES.items()
            if attribute != "pin_value" and getattr(self, attribute) is not None
        ]
        query += [f"{name}={_encode_query(value)}" for name, value in self.vendor]
        return SCHEME + ";".join(path) + ("?" + "&".join(query) if query else "")


def _attribute(part: str, offset: int, pattern: re.Pattern[str]) -> tuple[str, bytes]:
    """Split "name=value", check both against the grammar and decode the value."""
    name, equals, value = part.partition("=")
    if not equals or not _VENDOR_NAME.fullmatch(name):
        raise _malformed("expected name=value", offset)
    good = pattern.match(value)
    end = good.end() if good else 0
    if end != len(value):
        reason = "a broken percent-encoding" if value[end] == "%" else f"the character {value[end]!r}"
        # The value itself may be a PIN, so no more of it than one character is shown.
        raise _malformed(f"{reason} in {name}", offset + len(name) + 1 + end)
    return name, _unquote(value)


def _unquote(value: str) -> bytes:
    first, *rest = value.split("%")
    return first.encode() + b"".join(bytes((int(piece[:2], 16),)) + piece[2:].encode() for piece in rest)


def _path_value(name: str, octets: bytes, offset: int) -> str | bytes | int:
    if name == "id":
        return octets
    text = _text(name, octets, offset)
    if name == "slot-id":
        if not (_NUMBER.fullmatch(text) and text.isascii()):
            raise _malformed("slot-id is not a number", offset)
        return int(text)
    if name == "type" and text not in OBJECT_TYPES:
        raise _malformed(f"type is not one of {', '.join(OBJECT_TYPES)}", offset)
    if name == "library-version" and not (_VERSION.fullmatch(text) and text.isascii()):
        raise _malformed("library-version is not a number or two with a dot", offset)
    return text


def _text(name: str, octets: bytes, offset: int) -> str:
    try:
        return octets.decode()
    except UnicodeDecodeError:
        raise _malformed(f"the value of {name} is not UTF-8", offset) from None


def _once(name: str, attribute: str, values: Mapping[str, object], offset: int) -> None:
    if attribute in values:
        raise _malformed(f"{name} occurs twice", offset)


def _malformed(reason: str, offset: int) -> UsageError:
    return UsageError(
        f"malformed PKCS#11 URI: {reason}, at character {offset + 1}",
        hint="percent-encode what is not a letter, a digit or one of -._~, a space as %20 (RFC 7512)",
    )


def _version(text: str) -> tuple[int, int]:
    major, _, minor = text.partition(".")
    return int(major), int(minor or 0)


def _encode(value: str | bytes | int) -> str:
    if isinstance(value, bytes):  # RFC 7512 section 2.3: the whole value of id is percent-encoded
        return "".join(f"%{octet:02X}" for octet in value)
    return quote(str(value), safe="")


def _encode_query(value: str) -> str:
    return quote(value, safe=":/")
