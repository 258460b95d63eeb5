"""How a signature scheme or a key transport becomes one PKCS#11 operation, and its result a CMS value."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from pkcs11.mechanisms import MGF, Mechanism

from tokensign import der
from tokensign.token.cryptoki import CkMechanism, OaepParameters, PssParameters, mechanism

if TYPE_CHECKING:
    from tokensign.algorithms import Digest, SignatureScheme
    from tokensign.keys import OaepTransport

__all__ = ["RAW_RSA", "RSA_PKCS1", "SigningPlan", "ecdsa_sig_value", "oaep", "signing_plan"]

RSA_PKCS1: Final = mechanism(Mechanism.RSA_PKCS)
RAW_RSA: Final = mechanism(Mechanism.RSA_X_509)
_DATA_SPECIFIED: Final = 1  # CKZ_DATA_SPECIFIED


@dataclass(frozen=True, slots=True)
class SigningPlan:
    """One scheme in PKCS#11.

    Attributes:
        mechanism: What C_SignInit gets.
        prefix: What stands before the hash value: the head of DigestInfo (RFC 8017 section 9.2), or nothing.
        maximum: How many octets of the hash value are signed: ECDSA takes no more than its curve has.
        encode_pair: Whether the token's result is r and s and becomes an Ecdsa-Sig-Value.
    """

    mechanism: CkMechanism
    prefix: bytes = b""
    maximum: int | None = None
    encode_pair: bool = False


def signing_plan(scheme: SignatureScheme, key_octets: int) -> SigningPlan:
    """The plan for a scheme.

    Args:
        scheme: The scheme, which fits the key.
        key_octets: Octets of the key's size: of its modulus or its curve's field.
    """
    kind = Mechanism[scheme.mechanism]
    match scheme.family:
        case "rsa-pkcs1":
            return SigningPlan(mechanism(kind), prefix=_digest_info_head(scheme.digest))
        case "rsa-pss":
            entry = scheme.digest
            parameters = PssParameters(Mechanism[entry.mechanism], _mask_generation(entry), scheme.salt_size)
            return SigningPlan(mechanism(kind, parameters))
        case "ecdsa":
            return SigningPlan(mechanism(kind), maximum=key_octets, encode_pair=True)
        case "eddsa" | "ml-dsa":
            return SigningPlan(mechanism(kind))


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


def _unsigned(octets: bytes) -> bytes:
    """INTEGER of a number without sign, in as many octets as the curve has."""
    shortest = octets.lstrip(b"\0")
    if not shortest or shortest[0] & 0x80:
        shortest = b"\0" + shortest
    return der.tlv(0x02, shortest)


def _digest_info_head(digest: Digest) -> bytes:
    algorithm = der.sequence(
        der.object_identifier(digest.oid), der.NULL
    )  # RFC 8017 appendix A.2.4: NULL, always
    return der.sequence(algorithm, der.octet_string(bytes(digest.size)))[: -digest.size]


def _mask_generation(digest: Digest) -> int:
    return MGF[digest.mechanism.replace("SHA_1", "SHA1")]
