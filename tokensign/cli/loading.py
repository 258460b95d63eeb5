"""Where commands load a PKCS#11 module: in a child process, with a limit for its answers."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from tokensign.cli.command import Cli
    from tokensign.token import Module

__all__ = ["load"]


def load(cli: Cli, path: Path | str | None) -> Module:
    """Load a PKCS#11 module, which a parent process watches from then on.

    Args:
        cli: The common options.
        path: As for `tokensign.token.find_module`.

    Raises:
        ModuleError: It is not there or cannot be loaded.
        ConfigurationError: The limit is no number.
    """
    from tokensign.cli.supervisor import supervise
    from tokensign.settings import token_timeout
    from tokensign.token import find_module, load_module
    from tokensign.token.deadlines import OPERATION_TIMEOUT

    timeout = token_timeout(os.environ.get("TOKENSIGN_TOKEN_TIMEOUT")) or cli.settings.token_timeout
    found = find_module(path)
    supervise(found, as_json=cli.json)
    return load_module(found, timeout or OPERATION_TIMEOUT)
