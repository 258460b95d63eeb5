"""Published private keys on a SoftHSM token, and the files of every corpus."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa, x25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from pkcs11 import Attribute, KeyType, ObjectClass

from tokensign import der
from tokensign.algorithms import CURVES, ED25519_OID, X25519_OID
from tokensign.certificates import load_certificates
from tokensign.token import Pin, import_certificate, open_key, open_token

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from tokensign.certificates import Certificate
    from tokensign.token import Module, Token, TokenKey


def octets(value: int) -> bytes:
    return value.to_bytes((value.bit_length() + 7) // 8)


def key_attributes(key: Any) -> tuple[dict[Attribute, Any], dict[Attribute, Any]]:  # noqa: ANN401 - of any type
    """What makes the public and the private object of a key."""
    if isinstance(key, rsa.RSAPrivateKey):
        numbers = key.private_numbers()
        public: dict[Attribute, Any] = {
            Attribute.KEY_TYPE: KeyType.RSA,
            Attribute.MODULUS: octets(numbers.public_numbers.n),
            Attribute.PUBLIC_EXPONENT: octets(numbers.public_numbers.e),
        }
        return public, public | {
            Attribute.PRIVATE_EXPONENT: octets(numbers.d),
            Attribute.PRIME_1: octets(numbers.p),
            Attribute.PRIME_2: octets(numbers.q),
            Attribute.EXPONENT_1: octets(numbers.dmp1),
            Attribute.EXPONENT_2: octets(numbers.dmq1),
            Attribute.COEFFICIENT: octets(numbers.iqmp),
        }
    if isinstance(key, (ed25519.Ed25519PrivateKey, x25519.X25519PrivateKey)):
        point = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        oid = ED25519_OID if isinstance(key, ed25519.Ed25519PrivateKey) else X25519_OID
        kind = {
            Attribute.KEY_TYPE: KeyType.EC_EDWARDS,  # SoftHSM takes it for X25519 too
            Attribute.EC_PARAMS: der.object_identifier(oid),
        }
        return kind | {Attribute.EC_POINT: der.octet_string(point)}, kind | {
            Attribute.VALUE: key.private_bytes_raw()
        }
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    curve = next(entry for entry in CURVES.values() if entry.bits == key.key_size)
    kind = {Attribute.KEY_TYPE: KeyType.EC, Attribute.EC_PARAMS: der.object_identifier(curve.oid)}
    point = key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    value = key.private_numbers().private_value
    return kind | {Attribute.EC_POINT: der.octet_string(point)}, kind | {Attribute.VALUE: octets(value)}


@pytest.fixture(scope="session")
def corpora_token(module: Module, new_token: Callable[[str], str], user_pin: str) -> Iterator[Token]:
    with open_token(module, new_token("corpora"), Pin(user_pin), read_write=True) as token:
        yield token


@pytest.fixture(scope="session")
def import_key(corpora_token: Token) -> Callable[..., TokenKey]:
    """Put a published key on the token, as far as that can be said not to leave it, with its certificates."""
    there: dict[bytes, TokenKey] = {}

    def put(key: Any, *certificates: Certificate) -> TokenKey:  # noqa: ANN401 - of any type
        known = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        if known not in there:
            there[known] = create(key, f"published-{len(there)}", *certificates)
        return there[known]

    def create(key: Any, label: str, *certificates: Certificate) -> TokenKey:  # noqa: ANN401 - as above
        public, private = key_attributes(key)
        common = {Attribute.TOKEN: True, Attribute.LABEL: label, Attribute.ID: label.encode()}
        protected = {Attribute.PRIVATE: True, Attribute.SENSITIVE: True, Attribute.EXTRACTABLE: False}
        agrees = not isinstance(key, (rsa.RSAPrivateKey, ed25519.Ed25519PrivateKey))
        with corpora_token.borrow("import a published key", change=True) as session:
            session.binding.create_object(
                {Attribute.CLASS: ObjectClass.PUBLIC_KEY, Attribute.VERIFY: True} | common | public
            )
            session.binding.create_object(
                {
                    Attribute.CLASS: ObjectClass.PRIVATE_KEY,
                    Attribute.SIGN: not isinstance(key, x25519.X25519PrivateKey),
                    Attribute.DECRYPT: isinstance(key, rsa.RSAPrivateKey),
                    Attribute.DERIVE: agrees,
                }
                | protected
                | common
                | private
            )
        for certificate in certificates:
            import_certificate(corpora_token, certificate)
        return open_key(corpora_token, label)

    return put


@pytest.fixture(scope="session")
def files_of(corpora: Callable[[str], Any]) -> Callable[..., Sequence[Any]]:
    """The files of a corpus by pattern, of which there must be some."""

    def find(folder: str, pattern: str = "*") -> Sequence[Any]:
        found = sorted(path for path in corpora(folder).rglob(pattern) if path.is_file())
        assert found
        return found

    return find


@pytest.fixture(scope="module")
def certificate(corpora: Callable[[str], Path]) -> Callable[[str], Certificate]:
    """A published certificate of RFC 9216: `certificate("alice.sign")`."""
    return lambda name: load_certificates(corpora(f"rfc9216/{name}.crt").read_bytes())[0]


@pytest.fixture(scope="module")
def person(
    corpora: Callable[[str], Path],
    import_key: Callable[..., TokenKey],
    certificate: Callable[[str], Certificate],
) -> Callable[[str], TokenKey]:
    """A published key of RFC 9216 on the token: `person("alice.sign")`."""

    def get(name: str) -> TokenKey:
        key: Any = load_pem_private_key(corpora(f"rfc9216/{name}.key").read_bytes(), None)
        return import_key(key, certificate(name))

    return get
