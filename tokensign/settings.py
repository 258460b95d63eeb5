"""Where configuration comes from: flags before environment variables before the configuration file.

The file is TOML, `config.toml` in the user's configuration folder or named by --config:

    module = "/usr/lib/softhsm/libsofthsm2.so"
    token = "acme"
    pin-source = "file:pin"
    trust = ["anchors/", "partner-ca.pem"]
    require-non-extractable = true
    token-timeout = 60
    agent = true

Paths in it are relative to its folder. A key that is not known is an error, so that no typing mistake
weakens anything.
"""

from __future__ import annotations

import math
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tokensign.errors import ConfigurationError

__all__ = ["PIN_SOURCES", "Settings", "default_config_path", "load_settings", "token_timeout"]

PIN_SOURCES: Final = "prompt, env:NAME, file:PATH, fd:N, keyring:SERVICE, credential:NAME, pinentry or pad"
"""The forms in which it is said where a PIN comes from."""

_TEXT_KEYS: Final = ("module", "token", "pin-source")
_LIST_KEYS: Final = ("trust",)
_SWITCHES: Final = ("require-non-extractable", "agent")
_NUMBERS: Final = ("token-timeout",)


@dataclass(frozen=True, slots=True)
class Settings:
    """What a configuration file says.

    Attributes:
        module: The PKCS#11 module, or None.
        token: Label or URI of the token, or None.
        pin_source: Where the PIN comes from, or None.
        trust: Files and folders with trust anchors.
        require_non_extractable: Whether to sign and decrypt only with keys of which the token says that they
            were never outside.
        token_timeout: Seconds after which a token that has not answered is taken for hanging, or None.
        agent: Whether to use the agent in the user's runtime folder where TOKENSIGN_AGENT names none.
    """

    module: Path | None = None
    token: str | None = None
    pin_source: str | None = None
    trust: tuple[Path, ...] = ()
    require_non_extractable: bool = False
    token_timeout: float | None = None
    agent: bool = False


def default_config_path() -> Path:
    """The configuration file that is read when none is named; it need not exist."""
    import platformdirs  # noqa: PLC0415 - only needed when no --config was given

    return platformdirs.user_config_path("tokensign", appauthor=False) / "config.toml"


def load_settings(path: Path | None = None) -> Settings:
    """Read a configuration file.

    Args:
        path: The file; None reads the default one, where a missing file means no settings.

    Raises:
        ConfigurationError: The file cannot be read or understood, or `path` does not exist.
    """
    file = path or default_config_path()
    try:
        with file.open("rb") as stream:
            content = tomllib.load(stream)
    except FileNotFoundError:
        if path is None:
            return Settings()
        raise ConfigurationError(f"the configuration file {path} does not exist") from None
    except OSError as error:
        raise ConfigurationError(
            f"the configuration file {file} cannot be read: {error.strerror or error}"
        ) from error
    except ValueError as error:  # broken TOML, or not UTF-8
        raise ConfigurationError(f"the configuration file {file} is broken: {error}") from error
    _check(content, file)
    if "pin-value=" in content.get("token", "").lower():
        raise ConfigurationError(
            f"{file}: a PIN does not belong in a configuration file, and the token's URI has a pin-value",
            hint="say with pin-source where the PIN comes from",
        )
    folder = file.resolve().parent
    module = content.get("module")
    return Settings(
        module=_path(module, folder) if module else None,
        token=content.get("token"),
        pin_source=_pin_source(content.get("pin-source"), folder),
        trust=tuple(_path(entry, folder) for entry in content.get("trust", ())),
        require_non_extractable=content.get("require-non-extractable", False),
        token_timeout=token_timeout(content.get("token-timeout")),
        agent=content.get("agent", False),
    )


def token_timeout(given: str | float | None) -> float | None:
    """Seconds, as the configuration file or TOKENSIGN_TOKEN_TIMEOUT has them.

    Args:
        given: A number; None, or an empty text, for no opinion.

    Raises:
        ConfigurationError: It is no positive number.
    """
    if given is None or given == "":
        return None
    try:
        seconds = float(given)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise ConfigurationError(
            f"the token timeout {given} is no number of seconds",
            hint="set token-timeout or TOKENSIGN_TOKEN_TIMEOUT to a number such as 60",
        )
    return seconds


def _check(content: dict[str, Any], file: Path) -> None:
    for key, value in content.items():
        if key in _TEXT_KEYS:
            fits = isinstance(value, str)
        elif key in _LIST_KEYS:
            fits = isinstance(value, list) and all(isinstance(entry, str) for entry in value)
        elif key in _SWITCHES:
            fits = isinstance(value, bool)
        elif key in _NUMBERS:
            fits = isinstance(value, int | float) and not isinstance(value, bool)
        else:
            known = ", ".join((*_TEXT_KEYS, *_LIST_KEYS, *_SWITCHES, *_NUMBERS))
            raise ConfigurationError(f"{file}: {key!r} is not a setting", hint=f"settings are: {known}")
        if not fits:
            raise ConfigurationError(f"{file}: the setting {key!r} has the wrong type")


def _path(entry: str, folder: Path) -> Path:
    return folder / Path(entry).expanduser()


def _pin_source(spec: str | None, folder: Path) -> str | None:
    if spec and spec.startswith("file:"):
        return f"file:{_path(spec.removeprefix('file:'), folder)}"
    return spec
