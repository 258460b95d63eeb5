"""What a module itself says to that which tokensign refuses: asked directly, without tokensign's choices.

So a thing counts as unsupported because the module said so, and not because tokensign did not try it. Each
function raises `AssertionError` when it turns out that the module can.
"""

from __future__ import annotations

import contextlib
import ctypes
import re
from typing import TYPE_CHECKING, Any, Final

from asn1crypto.core import ObjectIdentifier
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from pkcs11.constants import DEFAULT, Attribute, MechanismFlag, ObjectClass
from pkcs11.exceptions import PKCS11Error
from pkcs11.mechanisms import KDF, KeyType, Mechanism, MLDSAParameterSet, MLKEMParameterSet

from tokensign.token import cryptoki
from tokensign.token.mechanisms import signing_plans

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pkcs11 import PrivateKey, PublicKey

    from tokensign.algorithms import KeySpec, SignatureScheme
    from tokensign.token import Token, TokenKey
    from tokensign.token.session import Session

__all__ = ["ASKED", "answer_to", "generation_answer", "name_of", "secret_key_answer", "signing_answer"]

ASKED: Final = "asked"
"""The label of a key that a module was asked for. A TPM does not let it go again when its use failed."""

_PUBLIC_USAGES: Final = (Attribute.VERIFY, Attribute.ENCRYPT, Attribute.WRAP)
_SIGNATURE_ROOM: Final = 8192  # octets, more than any signature has
_MONTGOMERY: Final = cryptoki.MECHANISMS[0x1056]
_KINDS: Final[dict[str, tuple[KeyType, ...]]] = {
    "rsa": (KeyType.RSA,),
    "ec": (KeyType.EC,),
    "ed25519": (KeyType.EC_EDWARDS,),
    "ed448": (KeyType.EC_EDWARDS,),
    "x25519": (KeyType.EC_EDWARDS, cryptoki.EC_MONTGOMERY),
    "x448": (KeyType.EC_EDWARDS, cryptoki.EC_MONTGOMERY),
    "ml-dsa": (KeyType.ML_DSA,),
    "ml-kem": (KeyType.ML_KEM,),
}
_CURVE_OIDS: Final = {  # RFC 8410 section 3
    "x25519": "1.3.101.110",
    "x448": "1.3.101.111",
    "ed25519": "1.3.101.112",
    "ed448": "1.3.101.113",
}
_PARAMETER_SETS: Final = {
    one.name.lower().replace("_", "-"): one for one in (*MLDSAParameterSet, *MLKEMParameterSet)
}


def name_of(error: PKCS11Error) -> str:
    """A return code as PKCS#11 has it: "CKR_MECHANISM_INVALID"."""
    if number := re.search(r"0x[0-9a-f]+", str(error)):
        error = cryptoki.error(int(number[0], 16))
    name = type(error).__name__
    if type(error).__module__ == cryptoki.__name__:
        name = name.removesuffix("Error")
    return "CKR_" + re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).upper()


def answer_to(error: BaseException) -> str | None:
    """The return code behind an error of tokensign, or None where the module was not asked."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, PKCS11Error):
            return name_of(cause)
        cause = cause.__cause__ or cause.__context__
    return None


def generation_answer(token: Token, spec: KeySpec, *, signs: bool) -> str:
    """Why a module does not make a key of a type, or makes it and cannot use it.

    Args:
        token: A token opened with `read_write`.
        spec: The type.
        signs: Whether it is to sign; otherwise it is to decrypt, agree or decapsulate.
    """
    algorithm = spec.algorithm if spec.algorithm in _KINDS else spec.algorithm[:6]
    said: list[str] = []
    for kind in _KINDS[algorithm]:
        with token.borrow("ask the module for a key", change=True) as session:
            try:
                public, private = _pair(session, kind, spec, signs=signs)
            except PKCS11Error as refusal:
                said.append(f"C_GenerateKeyPair: {name_of(refusal)}")
                continue
            with _destroyed(public, private):
                said.append(_use_answer(token, session, spec, private, signs=signs))
            token.connection.renew(session)
    return said[-1]


def _pair(session: Session, kind: KeyType, spec: KeySpec, *, signs: bool) -> tuple[PublicKey, PrivateKey]:
    """C_GenerateKeyPair with as few words as can be, for a key that is gone with its session."""
    public: dict[Attribute, Any] = dict.fromkeys(_PUBLIC_USAGES, DEFAULT)
    if spec.curve:
        public[Attribute.EC_PARAMS] = ObjectIdentifier(spec.curve.oid).dump()
    if spec.algorithm in _CURVE_OIDS:
        public[Attribute.EC_PARAMS] = ObjectIdentifier(_CURVE_OIDS[spec.algorithm]).dump()
    if spec.algorithm in _PARAMETER_SETS:
        public[Attribute.PARAMETER_SET] = _PARAMETER_SETS[spec.algorithm]
    private: dict[Attribute, Any] = {}
    if signs or spec.curve:  # a TPM makes no EC keys but those that sign
        private[Attribute.SIGN] = True
    if not signs:
        private[Attribute.DECRYPT if spec.algorithm == "rsa" else Attribute.DERIVE] = True
    return session.binding.generate_keypair(
        kind,
        spec.bits or None,
        mechanism=_MONTGOMERY if kind is cryptoki.EC_MONTGOMERY else None,
        store=True,  # some modules make no others
        label=ASKED,
        capabilities=MechanismFlag(0),
        public_template=public,
        private_template=private,
    )


def _use_answer(token: Token, session: Session, spec: KeySpec, private: PrivateKey, *, signs: bool) -> str:
    """What the module says to the use of a key that it made."""
    if signs and spec.curve:
        made = cryptoki.mechanism(Mechanism.ECDSA)
        code = _sign(token, session, made, int(private.handle), bytes(spec.curve.digest.size))  # type: ignore[arg-type]
        assert code, f"the module makes keys {spec} and signs with them"
        return f"C_Sign: {name_of(cryptoki.error(code))}"
    if spec.curve:
        return _derivation_answer(spec, private)
    raise AssertionError(f"the module makes keys {spec}")


def _derivation_answer(spec: KeySpec, private: Any) -> str:  # noqa: ANN401 - what it can is seen at run time
    assert spec.curve
    peer = ec.generate_private_key(spec.curve.primitive()).public_key()
    point = peer.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    try:
        private.derive_key(
            KeyType.GENERIC_SECRET,
            spec.curve.bits,
            mechanism=Mechanism.ECDH1_DERIVE,
            mechanism_param=(KDF.NULL, None, point),
            store=False,
        )
    except PKCS11Error as refusal:
        return f"C_DeriveKey: {name_of(refusal)}"
    raise AssertionError(f"the module agrees on secrets with keys {spec}")


def secret_key_answer(token: Token) -> str:
    """Why a module makes no AES keys."""
    with token.borrow("ask the module for a key", change=True) as session:
        try:
            session.binding.generate_key(
                KeyType.AES, 256, store=False, capabilities=MechanismFlag(0)
            ).destroy()
        except PKCS11Error as refusal:
            return f"C_GenerateKey: {name_of(refusal)}"
    raise AssertionError("the module makes AES keys")


def signing_answer(key: TokenKey, message: bytes, scheme: SignatureScheme) -> str:
    """Why a module does not sign with a scheme, in any way that there is."""
    token, said = key.token, []
    hash_value = scheme.digest.new(message).digest()
    for plan in signing_plans(scheme, getattr(key.public_key, "key_size", 0)):
        block = message if plan.hashes or not scheme.prehashed else plan.prefix + hash_value
        if plan.encode:
            block = plan.encode(hash_value)
        with token.borrow("ask the module for a signature") as session:
            code = _sign(token, session, plan.mechanism, _handle(session, key), block[: plan.maximum])
            token.connection.renew(session)  # an operation may have begun
        assert code, f"the module signs with {scheme}: {plan.way}"
        said.append(f"CKM_{plan.name}: {name_of(cryptoki.error(code))}")
    return ", ".join(said)


def _handle(session: Session, key: TokenKey) -> int:
    (found,) = session.find({Attribute.CLASS: ObjectClass.PRIVATE_KEY, Attribute.ID: key.info.id})
    return int(found.handle)  # type: ignore[arg-type]


def _sign(token: Token, session: Session, made: cryptoki.CkMechanism, key: int, data: bytes) -> int:
    """C_SignInit and C_Sign; the return code of the first that fails."""
    functions: Any = token.module.functions
    signature = ctypes.create_string_buffer(_SIGNATURE_ROOM)
    calls: tuple[Callable[[], int], ...] = (
        lambda: functions.C_SignInit(session.handle, made, key),
        lambda: functions.C_Sign(session.handle, data, len(data), signature, ctypes.c_ulong(_SIGNATURE_ROOM)),
    )
    return next((code for call in calls if (code := call())), 0)


@contextlib.contextmanager
def _destroyed(*halves: PublicKey | PrivateKey) -> Iterator[None]:
    """Let no key stay that was made to ask."""
    try:
        yield
    finally:
        for half in halves:
            with contextlib.suppress(PKCS11Error):
                half.destroy()
