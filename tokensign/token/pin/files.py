"""PINs from files, systemd credentials and file descriptors, read into memory that is overwritten."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tokensign.errors import PinUnavailableError, UsageError
from tokensign.token.pin.value import PIN_MAXIMUM_SIZE, Pin

if TYPE_CHECKING:
    from tokensign.token.pin.source import PinRequest

__all__ = ["CredentialSource", "DescriptorSource", "FileSource"]

_FOLDER: Final = "CREDENTIALS_DIRECTORY"  # systemd.exec(5)


class FileSource:
    """Takes the PIN from a file that only its owner can read. One newline at its end is not part of it.

    Args:
        path: A regular file, owned by the user or by root, with no permission for group and others.
    """

    _forbidden = stat.S_IRWXG | stat.S_IRWXO

    def __init__(self, path: Path) -> None:
        self._path = path

    def get(self, request: PinRequest) -> Pin:
        """The file's content.

        Raises:
            PinUnavailableError: The file cannot be read, is not private, or is no PIN file.
        """
        try:
            descriptor = os.open(self._path, os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as failure:
            wanted = f"the {request.what} for {request.purpose}"
            raise PinUnavailableError(
                f"{wanted} cannot be read from {self._path}: {failure.strerror}"
            ) from None
        try:
            self._check(os.fstat(descriptor), request.what)  # of what was opened: nobody can exchange it
            return _read(descriptor, str(self._path), request.what)
        finally:
            os.close(descriptor)

    def _check(self, status: os.stat_result, what: str) -> None:
        if not stat.S_ISREG(status.st_mode):
            raise PinUnavailableError(f"the {what} file {self._path} is not a regular file")
        if status.st_uid not in (os.geteuid(), 0):
            raise PinUnavailableError(
                f"the {what} file {self._path} belongs to another user",
                hint=f"chown it to uid {os.geteuid()}",
            )
        if status.st_mode & self._forbidden:
            raise PinUnavailableError(
                f"the {what} file {self._path} can be used by others than its owner",
                hint=f"chmod 600 {self._path}",
            )

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self._path)!r})"


class CredentialSource:
    """Takes the PIN from a credential that systemd hands to a service (LoadCredential=, systemd.exec(5)).

    Args:
        name: The credential's name.

    Raises:
        UsageError: It is no name of a credential.
    """

    def __init__(self, name: str) -> None:
        if "/" in name or "\0" in name or name in {"", ".", ".."}:
            raise UsageError(
                "the name of a credential is the name of a file, without a folder",
                hint="write credential:NAME, with the NAME of LoadCredential=NAME:...",
            )
        self._name = name

    def get(self, request: PinRequest) -> Pin:
        """The credential's content.

        Raises:
            PinUnavailableError: systemd gave no credentials, or not this one, or others can use it.
        """
        folder = os.environ.get(_FOLDER)
        if not folder:
            raise PinUnavailableError(
                f"the {request.what} for {request.purpose} shall come from the credential {self._name}, and "
                f"systemd gave none: {_FOLDER} is not set",
                hint=f"put LoadCredential={self._name}:/path/to/file into the unit of the service",
            )
        return _CredentialFile(Path(folder) / self._name).get(request)

    def __repr__(self) -> str:
        return f"CredentialSource({self._name!r})"


class _CredentialFile(FileSource):
    """A file as systemd makes it: root's, with an access control list that lets the service's user read it.

    The mode then shows the list's mask where the group's permissions stand, so the group may read.
    """

    _forbidden = stat.S_IWGRP | stat.S_IXGRP | stat.S_IRWXO


class DescriptorSource:
    """Takes the PIN from an open file descriptor, such as a pipe, once; and remembers it.

    Args:
        number: The descriptor. It is read to its end and left open.
    """

    def __init__(self, number: int) -> None:
        self._number = number
        self._pin: Pin | None = None

    def get(self, request: PinRequest) -> Pin:
        """What the descriptor gives until its end.

        Raises:
            PinUnavailableError: The descriptor is not open, or gives no PIN.
        """
        if self._pin is None:
            try:
                self._pin = _read(self._number, f"file descriptor {self._number}", request.what)
            except OSError as failure:
                raise PinUnavailableError(
                    f"the {request.what} for {request.purpose} cannot be read from file descriptor "
                    f"{self._number}: {failure.strerror}"
                ) from None
        return self._pin.duplicate()

    def __repr__(self) -> str:
        return f"DescriptorSource({self._number})"


def _read(descriptor: int, name: str, what: str) -> Pin:
    buffer = bytearray(PIN_MAXIMUM_SIZE + 3)  # a line end, and one octet that shows that there is more
    try:
        with memoryview(buffer) as view:
            size = 0
            while size < len(buffer) and (count := os.readv(descriptor, [view[size:]])):
                size += count
        end = size
        for line_end in b"\n\r":
            if end and buffer[end - 1] == line_end:
                end -= 1
            elif line_end == ord("\n"):
                break
        if end > PIN_MAXIMUM_SIZE or size == len(buffer):
            raise PinUnavailableError(f"{name} holds more than a {what}")
        if not end:
            raise PinUnavailableError(f"{name} holds no {what}")
        with memoryview(buffer) as view:
            return Pin(view[:end])
    finally:
        buffer[:] = bytes(len(buffer))
