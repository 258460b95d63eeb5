"""POST /v1/keys/{key}/signatures: signatures over digests, as they are or in detached CMS.

Programs call this again and again, so it reads and writes JSON without detours; what the OpenAPI document
says of the body stands beside it.
"""

from __future__ import annotations

import binascii
import hashlib
import json
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field, model_validator

from tokensign.errors import TokensignError
from tokensign.service.bodies import read_json
from tokensign.service.items import decode_digests, decode_messages
from tokensign.service.key_path import KEY, KeyId
from tokensign.service.lane_settings import BATCH_MAXIMUM
from tokensign.service.openapi import json_body
from tokensign.service.operation import Outcome, Use, perform, request_hash
from tokensign.service.problems import (
    USING_A_KEY,
    ProblemDocument,
    problem_of,
    problem_responses,
)
from tokensign.service.signing import scheme_of, sign_cms, sign_raw

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tokensign.algorithms import SignatureScheme
    from tokensign.service.context import Context
    from tokensign.service.lanes import LaneKey

__all__ = ["PREFIX", "SUFFIX", "endpoint", "routes"]

PREFIX: Final = "/v1/keys/"
"""What stands before the id of the key in the path of the route."""
SUFFIX: Final = "/signatures"
"""What stands behind it."""

_ITEM_MAXIMUM: Final = 1 << 14  # characters of base64; a digest has 88 at most, a message to sign some KiB
_Items = Annotated[
    list[Annotated[str, Field(max_length=_ITEM_MAXIMUM)]], Field(min_length=1, max_length=BATCH_MAXIMUM)
]


class SignaturesRequest(BaseModel):
    """What is to be signed: either digests or messages."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        json_schema_extra={
            "oneOf": [{"required": ["digests"]}, {"required": ["messages"]}],
            "examples": [{"digests": ["LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ="]}],
        },
    )

    digests: Annotated[
        _Items | None, Field(description="Hash values in base64, made with the digest of the scheme.")
    ] = None
    messages: Annotated[
        _Items | None,
        Field(description="Small messages in base64; for raw signatures with eddsa and ml-dsa."),
    ] = None
    scheme: Annotated[
        str | None,
        Field(max_length=64, description="As GET /v1/keys/{key} lists them; without it the key's usual one."),
    ] = None
    form: Annotated[
        Literal["raw", "cms"],
        Field(description="raw: the signature itself. cms: detached SignedData in DER (RFC 5652)."),
    ] = "raw"
    dry_run: Annotated[bool, Field(description="See whether it would be done, and do nothing.")] = False

    @model_validator(mode="after")
    def _have_one_kind(self) -> SignaturesRequest:
        if (self.digests is None) == (self.messages is None):
            raise ValueError("either digests or messages are needed")
        return self


class SignatureResult(BaseModel):
    """What came of one item: its signature in base64, or why there is none."""

    signature: str | None = None
    problem: ProblemDocument | None = None


class SignaturesAnswer(BaseModel):
    """The results, in the order of the request; none in a dry run."""

    key: str
    scheme: str
    form: Literal["raw", "cms"]
    dry_run: bool
    results: list[SignatureResult]


def routes(context: Context) -> APIRouter:
    """The route, for the parts of a service."""
    router = APIRouter(tags=["signatures"])
    router.post(
        f"{PREFIX}{KEY}{SUFFIX}",
        summary="Sign digests",
        response_model=SignaturesAnswer,
        responses=problem_responses(*USING_A_KEY),
        openapi_extra=json_body(SignaturesRequest),
    )(endpoint(context))
    return router


def endpoint(context: Context) -> Callable[[Request, str], Awaitable[Response]]:
    """What answers the route: with the request, and the id of the key."""

    async def sign(request: Request, key: KeyId) -> Response:
        caller = await context.caller(request)
        wanted, body_hash = await read_json(request, SignaturesRequest)
        found = context.key(caller, key, "sign")
        scheme = scheme_of(found, wanted.scheme)
        if wanted.messages is None:
            items = decode_digests(wanted.digests or (), scheme, wanted.form)
        else:
            items = decode_messages(wanted.messages, scheme, wanted.form)
        context.grants.check(caller, found.id, "sign", scheme.name, 0 if wanted.dry_run else len(items))
        facts = request.state.facts
        facts.update(key=found.id, lane=found.lane, scheme=scheme.name, items=len(items))
        if wanted.dry_run:
            return _answer(_document(found, scheme, wanted, []))
        use = Use(
            caller,
            "sign",
            found.id,
            {
                "scheme": scheme.name,
                "form": wanted.form,
                **_asked(wanted, items),
            },
            request_hash(request, body_hash),
        )

        async def work() -> Outcome:
            signatures = await (sign_cms if wanted.form == "cms" else sign_raw)(found, scheme, items)
            failed = sum(not isinstance(one, bytes) for one in signatures)
            context.telemetry.operations_done(found.lane, "sign", len(items) - failed, failed)
            if failed == len(items) and isinstance(signatures[0], TokensignError):
                raise signatures[0]
            answer = _answer(_document(found, scheme, wanted, [_result(one) for one in signatures]))
            return Outcome({"results": [_recorded(one) for one in signatures]}, answer, bytes(answer.body))

        return await perform(request, context.journal, use, work)

    return sign


def _asked(wanted: SignaturesRequest, items: list[bytes]) -> dict[str, list[str]]:
    """What the audit log has of the items: no content, so only hash values."""
    if wanted.digests is not None:
        return {"digests": wanted.digests}
    return {"messages": [f"sha256:{hashlib.sha256(item).hexdigest()}" for item in items]}


def _result(signature: bytes | TokensignError) -> dict[str, Any]:
    if isinstance(signature, bytes):
        return {"signature": binascii.b2a_base64(signature, newline=False).decode()}
    return {"problem": problem_of(signature).document()}


def _recorded(signature: bytes | TokensignError) -> str:
    """What the audit log has of a result: which signature it was, or why there is none."""
    if isinstance(signature, bytes):
        return f"sha256:{hashlib.sha256(signature).hexdigest()}"
    return type(signature).__name__


def _document(
    key: LaneKey, scheme: SignatureScheme, wanted: SignaturesRequest, results: list[dict[str, Any]]
) -> dict[str, Any]:
    return {
        "key": key.id,
        "scheme": scheme.name,
        "form": wanted.form,
        "dry_run": wanted.dry_run,
        "results": results,
    }


def _answer(document: dict[str, Any]) -> Response:
    return Response(json.dumps(document), media_type="application/json")
