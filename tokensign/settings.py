"""Where configuration comes from: flags before environment variables before the configuration file.

The file is TOML, `config.toml` in the user's configuration folder or named by --config:

    module = "/usr/lib/softhsm/libsofthsm2.so"
    token = "acme"
    pin-source = "file:pin"
    trust = ["anchors/", "partner-ca.pem"]

Paths in it are relative to its folder. A key that is not known is an error, so that no typing mistake
weakens anything.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tokensign.errors import ConfigurationError

__all__ = ["Settings", "default_config_path", "load_settings"]

_TEXT_KEYS: Final = ("module", "token", "pin-source")
_LIST_KEYS: Final = ("trust",)


@dataclass(frozen=True, slots=True)
class Settings:
    """What a configuration file says.

    Attributes:
        module: The PKCS#11 module, or None.
        token: Label or URI of the token, or None.
        pin_source: Where the PIN comes from, or None.
        trust: Files and folders with trust anchors.
    """

    module: Path | None = None
    token: str | None = None
    pin_source: str | None = None
    trust: tuple[Path, ...] = ()


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
    folder = file.resolve().parent
    module = content.get("module")
    return Settings(
        module=_path(module, folder) if module else None,
        token=content.get("token"),
        pin_source=_pin_source(content.get("pin-source"), folder),
        trust=tuple(_path(entry, folder) for entry in content.get("trust", ())),
    )


def _check(content: dict[str, Any], file: Path) -> None:
    for key, value in content.items():
        if key in _TEXT_KEYS:
            fits = isinstance(value, str)
        elif key in _LIST_KEYS:
            fits = isinstance(value, list) and all(isinstance(entry, str) for entry in value)
        else:
            known = ", ".join((*_TEXT_KEYS, *_LIST_KEYS))
            raise ConfigurationError(f"{file}: {key!r} is not a setting", hint=f"settings are: {known}")
        if not fits:
            raise ConfigurationError(f"{file}: the setting {key!r} has the wrong type")


def _path(entry: str, folder: Path) -> Path:
    return folder / Path(entry).expanduser()


def _pin_source(spec: str | None, folder: Path) -> str | None:
    if spec and spec.startswith("file:"):
        return f"file:{_path(spec.removeprefix('file:'), folder)}"
    return spec
