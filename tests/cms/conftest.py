"""People whose keys are on a SoftHSM token, others whose keys are in memory, and OpenSSL as a second opinion."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any

import pytest
from asn1crypto import cms
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa, utils

from tokensign.algorithms import KeySpec, KeyUsage
from tokensign.errors import DecryptionError
from tokensign.keys import OaepTransport
from tokensign.pki.ca import issue, root_certificate
from tokensign.token import Pin, generate_key, import_certificate, open_key, open_token

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tokensign.algorithms import SignatureScheme
    from tokensign.certificates import Certificate
    from tokensign.keys import KeyTransport
    from tokensign.token import Module, TokenKey


@dataclass(eq=False)
class SoftwareKey:
    """A private key in memory, as fast as property tests want it: a Signer and a Decrypter."""

    key: Any
    certificate: Certificate | None = None
    chain: Sequence[Certificate] = ()
    unwrapped: int = field(default=0, init=False)

    @property
    def certificates(self) -> Sequence[Certificate]:
        return [self.certificate] if self.certificate else []

    @property
    def public_key(self) -> Any:  # noqa: ANN401 - of any type
        return self.key.public_key()

    def sign(self, message: bytes, scheme: SignatureScheme) -> bytes:
        algorithm = scheme.digest.primitive()
        match scheme.family:
            case "rsa-pkcs1":
                return self.key.sign(message, padding.PKCS1v15(), algorithm)
            case "rsa-pss":
                pss = padding.PSS(padding.MGF1(algorithm), scheme.salt_size)
                return self.key.sign(message, pss, algorithm)
            case "ecdsa":
                return self.key.sign(message, ec.ECDSA(algorithm))
            case _:
                return self.key.sign(message)

    def sign_digest(self, digest: bytes, scheme: SignatureScheme) -> bytes:
        return self.key.sign(digest, ec.ECDSA(utils.Prehashed(scheme.digest.primitive())))

    def unwrap(self, encrypted_key: bytes, transport: KeyTransport) -> bytes:
        self.unwrapped += 1
        scheme: Any = padding.PKCS1v15()
        if isinstance(transport, OaepTransport):
            mask = padding.MGF1(transport.mgf_digest.primitive())
            scheme = padding.OAEP(mask, transport.digest.primitive(), transport.label or None)
        try:
            return self.key.decrypt(encrypted_key, scheme)
        except ValueError:
            raise DecryptionError("the software key refuses it") from None


class LyingKey(SoftwareKey):
    """A token whose signatures are well-formed and wrong."""

    def sign(self, message: bytes, scheme: SignatureScheme) -> bytes:
        return super().sign(b"something else than " + message, scheme)


@cache
def private_key(kind: str, number: int) -> Any:  # noqa: ANN401 - of any type
    """A key such as "rsa:2048", "p256", "ed25519"; another number is another key of the kind."""
    del number
    makers: dict[str, Callable[[], Any]] = {
        "p256": lambda: ec.generate_private_key(ec.SECP256R1()),
        "p384": lambda: ec.generate_private_key(ec.SECP384R1()),
        "k256": lambda: ec.generate_private_key(ec.SECP256K1()),
        "ed25519": ed25519.Ed25519PrivateKey.generate,
        "rsa:1024": lambda: rsa.generate_private_key(65537, 1024),  # noqa: S505 - weak on purpose
        "rsa:2048": lambda: rsa.generate_private_key(65537, 2048),
    }
    return makers[kind]()


@cache
def authority() -> tuple[SoftwareKey, Certificate]:
    key = SoftwareKey(private_key("p256", 1000))
    return key, root_certificate(key, "CN=Root,O=Acme")


@cache
def person(kind: str, number: int) -> SoftwareKey:
    key = SoftwareKey(private_key(kind, number))
    usage = KeyUsage.BOTH if kind.startswith("rsa") else KeyUsage.SIGN
    name = f"CN={kind.replace(':', '-')} {number},O=Acme"
    key.certificate = issue(*authority(), key.public_key, name, ["a@acme.example"], usage=usage)
    return key


@pytest.fixture(scope="session")
def root() -> Certificate:
    """The CA above everybody here."""
    return authority()[1]


@pytest.fixture(scope="session")
def software() -> Callable[..., SoftwareKey]:
    """Somebody with a key in memory and a certificate: `software("rsa:2048", 1)`; each number another key."""
    return lambda kind="p256", number=0: person(kind, number)


@pytest.fixture(scope="session")
def nameless() -> Callable[..., SoftwareKey]:
    """A key in memory without a certificate."""
    return lambda kind="p256", number=0: SoftwareKey(private_key(kind, number))


@pytest.fixture(scope="session")
def liar() -> SoftwareKey:
    """Somebody whose token makes wrong signatures."""
    honest = person("p256", 0)
    return LyingKey(honest.key, honest.certificate)


@pytest.fixture(scope="session")
def token_person(
    module: Module, new_token: Callable[[str], str], user_pin: str
) -> Iterator[Callable[[str], TokenKey]]:
    """Somebody with a key and a certificate on a SoftHSM token: `token_person("rsa:2048")`."""
    with open_token(module, new_token("cms"), Pin(user_pin), read_write=True) as token:

        @cache
        def get(spec: str) -> TokenKey:
            usage = KeyUsage.BOTH if spec.startswith("rsa") else KeyUsage.SIGN
            info = generate_key(token, spec, KeySpec.parse(spec), usage)
            name = f"CN=token {spec.replace(':', '-')},O=Acme"
            public_key = open_key(token, info).public_key
            import_certificate(
                token, issue(*authority(), public_key, name, ["a@acme.example"], usage=usage)
            )
            return open_key(token, info)

        yield get


@pytest.fixture(scope="session")
def openssl() -> Callable[..., bytes]:
    """Run the openssl program: its arguments, and optionally what it reads; what it writes."""

    def run(*arguments: object, feed: bytes = b"") -> bytes:
        done = subprocess.run(
            ["openssl", *map(str, arguments)], input=feed, capture_output=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr.decode(errors="replace")
        return done.stdout

    return run


@pytest.fixture(scope="session")
def moment() -> datetime:
    """A time at which something is signed."""
    return datetime(2026, 5, 4, 3, 2, 1, tzinfo=UTC)


@pytest.fixture(scope="session")
def parse() -> Callable[[bytes], Any]:
    """The content of a ContentInfo as asn1crypto reads it, which must read all of it."""
    return lambda encoded: cms.ContentInfo.load(encoded, strict=True)["content"]
