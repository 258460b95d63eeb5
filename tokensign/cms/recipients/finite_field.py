"""Diffie-Hellman over finite fields (RFC 2631), with which old messages were encrypted; only read.

cryptography calls it deprecated as soon as it is named, which tells nothing to those who read such messages.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, Final

from tokensign import der
from tokensign.cms.content_cipher import CANNOT_DECRYPT
from tokensign.errors import DecryptionError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

__all__ = ["MAX_BITS", "is_finite_field_key", "originator_key"]

MAX_BITS: Final = 8192  # the cost of an exponentiation grows with the cube of the size of a stranger's group

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from cryptography.hazmat.primitives.asymmetric.dh import DHPublicKey, DHPublicNumbers


def is_finite_field_key(public_key: object) -> bool:
    """Whether a key is one of Diffie-Hellman over a finite field."""
    return isinstance(public_key, DHPublicKey)


def originator_key(octets: bytes, own: Any) -> PublicKeyTypes:  # noqa: ANN401 - the type is deprecated
    """The sender's key from a DHPublicKey, an INTEGER (RFC 3370 section 4.1.1), in the recipient's group.

    Args:
        octets: The content of the BIT STRING.
        own: The recipient's key.

    Raises:
        DecryptionError: It is no element of the group that may be used, or the group is too large.
        MalformedError: It is no INTEGER.
    """
    number = int.from_bytes(der.content(octets), signed=True) if octets[:1] == b"\x02" else 0
    group = own.parameters().parameter_numbers()
    if own.key_size > MAX_BITS or not 1 < number < group.p - 1:
        raise DecryptionError(CANNOT_DECRYPT)
    return DHPublicNumbers(number, group).public_key()
