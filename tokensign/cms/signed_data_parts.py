"""The encoded parts of a SignedData, joined into a message (RFC 5652 section 5.1)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, BinaryIO, Final

from tokensign import der
from tokensign.cms.content_info import DATA, SIGNED_DATA, content_info_header
from tokensign.cms.encapsulated import encapsulated_header
from tokensign.cms.indefinite import END, begin
from tokensign.errors import FileError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from tokensign.cms.signed_data import SignedData

__all__ = ["SignedDataParts"]

_SEQUENCE: Final = 0x30  # a certificate among CertificateChoices, a CRL among RevocationInfoChoices
_V1_ATTRIBUTE_CERTIFICATE: Final = 0xA1
_V2_ATTRIBUTE_CERTIFICATE: Final = 0xA2
_OTHER_CERTIFICATE: Final = 0xA3
_VERSION_3: Final = der.integer(3)


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedDataParts:
    """The encoded parts of a SignedData.

    Attributes:
        digest_algorithms: Each AlgorithmIdentifier.
        content_type: The eContentType, dotted.
        certificates: Each CertificateChoices.
        revocation_choices: Each RevocationInfoChoice.
        signer_infos: Each SignerInfo.
    """

    digest_algorithms: Iterable[bytes]
    content_type: str
    certificates: Iterable[bytes] = ()
    revocation_choices: Iterable[bytes] = ()
    signer_infos: Sequence[bytes] = ()

    @classmethod
    def of(cls, message: SignedData) -> SignedDataParts:
        """The parts of a message that was received, each as it is."""
        return cls(
            digest_algorithms=message.digest_algorithms,
            content_type=message.content_type,
            certificates=message.certificate_choices,
            revocation_choices=message.revocation_choices,
            signer_infos=[info.encoded for info in message.signer_infos],
        )

    def head(self, content_size: int | None) -> bytes:
        """version, digestAlgorithms and encapContentInfo up to the content; None: there is no content."""
        if content_size is None:
            encapsulated = der.sequence(der.object_identifier(self.content_type))
        else:
            encapsulated = encapsulated_header(self.content_type, content_size)
        return self._first_fields() + encapsulated

    def middle(self) -> bytes:
        """What stands between the content and the signerInfos: certificates and crls."""
        found = b""
        if certificates := set(self.certificates):
            found += der.set_of(*certificates, tag=0xA0)
        if revocation := set(self.revocation_choices):
            found += der.set_of(*revocation, tag=0xA1)
        return found

    def detached(self) -> bytes:
        """The message without content, DER."""
        return join_detached(self.head(None) + self.middle(), self.signer_infos)

    def write(self, output: BinaryIO, content: Iterator[bytes], size: int) -> None:
        """Write the message around its content.

        Args:
            output: Receives the message, DER.
            content: The content in pieces.
            size: Its size in octets.

        Raises:
            FileError: The content has another size.
        """
        head, tail = self.head(size), self.middle() + der.set_of(*self.signer_infos)
        output.write(_opening(len(head) + size + len(tail)) + head)
        written = 0
        for piece in content:
            written += len(piece)
            output.write(piece)
        if written != size:
            raise FileError("the content changed while it was being signed")
        output.write(tail)

    def streamed_head(self) -> bytes:
        """All octets before the first segment of content whose size is not known."""
        encapsulated = begin(0x30) + der.object_identifier(self.content_type) + begin(0xA0) + begin(0x24)
        outside = begin(0x30) + der.object_identifier(SIGNED_DATA) + begin(0xA0) + begin(0x30)
        return outside + self._first_fields() + encapsulated

    def streamed_tail(self) -> bytes:
        """All octets behind the last segment."""
        return END * 3 + self.middle() + der.set_of(*self.signer_infos) + END * 3

    def _first_fields(self) -> bytes:
        return der.integer(self.version) + der.set_of(*set(self.digest_algorithms))

    @property
    def version(self) -> int:
        """CMSVersion by RFC 5652 section 5.1."""
        choices = [entry[0] for entry in self.certificates]
        if _OTHER_CERTIFICATE in choices or any(entry[0] != _SEQUENCE for entry in self.revocation_choices):
            return 5
        if _V2_ATTRIBUTE_CERTIFICATE in choices:
            return 4
        by_key_identifier = any(_version_field(entry) == _VERSION_3 for entry in self.signer_infos)
        if _V1_ATTRIBUTE_CERTIFICATE in choices or by_key_identifier or self.content_type != DATA:
            return 3
        return 1


def join_detached(before: bytes, signer_infos: Sequence[bytes]) -> bytes:
    """A whole message without content.

    Args:
        before: All fields of the SignedData before signerInfos.
        signer_infos: Each SignerInfo.
    """
    infos = signer_infos[0] if len(signer_infos) == 1 else b"".join(sorted(signer_infos))  # SET OF
    header = der.header(0x31, len(infos))
    return b"".join((_opening(len(before) + len(header) + len(infos)), before, header, infos))


@lru_cache(maxsize=64)
def _opening(size: int) -> bytes:
    """ContentInfo and SignedData up to their first field; the same sizes come again and again."""
    opening = der.header(0x30, size)
    return content_info_header(SIGNED_DATA, len(opening) + size) + opening


def _version_field(signer_info: bytes) -> bytes:
    """The version of a SignerInfo as encoded: the three octets behind its header."""
    length_octets = signer_info[1] & 0x7F if signer_info[1] & 0x80 else 0
    return signer_info[2 + length_octets : 5 + length_octets]
