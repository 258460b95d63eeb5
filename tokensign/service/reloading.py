"""SIGHUP: what somebody has put right, or imported, counts without a restart of the service."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import threading
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tokensign.service.lanes import Lanes
    from tokensign.service.tls import ServerTls

__all__ = ["reload_on_hangup"]

_log: Final = logging.getLogger(__name__)


@contextlib.contextmanager
def reload_on_hangup(lanes: Lanes, tls: ServerTls | None = None) -> Iterator[None]:
    """Let SIGHUP reload the lanes and the certificate of TLS.

    That is where the event loop is in the main thread, as that of the service is.

    A signal that comes while they are reloaded lets them be reloaded once more.

    Args:
        lanes: What is reloaded.
        tls: The same, or None.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    wanted = asyncio.Event()

    async def reload() -> None:
        while True:
            await wanted.wait()
            wanted.clear()
            _log.info("the lanes are reloaded")
            if tls is not None:
                tls.reload()
            await lanes.reload()

    task = loop.create_task(reload())
    loop.add_signal_handler(signal.SIGHUP, wanted.set)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGHUP)
        task.cancel()
