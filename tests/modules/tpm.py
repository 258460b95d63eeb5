"""A TPM 2.0: the software TPM swtpm behind a resource manager and tpm2-pkcs11.

    tpm2-pkcs11 --(private D-Bus)--> tpm2-abrmd --(private socket)--> swtpm

The resource manager is needed: a TPM holds three objects at a time, and tpm2-pkcs11 by itself soon fails with
"out of memory for object contexts".
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.modules.base import NotStartedError, RealModule, RunningModule, process, write_pin_file

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["RunningTpm", "Tpm"]

_PROGRAMS: Final = (
    "swtpm",
    "dbus-daemon",
    "tpm2-abrmd",
    "tpm2_ptool",
    "tpm2_getrandom",
    "tpm2_dictionarylockout",
)
_PLACES: Final = (
    f"/usr/lib/{os.uname().machine}-linux-gnu/pkcs11/libtpm2_pkcs11.so",  # Debian
    "/usr/lib64/pkcs11/libtpm2_pkcs11.so",  # Fedora
)
_TOOL_TIMEOUT: Final = 60.0  # seconds for one of the TPM's tools, which make keys
_MAX_TRANSIENTS: Final = 100  # the most it allows; tpm2-pkcs11 keeps each key that a process used loaded
_BUS_CONFIGURATION: Final = """\
<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>session</type>
  <listen>unix:path={socket}</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow send_destination="*"/>
    <allow receive_sender="*"/>
    <allow own="*"/>
  </policy>
</busconfig>
"""


@dataclass(kw_only=True)
class RunningTpm(RunningModule):
    """A TPM with one token in its store."""

    def unlock(self) -> None:
        """Clear the TPM's protection against guessing, and set the PIN as the security officer."""
        self.tool("tpm2_dictionarylockout", "--clear-lockout")
        officer, user = f"--sopin={self.so_pin}", f"--userpin={self.user_pin}"
        self.tool("tpm2_ptool", "initpin", f"--label={self.token_label}", officer, user)

    def set_up(self) -> None:
        """Make the store's primary key and the token.

        Raises:
            NotStartedError: The TPM's tools fail.
        """
        self.tool("tpm2_ptool", "init")
        officer, user = f"--sopin={self.so_pin}", f"--userpin={self.user_pin}"
        self.tool("tpm2_ptool", "addtoken", "--pid=1", f"--label={self.token_label}", officer, user)

    def answers(self) -> bool:
        """Whether the TPM does."""
        return not self._run("tpm2_getrandom", "--hex", "1").returncode

    def tool(self, *command: str) -> None:
        """Run one of the TPM's tools.

        Raises:
            NotStartedError: It fails.
        """
        done = self._run(*command)
        if done.returncode:
            raise NotStartedError(f"{command[0]} ended with {done.returncode}: {done.stderr[-500:]}")

    def _run(self, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            env=os.environ | self.environment,
            timeout=_TOOL_TIMEOUT,
            capture_output=True,
            text=True,
            check=False,
        )


class Tpm(RealModule):
    """Starts a TPM of its own, with all state in the folder."""

    name = "tpm"

    def missing(self) -> str | None:
        absent = [program for program in _PROGRAMS if not shutil.which(program)]
        if not _library():
            absent.append("libtpm2_pkcs11.so")
        return f"not installed: {', '.join(absent)}" if absent else None

    @contextlib.contextmanager
    def start(self, folder: Path) -> Iterator[RunningTpm]:
        library = _library()
        assert library, "`missing` was not asked"
        store = folder / "store"
        store.mkdir()
        manager = "tabrmd:bus_type=session"
        running = RunningTpm(
            path=library,
            environment={
                "DBUS_SESSION_BUS_ADDRESS": f"unix:path={folder / 'bus'}",
                "TPM2_PKCS11_STORE": str(store),
                "TPM2_PKCS11_TCTI": manager,
                "TPM2TOOLS_TCTI": manager,
            },
            token_label="acme",
            user_pin="1234-user",
            so_pin="5678-officer",
            pin_file=write_pin_file(folder / "pin", "1234-user"),
        )
        with contextlib.ExitStack() as stack:
            tpm = stack.enter_context(_software_tpm(folder))
            stack.enter_context(_bus(folder))
            stack.enter_context(_resource_manager(folder, running, tpm))
            running.set_up()
            yield running


def _library() -> Path | None:
    return next((Path(place) for place in _PLACES if Path(place).exists()), None)


@contextlib.contextmanager
def _software_tpm(folder: Path) -> Iterator[Path]:
    """A TPM; gives its socket."""
    state, path = folder / "tpm", folder / "swtpm"
    control = path.with_name(f"{path.name}.ctrl")  # where the TPM's library looks for it
    state.mkdir()
    arguments = {
        "--tpmstate": f"dir={state}",
        "--flags": "not-need-init,startup-clear",
        "--server": f"type=unixio,path={path}",
        "--ctrl": f"type=unixio,path={control}",
    }
    command = ["swtpm", "socket", "--tpm2", *chain.from_iterable(arguments.items())]
    with process(command, log=folder / "swtpm.log", ready=lambda: path.exists() and control.exists()):
        yield path


@contextlib.contextmanager
def _bus(folder: Path) -> Iterator[None]:
    """A D-Bus for nobody else, on which nothing is started by name."""
    path, configuration = folder / "bus", folder / "bus.conf"
    configuration.write_text(_BUS_CONFIGURATION.format(socket=path))
    command = ["dbus-daemon", f"--config-file={configuration}", "--nofork", "--nosyslog", "--nopidfile"]
    with process(command, log=folder / "bus.log", ready=path.exists):
        yield


@contextlib.contextmanager
def _resource_manager(folder: Path, running: RunningTpm, tpm: Path) -> Iterator[None]:
    command = [
        "tpm2-abrmd",
        "--session",
        "--allow-root",
        f"--max-transients={_MAX_TRANSIENTS}",
        f"--tcti=swtpm:path={tpm}",
    ]
    log = folder / "tpm2-abrmd.log"
    with process(command, log=log, ready=running.answers, environment=running.environment):
        yield
