"""What a token can do: asked once a token and process, and remembered with its connection.

Without a PIN the list of mechanisms tells what may work. What really works shows when a key is used: the
first signature of a scheme and the first decryption with a set of parameters find their way, and every
later one takes it. Nothing here costs a PIN, and a token that does not answer is taken to be able.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, TypeVar

from pkcs11.exceptions import PKCS11Error

from tokensign.algorithms import DIGESTS, ML_DSA, READ_DIGESTS, Strength, signature_scheme
from tokensign.errors import TokenRemovedError, TokensignError
from tokensign.keys import OaepTransport, Pkcs1Transport
from tokensign.token.mechanisms import signing_plans
from tokensign.token.quirks import Quirk, quirks_of

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Mapping

    from tokensign.algorithms import SignatureScheme
    from tokensign.keys import KeyTransport
    from tokensign.token.cryptoki import TokenLimits
    from tokensign.token.info import MechanismInfo
    from tokensign.token.mechanisms import SigningPlan
    from tokensign.token.opening import Token
    from tokensign.token.quirks import KnownQuirk

__all__ = [
    "OAEP_WAYS",
    "TRANSPORTS",
    "Ability",
    "Capabilities",
    "capabilities",
    "schemes_of",
    "transport_name",
]

AbilityKind = Literal["generate", "sign", "decrypt", "agree", "decapsulate", "wrap"]
T = TypeVar("T")

TRANSPORTS: Final[tuple[KeyTransport, ...]] = (  # those that are met with: RFC 8017, RFC 8551, Java
    Pkcs1Transport(),
    OaepTransport(DIGESTS["sha1"], DIGESTS["sha1"]),
    OaepTransport(DIGESTS["sha256"], DIGESTS["sha1"]),
    OaepTransport(),
    OaepTransport(label=b"label"),
    OaepTransport(DIGESTS["sha384"], DIGESTS["sha384"]),
    OaepTransport(DIGESTS["sha512"], DIGESTS["sha512"]),
)
"""The key transports that are tried and reported."""

OAEP_WAYS: Final = {  # the mechanisms that decrypt OAEP, the best first, and who does what
    "RSA_PKCS_OAEP": "CKM_RSA_PKCS_OAEP, padding removed on the token",
    "RSA_X_509": "CKM_RSA_X_509, padding removed on the host",
}
_FAMILIES: Final = {"rsa": ("rsa-pkcs1", "rsa-pss"), "ec": ("ecdsa",)}
_EDDSA: Final = {"ed25519": DIGESTS["sha512"], "ed448": READ_DIGESTS["shake256"]}
_NOMINAL_BITS: Final = 2048  # a plan's mechanism does not depend on the size of the key
_TPM_HASH_SIZES: Final = (20, 32, 48, 64)  # octets by which tpm2-pkcs11 knows a hash; see Quirk.ECDSA_SIZES
_GENERATORS: Final = {  # the mechanisms of which one makes such keys
    "rsa": ("RSA_PKCS_KEY_PAIR_GEN",),
    "ec": ("EC_KEY_PAIR_GEN",),
    "ed25519": ("EC_EDWARDS_KEY_PAIR_GEN",),
    "x25519": ("EC_MONTGOMERY_KEY_PAIR_GEN", "EC_EDWARDS_KEY_PAIR_GEN"),
    "ml-dsa": ("ML_DSA_KEY_PAIR_GEN",),
    "ml-kem": ("ML_KEM_KEY_PAIR_GEN",),
    "aes": ("AES_KEY_GEN",),
}
_OTHERS: Final[tuple[tuple[AbilityKind, str, tuple[str, ...]], ...]] = (
    ("agree", "ECDH", ("ECDH1_DERIVE", "ECDH1_COFACTOR_DERIVE")),
    ("decapsulate", "ML-KEM", ("ML_KEM",)),
    ("wrap", "AES key wrap", ("AES_KEY_WRAP",)),
    ("wrap", "AES key wrap with padding", ("AES_KEY_WRAP_KWP", "AES_KEY_WRAP_PAD")),
)


@dataclass(frozen=True, slots=True)
class Ability:
    """One thing that a token can do, or cannot.

    Attributes:
        kind: "generate", "sign", "decrypt", "agree", "decapsulate" or "wrap".
        name: What: a key type, a signature scheme, a key transport, an algorithm.
        possible: Whether it works.
        way: How; or, where it does not work, why not.
        tried: Whether a key showed it; otherwise the list of mechanisms says so.
    """

    kind: AbilityKind
    name: str
    possible: bool
    way: str
    tried: bool = False


class Capabilities:
    """What one token can do. `capabilities` gives it. Safe for threads.

    Attributes:
        mechanisms: The mechanisms by name, without "CKM_"; empty where the token does not tell them.
        limits: The sessions and the PIN lengths that the token allows; None where it does not tell.
        quirks: What is known of its module.

    Args:
        mechanisms: As above.
        limits: As above.
        quirks: As above.
    """

    def __init__(
        self,
        mechanisms: Mapping[str, MechanismInfo],
        limits: TokenLimits | None,
        quirks: tuple[KnownQuirk, ...],
    ) -> None:
        self.mechanisms = mechanisms
        self.limits = limits
        self.quirks = quirks
        self._answers: dict[Hashable, object] = {}
        self._shown: dict[tuple[AbilityKind, str], Ability] = {}

    def lists(self, mechanism: str) -> bool:
        """Whether the token has a mechanism; so it is taken where it does not tell.

        Args:
            mechanism: Its name in PKCS#11, without "CKM_".
        """
        return not self.mechanisms or mechanism in self.mechanisms

    def has(self, quirk: Quirk) -> bool:
        """Whether the module is known for a quirk."""
        return any(known.quirk is quirk for known in self.quirks)

    # --- what keys showed

    def recall(self, question: Hashable) -> object | None:
        """The answer to a question that was asked before, or None."""
        return self._answers.get(question)

    def remember(self, question: Hashable, answer: T) -> T:
        """Keep an answer, and give it back."""
        self._answers[question] = answer
        return answer

    def show(self, kind: AbilityKind, name: str, way: str, *, possible: bool = True) -> Ability:
        """Keep what a key showed; see `Ability` for the arguments."""
        ability = Ability(kind, name, possible, way, tried=True)
        self._shown[kind, name] = ability
        return ability

    def show_oaep(self, transport: OaepTransport, *, works: bool) -> None:
        """Keep which way a key takes for a key transport."""
        way = OAEP_WAYS["RSA_PKCS_OAEP" if works else "RSA_X_509"]
        self.show("decrypt", transport_name(transport), way)

    def oaep_fails(self, transport: OaepTransport) -> bool:
        """Whether the token's own OAEP is known to fail with some parameters."""
        return (bool(transport.label) and self.has(Quirk.OAEP_LABEL_FAILS)) or (
            transport.digest != transport.mgf_digest and self.has(Quirk.OAEP_SAME_HASH)
        )

    # --- the report

    @property
    def abilities(self) -> tuple[Ability, ...]:
        """All that the token can or cannot do, as far as it is known now."""
        return (
            *self.generation,
            *self.signatures,
            *self.key_transports,
            *self._others,
        )

    @property
    def generation(self) -> tuple[Ability, ...]:
        """The kinds of keys that it makes."""
        return tuple(self._listed("generate", kind, names) for kind, names in _GENERATORS.items())

    @property
    def signatures(self) -> tuple[Ability, ...]:
        """The signature schemes."""
        found = []
        for scheme in _SCHEMES:
            plans = self.plans(scheme, _NOMINAL_BITS)
            names = [plan.name for plan in signing_plans(scheme, _NOMINAL_BITS)]
            found.append(self._known("sign", str(scheme), plans[0].way if plans else None, names))
        return tuple(found)

    @property
    def key_transports(self) -> tuple[Ability, ...]:
        """The ways in which RSA keys decrypt content-encryption keys."""
        found = []
        for transport in TRANSPORTS:
            if isinstance(transport, Pkcs1Transport):
                found.append(self._listed("decrypt", transport_name(transport), ("RSA_PKCS",)))
                continue
            way = next((way for name, way in OAEP_WAYS.items() if self.lists(name)), None)
            found.append(self._known("decrypt", transport_name(transport), way, OAEP_WAYS))
        return tuple(found)

    @property
    def _others(self) -> tuple[Ability, ...]:
        """Key agreement, key encapsulation and key wrap, with what keys showed beside."""
        listed = [self._listed(kind, name, names) for kind, name, names in _OTHERS]
        kinds = {kind for kind, _, _ in _OTHERS}
        names = {ability.name for ability in listed}
        shown = [one for one in self._shown.values() if one.kind in kinds and one.name not in names]
        return (*listed, *shown)

    def plans(
        self, scheme: SignatureScheme, key_bits: int, *, decrypts: bool = True
    ) -> tuple[SigningPlan, ...]:
        """Those of `signing_plans` that may work on this token.

        Args:
            scheme: The scheme.
            key_bits: Bits of the key's size.
            decrypts: Whether the key may decrypt as well.
        """
        plans = [plan for plan in signing_plans(scheme, key_bits) if self.lists(plan.name)]
        if self.has(Quirk.RAW_RSA_DECRYPTS):
            plans = [plan for plan in plans if decrypts or plan.name not in ("RSA_PKCS", "RSA_X_509")]
        if self.has(Quirk.ECDSA_SIZES):
            sizes = [min(scheme.digest.size, plan.maximum or scheme.digest.size) for plan in plans]
            plans = [
                plan
                for plan, size in zip(plans, sizes, strict=True)
                if plan.name != "ECDSA" or size in _TPM_HASH_SIZES
            ]
        if scheme.family == "rsa-pss" and self.has(Quirk.PSS_LISTED_HASHES):
            hashing = any(plan.hashes for plan in plans)
            plans = [plan for plan in plans if hashing or plan.name != "RSA_PKCS_PSS"]
        return tuple(plans)

    def _listed(self, kind: AbilityKind, name: str, mechanisms: Iterable[str]) -> Ability:
        names = list(mechanisms)
        there = next((f"CKM_{one}" for one in names if self.lists(one)), None)
        return self._known(kind, name, there, names)

    def _known(self, kind: AbilityKind, name: str, way: str | None, mechanisms: Iterable[str]) -> Ability:
        if (kind, name) in self._shown:
            return self._shown[kind, name]
        if way:
            return Ability(kind, name, possible=True, way=way)
        lacking = " and ".join(f"CKM_{one}" for one in mechanisms)
        return Ability(kind, name, possible=False, way=f"the token lacks {lacking}")


def schemes_of(spec: str) -> tuple[SignatureScheme, ...]:
    """The schemes that keys of a type sign with.

    Args:
        spec: The type, such as "rsa:3072", "ec:p256", "ed25519" or "ml-dsa-65".
    """
    if spec in (entry.name for entry in ML_DSA.values()):
        return (signature_scheme("ml-dsa", DIGESTS["sha512"], spec),)
    if spec in _EDDSA:
        return (signature_scheme("eddsa", _EDDSA[spec]),)
    families = _FAMILIES.get(spec.partition(":")[0], ())
    digests = [entry for entry in DIGESTS.values() if entry.strength is Strength.STRONG]
    return tuple(signature_scheme(family, entry) for family in families for entry in digests)


_SCHEMES: Final = tuple(
    scheme
    for spec in ("rsa", "ec", "ed25519", *(one.name for one in ML_DSA.values()))
    for scheme in schemes_of(spec)
)


def transport_name(transport: KeyTransport) -> str:
    """A key transport in words, with its label if it has one."""
    labelled = isinstance(transport, OaepTransport) and transport.label
    return f"{transport} and a label" if labelled else str(transport)


def capabilities(token: Token) -> Capabilities:
    """What a token can do, asked once a process; needs no PIN.

    Args:
        token: An open token.

    Raises:
        TokenRemovedError: The token is gone.
    """
    remembered = token.connection.remembered
    found = remembered.get(Capabilities)
    if found is None:
        with token.borrow("ask what the token can do", public=True):
            found = remembered.setdefault(Capabilities, _ask(token))
    return found  # type: ignore[no-any-return]  # what is remembered has no type


def _ask(token: Token) -> Capabilities:
    """Ask the token; called inside of `borrow`, so that it is there."""
    slot_id = token.info.slot_id
    mechanisms: dict[str, MechanismInfo] = {}
    limits: TokenLimits | None = None
    try:
        mechanisms = {info.name: info for info in token.module.mechanisms(slot_id)}
        limits = token.module.functions.token_limits(slot_id)
    except TokenRemovedError:
        raise
    except (TokensignError, PKCS11Error):
        token.connection.require_token()  # it is there and does not tell
    return Capabilities(mechanisms, limits, quirks_of(token.module, token.info))
