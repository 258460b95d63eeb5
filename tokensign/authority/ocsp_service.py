"""OCSP for many who ask at once: answers are signed in advance, kept for a short while, and renewed in time.

A kept answer costs no operation on the token. It is given out as long as the database says the same, which is
looked up again every few seconds, so that a revocation shows soon.
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING, Final

from cryptography.x509.ocsp import OCSPResponseStatus

from tokensign.authority.log_limit import RepeatFilter
from tokensign.authority.ocsp_responder import read_question, refusal
from tokensign.authority.records import State, Status
from tokensign.authority.service_certificates import require_not_revoked
from tokensign.authority.signing_queue import BusyError
from tokensign.errors import MessageError, TokensignError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tokensign.authority.authority import Authority
    from tokensign.authority.ocsp_responder import Answer, OcspResponder, Question
    from tokensign.authority.records import CertificateStatus
    from tokensign.authority.signing_queue import SigningQueue

__all__ = ["KEPT_MAXIMUM", "LOOK_SECONDS", "PRESIGNED_MAXIMUM", "OcspReply", "OcspService"]

KEPT_MAXIMUM: Final = 20_000  # answers; with a certificate in each they take 1 to 3 thousand octets
PRESIGNED_MAXIMUM: Final = 5_000  # certificates of a CA, whose answers are ready before anybody asks
LOOK_SECONDS: Final = 5.0  # how late a revocation may show
RENEWAL_SECONDS: Final = 60.0  # between two rounds through the answers that are signed in advance

_log: Final = logging.getLogger(__name__)
_log.addFilter(RepeatFilter())


@dataclass(frozen=True, slots=True)
class OcspReply:
    """What is sent back.

    Attributes:
        encoded: An OCSPResponse, DER.
        answer: The answer in it, or None: it is a refusal.
        may_be_cached: Whether others may be given the same.
    """

    encoded: bytes
    answer: Answer | None = None
    may_be_cached: bool = False


@dataclass(slots=True)
class _Kept:
    """An answer, and the last look at the status in it."""

    answer: Answer
    looked_at: datetime
    looked: float  # the same by time.monotonic()

    @property
    def is_fresh(self) -> bool:
        """Whether it may be given out without another look, at which it is renewed if it is old."""
        return time.monotonic() - self.looked < LOOK_SECONDS and datetime.now(UTC) < self.answer.next_update


class OcspService:
    """Answers OCSP requests about the certificates of some CAs; in one event loop.

    Args:
        responders: For each CA, what signs its answers.
        queue: Where operations on the token wait.
    """

    def __init__(self, responders: Sequence[tuple[Authority, OcspResponder]], queue: SigningQueue) -> None:
        self._responders = responders
        self._queue = queue
        self._kept: dict[Question, _Kept] = {}
        self._under_way: dict[Question, asyncio.Task[_Kept]] = {}

    def ready(self, encoded: bytes) -> OcspReply | None:
        """The reply to a request if it needs neither the token nor the database; else None: see `reply`."""
        try:
            question = read_question(encoded)
        except MessageError:
            return _MALFORMED
        if self._responsible(question) is None:
            return _UNAUTHORIZED
        kept = self._kept.get(question)
        return (
            None
            if kept is None or not kept.is_fresh
            else OcspReply(kept.answer.encoded, kept.answer, may_be_cached=True)
        )

    async def reply(self, encoded: bytes) -> OcspReply:
        """Answer a request, whatever it is.

        A nonce is repeated while the token is not too busy. Otherwise the answer is one without, which RFC
        9654 section 2.1 leaves to the server, and which costs nothing.

        Args:
            encoded: An OCSPRequest, DER; the caller has limited its size.
        """
        try:
            question = read_question(encoded)
        except MessageError:
            return _MALFORMED
        found = self._responsible(question)
        if found is None:
            return _UNAUTHORIZED
        try:
            if question.nonce is not None and not self._queue.is_full:
                answer = await self._answer_with_nonce(*found, question)
                return OcspReply(answer.encoded, answer)
            answer = (await self._answer(*found, question.without_nonce)).answer
        except BusyError:
            return _TRY_LATER
        except TokensignError as error:  # the token's trouble is the operator's to know
            _log.error("no OCSP answer was made: %s", error.message)
            return _INTERNAL_ERROR
        return OcspReply(answer.encoded, answer, may_be_cached=True)

    async def keep_signed(self) -> None:
        """Sign answers about valid certificates in advance, and renew them before they end; never returns."""
        while True:
            for authority, responder in self._responders:
                try:
                    for serial_number in await asyncio.to_thread(_valid_serials, authority):
                        question = responder.question_about(serial_number)
                        kept = self._kept.get(question)
                        if kept is None or _is_old(kept.answer):
                            await self._answer(authority, responder, question)
                except BusyError:
                    _log.info("the token is busy; answers are signed in advance later")
                except TokensignError as error:
                    _log.error("no OCSP answers are signed in advance: %s", error.message)
            await asyncio.sleep(RENEWAL_SECONDS)

    def _responsible(self, question: Question) -> tuple[Authority, OcspResponder] | None:
        """The CA that is asked, and what signs its answers."""
        return next((pair for pair in self._responders if pair[1].is_asked(question)), None)

    async def _answer_with_nonce(
        self, authority: Authority, responder: OcspResponder, question: Question
    ) -> Answer:
        """An answer for one client alone; the status in it may be one that was looked up a moment ago."""
        if question.without_nonce not in self._kept:
            return await self._queue.run(_look_and_sign, authority, responder, question)
        kept = await self._answer(authority, responder, question.without_nonce)
        return await self._queue.run(responder.sign, question, kept.answer.status, kept.looked_at)

    async def _answer(self, authority: Authority, responder: OcspResponder, question: Question) -> _Kept:
        """The answer that is kept, or a new one; who asks while it is made waits for the same."""
        kept = self._kept.get(question)
        if kept is not None and kept.is_fresh:
            return kept
        task = self._under_way.get(question)
        if task is None:
            task = asyncio.create_task(self._renew(authority, responder, question, kept))
            self._under_way[question] = task
            task.add_done_callback(lambda _: self._under_way.pop(question))
        return await asyncio.shield(task)

    async def _renew(
        self, authority: Authority, responder: OcspResponder, question: Question, kept: _Kept | None
    ) -> _Kept:
        looked, now = time.monotonic(), datetime.now(UTC)
        status = await asyncio.to_thread(_look, authority, responder, question)
        answer = kept.answer if kept is not None and kept.answer.status == status else None
        if answer is None or _is_old(answer):
            try:
                answer = await self._queue.run(responder.sign, question, status, now)
            except (BusyError, TokensignError) as error:
                if answer is None or answer.next_update <= now:
                    raise
                _log.warning("an OCSP answer could not be renewed, and is used to its end: %s", error)
        renewed = _Kept(answer, now, looked)
        self._kept.pop(question, None)  # what was used lately moves to the end
        if status.status is not Status.UNKNOWN:  # else strangers' serial numbers would fill the memory
            if len(self._kept) >= KEPT_MAXIMUM:
                del self._kept[next(iter(self._kept))]
            self._kept[question] = renewed
        return renewed


def _look_and_sign(authority: Authority, responder: OcspResponder, question: Question) -> Answer:
    now = datetime.now(UTC)
    return responder.sign(question, _look(authority, responder, question), now)


def _look(authority: Authority, responder: OcspResponder, question: Question) -> CertificateStatus:
    """The status of a certificate, by a responder that may still tell it."""
    if responder.certificate != responder.issuer:
        require_not_revoked(authority, responder.certificate)
    return authority.status_of(question.serial_number)


def _is_old(answer: Answer) -> bool:
    """Whether half of its life is over: then it is renewed (S/MIME BR section 4.9.10)."""
    return datetime.now(UTC) > answer.this_update + (answer.next_update - answer.this_update) / 2


def _valid_serials(authority: Authority) -> list[int]:
    now = datetime.now(UTC)
    records: Iterable[int] = (
        record.serial
        for record in authority.certificates()
        if record.state is State.ISSUED and record.not_after > now
    )
    return list(islice(records, PRESIGNED_MAXIMUM))


_MALFORMED: Final = OcspReply(refusal(OCSPResponseStatus.MALFORMED_REQUEST))
_INTERNAL_ERROR: Final = OcspReply(refusal(OCSPResponseStatus.INTERNAL_ERROR))
_TRY_LATER: Final = OcspReply(refusal(OCSPResponseStatus.TRY_LATER))
_UNAUTHORIZED: Final = OcspReply(refusal(OCSPResponseStatus.UNAUTHORIZED))
