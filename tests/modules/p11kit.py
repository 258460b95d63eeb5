"""p11-kit's proxy, which shows the tokens of all configured modules as one module: here, of a SoftHSM.

What runs here sees a private folder in the places of p11-kit's configuration, and so nothing of the machine's
own modules. (p11-kit has a variable for the user's configuration, but does not read that for root.)
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.modules.base import RealModule
from tests.modules.mounts import cannot_mount, with_mounts
from tests.modules.softhsm import RunningSoftHsm, SoftHsm

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["P11KitProxy"]

_PLACES: Final = (
    f"/usr/lib/{os.uname().machine}-linux-gnu/p11-kit-proxy.so",  # Debian
    "/usr/lib64/p11-kit-proxy.so",  # Fedora
)
_CONFIGURATION: Final = (
    Path("/usr/share/p11-kit/modules"),  # of the packages
    Path("/etc/pkcs11/modules"),  # of the machine
)


@dataclass(kw_only=True)
class RunningProxy(RunningSoftHsm):
    """The proxy, for commands that see only its configuration."""

    def command(self, command: Sequence[str]) -> list[str]:
        places = [place for place in _CONFIGURATION if place.exists()]
        return with_mounts(dict.fromkeys(places, self.folder / "p11-kit"), command)


class P11KitProxy(RealModule):
    """Starts a SoftHSM and puts the proxy before it."""

    name = "p11-kit-proxy"

    def missing(self) -> str | None:
        return (
            SoftHsm().missing()
            or (None if _proxy() else "p11-kit's proxy module is not installed")
            or cannot_mount()
        )

    @contextlib.contextmanager
    def start(self, folder: Path) -> Iterator[RunningProxy]:
        with SoftHsm().start(folder) as softhsm:
            proxy = _proxy()
            assert proxy, "`missing` was not asked"
            configuration = folder / "p11-kit"
            configuration.mkdir()
            (configuration / "softhsm.module").write_text(f"module: {softhsm.path.resolve()}\n")
            settings = vars(softhsm) | {
                "path": proxy,
                "environment": softhsm.environment | {"P11_KIT_NO_USER_CONFIG": "1"},
            }
            yield RunningProxy(**settings)


def _proxy() -> Path | None:
    return next((Path(place) for place in _PLACES if Path(place).exists()), None)
