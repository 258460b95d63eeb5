"""The people of a registration authority: what they are called, and when two names are of one person.

Nothing here proves who somebody is. It keeps one person from counting as two because a name was written in
another way.
"""

from __future__ import annotations

import unicodedata
from typing import Final

from tokensign.errors import UsageError
from tokensign.mailboxes import a_labels

__all__ = ["person_name", "same_person"]

_NAME_MAXIMUM: Final = 254  # letters of what people are called, as many as an address has (RFC 5321)


def person_name(name: str | None) -> str | None:
    """A name for the log, which people will read on their terminals and in mail.

    Args:
        name: As somebody wrote it; blanks around it are dropped. None stays None.

    Raises:
        UsageError: It is empty, too long, or has letters that are not printed.
    """
    if name is None:
        return None
    plain = name.strip(" ")
    if not (0 < len(plain) <= _NAME_MAXIMUM and plain.isprintable()):
        raise UsageError(
            f"{name[:_NAME_MAXIMUM]!r} is no name of a person", hint="write an address, or a name"
        )
    return plain


def same_person(one: str, other: str) -> bool:
    """Whether two names may be of one person; when in doubt, they are.

    Case, width, accents, blanks and the form of a domain make no difference, nor does a name before an
    address. The name of an account is that of everybody whose address has it before the @.

    Args:
        one: A name, as `person_name` gives it.
        other: Another one.
    """
    local, domain = _parts(one)
    other_local, other_domain = _parts(other)
    return local == other_local and (domain == other_domain or not (domain and other_domain))


def _parts(name: str) -> tuple[str, str]:
    """What stands before and after the @ of an address; or a name, and nothing."""
    address = name.rpartition("<")[2].removesuffix(">") if name.endswith(">") else name
    local, at, domain = unicodedata.normalize("NFKC", address).rpartition("@")
    if not at:
        return _folded(address), ""
    domain = domain.strip().removesuffix(".").lower()
    return _folded(local), a_labels(domain) or domain


def _folded(text: str) -> str:
    """Letters without case, width, accents and blanks between them."""
    letters = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())
    return "".join(
        letter for letter in letters if not (letter.isspace() or unicodedata.category(letter).startswith("M"))
    )
