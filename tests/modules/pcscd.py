"""pcscd with one reader without hardware, apart from the machine's own pcscd, readers and network.

pcscd has its socket and its drivers in fixed places, and vsmartcard's driver listens on all addresses. So
they run with mounts and a network of their own. They disturb no pcscd of the machine, nobody outside reaches
the driver, and they reach no real reader with a real card, whose PIN the tests would lock.

This process stays outside; to connect with the driver it gets sockets that were opened inside. As a program
this module is what runs there: it opens the sockets, passes them out and becomes pcscd.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import socket
import struct
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.modules.base import ENDS_WITH_PARENT, REPOSITORY, NotStartedError, process, wait_for
from tests.modules.mounts import cannot_mount, with_mounts

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["Pcscd", "missing", "pcscd"]

_PROGRAM: Final = "/usr/sbin/pcscd"
_DRIVERS: Final = (Path("/usr/lib/pcsc/drivers"), Path("/usr/lib64/pcsc/drivers"))  # Debian, Fedora
_PORT: Final = (
    35963  # any; the network has nothing else. The driver's second slot, which stays empty, takes the next
)
_CONNECTIONS: Final = (
    200  # as many as the card can be inserted; the system passes at most 253 descriptors at once
)
_NAME: Final = "Virtual PCD"

_GET_FLAGS, _SET_FLAGS, _UP = 0x8913, 0x8914, 0x1  # SIOCGIFFLAGS, SIOCSIFFLAGS and IFF_UP of Linux's if.h


class Pcscd:
    """A running pcscd. `pcscd` makes it.

    Attributes:
        socket: Where its clients reach it; PCSCLITE_CSOCK_NAME tells them.
    """

    def __init__(self, socket_path: Path, log: Path, connections: list[socket.socket]) -> None:
        self.socket = socket_path
        self._log = log
        self._connections = connections

    def connect(self) -> socket.socket:
        """A connection with the driver.

        Raises:
            NotStartedError: The driver does not listen, or there were too many connections.
        """
        if not self._connections:
            raise NotStartedError(f"no more than {_CONNECTIONS} connections with the driver")
        connection = self._connections.pop()
        wait_for(lambda: not connection.connect_ex(("127.0.0.1", _PORT)), "the driver does not listen")
        return connection

    def card_is_in(self) -> bool:
        """Whether it has noticed that a card is in, and not yet that it is out again."""
        log = self._log.read_text(errors="replace")
        return log.rfind(f"Card inserted into {_NAME}") > log.rfind(f"Card Removed From {_NAME}")


@contextlib.contextmanager
def pcscd(folder: Path) -> Iterator[Pcscd]:
    """Start it, with its files in a folder."""
    driver = _driver()
    assert driver, "`missing` was not asked"
    own_driver = folder / driver.name
    shutil.copy(driver, own_driver)
    readers = folder / "readers"
    readers.mkdir()
    (readers / "vpcd").write_text(
        f'FRIENDLYNAME "{_NAME}"\nDEVICENAME /dev/null:{_PORT}\nLIBPATH {own_driver}\nCHANNELID {_PORT}\n'
    )
    no_drivers = folder / "no-drivers"
    no_drivers.mkdir()
    log = folder / "pcscd.log"
    with (
        tempfile.TemporaryDirectory(prefix="pcscd-") as run,  # short: a socket's path has 107 octets at most
        contextlib.ExitStack() as stack,
    ):
        outside, inside = (stack.enter_context(end) for end in socket.socketpair())
        mounts = {Path("/run"): Path(run)} | {place: no_drivers for place in _DRIVERS if place.exists()}
        # Once more inside: who enters a user namespace is no longer bound to the parent.
        program = [
            *ENDS_WITH_PARENT,
            sys.executable,
            "-m",
            "tests.modules.pcscd",
            str(inside.fileno()),
            str(readers),
        ]
        path = Path(run) / "pcscd" / "pcscd.comm"
        stack.enter_context(
            process(
                with_mounts(mounts, program, own_network=True),
                log=log,
                ready=path.exists,
                environment={"PYTHONPATH": str(REPOSITORY)},
                descriptors=[inside.fileno()],
            )
        )
        _, descriptors, _, _ = socket.recv_fds(outside, 1, _CONNECTIONS)
        connections = [stack.enter_context(socket.socket(fileno=number)) for number in descriptors]
        yield Pcscd(path, log, connections)


def missing() -> str | None:
    """What this machine lacks to start it, in words, or None."""
    if not Path(_PROGRAM).exists():
        return "pcscd is not installed"
    if not _driver():
        return "the virtual reader of vsmartcard (vsmartcard-vpcd) is not installed"
    return cannot_mount()


def _driver() -> Path | None:
    return next((path for place in _DRIVERS for path in place.rglob("libifdvpcd.so")), None)


def _become_pcscd(arguments: Sequence[str]) -> None:
    """What runs inside: raise the network's loopback, pass sockets of it out, and become pcscd."""
    descriptor, readers = arguments
    connections = [socket.socket() for _ in range(_CONNECTIONS)]
    name, flags = b"lo".ljust(16, b"\0"), struct.Struct("16sh")
    _, now = flags.unpack(fcntl.ioctl(connections[0], _GET_FLAGS, flags.pack(name, 0)))
    fcntl.ioctl(connections[0], _SET_FLAGS, flags.pack(name, now | _UP))
    with socket.socket(fileno=int(descriptor)) as outside:
        socket.send_fds(outside, [b"\0"], [connection.fileno() for connection in connections])
    os.execv(_PROGRAM, [_PROGRAM, "--foreground", "--info", "--config", readers])  # noqa: S606 - no shell is wanted


if __name__ == "__main__":
    _become_pcscd(sys.argv[1:])
