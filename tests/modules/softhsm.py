"""SoftHSM: a token in a folder."""

from __future__ import annotations

import contextlib
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final

from tests.modules.base import NotStartedError, RealModule, RunningModule, write_pin_file

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["RunningSoftHsm", "SoftHsm"]

_PLACES: Final = (
    "/usr/lib/softhsm/libsofthsm2.so",  # Debian
    "/usr/lib64/pkcs11/libsofthsm2.so",  # Fedora
    "/usr/lib64/softhsm/libsofthsm2.so",
)


@dataclass(kw_only=True)
class RunningSoftHsm(RunningModule):
    """A SoftHSM whose token goes away with its folder.

    Attributes:
        folder: Where it keeps its tokens, the configuration and the PIN files.
    """

    folder: Path
    removable: ClassVar[bool] = True

    def unlock(self) -> None:
        self._tokensign(
            ["token", "unblock-pin", *self._so_pin_source, "--new-pin-source", f"file:{self.pin_file}"]
        )

    def remove(self) -> None:
        (self.folder / "tokens").rename(self.folder / "removed")

    def insert(self) -> None:
        (self.folder / "removed").rename(self.folder / "tokens")

    def initialize(self) -> None:
        """Set the token up.

        Raises:
            NotStartedError: It cannot be.
        """
        self._tokensign(["token", "init", self.token_label, *self._so_pin_source])

    @property
    def _so_pin_source(self) -> list[str]:
        return ["--so-pin-source", f"file:{self.folder / 'so-pin'}"]

    def _tokensign(self, arguments: Sequence[str]) -> None:
        done = self.run([sys.executable, "-m", "tokensign", *arguments])
        if done.returncode:
            raise NotStartedError(f"tokensign {arguments[1]}: {done.stderr}")


class SoftHsm(RealModule):
    """Starts a SoftHSM with a configuration and a token folder of its own."""

    name = "softhsm"

    def missing(self) -> str | None:
        return None if _library() else "SoftHSM is not installed"

    @contextlib.contextmanager
    def start(self, folder: Path) -> Iterator[RunningSoftHsm]:
        library = _library()
        assert library, "`missing` was not asked"
        (folder / "tokens").mkdir()
        configuration = folder / "softhsm2.conf"
        configuration.write_text(
            f"directories.tokendir = {folder / 'tokens'}\nobjectstore.backend = file\nlog.level = ERROR\n"
        )
        running = RunningSoftHsm(
            path=library,
            environment={"SOFTHSM2_CONF": str(configuration)},
            token_label="acme",
            user_pin="1234-user",
            so_pin="5678-officer",
            pin_file=write_pin_file(folder / "pin", "1234-user"),
            folder=folder,
        )
        write_pin_file(folder / "so-pin", running.so_pin)
        running.initialize()
        yield running


def _library() -> Path | None:
    return next((Path(place) for place in _PLACES if Path(place).exists()), None)
