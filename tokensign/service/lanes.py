"""All the lanes of a service, and all the keys behind them."""

from __future__ import annotations

import asyncio
from types import MappingProxyType
from typing import TYPE_CHECKING

from tokensign.errors import ConfigurationError, UsageError
from tokensign.service.lane import Lane
from tokensign.service.lane_keys import LaneKey
from tokensign.service.lane_settings import BATCH_MAXIMUM, LaneSettings, LaneState

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["BATCH_MAXIMUM", "LaneKey", "LaneSettings", "LaneState", "Lanes"]


class Lanes:
    """The tokens of a service, each held by worker processes of its own; for one event loop.

    Args:
        settings: One for each lane.

    Raises:
        ConfigurationError: Two lanes have the same name.
    """

    def __init__(self, settings: Sequence[LaneSettings]) -> None:
        self._keys: dict[str, LaneKey] = {}
        self._lanes = {one.name: Lane(one, self._keys) for one in settings}
        if len(self._lanes) < len(settings):
            raise ConfigurationError("two lanes have the same name")

    async def start(self) -> None:
        """Start the workers, and return when each lane is up or has failed once.

        A lane that failed is no error: its state tells, and it comes up when it can.
        """
        await asyncio.gather(*(lane.start() for lane in self._lanes.values()))

    async def stop(self, *, graceful: bool = True) -> None:
        """End the workers.

        Args:
            graceful: Whether calls that were taken on are answered first. No new ones are taken in any case.
        """
        await asyncio.gather(*(lane.stop(graceful=graceful) for lane in self._lanes.values()))

    async def reload(self) -> None:
        """Read keys and certificates anew, and let latched lanes try their PIN once more.

        One worker after the other answers what it holds and is replaced; a lane with several stays up.
        """
        await asyncio.gather(*(lane.reload() for lane in self._lanes.values()))

    def states(self) -> dict[str, LaneState]:
        """How each lane is, by its name, as it was last noticed."""
        return {name: lane.state for name, lane in self._lanes.items()}

    def keys(self) -> Mapping[str, LaneKey]:
        """The keys by their ids, also of lanes that were up and are down now."""
        return MappingProxyType(self._keys)

    async def unlatch(self, name: str) -> None:
        """Let a lane try its PIN once more, after somebody has put it right; returns as `start` does.

        Raises:
            UsageError: There is no such lane.
        """
        if name not in self._lanes:
            raise UsageError(f"there is no lane {name}", hint=f"there are: {', '.join(self._lanes)}")
        await self._lanes[name].unlatch()
