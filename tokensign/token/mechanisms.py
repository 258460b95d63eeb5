"""How a signature scheme or a key transport becomes one PKCS#11 operation, and its result a CMS value."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Final

from pkcs11.mechanisms import MGF, Mechanism

from tokensign import der
from tokensign.token import pss
from tokensign.token.cryptoki import CkMechanism, EddsaParameters, OaepParameters, PssParameters, mechanism

if TYPE_CHECKING:
    from collections.abc import Callable

    from tokensign.algorithms import Digest, SignatureScheme
    from tokensign.keys import OaepTransport

__all__ = ["RAW_RSA", "RSA_PKCS1", "SigningPlan", "ecdsa_sig_value", "oaep", "signing_plans"]

RSA_PKCS1: Final = mechanism(Mechanism.RSA_PKCS)
RAW_RSA: Final = mechanism(Mechanism.RSA_X_509)
_DATA_SPECIFIED: Final = 1  # CKZ_DATA_SPECIFIED
_ED25519_SIZE: Final = 64  # octets of a signature (RFC 8032 section 5.1.6)
_ED448_SIZE: Final = 114  # octets of a signature (RFC 8032 section 5.2.6)
_ON_HOST: Final = "hashed on the host"
_ON_TOKEN: Final = "hashed on the token"  # noqa: S105 - no password
_PADDED_ON_HOST: Final = "hashed and padded on the host"
_WHOLE: Final = "of the message itself"


@dataclass(frozen=True, slots=True)
class SigningPlan:
    """One way to make the signatures of a scheme.

    Attributes:
        mechanism: What C_SignInit gets.
        work: Who does what, in words.
        hashes: Whether the token hashes, so that C_Sign gets the message and not its hash value.
        prefix: What stands before the hash value: the head of DigestInfo (RFC 8017 section 9.2), or nothing.
        maximum: How many octets of the hash value are signed: ECDSA takes no more than its curve has.
        encode: Pads the hash value on the host; None where it is signed as it is.
        encode_pair: Whether the token's result is r and s and becomes an Ecdsa-Sig-Value.
        size: Octets of the buffer for the result, where they must be just these; None for any that suffice.
    """

    mechanism: CkMechanism
    work: str
    hashes: bool = False
    prefix: bytes = b""
    maximum: int | None = None
    encode: Callable[[bytes], bytes] | None = None
    encode_pair: bool = False
    size: int | None = None

    @property
    def name(self) -> str:
        """The mechanism's name in PKCS#11, without "CKM_"."""
        return Mechanism(self.mechanism.mechanism).name

    @property
    def way(self) -> str:
        """The plan in words: "CKM_RSA_PKCS, hashed on the host"."""
        return f"CKM_{self.name}, {self.work}"


def signing_plans(scheme: SignatureScheme, key_bits: int) -> tuple[SigningPlan, ...]:
    """The ways to sign with a scheme, the best first.

    First comes the mechanism that signs a hash value: the host has hashed the content anyway, and the
    token gets at most some 80 octets. Then the mechanism that hashes on the token, for tokens that have
    only this; it needs the message. Last, for RSA, the bare private-key operation on a block that the
    host padded, for tokens whose padding lacks a hash.

    Args:
        scheme: The scheme, which fits the key.
        key_bits: Bits of the key's size: of its modulus or its curve's field; 0 where it has no such size.
    """
    entry = scheme.digest
    kind = Mechanism[scheme.mechanism]
    match scheme.family:
        case "rsa-pkcs1":
            head = _digest_info_head(entry)
            return (
                SigningPlan(mechanism(kind), _ON_HOST, prefix=head),
                *_hashing(f"{_hash_name(entry)}_RSA_PKCS"),
                SigningPlan(RAW_RSA, _PADDED_ON_HOST, prefix=_block_type_1(head, entry, key_bits)),
            )
        case "rsa-pss":
            parameters = PssParameters(Mechanism[entry.mechanism], _mask_generation(entry), scheme.salt_size)
            encode = partial(pss.encode, bits=key_bits - 1, digest=entry, salt_size=scheme.salt_size)
            return (
                SigningPlan(mechanism(kind, parameters), _ON_HOST),
                *_hashing(f"{_hash_name(entry)}_RSA_PKCS_PSS", parameters),
                SigningPlan(RAW_RSA, _PADDED_ON_HOST, encode=encode),
            )
        case "ecdsa":
            octets = (key_bits + 7) // 8
            return (
                SigningPlan(mechanism(kind), _ON_HOST, maximum=octets, encode_pair=True),
                *_hashing(f"ECDSA_{_hash_name(entry)}", encode_pair=True),
            )
        case "eddsa" if entry.name == "sha512":  # NSS wants a buffer of just this size; others do not mind
            return (SigningPlan(mechanism(kind), _WHOLE, size=_ED25519_SIZE),)
        case "eddsa":  # PKCS#11 3.0 section 2.3.14 wants parameters for Ed448
            return (
                SigningPlan(mechanism(kind, EddsaParameters()), _WHOLE, size=_ED448_SIZE),
                SigningPlan(mechanism(kind), _WHOLE, size=_ED448_SIZE),
            )
        case "ml-dsa":
            return (SigningPlan(mechanism(kind), _WHOLE),)


@lru_cache(maxsize=64)
def oaep(transport: OaepTransport) -> CkMechanism:
    """CKM_RSA_PKCS_OAEP with the transport's hashes and label."""
    parameters = OaepParameters(
        Mechanism[transport.digest.mechanism],
        _mask_generation(transport.mgf_digest),
        _DATA_SPECIFIED,
        transport.label or None,
        len(transport.label),
    )
    return mechanism(Mechanism.RSA_PKCS_OAEP, parameters)


def ecdsa_sig_value(pair: bytes) -> bytes:
    """Ecdsa-Sig-Value (RFC 3279 section 2.2.3), DER, from r and s side by side."""
    half = len(pair) // 2
    return der.sequence(_unsigned(pair[:half]), _unsigned(pair[half:]))


def _hashing(
    name: str, parameters: PssParameters | None = None, *, encode_pair: bool = False
) -> tuple[SigningPlan, ...]:
    """The plan in which the token hashes; none where python-pkcs11 does not know such a mechanism."""
    if name not in Mechanism.__members__:
        return ()
    built = mechanism(Mechanism[name], parameters)
    return (SigningPlan(built, _ON_TOKEN, hashes=True, encode_pair=encode_pair),)


def _unsigned(octets: bytes) -> bytes:
    """INTEGER of a number without sign, in as many octets as the curve has, which are below 127."""
    shortest = octets.lstrip(b"\0")
    if not shortest or shortest[0] & 0x80:
        shortest = b"\0" + shortest
    return bytes((0x02, len(shortest))) + shortest


def _digest_info_head(digest: Digest) -> bytes:
    algorithm = der.sequence(
        der.object_identifier(digest.oid), der.NULL
    )  # RFC 8017 appendix A.2.4: NULL, always
    return der.sequence(algorithm, der.octet_string(bytes(digest.size)))[: -digest.size]


def _block_type_1(head: bytes, digest: Digest, key_bits: int) -> bytes:
    """All that stands before the hash value in EM (RFC 8017 section 9.2, steps 4 and 5)."""
    room = (key_bits + 7) // 8 - 3 - len(head) - digest.size
    return b"\0\1" + b"\xff" * room + b"\0" + head


def _hash_name(digest: Digest) -> str:
    """The hash in the names of mechanisms that hash: CKM_SHA256_RSA_PKCS."""
    return digest.mechanism.replace("SHA_1", "SHA1")


def _mask_generation(digest: Digest) -> int:
    return MGF[_hash_name(digest)]
