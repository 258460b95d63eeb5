"""POST /v1/jobs and GET /v1/jobs/{id}: many digests, signed when there is time for them."""

from __future__ import annotations

import asyncio
import binascii
import hashlib
import secrets
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Final, Literal

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from tokensign.service.bodies import read_json
from tokensign.service.items import decode_digests
from tokensign.service.openapi import json_body
from tokensign.service.operation import Outcome, Use, perform, request_hash
from tokensign.service.problems import (
    ASKING,
    INVALID,
    NOT_FOUND,
    USING_A_KEY,
    Problem,
    ProblemDocument,
    kind_named,
    problem_responses,
)
from tokensign.service.signing import scheme_of

if TYPE_CHECKING:
    from tokensign.service.context import Context
    from tokensign.service.job_records import Job, JobItem

__all__ = ["ITEMS_MAXIMUM", "routes"]

ITEMS_MAXIMUM: Final = 20_000  # of a job: some seconds to some hours of a token
_SIZE_MAXIMUM: Final = (
    1 << 22
)  # octets of a request: so many digests of 64 octets in base64, and room for more
_PAGE_MAXIMUM: Final = 1000  # results of an answer; as CMS with certificates they have some MB
_DIGEST_MAXIMUM: Final = 88  # characters of base64: 64 octets


class JobRequest(BaseModel):
    """What is to be signed."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        json_schema_extra={
            "examples": [{"key": "acme/alice", "digests": ["LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ="]}]
        },
    )

    key: Annotated[str, Field(max_length=1024, description="The id of the key.")]
    digests: Annotated[
        list[Annotated[str, Field(max_length=_DIGEST_MAXIMUM)]],
        Field(
            min_length=1,
            max_length=ITEMS_MAXIMUM,
            description="Hash values in base64, made with the digest of the scheme.",
        ),
    ]
    scheme: Annotated[str | None, Field(max_length=64, description="Without it the key's usual one.")] = None
    form: Annotated[
        Literal["raw", "cms"],
        Field(description="raw: the signatures themselves. cms: detached SignedData in DER (RFC 5652)."),
    ] = "raw"


class JobResult(BaseModel):
    """What came of an item: its signature in base64, or a problem; neither while it waits."""

    position: int
    signature: str | None = None
    problem: ProblemDocument | None = None


class JobDocument(BaseModel):
    """A job, and some of its results."""

    id: str
    key: str
    scheme: str
    form: Literal["raw", "cms"]
    state: Annotated[
        Literal["waiting", "done", "failed"],
        Field(description="done: each item is signed or has a problem. failed: the job ended before."),
    ]
    problem: Annotated[
        ProblemDocument | None,
        Field(
            description="Of a job that failed, and of all its items that were not signed: "
            "urn:tokensign:problem:expired where its time was over, urn:tokensign:problem:forbidden where "
            "no grant allowed it any more."
        ),
    ]
    items: int
    signed: int
    failed: int
    created_at: datetime
    ends_at: Annotated[datetime, Field(description="What is not signed by then will not be.")]
    finished_at: datetime | None
    results: list[JobResult]


def routes(context: Context) -> APIRouter:
    """The routes, for the parts of a service."""
    router = APIRouter(prefix="/v1/jobs", tags=["jobs"])
    jobs, lasting = context.jobs, timedelta(hours=context.settings.job_hours)

    @router.post(
        "",
        summary="Sign many digests in the background",
        status_code=202,
        response_model=JobDocument,
        responses=problem_responses(*USING_A_KEY),
        openapi_extra=json_body(JobRequest),
    )
    async def start_job(request: Request) -> Response:
        caller = await context.caller(request)
        wanted, body_hash = await read_json(request, JobRequest, _SIZE_MAXIMUM)
        key = context.key(caller, wanted.key, "jobs")
        scheme = scheme_of(key, wanted.scheme)
        digests = decode_digests(wanted.digests, scheme, wanted.form)
        context.grants.check(caller, key.id, "jobs", scheme.name, len(digests))
        request.state.facts.update(key=key.id, lane=key.lane, scheme=scheme.name, items=len(digests))
        terms = {
            "id": secrets.token_hex(16),
            "principal": caller.name,
            "principal_kind": caller.kind,
            "key": key.id,
            "lane": key.lane,
            "scheme": scheme.name,
            "form": wanted.form,
        }
        intent = {
            "job": terms["id"],
            "scheme": scheme.name,
            "form": wanted.form,
            "items": len(digests),
            "digests": f"sha256:{hashlib.sha256(b''.join(digests)).hexdigest()}",
        }

        async def work() -> Outcome:
            job = await asyncio.to_thread(jobs.records.add, terms, digests, jobs.defer)
            jobs.added(job)
            answer = Response(
                _document(job, lasting, {"signed": 0, "failed": 0}, []).model_dump_json(),
                202,
                {"Location": f"/v1/jobs/{job.id}"},
                media_type="application/json",
            )
            return Outcome({"result": "accepted"}, answer, bytes(answer.body))

        use = Use(caller, "jobs", key.id, intent, request_hash(request, body_hash))
        return await perform(request, context.journal, use, work)

    @router.get("/{id}", summary="How far a job is", responses=problem_responses(*ASKING, NOT_FOUND, INVALID))
    async def show_job(
        request: Request,
        job_id: Annotated[str, Path(alias="id", pattern="^[0-9a-f]{32}$")],
        start: Annotated[int, Query(ge=0, le=ITEMS_MAXIMUM, description="The first result.")] = 0,
        count: Annotated[int, Query(ge=0, le=_PAGE_MAXIMUM, description="How many results.")] = 0,
    ) -> JobDocument:
        caller = await context.caller(request)
        found = await asyncio.to_thread(jobs.records.find, job_id)
        if found is None or found[0].principal != caller.name:
            raise Problem(NOT_FOUND, f"you have no job {job_id}")
        job, counts = found
        context.grants.check(caller, job.key, "jobs", job.scheme, 0)
        items = await asyncio.to_thread(jobs.records.items, job_id, start, count)
        return _document(job, lasting, counts, items)

    return router


def _document(job: Job, lasting: timedelta, counts: dict[str, int], items: list[JobItem]) -> JobDocument:
    return JobDocument(
        id=job.id,
        key=job.key,
        scheme=job.scheme,
        form="cms" if job.form == "cms" else "raw",
        state=job.state,
        problem=_problem(job.reason),
        items=job.items,
        created_at=job.created_at,
        ends_at=job.created_at + lasting,
        finished_at=job.finished_at,
        results=[_result(item) for item in items],
        **counts,
    )


def _result(item: JobItem) -> JobResult:
    signature = item.signature and binascii.b2a_base64(item.signature, newline=False).decode()
    return JobResult(position=item.position, signature=signature or None, problem=_problem(item.reason))


def _problem(name: str | None) -> ProblemDocument | None:
    return None if name is None else ProblemDocument(**Problem(kind_named(name)).document())
