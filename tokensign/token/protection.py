"""Whether a key is protected as a token key must be, proved attribute by attribute."""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tokensign.algorithms import CURVES, RSA_MINIMUM_BITS
from tokensign.errors import WeakKeyError
from tokensign.token.choosing import find_private_or_secret_key
from tokensign.token.objects import KeyInfo

if TYPE_CHECKING:
    from tokensign.certificates import Certificate
    from tokensign.token.opening import Token
    from tokensign.uri import KeyUri

__all__ = ["Finding", "ProtectionReport", "Verdict", "check_key", "examine"]


class Verdict(enum.Enum):
    """What an attribute means for the protection of the key."""

    OK = "ok"
    WEAK = "weak"
    UNKNOWN = "unknown"
    """The token does not say."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One attribute of a key.

    Attributes:
        name: PKCS#11's name, "CKA_SENSITIVE"; or "size" or "usages".
        value: What the token says, as text.
        verdict: What it means.
        reason: Why.
    """

    name: str
    value: str
    verdict: Verdict
    reason: str


@dataclass(frozen=True, slots=True)
class ProtectionReport:
    """All that is known about the protection of a key.

    Attributes:
        key: The key.
        findings: One for each attribute.
    """

    key: KeyInfo
    findings: tuple[Finding, ...]

    @property
    def weak(self) -> bool:
        """Whether at least one attribute leaves the key unprotected."""
        return any(finding.verdict is Verdict.WEAK for finding in self.findings)

    @property
    def reasons(self) -> str:
        """Why it is weak, in one line."""
        return "; ".join(finding.reason for finding in self.findings if finding.verdict is Verdict.WEAK)

    def require_strong(self) -> None:
        """Refuse a weak key.

        Raises:
            WeakKeyError: It is weak; the message says why.
        """
        if self.weak:
            raise WeakKeyError(
                f"the key {self.key.label} is not protected as it must be: {self.reasons}",
                hint="generate a new key with `tokensign key generate` and replace this one",
            )

    @property
    def non_extractable(self) -> bool:
        """Whether the token says that the key was born there and can never have left.

        CKA_LOCAL is not asked: NSS denies it of every key. What C_CreateObject or C_UnwrapKey brought to a
        token is neither always sensitive nor never extractable (their descriptions in PKCS #11 3.1).
        """
        return not self._doubts

    def require_non_extractable(self) -> None:
        """Refuse a key that is not `non_extractable`.

        Raises:
            WeakKeyError: It may have left or may leave, or the token does not say; the message says why.
        """
        if self._doubts:
            raise WeakKeyError(
                f"the key {self.key.label} is refused, it may exist outside of the token: "
                f"{', '.join(self._doubts)}",
                hint="use a key that was generated on the token, or turn off require-non-extractable",
            )

    @property
    def _doubts(self) -> list[str]:
        return [
            f"{finding.name} is {finding.value}"
            for finding in self.findings
            if finding.name in _NON_EXTRACTABLE and finding.verdict is not Verdict.OK
        ]


_RULES: Final = (  # attribute, the value that protects, what that means, what the other value means
    (
        "sensitive", True,
        "its value cannot be read",
        "its value can be read from the token in the clear",
    ),
    (
        "extractable", False,
        "it cannot leave the token",
        "it can be wrapped and taken off the token",
    ),
    (
        "always_sensitive", True,
        "its value could never be read",
        "its value could be read once, or the key was not born on the token",
    ),
    (
        "never_extractable", True,
        "it could never leave the token",
        "it could leave the token once, or was not born on it",
    ),
    (
        "private", True,
        "it is seen only after login",
        "it can be used without a PIN",
    ),
    (
        "local", True,
        "it was generated on the token",
        "it was imported, so a copy may exist elsewhere",
    ),
)  # fmt: skip

_NON_EXTRACTABLE: Final = frozenset(
    {"CKA_SENSITIVE", "CKA_EXTRACTABLE", "CKA_ALWAYS_SENSITIVE", "CKA_NEVER_EXTRACTABLE"}
)
_PURPOSES: Final = {  # of usages, where they have another name
    "sign-recover": "sign",
    "verify": "sign",
    "encrypt": "decrypt",
    "decapsulate": "decrypt",
    "wrap": "unwrap",
}


def check_key(token: Token, name: str | KeyUri | Certificate | KeyInfo) -> ProtectionReport:
    """Examine the protection of a private or AES key.

    Args:
        token: An open token.
        name: The key, as for `find_private_or_secret_key`.

    Raises:
        KeyNotFoundError: There is no such key.
        AmbiguousNameError: Several fit.
    """
    return examine(name if isinstance(name, KeyInfo) else find_private_or_secret_key(token, name))


def examine(key: KeyInfo) -> ProtectionReport:
    """The report on a key whose attributes were read."""
    findings = [
        _judge(f"CKA_{attribute.upper()}", getattr(key, attribute), good, because, otherwise)
        for attribute, good, because, otherwise in _RULES
    ]
    findings.append(
        _judge(
            "CKA_MODIFIABLE",
            key.modifiable,
            key.modifiable,
            "label and id can be changed, the protection cannot be lowered"
            if key.modifiable
            else "it is fixed",
            "",
        )
    )
    if not key.secret:
        findings.append(
            _judge(
                "CKA_ALWAYS_AUTHENTICATE",
                key.always_authenticate,
                key.always_authenticate,
                "each operation needs the PIN"
                if key.always_authenticate
                else "one login serves all operations",
                "",
            )
        )
    findings.append(_usages(key))
    findings.append(_size(key))
    if _is_card_authentication_key(key):
        findings = [_NEEDS_NO_PIN if one.name == "CKA_PRIVATE" else one for one in findings]
    return ProtectionReport(key, tuple(findings))


_NEEDS_NO_PIN: Final = Finding(
    "CKA_PRIVATE",
    "false",
    Verdict.OK,
    "it can be used without a PIN, as the card authentication key of a PIV card must be",
)


def _is_card_authentication_key(key: KeyInfo) -> bool:
    """Whether it is the key in slot 9E of a PIV card, as OpenSC shows it, and needs no PIN.

    It proves to a door that the card is there, and its holder does nothing for it (FIPS 201-3 section
    4.2.2.2).
    """
    return key.private is False and key.id == b"\4" and key.uri.manufacturer == "piv_II"


def _judge(name: str, value: bool | None, good: bool | None, because: str, otherwise: str) -> Finding:  # noqa: FBT001 - values of attributes
    if value is None:
        return Finding(name, "unknown", Verdict.UNKNOWN, "the token does not say")
    text = str(value).lower()
    return (
        Finding(name, text, Verdict.OK, because)
        if value is good
        else Finding(name, text, Verdict.WEAK, otherwise)
    )


def _usages(key: KeyInfo) -> Finding:
    text = ", ".join(sorted(key.usages)) or "none"
    if not key.usages:
        return Finding("usages", text, Verdict.UNKNOWN, "the token allows nothing, or does not say what")
    several = len({_PURPOSES.get(usage, usage) for usage in key.usages}) > 1
    return Finding(
        "usages", text, Verdict.OK, "it serves several purposes" if several else "it serves one purpose"
    )


def _size(key: KeyInfo) -> Finding:
    algorithm, _, parameter = key.spec.partition(":")
    if algorithm == "rsa":
        if int(parameter) < RSA_MINIMUM_BITS:
            reason = f"RSA keys of less than {RSA_MINIMUM_BITS} bits can be broken"
            return Finding("size", key.spec, Verdict.WEAK, reason)
        return Finding("size", key.spec, Verdict.OK, "it is long enough")
    if key.spec in ("ed25519", "ed448", "x25519", "x448") or (algorithm == "ec" and parameter in CURVES):
        return Finding("size", key.spec, Verdict.OK, "it is a strong curve")
    if algorithm == "aes" and parameter.isdecimal():
        return Finding("size", key.spec, Verdict.OK, "it is long enough")
    if re.fullmatch("ml-(dsa|kem)-[0-9]+", key.spec):
        return Finding("size", key.spec, Verdict.OK, "it withstands quantum computers, too")
    return Finding("size", key.spec, Verdict.UNKNOWN, "this type of key is not judged here")
