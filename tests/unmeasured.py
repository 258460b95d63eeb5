"""What keeps coverage away from a process that a test interrupts.

Its tracer takes a lock for each call, in Python (`Collector.lock_data`). Where a signal raises an exception
just there, nobody releases the lock, and the process waits for it for ever.
"""

from __future__ import annotations

from typing import Final

__all__ = ["UNMEASURED"]

UNMEASURED: Final = dict.fromkeys(("COVERAGE_PROCESS_CONFIG", "COVERAGE_PROCESS_START"))
"""The variables that have coverage measure a new process, with None for those that shall not be set."""
