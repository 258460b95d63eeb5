"""Where the agent's socket lies, and that nobody else can put one there."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import stat
from pathlib import Path
from typing import Final

from tokensign.errors import AgentError

__all__ = ["Claim", "default_path", "require_private_folder"]

_FOLDER_MODE: Final = 0o700
_SOCKET_MASK: Final = 0o177  # the socket gets 0600, for systems that look at the mode of sockets
_OTHERS: Final = 0o077
_WRITABLE_BY_OTHERS: Final = 0o022
_BACKLOG: Final = 64  # connections that wait to be accepted


def default_path() -> Path:
    """The socket in the user's runtime folder (XDG Base Directory Specification), or else below the home."""
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    folder = Path(runtime, "tokensign") if runtime else Path.home() / ".tokensign"
    return folder / "agent.sock"


def require_private_folder(folder: Path) -> None:
    """Refuse a folder that another user can enter, or replace by another one.

    Raises:
        AgentError: It is not the user's own with mode 0700, or somebody else may write to one above it.
    """
    try:
        own = folder.lstat()
        above = [place.stat() for place in folder.resolve().parents]
    except OSError as error:
        raise AgentError(f"the folder {folder} cannot be read: {error.strerror}") from None
    if not stat.S_ISDIR(own.st_mode) or own.st_uid != os.geteuid() or own.st_mode & _OTHERS:
        raise AgentError(
            f"{folder} is not a folder of your own that is closed to others",
            hint="close it with chmod 700 if it is yours; else unset TOKENSIGN_AGENT",
        )
    for place in above:
        shared = place.st_mode & _WRITABLE_BY_OTHERS and not place.st_mode & stat.S_ISVTX
        if shared or place.st_uid not in (0, os.geteuid()):
            raise AgentError(
                f"others may write to a folder above {folder}, and put another socket there",
                hint="name a folder of your own with XDG_RUNTIME_DIR",
            )


class Claim:
    """The right to be the agent at a path, of which there is one: a lock on the folder, held until `release`.

    Args:
        path: The socket, whose folder is made if it is not there.

    Raises:
        AgentError: The folder is not private, or another agent is there.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._made = False
        try:
            path.parent.mkdir(mode=_FOLDER_MODE, parents=True, exist_ok=True)
        except OSError as error:
            raise AgentError(f"the folder {path.parent} cannot be made: {error.strerror}") from None
        require_private_folder(path.parent)
        self._folder: int | None = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            fcntl.flock(self._folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._forget_folder()
            raise AgentError(
                f"an agent is there already, at {path}",
                hint="`tokensign agent status` tells about it, `tokensign agent stop` ends it",
            ) from None

    def listen(self) -> socket.socket:
        """The socket, listening; one that an agent left behind that was killed is removed.

        Raises:
            AgentError: It cannot be made.
        """
        with contextlib.suppress(FileNotFoundError):
            self.path.unlink()
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        before = os.umask(_SOCKET_MASK)
        try:
            listener.bind(str(self.path))
            listener.listen(_BACKLOG)
        except OSError as error:
            listener.close()
            raise AgentError(
                f"the socket {self.path} cannot be made: {error.strerror or error}",
                hint="such a path has at most about 100 letters; XDG_RUNTIME_DIR names another folder",
            ) from None
        finally:
            os.umask(before)
        self._made = True
        return listener

    def release(self) -> None:
        """Remove the socket, and let another agent be there. Releasing twice does nothing."""
        if self._made:
            self._made = False
            self.path.unlink(missing_ok=True)
        self._forget_folder()

    def _forget_folder(self) -> None:
        if self._folder is not None:
            os.close(self._folder)
            self._folder = None
