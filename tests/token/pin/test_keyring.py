"""A real Secret Service: gnome-keyring on a message bus of its own, with nothing of the user's."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from typing import TYPE_CHECKING, Final

import pytest

from tokensign.errors import PinUnavailableError
from tokensign.token import PinRequest, parse_pin_source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

TIMEOUT: Final = 60.0  # seconds for a daemon to start
BUS: Final = """
    <busconfig>
      <type>session</type>
      <listen>unix:path={folder}/bus</listen>
      <auth>EXTERNAL</auth>
      <policy context="default">
        <allow send_destination="*"/>
        <allow receive_sender="*"/>
        <allow own="*"/>
      </policy>
    </busconfig>
"""
ASK: Final = """
    import sys
    from tokensign.errors import TokensignError
    from tokensign.token import PinRequest, parse_pin_source
    request = PinRequest(purpose="the token acme", account=sys.argv[1])
    try:
        print(parse_pin_source("keyring:tokensign").get(request).reveal())
    except TokensignError as error:
        print(error, "/", error.hint)
"""


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, str]]:
    """The environment of a session with a message bus and an unlocked, empty keyring."""
    for program in ("dbus-daemon", "gnome-keyring-daemon"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    folder = tmp_path_factory.mktemp("keyring")
    (folder / "bus.conf").write_text(textwrap.dedent(BUS).strip().format(folder=folder))
    environment = {name: value for name, value in os.environ.items() if name != "DISPLAY"} | {
        "HOME": str(folder),
        "XDG_DATA_HOME": str(folder / "data"),
        "XDG_CONFIG_HOME": str(folder / "config"),
        "XDG_RUNTIME_DIR": str(folder),
        "DBUS_SESSION_BUS_ADDRESS": f"unix:path={folder}/bus",
    }
    bus = ["dbus-daemon", "--nofork", "--nosyslog", "--nopidfile", f"--config-file={folder}/bus.conf"]
    keyring = ["gnome-keyring-daemon", "--unlock", "--foreground", "--components=secrets"]
    started: list[subprocess.Popen[bytes]] = []
    try:
        started.append(start(bus, environment, b""))
        wait_for((folder / "bus").exists, started[0])
        keyring.append(f"--control-directory={folder}")
        started.append(start(keyring, environment, b"the password of the keyring"))
        wait_for(lambda: keyring_answers(environment), started[1])
        yield environment
    finally:
        for process in reversed(started):
            process.send_signal(signal.SIGTERM)
            process.wait(TIMEOUT)


def start(command: list[str], environment: Mapping[str, str], given: bytes) -> subprocess.Popen[bytes]:
    """Start a daemon that reads this from its standard input, and does not outlive the tests."""
    reading, writing = os.pipe()
    os.write(writing, given)
    os.close(writing)
    process = subprocess.Popen(
        ["setpriv", "--pdeathsig", "KILL", *command],
        env=environment,
        stdin=reading,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(reading)
    return process


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        assert process.poll() is None, f"{process.args!r} ended with {process.returncode}"
        assert time.monotonic() < deadline, f"{process.args!r} is not ready"
        time.sleep(0.05)


def keyring_answers(environment: Mapping[str, str]) -> bool:
    return run(environment, "import keyring; keyring.set_password('x', 'x', 'x')").returncode == 0


def run(environment: Mapping[str, str], script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), *arguments],
        env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("account", ["acme", "acme (SO)"])
def test_the_entry_that_the_keyring_has_for_the_token_is_the_pin(
    session: Mapping[str, str], account: str
) -> None:
    store = f"import keyring; keyring.set_password('tokensign', {account!r}, 'grün of {account}')"
    assert run(session, store).returncode == 0
    assert run(session, ASK, account).stdout == f"{f'grün of {account}'.encode()!r}\n"


def test_the_command_in_the_hint_stores_the_pin(session: Mapping[str, str]) -> None:
    told = run(session, ASK, "other").stdout
    assert told.startswith("the keyring has no entry other of the service tokensign")
    assert 'store one with `keyring set tokensign "other"`' in told
    stored = subprocess.run(
        [sys.executable, "-m", "keyring", "set", "tokensign", "other"],
        env=session, input="4711\n", capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert stored.returncode == 0, stored.stderr
    assert run(session, ASK, "other").stdout == "b'4711'\n"


def test_without_a_secret_service_the_message_says_so(session: Mapping[str, str]) -> None:
    nowhere = {**session, "DBUS_SESSION_BUS_ADDRESS": "unix:path=/nonexistent"}
    assert "cannot be read from a keyring: NoKeyringError / a Secret Service must run" in run(
        nowhere, ASK, "acme"
    ).stdout  # fmt: skip


def test_without_the_library_the_message_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "keyring", None)
    with pytest.raises(PinUnavailableError, match="the library keyring is not installed") as refusal:
        parse_pin_source("keyring:tokensign").get(PinRequest(purpose="the token acme", account="acme"))
    assert refusal.value.hint == "install it with `pip install tokensign[keyring]`"


def test_the_source_shows_its_service() -> None:
    assert repr(parse_pin_source("keyring:tokensign")) == "KeyringSource('tokensign')"
