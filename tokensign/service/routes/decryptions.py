"""POST /v1/keys/{key}/decryptions: an encrypted message in, its content out.

Whatever is wrong with a message is one answer: who may ask for decryptions of messages that others encrypted
must not learn from the answers what is in them (RFC 3218, RFC 8551 section 6).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO, Final

from fastapi import APIRouter, Request, Response

from tokensign.cms.decrypt import decrypt
from tokensign.errors import MessageError
from tokensign.files import spool
from tokensign.service.bodies import require_media_type
from tokensign.service.documents import streamed
from tokensign.service.key_path import KEY, KeyId
from tokensign.service.openapi import binary_answer, binary_body
from tokensign.service.operation import Outcome, Use, perform, request_hash
from tokensign.service.problems import NOT_DECRYPTED, USING_A_KEY, Problem, problem_responses

if TYPE_CHECKING:
    from tokensign.cms.decrypt import DecryptionResult
    from tokensign.service.context import Context
    from tokensign.service.lanes import LaneKey

__all__ = ["routes"]

_TAKEN: Final = ("application/cms", "application/pkcs7-mime", "application/octet-stream")
_MEDIA_TYPE: Final = "application/octet-stream"


def routes(context: Context) -> APIRouter:
    """The route, for the parts of a service."""
    router = APIRouter(tags=["decryptions"])

    @router.post(
        f"/v1/keys/{KEY}/decryptions",
        summary="Decrypt a message",
        response_class=Response,
        responses={
            **problem_responses(*USING_A_KEY, NOT_DECRYPTED),
            200: binary_answer(_MEDIA_TYPE, "The content") | {"headers": _HEADERS},
        },
        openapi_extra=binary_body(*_TAKEN),
    )
    async def decrypt_message(request: Request, key: KeyId) -> Response:
        caller = await context.caller(request)
        found = context.key(caller, key, "decrypt")
        context.grants.check(caller, found.id, "decrypt")
        require_media_type(request, *_TAKEN)
        request.state.facts.update(key=found.id, lane=found.lane)
        with context.documents.room():
            async with context.documents.received(request) as (message, message_hash):
                caller = await context.caller(request)  # once more: that may have taken minutes
                context.grants.check(caller, found.id, "decrypt", None, 0)

                async def work() -> Outcome:
                    try:
                        content, result = await context.documents.run(_decrypted, found, message)
                    except MessageError as error:
                        context.telemetry.operations_done(found.lane, "decrypt", 0, 1)
                        raise Problem(NOT_DECRYPTED) from error
                    context.telemetry.operations_done(found.lane, "decrypt", 1)
                    headers = {
                        "Tokensign-Content-Type": result.content_type,
                        "Tokensign-Cipher": result.cipher.name,
                        "Tokensign-Authenticated": "yes" if result.authenticated else "no",
                    }
                    answer = streamed(content, _MEDIA_TYPE, headers)
                    return Outcome({"result": "decrypted"}, answer, None, content.close)

                intent = {"message": f"sha256:{message_hash.hex()}"}
                use = Use(caller, "decrypt", found.id, intent, request_hash(request, message_hash))
                return await perform(request, context.journal, use, work)

    return router


def _decrypted(key: LaneKey, message: BinaryIO) -> tuple[BinaryIO, DecryptionResult]:
    """The content in a temporary stream, which is the caller's to close."""
    content = spool()
    try:
        return content, decrypt(message, [key.decryption_key()], content)
    except BaseException:
        content.close()
        raise


_HEADERS: Final = {
    "Tokensign-Content-Type": {"schema": {"type": "string"}, "description": "What the content is, dotted"},
    "Tokensign-Cipher": {"schema": {"type": "string"}, "description": "How it was encrypted"},
    "Tokensign-Authenticated": {
        "schema": {"type": "string", "enum": ["yes", "no"]},
        "description": "Whether a tag shows that it arrived as it was encrypted",
    },
}
