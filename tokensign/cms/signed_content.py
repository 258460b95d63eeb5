"""What signatures are over, read once: hash values, the beginning, and the whole where a scheme needs it.

A signature does not say whether it is over content or over signed attributes. So whoever has a message with
signed attributes can present their octets as the content of another message, without signed attributes, under
the same signature (draft-vangeest-lamps-cms-euf-cma-signeddata). Content that is such a SET of attributes is
therefore recognised here, and refused by `tokensign.cms.verify` where it is signed directly. The other way
round nobody can tell: a signer who signs foreign content directly may be made to sign attributes. tokensign
always signs attributes of its own.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final

from tokensign.cms.signature import read_signature_algorithm
from tokensign.errors import MessageError, UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tokensign.algorithms import Digest
    from tokensign.cms.signed_data import SignerInfo

__all__ = ["MAX_PURE_CONTENT_SIZE", "SignedContent"]

MAX_PURE_CONTENT_SIZE: Final = 1 << 26  # 64 MiB: EdDSA and ML-DSA over the content itself need it whole
_SET: Final = 0x31
_SEQUENCE: Final = 0x30
_OBJECT_IDENTIFIER: Final = 0x06
_OPENING_SIZE: Final = 32  # octets that show a SET, its first SEQUENCE and the tag in that, with any lengths


class SignedContent:
    """What several signatures are over, in the forms that they need: hash values, the whole, its beginning.

    Args:
        signers: The signatures.
        content_type: The eContentType; None where the content is a signature and these are countersignatures.
    """

    def __init__(self, signers: Sequence[SignerInfo], content_type: str | None) -> None:
        self.content_type = content_type
        self._hashers = {digest.name: digest.new() for digest in _known_digests(signers)}
        self._whole = bytearray() if _any_signs_content_itself(signers) else None
        self._opening = b""
        self._size = 0

    def update(self, piece: bytes) -> None:
        """Take a further piece of the content.

        Raises:
            UnsupportedError: It must be held whole, and is too large for that.
        """
        if len(self._opening) < _OPENING_SIZE:
            self._opening += piece[:_OPENING_SIZE]
        self._size += len(piece)
        for hasher in self._hashers.values():
            hasher.update(piece)
        if self._whole is not None:
            self._whole += piece
            if len(self._whole) > MAX_PURE_CONTENT_SIZE:
                raise UnsupportedError(
                    "EdDSA, ML-DSA and SLH-DSA signatures without signed attributes are verified over at most"
                    f" {MAX_PURE_CONTENT_SIZE} bytes of content"
                )

    def digest(self, digest: Digest) -> bytes:
        """The hash value by a digest that one of the signatures has."""
        return self._hashers[digest.name].digest()

    @property
    def whole(self) -> bytes:
        """The content itself, where a signature is over it."""
        return bytes(self._whole or b"")

    @property
    def looks_like_attributes(self) -> bool:
        """Whether it is a SET whose first element is a SEQUENCE that begins with an OBJECT IDENTIFIER."""
        position, end = 0, self._size
        for tag in (_SET, _SEQUENCE, _OBJECT_IDENTIFIER):
            header = self._opening[position : position + 2]
            if len(header) < 2 or header[0] != tag:  # noqa: PLR2004 - the tag and the first length octet
                return False
            length, position = header[1], position + 2
            if length & 0x80:
                count = length & 0x7F
                length = int.from_bytes(self._opening[position : position + count])
                position += count
            if tag == _SET and position + length != end:
                return False
        return True


def _known_digests(signers: Iterable[SignerInfo]) -> set[Digest]:
    known = set()
    for signer in signers:
        with contextlib.suppress(UnsupportedError):  # the signer's own result will say so
            known.add(signer.digest)
    return known


def _any_signs_content_itself(signers: Iterable[SignerInfo]) -> bool:
    """Whether a signature is over the content and not over a hash value of it."""
    for signer in signers:
        if signer.signed_attributes is None:
            with contextlib.suppress(MessageError):  # as above
                if read_signature_algorithm(signer.signature_algorithm, signer.digest).pure:
                    return True
    return False
