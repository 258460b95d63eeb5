"""The agent as people and scripts use it: a process that stays, and commands that ask for no PIN."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.cli.test_pins import Console
from tokensign.agent.client import AgentClient
from tokensign.algorithms import default_scheme
from tokensign.errors import AgentError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.cli.conftest import Terminal, Trace

TIMEOUT = 30.0  # seconds until what must happen has happened


class Agents:
    """Starts agents, and ends those that a test leaves behind."""

    def __init__(self, terminal: Terminal, runtime: Path) -> None:
        self.socket = runtime / "tokensign" / "agent.sock"
        self.started: list[int] = []
        self._terminal = terminal
        terminal.environment["XDG_RUNTIME_DIR"] = str(runtime)

    def start(self, *options: str, environment: dict[str, str | None] | None = None) -> dict[str, str | None]:
        """Start one with the PIN from its file; the environment of commands that use it and have no PIN."""
        told = self._terminal.run("agent", "start", *options, "--json", environment=environment).json
        self.started.append(told["process"])
        assert told["socket"] == str(self.socket)
        return {"TOKENSIGN_AGENT": told["socket"], "TOKENSIGN_PIN_SOURCE": None}

    @property
    def process(self) -> int:
        return self.started[-1]

    @property
    def runs(self) -> bool:
        try:
            state = Path(f"/proc/{self.process}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return False
        return state != "Z"  # nobody here is there to reap it

    def wait_for_end(self) -> None:
        end = time.monotonic() + TIMEOUT
        while self.runs:
            assert time.monotonic() < end
            time.sleep(0.02)


@pytest.fixture
def agents(terminal: Terminal) -> Iterator[Agents]:
    with tempfile.TemporaryDirectory() as runtime:
        agents = Agents(terminal, Path(runtime))
        yield agents
        for process in agents.started:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)


def sign(terminal: Terminal, environment: dict[str, str | None], number: int = 1, **options: Any) -> str:  # noqa: ANN401 - those of `run`
    return terminal.run(
        "sign", "letter.txt", "--key", "alice", "-o", f"{number}.p7s", environment=environment, **options
    ).error


def test_ten_signatures_want_one_login(
    terminal: Terminal, agents: Agents, spy: Callable[[Terminal], Trace]
) -> None:
    trace = spy(terminal)
    environment = agents.start(environment=trace.environment) | trace.environment
    for number in range(10):
        sign(terminal, environment, number)
        terminal.run("verify", f"{number}.p7s", "--content", "letter.txt", "--trust", "ca.pem")
    terminal.run("agent", "stop")
    assert len(trace.calls("C_Login")) == 1
    assert len(trace.calls("C_Sign")) == 10
    assert len(trace.calls("C_Initialize")) == 1  # so no command loaded the module itself
    assert len(trace.calls("C_Logout")) == 1


def test_everything_that_uses_keys_uses_the_agent(terminal: Terminal, agents: Agents) -> None:
    environment = agents.start()
    terminal.run("decrypt", "secret.p7m", "-o", "any.txt", environment=environment)
    terminal.run("decrypt", "secret.p7m", "--key", "bob", "-o", "named.txt", environment=environment)
    assert terminal.read("any.txt") == terminal.read("named.txt") == terminal.read("letter.txt")
    request = terminal.run("cert", "request", "carol", "--subject", "CN=Carol", environment=environment)
    assert b"CERTIFICATE REQUEST" in request.output
    two = ("--key", "alice@acme.example", "--key", "file:carol.pem")
    terminal.run("sign", "letter.txt", *two, "-o", "two.p7s", environment=environment)
    terminal.run("verify", "two.p7s", "--content", "letter.txt", "--trust", "ca.pem")
    terminal.run("key", "generate", "archive", "--type", "aes:256")
    archive = "pkcs11:token=acme;object=archive;type=secret-key"
    terminal.run("encrypt", "letter.txt", "--to", archive, "-o", "kek.p7m", environment=environment)
    terminal.run("decrypt", "kek.p7m", "-o", "kek.txt", environment=environment)
    terminal.run("decrypt", "kek.p7m", "--key", "archive", "-o", "kek2.txt", environment=environment)
    assert terminal.read("kek.txt") == terminal.read("kek2.txt") == terminal.read("letter.txt")


def test_errors_about_keys_are_those_of_the_token(terminal: Terminal, agents: Agents) -> None:
    environment = agents.start()
    command = ("sign", "letter.txt", "--key", "zora")
    by_agent = terminal.run(*command, code=3, environment=environment)
    by_token = terminal.run(*command, code=3)
    assert by_agent.error.splitlines()[0] == by_token.error.splitlines()[0]
    assert "there is no key zora on the token acme" in by_agent.error


def test_what_is_printed_sets_the_variable_in_a_shell(terminal: Terminal, agents: Agents) -> None:
    started = terminal.run("agent", "start")
    shell = subprocess.run(["sh", "-c", f"{started.text}\nenv"], capture_output=True, text=True, check=True)
    assert f"TOKENSIGN_AGENT={agents.socket}" in shell.stdout.splitlines()
    terminal.run("agent", "stop")


def test_status_lock_unlock_and_stop(terminal: Terminal, agents: Agents) -> None:
    environment = agents.start("--timeout", "10")

    def status() -> Any:  # noqa: ANN401 - a document
        return terminal.run("agent", "status", "--json").json

    told = status()
    assert (told["socket"], told["locked"], told["confirm"]) == (str(agents.socket), False, False)
    assert 500 < told["seconds_left"] <= 600
    assert "token=acme" in told["token"]
    terminal.run("agent", "lock")
    assert (status()["locked"], status()["seconds_left"]) == (True, None)
    error = sign(terminal, environment, code=3)
    assert "the agent is locked" in error
    assert "tokensign agent unlock" in error
    assert not terminal.exists("1.p7s")
    terminal.run("agent", "unlock")
    sign(terminal, environment)
    terminal.run("agent", "stop")
    agents.wait_for_end()
    assert not agents.socket.exists()
    assert "no agent listens" in terminal.run("agent", "status", code=3).error


def test_unlocking_reads_the_pin_anew_and_tries_it_once(
    terminal: Terminal, agents: Agents, user_pin: str
) -> None:
    environment = agents.start()
    terminal.run("agent", "lock")
    terminal.write("pin", "wrong\n")
    assert "refused the PIN; it was tried once" in terminal.run("agent", "unlock", code=3).error
    assert "the agent is locked" in sign(terminal, environment, code=3)
    terminal.write("pin", f"{user_pin}\n")
    terminal.run("agent", "unlock")
    sign(terminal, environment)


def test_a_wrong_pin_starts_no_agent(
    terminal: Terminal, agents: Agents, spy: Callable[[Terminal], Trace]
) -> None:
    trace = spy(terminal)
    terminal.write("pin", "wrong\n")
    failed = terminal.run("agent", "start", code=3, environment=trace.environment)
    assert "refused the PIN" in failed.error
    assert failed.output == b""
    assert len(trace.calls("C_Login")) == 1
    assert not agents.socket.exists()


def test_without_a_pin_source_and_a_terminal_no_agent_starts(terminal: Terminal, agents: Agents) -> None:
    failed = terminal.run("agent", "start", code=3, environment={"TOKENSIGN_PIN_SOURCE": None})
    assert "there is no terminal to ask on" in failed.error
    assert not agents.socket.exists()


def test_the_pin_may_come_through_a_descriptor(terminal: Terminal, agents: Agents) -> None:
    with (terminal.folder / "pin").open("rb") as pin:
        started = terminal.run(
            "agent", "start", "--json", "--pin-source", f"fd:{pin.fileno()}",
            pass_fds=[pin.fileno()], environment={"TOKENSIGN_PIN_SOURCE": None},
        )  # fmt: skip
    agents.started.append(started.json["process"])
    sign(terminal, {"TOKENSIGN_AGENT": str(agents.socket), "TOKENSIGN_PIN_SOURCE": None})


def test_a_second_agent_is_refused_before_it_asks_for_a_pin(terminal: Terminal, agents: Agents) -> None:
    environment = agents.start()
    error = terminal.run("agent", "start", code=3, environment={"TOKENSIGN_PIN_SOURCE": None}).error
    assert "an agent is there already" in error
    sign(terminal, environment)


@pytest.mark.parametrize("option", ["--timeout", "--lifetime"])
def test_after_a_timeout_the_agent_is_locked(terminal: Terminal, agents: Agents, option: str) -> None:
    environment = agents.start(option, "0.05")
    end = time.monotonic() + TIMEOUT
    while not terminal.run("agent", "status", "--json").json["locked"]:
        assert time.monotonic() < end
    assert "the agent is locked" in sign(terminal, environment, code=3)


def test_an_agent_that_was_killed_is_told_and_the_token_is_opened_without_it(
    terminal: Terminal, agents: Agents
) -> None:
    environment = agents.start()
    os.kill(agents.process, signal.SIGKILL)
    agents.wait_for_end()
    error = sign(terminal, environment, code=3)
    assert f"warning: no agent listens at {agents.socket}; the token is opened without it" in error
    assert "there is no terminal to ask on" in error
    with_pin = environment | {"TOKENSIGN_PIN_SOURCE": f"file:{terminal.folder / 'pin'}"}
    assert "no agent listens" in sign(terminal, with_pin)
    agents.start()  # what the killed one left behind is no hindrance
    sign(terminal, environment, 2)


def test_an_agent_that_dies_in_the_middle_is_told(agents: Agents) -> None:
    agents.start()
    with AgentClient.reach(agents.socket) or pytest.fail("there is no agent") as client:
        key = client.open_key("alice")
        os.kill(agents.process, signal.SIGKILL)
        agents.wait_for_end()
        with pytest.raises(AgentError, match="went away") as caught:
            key.sign(b"message", default_scheme(key.public_key))
    assert "tokensign agent start" in (caught.value.hint or "")


def test_a_signal_ends_the_agent_in_good_order(
    terminal: Terminal, agents: Agents, spy: Callable[[Terminal], Trace]
) -> None:
    trace = spy(terminal)
    agents.start(environment=trace.environment)
    os.kill(agents.process, signal.SIGTERM)
    agents.wait_for_end()
    assert not agents.socket.exists()
    assert len(trace.calls("C_Logout")) == 1


def test_another_token_is_opened_without_the_agent(terminal: Terminal, agents: Agents) -> None:
    environment = agents.start()
    terminal.run("token", "init", "other", "--so-pin-source", "file:so-pin")
    with_pin = {"TOKENSIGN_AGENT": environment["TOKENSIGN_AGENT"]}
    terminal.run("key", "generate", "dave", "--type", "ec:p256", "--token", "other")
    terminal.run("cert", "self-sign", "dave", "--subject", "CN=Dave", "--token", "other")
    for name in (("dave", "--token", "other"), ("pkcs11:token=other;object=dave",)):
        told = terminal.run("sign", "letter.txt", "-v", "--force", "--key", *name, environment=with_pin).error
        assert "serves another token" in told
    command = ("sign", "letter.txt", "--force", "--key", "dave", "--token", "other")
    assert "there is no terminal" in terminal.run(*command, code=3, environment=environment).error
    sign(terminal, environment | {"TOKENSIGN_TOKEN": "acme"})


def test_the_configuration_may_say_that_the_agent_is_used(terminal: Terminal, agents: Agents) -> None:
    agents.start()
    terminal.write("config.toml", "agent = true\n")
    environment: dict[str, str | None] = {"TOKENSIGN_PIN_SOURCE": None, "TOKENSIGN_CONFIG": "config.toml"}
    sign(terminal, environment)
    error = sign(terminal, environment | {"TOKENSIGN_AGENT": ""}, 2, code=3)
    assert "there is no terminal to ask on" in error
    terminal.run("agent", "stop")
    assert "agent" not in sign(terminal, environment, 3, code=3)


def test_without_the_variable_no_agent_is_used(terminal: Terminal, agents: Agents) -> None:
    agents.start()
    assert "there is no terminal" in sign(terminal, {"TOKENSIGN_PIN_SOURCE": None}, code=3)


def test_an_agent_where_others_could_put_one_is_not_used(terminal: Terminal, agents: Agents) -> None:
    environment = agents.start()
    agents.socket.parent.chmod(0o777)
    error = sign(terminal, environment | {"TOKENSIGN_PIN_SOURCE": "file:pin"}, code=3)
    assert "closed to others" in error
    assert not terminal.exists("1.p7s")


def test_the_process_is_alone_and_closed(terminal: Terminal, agents: Agents, user_pin: str) -> None:
    agents.start()
    process = Path("/proc", str(agents.process))
    assert os.getsid(agents.process) == agents.process
    assert {str((process / "fd" / number).readlink()) for number in "012"} == {"/dev/null"}
    limits = (process / "limits").read_text().splitlines()
    core = next(line for line in limits if line.startswith("Max core file size"))
    assert core.split()[4:6] == ["0", "0"]
    for name in ("cmdline", "environ"):
        assert user_pin.encode() not in (process / name).read_bytes()
    assert stat.S_IMODE(agents.socket.parent.stat().st_mode) == 0o700
    assert terminal.run("agent", "status", "--json").json["memory_locked"] is (os.geteuid() == 0)


def test_in_the_foreground_it_ends_with_its_signal(terminal: Terminal, agents: Agents) -> None:
    with terminal.start("agent", "start", "--foreground", "--json") as process:
        assert process.stdout
        lines = [process.stdout.readline()]
        while lines[-1].strip() != b"}":
            lines.append(process.stdout.readline())
        told = json.loads(b"".join(lines))
        sign(terminal, {"TOKENSIGN_AGENT": told["socket"], "TOKENSIGN_PIN_SOURCE": None})
        process.terminate()
        terminal.finish(process, 143)
    assert not agents.socket.exists()


PINENTRY = """#!{python}
import sys
print("OK", flush=True)
for line in sys.stdin:
    with open({log!r}, "a") as log:
        log.write(line)
    if line == "GETPIN\\n":
        print("D " + {pin!r})
    if line == "CONFIRM\\n" and not {agrees}:
        print("ERR 83886194 Not confirmed <Pinentry>", flush=True)
        continue
    print("OK", flush=True)
"""


@pytest.fixture
def pinentry(terminal: Terminal, user_pin: str) -> Callable[..., dict[str, str | None]]:
    """A program that answers as pinentry does: `pinentry(agrees=True)`; the log is in the file `asked`."""

    def write(*, agrees: bool = True) -> dict[str, str | None]:
        details = {"python": sys.executable, "log": str(terminal.folder / "asked"), "pin": user_pin}
        path = terminal.write("pinentry", PINENTRY.format(agrees=agrees, **details))
        path.chmod(0o755)
        return {"PINENTRY_PROGRAM": str(path)}

    return write


def test_each_use_is_confirmed_in_pinentry(
    terminal: Terminal, agents: Agents, pinentry: Callable[..., dict[str, str | None]]
) -> None:
    environment = agents.start("--confirm", environment=pinentry())
    for number in range(2):
        sign(terminal, environment, number)
    asked = terminal.read("asked").decode()
    assert asked.count("CONFIRM\n") == 2
    program = os.path.realpath(sys.executable)
    assert asked.count(f"SETDESC {program} (process ") == 2
    assert "wants to sign with the key alice%0Aon the token acme\n" in asked
    assert "GETPIN" not in asked


def test_a_use_that_is_not_confirmed_makes_nothing(
    terminal: Terminal, agents: Agents, pinentry: Callable[..., dict[str, str | None]]
) -> None:
    environment = agents.start("--confirm", environment=pinentry(agrees=False))
    assert "the use of the key was not confirmed" in sign(terminal, environment, code=3)
    assert not terminal.exists("1.p7s")
    terminal.run("decrypt", "secret.p7m", "-o", "letter", code=3, environment=environment)
    assert not terminal.exists("letter")


def test_a_pin_that_was_typed_is_asked_for_in_pinentry_to_unlock(
    terminal: Terminal, agents: Agents, pinentry: Callable[..., dict[str, str | None]]
) -> None:
    environment = agents.start("--pin-source", "pinentry", environment=pinentry())
    terminal.run("agent", "lock")
    terminal.run("agent", "unlock")
    sign(terminal, environment)
    asked = terminal.read("asked").decode()
    assert asked.count("GETPIN\n") == 2
    assert "To unlock the agent" in asked


def test_a_pin_that_was_typed_at_the_prompt_serves_all_that_follows(
    terminal: Terminal, agents: Agents, pinentry: Callable[..., dict[str, str | None]], user_pin: str
) -> None:
    terminal.environment.update({name: str(value) for name, value in pinentry().items()})
    console = Console(terminal, "agent", "start")
    console.expect(b"PIN for the token acme: ")
    while console.echoes:
        time.sleep(0.01)
    console.type(user_pin)
    console.expect(b"export TOKENSIGN_AGENT;")
    assert console.finish().endswith("[0]")  # and the terminal is free: the agent has left it
    environment: dict[str, str | None] = {
        "TOKENSIGN_AGENT": str(agents.socket),
        "TOKENSIGN_PIN_SOURCE": None,
    }
    sign(terminal, environment)
    assert not terminal.exists("asked")
    terminal.run("agent", "lock")
    terminal.run("agent", "unlock")
    sign(terminal, environment, 2)
    assert terminal.read("asked").decode().count("GETPIN\n") == 1
    terminal.run("agent", "stop")
