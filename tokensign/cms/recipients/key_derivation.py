"""Keys from passwords: PBKDF2 (RFC 8018 section 5.2) and scrypt (RFC 7914), as messages name them.

New messages follow the OWASP Password Storage Cheat Sheet: PBKDF2 with HMAC-SHA-256 and 600,000 iterations,
or scrypt with N = 2^17, r = 8, p = 1. PBKDF2 is the default because every peer reads it; scrypt in a
PasswordRecipientInfo is not read by OpenSSL 3.0 and Bouncy Castle 1.72.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives.kdf.pbkdf2 import PBKDF2HMAC
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from tokensign import der
from tokensign.algorithms import MACS, PBKDF2_OID, SCRYPT_OID, Mac, mac_algorithm
from tokensign.cms.ber import OCTET_STRING
from tokensign.cms.signed_data import algorithm_of
from tokensign.errors import MalformedError, UnsupportedError, UsageError

__all__ = [
    "MAX_ITERATIONS",
    "MAX_SCRYPT_COST",
    "MAX_SCRYPT_MEMORY",
    "KeyDerivation",
    "Pbkdf2Derivation",
    "ScryptDerivation",
    "read_key_derivation",
]

MAX_ITERATIONS: Final = 10_000_000  # some seconds; today's advice is 600,000, and a stranger chooses
MAX_SCRYPT_MEMORY: Final = 1 << 28  # octets, 128 * N * r; today's advice takes half of it
MAX_SCRYPT_COST: Final = 1 << 24  # N * r * p, some seconds; today's advice is 2^20
_MAX_SALT_SIZE: Final = 1024  # octets; RFC 8018 advises 8, others take up to 64
_SALT_SIZE: Final = 16  # octets that are written (NIST SP 800-132 section 5.1)
_INTEGER: Final = 0x02


def _salt() -> bytes:
    return os.urandom(_SALT_SIZE)


@dataclass(frozen=True, slots=True)
class Pbkdf2Derivation:
    """PBKDF2 with its parameters.

    Attributes:
        salt: Its octets; random for a new message.
        iterations: How often the function is applied.
        prf: The pseudorandom function.
        key_length: Octets of the key as the message states them, or None.
    """

    salt: bytes
    iterations: int
    prf: Mac
    key_length: int | None = None

    @classmethod
    def fresh(cls, iterations: int = 600_000, prf: Mac = MACS["hmac-sha256"]) -> Pbkdf2Derivation:
        """Parameters for a new message.

        Args:
            iterations: At least 1000 (RFC 8018 section 4.2) and at most MAX_ITERATIONS.
            prf: HMAC with SHA-2 or SHA-3.

        Raises:
            UsageError: The number is out of bounds.
            UnsupportedError: The function is only read.
        """
        if not 1000 <= iterations <= MAX_ITERATIONS:  # noqa: PLR2004 - the RFC's number
            raise UsageError(f"PBKDF2 takes from 1000 to {MAX_ITERATIONS} iterations, not {iterations}")
        if not prf.writable:
            raise UnsupportedError(f"{prf.name} is not written", hint="use hmac-sha256")
        return cls(_salt(), iterations, prf)

    def derive(self, password: bytes, size: int) -> bytes:
        """The key of `size` octets that a password gives."""
        return PBKDF2HMAC(self.prf.digest.primitive(), size, self.salt, self.iterations).derive(password)

    def encode(self) -> bytes:
        """AlgorithmIdentifier with PBKDF2-params (RFC 8018 appendix A.2), DER."""
        prf = der.sequence(der.object_identifier(self.prf.oid), der.NULL)
        parameters = der.sequence(der.octet_string(self.salt), der.integer(self.iterations), prf)
        return der.sequence(der.object_identifier(PBKDF2_OID), parameters)

    def __str__(self) -> str:
        return f"PBKDF2 with {self.prf.name} and {self.iterations} iterations"


@dataclass(frozen=True, slots=True)
class ScryptDerivation:
    """scrypt with its parameters.

    Attributes:
        salt: Its octets; random for a new message.
        cost: N, a power of two.
        block_size: r.
        parallelization: p.
        key_length: Octets of the key as the message states them, or None.
    """

    salt: bytes
    cost: int
    block_size: int
    parallelization: int
    key_length: int | None = None

    @classmethod
    def fresh(cls, cost: int = 1 << 17, block_size: int = 8, parallelization: int = 1) -> ScryptDerivation:
        """Parameters for a new message.

        Args:
            cost: N, a power of two; memory is 128 * N * r octets.
            block_size: r.
            parallelization: p.

        Raises:
            UnsupportedError: They are out of bounds.
        """
        fresh = cls(_salt(), cost, block_size, parallelization)
        fresh.require_bounds()
        return fresh

    def require_bounds(self) -> None:
        """Refuse a cost that is impossible, or more than a stranger may ask for.

        Raises:
            UnsupportedError: It is.
        """
        n, r, p = self.cost, self.block_size, self.parallelization
        if n < 2 or n & (n - 1) or r < 1 or p < 1:  # noqa: PLR2004 - RFC 7914 section 2
            raise UnsupportedError("the parameters of scrypt are impossible (RFC 7914 section 2)")
        if 128 * n * r > MAX_SCRYPT_MEMORY or n * r * p > MAX_SCRYPT_COST:
            raise UnsupportedError(f"scrypt with N={n}, r={r}, p={p} costs more than is allowed here")

    def derive(self, password: bytes, size: int) -> bytes:
        """The key of `size` octets that a password gives."""
        return Scrypt(self.salt, size, self.cost, self.block_size, self.parallelization).derive(password)

    def encode(self) -> bytes:
        """AlgorithmIdentifier with scrypt-params (RFC 7914 section 7.1), DER."""
        numbers = map(der.integer, (self.cost, self.block_size, self.parallelization))
        parameters = der.sequence(der.octet_string(self.salt), *numbers)
        return der.sequence(der.object_identifier(SCRYPT_OID), parameters)

    def __str__(self) -> str:
        return f"scrypt with N={self.cost}, r={self.block_size}, p={self.parallelization}"


KeyDerivation = Pbkdf2Derivation | ScryptDerivation


def read_key_derivation(encoded: bytes) -> KeyDerivation:
    """Read a KeyDerivationAlgorithmIdentifier; its tag does not matter.

    Raises:
        UnsupportedError: The function is not known here, or costs more than a stranger may ask for.
        MalformedError: The parameters are broken.
    """
    algorithm = algorithm_of(encoded)
    if algorithm not in (PBKDF2_OID, SCRYPT_OID):
        raise UnsupportedError(f"key derivation algorithm {algorithm} is not supported")
    match der.elements(encoded):
        case [_, parameters]:
            fields = der.elements(parameters)
        case _:
            raise MalformedError("the key derivation lacks its parameters")
    return _read_pbkdf2(fields) if algorithm == PBKDF2_OID else _read_scrypt(fields)


def _read_pbkdf2(fields: list[bytes]) -> Pbkdf2Derivation:
    match fields:
        case [salt, iterations, *rest]:
            if salt[0] != OCTET_STRING:
                raise UnsupportedError("PBKDF2 with a salt that is not in the message is not supported")
            key_length, rest = _read_key_length(rest)
            prf = mac_algorithm(algorithm_of(rest[0])) if rest else MACS["hmac-sha1"]  # the default
            count = _read_integer(iterations)
            if count > MAX_ITERATIONS:
                raise UnsupportedError(f"PBKDF2 with {count} iterations costs more than is allowed here")
            return Pbkdf2Derivation(_read_salt(salt), count, prf, key_length)
        case _:
            raise MalformedError("the parameters of PBKDF2 are broken")


def _read_scrypt(fields: list[bytes]) -> ScryptDerivation:
    match fields:
        case [salt, cost, block_size, parallelization, *rest]:
            key_length, _ = _read_key_length(rest)
            n, r, p = (_read_integer(number) for number in (cost, block_size, parallelization))
            found = ScryptDerivation(_read_salt(salt), n, r, p, key_length)
            found.require_bounds()
            return found
        case _:
            raise MalformedError("the parameters of scrypt are broken")


def _read_key_length(rest: list[bytes]) -> tuple[int | None, list[bytes]]:
    if rest and rest[0][0] == _INTEGER:
        return _read_integer(rest[0]), rest[1:]
    return None, rest


def _read_salt(encoded: bytes) -> bytes:
    salt = der.content(encoded)
    if encoded[0] != OCTET_STRING or len(salt) > _MAX_SALT_SIZE:
        raise MalformedError("the salt of a key derivation is broken")
    return salt


def _read_integer(encoded: bytes) -> int:
    value = int.from_bytes(der.content(encoded), signed=True)
    if encoded[0] != _INTEGER or not 0 < value < 1 << 63:
        raise MalformedError("a number in the parameters of a key derivation is broken")
    return value
