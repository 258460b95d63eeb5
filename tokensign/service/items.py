"""What is to be signed, as it stands in JSON: in base64, and of the size that the scheme wants."""

from __future__ import annotations

import binascii
from typing import TYPE_CHECKING

from tokensign.service.problems import INVALID, Problem

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tokensign.algorithms import SignatureScheme

__all__ = ["decode_digests", "decode_messages"]


def decode_digests(encoded: Sequence[str], scheme: SignatureScheme, form: str) -> list[bytes]:
    """Hash values.

    Args:
        encoded: The field `digests`.
        scheme: With which they are signed.
        form: "raw" or "cms".

    Raises:
        Problem: One is none, or the scheme does not sign hash values.
    """
    if form == "raw" and not scheme.prehashed:
        raise Problem(
            INVALID, f"{scheme} signs messages, not digests; send messages, or ask for the form cms"
        )
    digests = _decoded("digests", encoded)
    for position, digest in enumerate(digests):
        if len(digest) != scheme.digest.size:
            raise _wrong("digests", position, f"{scheme.digest.name} makes {scheme.digest.size} octets")
    return digests


def decode_messages(encoded: Sequence[str], scheme: SignatureScheme, form: str) -> list[bytes]:
    """Messages that are signed as they are.

    Args:
        encoded: The field `messages`.
        scheme: With which they are signed.
        form: "raw" or "cms".

    Raises:
        Problem: One is not in base64, or the scheme signs hash values.
    """
    if form == "cms" or scheme.prehashed:
        raise Problem(INVALID, "messages are for raw signatures with schemes that hash nothing; send digests")
    return _decoded("messages", encoded)


def _decoded(name: str, encoded: Sequence[str]) -> list[bytes]:
    found = []
    for position, item in enumerate(encoded):
        try:
            found.append(binascii.a2b_base64(item, strict_mode=True))
        except ValueError:
            raise _wrong(name, position, "it is not base64") from None
    return found


def _wrong(name: str, position: int, detail: str) -> Problem:
    return Problem(INVALID, errors=[{"pointer": f"#/{name}/{position}", "detail": detail}])
