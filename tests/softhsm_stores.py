"""SoftHSM for the tests: where it keeps its tokens, and keys on one of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tokensign.algorithms import KeySpec, KeyUsage
from tokensign.errors import KeyNotFoundError
from tokensign.token import generate_key, open_key

if TYPE_CHECKING:
    from pathlib import Path

    from tokensign.token import Token, TokenKey

__all__ = ["configure_softhsm", "key_of_a_type"]


def configure_softhsm(folder: Path) -> Path:
    """Write a SoftHSM configuration with a token folder of its own; the path of the file."""
    (folder / "tokens").mkdir(parents=True)
    file = folder / "softhsm2.conf"
    file.write_text(
        f"directories.tokendir = {folder / 'tokens'}\nobjectstore.backend = file\nlog.level = ERROR\n"
    )
    return file


def key_of_a_type(
    token: Token, spec: str = "ec:p256", usage: KeyUsage = KeyUsage.SIGN, name: str = "key"
) -> TokenKey:
    """A key of a type and usage, made at its first use."""
    label = f"{name}-{spec}-{usage.value}"
    try:
        return open_key(token, label)
    except KeyNotFoundError:
        return open_key(token, generate_key(token, label, KeySpec.parse(spec), usage))
