"""SMIMECapabilities: what a signer's software can read, the preferred first (RFC 8551 section 2.5.2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tokensign import der
from tokensign.algorithms import CONTENT_CIPHERS, DIGESTS, MGF1_OID, RSAES_OAEP_OID
from tokensign.errors import MalformedError

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "ANNOUNCED_CAPABILITIES",
    "CAPABILITIES_MAXIMUM",
    "CAPABILITIES_OCTETS_MAXIMUM",
    "Capability",
    "encode_capabilities",
    "read_capabilities",
]

CAPABILITIES_MAXIMUM: Final = 128  # a list of all algorithms that S/MIME ever had is shorter
CAPABILITIES_OCTETS_MAXIMUM: Final = (
    1 << 14
)  # lists are kept for each correspondent; real ones take 300 octets
_SEQUENCE: Final = 0x30


@dataclass(frozen=True, slots=True)
class Capability:
    """One SMIMECapability.

    Attributes:
        oid: The capabilityID, dotted.
        parameters: DER; empty where they are absent.
    """

    oid: str
    parameters: bytes = b""


def encode_capabilities(capabilities: Iterable[Capability]) -> bytes:
    """SMIMECapabilities, DER.

    Args:
        capabilities: The preferred first.
    """
    return der.sequence(
        *(der.sequence(der.object_identifier(entry.oid), entry.parameters) for entry in capabilities)
    )


def read_capabilities(encoded: bytes) -> tuple[Capability, ...]:
    """Read SMIMECapabilities.

    Args:
        encoded: The value of the attribute, DER.

    Raises:
        MalformedError: It is not such a list, or one that is larger than any that is meant.
    """
    if not encoded or encoded[0] != _SEQUENCE:
        raise MalformedError("SMIMECapabilities cannot be read")
    if len(encoded) > CAPABILITIES_OCTETS_MAXIMUM:
        raise MalformedError(f"SMIMECapabilities has more than {CAPABILITIES_OCTETS_MAXIMUM} octets")
    entries = der.elements(encoded)
    if len(entries) > CAPABILITIES_MAXIMUM:
        raise MalformedError(f"SMIMECapabilities has more than {CAPABILITIES_MAXIMUM} entries")
    return tuple(map(_read, entries))


def _read(encoded: bytes) -> Capability:
    match der.elements(encoded) if encoded[0] == _SEQUENCE else ():
        case [oid]:
            return Capability(der.dotted(oid))
        case [oid, parameters]:
            return Capability(der.dotted(oid), parameters)
        case _:
            raise MalformedError("an SMIMECapability cannot be read")


def _oaep_parameters(digest: str) -> bytes:
    """RSAES-OAEP-params of a hash that MGF1 uses too (RFC 4055 sections 2.1 and 4.1)."""
    algorithm = der.sequence(der.object_identifier(DIGESTS[digest].oid), der.NULL)
    mask_generation = der.sequence(der.object_identifier(MGF1_OID), algorithm)
    return der.sequence(der.explicit(0, algorithm), der.explicit(1, mask_generation))


ANNOUNCED_CAPABILITIES: Final = encode_capabilities(
    (
        *(
            Capability(CONTENT_CIPHERS[name].oid)
            for name in ("aes-256-gcm", "aes-256-cbc", "aes-128-gcm", "aes-128-cbc")
        ),
        Capability(RSAES_OAEP_OID, _oaep_parameters("sha256")),
    )
)
"""What tokensign tells with every signature, DER."""
