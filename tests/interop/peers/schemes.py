"""What is exchanged with a peer: the ways to sign and the ways to encrypt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

from tokensign.algorithms import CONTENT_CIPHERS, DIGESTS, ContentCipher, Digest, SignatureFamily, Strength
from tokensign.keys import KeyTransport, OaepTransport, Pkcs1Transport

LatticeKeyType = Literal["ml-dsa-44", "ml-dsa-65", "ml-dsa-87", "ml-kem-768", "ml-kem-1024"]
LATTICE_KEY_TYPES: tuple[LatticeKeyType, ...] = get_args(LatticeKeyType)
KeyType = Literal["rsa", "p256", "p384", "p521", "ed25519", "x25519"] | LatticeKeyType
KEY_TYPES: tuple[KeyType, ...] = ("rsa", "p256", "p384", "p521", "ed25519", "x25519")


@dataclass(frozen=True)
class Scheme:
    """A way to sign with one type of key."""

    family: SignatureFamily
    key_type: KeyType
    digest: Digest

    def __str__(self) -> str:
        match self.family:
            case "rsa-pkcs1" | "rsa-pss":
                return f"{self.family} {self.digest.name}"
            case "ecdsa":
                return f"ecdsa {self.key_type} {self.digest.name}"
            case _:
                return f"{self.family} {self.key_type}"


@dataclass(frozen=True)
class Envelope:
    """A way to encrypt to an RSA key."""

    transport: KeyTransport
    cipher: ContentCipher
    key_type: ClassVar[KeyType] = "rsa"

    def __str__(self) -> str:
        return f"{transport_name(self.transport)} {self.cipher.name}"


def is_sha3(digest: Digest) -> bool:
    """Whether it is of the SHA-3 family (FIPS 202), which "sha384" is not."""
    return digest.name.startswith("sha3_")


def transport_name(transport: KeyTransport) -> str:
    match transport:
        case Pkcs1Transport():
            return "pkcs1"
        case OaepTransport(digest, mgf_digest, label):
            name = f"oaep {digest.name}"
            if mgf_digest != digest:
                name += f" mgf1 {mgf_digest.name}"
            return f"{name} label" if label else name


_DIGEST_OF_CURVE: dict[KeyType, str] = {"p256": "sha256", "p384": "sha384", "p521": "sha512"}

SCHEMES: tuple[Scheme, ...] = (
    *(
        Scheme(family, "rsa", DIGESTS[name])
        for family in ("rsa-pkcs1", "rsa-pss")
        for name in ("sha256", "sha384", "sha512", "sha224", "sha3_256", "sha3_384", "sha3_512")
    ),
    *(Scheme("ecdsa", curve, DIGESTS[name]) for curve, name in _DIGEST_OF_CURVE.items()),
    *(Scheme("ecdsa", "p256", DIGESTS[name]) for name in ("sha512", "sha224", "sha3_256", "sha3_512")),
    Scheme("eddsa", "ed25519", DIGESTS["sha512"]),
)

TRANSPORTS: tuple[KeyTransport, ...] = (
    Pkcs1Transport(),
    *(
        OaepTransport(DIGESTS[name], DIGESTS[name])
        for name in ("sha1", "sha224", "sha256", "sha384", "sha512")
    ),
    OaepTransport(DIGESTS["sha256"], DIGESTS["sha1"]),
    OaepTransport(DIGESTS["sha256"], DIGESTS["sha256"], b"tokensign"),
)

_CIPHERS = [cipher for cipher in CONTENT_CIPHERS.values() if cipher.strength is Strength.STRONG]
_PLAIN_CIPHERS = (CONTENT_CIPHERS["aes-128-cbc"], CONTENT_CIPHERS["aes-256-gcm"])

ENVELOPES: tuple[Envelope, ...] = tuple(  # each transport and each cipher; neither knows of the other
    Envelope(transport, cipher)
    for transport in TRANSPORTS
    for cipher in sorted(_CIPHERS, key=lambda cipher: cipher.name)
    if transport == TRANSPORTS[0] or cipher in _PLAIN_CIPHERS
)
