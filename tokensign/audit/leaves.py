"""What a leaf of the audit tree holds: one JSON object in canonical form (RFC 8785).

Canonical means that the same facts have the same octets, so that whoever has them in another form, such as
the document that the service answers with, can compute the leaf's hash.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from tokensign.errors import MalformedError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["LEAF_SIZE_MAXIMUM", "decode_leaf", "encode_leaf", "timestamp"]

LEAF_SIZE_MAXIMUM: Final = 1 << 16
"""Octets of a leaf: a hundred digests of 64 octets, with all that is about them, have a quarter of that."""
_INTEGER_MAXIMUM: Final = (1 << 53) - 1  # RFC 7493 section 2.2: larger ones are not the same for all readers
_ENCODER: Final = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def encode_leaf(entry: Mapping[str, Any]) -> bytes:
    """The canonical form.

    Names are ASCII and numbers are integers, so that the encoder of the standard library gives it. An encoder
    for all of RFC 8785 takes three times as long, and each signature waits for two.

    Args:
        entry: Names, and values that are objects, lists, texts, integers of 53 bits, booleans or None.

    Raises:
        UsageError: There is something else in it, or it is too large.
    """
    try:
        _require_plain(entry)
        leaf = _ENCODER.encode(entry).encode()
    except (TypeError, UnicodeEncodeError) as error:
        raise UsageError(f"this cannot be put into the audit log: {error}") from error
    if len(leaf) > LEAF_SIZE_MAXIMUM:
        raise UsageError(f"an entry of the audit log has at most {LEAF_SIZE_MAXIMUM} octets")
    return leaf


def decode_leaf(leaf: bytes) -> dict[str, Any]:
    """The entry in a leaf.

    Raises:
        MalformedError: It is not a JSON object as `encode_leaf` writes it.
    """
    try:
        entry = json.loads(leaf)
        canonical = isinstance(entry, dict) and encode_leaf(entry) == leaf
    except (ValueError, RecursionError, UsageError) as error:
        raise MalformedError("an entry of the audit log cannot be read") from error
    if not canonical:
        raise MalformedError("an entry of the audit log is not canonical JSON (RFC 8785)")
    return dict(entry)


def timestamp() -> str:
    """Now, as leaves have it: RFC 3339 in UTC, with microseconds."""
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _require_plain(value: object) -> None:
    kind = type(value)
    if kind is str or kind is bool or value is None:
        return
    if kind is dict:
        for name, member in value.items():  # type: ignore[attr-defined]
            if type(name) is not str or not name.isascii():
                raise TypeError(f"the name {name!r} is not ASCII")
            _require_plain(member)
    elif kind is list:
        for member in value:  # type: ignore[attr-defined]
            _require_plain(member)
    elif kind is not int or abs(value) > _INTEGER_MAXIMUM:  # type: ignore[arg-type]
        raise TypeError(f"{value!r} has another type or is too large")
