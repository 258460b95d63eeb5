"""NSS softokn, of a version that has ML-KEM and ML-DSA: the token of Firefox and Thunderbird.

`softhsm/forky.sh` fetches it into a folder; nothing of it is installed.
"""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.modules.base import REPOSITORY, NotStartedError, RealModule, RunningModule, write_pin_file

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Nss"]

# A fresh database has no PIN, and its security officer has an empty one.
_SET_PIN: Final = """
import sys, pkcs11
token = pkcs11.lib(sys.argv[1]).get_token(token_label=sys.argv[2])
with token.open(rw=True, so_pin="") as session:
    session.init_pin(sys.stdin.read())
"""


class Nss(RealModule):
    """Starts NSS with a database of its own."""

    name = "nss"

    def missing(self) -> str | None:
        return None if _library() else "no NSS with ML-KEM is at hand: softhsm/forky.sh fetches it"

    @contextlib.contextmanager
    def start(self, folder: Path) -> Iterator[RunningModule]:
        library = _library()
        assert library, "`missing` was not asked"
        database = folder / "database"
        database.mkdir()
        options = "certPrefix='' keyPrefix='' secmod='secmod.db' flags="
        running = RunningModule(
            path=library,
            environment={
                "LD_LIBRARY_PATH": str(library.parent),  # of libnssutil3.so
                "NSS_LIB_PARAMS": f"configdir='sql:{database}' {options}",
            },
            token_label="NSS Certificate DB",
            user_pin="1234-user",
            so_pin="",
            pin_file=write_pin_file(folder / "pin", "1234-user"),
        )
        set_pin = [sys.executable, "-c", _SET_PIN, str(library), running.token_label]
        done = running.run(set_pin, stdin=running.user_pin)
        if done.returncode:
            raise NotStartedError(f"NSS does not take a PIN: {done.stderr[-500:]}")
        yield running


def _library() -> Path | None:
    folder = Path(os.environ.get("NSS_FORKY", REPOSITORY / ".forky"))
    return next(folder.rglob("libsoftokn3.so"), None)
