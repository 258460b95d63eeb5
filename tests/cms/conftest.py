"""People whose keys are on a SoftHSM token or in memory, forged messages, and OpenSSL's second opinion."""

from __future__ import annotations

import hashlib
import subprocess
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any

import pytest
from asn1crypto import cms
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from software_signer import SoftwareSigner

from tokensign import der
from tokensign.algorithms import DIGESTS, KeySpec, KeyUsage, default_scheme
from tokensign.cms.attributes import CONTENT_TYPE, MESSAGE_DIGEST
from tokensign.cms.content_info import DATA, SIGNED_DATA
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
class SoftwareKey(SoftwareSigner):
    """As fast as property tests want it: a Signer and a Decrypter."""

    unwrapped: int = field(default=0, init=False)

    @property
    def certificates(self) -> Sequence[Certificate]:
        return [self.certificate] if self.certificate else []

    def unwrap(self, encrypted_key: bytes, transport: KeyTransport) -> bytes:
        self.unwrapped += 1
        scheme: Any = padding.PKCS1v15()
        if isinstance(transport, OaepTransport):
            mask = padding.MGF1(transport.mgf_digest.primitive())
            scheme = padding.OAEP(mask, transport.digest.primitive(), transport.label or None)
        try:
            return self.key.decrypt(encrypted_key, scheme)
        except (ValueError, UnsupportedAlgorithm):
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
            import_certificate(token, issue(*authority(), public_key, name, ["a@acme.example"], usage=usage))
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


def attribute(kind: str, *values: bytes) -> bytes:
    """One Attribute, DER."""
    return der.sequence(der.object_identifier(kind), der.set_of(*values))


@dataclass(kw_only=True)
class Forgery:
    """A SignedData message with one signature, in which everything can be other than it should.

    Attributes:
        signer: Who signs.
        content: What is signed; attached.
        attributes: Each signed attribute, DER; None: the content itself is signed; the first two are right.
        digest: Hashes the content and the attributes.
        digest_algorithm: AlgorithmIdentifier; None: that of `digest`.
        signature_algorithm: AlgorithmIdentifier; None: that of the signer's usual scheme.
        in_order: Sign the attributes in the order given and not in that of DER.
    """

    signer: SoftwareKey
    content: bytes = b"Pay 100 to Bob."
    content_type: str = DATA
    attributes: Sequence[bytes] | None = ()
    digest: str = "sha256"
    digest_algorithm: bytes | None = None
    signature_algorithm: bytes | None = None
    in_order: bool = False
    signature: bytes | None = None

    @property
    def scheme(self) -> SignatureScheme:
        return default_scheme(self.signer.public_key)

    def content_type_attribute(self) -> bytes:
        return attribute(CONTENT_TYPE, der.object_identifier(self.content_type))

    def message_digest_attribute(self) -> bytes:
        hashed = hashlib.new(self.digest, self.content, usedforsecurity=False).digest()
        return attribute(MESSAGE_DIGEST, der.octet_string(hashed))

    def with_attributes(self, *more: bytes) -> Forgery:
        """The same with contentType and messageDigest and these."""
        return replace(
            self, attributes=[self.content_type_attribute(), self.message_digest_attribute(), *more]
        )

    def encode(self) -> bytes:
        signed, field = self.content, b""
        if self.attributes is not None:
            ordered = list(self.attributes) if self.in_order else sorted(self.attributes)
            signed, field = der.tlv(0x31, b"".join(ordered)), der.tlv(0xA0, b"".join(self.attributes))
        identifier = self.digest_algorithm or DIGESTS[self.digest].algorithm_identifier
        signature = self.signature or self.signer.sign(signed, self.scheme)
        certificate = self.signer.certificate
        assert certificate is not None
        info = der.sequence(
            der.integer(1),
            certificate.issuer_and_serial_number,
            identifier,
            field,
            self.signature_algorithm or self.scheme.algorithm_identifier,
            der.octet_string(signature),
        )
        encapsulated = der.sequence(
            der.object_identifier(self.content_type), der.explicit(0, der.octet_string(self.content))
        )
        fields = (der.integer(1), der.set_of(identifier), encapsulated)
        data = der.sequence(*fields, der.tlv(0xA0, certificate.der), der.set_of(info))
        return der.sequence(der.object_identifier(SIGNED_DATA), der.explicit(0, data))


@pytest.fixture(scope="session")
def forge(software: Callable[..., SoftwareKey]) -> Callable[..., Forgery]:
    """A message to be made wrong: `forge("rsa:2048", content=...).with_attributes(...).encode()`."""
    return lambda kind="p256", **fields: Forgery(signer=software(kind), **fields)


@pytest.fixture(scope="session")
def make_attribute() -> Callable[..., bytes]:
    """One Attribute, DER: `make_attribute("1.2.3", value)`."""
    return attribute


@pytest.fixture(scope="session")
def moment() -> datetime:
    """A time at which something is signed."""
    return datetime(2026, 5, 4, 3, 2, 1, tzinfo=UTC)


@pytest.fixture(scope="session")
def parse() -> Callable[[bytes], Any]:
    """The content of a ContentInfo as asn1crypto reads it, which must read all of it."""
    return lambda encoded: cms.ContentInfo.load(encoded, strict=True)["content"]
