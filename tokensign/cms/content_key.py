"""Finding the key of a message: which of our keys opens which of its recipients' parts (RFC 5652 section 6).

Whatever goes wrong once a recipient was found looks the same from outside (RFC 3218, RFC 8551 section 6): a
key that cannot be had is replaced by a random one, which the caller uses all the same.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from tokensign.errors import DecryptionError, MessageError, NoRecipientError, UnsupportedError
from tokensign.keys import Password

if TYPE_CHECKING:
    from collections.abc import Container, Sequence

    from tokensign.cms.recipients import RecipientInfo
    from tokensign.keys import DecryptionKey

__all__ = ["find_content_key"]

_MAX_KEYS_TRIED: Final = 32  # private-key operations that one message may cause
_MAX_PASSWORDS_TRIED: Final = 4  # derivations that one message may cause; a stranger chooses their cost

_Match = tuple["DecryptionKey", "RecipientInfo"]


def find_content_key(
    recipients: Sequence[RecipientInfo],
    keys: Sequence[DecryptionKey],
    size: int,
    *,
    legacy: bool,
    sizes: Container[int] | None = None,
) -> tuple[bytes, bool]:
    """The key under which a message's content is encrypted or authenticated.

    Every match of a key and a recipient is tried, also after one succeeded. Where none gives a key, a random
    one stands in (RFC 3218 section 2.3.2). With PKCS #1 v1.5 that is not even noted, because the padding must
    not decide the outcome; with the others nobody can make the check hold but by knowing the key.

    Args:
        recipients: Those of the message.
        keys: The keys and passwords that may open it.
        size: Octets of the key.
        legacy: Whether old algorithms are accepted.
        sizes: The sizes that a key may have; None for `size` alone.

    Returns:
        The key, and whether it may be the genuine one. Where it cannot be, the caller goes on with it, and
        fails in the end as if the content had been changed.

    Raises:
        NoRecipientError: The message is for other keys.
        UnsupportedError: The algorithms of every match are too weak or unknown, or there are too many.
        MalformedError: Those of every match are broken.
        TokenError: The token failed.
    """
    matches = _matches(recipients, keys, legacy=legacy)
    accepted = (size,) if sizes is None else sizes
    content_key, found = os.urandom(size), False
    for key, recipient in matches:
        try:
            candidate = recipient.content_key(key)
        except DecryptionError:
            candidate = b""
        if len(candidate) in accepted and not found:
            content_key, found = candidate, True
    return content_key, found or any(recipient.hides_failure for _, recipient in matches)


def _matches(
    recipients: Sequence[RecipientInfo], keys: Sequence[DecryptionKey], *, legacy: bool
) -> list[_Match]:
    """Every pair of a key and a recipient that may open the message, as far as the algorithms allow it."""
    found = [(key, recipient) for key in keys for recipient in recipients if recipient.is_for(key)]
    if not found:
        raise NoRecipientError(
            "no key here is a recipient of this message",
            hint=f"it is for: {_listed(recipients)}",
        )
    passwords = sum(isinstance(key, Password) for key, _ in found)
    if passwords > _MAX_PASSWORDS_TRIED:
        raise UnsupportedError(
            f"{passwords} passwords would have to be tried, more than {_MAX_PASSWORDS_TRIED}",
            hint="give one password",
        )
    if len(found) > _MAX_KEYS_TRIED:
        raise UnsupportedError(
            f"{len(found)} keys would have to be tried, more than {_MAX_KEYS_TRIED}",
            hint="name one with --key, or import its certificate",
        )
    return _strong_enough(found, legacy=legacy)


def _strong_enough(matches: Sequence[_Match], *, legacy: bool) -> list[_Match]:
    """The matches whose algorithms are accepted; where none is, what is wrong with the first."""
    accepted: list[_Match] = []
    refusals: list[MessageError] = []
    for key, recipient in matches:
        try:
            recipient.require_strength(legacy=legacy)
        except MessageError as error:
            refusals.append(error)
        else:
            accepted.append((key, recipient))
    if not accepted:
        raise refusals[0]
    return accepted


def _listed(recipients: Sequence[RecipientInfo], limit: int = 5) -> str:
    names = [str(recipient) for recipient in recipients]
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return "; ".join(names[:limit]) + more or "nobody"
