"""A recorded use of a key: on record before it begins, and its outcome on record before anything leaves.

Between the two nothing is locked and no transaction is open. When the process dies there, the journal
resolves what was begun at the next start.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from fastapi import Response

from tokensign.errors import FileError, TokensignError
from tokensign.service.header import header_field
from tokensign.service.journal import ANSWER_SIZE_MAXIMUM, Replay
from tokensign.service.problems import MEDIA_TYPE, NOT_KEPT, UNRECORDED, Problem

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from fastapi import Request

    from tokensign.service.journal import Begun, Journal
    from tokensign.service.principals import Principal

__all__ = ["Outcome", "Use", "perform", "request_hash"]

_RETRY_SECONDS: Final = 5.0  # until a full disk or a database that is away may be mended
_REFUSALS: Final = 400  # the first status that is a problem
_NOT_KEPT: Final = json.dumps(Problem(NOT_KEPT).document()).encode()


def _nothing() -> None:
    pass


@dataclass(frozen=True, slots=True)
class Use:
    """A use of a key that was asked for and is allowed.

    Attributes:
        principal: Who asks.
        operation: One of `tokensign.service.grants.OPERATIONS`.
        key_id: The key.
        intent: What the audit log has of it beforehand.
        body_hash: SHA-256 of the request, as `request_hash` has it.
        media_type: Of the answer.
    """

    principal: Principal
    operation: str
    key_id: str
    intent: Mapping[str, Any]
    body_hash: bytes
    media_type: str = "application/json"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a use.

    Attributes:
        record: What the audit log has of it.
        response: The answer.
        kept: What a later request with the same Idempotency-Key gets; None: that the answer was not kept.
        discard: Gives free what the answer holds, when it is not sent.
    """

    record: Mapping[str, Any]
    response: Response
    kept: bytes | None = None
    discard: Callable[[], object] = _nothing


def request_hash(request: Request, body_hash: bytes) -> bytes:
    """What an Idempotency-Key is bound to: where a request goes, with which parameters, and its body.

    Args:
        request: The request.
        body_hash: SHA-256 of the body.
    """
    scope = request.scope
    target = b"%b %b?%b\n" % (scope["method"].encode(), scope["raw_path"], scope["query_string"])
    return hashlib.sha256(target + body_hash).digest()


async def perform(
    request: Request, journal: Journal, use: Use, work: Callable[[], Awaitable[Outcome]]
) -> Response:
    """Record a use, do it, record its outcome, and only then answer.

    Args:
        request: Whose Idempotency-Key counts.
        journal: Where it is recorded.
        use: What is on record beforehand.
        work: Does it.

    Raises:
        ConflictError: A request with the same Idempotency-Key is still running.
        MismatchError: One with another body had it.
        Problem: It cannot be recorded.
        TokensignError: As `work` raises it; that is on record too.
    """
    begun = await _begin(request, journal, use)
    if isinstance(begun, Replay):
        kept = use.media_type if begun.status < _REFUSALS else MEDIA_TYPE
        return Response(begun.body, begun.status, {"Idempotency-Replayed": "true"}, media_type=kept)
    finished = False
    try:
        try:
            outcome = await work()
        except (TokensignError, Problem) as error:
            await _finish(journal, begun, {"result": "failed", "error": _name_of(error)})
            finished = True
            raise
        try:
            if outcome.kept is not None and len(outcome.kept) <= ANSWER_SIZE_MAXIMUM:
                status = outcome.response.status_code
                await _finish(journal, begun, outcome.record, outcome.kept, status)
            else:
                await _finish(journal, begun, outcome.record, _NOT_KEPT, NOT_KEPT.status)
            finished = True
        finally:
            if not finished:
                outcome.discard()
    finally:
        if not finished:
            journal.abandon(begun, "not finished")
    return outcome.response


def _name_of(error: TokensignError | Problem) -> str:
    """What the audit log calls a failure."""
    return error.kind.name if isinstance(error, Problem) else type(error).__name__


async def _begin(request: Request, journal: Journal, use: Use) -> Begun | Replay:
    try:
        return await journal.begin(
            use.principal,
            use.operation,
            use.key_id,
            use.intent,
            header_field(request, b"idempotency-key"),
            use.body_hash,
        )
    except FileError as error:
        raise Problem(UNRECORDED, retry_after=_RETRY_SECONDS) from error


async def _finish(
    journal: Journal,
    begun: Begun,
    record: Mapping[str, Any],
    kept: bytes | None = None,
    status: int = 200,
) -> None:
    try:
        await journal.finish(begun, record, kept, status)
    except FileError as error:
        raise Problem(UNRECORDED, retry_after=_RETRY_SECONDS) from error
