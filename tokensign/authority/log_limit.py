"""A log that strangers cannot fill: what they make a service say again and again is written now and then."""

from __future__ import annotations

import logging
import threading
import time
from typing import Final

__all__ = ["REPEAT_SECONDS", "SPOKEN_MAXIMUM", "RepeatFilter"]

REPEAT_SECONDS: Final = 10.0  # between two lines that say the same
SPOKEN_MAXIMUM: Final = 100  # different lines that are remembered; a service has fewer troubles


class RepeatFilter(logging.Filter):
    """Lets a line through if the same one was not written a moment ago; for any number of threads."""

    def __init__(self) -> None:
        super().__init__()
        self._spoken: dict[str, float] = {}
        self._lock = threading.Lock()

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a line is written."""
        message, now = record.getMessage(), time.monotonic()
        with self._lock:
            if now - self._spoken.get(message, -REPEAT_SECONDS) < REPEAT_SECONDS:
                return False
            self._spoken.pop(message, None)
            if len(self._spoken) >= SPOKEN_MAXIMUM:
                del self._spoken[next(iter(self._spoken))]
            self._spoken[message] = now
            return True
