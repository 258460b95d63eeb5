"""opencryptoki, an HSM in software, in a small system of Debian's coming release.

softhsm/opencryptoki.sh makes that system. It runs by chroot, in namespaces of its own for mounts, processes
and shared memory. What it writes goes into a file system in memory: each start finds the system as it was
made, and nothing is left when the first process of the namespaces ends. This machine's Python, the repository
and the folder for temporary files are seen in there under the same names.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import sys
import sysconfig
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.modules.base import REPOSITORY, NotStartedError, RealModule, RunningModule, process, write_pin_file

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["OpenCryptoki", "RunningOpenCryptoki"]

_SYSTEM: Final = Path(os.environ.get("OPENCRYPTOKI_FORKY", REPOSITORY / ".forky" / "opencryptoki"))
_LIBRARY: Final = Path(f"/usr/lib/{os.uname().machine}-linux-gnu/pkcs11/libopencryptoki.so")
_NAMESPACES: Final = ("--mount", "--pid", "--ipc")  # opencryptoki has shared memory of both kinds
_TOOL_TIMEOUT: Final = 30.0  # seconds for pkcsconf, which derives keys from PINs at length
_CONFIGURATION: Final = """\
version opencryptoki-3.27
slot 0
{
    stdll = libpkcs11_sw.so
    tokversion = 3.12
}
"""
_SLOT: Final = ("-c", "0")
_FIRST_SO_PIN: Final = "87654321"  # of a token that is not set up; the documentation has it
_FIRST_USER_PIN: Final = "changeme"  # what the security officer sets, the user has to change


@dataclass(kw_only=True)
class RunningOpenCryptoki(RunningModule):
    """A token of opencryptoki in its own system.

    Attributes:
        root: Where the system is mounted, in the namespaces.
        process_id: The first process of the namespaces.
    """

    root: Path
    process_id: int

    def command(self, command: Sequence[str]) -> list[str]:
        enter = ["nsenter", f"--target={self.process_id}", *_NAMESPACES]
        return [*enter, "chroot", str(self.root), "env", f"--chdir={Path.cwd()}", *command]

    def unlock(self) -> None:
        self._pkcsconf("-u", "-S", self.so_pin, "-n", _FIRST_USER_PIN)
        self._pkcsconf("-p", "-U", _FIRST_USER_PIN, "-n", self.user_pin)

    def set_up(self) -> None:
        """Initialise the token and set its PINs.

        Raises:
            NotStartedError: The token's tool fails.
        """
        self._pkcsconf("-I", "-S", _FIRST_SO_PIN, stdin=f"{self.token_label}\n")
        self._pkcsconf("-P", "-S", _FIRST_SO_PIN, "-n", self.so_pin)
        self.unlock()

    def _pkcsconf(self, *arguments: str, stdin: str = "") -> None:
        done = self.run(["pkcsconf", *_SLOT, *arguments], stdin=stdin, timeout=_TOOL_TIMEOUT)
        if done.returncode or "CKR_" in done.stdout + done.stderr:  # it also fails with exit code 0
            raise NotStartedError(f"pkcsconf {arguments[0]}: {done.stdout}{done.stderr}")


class OpenCryptoki(RealModule):
    """Starts opencryptoki's daemon in the system that softhsm/opencryptoki.sh made."""

    name = "opencryptoki"

    def missing(self) -> str | None:
        if not _SYSTEM.is_dir():
            return "there is no system with opencryptoki: softhsm/opencryptoki.sh makes it"
        if os.geteuid():
            return "only root can run opencryptoki in its own system"
        tried = subprocess.run(_unshared("true"), capture_output=True, text=True, check=False)
        return f"no namespaces: {tried.stderr.strip()}" if tried.returncode else None

    @contextlib.contextmanager
    def start(self, folder: Path) -> Iterator[RunningOpenCryptoki]:
        (folder / "opencryptoki.conf").write_text(_CONFIGURATION)
        with _daemon(folder) as (root, process_id):
            running = RunningOpenCryptoki(
                path=_LIBRARY,
                environment={},
                token_label="acme",
                user_pin="1234user",  # this token's PINs have at most 8 characters
                so_pin="officer5",
                pin_file=write_pin_file(folder / "pin", "1234user"),
                root=root,
                process_id=process_id,
            )
            running.set_up()
            yield running


@contextlib.contextmanager
def _daemon(folder: Path) -> Iterator[tuple[Path, int]]:
    """opencryptoki's daemon in its system; gives where that is mounted, and the namespaces' first process."""
    state, started = folder / "system", folder / "started"
    state.mkdir()
    root = state / "root"
    script = "\n".join(shlex.join(line) for line in _commands(folder, state, root, started))
    with process(
        _unshared("sh", "-e", "-c", script), log=folder / "start.log", ready=started.exists
    ) as unshare:
        (first,) = Path(f"/proc/{unshare.pid}/task/{unshare.pid}/children").read_text().split()
        try:
            yield root, int(first)
        finally:
            os.kill(int(first), signal.SIGKILL)  # and with it all that run in there, and the mounts


def _unshared(*command: str) -> list[str]:
    """The command that runs another one as the first process of new namespaces, which dies with it."""
    return ["unshare", *_NAMESPACES, "--fork", "--kill-child", *command]


def _commands(folder: Path, state: Path, root: Path, started: Path) -> Iterator[list[str]]:
    """What the first process of the namespaces does."""
    yield ["umask", "022"]
    yield ["mount", "-t", "tmpfs", "tmpfs", str(state)]
    changes, work = state / "changes", state / "work"
    yield ["mkdir", str(changes), str(work), str(root)]
    layers = f"lowerdir={_SYSTEM},upperdir={changes},workdir={work}"
    yield ["mount", "-t", "overlay", "-o", layers, "overlay", str(root)]
    yield ["mount", "-t", "proc", "proc", f"{root}/proc"]
    yield ["mount", "--bind", "/dev", f"{root}/dev"]
    yield ["mount", "-t", "tmpfs", "tmpfs", f"{root}/dev/shm"]  # noqa: S108 - the token's shared memory
    options = dict.fromkeys((*_python(), Path(sys.prefix)), "ro")
    options |= dict.fromkeys((REPOSITORY, Path(tempfile.gettempdir()), folder), "rw")
    for path in sorted(options):  # a folder before what lies in it
        inside = f"{root}{path}"
        yield ["mkdir", "-p", inside] if path.is_dir() else ["touch", inside]
        yield ["mount", "--bind", "-o", options[path], str(path), inside]
    yield ["cp", str(folder / "opencryptoki.conf"), f"{root}/etc/opencryptoki/opencryptoki.conf"]
    yield ["chroot", str(root), "pkcsslotd"]  # goes into the background by itself
    yield ["touch", str(started)]
    yield ["exec", "sleep", "infinity"]


def _python() -> list[Path]:
    """What this machine's Python consists of, apart from the virtual environment."""
    if Path(sys.base_prefix) != Path("/usr"):
        return [Path(sys.base_prefix)]
    program = Path(sys.executable).resolve()
    return [program, program.with_name("python3"), Path(sysconfig.get_path("stdlib"))]
