"""Content encryption: algorithm identifiers with their parameters, and ciphers that stream.

CBC with AES (RFC 3565), and to read old messages with 3DES and RC2 (RFC 3370); GCM and CCM (RFC 5084);
ChaCha20-Poly1305 (RFC 8103).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Final, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.decrepit.ciphers.algorithms import RC2, TripleDES
from cryptography.hazmat.primitives import constant_time, padding, poly1305
from cryptography.hazmat.primitives.ciphers import (
    BlockCipherAlgorithm,
    Cipher,
    CipherContext,
    algorithms,
    modes,
)

from tokensign import der
from tokensign.algorithms import ContentCipher, content_cipher
from tokensign.cms.rc2 import Rc2CbcDecryptor
from tokensign.cms.signed_data import algorithm_of
from tokensign.errors import DecryptionError, MalformedError, UnsupportedError

__all__ = [
    "CANNOT_DECRYPT",
    "ContentEncryption",
    "Stream",
    "decrypting",
    "encode_content_encryption",
    "encrypting",
    "fresh_encryption",
    "read_content_encryption",
]

CANNOT_DECRYPT: Final = "the message cannot be decrypted"  # the one text for every cause (RFC 3218)

_TAG_SIZE: Final = 16  # octets that are written: the longest that GCM, CCM and Poly1305 have
_DEFAULT_TAG_SIZE: Final = 12  # RFC 5084: AES-GCM-ICVlen and AES-CCM-ICVlen
_TAG_SIZES: Final = {"gcm": range(12, 17), "ccm": range(4, 17, 2), "chacha20": (16,)}
_NONCE_SIZES: Final = {"gcm": range(8, 129), "ccm": range(7, 14), "chacha20": (12,)}
_INTEGER: Final = 0x02
_AES_BLOCK: Final = 16  # octets
_RC2_VERSIONS: Final = {160: 40, 120: 64, 58: 128}  # RFC 2268 section 6: parameter to effective key bits
_RC2_LONG_VERSION: Final = 256  # from here the parameter is the number of bits itself
_CHACHA_BLOCK: Final = 64  # octets of key stream a counter value


@dataclass(frozen=True, slots=True)
class ContentEncryption:
    """A contentEncryptionAlgorithm with its parameters.

    Attributes:
        cipher: The algorithm.
        iv: Initialisation vector (cbc) or nonce.
        tag_size: Octets of the authentication tag; 0 for cbc.
        key_size: Octets of the content-encryption key.
    """

    cipher: ContentCipher
    iv: bytes
    tag_size: int
    key_size: int

    def encrypted_size(self, size: int) -> int:
        """Octets that `size` octets of content have when encrypted, without the tag."""
        if self.cipher.mode != "cbc":
            return size
        block = len(self.iv)
        return (size // block + 1) * block


class Stream(Protocol):
    """A cipher at work."""

    def update(self, data: bytes) -> bytes:
        """The next piece, encrypted or decrypted; some of it may come later."""
        ...

    def finalize(self) -> bytes:
        """The rest. Decrypting, this is where padding and tag are checked.

        Raises:
            DecryptionError: They are wrong.
        """
        ...

    @property
    def tag(self) -> bytes:
        """The tag, after `finalize`; empty for cbc."""
        ...


def fresh_encryption(cipher: ContentCipher, size: int) -> ContentEncryption:
    """Parameters for a new message: a random initialisation vector or nonce, and the longest tag.

    Args:
        cipher: The algorithm.
        size: Octets of the content. The nonce of CCM gives room to its length; its key is used once, so that
            a short one does no harm.
    """
    tag_size = _TAG_SIZE if cipher.authenticated else 0
    iv_size = cipher.iv_size
    if cipher.mode == "ccm" and size >= 1 << 8 * (15 - iv_size):
        iv_size = min(_NONCE_SIZES["ccm"])
    return ContentEncryption(cipher, os.urandom(iv_size), tag_size, cipher.key_size)


def encode_content_encryption(encryption: ContentEncryption) -> bytes:
    """ContentEncryptionAlgorithmIdentifier, DER. RC2 is only read."""
    nonce = der.octet_string(encryption.iv)
    with_tag_size = encryption.cipher.mode in ("gcm", "ccm")
    parameters = der.sequence(nonce, der.integer(encryption.tag_size)) if with_tag_size else nonce
    return der.sequence(der.object_identifier(encryption.cipher.oid), parameters)


def read_content_encryption(encoded: bytes) -> ContentEncryption:
    """Read a ContentEncryptionAlgorithmIdentifier.

    Raises:
        UnsupportedError: The algorithm is not known, or not with these parameters.
        MalformedError: The parameters are broken, or of a size that the algorithm does not have.
    """
    cipher = content_cipher(algorithm_of(encoded))
    fields = der.elements(encoded)
    if len(fields) != 2:  # noqa: PLR2004 - algorithm and parameters
        raise MalformedError(f"{cipher.name} lacks its parameters")
    tag_size, key_size = 0, cipher.key_size
    nonce = fields[1]
    if cipher.mode in ("gcm", "ccm"):
        nonce, tag_size = _read_nonce_and_tag_size(fields[1])
    elif cipher.mode == "chacha20":
        tag_size = _TAG_SIZE
    elif cipher.block_cipher == "rc2":
        version, nonce = _read_rc2(fields[1])
        key_size = version // 8
    if nonce[:1] != b"\x04":
        raise MalformedError(f"the parameters of {cipher.name} are broken")
    return _checked(ContentEncryption(cipher, der.content(nonce), tag_size, key_size))


def _read_nonce_and_tag_size(parameters: bytes) -> tuple[bytes, int]:
    """The encoded nonce, and the size of the tag, of GCMParameters or CCMParameters (RFC 5084 section 3)."""
    match der.elements(parameters):
        case [nonce]:
            return nonce, _DEFAULT_TAG_SIZE
        case [nonce, size] if size[0] == _INTEGER:
            return nonce, int.from_bytes(der.content(size), signed=True)
        case _:
            raise MalformedError("the parameters of the content encryption are broken")


def _read_rc2(parameters: bytes) -> tuple[int, bytes]:
    """Effective key bits and the encoded initialisation vector (RFC 3370 section 5.2)."""
    match der.elements(parameters):
        case [version, nonce]:
            number = int.from_bytes(der.content(version), signed=True)
            bits = number if number >= _RC2_LONG_VERSION else _RC2_VERSIONS.get(number, 0)
            if bits not in _RC2_VERSIONS.values():
                raise UnsupportedError("RC2 is read with 40, 64 and 128 bits")
            return bits, nonce
        case _:
            raise MalformedError("the parameters of rc2-cbc are broken")


def _checked(encryption: ContentEncryption) -> ContentEncryption:
    cipher, size = encryption.cipher, len(encryption.iv)
    if cipher.mode == "cbc":
        if size != cipher.iv_size:
            raise MalformedError(f"the initialisation vector has {size} bytes instead of {cipher.iv_size}")
    elif size not in _NONCE_SIZES[cipher.mode]:
        raise UnsupportedError(f"a nonce of {size} bytes is not supported with {cipher.name}")
    elif encryption.tag_size not in _TAG_SIZES[cipher.mode]:
        raise MalformedError(f"{cipher.name} has no tags of {encryption.tag_size} bytes (RFC 5084)")
    return encryption


def encrypting(encryption: ContentEncryption, key: bytes, *, size: int, associated: bytes = b"") -> Stream:
    """A cipher that encrypts.

    Args:
        encryption: The algorithm and its parameters.
        key: The content-encryption key.
        size: Octets of the content, which CCM must know beforehand.
        associated: What the tag covers besides the content; not for cbc.
    """
    match encryption.cipher.mode:
        case "cbc":
            return _CbcEncryption(encryption, key)
        case "gcm":
            return _GcmEncryption(encryption, key, associated)
        case "ccm":
            return _Ccm(encryption, key, size, associated)
        case "chacha20":
            return _ChaCha20Poly1305(encryption, key, associated)


def decrypting(
    encryption: ContentEncryption, key: bytes, *, size: int, tag: bytes = b"", associated: bytes = b""
) -> Stream:
    """A cipher that decrypts; its output is not to be trusted before `finalize` came back.

    Args:
        encryption: The algorithm and its parameters.
        key: The content-encryption key.
        size: Octets of the encrypted content, which CCM must know beforehand.
        tag: The authentication tag; empty for cbc.
        associated: What the tag covers besides the content; not for cbc.
    """
    match encryption.cipher.mode:
        case "cbc":
            return _CbcDecryption(encryption, key)
        case "gcm":
            return _GcmDecryption(encryption, key, tag, associated)
        case "ccm":
            return _Ccm(encryption, key, size, associated, expected=tag)
        case "chacha20":
            return _ChaCha20Poly1305(encryption, key, associated, expected=tag)


def _block_cipher(cipher: ContentCipher, key: bytes) -> BlockCipherAlgorithm:
    match cipher.block_cipher:
        case "3des":
            return TripleDES(key)
        case "rc2":
            return RC2(key)
        case _:
            return algorithms.AES(key)


class _CbcEncryption:
    tag = b""

    def __init__(self, encryption: ContentEncryption, key: bytes) -> None:
        algorithm = _block_cipher(encryption.cipher, key)
        self._padder = padding.PKCS7(algorithm.block_size).padder()
        self._encryptor = Cipher(algorithm, modes.CBC(encryption.iv)).encryptor()

    def update(self, data: bytes) -> bytes:
        return self._encryptor.update(self._padder.update(data))

    def finalize(self) -> bytes:
        return self._encryptor.update(self._padder.finalize()) + self._encryptor.finalize()


class _CbcDecryption:
    tag = b""

    def __init__(self, encryption: ContentEncryption, key: bytes) -> None:
        self._unpadder = padding.PKCS7(8 * len(encryption.iv)).unpadder()
        self._decryptor = _cbc_decryptor(encryption, key)

    def update(self, data: bytes) -> bytes:
        return self._unpadder.update(self._decryptor.update(data))

    def finalize(self) -> bytes:
        try:
            rest = self._unpadder.update(self._decryptor.finalize())
            return rest + self._unpadder.finalize()
        except ValueError:
            raise DecryptionError(CANNOT_DECRYPT) from None


def _cbc_decryptor(encryption: ContentEncryption, key: bytes) -> CipherContext | Rc2CbcDecryptor:
    if encryption.cipher.block_cipher == "rc2" and len(key) < encryption.cipher.key_size:
        return Rc2CbcDecryptor(key, encryption.iv)
    return Cipher(_block_cipher(encryption.cipher, key), modes.CBC(encryption.iv)).decryptor()


class _GcmEncryption:
    def __init__(self, encryption: ContentEncryption, key: bytes, associated: bytes) -> None:
        self._encryptor = Cipher(algorithms.AES(key), modes.GCM(encryption.iv)).encryptor()
        self._encryptor.authenticate_additional_data(associated)

    def update(self, data: bytes) -> bytes:
        return self._encryptor.update(data)

    def finalize(self) -> bytes:
        return self._encryptor.finalize()

    @property
    def tag(self) -> bytes:
        return self._encryptor.tag


class _GcmDecryption:
    def __init__(self, encryption: ContentEncryption, key: bytes, tag: bytes, associated: bytes) -> None:
        self.tag = tag
        mode = modes.GCM(encryption.iv, tag, min_tag_length=len(tag))
        self._decryptor = Cipher(algorithms.AES(key), mode).decryptor()
        self._decryptor.authenticate_additional_data(associated)

    def update(self, data: bytes) -> bytes:
        return self._decryptor.update(data)

    def finalize(self) -> bytes:
        try:
            return self._decryptor.finalize()
        except InvalidTag:
            raise DecryptionError(CANNOT_DECRYPT) from None


class _Ccm:
    """CCM (NIST SP 800-38C) from its halves, CBC-MAC and counter mode, because pyca's is not for streams."""

    def __init__(
        self,
        encryption: ContentEncryption,
        key: bytes,
        size: int,
        associated: bytes,
        expected: bytes | None = None,
    ) -> None:
        length_size = 15 - len(encryption.iv)
        if size >= 1 << 8 * length_size:
            raise UnsupportedError(
                f"{encryption.cipher.name} with a nonce of {len(encryption.iv)} bytes encrypts less than"
                f" {1 << 8 * length_size} bytes",
                hint="use aes-256-gcm",
            )
        algorithm = algorithms.AES(key)
        self._mac = Cipher(algorithm, modes.CBC(bytes(_AES_BLOCK))).encryptor()
        first = bytes((length_size - 1,)) + encryption.iv + bytes(length_size)
        self._counter = Cipher(algorithm, modes.CTR(first)).encryptor()
        self._mask = self._counter.update(bytes(_AES_BLOCK))
        flags = 0x40 * bool(associated) | (encryption.tag_size - 2) // 2 << 3 | length_size - 1
        self._rest = bytes((flags,)) + encryption.iv + size.to_bytes(length_size)
        if associated:
            self._rest += _padded(_ccm_length(associated) + associated)
        self._last = b""  # the latest block of the CBC-MAC
        self._expected = expected
        self._tag_size = encryption.tag_size
        self.tag = b""

    def update(self, data: bytes) -> bytes:
        changed = self._counter.update(data)
        self._authenticate(data if self._expected is None else changed)
        return changed

    def finalize(self) -> bytes:
        self._last = self._mac.update(_padded(self._rest))[-_AES_BLOCK:] or self._last
        whole = bytes(one ^ other for one, other in zip(self._last, self._mask, strict=True))
        self.tag = whole[: self._tag_size]
        if self._expected is not None and not constant_time.bytes_eq(self.tag, self._expected):
            raise DecryptionError(CANNOT_DECRYPT)
        return b""

    def _authenticate(self, content: bytes) -> None:
        content = self._rest + content
        whole = len(content) // _AES_BLOCK * _AES_BLOCK
        self._rest = content[whole:]
        self._last = self._mac.update(content[:whole])[-_AES_BLOCK:] or self._last


def _ccm_length(associated: bytes) -> bytes:
    """The length of associated data before it (SP 800-38C appendix A.2.2)."""
    if len(associated) < 0xFF00:  # noqa: PLR2004 - the bound of the short form
        return len(associated).to_bytes(2)
    return b"\xff\xfe" + len(associated).to_bytes(4)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % _AES_BLOCK)


class _ChaCha20Poly1305:
    """The AEAD of RFC 8439 section 2.8 from its two halves, because pyca's is not for streams."""

    def __init__(
        self, encryption: ContentEncryption, key: bytes, associated: bytes, expected: bytes | None = None
    ) -> None:
        self._cipher = Cipher(algorithms.ChaCha20(key, bytes(4) + encryption.iv), mode=None).encryptor()
        one_time_key = self._cipher.update(bytes(_CHACHA_BLOCK))[
            :32
        ]  # block 0; the content begins at block 1
        self._mac = poly1305.Poly1305(one_time_key)
        self._mac.update(_padded(associated))
        self._sizes = [len(associated), 0]
        self._expected = expected
        self.tag = b""

    def update(self, data: bytes) -> bytes:
        changed = self._cipher.update(data)
        self._mac.update(changed if self._expected is None else data)
        self._sizes[1] += len(data)
        return changed

    def finalize(self) -> bytes:
        lengths = b"".join(size.to_bytes(8, "little") for size in self._sizes)
        self._mac.update(bytes(-self._sizes[1] % 16) + lengths)
        self.tag = self._mac.finalize()
        if self._expected is not None and not constant_time.bytes_eq(self.tag, self._expected):
            raise DecryptionError(CANNOT_DECRYPT)
        return b""
