"""Where commands load PKCS#11 modules: in a child process, with a limit for their answers."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Final

from tokensign.errors import AmbiguousNameError, ModuleError, TokenNotFoundError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tokensign.cli.command import Cli
    from tokensign.token import Module
    from tokensign.uri import KeyUri

__all__ = ["load", "load_all", "load_module_of"]

_log: Final = logging.getLogger(__name__)


def load(cli: Cli, path: Path | str | None) -> Module:
    """Load a PKCS#11 module, which a parent process watches from then on.

    Args:
        cli: The common options.
        path: As for `tokensign.token.find_module`.

    Raises:
        ModuleError: It is not there or cannot be loaded.
        ConfigurationError: The limit is no number.
    """
    from tokensign.cli import supervisor
    from tokensign.settings import token_timeout
    from tokensign.token import find_module, load_module
    from tokensign.token.deadlines import OPERATION_TIMEOUT

    timeout = token_timeout(os.environ.get("TOKENSIGN_TOKEN_TIMEOUT")) or cli.settings.token_timeout
    found = find_module(path)
    supervisor.supervise([found], as_json=cli.json)
    return load_module(found, timeout or OPERATION_TIMEOUT)


def load_all(cli: Cli, paths: Sequence[Path]) -> list[Module]:
    """Load several modules; one that is not there or fails is passed over with a warning.

    Raises:
        ModuleError: None of them can be loaded.
    """
    from tokensign.cli import supervisor

    supervisor.supervise(paths, as_json=cli.json)  # whichever fails, all are watched by the same parent
    loaded = []
    for path in paths:
        try:
            loaded.append(load(cli, path))
        except ModuleError as error:
            _log.warning("not looked at: %s", error)
    if not loaded:
        raise ModuleError(
            f"none of the {len(paths)} PKCS#11 modules of the configuration can be loaded",
            hint="check `module` there, or name one with --module",
        )
    return loaded


def load_module_of(cli: Cli, paths: Sequence[Path], token: str | KeyUri | None) -> Module:
    """The one of several modules that has a token.

    Args:
        cli: The common options.
        paths: The modules.
        token: Label or URI of the token; None for the only one there is.

    Raises:
        TokenNotFoundError: None of them has it.
        AmbiguousNameError: Several have it, and which is never guessed; or one has several that fit.
        ModuleError: None of them can be loaded.
    """
    from tokensign.token import select_token

    having: list[Module] = []
    for module in load_all(cli, paths):
        try:
            select_token(module, token)
        except TokenNotFoundError as error:
            _log.info("%s: %s", module.path, error)
        else:
            having.append(module)
    if len(having) == 1:
        return having[0]
    called = f"the token {token}" if token else "a token"
    if having:
        names = ", ".join(str(module.path) for module in having)
        raise AmbiguousNameError(
            f"{len(having)} modules have {called}: {names}",
            hint="name the module with --module, or another token with --token",
        )
    raise TokenNotFoundError(
        f"none of the modules of the configuration has {called}",
        hint="`tokensign token list` shows what is there",
    )
