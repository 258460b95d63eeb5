"""RSA keys with flaws that are known get no certificate."""

from __future__ import annotations

import math

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from tokensign.errors import UnsupportedError
from tokensign.pki.rsa_flaws import require_sound_rsa_key

KEY = rsa.generate_private_key(65537, 2048)
MODULUS = KEY.public_key().public_numbers().n


def is_prime(number: int) -> bool:
    """Fermat's test to three bases, which is enough for numbers that nobody chose."""
    return all(pow(base, number - 1, number) == 1 for base in (2, 3, 5))


def next_prime(number: int, step: int = 2) -> int:
    while not is_prime(number):
        number += step
    return number


def infineon_prime(start: int) -> int:
    """A prime of the form k * M + (65537^a mod M), as the faulty library made them."""
    primorial = math.prod(number for number in range(2, 168) if all(number % one for one in range(2, number)))
    return next_prime(start * primorial + pow(65537, start % 1000, primorial), primorial)


def public_key(modulus: int, exponent: int = 65537) -> rsa.RSAPublicKey:
    return rsa.RSAPublicNumbers(exponent, modulus).public_key()


def test_a_fresh_key_is_sound() -> None:
    require_sound_rsa_key(KEY.public_key())


@pytest.mark.parametrize("exponent", [3, 17, 65535, (1 << 256) + 1])
def test_an_exponent_that_is_too_small_or_too_large_is_refused(exponent: int) -> None:
    with pytest.raises(UnsupportedError, match="the public exponent"):
        require_sound_rsa_key(public_key(MODULUS, exponent))


@pytest.mark.parametrize("factor", [3, 751])
def test_a_modulus_with_a_small_factor_is_refused(factor: int) -> None:
    with pytest.raises(UnsupportedError, match="has a small factor"):
        require_sound_rsa_key(public_key(MODULUS * factor))


def test_primes_that_lie_close_together_are_found() -> None:
    first = next_prime((1 << 1023) + 12345)
    with pytest.raises(UnsupportedError, match="so close together"):
        require_sound_rsa_key(public_key(first * next_prime(first + 2)))


def test_keys_of_the_faulty_chip_are_recognized() -> None:
    modulus = infineon_prime(1 << 800) * infineon_prime(3 << 800)
    with pytest.raises(UnsupportedError, match="ROCA"):
        require_sound_rsa_key(public_key(modulus))
