"""Who is on the other end of a Unix socket, as the kernel knows it."""

from __future__ import annotations

import ctypes
import os
import socket
import struct
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

__all__ = ["Peer", "peer_of"]

_UCRED: Final = struct.Struct("3i")  # pid, uid, gid: struct ucred of unix(7)
_SOL_LOCAL: Final = 0  # sys/un.h of macOS
_LOCAL_PEERPID: Final = 2  # as above


@dataclass(frozen=True, slots=True)
class Peer:
    """The process that connected, or that listens.

    Attributes:
        user: Its effective user id when it did so.
        process: Its process id then; None where the system does not tell.
    """

    user: int
    process: int | None

    @property
    def program(self) -> str:
        """Which program it is, for a person; only the kernel is asked, never the process."""
        if self.process is None:
            return "a program"
        try:
            name = str(Path(f"/proc/{self.process}/exe").readlink())
        except OSError:  # it has ended, or this system has no /proc
            name = "a program"
        return f"{name} (process {self.process})"


def peer_of(connection: socket.socket) -> Peer:
    """The other end of a connected Unix socket.

    Raises:
        OSError: The system does not tell.
    """
    if sys.platform != "linux":
        return _peer_of_bsd(connection)
    options = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    process, user, _ = _UCRED.unpack(options)
    return Peer(user, process)


def _peer_of_bsd(connection: socket.socket) -> Peer:
    """The other end by getpeereid(3), which macOS and the BSDs have."""
    user, group = ctypes.c_uint32(), ctypes.c_uint32()
    library = ctypes.CDLL(None, use_errno=True)
    if library.getpeereid(connection.fileno(), ctypes.byref(user), ctypes.byref(group)):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    process = connection.getsockopt(_SOL_LOCAL, _LOCAL_PEERPID) if sys.platform == "darwin" else None
    return Peer(user.value, process)
