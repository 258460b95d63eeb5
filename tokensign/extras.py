"""The optional extras of pyproject.toml, and what to say where their libraries are not installed."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from tokensign.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["extra"]


@contextlib.contextmanager
def extra(name: str) -> Iterator[None]:
    """Around imports of what needs the libraries of an extra.

    Args:
        name: The extra, as pyproject.toml has it.

    Raises:
        ConfigurationError: One of them is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] == "tokensign":
            raise
        raise ConfigurationError(
            f"this needs {error.name}, which is not installed", hint=f"pip install 'tokensign[{name}]'"
        ) from error
