"""RSA keys that look sound and are not; no CA certifies them (CA/Browser Forum S/MIME BR section 6.1.1.3)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from tokensign.errors import UnsupportedError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey, RSAPublicNumbers

__all__ = ["FERMAT_ROUNDS", "require_sound_rsa_key"]

EXPONENT_MINIMUM: Final = 1 << 16  # below, some paddings can be attacked (S/MIME BR section 6.1.6)
EXPONENT_MAXIMUM: Final = 1 << 256  # the same section; above, verifying gets slow
FERMAT_ROUNDS: Final = 100  # the same section wants so many; primes that were chosen apart never fall for it
_FACTOR_MAXIMUM: Final = 752  # NIST SP 800-89 section 5.3.3: no factor below that

_SMALL_PRIMES: Final = tuple(
    number
    for number in range(3, _FACTOR_MAXIMUM)
    if all(number % factor for factor in range(2, math.isqrt(number) + 1))
)
_ROCA_PRIMES: Final = _SMALL_PRIMES[:38]  # 3 to 167; they divide the M of every key size in the paper
_ROCA_GENERATOR: Final = 65537


def require_sound_rsa_key(public_key: RSAPublicKey) -> None:
    """Refuse a key whose numbers give its private key away, or nearly so.

    These are exponents that are even, tiny or huge; moduli with a small factor; moduli of two primes close to
    each other; and those of the Infineon library whose primes had too little chance in them (CVE-2017-15361,
    "The Return of Coppersmith's Attack", CCS 2017, section 3.3).

    Raises:
        UnsupportedError: It is one of them.
    """
    numbers = public_key.public_numbers()
    if not (EXPONENT_MINIMUM < numbers.e < EXPONENT_MAXIMUM and numbers.e % 2):
        raise _refused(f"the public exponent {numbers.e:.20g} is not an odd number from 65537 to 2^256")
    if numbers.n % 2 == 0 or math.gcd(numbers.n, math.prod(_SMALL_PRIMES)) != 1:
        raise _refused("its modulus has a small factor")
    if _has_close_primes(numbers.n):
        raise _refused("its primes lie so close together that they are found at once")
    if _has_roca_fingerprint(numbers):
        raise _refused("it was made by a faulty chip (ROCA, CVE-2017-15361)")


def _has_close_primes(modulus: int) -> bool:
    """Fermat's factorization: n = a^2 - b^2, with a just above the root of n."""
    root = math.isqrt(modulus) + 1
    return any(_is_square(a * a - modulus) for a in range(root, root + FERMAT_ROUNDS))


def _is_square(number: int) -> bool:
    return math.isqrt(number) ** 2 == number


def _has_roca_fingerprint(numbers: RSAPublicNumbers) -> bool:
    """Whether the modulus is a power of 65537 modulo each of the primes; of others, one in 2^27 is."""
    return all(numbers.n % prime in _powers(prime) for prime in _ROCA_PRIMES)


def _powers(prime: int) -> set[int]:
    return {pow(_ROCA_GENERATOR, exponent, prime) for exponent in range(prime - 1)}


def _refused(reason: str) -> UnsupportedError:
    return UnsupportedError(f"no certificate is made for this RSA key: {reason}", hint="make a new key")
