"""SLH-DSA public keys (FIPS 205), which cryptography does not have; the package slh-dsa computes with them.

Verification only: a few thousand hash computations on public data, 2 to 11 ms.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cryptography.exceptions import InvalidSignature

from tokensign import der
from tokensign.algorithms import SLH_DSA
from tokensign.errors import MalformedError, UnsupportedError

if TYPE_CHECKING:
    from tokensign.algorithms import ParameterSet

__all__ = ["SlhDsaPublicKey"]

_BIT_STRING = 0x03


@dataclass(frozen=True, slots=True)
class SlhDsaPublicKey:
    """A public key of SLH-DSA.

    Attributes:
        parameters: Its parameter set.
        octets: PK.seed and PK.root: 32, 48 or 64 octets (RFC 9909 section 4).
    """

    parameters: ParameterSet
    octets: bytes

    @classmethod
    def load(cls, public_key_info: bytes) -> SlhDsaPublicKey | None:
        """The key in a SubjectPublicKeyInfo, or None where it is of another algorithm.

        Args:
            public_key_info: DER.

        Raises:
            MalformedError: It is broken, or of another size than its parameter set has.
        """
        match der.elements(public_key_info):
            case [algorithm, bits] if bits[0] == _BIT_STRING:
                oid, *parameters = der.elements(algorithm)
            case _:
                raise MalformedError("a public key is broken")
        found = SLH_DSA.get(der.dotted(oid))
        if found is None:
            return None
        octets = der.content(bits)[1:]
        if parameters or len(octets) != found.digest_size:  # both are twice the security parameter n
            raise MalformedError(f"the {found.name} public key is broken")
        return cls(found, octets)

    def verify(self, signature: bytes, message: bytes) -> None:
        """Check a signature in the pure form, with an empty context (RFC 9814 section 3).

        Raises:
            InvalidSignature: It is not the signature of this message by this key.
            UnsupportedError: The package slh-dsa is not installed.
        """
        try:
            slhdsa: Any = importlib.import_module("slhdsa")
        except ImportError as error:
            raise UnsupportedError(
                f"{self.parameters.name} signatures are verified with the package slh-dsa, which is not here",
                hint="pip install 'tokensign[slh-dsa]'",
            ) from error
        parameters = getattr(slhdsa, self.parameters.name.removeprefix("slh-dsa-").replace("-", "_"))
        key = slhdsa.PublicKey.from_digest(self.octets, parameters)
        if not key.verify_pure(message, signature):
            raise InvalidSignature
