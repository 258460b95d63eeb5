"""Starts the command line in processes that have imported all of it, since that is most of what they do.

A server that has imported tokensign forks a process for each command. It gives the process away to the tests
(its nearest "child subreaper", prctl(2)), which then wait for it, signal it and talk to it through pipes as
with any other child: `LaunchedProcess` is a `subprocess.Popen`. A program that `program` writes does likewise
for shells. What depends on how an interpreter starts, such as its locale, a preloaded
library or another user, is started anew instead.

A forked process ends as any other, but for the objects of its interpreter. To free them is to write to all
the memory that it shares with the server, and so to copy it: five sixths of the time of a short command.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import json
import os
import shlex
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import io
    from collections.abc import Mapping, Sequence

__all__ = ["LaunchedProcess", "program", "run"]

_AT_START: Final = ("PYTHON", "LC_", "LANG", "LD_", "DYLD_", "OPENSSL_", "COVERAGE_", "MALLOC_")
"""Variables that begin so are read once, when an interpreter or one of its libraries starts."""
_SET_CHILD_SUBREAPER: Final = 36  # PR_SET_CHILD_SUBREAPER, linux/prctl.h
_NUMBER: Final = struct.Struct("!I")
_STANDARD: Final = (0, 1, 2)
_MOST_DESCRIPTORS: Final = 64  # bash gives 63 to what `<(...)` stands for
_PROGRAM: Final = [sys.executable, "-m", "tokensign"]
_START_TIMEOUT: Final = 60.0  # seconds for the server's imports on a busy machine


class LaunchedProcess(subprocess.Popen[bytes]):
    """A process of `python -m tokensign`, forked where that makes no difference; else an ordinary one."""

    def _execute_child(self, args: Any, *rest: Any) -> None:  # noqa: ANN401 - subprocess's own
        _, preexec, _, pass_fds, cwd, environment, *_, shell = rest[:9]
        handles, (*credentials, umask, new_session, _) = rest[9:15], rest[16:]
        plain = not shell and preexec is None and credentials == [None] * 3 and umask == -1
        number = 0
        if plain and environment is not None and list(args[:3]) == _PROGRAM:
            stdin, _, _, stdout, _, stderr = handles
            given = [own if handle == -1 else handle for own, handle in enumerate((stdin, stdout, stderr))]
            job = _job(args[3:], str(cwd or Path.cwd()), environment, pass_fds, new_session=new_session)
            number = _launch(_server(environment.get("PYTHONPATH", "")), job, [*given, *pass_fds])
        if not number:
            super()._execute_child(args, *rest)
            return
        self.pid = number
        self._child_created = True
        self._close_pipe_fds(*handles)


def run(
    command: Sequence[str],
    *,
    environment: Mapping[str, str],
    cwd: Path | None = None,
    stdin: str = "",
    timeout: float,
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, in `timeout` seconds, as `subprocess.run` does."""
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with LaunchedProcess(command, env=environment, cwd=cwd, text=True, **pipes) as process:  # type: ignore[call-overload]
        try:
            output, error = process.communicate(stdin, timeout)
        except BaseException:
            process.kill()
            raise
    return subprocess.CompletedProcess(process.args, process.returncode, output, error)


def program(path: Path, environment: Mapping[str, str]) -> None:
    """Write a program that shells can call as `tokensign`.

    Args:
        path: Where it goes.
        environment: That of the shells.
    """
    place = _server(environment.get("PYTHONPATH", ""))
    # Isolated and without site, so that next to nothing is imported before the command is launched.
    command = [sys.executable, "-I", "-S", __file__, "launch", str(place)] if place else _PROGRAM
    path.write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n')
    path.chmod(0o755)


def _job(
    arguments: Sequence[Any],
    cwd: str,
    environment: Mapping[str, str],
    more_descriptors: Sequence[int] = (),
    *,
    new_session: bool,
) -> dict[str, Any]:
    return {
        "arguments": list(map(os.fspath, arguments)),
        "cwd": cwd,
        "environment": dict(environment),
        "descriptors": [*_STANDARD, *more_descriptors],
        "new_session": new_session,
    }


@cache
def _server(python_path: str) -> Path | None:
    """The socket of a server, which ends with this process; None where there cannot be one."""
    if sys.platform != "linux":
        return None
    place = Path(tempfile.mkdtemp(prefix="launcher-")) / "socket"
    atexit.register(shutil.rmtree, place.parent, ignore_errors=True)
    ends_with_us, ours = os.pipe()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(place))
        listening.listen()
        numbers = [listening.fileno(), ends_with_us]
        process = subprocess.Popen(
            [sys.executable, __file__, "serve", *map(str, numbers)],
            env=os.environ | {"LC_ALL": "C.UTF-8", "PYTHONPATH": python_path},
            stdin=subprocess.DEVNULL,
            pass_fds=numbers,
            start_new_session=True,  # without a terminal
        )
    os.close(ends_with_us)
    atexit.register(process.wait, _START_TIMEOUT)
    atexit.register(os.close, ours)
    return place


def _launch(place: Path | None, job: dict[str, Any], descriptors: Sequence[int]) -> int:
    """Start a command; the number of its process, now a child of this one; 0 where it must start anew."""
    if place is None:
        return 0
    libc = ctypes.CDLL(None)
    with socket.socket(socket.AF_UNIX) as connection:
        libc.prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        try:
            if number := _ask(connection, place, job, descriptors):
                _receive_number(connection)  # it was given away
            return number
        finally:
            libc.prctl(_SET_CHILD_SUBREAPER, 0, 0, 0, 0)  # other orphans are not for us


def _ask(connection: socket.socket, place: Path, job: dict[str, Any], descriptors: Sequence[int]) -> int:
    document = json.dumps(job).encode()
    connection.settimeout(_START_TIMEOUT)
    connection.connect(str(place))
    socket.send_fds(connection, [_NUMBER.pack(len(document))], descriptors)
    connection.sendall(document)
    return _receive_number(connection)


def _receive_number(connection: socket.socket) -> int:
    return int(*_NUMBER.unpack(_receive(connection, _NUMBER.size)))


def _receive(connection: socket.socket, size: int) -> bytes:
    received = b""
    while len(received) < size:
        piece = connection.recv(size - len(received))
        if not piece:
            raise EOFError
        received += piece
    return received


def _launch_for_a_shell(place: Path, arguments: list[str]) -> int:
    """Start a command with what this process has, and wait for its end; its exit code."""
    open_ones = [descriptor for descriptor in range(_MOST_DESCRIPTORS) if _is_open(descriptor)]
    if {*_STANDARD} <= {*open_ones}:  # a socket would take the number of a closed one
        extra = open_ones[len(_STANDARD) :]
        job = _job(arguments, str(Path.cwd()), os.environ, extra, new_session=True) | {"waited_for": True}
        with socket.socket(socket.AF_UNIX) as connection:
            if number := _ask(connection, place, job, open_ones):
                for caught in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                    signal.signal(caught, lambda caught, _: os.kill(number, caught))
                connection.settimeout(None)
                return _receive_number(connection)
    return os.execv(sys.executable, [*_PROGRAM, *arguments])  # noqa: S606 - the ordinary way


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


# --- the server


def _serve(listening: socket.socket, ends_with: int) -> list[str] | None:
    """Fork for each job; gives the arguments of its command in a forked process, and None in the server."""
    import select

    while True:
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        ready, _, _ = select.select([listening, ends_with], [], [])
        if ends_with in ready:
            return None
        connection, _ = listening.accept()
        with connection, contextlib.suppress(EOFError, ConnectionError):
            head, descriptors, _, _ = socket.recv_fds(connection, _NUMBER.size, _MOST_DESCRIPTORS)
            try:
                (size,) = _NUMBER.unpack(head + _receive(connection, _NUMBER.size - len(head)))
                job = json.loads(_receive(connection, size))
                if not _starts_alike(job["environment"]):
                    connection.sendall(_NUMBER.pack(0))
                elif _fork_twice(connection, waited_for=job.get("waited_for", False)):
                    listening.close()
                    connection.close()
                    os.close(ends_with)
                    _become(job, descriptors)
                    return list(job["arguments"])
            finally:
                for descriptor in descriptors:
                    with contextlib.suppress(OSError):  # in a forked process they moved
                        os.close(descriptor)


def _starts_alike(environment: Mapping[str, str]) -> bool:
    """Whether an interpreter would start in this environment as this one did."""
    ours, theirs = (
        {name: value for name, value in variables.items() if name.startswith(_AT_START)}
        for variables in (os.environ, environment)
    )
    return ours == theirs


def _fork_twice(connection: socket.socket, *, waited_for: bool) -> bool:
    """Fork a process by way of another one; whether this is that process.

    Its number is told over the connection, and then a second one: its exit code where it is waited for; else
    a 0 as soon as the process between them has ended, which gives it away.
    """
    between = os.fork()
    if between:
        if not waited_for:
            os.waitpid(between, 0)
            connection.sendall(_NUMBER.pack(0))
        return False
    command = os.fork()
    if not command:
        return True
    connection.sendall(_NUMBER.pack(command))
    if waited_for:
        code = os.waitstatus_to_exitcode(os.waitpid(command, 0)[1])
        connection.sendall(_NUMBER.pack(code if code >= 0 else 128 - code))  # as shells count signals
    os._exit(0)


def _become(job: dict[str, Any], descriptors: list[int]) -> None:
    """Be what `python -m tokensign` would be when it has started."""
    if job["new_session"]:
        os.setsid()
    above = [os.dup2(given, 1000 + index) for index, given in enumerate(descriptors)]
    for moved, wanted in zip(above, job["descriptors"], strict=True):
        os.dup2(moved, wanted)
        os.close(moved)
    for given in {*descriptors} - {*job["descriptors"]}:
        os.close(given)
    descriptors.clear()
    os.chdir(job["cwd"])
    os.environ.clear()
    os.environ.update(job["environment"])
    for name, number, mode in (("stdin", 0, "r"), ("stdout", 1, "w"), ("stderr", 2, "w")):
        old: io.TextIOWrapper = getattr(sys, name)
        stream = open(  # noqa: SIM115 - as an interpreter does
            number, mode, encoding=old.encoding, errors=old.errors, closefd=False
        )
        if name == "stderr" or (name == "stdout" and stream.isatty()):
            stream.reconfigure(line_buffering=True)
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


def _end(code: int) -> None:
    """End as an interpreter does, but for freeing its objects; returns when streams cannot be flushed.

    Its steps are those of `Py_FinalizeEx`; processes that multiprocessing forks take the first two as well.
    """
    threading._shutdown()  # type: ignore[attr-defined]  # noqa: SLF001 - waits for threads
    atexit._run_exitfuncs()  # noqa: SLF001 - modules are finalized, and coverage is written
    try:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None and not stream.closed:
                stream.flush()
    except OSError:
        return  # which the interpreter tells
    ctypes.PyDLL(None).exit(code)  # unlike os._exit, it ends the libraries, too


def _import_all() -> None:
    import gc
    import importlib
    import pkgutil

    package = importlib.import_module("tokensign")
    for module in pkgutil.walk_packages(package.__path__, "tokensign."):
        if not module.name.endswith(("__main__", "migrations.env")):  # which do something when imported
            with contextlib.suppress(ImportError):  # of an extra that is not installed
                importlib.import_module(module.name)
    if "coverage" in sys.modules:  # what importing covers is written once, not by each process
        measuring = importlib.import_module("coverage").Coverage.current()
        if measuring is not None:
            measuring.save()
    gc.freeze()  # so that the memory stays shared


def _main(role: str, *arguments: str) -> None:
    if role == "launch":
        place, *command = arguments
        sys.exit(_launch_for_a_shell(Path(place), command))
    listening, ends_with = map(int, arguments)
    _import_all()
    found = _serve(socket.socket(fileno=listening), ends_with)
    if found is not None:
        sys.argv = ["tokensign", *found]
        from tokensign.cli import main

        try:
            main()
        except SystemExit as ended:
            if isinstance(ended.code, int):
                _end(ended.code)
            raise


if __name__ == "__main__":
    _main(*sys.argv[1:])
