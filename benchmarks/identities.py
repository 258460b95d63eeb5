"""A throw-away SoftHSM token with certified keys."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from tokensign.algorithms import KeySpec, KeyUsage
from tokensign.pki.ca import self_signed
from tokensign.token import (
    Pin,
    generate_key,
    import_certificate,
    initialize_token,
    load_module,
    open_key,
    open_token,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tokensign.token import Token, TokenKey

__all__ = ["LABEL", "USER_PIN", "certified_key", "throwaway_token"]

LABEL = "bench"
USER_PIN = "1234-bench"


@contextlib.contextmanager
def throwaway_token() -> Iterator[Token]:
    """A fresh SoftHSM token, open for reading and writing; it is gone afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        tokens = Path(folder) / "tokens"
        tokens.mkdir()
        configuration = Path(folder) / "softhsm2.conf"
        configuration.write_text(
            f"directories.tokendir = {tokens}\nobjectstore.backend = file\nlog.level = ERROR\n"
        )
        os.environ["SOFTHSM2_CONF"] = str(configuration)
        module = load_module()
        initialize_token(module, LABEL, Pin("5678-officer"), Pin(USER_PIN))
        with open_token(module, LABEL, Pin(USER_PIN), read_write=True) as token:
            yield token


def certified_key(token: Token, spec: str, emails: Sequence[str] = ("bench@acme.example",)) -> TokenKey:
    """A new key with a self-signed certificate on the token."""
    usage = KeyUsage.BOTH if spec.startswith("rsa") else KeyUsage.SIGN
    info = generate_key(token, spec, KeySpec.parse(spec), usage)
    name = f"CN={spec.replace(':', '-')},O=Acme"
    import_certificate(token, self_signed(open_key(token, info), name, emails, usage=usage))
    return open_key(token, info)
