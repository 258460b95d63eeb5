"""What else is exchanged with a peer: the other recipients, contents and forms of signatures.

Each class is a kind of message, each object a row of docs/interop.md.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

from peers.schemes import LATTICE_KEY_TYPES, SCHEMES, Envelope, LatticeKeyType, Scheme, is_sha3
from tokensign.algorithms import (
    CONTENT_CIPHERS,
    CURVES,
    DIGESTS,
    KEY_AGREEMENT_SCHEMES,
    MACS,
    SLH_DSA,
    ContentCipher,
    Digest,
    KeyAgreementScheme,
    Mac,
    Strength,
)
from tokensign.keys import Pkcs1Transport

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cryptography import x509

    from peers.identities import Person
    from peers.schemes import KeyType

IDENTIFIER = b"shared"
PASSWORD = "open-sesame"
AES_256_CBC = CONTENT_CIPHERS["aes-256-cbc"]
READ_ONLY = "tokensign reads it and does not write it"


def shared_key(size: int) -> bytes:
    """The key of so many octets that both sides know."""
    return bytes(range(size))


@dataclass(frozen=True)
class Parties:
    """Who takes part in an exchange.

    Attributes:
        people: Those whose keys the peer has.
        token: The certificates of those whose keys are on a token.
    """

    people: Mapping[KeyType, Person]
    token: Mapping[KeyType, x509.Certificate]


# --- recipients


@dataclass(frozen=True)
class Agreement:
    """KeyAgreeRecipientInfo (RFC 5753, RFC 8418); the key wrap is that of the cipher's key size."""

    key_type: KeyType
    scheme: KeyAgreementScheme
    cipher: ContentCipher = AES_256_CBC

    @property
    def written(self) -> bool:
        """Whether tokensign writes it, or only reads it."""
        expected = "hkdf-sha256" if self.key_type == "x25519" else f"{CURVES[self.key_type].digest.name}kdf"
        return self.scheme.name == f"dhSinglePass-stdDH-{expected}"

    def __str__(self) -> str:
        return f"key agreement {self.key_type} {self.scheme.name} {self.cipher.name}"


@dataclass(frozen=True)
class SharedKey:
    """KEKRecipientInfo with an AES key of so many octets."""

    size: int

    def __str__(self) -> str:
        return f"shared key AES-{8 * self.size}"


@dataclass(frozen=True)
class Passphrase:
    """PasswordRecipientInfo with PBKDF2 and a pseudorandom function, or with scrypt."""

    prf: Mac | None

    @property
    def written(self) -> bool:
        """Whether tokensign writes it, or only reads it."""
        return self.prf is None or self.prf.writable

    def __str__(self) -> str:
        return f"password PBKDF2 {self.prf.name}" if self.prf else "password scrypt"


@dataclass(frozen=True)
class LegacyEnvelope:
    """RSA PKCS#1 v1.5 with a content cipher that is only read, behind the legacy switch."""

    cipher: ContentCipher

    def __str__(self) -> str:
        return f"legacy {self.cipher.name}"


def _agreements() -> tuple[Agreement, ...]:
    matching = {curve: f"dhSinglePass-stdDH-{CURVES[curve].digest.name}kdf" for curve in CURVES}
    usual = KEY_AGREEMENT_SCHEMES[matching["p256"]]
    rows = [
        *(Agreement(curve, KEY_AGREEMENT_SCHEMES[name]) for curve, name in matching.items()),
        *(Agreement("p256", scheme) for scheme in KEY_AGREEMENT_SCHEMES.values() if scheme.kdf == "x963"),
        *(
            Agreement("p256", usual, CONTENT_CIPHERS[name])
            for name in ("aes-128-cbc", "aes-192-cbc", "aes-256-gcm")
        ),
        *(Agreement("x25519", scheme) for scheme in KEY_AGREEMENT_SCHEMES.values() if scheme.kdf == "hkdf"),
    ]
    return tuple(dict.fromkeys(rows))


RECIPIENTS: tuple[Agreement | SharedKey | Passphrase | LegacyEnvelope, ...] = (
    *_agreements(),
    *map(SharedKey, (16, 24, 32)),
    *(Passphrase(mac) for mac in MACS.values() if not is_sha3(mac.digest)),
    Passphrase(None),
    *(
        LegacyEnvelope(cipher)
        for cipher in CONTENT_CIPHERS.values()
        if cipher.strength is not Strength.STRONG
    ),
)

# --- contents


@dataclass(frozen=True)
class Compressed:
    """CompressedData."""

    def __str__(self) -> str:
        return "CompressedData"


@dataclass(frozen=True)
class Digested:
    """DigestedData."""

    digest: Digest

    def __str__(self) -> str:
        return f"DigestedData {self.digest.name}"


@dataclass(frozen=True)
class Encrypted:
    """EncryptedData under a key that both sides know."""

    cipher: ContentCipher

    def __str__(self) -> str:
        return f"EncryptedData {self.cipher.name}"


@dataclass(frozen=True)
class Authenticated:
    """AuthenticatedData; with a digest there are authenticated attributes."""

    recipient: SharedKey | Passphrase
    mac: Mac
    digest: Digest | None

    @property
    def written(self) -> bool:
        """Whether tokensign writes it, or only reads it."""
        return self.digest == DIGESTS["sha256"]

    def __str__(self) -> str:
        attributes = f"attributes {self.digest.name}" if self.digest else "no attributes"
        return f"AuthenticatedData {self.mac.name} {attributes} {self.recipient}"


@dataclass(frozen=True)
class CertificatesOnly:
    """SignedData with certificates and no signature."""

    key_types: tuple[KeyType, ...] = ("rsa", "p256")

    def __str__(self) -> str:
        return "certificates only"


CONTENTS: tuple[Compressed | Digested | Encrypted | Authenticated | CertificatesOnly, ...] = (
    Compressed(),
    *(Digested(DIGESTS[name]) for name in ("sha256", "sha512", "sha3_256")),
    *(Encrypted(CONTENT_CIPHERS[f"aes-{bits}-cbc"]) for bits in (128, 192, 256)),
    *(
        Authenticated(SharedKey(32), MACS[mac], digest)
        for mac, digest in itertools.product(
            ("hmac-sha256", "hmac-sha384", "hmac-sha512"), (DIGESTS["sha256"], DIGESTS["sha512"], None)
        )
    ),
    Authenticated(Passphrase(MACS["hmac-sha256"]), MACS["hmac-sha256"], DIGESTS["sha256"]),
    CertificatesOnly(),
)

# --- forms of signatures


@dataclass(frozen=True)
class WithoutAttributes:
    """A signature over the content itself."""

    scheme: Scheme

    def __str__(self) -> str:
        return f"no signed attributes, {self.scheme}"


@dataclass(frozen=True)
class PssVariant:
    """RSASSA-PSS with SHA-256 and other parameters than usual."""

    mgf_digest: Digest
    salt_size: int

    def __str__(self) -> str:
        return f"rsa-pss sha256, mgf1 {self.mgf_digest.name}, salt {self.salt_size}"


@dataclass(frozen=True)
class SeveralSigners:
    """A signature of each of several people, whose keys are of different types."""

    key_types: tuple[KeyType, ...]

    def __str__(self) -> str:
        return f"several signers, {' and '.join(self.key_types)}"


@dataclass(frozen=True)
class Countersigned:
    """A signature with a countersignature of somebody else."""

    signer: KeyType
    countersigner: KeyType

    def __str__(self) -> str:
        return f"countersignature, {self.countersigner} over {self.signer}"


USUAL_SCHEMES: dict[KeyType, Scheme] = {
    key_type: next(scheme for scheme in SCHEMES if scheme.key_type == key_type)
    for key_type in ("rsa", "p256", "p384", "p521", "ed25519")
}

FORMS: tuple[WithoutAttributes | PssVariant | SeveralSigners | Countersigned, ...] = (
    *(WithoutAttributes(USUAL_SCHEMES[key_type]) for key_type in ("rsa", "p256", "ed25519")),
    *(PssVariant(DIGESTS["sha256"], size) for size in (0, 20, 222)),
    PssVariant(DIGESTS["sha1"], 32),
    PssVariant(DIGESTS["sha512"], 32),
    SeveralSigners(("rsa", "p256")),
    SeveralSigners(("rsa", "p256", "ed25519")),
    Countersigned("rsa", "p256"),
    Countersigned("p256", "rsa"),
)

# --- what only the newer Bouncy Castle knows of all peers


@dataclass(frozen=True)
class LatticeSignature:
    """ML-DSA (RFC 9882)."""

    key_type: LatticeKeyType

    def __str__(self) -> str:
        return f"signature {self.key_type}"


@dataclass(frozen=True)
class HashSignature:
    """SLH-DSA (RFC 9814)."""

    parameter_set: str

    def __str__(self) -> str:
        return f"signature {self.parameter_set}"


@dataclass(frozen=True)
class Encapsulation:
    """KEMRecipientInfo with ML-KEM (RFC 9936)."""

    key_type: LatticeKeyType
    cipher: ContentCipher = AES_256_CBC

    def __str__(self) -> str:
        return f"encapsulation {self.key_type} {self.cipher.name}"


NEWER: tuple[LatticeSignature | HashSignature | Encapsulation | Agreement | Envelope, ...] = (
    *(LatticeSignature(key_type) for key_type in LATTICE_KEY_TYPES if key_type.startswith("ml-dsa")),
    *(  # the small sets, which end in "s", take Java seconds each
        HashSignature(parameters.name) for parameters in SLH_DSA.values() if parameters.name.endswith("f")
    ),
    *(
        Encapsulation(key_type, CONTENT_CIPHERS[cipher])
        for key_type in LATTICE_KEY_TYPES
        if key_type.startswith("ml-kem")
        for cipher in ("aes-128-cbc", "aes-256-cbc", "aes-256-gcm")
    ),
    *(
        row
        for row in RECIPIENTS
        if isinstance(row, Agreement) and (row.key_type == "x25519" or row.cipher.authenticated)
    ),
    Envelope(Pkcs1Transport(), CONTENT_CIPHERS["chacha20-poly1305"]),
)

Structure = (
    Agreement
    | SharedKey
    | Passphrase
    | LegacyEnvelope
    | Compressed
    | Digested
    | Encrypted
    | Authenticated
    | CertificatesOnly
    | WithoutAttributes
    | PssVariant
    | SeveralSigners
    | Countersigned
    | LatticeSignature
    | HashSignature
    | Encapsulation
    | Envelope
)
