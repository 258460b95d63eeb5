"""Making keys on a token, so that they never leave it."""

from __future__ import annotations

import contextlib
import secrets
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import pkcs11
from pkcs11.constants import DEFAULT, Attribute, MechanismFlag
from pkcs11.exceptions import PKCS11Error
from pkcs11.mechanisms import KeyType, MLDSAParameterSet, MLKEMParameterSet

from tokensign.algorithms import ED448_OID, ED25519_OID, X448_OID, X25519_OID, KeySpec, KeyUsage
from tokensign.errors import MechanismError, UsageError, WeakKeyError
from tokensign.token.capabilities import capabilities
from tokensign.token.cryptoki import EC_MONTGOMERY, MECHANISMS
from tokensign.token.objects import KeyInfo, read_keys, read_public_key
from tokensign.token.protection import examine
from tokensign.token.public_key import decode, ec_parameters, key_identifier
from tokensign.token.quirks import Quirk

if TYPE_CHECKING:
    from pkcs11 import PrivateKey, PublicKey

    from tokensign.token.capabilities import Capabilities
    from tokensign.token.opening import Token
    from tokensign.token.session import Session

__all__ = ["generate_key"]

_TEMPORARY_ID_SIZE: Final = 20  # octets, as a SHA-1 has; stays where a token does not let it be changed
_TEMPLATE_REFUSED: Final = (
    pkcs11.AttributeTypeInvalid,
    pkcs11.AttributeValueInvalid,
    pkcs11.TemplateInconsistent,
)
_KEY_TYPE_REFUSED: Final = (*_TEMPLATE_REFUSED, pkcs11.DeviceError, pkcs11.DomainParamsInvalid)
_PUBLIC_USAGES: Final = (
    Attribute.VERIFY,
    Attribute.VERIFY_RECOVER,
    Attribute.ENCRYPT,
    Attribute.WRAP,
    Attribute.DERIVE,
)
_AGREEMENTS: Final = ("ECDH1_DERIVE", "ECDH1_COFACTOR_DERIVE")
_MONTGOMERY: Final = MECHANISMS[0x1056]  # CKM_EC_MONTGOMERY_KEY_PAIR_GEN
_CURVE_OIDS: Final = {
    "ed25519": ED25519_OID,
    "ed448": ED448_OID,
    "x25519": X25519_OID,
    "x448": X448_OID,
}
_PARAMETER_SETS: Final = {
    one.name.lower().replace("_", "-"): one for one in (*MLDSAParameterSet, *MLKEMParameterSet)
}
_KEY_TYPES: Final = {  # the last is the one whose failure is told
    "rsa": (KeyType.RSA,),
    "ec": (KeyType.EC,),
    "ed25519": (KeyType.EC_EDWARDS,),
    "ed448": (KeyType.EC_EDWARDS,),
    "x25519": (KeyType.EC_EDWARDS, KeyType.EC),  # SoftHSM; old NSS; elsewhere CKK_EC_MONTGOMERY
    "x448": (KeyType.EC_EDWARDS,),
    **{name: (KeyType[name.upper().replace("-", "_")[:6]],) for name in _PARAMETER_SETS},
}
_PROTECTED: Final = {
    Attribute.TOKEN: True,
    Attribute.PRIVATE: True,
    Attribute.SENSITIVE: True,
    Attribute.EXTRACTABLE: False,
}


def generate_key(
    token: Token,
    label: str,
    spec: KeySpec,
    usage: KeyUsage | None = None,
    *,
    key_id: bytes | None = None,
) -> KeyInfo:
    """Generate a key pair on the token: private, sensitive, not extractable, and only for the asked usages.

    Args:
        token: A token opened with `read_write`.
        label: CKA_LABEL, not yet used by a key.
        spec: The type of key.
        usage: What it is for; None to sign, or, where such keys cannot, to decrypt. To decrypt means key
            agreement for EC keys and decapsulation for ML-KEM.
        key_id: CKA_ID; None for the SHA-1 of the public key (RFC 5280 section 4.2.1.2, method 1), which is
            the subject key identifier of its certificates.

    Raises:
        UsageError: The label or id is taken or empty, the key type cannot do the usage, or the token is open
            only for reading.
        MechanismError: The token does not make such keys.
        WeakKeyError: The token made a key that is not protected as asked; it has been deleted again.
    """
    if not label:
        raise UsageError("a key needs a label")
    usage = usage or spec.usages[0]
    if usage not in spec.usages:
        other = "x25519 to decrypt" if usage.decrypts else "ed25519 to sign"
        only = spec.usages[0].value
        raise UsageError(f"{spec} keys only {only}", hint=f"use rsa:3072, ec:p256 or {other}")
    known = capabilities(token)
    _require_able(known, spec, usage)
    kinds = _KEY_TYPES[spec.algorithm]
    if spec.algorithm in ("x25519", "x448") and _MONTGOMERY.name in known.mechanisms:
        kinds = (EC_MONTGOMERY,)
    templates = _templates(spec, usage)
    if known.has(Quirk.BARE_PUBLIC_TEMPLATE):
        templates[0].update(dict.fromkeys(_PUBLIC_USAGES, DEFAULT))
    with token.borrow(f"generate the key {label}", change=True) as session:
        there = read_keys(session, token.info)
        _require_free(there, label, key_id)
        public, private = _generate(
            session,
            spec,
            kinds,
            {Attribute.LABEL: label, Attribute.ID: key_id or secrets.token_bytes(_TEMPORARY_ID_SIZE)},
            templates,
        )
        try:
            public_key = decode(read_public_key(public))
            if public_key is None:
                raise MechanismError(  # noqa: TRY301 - the key is destroyed on this way out
                    f"the token made a key {label} whose public half cannot be read"
                )
            identifier = key_id or key_identifier(public_key)
            _require_free(there, label, identifier)
            if not key_id:
                with contextlib.suppress(pkcs11.AttributeReadOnly):  # the token names its keys itself
                    private[Attribute.ID] = identifier
                    public[Attribute.ID] = identifier
            made = next(key for key in read_keys(session, token.info) if key.label == label)
            report = examine(replace(made, local=True))  # known better than NSS, which denies it
            if report.weak:
                raise WeakKeyError(  # noqa: TRY301 - as above
                    f"the token made a key {label} that is not protected: {report.reasons}",
                    hint="do not keep keys on this token",
                )
        except BaseException:
            for half in (private, public):
                with contextlib.suppress(PKCS11Error):
                    half.destroy()
            raise
        return made


def _require_free(there: list[KeyInfo], label: str, key_id: bytes | None) -> None:
    for key in there:
        if key.label == label:
            raise UsageError(f"there is a key {label} already: {key.uri}", hint="choose another label")
        if key_id and key.id == key_id:
            raise UsageError(
                f"the id {key_id.hex()} is that of another key: {key.uri}", hint="choose another id"
            )


def _require_able(known: Capabilities, spec: KeySpec, usage: KeyUsage) -> None:
    """Refuse a key that the token could make, or fail to make, and not use."""
    if usage.decrypts and spec.algorithm == "ec" and not any(map(known.lists, _AGREEMENTS)):
        lacking = " and ".join(f"CKM_{name}" for name in _AGREEMENTS)
        raise MechanismError(
            f"the token does not agree on secrets with EC keys: it lacks {lacking}",
            hint="use an RSA key to decrypt",
        )


def _generate(
    session: Session,
    spec: KeySpec,
    kinds: tuple[KeyType, ...],
    names: dict[Attribute, Any],
    templates: tuple[dict[Attribute, Any], dict[Attribute, Any]],
) -> tuple[PublicKey, PrivateKey]:
    """Say of each usage whether it is allowed; a token that refuses that is told the essential ones."""
    public, private = (names | template for template in templates)
    try:
        return _generate_pair(session, spec.bits, kinds, public, private)
    except _TEMPLATE_REFUSED:
        public = {name: value if value is not False else DEFAULT for name, value in public.items()}
        essential = (*_PROTECTED, Attribute.SIGN, Attribute.DECRYPT)
        private = {
            name: value if value is not False or name in essential else DEFAULT
            for name, value in private.items()
        }
        return _generate_pair(session, spec.bits, kinds, public, private)


def _templates(spec: KeySpec, usage: KeyUsage) -> tuple[dict[Attribute, Any], dict[Attribute, Any]]:
    signs, decrypts = usage.signs, usage.decrypts and spec.algorithm == "rsa"
    encapsulates = spec.algorithm.startswith("ml-kem")
    agrees = usage.decrypts and not decrypts and not encapsulates
    public: dict[Attribute, Any] = {
        Attribute.TOKEN: True,
        Attribute.PRIVATE: False,
        Attribute.VERIFY: signs,
        Attribute.VERIFY_RECOVER: False,
        Attribute.ENCRYPT: decrypts,
        Attribute.WRAP: False,
        Attribute.DERIVE: agrees,
    }
    if spec.curve:
        public[Attribute.EC_PARAMS] = ec_parameters(spec.curve.oid)
    if spec.algorithm in _CURVE_OIDS:
        public[Attribute.EC_PARAMS] = ec_parameters(_CURVE_OIDS[spec.algorithm])
    if spec.algorithm in _PARAMETER_SETS:
        public[Attribute.PARAMETER_SET] = _PARAMETER_SETS[spec.algorithm]
    private = _PROTECTED | {
        Attribute.SIGN: signs,
        Attribute.SIGN_RECOVER: False,
        Attribute.DECRYPT: decrypts,
        Attribute.UNWRAP: False,
        Attribute.DERIVE: agrees,
    }
    return public, private


def _generate_pair(
    session: Session,
    bits: int,
    kinds: tuple[KeyType, ...],
    public: dict[Attribute, Any],
    private: dict[Attribute, Any],
) -> tuple[PublicKey, PrivateKey]:
    *others, last = kinds

    def generate(kind: KeyType) -> tuple[PublicKey, PrivateKey]:
        return session.binding.generate_keypair(
            kind,
            bits or None,
            mechanism=_MONTGOMERY if kind is EC_MONTGOMERY else None,
            store=True,
            capabilities=MechanismFlag(0),  # the templates say it
            public_template=public,
            private_template=private,
        )

    for kind in others:
        with contextlib.suppress(*_KEY_TYPE_REFUSED):
            return generate(kind)
    return generate(last)
