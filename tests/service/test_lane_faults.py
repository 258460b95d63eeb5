"""Workers that crash, hang and are killed, tokens that go away, and wrong PINs: all real."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
import sys
import time
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from lane_places import key_called, running

from tokensign.algorithms import SCHEMES
from tokensign.errors import LaneDownError, LaneError, TokenRemovedError, TokensignError
from tokensign.service import lane
from tokensign.service.lanes import Lanes
from tokensign.service.reloading import reload_on_hangup

if TYPE_CHECKING:
    from collections.abc import Callable

    from lane_places import TokenPlace

    from tokensign.service.lanes import LaneKey, LaneState

pytestmark = pytest.mark.anyio

RSA = SCHEMES["rsa-pkcs1-sha256"]
DIGEST = sha256(b"content").digest()
PATIENCE = 60.0  # seconds, for machines that are slow and busy


def workers(lanes: Lanes) -> list[int]:
    """The workers of the lane of the tests."""
    return [worker.pid for one in lanes._lanes.values() for worker in one._workers]  # noqa: SLF001


def state(lanes: Lanes) -> LaneState:
    return lanes.states()["lane"]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110 - other processes make it true
            await asyncio.sleep(0.01)


async def sign(key: LaneKey) -> bytes:
    (result,) = await key.sign_digests([DIGEST], RSA)
    if isinstance(result, TokensignError):
        raise result
    return result


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGKILL])
async def test_a_crash_is_contained_and_the_lane_is_back_at_once(
    token_place: TokenPlace, number: signal.Signals
) -> None:
    async with running(token_place.settings()) as lanes:
        key = key_called(lanes, "rsa:2048")
        (pid,) = workers(lanes)
        os.kill(pid, signal.SIGSTOP)  # so that it holds the requests for sure
        held = [asyncio.create_task(key.sign_digests([DIGEST], RSA)) for _ in range(3)]
        await asyncio.sleep(0.05)
        os.kill(pid, number)
        with contextlib.suppress(ProcessLookupError):  # it is gone already
            os.kill(pid, signal.SIGCONT)
        for answer in await asyncio.gather(*held, return_exceptions=True):
            assert isinstance(answer, LaneDownError)
            assert number.name in answer.message
        await until(lambda: state(lanes).status == "up")
        assert workers(lanes) != [pid]
        assert state(lanes).restarts == 1
        assert await sign(key)


async def test_a_worker_that_hangs_is_killed_at_the_deadline(token_place: TokenPlace) -> None:
    async with running(token_place.settings(deadline=0.5)) as lanes:
        key = key_called(lanes, "rsa:2048")
        (pid,) = workers(lanes)
        os.kill(pid, signal.SIGSTOP)
        begun = time.monotonic()
        with pytest.raises(LaneDownError, match=r"did not answer within 0.5 s"):
            await sign(key)
        assert 0.5 <= time.monotonic() - begun < 10
        await until(lambda: not is_running(pid))
        await until(lambda: state(lanes).status == "up")
        assert await sign(key)


async def test_a_worker_that_hangs_is_found_out_although_nobody_asks(
    token_place: TokenPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lane, "_PROBE_SECONDS", 0.1)
    async with running(token_place.settings(deadline=0.5)) as lanes:
        (pid,) = workers(lanes)
        os.kill(pid, signal.SIGSTOP)
        await until(lambda: state(lanes).restarts == 1 and state(lanes).status == "up")
        assert workers(lanes) != [pid]


async def test_another_worker_goes_on_while_one_is_dead(token_place: TokenPlace) -> None:
    async with running(token_place.settings(workers=2)) as lanes:
        await until(lambda: state(lanes).workers == 2)
        key = key_called(lanes, "rsa:2048")
        os.kill(workers(lanes)[0], signal.SIGKILL)
        await until(lambda: state(lanes).workers == 1)
        assert state(lanes).status == "up"
        assert await sign(key)
        await until(lambda: state(lanes).workers == 2)


async def test_after_the_first_rebuild_there_is_a_pause(token_place: TokenPlace) -> None:
    async with running(token_place.settings()) as lanes:
        key = key_called(lanes, "rsa:2048")
        for number in (1, 2):
            os.kill(workers(lanes)[0], signal.SIGSEGV)
            await until(lambda: state(lanes).workers == 0)
            if number == 1:
                await until(lambda: state(lanes).status == "up")
        assert state(lanes).status == "down"
        with pytest.raises(LaneDownError, match="SIGSEGV") as refusal:
            await sign(key)
        assert refusal.value.retry_after in range(10, 31)  # since the first rebuild, which took a while


async def test_a_lane_that_crashes_again_and_again_comes_back_each_time(
    token_place: TokenPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lane, "_REBUILD_SECONDS", 1.0)
    async with running(token_place.settings()) as lanes:
        key = key_called(lanes, "rsa:2048")
        rebuilt = []
        for number in range(1, 4):
            os.kill(workers(lanes)[0], signal.SIGSEGV)
            await until(lambda number=number: state(lanes).restarts == number)  # type: ignore[misc]
            rebuilt.append(time.monotonic())
            await until(lambda: state(lanes).status == "up")
            assert await sign(key)
        assert all(later - earlier >= 0.5 for earlier, later in itertools.pairwise(rebuilt))


async def test_a_token_that_was_away_is_back_without_a_restart(token_place: TokenPlace) -> None:
    async with running(token_place.settings()) as lanes:
        key = key_called(lanes, "rsa:2048")
        assert await sign(key)
        (pid,) = workers(lanes)
        await asyncio.sleep(0.3)  # a worker in full use notices later: SoftHSM signs on from memory
        token_place.remove()
        with pytest.raises(TokenRemovedError):
            await sign(key)
        assert state(lanes).status == "down"
        with pytest.raises(LaneDownError, match="gone") as refusal:
            await sign(key)
        assert refusal.value.retry_after == 2
        token_place.put_back()
        await until(lambda: state(lanes).status == "up")
        assert await sign(key)
        assert workers(lanes) == [pid]


async def test_a_module_that_does_not_come_up_without_its_token_is_tried_again(
    token_place: TokenPlace,
) -> None:
    async with running(token_place.settings()) as lanes:
        key = key_called(lanes, "rsa:2048")
        (token_place.folder / "tokens").rename(token_place.folder / "away")  # C_Initialize fails without it
        await until(lambda: "cannot be initialised" in state(lanes).reason)
        with pytest.raises(LaneDownError):
            await sign(key)
        await asyncio.sleep(2.5)  # the next look finds it in the same state
        assert state(lanes).status == "down"
        (token_place.folder / "away").rename(token_place.folder / "tokens")
        await until(lambda: state(lanes).status == "up")
        assert await sign(key)


async def test_a_token_that_is_away_at_the_start_is_found_when_it_is_there(
    token_place: TokenPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lane, "_REBUILD_SECONDS", 0.5)
    token_place.remove()
    async with running(token_place.settings()) as lanes:
        assert state(lanes).status == "down"
        assert not lanes.keys()
        token_place.put_back()
        await until(lambda: state(lanes).status == "up")
        assert await sign(key_called(lanes, "rsa:2048"))


async def test_a_lane_comes_up_when_the_system_starts_processes_again(
    token_place: TokenPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lane, "_REBUILD_SECONDS", 0.3)
    with monkeypatch.context() as broken:
        broken.setattr(sys, "executable", str(token_place.folder / "absent"))
        lanes = Lanes([token_place.settings()])
        await lanes.start()
    assert state(lanes).status == "down"
    assert "absent" in state(lanes).reason
    await until(lambda: state(lanes).status == "up")
    await lanes.stop()


async def test_a_wrong_pin_is_tried_once_and_latches_until_somebody_acts(
    token_place: TokenPlace, monkeypatch: pytest.MonkeyPatch, user_pin: str
) -> None:
    monkeypatch.setattr(lane, "_REBUILD_SECONDS", 0.05)
    token_place.pin.write_text("wrong-pin")
    async with running(token_place.settings(workers=2)) as lanes:
        assert state(lanes).status == "latched"
        assert "the PIN" in state(lanes).reason
        await asyncio.sleep(0.5)
        assert state(lanes).status == "latched"
        assert state(lanes).restarts == 0
        token_place.pin.write_text(user_pin)
        await lanes.unlatch("lane")
        await until(lambda: state(lanes).workers == 2)
        assert await sign(key_called(lanes, "rsa:2048"))


async def test_a_pin_that_is_wrong_after_a_crash_latches(token_place: TokenPlace) -> None:
    async with running(token_place.settings()) as lanes:
        key = key_called(lanes, "rsa:2048")
        token_place.pin.write_text("wrong-pin")
        os.kill(workers(lanes)[0], signal.SIGKILL)
        await until(lambda: state(lanes).status == "latched")
        with pytest.raises(LaneDownError, match="latched") as refusal:
            await sign(key)
        assert refusal.value.retry_after is None
        await lanes.unlatch("lane")
        assert state(lanes).status == "latched"


async def test_workers_are_replaced_without_a_gap_when_the_lanes_are_reloaded(
    token_place: TokenPlace,
) -> None:
    async with running(token_place.settings(workers=2)) as lanes:
        await until(lambda: state(lanes).workers == 2)
        before, ending = set(workers(lanes)), asyncio.Event()

        async def client() -> int:
            signed = 0
            while not ending.is_set():
                await sign(key_called(lanes, "rsa:2048"))
                signed += 1
            return signed

        asking = asyncio.create_task(client())
        await lanes.reload()
        ending.set()
        assert await asking > 10
        await until(lambda: state(lanes).workers == 2)
        assert before.isdisjoint(workers(lanes))
        assert state(lanes).restarts == 0


async def test_sighup_reloads_the_lanes(token_place: TokenPlace) -> None:
    async with running(token_place.settings()) as lanes:
        before = workers(lanes)
        with reload_on_hangup(lanes):
            os.kill(os.getpid(), signal.SIGHUP)
            await until(lambda: state(lanes).status == "up" and workers(lanes) != before)


async def test_a_latched_lane_tries_its_pin_once_when_the_lanes_are_reloaded(
    token_place: TokenPlace, user_pin: str
) -> None:
    token_place.pin.write_text("wrong-pin")
    async with running(token_place.settings()) as lanes:
        await lanes.reload()
        assert state(lanes).status == "latched"
        token_place.pin.write_text(user_pin)
        await lanes.reload()
        assert await sign(key_called(lanes, "rsa:2048"))


async def test_the_pin_is_in_no_message(token_place: TokenPlace, caplog: pytest.LogCaptureFixture) -> None:
    token_place.pin.write_text("secret-wrong-pin")
    async with running(token_place.settings()) as lanes:
        assert "secret-wrong-pin" not in state(lanes).reason
        assert "latched" in caplog.text
        assert "secret-wrong-pin" not in caplog.text


SERVICE = """
import asyncio, sys
from pathlib import Path
from tokensign.service.lanes import LaneSettings, Lanes

async def main(module, token, pin):
    lanes = Lanes([LaneSettings("lane", Path(module), token, pin)])
    await lanes.start()
    print(*(worker.pid for one in lanes._lanes.values() for worker in one._workers), flush=True)
    await asyncio.sleep(60)

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux's")
async def test_a_worker_that_hangs_does_not_outlive_a_killed_service(token_place: TokenPlace) -> None:
    settings = token_place.settings()
    service = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", SERVICE, settings.module, settings.token, settings.pin_source),
        stdout=asyncio.subprocess.PIPE,
    )
    assert service.stdout
    pid = int(await service.stdout.readline())
    os.kill(pid, signal.SIGSTOP)
    service.kill()
    await service.wait()
    await until(lambda: not is_running(pid))


def is_running(pid: int) -> bool:
    """Whether a process is there, and is not one that has ended and for whom nobody has asked."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def test_nothing_is_lost_while_workers_are_killed_under_load(
    token_place: TokenPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lane, "_REBUILD_SECONDS", 0.2)
    signed = 0

    async def client(key: LaneKey) -> None:
        nonlocal signed
        for _ in range(60):
            while True:
                try:
                    await sign(key)
                except LaneError:
                    await asyncio.sleep(0.02)
                else:
                    signed += 1
                    break

    async with running(token_place.settings(workers=2)) as lanes:
        await until(lambda: state(lanes).workers == 2)
        key = key_called(lanes, "rsa:2048")
        clients = [asyncio.create_task(client(key)) for _ in range(8)]
        for number in (signal.SIGSEGV, signal.SIGKILL, signal.SIGSEGV):
            await asyncio.sleep(0.1)
            if workers(lanes):
                os.kill(workers(lanes)[0], number)
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(*clients)
        assert signed == 8 * 60
        assert state(lanes).waiting == 0
