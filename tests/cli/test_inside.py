"""What cannot be provoked from outside: bugs, modules without locks, tokens without mechanisms."""

from __future__ import annotations

import logging
import signal
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from tokensign import cli
from tokensign.cli import doctor
from tokensign.cli.command import Cli
from tokensign.cli.log import show_log
from tokensign.cli.root import root

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tokensign.token import Token


@pytest.fixture(autouse=True)
def log() -> Iterator[None]:
    """Commands attach a handler to the library's logger."""
    logger = logging.getLogger("tokensign")
    yield
    logger.handlers.clear()
    logger.setLevel(logging.NOTSET)


@pytest.fixture(autouse=True)
def signals() -> Iterator[None]:
    """`main` changes the handlers of the process."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.getsignal(number) for number in numbers}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def bug(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:  # noqa: ANN401 - whatever it is called with
        raise LookupError("the PIN is 1234")

    monkeypatch.setattr(root, "main", fail)


@pytest.mark.usefixtures("bug")
def test_bug_is_called_one_and_tells_no_secret(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["key", "list"])
    assert ended.value.code == 70
    shown = capsys.readouterr().err
    assert "this is a bug in tokensign (LookupError)" in shown
    assert "TOKENSIGN_DEBUG=1" in shown
    assert "1234" not in shown


@pytest.mark.usefixtures("bug")
def test_bug_shows_itself_to_those_who_look_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKENSIGN_DEBUG", "1")
    with pytest.raises(LookupError):
        cli.main(["key", "list"])


def test_arguments_are_those_of_the_process_unless_given(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["tokensign", "--version"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith("tokensign ")


def test_doctor_tells_what_module_and_token_lack(monkeypatch: pytest.MonkeyPatch, token: Token) -> None:
    module = token.module
    poor = SimpleNamespace(
        path=module.path, manufacturer="Poor", description="no locks", library_version=(0, 1), locks=False,
        tokens=module.tokens, properties=module.properties,
        mechanisms=lambda _slot: [SimpleNamespace(name="RSA_PKCS")],
    )  # fmt: skip
    monkeypatch.setattr(doctor, "module_of", lambda _cli: poor)
    shown = CliRunner().invoke(root, ["doctor", "--token", token.info.label]).output
    assert "warning module       it cannot lock: threads wait for each other" in shown
    assert "ok      mechanisms   can sign with RSA (rsa-pkcs1)" in shown
    assert "warning mechanisms   cannot sign with ECDSA (ecdsa): the token lacks ECDSA" in shown


def test_log_has_one_handler_however_often_commands_run() -> None:
    show_log(Cli())
    show_log(Cli(verbose=1))
    assert len(logging.getLogger("tokensign").handlers) == 1
