"""Name constraints of a CA's certificate, as profiles write them (RFC 5280 section 4.2.1.10)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cryptography import x509

from tokensign.distinguished_names import subject_name
from tokensign.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["name_constraints"]

_KINDS: Final[dict[str, Callable[[str], x509.GeneralName]]] = {
    "email": x509.RFC822Name,
    "dns": x509.DNSName,
    "dn": lambda text: x509.DirectoryName(subject_name(text)),
}


def name_constraints(permitted: Iterable[str], excluded: Iterable[str]) -> x509.NameConstraints | None:
    """What names the certificates below a CA may have.

    Args:
        permitted: Subtrees, such as "email:acme.example" (addresses at that host), "email:.acme.example" (at
            hosts below it), "dns:acme.example", "dn:O=Acme,C=CH". Kinds of names that are not named are free.
        excluded: Subtrees in which no name may lie.

    Returns:
        The extension, or None where nothing is said.

    Raises:
        UsageError: An entry is no subtree.
    """
    inside, outside = list(map(_subtree, permitted)), list(map(_subtree, excluded))
    return x509.NameConstraints(inside or None, outside or None) if inside or outside else None


def _subtree(text: str) -> x509.GeneralName:
    kind, _, value = text.partition(":")
    try:
        return _KINDS[kind](value)
    except (KeyError, ValueError):
        raise UsageError(
            f"{text!r} is no subtree of names",
            hint="write it like email:acme.example, dns:acme.example or dn:O=Acme,C=CH",
        ) from None
