"""The folder of the socket, and that one agent is there."""

from __future__ import annotations

import os
import socket
import stat
from typing import TYPE_CHECKING

import pytest

from tokensign.agent.client import AgentClient
from tokensign.agent.place import Claim, default_path, require_private_folder
from tokensign.errors import AgentError

if TYPE_CHECKING:
    from pathlib import Path

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files to others")


def test_the_socket_is_in_the_runtime_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert default_path() == tmp_path / "tokensign" / "agent.sock"


def test_without_a_runtime_folder_it_is_below_the_home(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_path() == tmp_path / ".tokensign" / "agent.sock"


def test_folder_and_socket_are_closed_to_others_whatever_the_umask(place: Path) -> None:
    before = os.umask(0)
    try:
        claim = Claim(place)
        with claim.listen():
            assert stat.S_IMODE(place.parent.stat().st_mode) == 0o700
            assert stat.S_IMODE(place.stat().st_mode) == 0o600
            assert os.umask(0) == 0
        claim.release()
    finally:
        os.umask(before)
    assert not place.exists()


@pytest.mark.parametrize("mode", [0o755, 0o710, 0o701, 0o770])
def test_a_folder_that_others_can_enter_is_refused(place: Path, mode: int) -> None:
    place.parent.mkdir()
    place.parent.chmod(mode)
    with pytest.raises(AgentError, match="closed to others"):
        Claim(place)


def test_a_link_in_the_place_of_the_folder_is_refused(place: Path) -> None:
    (place.parents[1] / "other").mkdir(mode=0o700)
    place.parent.symlink_to("other")
    with pytest.raises(AgentError):
        Claim(place)


@as_root
def test_the_folder_of_another_user_is_refused(place: Path) -> None:
    place.parent.mkdir(mode=0o700)
    os.chown(place.parent, 65534, 65534)
    with pytest.raises(AgentError, match="of your own"):
        Claim(place)


def test_a_folder_that_others_could_replace_is_refused(place: Path) -> None:
    place.parent.mkdir(mode=0o700)
    place.parents[1].chmod(0o777)
    with pytest.raises(AgentError, match="above"):
        require_private_folder(place.parent)


@as_root
def test_a_folder_in_the_folder_of_another_user_is_refused(place: Path) -> None:
    place.parent.mkdir(mode=0o700)
    os.chown(place.parents[1], 65534, 65534)
    with pytest.raises(AgentError, match="above"):
        AgentClient.reach(place) or require_private_folder(place.parent)


def test_there_is_one_agent_at_a_place(place: Path) -> None:
    claim = Claim(place)
    with pytest.raises(AgentError, match="already"):
        Claim(place)
    claim.release()
    Claim(place).release()


def test_a_socket_that_was_left_behind_is_replaced(place: Path) -> None:
    killed = Claim(place)
    killed.listen().close()
    os.close(killed._folder)  # noqa: SLF001 - what the system does when a process is killed
    assert place.exists()
    assert AgentClient.reach(place) is None
    claim = Claim(place)
    with claim.listen(), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(place))
    claim.release()


def test_a_path_that_is_too_long_for_a_socket_is_told(place: Path) -> None:
    claim = Claim(place.parent / ("x" * 120))
    with pytest.raises(AgentError, match="cannot be made") as caught:
        claim.listen()
    assert "XDG_RUNTIME_DIR" in (caught.value.hint or "")
    claim.release()


def test_nobody_listens_where_there_is_nothing(place: Path) -> None:
    assert AgentClient.reach(place) is None


def test_a_socket_where_others_may_put_one_is_not_used(place: Path) -> None:
    place.parent.mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(place))
        listener.listen()
        place.parent.chmod(0o777)
        with pytest.raises(AgentError):
            AgentClient.reach(place)
