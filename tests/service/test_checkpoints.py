"""Checkpoints that a service makes by itself."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest
from certificate_authorities import private_key
from journals import begin, running
from software_signer import SoftwareSigner

from tokensign.audit.checkpoint import open_checkpoint, stored_checkpoints
from tokensign.audit.verifying import verify_store
from tokensign.errors import KeyNotFoundError
from tokensign.pki.ca import self_signed
from tokensign.service.checkpoints import Checkpoints

if TYPE_CHECKING:
    from tokensign.store import Store

pytestmark = pytest.mark.anyio


async def test_a_log_that_grows_is_signed_again_and_again(store: Store) -> None:
    signer = SoftwareSigner(private_key("ec:p256"))
    signer.certificate = self_signed(signer, "CN=Audit")
    absent = [True, True]  # at first the key is not there

    def find() -> SoftwareSigner:
        if absent:
            absent.pop()
            raise KeyNotFoundError("the token is away")
        return signer

    checkpoints = Checkpoints(store, find, 0.05)
    async with running(store) as journal:
        await checkpoints.start()
        for count in (1, 2):
            await journal.finish(await begin(journal), {})
            await asyncio.to_thread(await_checkpoints, store, count)
        await asyncio.sleep(0.2)
        await checkpoints.stop()
    assert sizes(store) == [2, 4]
    assert verify_store(store).checkpoints == 2
    with store.reading() as connection:
        for one in stored_checkpoints(connection):
            assert open_checkpoint(one.message, signer.certificate) == one.checkpoint


def await_checkpoints(store: Store, count: int) -> None:
    deadline = time.monotonic() + 20
    while len(sizes(store)) < count:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def sizes(store: Store) -> list[int]:
    with store.reading() as connection:
        return [one.checkpoint.size for one in stored_checkpoints(connection)]
