from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pysequoia
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa, x25519

from tokensign.errors import SigningError, UnsupportedError, UsageError
from tokensign.openpgp.armor import armor
from tokensign.openpgp.public_key import public_key
from tokensign.openpgp.signature import SigningKey, sign_detached
from tokensign.smime.canonical import canonical_lines

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Gpg, Owner

    from tokensign.algorithms import SignatureScheme

KINDS = ("rsa", "p256", "p384", "p521", "25519")
CONTENT = b"Pay 100 to Bob.\n"


@pytest.mark.parametrize("kind", KINDS)
def test_gnupg_verifies_a_signature_and_notices_a_change(
    owner: Callable[..., Owner], gpg: Gpg, kind: str
) -> None:
    person = owner(kind)
    signature = armor("SIGNATURE", sign_detached([CONTENT[:3], CONTENT[3:]], person.signing))
    assert gpg.verifies(signature, CONTENT) == person.fingerprint
    assert gpg.verifies(signature, CONTENT.replace(b"100", b"900")) is None


@pytest.mark.parametrize("native", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_sequoia_verifies_a_signature(owner: Callable[..., Owner], kind: str, *, native: bool) -> None:
    person = owner(kind, native=native)
    signature = pysequoia.Sig.from_bytes(armor("SIGNATURE", sign_detached([CONTENT], person.signing)))
    certificate = pysequoia.Cert.from_bytes(person.certificate)
    found = pysequoia.verify(bytes=CONTENT, store=lambda _: [certificate], signature=signature)
    assert [one.certificate.upper() for one in found.valid_sigs] == [person.fingerprint]


def test_text_may_change_its_line_ends(owner: Callable[..., Owner], gpg: Gpg) -> None:
    person = owner("p256")
    text = b"Dear Bob,\nbest wishes  \n"
    signature = sign_detached(canonical_lines([text]), person.signing, text=True)
    assert gpg.verifies(signature, text) == person.fingerprint
    assert gpg.verifies(signature, text.replace(b"\n", b"\r\n")) == person.fingerprint
    assert gpg.verifies(sign_detached([text], person.signing), text.replace(b"\n", b"\r\n")) is None


def test_many_signatures_are_good_whatever_zeros_they_begin_with(owner: Callable[..., Owner]) -> None:
    person = owner("25519")
    certificate = pysequoia.Cert.from_bytes(person.certificate)
    for number in range(300):  # one in 128 has an integer that is shorter
        content = str(number).encode()
        signature = pysequoia.Sig.from_bytes(sign_detached([content], person.signing))
        pysequoia.verify(bytes=content, store=lambda _: [certificate], signature=signature)


def test_signature_is_dated(owner: Callable[..., Owner]) -> None:
    moment = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=5)
    made = sign_detached([CONTENT], owner("p256").signing, moment=moment)
    assert pysequoia.Sig.from_bytes(made).created == moment


def test_signature_before_the_key_was_made_is_refused(owner: Callable[..., Owner]) -> None:
    key = owner("p256").signing
    with pytest.raises(UsageError, match="made later than the signature"):
        sign_detached([CONTENT], key, moment=key.public.created - timedelta(seconds=1))


@dataclass
class Faulty:
    """A key whose signatures are over something else."""

    key: Any
    certificate: None = None
    chain: tuple[()] = ()

    @property
    def public_key(self) -> Any:  # noqa: ANN401 - of three types
        return self.key.public_key()

    def sign(self, message: bytes, scheme: SignatureScheme) -> bytes:  # noqa: ARG002 - of the protocol
        return self.key.sign(message[1:])  # type: ignore[no-any-return]

    def sign_digest(self, digest: bytes, scheme: SignatureScheme) -> bytes:
        if isinstance(self.key, rsa.RSAPrivateKey):
            return bytes(256)
        return self.key.sign(digest, ec.ECDSA(scheme.digest.primitive()))  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    "key",
    [
        rsa.generate_private_key(65537, 2048),
        ec.generate_private_key(ec.SECP256R1()),
        ed25519.Ed25519PrivateKey.generate(),
    ],
    ids=["rsa", "p256", "ed25519"],
)
def test_signature_that_does_not_verify_is_not_released(key: Any) -> None:  # noqa: ANN401 - of three types
    faulty = Faulty(key)
    public = public_key(faulty.public_key, datetime.now(UTC))
    with pytest.raises(SigningError, match="its public key refuses"):
        sign_detached([CONTENT], SigningKey(faulty, public))


def test_signature_of_another_key_than_was_named_is_not_released(owner: Callable[..., Owner]) -> None:
    one = owner("p256")
    other = public_key(ec.generate_private_key(ec.SECP256R1()).public_key(), one.signing.public.created)
    with pytest.raises(SigningError, match="its public key refuses"):
        sign_detached([CONTENT], SigningKey(one.signing.private, other))


def test_key_that_only_decrypts_does_not_sign() -> None:
    key = Faulty(x25519.X25519PrivateKey.generate())
    with pytest.raises(UnsupportedError):
        sign_detached([CONTENT], SigningKey(key, public_key(key.public_key, datetime.now(UTC))))
