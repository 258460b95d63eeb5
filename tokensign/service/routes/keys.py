"""GET /v1/keys and /v1/keys/{key}: what a caller may use, and what can be done with it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from fastapi import APIRouter, Request
from pydantic import BaseModel

from tokensign.service.key_path import KEY, KeyId
from tokensign.service.problems import ASKING, FORBIDDEN, INVALID, NOT_FOUND, Problem, problem_responses

if TYPE_CHECKING:
    from tokensign.service.context import Context
    from tokensign.service.lanes import LaneKey
    from tokensign.service.principals import Principal

__all__ = ["routes"]

_OPERATIONS = ("sign", "cms", "decrypt", "jobs")  # that are about a key


class KeyDocument(BaseModel):
    """A key on a token of the service.

    Attributes:
        id: Names it here.
        token: The token's label.
        uri: Names it (RFC 7512).
        type: Such as "rsa:3072".
        public_key: SubjectPublicKeyInfo, PEM.
        certificate: PEM, or None.
        chain: The CA certificates above that one, PEM, in any order.
        schemes: In which it signs.
        operations: What the caller may do with it.
        state: That of its lane.
    """

    id: str
    token: str
    uri: str
    type: str
    public_key: str
    certificate: str | None
    chain: list[str]
    schemes: list[str]
    operations: list[str]
    state: Literal["up", "starting", "down", "latched"]


class KeyList(BaseModel):
    """The keys that the caller may use."""

    keys: list[KeyDocument]


def routes(context: Context) -> APIRouter:
    """The routes, for the parts of a service."""
    router = APIRouter(tags=["keys"])

    def described(caller: Principal, key: LaneKey) -> KeyDocument | None:
        allowed = [one for one in _OPERATIONS if context.grants.allows(caller, key.id, one)]
        if not allowed:
            return None
        return KeyDocument(
            id=key.id,
            token=key.token,
            uri=str(key.uri),
            type=key.spec,
            public_key=key.public_key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode(),
            certificate=key.certificate.pem() if key.certificate else None,
            chain=[one.pem() for one in key.chain],
            schemes=sorted(key.schemes),
            operations=allowed,
            state=context.lanes.states()[key.lane].status,
        )

    @router.get("/v1/keys", summary="List the keys", responses=problem_responses(*ASKING))
    async def list_keys(request: Request) -> KeyList:
        caller = await context.caller(request)
        found = (described(caller, key) for key in context.lanes.keys().values())
        return KeyList(keys=sorted(filter(None, found), key=lambda one: one.id))

    @router.get(
        f"/v1/keys/{KEY}", summary="Describe a key", responses=problem_responses(*ASKING, NOT_FOUND, INVALID)
    )
    async def show_key(request: Request, key: KeyId) -> KeyDocument:
        caller = await context.caller(request)
        found = context.lanes.keys().get(key)
        document = described(caller, found) if found else None
        if document is not None:
            return document
        if any(context.grants.allows(caller, key, one) for one in _OPERATIONS):
            raise Problem(NOT_FOUND, f"there is no key {key}")
        raise Problem(FORBIDDEN)

    return router
