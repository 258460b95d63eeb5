"""What went wrong, as clients are told: problem details (RFC 9457).

A problem tells the client what it can change. What only the operator can change (paths, tokens, modules) is
in the log, under the id of the request, which every answer carries.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from fastapi import Response
from pydantic import BaseModel, ValidationError

from tokensign.errors import (
    ConflictError,
    FileError,
    ForbiddenError,
    KeyNotFoundError,
    LaneBusyError,
    MechanismError,
    MessageError,
    MismatchError,
    NetworkError,
    RateError,
    TokenError,
    TokensignError,
    UnauthenticatedError,
    UnsupportedError,
    UntrustedError,
    UsageError,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = [
    "MEDIA_TYPE",
    "Kind",
    "Problem",
    "ProblemDocument",
    "invalid",
    "kind_named",
    "kind_of",
    "problem_of",
    "problem_responses",
]

MEDIA_TYPE: Final = "application/problem+json"
_TYPE_PREFIX: Final = "urn:tokensign:problem:"
_UNAVAILABLE: Final = 503
_RETRY_SECONDS: Final = 5  # until the service may be asked again, where nothing better is known
_ERRORS_MAXIMUM: Final = 10  # of one body; more tell nobody anything


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of problem.

    Attributes:
        name: The end of its type URI.
        status: The status code of HTTP.
        title: What it is, in one sentence that never changes.
    """

    name: str
    status: int
    title: str


UNAUTHENTICATED: Final = Kind("unauthenticated", 401, "It is not known who asks")
FORBIDDEN: Final = Kind("forbidden", 403, "No grant allows this")
NOT_FOUND: Final = Kind("not-found", 404, "There is nothing of that name")
METHOD: Final = Kind("method-not-allowed", 405, "This is not done with that")
TIMEOUT: Final = Kind("timeout", 408, "The request took too long")
RUNNING: Final = Kind("still-running", 409, "A request with this Idempotency-Key is still being worked on")
NOT_KEPT: Final = Kind("answer-not-kept", 409, "This was done before, and its answer was not kept")
TOO_LARGE: Final = Kind("too-large", 413, "The request is too large")
MEDIA: Final = Kind("media-type", 415, "The body has another media type than is taken here")
INVALID: Final = Kind("invalid", 422, "The request is not what is described for it")
OTHER_BODY: Final = Kind("other-body", 422, "The Idempotency-Key was used with another body")
UNSUPPORTED: Final = Kind("unsupported", 422, "This key or this service does not do that")
UNTRUSTED: Final = Kind("untrusted", 422, "A certificate does not lead to whom the service trusts")
NOT_DECRYPTED: Final = Kind("not-decrypted", 422, "The message cannot be decrypted with this key")
RATE: Final = Kind("rate", 429, "More was asked for than the grant allows in this time")
BUSY: Final = Kind("busy", 429, "Too many wait for this token already")
FAILED: Final = Kind("failed", 500, "The service failed")
UPSTREAM: Final = Kind("upstream", 502, "A server that is needed for it gave no answer that may be taken")
UNRECORDED: Final = Kind("unrecorded", 503, "It could not be recorded, and was not released")
TOKEN_DOWN: Final = Kind("token-down", 503, "The token cannot be used at present")
NO_ROOM: Final = Kind("no-room", 503, "The service has no room for it, or no database, at present")
EXPIRED: Final = Kind("expired", 503, "The time of the job was over before this was signed")

ASKING: Final = (UNAUTHENTICATED, FORBIDDEN, RATE, FAILED, UPSTREAM, NO_ROOM)
"""What every route that asks who it is may answer."""
USING_A_KEY: Final = (
    *ASKING, NOT_FOUND, METHOD, RUNNING, NOT_KEPT, TIMEOUT, TOO_LARGE, MEDIA, INVALID, OTHER_BODY,
    UNSUPPORTED, BUSY, TOKEN_DOWN, UNRECORDED,
)  # fmt: skip
"""What every route that uses a key and records it may answer."""

_KINDS: Final[tuple[tuple[type[TokensignError], Kind], ...]] = (  # the first that fits
    (UnauthenticatedError, UNAUTHENTICATED),
    (ForbiddenError, FORBIDDEN),
    (RateError, RATE),
    (ConflictError, RUNNING),
    (MismatchError, OTHER_BODY),
    (LaneBusyError, BUSY),
    (KeyNotFoundError, NOT_FOUND),
    (MechanismError, UNSUPPORTED),
    (TokenError, TOKEN_DOWN),
    (UnsupportedError, UNSUPPORTED),
    (MessageError, INVALID),
    (UsageError, INVALID),
    (UntrustedError, UNTRUSTED),
    (FileError, NO_ROOM),
    (NetworkError, UPSTREAM),
)
_OF_JOBS: Final = {kind.name: kind for kind in (*(kind for _, kind in _KINDS), EXPIRED)}
_OPERATORS: Final = frozenset(
    {UNAUTHENTICATED, TOKEN_DOWN, NO_ROOM, FAILED, UPSTREAM}
)  # whose details clients are not told


def kind_of(error: Exception) -> Kind:
    """The kind of problem that an error is to a client."""
    return next((kind for of, kind in _KINDS if isinstance(error, of)), FAILED)


def kind_named(name: str) -> Kind:
    """The kind of a problem that a job had, from the name that is recorded."""
    return _OF_JOBS.get(name, FAILED)


class Problem(Exception):  # noqa: N818 - the term of RFC 9457
    """A request that is answered with a problem.

    Args:
        kind: What kind it is.
        detail: What is the matter with this request, for a person, or None.
        retry_after: Seconds after which it may go better, or None.
        errors: What is wrong with which fields, each with a JSON pointer.
        headers: Further header fields of the answer.
    """

    def __init__(
        self,
        kind: Kind,
        detail: str | None = None,
        *,
        retry_after: float | None = None,
        errors: Sequence[Mapping[str, str]] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail or kind.title)
        self.kind = kind
        self.detail = detail
        self.retry_after = retry_after
        self.errors = errors
        self.headers = headers or {}

    def document(self, request_id: str | None = None) -> dict[str, Any]:
        """As it stands in JSON."""
        document: dict[str, Any] = {
            "type": _TYPE_PREFIX + self.kind.name,
            "title": self.kind.title,
            "status": self.kind.status,
        }
        if self.detail is not None:
            document["detail"] = self.detail
        if self.errors:
            document["errors"] = list(self.errors)
        if request_id is not None:
            document["request_id"] = request_id
        return document

    def response(self, request_id: str | None = None) -> Response:
        """The answer of HTTP."""
        headers = dict(self.headers)
        retry_after = self.retry_after
        if retry_after is None and self.kind.status == _UNAVAILABLE:
            retry_after = _RETRY_SECONDS
        if retry_after is not None:
            headers["Retry-After"] = str(max(1, round(retry_after)))
        if self.kind is UNAUTHENTICATED:
            headers.setdefault("WWW-Authenticate", "Bearer")
        return Response(
            json.dumps(self.document(request_id)), self.kind.status, headers, media_type=MEDIA_TYPE
        )


def problem_of(error: Exception) -> Problem:
    """What a client is told of an error."""
    if isinstance(error, Problem):
        return error
    kind = kind_of(error)
    detail = error.message if isinstance(error, TokensignError) and kind not in _OPERATORS else None
    return Problem(kind, detail, retry_after=getattr(error, "retry_after", None))


def invalid(error: ValidationError) -> Problem:
    """What a client is told of a body that is not what is described; nothing of the body is repeated."""
    found = error.errors(include_url=False, include_context=False, include_input=False)
    errors = [
        {"pointer": "#" + "".join(f"/{part}" for part in entry["loc"]), "detail": entry["msg"]}
        for entry in found[:_ERRORS_MAXIMUM]
    ]
    return Problem(INVALID, f"{len(found)} fields are wrong" if len(found) > 1 else None, errors=errors)


class FieldError(BaseModel):
    """What is wrong with a field of a body."""

    pointer: str
    detail: str


class ProblemDocument(BaseModel):
    """Problem details (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str | None = None
    errors: list[FieldError] | None = None
    request_id: str | None = None


def problem_responses(*kinds: Kind) -> dict[int | str, dict[str, Any]]:
    """How the problems of a route stand in the OpenAPI document; `openapi.described` completes it."""
    found: dict[int | str, dict[str, Any]] = {}
    for kind in kinds:
        schema = {"$ref": f"#/components/schemas/{ProblemDocument.__name__}"}
        new = {"description": "", "content": {MEDIA_TYPE: {"schema": schema}}}
        entry = found.setdefault(kind.status, new)
        entry["description"] = "; ".join(filter(None, (entry["description"], kind.title)))
    return found
