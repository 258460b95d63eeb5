"""A PIV card behind pcscd and OpenSC's module. The card and its reader are software of these tests."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final

from cryptography.hazmat.primitives.serialization import Encoding

from tests.modules import pcscd
from tests.modules.base import RealModule, RunningModule, wait_for, write_pin_file
from tests.modules.piv_card import PivCard
from tests.modules.piv_keys import MIXED, OWNER, Authority, KeyType, Slot
from tests.modules.vpcd import Reader

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterator, Mapping

    from tests.modules.piv_keys import CardKey

__all__ = ["Piv", "RunningPiv"]

_LIBRARIES: Final = (Path(f"/usr/lib/{os.uname().machine}-linux-gnu"), Path("/usr/lib64"))  # Debian, Fedora
_PIN: Final = "123456"
_PUK: Final = "12345678"


@dataclass(kw_only=True)
class RunningPiv(RunningModule):
    """A PIV card that can be pulled out.

    Attributes:
        reader: Where the card is in, or out.
        daemon: The pcscd.
        keys: What is in the slots of the card.
        authority: A PEM file with the certificate of who issued the card's.
    """

    reader: Reader
    daemon: pcscd.Pcscd
    keys: Mapping[Slot, CardKey]
    authority: Path
    removable: ClassVar[bool] = True

    def unlock(self) -> None:
        self.reader.card.unlock(self.user_pin)

    def remove(self) -> None:
        self.reader.remove()
        self._wait_until_out()

    def remove_at(self, command: str) -> None:
        self.reader.remove_at(command)

    def insert(self) -> None:
        self._wait_until_out()  # it may have left by itself just now
        self.reader.insert()
        wait_for(self.daemon.card_is_in, "pcscd does not notice that the card is in")

    def _wait_until_out(self) -> None:
        wait_for(lambda: not self.daemon.card_is_in(), "pcscd does not notice that the card is out")

    def counts(self) -> Counter[str]:
        return self.reader.card.counts.copy()


class Piv(RealModule):
    """Makes a card and starts pcscd for it.

    Args:
        name: How this kind of card is called.
        slots: Which keys it has.
    """

    name = "piv"

    def __init__(self, name: str = "piv", slots: Mapping[Slot, KeyType] = MIXED) -> None:
        self.name = name  # type: ignore[misc]  # of this kind
        self._slots = slots

    def missing(self) -> str | None:
        return pcscd.missing() or (None if _module() else "OpenSC's PKCS#11 module is not installed")

    @contextlib.contextmanager
    def start(self, folder: Path) -> Iterator[RunningPiv]:
        issuer = Authority()
        keys = {slot: issuer.make_key(slot, kind) for slot, kind in self._slots.items()}
        authority = folder / "authority.pem"
        authority.write_bytes(issuer.certificate.public_bytes(Encoding.PEM))
        configuration = folder / "opensc.conf"
        configuration.write_text("app default { framework pkcs15 { use_file_caching = no; } }\n")
        module = _module()
        assert module, "`missing` was not asked"
        with pcscd.pcscd(folder) as daemon:
            reader = Reader(PivCard(keys, _PIN, _PUK), daemon.connect)
            running = RunningPiv(
                path=module,
                environment={"PCSCLITE_CSOCK_NAME": str(daemon.socket), "OPENSC_CONF": str(configuration)},
                token_label=OWNER,
                user_pin=_PIN,
                so_pin=_PUK,
                pin_file=write_pin_file(folder / "pin", _PIN),
                reader=reader,
                daemon=daemon,
                keys=keys,
                authority=authority,
            )
            try:
                running.insert()
                yield running
            finally:
                reader.remove()


def _module() -> Path | None:
    paths = (place / name for place in _LIBRARIES for name in ("opensc-pkcs11.so", "pkcs11/opensc-pkcs11.so"))
    return next((path for path in paths if path.exists()), None)
