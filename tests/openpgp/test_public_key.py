from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, x25519

from tokensign.errors import MalformedError, UnsupportedError
from tokensign.openpgp.numbers import Tag
from tokensign.openpgp.public_key import find_public_key, public_key

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from conftest import Owner

KINDS = ("rsa", "p256", "p384", "p521", "25519")
MOMENT = datetime(2014, 8, 19, 14, 28, 27, tzinfo=UTC)


def test_fingerprint_is_that_of_the_sample_key_of_the_rfc() -> None:
    # RFC 9580 appendix A.1
    octets = bytes.fromhex("3f098994bdd916ed4053197934e4a87c80733a1280d62f8010992e43ee3b2406")
    key = public_key(ed25519.Ed25519PublicKey.from_public_bytes(octets), MOMENT)
    assert key.packet(Tag.PUBLIC_KEY).hex().startswith("c6330453f35f0b16092b06010401da470f01010740")
    assert key.fingerprint.hex() == "c959bdbafa32a2f89a153b678cfde12197965a9a"
    assert key.key_id.hex() == "8cfde12197965a9a"


def test_fingerprint_depends_on_the_second_in_which_the_key_was_made() -> None:
    key = ed25519.Ed25519PrivateKey.generate().public_key()
    first = public_key(key, MOMENT).fingerprint
    assert public_key(key, MOMENT + timedelta(microseconds=999_999)).fingerprint == first
    assert public_key(key, MOMENT + timedelta(seconds=1)).fingerprint != first


@pytest.mark.parametrize("native", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_keys_are_found_in_their_certificate(owner: Callable[..., Owner], kind: str, *, native: bool) -> None:
    person = owner(kind, native=native)
    for known, encrypts in ((person.signing.public, False), (person.recipient.public, True)):
        found = find_public_key(io.BytesIO(person.certificate), known.key, encrypts=encrypts)
        assert found == known


def test_other_parameters_of_ecdh_are_kept(owner: Callable[..., Owner]) -> None:
    person = owner("p256")
    known = person.recipient.public
    changed = person.certificate.replace(known.material, known.material[:-2] + bytes((10, 9)))
    found = find_public_key(io.BytesIO(changed), known.key, encrypts=True)
    assert found.kdf is not None
    assert (found.kdf.hash, found.kdf.cipher) == (10, 9)
    assert found.fingerprint != known.fingerprint


def test_key_that_is_not_in_the_certificate_is_refused(owner: Callable[..., Owner]) -> None:
    other = ec.generate_private_key(ec.SECP256R1()).public_key()
    with pytest.raises(MalformedError, match="not in the OpenPGP certificate"):
        find_public_key(io.BytesIO(owner("p256").certificate), other, encrypts=False)


@pytest.mark.parametrize(
    "key",
    [ed448.Ed448PrivateKey.generate(), ec.generate_private_key(ec.SECP256K1())],
    ids=["ed448", "secp256k1"],
)
def test_key_that_openpgp_has_no_place_for_is_refused(key: Any) -> None:  # noqa: ANN401 - of two types
    with pytest.raises(UnsupportedError, match="no place"):
        public_key(key.public_key(), MOMENT)


@pytest.mark.parametrize("year", [1969, 2107])
def test_key_of_another_century_is_refused(year: int) -> None:
    with pytest.raises(UnsupportedError, match="1970 to 2106"):
        public_key(x25519.X25519PrivateKey.generate().public_key(), datetime(year, 1, 1, tzinfo=UTC))
