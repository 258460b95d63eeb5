"""Input and output at the edges: files appear whole or not at all, and temporary ones are private."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from tokensign.errors import FileError, OutputExistsError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["CHUNK_SIZE", "STANDARD_STREAM", "chunks", "open_input", "open_output", "read_small", "spool"]

STANDARD_STREAM = "-"
CHUNK_SIZE = 1 << 18  # 256 KiB: hashing and ciphers are at full speed, and it is little memory
_SPOOL_MEMORY = 1 << 23  # 8 MiB of a pipe stay in memory before they go to a private file


def chunks(stream: BinaryIO, size: int = CHUNK_SIZE) -> Iterator[bytes]:
    """The rest of a stream, in pieces of at most `size` octets."""
    while piece := stream.read(size):
        yield piece


def spool(stream: BinaryIO | None = None) -> BinaryIO:
    """A private temporary stream that can seek, filled from `stream` and rewound; nobody else can open it."""
    spooled = cast("BinaryIO", tempfile.SpooledTemporaryFile(max_size=_SPOOL_MEMORY))  # noqa: SIM115
    if stream is not None:
        for piece in chunks(stream):
            spooled.write(piece)
        spooled.seek(0)
    return spooled


@contextlib.contextmanager
def open_input(name: str | Path) -> Iterator[BinaryIO]:
    """Open a file, or standard input as "-", for reading; what comes can seek.

    Raises:
        FileError: The file cannot be opened or read.
    """
    with _file_errors("read", name):
        if str(name) == STANDARD_STREAM:
            with spool(sys.stdin.buffer) as stream:
                yield stream
            return
        with Path(name).open("rb") as file:
            if file.seekable():
                yield file
                return
            with spool(file) as stream:
                yield stream


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
        with spool() as stream:
            yield stream
            stream.seek(0)
            with _file_errors("write", "standard output"):
                for piece in chunks(stream):
                    sys.stdout.buffer.write(piece)
                sys.stdout.buffer.flush()
        return
    path = Path(name)
    if path.is_dir():
        raise FileError(f"{name} is a folder")
    if path.exists() and not stat.S_ISREG(path.stat().st_mode):  # a device or a pipe cannot be renamed over
        with _file_errors("write", name), path.open("wb") as device:
            yield device
        return
    if path.exists() and not force:
        raise _exists(name)
    temporary = path.with_name(f".{path.name[:200]}.{secrets.token_hex(8)}.part")
    with _file_errors("write", name):
        try:
            with open(os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600), "w+b") as file:  # noqa: PTH123 - a descriptor
                yield file
                file.flush()
                os.fchmod(file.fileno(), mode & ~_umask())
                os.fsync(file.fileno())
            _publish(temporary, path, force=force)
        finally:
            temporary.unlink(missing_ok=True)


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


@contextlib.contextmanager
def _file_errors(verb: str, name: str | Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        subject = error.filename if isinstance(error.filename, str) else name
        if subject and str(subject).endswith(".part"):
            subject = name
        reason = error.strerror or str(error)
        raise FileError(f"cannot {verb} {subject}: {reason}") from error
