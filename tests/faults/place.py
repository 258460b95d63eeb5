"""Folders in which commands run on a token of their own, with a module that may fail."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import tokensign
from tests import launcher

if TYPE_CHECKING:
    import subprocess

__all__ = ["LETTER", "Place", "clean_environment"]

PACKAGE_FOLDER = Path(tokensign.__file__).parents[1]
LETTER = "Dear Bob,\n\nthe figures are good.\n"


@dataclass(frozen=True)
class Place:
    """A folder with a token of SoftHSM, on which Alice has an RSA key with a certificate.

    There are also a `letter.txt`, the `letter.txt.p7m` that only she can read, and the PIN.
    """

    folder: Path

    def copy(self, folder: Path) -> Place:
        """The same in another folder."""
        shutil.copytree(self.folder, folder)
        place = Place(folder)
        place.configure()
        return place

    def configure(self) -> None:
        (self.folder / "softhsm2.conf").write_text(
            f"directories.tokendir = {self.folder}/tokens\nobjectstore.backend = file\nlog.level = ERROR\n"
        )

    @property
    def environment(self) -> dict[str, str]:
        """What a process there needs in its environment."""
        return {
            "SOFTHSM2_CONF": str(self.folder / "softhsm2.conf"),
            "TOKENSIGN_PIN_SOURCE": f"file:{self.folder / 'pin'}",
            "HOME": str(self.folder),
            "XDG_CONFIG_HOME": str(self.folder),
        }

    def shimmed(self, shim: Path, module: Path, **faults: str | float) -> dict[str, str]:
        """The environment with the shim around the module; for `faults` see `shim.c`, without SHIM_."""
        named = {f"SHIM_{name.upper()}": str(value) for name, value in faults.items()}
        log = {"SHIM_MODULE": str(module), "SHIM_LOG": str(self.log)}
        return self.environment | named | log | {"TOKENSIGN_MODULE": str(shim)}

    @property
    def log(self) -> Path:
        return self.folder / "calls"

    def calls(self) -> list[str]:
        """The calls that reached the shim, each as "C_Login 1"."""
        return [line.partition(" ")[2] for line in self.log.read_text().splitlines()]

    def leftovers(self) -> list[str]:
        """Temporary files."""
        return [path.name for path in self.folder.glob(".*.part")]

    def run(
        self, *arguments: str, environment: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run tokensign here."""
        return launcher.run(
            [sys.executable, "-m", "tokensign", *arguments],
            environment=clean_environment() | self.environment | (environment or {}),
            cwd=self.folder,
            timeout=60,
        )


def clean_environment() -> dict[str, str]:
    """This process's environment, without settings of tokensign."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TOKENSIGN_")}
    return kept | {"PYTHONPATH": str(PACKAGE_FOLDER), "LC_ALL": "C.UTF-8"}
