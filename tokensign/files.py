"""Input and output at the edges: files appear whole or not at all, and temporary ones are private."""

from __future__ import annotations

import contextlib
import io
import os
import secrets
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Literal, cast

from tokensign.errors import FileError, OutputExistsError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from _typeshed import ReadableBuffer, WriteableBuffer

__all__ = [
    "CHUNK_SIZE",
    "STANDARD_STREAM",
    "chunks",
    "open_input",
    "open_output",
    "read_small",
    "spool",
    "unfinished_outputs",
    "watch_outputs",
]

STANDARD_STREAM = "-"
CHUNK_SIZE = 1 << 18  # 256 KiB: hashing and ciphers are at full speed, and it is little memory
_SPOOL_MEMORY = 1 << 23  # 8 MiB of a pipe stay in memory before they go to a private file


def chunks(stream: BinaryIO, size: int = CHUNK_SIZE) -> Iterator[bytes]:
    """The rest of a stream, in pieces of at most `size` octets."""
    while piece := stream.read(size):
        yield piece


def spool(stream: BinaryIO | None = None) -> BinaryIO:
    """A private temporary stream that can seek, filled from `stream` and rewound; nobody else can open it.

    Raises:
        FileError: There is no room for it; later writing fails with the same error.
    """
    spooled = cast("BinaryIO", _Spool(max_size=_SPOOL_MEMORY))
    if stream is not None:
        for piece in chunks(stream):
            spooled.write(piece)
        spooled.seek(0)
    return spooled


@contextlib.contextmanager
def open_input(name: str | Path) -> Iterator[BinaryIO]:
    """Open a file, or standard input as "-", for reading; what comes can seek.

    Raises:
        FileError: The file cannot be opened; later reading fails with the same error.
    """
    if str(name) == STANDARD_STREAM:
        with _file_errors("read", "standard input"):
            held = spool(_standard("input"))
        with held:
            yield held
        return
    with io.BufferedReader(_File(name, "rb", name)) as file:
        if file.seekable():
            yield file
            return
        with spool(file) as held:
            yield held


def read_small(name: str | Path, limit: int = 1 << 24) -> bytes:
    """The whole content of a small file, such as a certificate; "-" is standard input.

    Args:
        name: The file.
        limit: Octets that are taken at the most, 16 MiB unless told.

    Raises:
        FileError: The file cannot be read or is larger.
    """
    with open_input(name) as stream:
        content = stream.read(limit + 1)
    if len(content) > limit:
        raise FileError(f"{name} is larger than the {limit} bytes that such a file may have")
    return content


_unfinished: set[Path] = set()
_watchers: list[Callable[[Path], None]] = []


def unfinished_outputs() -> set[Path]:
    """The temporary files of the outputs that are open now."""
    return set(_unfinished)


def watch_outputs(watcher: Callable[[Path], None]) -> None:
    """Have each later output's temporary file told before it is made, so that others can remove it."""
    _watchers.append(watcher)


@contextlib.contextmanager
def open_output(name: str | Path, *, force: bool = False, mode: int = 0o666) -> Iterator[BinaryIO]:
    """Open a file, or standard output as "-", for writing; it appears only when the block ends well.

    The content goes to a private file in the same folder, is flushed to the disk and renamed. When the
    block raises, nothing is left, and a file that stood there is as it was. What goes to standard
    output is held back likewise until the block ends well.

    Args:
        name: Where the content shall appear.
        force: Replace a file that exists.
        mode: Permissions, less the umask.

    Raises:
        OutputExistsError: The file exists and `force` is false.
        FileError: It cannot be written.
    """
    if str(name) == STANDARD_STREAM:
        with spool() as held:
            yield held
            _copy(held, _standard("output"), "standard output")
        return
    path = Path(name)
    if path.is_dir():
        raise FileError(f"{name} is a folder")
    if path.exists() and not path.is_file():  # a device or a pipe cannot be renamed over
        with io.BufferedWriter(_File(path, "wb", name)) as device, spool() as held:
            yield held
            _copy(held, device, name)
        return
    if path.exists() and not force:
        raise _exists(name)
    temporary = path.with_name(f".{path.name[:200]}.{secrets.token_hex(8)}.part")
    for watcher in _watchers:
        watcher(temporary)
    _unfinished.add(temporary)
    try:
        with io.BufferedRandom(_File(temporary, "x+b", name)) as file:
            yield file
            file.flush()
            with _file_errors("write", name):
                os.fchmod(file.fileno(), mode & ~_umask())
                os.fsync(file.fileno())
        with _file_errors("write", name):
            _publish(temporary, path, force=force)
    finally:
        temporary.unlink(missing_ok=True)
        _unfinished.discard(temporary)


def _publish(temporary: Path, path: Path, *, force: bool) -> None:
    if force:
        temporary.replace(path)
    else:
        try:
            path.hardlink_to(temporary)  # fails where another process was faster, other than rename
        except FileExistsError:
            raise _exists(path) from None
        except OSError:  # a file system without hard links
            if path.exists():
                raise _exists(path) from None
            temporary.replace(path)
    with contextlib.suppress(OSError):  # not every file system can flush a folder
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _exists(name: str | Path) -> OutputExistsError:
    return OutputExistsError(
        f"{name} exists already", hint="pass --force to replace it, or -o with another name"
    )


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


class _File(io.FileIO):
    """A file, private if it is new, whose failures tell which one it is.

    Args:
        file: Where it is.
        mode: As `open` takes it.
        shown: What it is called in errors.
    """

    def __init__(self, file: str | Path, mode: str, shown: str | Path) -> None:
        self._verb = "read" if mode == "rb" else "write"
        self._shown = shown
        with self._errors():
            super().__init__(file, mode, opener=_open_private)

    def readinto(self, buffer: WriteableBuffer, /) -> int | None:
        with self._errors():
            return super().readinto(buffer)

    def readall(self) -> bytes:
        with self._errors():
            return super().readall()

    def write(self, data: ReadableBuffer, /) -> int:
        with self._errors():
            return super().write(data)

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        with self._errors():
            return super().seek(offset, whence)

    def _errors(self) -> contextlib.AbstractContextManager[None]:
        return _file_errors(self._verb, self._shown)


class _Spool(tempfile.SpooledTemporaryFile[bytes]):
    """A temporary file whose failures tell where it is."""

    def write(self, data: ReadableBuffer) -> int:
        with self._errors():
            return super().write(data)

    def writelines(self, pieces: Iterable[ReadableBuffer]) -> None:
        """Write one piece after the other; the base class would first gather all of them in memory."""
        for piece in pieces:
            self.write(piece)

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        with self._errors():  # it flushes
            return super().seek(offset, whence)

    @staticmethod
    @contextlib.contextmanager
    def _errors() -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise FileError(
                f"cannot write a temporary file: {error.strerror or error}",
                hint="make room, or set TMPDIR to a folder that has some",
            ) from error


def _open_private(file: str, flags: int) -> int:
    return os.open(file, flags, 0o600)


def _standard(direction: Literal["input", "output"]) -> BinaryIO:
    stream = sys.stdin if direction == "input" else sys.stdout
    if stream is None:  # the program was started without it
        raise FileError(f"standard {direction} is closed")
    return stream.buffer


def _copy(held: BinaryIO, target: BinaryIO, name: str | Path) -> None:
    held.seek(0)
    with _file_errors("write", name):
        target.writelines(chunks(held))
        target.flush()


@contextlib.contextmanager
def _file_errors(verb: str, name: str | Path) -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise  # whoever read the output has enough of it, which is no failure of a file
    except OSError as error:
        raise FileError(f"cannot {verb} {name}: {error.strerror or error}") from error
