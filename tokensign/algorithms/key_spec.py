"""Types of keys to generate, and what each is for."""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass
from typing import Final, Literal, get_args

from tokensign.algorithms.key_types import CURVES, RSA_MINIMUM_BITS, Curve
from tokensign.errors import UsageError

__all__ = [
    "GENERATED_RSA_MAXIMUM_BITS",
    "KeySpec",
    "KeyUsage",
    "PlainKeyType",
]

GENERATED_RSA_MAXIMUM_BITS: Final = 8192  # a token takes minutes for more


class KeyUsage(enum.Enum):
    """What a key is generated for."""

    SIGN = "sign"
    DECRYPT = "decrypt"
    BOTH = "both"

    @property
    def signs(self) -> bool:
        """Whether signatures are asked for."""
        return self is not KeyUsage.DECRYPT

    @property
    def decrypts(self) -> bool:
        """Whether decryption or key agreement is asked for."""
        return self is not KeyUsage.SIGN


PlainKeyType = Literal[
    "ed25519", "ed448", "x25519", "x448", "ml-dsa-44", "ml-dsa-65", "ml-dsa-87", "ml-kem-768", "ml-kem-1024"
]
_PLAIN_KEY_TYPES: Final[dict[str, PlainKeyType]] = {name: name for name in get_args(PlainKeyType)}


@dataclass(frozen=True, slots=True)
class KeySpec:
    """A type of key to generate.

    Attributes:
        algorithm: "rsa", "ec", or the whole name of a type without a parameter, such as "x25519".
        bits: RSA modulus size in bits; 0 for the others.
        curve: The curve of an EC key, else None.
    """

    algorithm: Literal["rsa", "ec"] | PlainKeyType
    bits: int = 0
    curve: Curve | None = None

    @classmethod
    def parse(cls, text: str) -> KeySpec:
        """Read "rsa:3072", "ec:p256", "ed25519", "x25519", "ml-dsa-65", "ml-kem-768" and the like.

        Raises:
            UsageError: Not a key type, or a size that is not offered.
        """
        algorithm, _, parameter = text.lower().partition(":")
        match algorithm:
            case "rsa" if re.fullmatch(r"[0-9]{1,5}", parameter or "3072"):
                bits = int(parameter or "3072")
                if not RSA_MINIMUM_BITS <= bits <= GENERATED_RSA_MAXIMUM_BITS or bits % 8:
                    raise UsageError(
                        f"RSA keys of {bits} bits are not generated",
                        hint=f"use a multiple of 8 from {RSA_MINIMUM_BITS} to {GENERATED_RSA_MAXIMUM_BITS}",
                    )
                return cls("rsa", bits=bits)
            case "ec" if (parameter or "p256").replace("-", "") in CURVES:
                return cls("ec", curve=CURVES[(parameter or "p256").replace("-", "")])
            case _ if text.lower() in _PLAIN_KEY_TYPES:
                return cls(_PLAIN_KEY_TYPES[text.lower()])
            case _:
                raise UsageError(
                    f"{text!r} is not a key type that can be generated",
                    hint=f"use rsa:3072, rsa:4096, ec:p256, ec:p384, ec:p521, {', '.join(_PLAIN_KEY_TYPES)}",
                )

    @property
    def usages(self) -> tuple[KeyUsage, ...]:
        """What such a key can be used for, its usual purpose first."""
        if self.algorithm in ("rsa", "ec"):
            return tuple(KeyUsage)
        signs = self.algorithm in ("ed25519", "ed448") or self.algorithm.startswith("ml-dsa")
        return (KeyUsage.SIGN,) if signs else (KeyUsage.DECRYPT,)

    def __str__(self) -> str:
        if self.algorithm == "rsa":
            return f"rsa:{self.bits}"
        return f"ec:{self.curve.name}" if self.curve else self.algorithm
