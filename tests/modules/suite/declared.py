"""What each module is known not to do. The suite tries it all the same, and this list must be the truth."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final

from tests.modules.suite.cells import State

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from tests.modules.suite.cells import Cell

__all__ = ["COLUMNS", "UNSUPPORTED", "contradictions", "merged"]

COLUMNS: Final[dict[str, tuple[str, ...]]] = {
    "SoftHSM": ("softhsm",),
    "NSS": ("nss",),
    "TPM 2.0": ("tpm",),
    "opencryptoki": ("opencryptoki",),
    "PIV card": ("piv", "piv-ec"),  # no card has keys of all types
    "p11-kit-proxy": ("p11-kit-proxy",),
}
"""The columns of the table, and the modules in each, by their names in `tests.modules.registry`."""

_NO_POST_QUANTUM: Final = {"*ml-dsa-*": "CKR_MECHANISM_INVALID", "*ml-kem-*": "CKR_MECHANISM_INVALID"}
_NO_FLAG: Final = {"PIN: the last try is refused *": "CKF_USER_PIN_FINAL_TRY is not set"}
_NEVER_LOCKS: Final = {**_NO_FLAG, "PIN: a locked one is told*": "CKR_PIN_INCORRECT after"}
_STAYS: Final = {"Removal: *": "no way to pull"}
_SOFTHSM: Final = {**_NO_POST_QUANTUM, **_NEVER_LOCKS}

UNSUPPORTED: Final[dict[str, dict[str, str]]] = {
    "SoftHSM": _SOFTHSM,
    "NSS": {
        "*x448": "CKR_DOMAIN_PARAMS_INVALID",
        "*ed448": "CKR_DOMAIN_PARAMS_INVALID",
        "Keys that want the PIN each time: no operation *": "C_Sign: CKR_OK",
        "PIN: unblock *": "CKR_USER_TYPE_INVALID",
        **_NEVER_LOCKS,
        **_STAYS,
    },
    "TPM 2.0": {
        **_NO_POST_QUANTUM,
        "*signatures: ed*": "CKR_MECHANISM_INVALID",
        "Signatures: ed*": "CKR_MECHANISM_INVALID",
        "Key generation: ed*": "CKR_MECHANISM_INVALID",
        "*x25519": "CKR_MECHANISM_INVALID",
        "*x448": "CKR_MECHANISM_INVALID",
        "Signatures: rsa-* with sha224": "CKR_GENERAL_ERROR",
        "Signatures: rsa-* with sha3_*": "CKR_GENERAL_ERROR",
        "Signatures: ecdsa with sha*224, ec:p[23]*": "CKR_GENERAL_ERROR",
        "Key generation: ec:p521": "C_Sign: CKR_HOST_MEMORY",
        "Signatures: *ec:p521": "C_Sign: CKR_HOST_MEMORY",
        "CMS signatures: ec:p521": "C_Sign: CKR_HOST_MEMORY",
        "Key generation: ec:* to decrypt": "C_DeriveKey: CKR_FUNCTION_NOT_SUPPORTED",
        "Key agreement *ec:*": "C_DeriveKey: CKR_FUNCTION_NOT_SUPPORTED",
        "*aes:*": "C_GenerateKey: CKR_FUNCTION_NOT_SUPPORTED",
        **_NO_FLAG,
        **_STAYS,
    },
    "opencryptoki": _STAYS,
    "PIV card": {
        **_NO_POST_QUANTUM,
        "Key generation: [!m]*": "CKR_FUNCTION_NOT_SUPPORTED",
        "Signatures: *ec:p521": "CKR_FUNCTION_NOT_SUPPORTED",
        "Signatures: ed*": "CKR_FUNCTION_NOT_SUPPORTED",
        "CMS signatures: ec:p521": "CKR_FUNCTION_NOT_SUPPORTED",
        "CMS signatures: ed*": "CKR_FUNCTION_NOT_SUPPORTED",
        "Key agreement *p521": "CKR_FUNCTION_NOT_SUPPORTED",
        "Key agreement *x*": "CKR_FUNCTION_NOT_SUPPORTED",
        "AES key wrap: *": "CKR_FUNCTION_NOT_SUPPORTED",
        "Keys and certificates: store *": "CKR_FUNCTION_NOT_SUPPORTED",
        "Keys and certificates: delete *": "CKR_FUNCTION_NOT_SUPPORTED",
        "PIN: unblock *": "CKR_GENERAL_ERROR",
    },
    "p11-kit-proxy": _SOFTHSM,
}
"""By column: patterns of "table: row", and what the module says to it."""


def merged(runs: Iterable[Iterable[Cell]]) -> list[Cell]:
    """The cells of several tokens of one module: what passes with one passes, what fails with one fails."""
    weight = {State.UNSUPPORTED: 0, State.PASSED: 1, State.FAILED: 2}
    found: dict[tuple[str, str], Cell] = {}
    for cell in (cell for run in runs for cell in run):
        known = found.setdefault((cell.table, cell.row), cell)
        if weight[cell.state] > weight[known.state]:
            found[cell.table, cell.row] = cell
    return list(found.values())


def contradictions(cells: Iterable[Cell], declared: Mapping[str, str]) -> Iterator[str]:
    """Where the outcomes are not as declared, in words.

    Args:
        cells: The outcomes of one module.
        declared: Of `UNSUPPORTED`.
    """
    unused = set(declared)
    for cell in cells:
        name = f"{cell.table}: {cell.row}"
        patterns = {pattern for pattern in declared if fnmatchcase(name, pattern)}
        unused -= patterns
        if cell.state is State.FAILED:
            yield f"{name}: {cell.reason}"
        elif cell.state is State.PASSED and patterns:
            yield f"{name}: works, and is declared as unsupported"
        elif cell.state is State.UNSUPPORTED and not any(declared[one] in cell.reason for one in patterns):
            yield f"{name}: unsupported, and not declared so: {cell.reason}"
    yield from (f"declared, and nothing is called so: {pattern}" for pattern in sorted(unused))
