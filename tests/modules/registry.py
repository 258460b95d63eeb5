"""The real modules, by the names under which commands and tables have them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tests.modules.nss import Nss
from tests.modules.opencryptoki import OpenCryptoki
from tests.modules.p11kit import P11KitProxy
from tests.modules.piv import Piv
from tests.modules.piv_keys import ONLY_ELLIPTIC
from tests.modules.softhsm import SoftHsm
from tests.modules.tpm import Tpm

if TYPE_CHECKING:
    from tests.modules.base import RealModule

__all__ = ["MODULES"]

_ALL: Final[tuple[RealModule, ...]] = (
    SoftHsm(),
    Nss(),
    Piv(),
    Piv("piv-ec", ONLY_ELLIPTIC),
    P11KitProxy(),
    Tpm(),
    OpenCryptoki(),
)

MODULES: Final[dict[str, RealModule]] = {module.name: module for module in _ALL}
