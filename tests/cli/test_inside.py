"""What cannot be provoked from outside: bugs, modules without locks, tokens without mechanisms."""

from __future__ import annotations

import logging
import signal
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from tokensign import cli
from tokensign.cli import supervisor
from tokensign.cli.command import Cli
from tokensign.cli.inputs import open_token
from tokensign.cli.log import show_log
from tokensign.cli.root import root
from tokensign.errors import KeyNotFoundError, TokenNotFoundError
from tokensign.token import find_certificate

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

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
    monkeypatch.setattr(supervisor, "enable", lambda: None)  # later tests load modules in this process
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith("tokensign ")


def test_doctor_tells_what_module_and_token_lack(monkeypatch: pytest.MonkeyPatch, token: Token) -> None:
    monkeypatch.setattr(type(token.module), "locks", False)
    shown = CliRunner().invoke(root, ["doctor", "--token", token.info.label]).output
    assert "warning module       one thread at a time uses it: threads wait for each other" in shown
    assert "ok      sign         ecdsa with sha256" in shown
    assert "lacks   decapsulate  ML-KEM: the token lacks CKM_ML_KEM" in shown


def test_log_has_one_handler_however_often_commands_run() -> None:
    show_log(Cli())
    show_log(Cli(verbose=1))
    assert len(logging.getLogger("tokensign").handlers) == 1


def test_modules_that_were_not_looked_at_are_named_where_nothing_is_found(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, token: Token, module_path: Path
) -> None:
    card = tmp_path / "card.so"
    card.touch()
    monkeypatch.setattr("tokensign.token.module.USUAL_PLACES", (str(module_path), str(card)))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    acme = Cli(token=token.info.label)
    for call, error in (
        (lambda: open_token(acme, "nobody"), KeyNotFoundError),
        (lambda: open_token(Cli(token="nowhere")), TokenNotFoundError),
    ):
        with pytest.raises(error) as failure, call() as opened:
            find_certificate(opened, "nobody")
        assert failure.value.hint == f"not looked at: {card}; --module names one of them"
    named = Cli(module=str(module_path), token=token.info.label)
    with pytest.raises(KeyNotFoundError) as failure, open_token(named) as opened:
        find_certificate(opened, "nobody")
    assert failure.value.hint is None
