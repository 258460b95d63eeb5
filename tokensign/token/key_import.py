"""Bringing a key that was born elsewhere to a token."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Final

import pkcs11
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from pkcs11.constants import Attribute, ObjectClass
from pkcs11.exceptions import PKCS11Error
from pkcs11.mechanisms import KeyType

from tokensign import der
from tokensign.algorithms import CURVES, ED25519_OID, KeyUsage
from tokensign.errors import MechanismError, UnsupportedError, UsageError
from tokensign.token.objects import KeyInfo, read_keys
from tokensign.token.public_key import ec_parameters, key_identifier, public_key_info

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

    from tokensign.token.opening import Token

__all__ = ["import_key"]

_Template = dict[Attribute, Any]
_REFUSED: Final = (
    pkcs11.AttributeTypeInvalid,
    pkcs11.AttributeValueInvalid,
    pkcs11.DomainParamsInvalid,
    pkcs11.FunctionNotSupported,
    pkcs11.TemplateInconsistent,
)


def import_key(token: Token, label: str, private_key: PrivateKeyTypes, usage: KeyUsage) -> KeyInfo:
    """Store a private key and its public half, with C_CreateObject.

    It is private, sensitive and not extractable from now on. The token marks it for ever as not born there:
    CKA_LOCAL, CKA_ALWAYS_SENSITIVE and CKA_NEVER_EXTRACTABLE are false (PKCS #11 3.1, C_CreateObject), and
    `tokensign.token.check_key` says so.

    Args:
        token: A token opened with `read_write`.
        label: CKA_LABEL, not yet used by a key.
        private_key: An RSA key, an EC key on P-256, P-384 or P-521, or an Ed25519 key.
        usage: What it is for; decrypting means key agreement for EC keys.

    Raises:
        UsageError: The label is taken or empty, the key is there already, it cannot do the usage, or the
            token is open only for reading.
        UnsupportedError: Keys of this type are not imported.
        MechanismError: The token takes no such key.
        TokenError: The token fails.
    """
    if not label:
        raise UsageError("a key needs a label", hint="give one with --label")
    public, private = _templates(private_key, usage)
    public_key = private_key.public_key()
    names: _Template = {Attribute.LABEL: label, Attribute.ID: key_identifier(public_key)}
    with token.borrow(f"import the key {label}", change=True) as session:
        for known in read_keys(session, token.info):
            if known.label == label:
                raise UsageError(f"there is a key {label} already: {known.uri}", hint="choose another label")
            if known.public_key and public_key_info(known.public_key) == public_key_info(public_key):
                raise UsageError(f"the key is on the token already: {known.uri}")
        made = []
        try:
            made += [session.binding.create_object(names | private)]
            made += [session.binding.create_object(names | public)]
            return next(one for one in read_keys(session, token.info) if one.label == label)
        except BaseException as error:
            for item in made:
                with contextlib.suppress(PKCS11Error):
                    item.destroy()
            if isinstance(error, _REFUSED):
                raise MechanismError(
                    f"the token does not take the key {label} from outside",
                    hint="generate a key on the token and have it certified",
                ) from None
            raise


def _templates(private_key: PrivateKeyTypes, usage: KeyUsage) -> tuple[_Template, _Template]:
    """The public half and the private key, with what each may be used for."""
    match private_key:
        case rsa.RSAPrivateKey():
            public, private = _rsa(private_key)
            decrypting = Attribute.DECRYPT
        case ec.EllipticCurvePrivateKey():
            public, private = _ec(private_key)
            decrypting = Attribute.DERIVE
        case ed25519.Ed25519PrivateKey() if usage.decrypts:
            raise UsageError("ed25519 keys only sign", hint="import it with --usage sign")
        case ed25519.Ed25519PrivateKey():
            public, private = _ed25519(private_key)
            decrypting = Attribute.DERIVE
        case _:
            raise UnsupportedError(
                f"keys of type {type(private_key).__name__} are not imported",
                hint="RSA, P-256, P-384, P-521 and Ed25519 keys are",
            )
    public |= {
        Attribute.CLASS: ObjectClass.PUBLIC_KEY,
        Attribute.TOKEN: True,
        Attribute.PRIVATE: False,
        Attribute.VERIFY: usage.signs,
        Attribute.ENCRYPT: usage.decrypts and decrypting is Attribute.DECRYPT,
    }
    private |= {
        Attribute.CLASS: ObjectClass.PRIVATE_KEY,
        Attribute.TOKEN: True,
        Attribute.PRIVATE: True,
        Attribute.SENSITIVE: True,
        Attribute.EXTRACTABLE: False,
        Attribute.SIGN: usage.signs,
        Attribute.SIGN_RECOVER: False,
        Attribute.DECRYPT: False,
        Attribute.UNWRAP: False,
        Attribute.DERIVE: False,
        decrypting: usage.decrypts,
    }
    return public, private


def _rsa(key: rsa.RSAPrivateKey) -> tuple[_Template, _Template]:
    numbers = key.private_numbers()
    public: _Template = {
        Attribute.KEY_TYPE: KeyType.RSA,
        Attribute.MODULUS: _octets(numbers.public_numbers.n),
        Attribute.PUBLIC_EXPONENT: _octets(numbers.public_numbers.e),
    }
    return public.copy(), public | {
        Attribute.PRIVATE_EXPONENT: _octets(numbers.d),
        Attribute.PRIME_1: _octets(numbers.p),
        Attribute.PRIME_2: _octets(numbers.q),
        Attribute.EXPONENT_1: _octets(numbers.dmp1),
        Attribute.EXPONENT_2: _octets(numbers.dmq1),
        Attribute.COEFFICIENT: _octets(numbers.iqmp),
    }


def _ec(key: ec.EllipticCurvePrivateKey) -> tuple[_Template, _Template]:
    curve = next((one for one in CURVES.values() if isinstance(key.curve, one.primitive)), None)
    if curve is None:
        raise UnsupportedError(
            f"keys on the curve {key.curve.name} are not imported", hint="P-256, P-384 and P-521 are"
        )
    point = key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    common: _Template = {Attribute.KEY_TYPE: KeyType.EC, Attribute.EC_PARAMS: ec_parameters(curve.oid)}
    value = key.private_numbers().private_value.to_bytes((key.key_size + 7) // 8)
    return common | {Attribute.EC_POINT: der.octet_string(point)}, common | {Attribute.VALUE: value}


def _ed25519(key: ed25519.Ed25519PrivateKey) -> tuple[_Template, _Template]:
    common: _Template = {
        Attribute.KEY_TYPE: KeyType.EC_EDWARDS,
        Attribute.EC_PARAMS: ec_parameters(ED25519_OID),
    }
    point = der.octet_string(key.public_key().public_bytes_raw())
    return common | {Attribute.EC_POINT: point}, common | {Attribute.VALUE: key.private_bytes_raw()}


def _octets(number: int) -> bytes:
    return number.to_bytes((number.bit_length() + 7) // 8)
