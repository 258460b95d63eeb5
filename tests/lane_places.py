"""Tokens for the lanes of tests: each in a folder of its own, so that one can be taken away."""

from __future__ import annotations

import shutil
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tokensign.algorithms import KeySpec, KeyUsage
from tokensign.service.lanes import Lanes, LaneSettings
from tokensign.token import Pin, generate_key, import_certificate, open_key, open_token

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from pathlib import Path

    from tokensign.certificates import Certificate
    from tokensign.service.lanes import LaneKey
    from tokensign.token import Module

__all__ = ["TokenPlace", "furnish", "key_called", "running"]


@dataclass(frozen=True)
class TokenPlace:
    """A token of SoftHSM that no other process of the tests has open.

    Attributes:
        folder: Where it is: `softhsm2.conf`, `tokens/` and `pin`.
        module: SoftHSM's library.
        label: The token's label.
    """

    folder: Path
    module: Path
    label: str

    @property
    def configuration(self) -> Path:
        """What SOFTHSM2_CONF has to name in the workers."""
        return self.folder / "softhsm2.conf"

    @property
    def pin(self) -> Path:
        """The file with the PIN."""
        return self.folder / "pin"

    def settings(self, **options: object) -> LaneSettings:
        """A lane on it."""
        return LaneSettings(self.label, self.module, self.label, f"file:{self.pin}", **options)  # type: ignore[arg-type]

    def remove(self) -> None:
        """Take the token away."""
        (self.folder / "tokens").rename(self.folder / "away")
        (self.folder / "tokens").mkdir()

    def put_back(self) -> None:
        """Put it back."""
        (self.folder / "tokens").rmdir()
        (self.folder / "away").rename(self.folder / "tokens")

    def copy(self, folder: Path) -> TokenPlace:
        """The same in another folder."""
        shutil.copytree(self.folder / "tokens", folder / "tokens")
        place = TokenPlace(folder, self.module, self.label)
        place.configuration.write_text(
            f"directories.tokendir = {folder / 'tokens'}\nobjectstore.backend = file\nlog.level = ERROR\n"
        )
        place.pin.touch(mode=0o600)
        place.pin.write_text(self.pin.read_text())
        return place


def furnish(
    module: Module,
    label: str,
    pin: str,
    specs: Sequence[tuple[str, KeyUsage]],
    issue: Callable[..., Certificate],
) -> None:
    """Make keys on a token, each with a certificate and called as its type."""
    with open_token(module, label, Pin(pin), read_write=True) as token:
        for spec, usage in specs:
            info = generate_key(token, spec, KeySpec.parse(spec), usage)
            import_certificate(token, issue(open_key(token, info).public_key, spec))


@asynccontextmanager
async def running(*settings: LaneSettings) -> AsyncIterator[Lanes]:
    """Lanes, started, and stopped at the end."""
    lanes = Lanes(settings)
    await lanes.start()
    try:
        yield lanes
    finally:
        await lanes.stop()


def key_called(lanes: Lanes, label: str) -> LaneKey:
    """The key with a label."""
    (found,) = (key for key in lanes.keys().values() if key.uri.object == label)
    return found
