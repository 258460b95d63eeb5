"""Signatures by a private key on a token."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, mldsa, rsa

from tokensign.algorithms import default_scheme
from tokensign.errors import MechanismError
from tokensign.token.cryptoki import NOT_ABLE, error
from tokensign.token.failures import describe
from tokensign.token.mechanisms import ecdsa_sig_value, signing_plans

if TYPE_CHECKING:
    from tokensign.algorithms import SignatureScheme
    from tokensign.token.capabilities import Ability
    from tokensign.token.key_access import KeyAccess
    from tokensign.token.mechanisms import SigningPlan

__all__ = ["Signing"]

_FAMILIES: Final[dict[str, Any]] = {
    "rsa-pkcs1": rsa.RSAPublicKey,
    "rsa-pss": rsa.RSAPublicKey,
    "ecdsa": ec.EllipticCurvePublicKey,
    "eddsa": (ed25519.Ed25519PublicKey, ed448.Ed448PublicKey),
    "ml-dsa": (mldsa.MLDSA44PublicKey, mldsa.MLDSA65PublicKey, mldsa.MLDSA87PublicKey),
}


class Signing:
    """The signing operation of a private key. Safe for threads.

    Args:
        access: The key.
    """

    def __init__(self, access: KeyAccess) -> None:
        self._access = access
        self._functions = access.token.module.functions
        self._plans: dict[tuple[str, str, str], tuple[SigningPlan, ...]] = {}
        self._signing = f"sign with the key {access.info.label}"

    def sign(self, data: bytes, scheme: SignatureScheme, message: bytes | None = None) -> bytes:
        """Sign in the first way that works, which is the only one from then on.

        Args:
            data: The hash value, or the message where the scheme does not hash it before.
            scheme: The scheme.
            message: The message where it is known, for tokens that want to hash it.
        """
        settled = self._plans.get(_question(scheme))
        plans = settled or self._find_plans(scheme)
        pin = self._access.operation_pin(self._signing) if self._access.info.always_authenticate else None
        with self._access.borrow(self._signing, pin) as session:
            refusal = 0
            for plan in plans:
                if plan.hashes and message is None:
                    continue
                code = self._access.begin(self._functions.C_SignInit, session, plan.mechanism, pin)
                begun = not code
                if begun:
                    block = _block(plan, data, message)
                    if plan.size:
                        session.size.value = plan.size
                    code = self._functions.C_Sign(
                        session.handle, block, len(block), session.output, session.size
                    )
                if not code:
                    if not settled:
                        self._settle(scheme, plan, plans)
                    signature = session.take_output()
                    return ecdsa_sig_value(signature) if plan.encode_pair else signature
                if code not in NOT_ABLE or (begun and self._access.info.always_authenticate):
                    raise error(code)
                refusal = refusal or code
            if refusal:
                self._access.capabilities.show("sign", str(scheme), describe(error(refusal)), possible=False)
                raise error(refusal)
        raise MechanismError(
            f"the token signs with {scheme} only what it hashes itself, not a hash value made before",
            hint="give it the message: `sign` instead of `sign_digest`",
        )

    def try_scheme(self, scheme: SignatureScheme) -> Ability:
        """See in which way the token would sign, without a signature or a PIN for it.

        Raises:
            TokenError: The token, its login or the key is gone.
        """
        known, name = self._access.capabilities, str(scheme)
        try:
            plans = self._find_plans(scheme)
        except MechanismError as failure:
            return known.show("sign", name, failure.message, possible=False)
        with self._access.token.borrow(self._signing) as session:
            refusal = 0
            for plan in plans:
                code = self._access.initialize(self._functions.C_SignInit, session, plan.mechanism)
                if not code:  # the operation that has begun ends with its session
                    self._access.token.connection.renew(session)
                    return known.show("sign", name, plan.way)
                if code not in NOT_ABLE:
                    raise error(code)
                refusal = refusal or code
            return known.show("sign", name, describe(error(refusal)), possible=False)

    def _find_plans(self, scheme: SignatureScheme) -> tuple[SigningPlan, ...]:
        """The ways to sign with a scheme that may work, or the one that is known to."""
        info, known = self._access.info, self._access.capabilities
        if not isinstance(info.public_key, _FAMILIES[scheme.family]):
            raise MechanismError(f"the key {info.label} ({info.spec}) does not sign with {scheme.family}")
        if scheme.parameter_set and scheme.parameter_set != info.spec:
            raise MechanismError(
                f"the key {info.label} ({info.spec}) does not sign with {scheme.parameter_set}"
            )
        if scheme.family == "eddsa" and scheme != default_scheme(info.public_key):
            raise MechanismError(f"the key {info.label} ({info.spec}) does not sign with {scheme}")
        found: Any = known.recall((self._access.name, _question(scheme)))
        plans: tuple[SigningPlan, ...] = found or known.plans(
            scheme, self._access.bits, decrypts="decrypt" in info.usages
        )
        if not plans:
            lacking = " or ".join(f"CKM_{plan.name}" for plan in signing_plans(scheme, self._access.bits))
            raise MechanismError(
                f"the token {self._access.token.info.label} cannot sign with {scheme}: it needs {lacking}",
                hint="`tokensign doctor` shows what the token can do",
            )
        return plans

    def _settle(self, scheme: SignatureScheme, plan: SigningPlan, plans: tuple[SigningPlan, ...]) -> None:
        """Remember the way that worked; beside one that needs the message, those that do not."""
        others = (one for one in plans if plan.hashes and not one.hashes)
        known, question = self._access.capabilities, _question(scheme)
        self._plans[question] = known.remember((self._access.name, question), (plan, *others))
        known.show("sign", str(scheme), plan.way)


def _question(scheme: SignatureScheme) -> tuple[str, str, str]:
    """What a scheme is known by: its own hash value costs more."""
    return scheme.family, scheme.digest.name, scheme.parameter_set


def _block(plan: SigningPlan, data: bytes, message: bytes | None) -> bytes:
    """What C_Sign gets."""
    if plan.maximum is not None:
        return data[: plan.maximum]
    if plan.prefix:
        return plan.prefix + data
    if plan.hashes and message is not None:
        return message
    return plan.encode(data) if plan.encode else data
