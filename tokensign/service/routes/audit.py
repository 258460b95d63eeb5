"""GET /v1/audit/checkpoint, /entries and /proof: what is needed to see that the audit log only grew.

The hashes are those of RFC 6962 section 2.1: SHA-256, over a zero octet before a leaf.
"""

from __future__ import annotations

import asyncio
import base64
from datetime import datetime  # noqa: TC003 - pydantic reads it
from typing import TYPE_CHECKING, Annotated, Final

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, Field

from tokensign.audit.checkpoint import latest_checkpoint
from tokensign.audit.log import reading_tree
from tokensign.service.problems import (
    ASKING,
    INVALID,
    NOT_FOUND,
    Problem,
    problem_responses,
)

if TYPE_CHECKING:
    from tokensign.service.context import Context
    from tokensign.store import Store

__all__ = ["routes"]

_PAGE_MAXIMUM: Final = 1000  # entries of an answer; one of a hundred digests has some KiB
_PAGE_SIZE: Final = 1 << 22  # octets of an answer after which it ends, because an entry may have 64 KiB
_READ: Final = 50  # entries that are read at a time
_SIZE_MAXIMUM: Final = (1 << 63) - 1  # of a tree, as databases count


class CheckpointDocument(BaseModel):
    """The latest signed checkpoint: the text of C2SP tlog-checkpoint, and SignedData over it in PEM."""

    origin: str
    size: int
    root: str
    signed_at: datetime
    message: str


class EntryDocument(BaseModel):
    """A leaf, as the octets of its text in UTF-8 are hashed."""

    number: int
    leaf: str


class EntriesDocument(BaseModel):
    """Some leaves; and how many there are."""

    size: int
    entries: list[EntryDocument]


class ProofDocument(BaseModel):
    """An audit path or a consistency proof (RFC 6962 sections 2.1.1 and 2.1.2), in base64."""

    size: int
    hashes: list[str]


_Number = Annotated[int, Field(ge=0, le=_SIZE_MAXIMUM)] | None


def routes(context: Context) -> APIRouter:
    """The routes, for the parts of a service."""
    router = APIRouter(prefix="/v1/audit", tags=["audit"])

    async def allow(request: Request) -> None:
        context.grants.check(await context.caller(request), None, "audit")

    @router.get(
        "/checkpoint",
        summary="The latest signed checkpoint",
        responses=problem_responses(*ASKING, NOT_FOUND),
    )
    async def checkpoint(request: Request) -> CheckpointDocument:
        await allow(request)
        return await asyncio.to_thread(_checkpoint, context.store)

    @router.get("/entries", summary="Some entries", responses=problem_responses(*ASKING, INVALID))
    async def entries(
        request: Request,
        start: Annotated[int, Query(ge=0, le=_SIZE_MAXIMUM, description="The first.")] = 0,
        count: Annotated[int, Query(ge=1, le=_PAGE_MAXIMUM, description="How many at the most.")] = 100,
    ) -> EntriesDocument:
        await allow(request)
        return await asyncio.to_thread(_entries, context.store, start, count)

    @router.get(
        "/proof",
        summary="That an entry is in the log, or that the log only grew",
        responses=problem_responses(*ASKING, INVALID),
    )
    async def proof(
        request: Request,
        number: Annotated[_Number, Query(description="Of the entry whose audit path is wanted.")] = None,
        earlier: Annotated[
            _Number, Query(description="The size from which the log is to have grown.")
        ] = None,
        size: Annotated[_Number, Query(description="Of the tree; without it the present one.")] = None,
    ) -> ProofDocument:
        await allow(request)
        if (number is None) == (earlier is None):
            raise Problem(INVALID, "either number or earlier is needed")
        return await asyncio.to_thread(_proof, context.store, number, earlier, size)

    return router


def _checkpoint(store: Store) -> CheckpointDocument:
    with store.reading() as connection:
        found = latest_checkpoint(connection)
    if found is None:
        raise Problem(NOT_FOUND, "no checkpoint was signed yet")
    return CheckpointDocument(
        origin=found.checkpoint.origin,
        size=found.checkpoint.size,
        root=base64.b64encode(found.checkpoint.root).decode(),
        signed_at=found.signed_at,
        message=found.pem().decode(),
    )


def _entries(store: Store, start: int, count: int) -> EntriesDocument:
    with reading_tree(store) as tree:
        found: list[EntryDocument] = []
        end, octets = min(start + count, tree.size), 0
        while start < end and octets < _PAGE_SIZE:
            for leaf in tree.leaves(start, min(start + _READ, end)):
                found.append(EntryDocument(number=start, leaf=leaf.decode()))
                start += 1
                octets += len(leaf)
        return EntriesDocument(size=tree.size, entries=found)


def _proof(store: Store, number: int | None, earlier: int | None, size: int | None) -> ProofDocument:
    with reading_tree(store) as tree:
        whole = tree.size if size is None else size
        if number is not None:
            hashes = tree.inclusion_proof(number, whole)
        else:
            hashes = tree.consistency_proof(earlier or 0, whole)
    return ProofDocument(size=whole, hashes=[base64.b64encode(one).decode() for one in hashes])
