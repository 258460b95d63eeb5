"""`tokensign agent`: start the process that keeps a login open, and look after it."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from typing import TYPE_CHECKING, Any, Final

import click

from tokensign.cli import supervisor
from tokensign.cli.command import Cli, Group
from tokensign.cli.inputs import open_token
from tokensign.errors import AgentError

if TYPE_CHECKING:
    from tokensign.agent.client import AgentClient
    from tokensign.token import PinSource, Token

__all__ = ["agent"]

_MINUTE: Final = 60.0
_MINUTES: Final = click.FloatRange(min=0, min_open=True)


@click.group(cls=Group)
def agent() -> None:
    """Keep a login on a token open, so that the PIN is asked for once."""


@agent.command()
@click.option(
    "--timeout",
    metavar="MINUTES",
    type=_MINUTES,
    default=30,
    show_default=True,
    help="Log out when it was not used for so long.",
)
@click.option(
    "--lifetime",
    metavar="MINUTES",
    type=_MINUTES,
    default=480,
    show_default=True,
    help="Log out after so long in any case.",
)
@click.option("--confirm", is_flag=True, help="Ask a person with pinentry before each use of a key.")
@click.option("--foreground", is_flag=True, help="Stay in the foreground, for service managers.")
@click.option(
    "--ready", metavar="FD", type=int, hidden=True, help="Go into the background, and say so there."
)
@click.pass_obj
def start(
    cli: Cli, timeout: float, lifetime: float, confirm: bool, foreground: bool, ready: int | None
) -> None:
    """Log in, and keep the login for other programs of the same user.

    The PIN is asked for now. What is printed sets the variable TOKENSIGN_AGENT in a shell; with it, `sign`,
    `decrypt` and the other commands that use keys use the agent. After a time-out the agent is locked.

    \b
    Examples:
      eval "$(tokensign agent start)"
      tokensign agent start --timeout 10 --confirm
    """
    if foreground or ready is not None:
        _serve(cli, timeout, lifetime, confirm=confirm, ready=ready)
    else:
        options = [
            "--timeout",
            str(timeout),
            "--lifetime",
            str(lifetime),
            *(["--confirm"] if confirm else []),
        ]
        _tell_started(cli, _start_in_background(cli, options))


@agent.command()
@click.pass_obj
def status(cli: Cli) -> None:
    """Tell about the agent: its token, and until when the login lasts.

    \b
    Example:
      tokensign agent status
    """
    with _running(cli) as client:
        document = client.info()
        document.pop("properties")
        document = {"socket": str(client.path), **document}
    cli.output.document(document)
    left = document.pop("seconds_left")
    cli.output.fields(document | {"minutes_left": round(left / _MINUTE, 1) if left is not None else 0})


@agent.command()
@click.pass_obj
def lock(cli: Cli) -> None:
    """Log out and forget the PIN. The agent stays, and refuses to use keys.

    \b
    Example:
      tokensign agent lock
    """
    with _running(cli) as client:
        client.ask("lock")
    _done(cli, "locked")


@agent.command()
@click.pass_obj
def unlock(cli: Cli) -> None:
    """Log in again.

    The agent asks for the PIN itself: where it came from at the start, or with pinentry where it was typed or
    came through a descriptor.

    \b
    Example:
      tokensign agent unlock
    """
    with _running(cli) as client:
        client.ask("unlock")
    _done(cli, "unlocked")


@agent.command()
@click.pass_obj
def stop(cli: Cli) -> None:
    """Log out, forget the PIN and end the agent.

    \b
    Example:
      tokensign agent stop
    """
    with _running(cli) as client:
        client.ask("stop")
    _done(cli, "stopped")


def _done(cli: Cli, state: str) -> None:
    cli.output.status(f"the agent is {state}")
    cli.output.document({"agent": state})


def _running(cli: Cli) -> AgentClient:
    """The agent of TOKENSIGN_AGENT, or else the one in the user's runtime folder."""
    from tokensign.agent.client import AgentClient
    from tokensign.agent.place import default_path
    from tokensign.cli.holder import agent_path

    path = agent_path(cli) or default_path()
    client = AgentClient.reach(path)
    if client is None:
        raise AgentError(f"no agent listens at {path}", hint="start one with `tokensign agent start`")
    return client


def _tell_started(cli: Cli, told: dict[str, Any]) -> None:
    cli.output.status(f"the agent (process {told['process']}) keeps the login on {told['token']}")
    cli.output.text(f"TOKENSIGN_AGENT={shlex.quote(told['socket'])}; export TOKENSIGN_AGENT;")
    cli.output.document(told)


def _start_in_background(cli: Cli, options: list[str]) -> dict[str, Any]:
    """Start the process that will be the agent, and wait until it is; it asks for the PIN itself.

    It is spawned and not forked, and sees this terminal until it says that it is ready.

    Returns:
        What it says.

    Raises:
        click.exceptions.Exit: It ended instead, and said why; with its exit code.
    """
    from tokensign.agent.place import Claim, default_path

    Claim(default_path()).release()  # an agent that is there already is told of at once
    reading, writing = os.pipe()
    kept = [writing, *_descriptor(cli)]
    command = [sys.executable, "-P", "-m", "tokensign", *_common(cli), "agent", "start", *options]
    with subprocess.Popen([*command, "--ready", str(writing)], pass_fds=kept) as process:
        os.close(writing)
        try:
            with os.fdopen(reading, "rb") as stream:
                told = stream.read()
        except BaseException:
            process.terminate()
            raise
        if told:
            process.returncode = 0  # it goes on by itself, and is not waited for
    if not told:
        raise click.exceptions.Exit(process.returncode)
    document: dict[str, Any] = json.loads(told)
    return document


def _common(cli: Cli) -> list[str]:
    """The common options of this command, for another one."""
    named = {
        "--module": cli.module,
        "--token": cli.token,
        "--pin-source": cli.pin_source,
        "--config": cli.config,
    }
    flags = {"--last-try": cli.last_try, "--json": cli.json, "--quiet": cli.quiet}
    given = [part for name, value in named.items() if value for part in (name, value)]
    return [*given, *(name for name, value in flags.items() if value), *["-v"] * cli.verbose]


def _descriptor(cli: Cli) -> list[int]:
    """The descriptor from which the PIN comes, where it does."""
    kind, _, number = (cli.pin_source or cli.settings.pin_source or "").partition(":")
    return [int(number)] if kind == "fd" and number.isascii() and number.isdecimal() else []


def _serve(cli: Cli, timeout: float, lifetime: float, *, confirm: bool, ready: int | None) -> None:
    """Be the agent."""
    from tokensign.agent.custody import Custody, Limits
    from tokensign.agent.operations import Operations
    from tokensign.agent.place import Claim, default_path
    from tokensign.agent.server import Server
    from tokensign.token.hardening import harden

    memory_locked = harden()
    if ready is not None:
        supervisor.disable()
    claim = Claim(default_path())
    try:
        with open_token(cli, action="start the agent") as token:
            token.log_in()
            again = _source_again(token)
            custody = Custody(
                _opened_again(token, again), again, Limits(timeout * _MINUTE, lifetime * _MINUTE)
            )
        operations = Operations(
            custody,
            confirmed=confirm,
            memory_locked=memory_locked,
            require_non_extractable=cli.settings.require_non_extractable,
        )
        server = Server(claim, operations, custody)
        told = {"socket": str(claim.path), "process": os.getpid(), "token": str(custody.info.uri)}
        if ready is None:
            _tell_started(cli, told)
            sys.stdout.flush()
        else:
            _detach(ready, json.dumps(told))
        server.run()
    finally:
        claim.release()


def _source_again(token: Token) -> PinSource:
    """Where the PIN comes from when the agent needs it later, without this terminal."""
    from tokensign.token.pin import PinentrySource, PromptSource
    from tokensign.token.pin.files import DescriptorSource

    source = token.credential.source
    if isinstance(source, PromptSource | DescriptorSource):
        return PinentrySource()
    return source


def _opened_again(token: Token, source: PinSource) -> Token:
    """The same token with the same login, and another source of PINs."""
    from tokensign.token import open_token as open_again

    return open_again(token.module, token.uri, source)


def _detach(ready: int, told: str) -> None:
    """Leave the terminal and the process group, and say that the agent is there."""
    if "GPG_TTY" not in os.environ and sys.stdin is not None and sys.stdin.isatty():
        os.environ["GPG_TTY"] = os.ttyname(sys.stdin.fileno())  # where pinentry can still ask
    os.setsid()
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in range(3):
        os.dup2(nothing, stream)
    os.close(nothing)
    with os.fdopen(ready, "w", encoding="ascii") as telling:
        telling.write(told)
