"""What a lane is told, and what it tells of itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from tokensign.errors import ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["BATCH_MAXIMUM", "LaneSettings", "LaneState", "LaneStatus"]

BATCH_MAXIMUM: Final = 100
"""Digests in one call: a card that signs two a second is busy with them for most of a minute."""

LaneStatus = Literal["up", "starting", "down", "latched"]


@dataclass(frozen=True, slots=True)
class LaneSettings:
    """One token, and the processes that use it.

    Attributes:
        name: The lane's name, with which the ids of its keys begin; usually the token's label.
        module: The PKCS#11 module.
        token: The token's label or URI.
        pin_source: Where each process reads the PIN, as `tokensign.token.parse_pin_source` has it: a source
            that needs nobody to be there, and that this process does not see.
        workers: Processes. More than one is for modules whose token does several operations at a time.
        queue: Calls that may be in the lane, waiting or running; a batch is one call.
        deadline: Seconds after which a call is answered, whatever happens. Half of it may be spent waiting:
            what is not begun by then never is.

    Raises:
        ConfigurationError: A number is out of range.
    """

    name: str
    module: Path
    token: str
    pin_source: str
    workers: int = 1
    queue: int = 256
    deadline: float = 10.0

    def __post_init__(self) -> None:
        if self.workers < 1 or self.queue < 1 or self.deadline <= 0:
            raise ConfigurationError(
                f"the lane {self.name} needs at least one worker, room for one call, and some time for it"
            )


@dataclass(frozen=True, slots=True)
class LaneState:
    """How a lane is, as it was last noticed; to look costs nothing.

    Attributes:
        status: "up" when calls are taken; "starting" before the first worker is there; "down" when it comes
            back by itself; "latched" after a PIN was refused, until `Lanes.unlatch`.
        reason: Why it is not up; otherwise "".
        retry_after: Seconds until it may be back, when it is down.
        workers: Processes that are there.
        waiting: Calls in the lane.
        restarts: How many workers were started because another one ended.
    """

    status: LaneStatus
    reason: str = ""
    retry_after: int | None = None
    workers: int = 0
    waiting: int = 0
    restarts: int = 0
