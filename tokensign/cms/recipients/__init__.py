"""RecipientInfos: who can open a message, and how the content key reaches them (RFC 5652 section 6.2).

A module a kind of recipient. Each has a class with the interface `RecipientInfo`, whose objects come from a
message, and a function that encodes one for a new message.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from cryptography.hazmat.primitives.asymmetric import mlkem, rsa

from tokensign import der
from tokensign.cms.ber import SEQUENCE, context
from tokensign.cms.recipients.identifier import RecipientIdentifier
from tokensign.cms.recipients.kek import KekRecipientInfo, load_kek
from tokensign.cms.recipients.key_agree import KeyAgreeRecipientInfo, encode_key_agree, load_key_agree
from tokensign.cms.recipients.key_encapsulation import (
    KEM_RECIPIENT_OID,
    KemRecipientInfo,
    encode_kem,
    load_kem,
)
from tokensign.cms.recipients.key_trans import KeyTransRecipientInfo, encode_key_trans, load_key_trans
from tokensign.cms.recipients.password import PasswordRecipientInfo, load_password
from tokensign.errors import MalformedError, UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tokensign.certificates import Certificate
    from tokensign.keys import DecryptionKey, KeyTransport

__all__ = [
    "MAX_RECIPIENTS",
    "KekRecipientInfo",
    "KemRecipientInfo",
    "KeyAgreeRecipientInfo",
    "KeyTransRecipientInfo",
    "PasswordRecipientInfo",
    "RecipientEncoder",
    "RecipientIdentifier",
    "RecipientInfo",
    "UnknownRecipientInfo",
    "encode_recipient_info",
    "enveloped_data_version",
    "load_recipient_infos",
]

MAX_RECIPIENTS: Final = 10_000  # a large mailing list; each is compared with each key


class RecipientInfo(Protocol):
    """One recipient of a message."""

    @property
    def hides_failure(self) -> bool:
        """Whether a key that cannot be had must look like one that was had (RFC 3218)."""
        ...

    def is_for(self, key: DecryptionKey) -> bool:
        """Whether a key may open it; told from names alone, without an operation of the key."""
        ...

    def require_strength(self, *, legacy: bool) -> None:
        """Refuse algorithms that are too weak or unknown; depends on no key.

        Raises:
            UnsupportedError: They are.
            MalformedError: Their parameters are broken.
        """
        ...

    def content_key(self, key: DecryptionKey) -> bytes:
        """The content-encryption key, with a key that `is_for` accepted.

        Raises:
            DecryptionError: It cannot be had, for whatever reason that depends on the message.
            TokenError: The token failed.
        """
        ...


class RecipientEncoder(Protocol):
    """One recipient of a new message, other than by a certificate."""

    def encode(self, key: bytes) -> bytes:
        """A RecipientInfo that carries the content-encryption key, DER.

        Args:
            key: The content-encryption key.

        Raises:
            UnsupportedError: The recipient cannot be encrypted to.
        """
        ...


@dataclass(frozen=True, slots=True)
class UnknownRecipientInfo:
    """A recipient of a kind that is not known here; others of the message may still be.

    Attributes:
        tag: Its identifier octet.
    """

    tag: int
    hides_failure: bool = False

    def is_for(self, key: DecryptionKey) -> bool:  # noqa: ARG002 - the protocol's parameter
        """It is for no key here."""
        return False

    def require_strength(self, *, legacy: bool) -> None:
        """It has nothing to judge."""

    def content_key(self, key: DecryptionKey) -> bytes:  # noqa: ARG002 - the protocol's parameter
        """Not to be had."""
        raise UnsupportedError(str(self))

    def __str__(self) -> str:
        return f"a recipient of an unknown kind ({self.tag:02x})"


def load_recipient_infos(encoded: bytes) -> Sequence[RecipientInfo]:
    """Read one RecipientInfo, in definite form; key agreement has several recipients in one.

    Raises:
        MalformedError: It is of a known kind and broken.
    """
    tag = encoded[0]
    if tag == context(1):
        return load_key_agree(encoded)
    single = _SINGLE.get(tag)
    return [single(encoded) if single else UnknownRecipientInfo(tag)]


def _load_other(encoded: bytes) -> RecipientInfo:
    """OtherRecipientInfo (RFC 5652 section 6.2.5)."""
    match der.elements(encoded):
        case [kind, value]:
            if der.dotted(kind) == KEM_RECIPIENT_OID:
                return load_kem(value)
            return UnknownRecipientInfo(encoded[0])
        case _:
            raise MalformedError("an OtherRecipientInfo is broken")


_SINGLE: Final[dict[int, Callable[[bytes], RecipientInfo]]] = {
    SEQUENCE: load_key_trans,
    context(2): load_kek,
    context(3): load_password,
    context(4): _load_other,
}


def encode_recipient_info(certificate: Certificate, key: bytes, transport: KeyTransport) -> bytes:
    """A RecipientInfo for a certificate, of the kind that its key needs.

    Args:
        certificate: The recipient's.
        key: The content-encryption key.
        transport: How to encrypt it with an RSA key.

    Returns:
        DER.

    Raises:
        UnsupportedError: The certificate's key cannot be encrypted to.
    """
    match certificate.public_key:
        case rsa.RSAPublicKey():
            return encode_key_trans(certificate, key, transport)
        case mlkem.MLKEM768PublicKey() | mlkem.MLKEM1024PublicKey():
            return encode_kem(certificate, key)
        case _:
            return encode_key_agree(certificate, key)


def enveloped_data_version(recipient_infos: Sequence[bytes]) -> int:
    """The CMSVersion of EnvelopedData without originatorInfo and unprotectedAttrs (RFC 5652 section 6.1).

    Args:
        recipient_infos: Each RecipientInfo, DER.
    """
    if any(encoded[0] in (context(3), context(4)) for encoded in recipient_infos):
        return 3
    zero = der.integer(0)
    if all(encoded[0] == SEQUENCE and der.elements(encoded)[0] == zero for encoded in recipient_infos):
        return 0
    return 2
