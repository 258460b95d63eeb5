"""POST /v1/verifications: is a signature good? The anchors are those of the service's configuration."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.datastructures import UploadFile
from starlette.requests import ClientDisconnect

from tokensign.errors import VerificationError
from tokensign.service.bodies import require_media_type
from tokensign.service.problems import (
    ASKING,
    BUSY,
    INVALID,
    MEDIA,
    TIMEOUT,
    TOO_LARGE,
    UNSUPPORTED,
    Problem,
    invalid,
    problem_responses,
)
from tokensign.verification import Expectations, verify

if TYPE_CHECKING:
    from tokensign.pki.policy import TrustPolicy
    from tokensign.report import VerificationReport
    from tokensign.service.context import Context

__all__ = ["routes"]

_SECONDS: Final = 600.0  # for a signature and a content of the largest size
_FORM: Final = "multipart/form-data"
_FIELD_SIZE: Final = 1024  # octets of a field that is no file


class VerificationForm(BaseModel):
    """What a signature is held against, besides the anchors of the service."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    email: str | None = None
    moment: datetime | None = None


class VerificationAnswer(BaseModel):
    """Whether the signature holds, why, and the report of docs/verification-report.schema.json."""

    holds: bool
    reason: str
    report: dict[str, Any]


_BODY: Final = {
    "requestBody": {
        "required": True,
        "content": {
            _FORM: {
                "schema": {
                    "type": "object",
                    "required": ["signature"],
                    "properties": {
                        "signature": {"type": "string", "format": "binary", "description": "SignedData"},
                        "content": {
                            "type": "string",
                            "format": "binary",
                            "description": "What was signed, where the message does not hold it",
                        },
                        "email": {"type": "string", "description": "The address that must be the signer's"},
                        "moment": {
                            "type": "string",
                            "format": "date-time",
                            "description": "When it must hold",
                        },
                    },
                    "additionalProperties": False,
                }
            }
        },
    }
}


def routes(context: Context) -> APIRouter:
    """The route, for the parts of a service."""
    router = APIRouter(tags=["verifications"])

    @router.post(
        "/v1/verifications",
        summary="Verify a signature",
        response_model=VerificationAnswer,
        responses=problem_responses(*ASKING, BUSY, INVALID, MEDIA, TIMEOUT, TOO_LARGE, UNSUPPORTED),
        openapi_extra=_BODY,
        max_body_size=2 * context.settings.document_size,
    )
    async def verify_signature(request: Request) -> JSONResponse:
        caller = await context.caller(request)
        context.grants.check(caller, None, "verify")
        if context.trust is None:
            raise Problem(UNSUPPORTED, "the service has no trust anchors")
        require_media_type(request, _FORM)
        with context.documents.room():
            try:
                async with (
                    asyncio.timeout(_SECONDS),
                    request.form(max_files=2, max_fields=2, max_part_size=_FIELD_SIZE) as form,
                ):
                    signature, content, wanted = _parts(dict(form))
                    answer = await context.documents.run(_judged, context.trust, signature, content, wanted)
            except TimeoutError as error:
                raise Problem(TIMEOUT, headers={"Connection": "close"}) from error
            except ClientDisconnect as error:
                raise Problem(INVALID, "the request is cut off") from error
        request.state.facts["holds"] = answer.holds
        return JSONResponse(answer.model_dump(mode="json"))

    return router


def _parts(form: dict[str, UploadFile | str]) -> tuple[BinaryIO, BinaryIO | None, VerificationForm]:
    signature, content = form.pop("signature", None), form.pop("content", None)
    if not isinstance(signature, UploadFile) or not isinstance(content, UploadFile | None):
        raise Problem(INVALID, "signature, and content where there is one, must be files")
    try:
        wanted = VerificationForm.model_validate(form)
    except ValidationError as error:
        raise invalid(error) from None
    return signature.file, content.file if content else None, wanted


def _judged(
    trust: TrustPolicy, signature: BinaryIO, content: BinaryIO | None, wanted: VerificationForm
) -> VerificationAnswer:
    moment = wanted.moment
    if moment is not None and moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    expectations = Expectations(trust=trust, email=wanted.email, moment=moment)
    try:
        return _answer(verify(signature, expectations, content), "all verdicts hold", holds=True)
    except VerificationError as error:
        return _answer(error.report, error.message, holds=False)


def _answer(report: VerificationReport, reason: str, *, holds: bool) -> VerificationAnswer:
    return VerificationAnswer(holds=holds, reason=reason, report=report.to_json())
