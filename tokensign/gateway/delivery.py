"""One mail in the gateway, from the end of its content to an answer for each recipient.

An answer that says yes is given after the next hop has said yes, and after that is in the journal. Whatever
fails here gets an answer that lets the mail server keep the mail and try it again.
"""

from __future__ import annotations

import contextlib
import logging
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, BinaryIO, Final, Protocol

from tokensign.errors import FileError, NetworkError, TokenError, TokensignError
from tokensign.gateway.journal import Claim
from tokensign.smime.transport.smtp_client import Envelope, Reply

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tokensign.gateway.journal import Journal
    from tokensign.gateway.next_hop import NextHop

__all__ = ["Copy", "Delivery", "Processor", "Refused"]

_log: Final = logging.getLogger(__name__)

BUSY_PATIENCE: Final = 60.0
"""Seconds for which a mail waits for another process that has the same one; then it comes again later."""

_LOOK: Final = 0.1  # seconds between two looks whether that process is done
_AGAIN: Final = Reply(451, "4.3.0 the gateway works on this mail already")
_BEFORE: Final = Reply(250, "2.0.0 accepted before")


@dataclass(frozen=True, slots=True)
class Copy:
    """What goes to some of the recipients.

    Attributes:
        content: The mail, in a private file, from its start.
        recipients: Whose it is.
        outcome: What was done with it, for the log: "signed and encrypted".
    """

    content: BinaryIO
    recipients: tuple[str, ...]
    outcome: str


class Refused(TokensignError):  # noqa: N818 - it is an answer
    """A mail that the policy does not let go on.

    Args:
        message: Why, for its sender.
        recipients: For whom it does not go on.
    """

    exit_code = 1

    def __init__(self, message: str, recipients: Sequence[str]) -> None:
        super().__init__(message)
        self.recipients = tuple(recipients)


class Processor(Protocol):
    """What is done with a mail before it goes on."""

    def process(self, envelope: Envelope, content: BinaryIO, mail: str) -> Sequence[Copy]:
        """Make the copies that go on; together they are for all recipients.

        Args:
            envelope: From whom to whom.
            content: The mail as received, from its start.
            mail: What names it, in hexadecimal.

        Raises:
            Refused: It does not go on to some recipients; without them it would.
            TokensignError: It cannot be processed now.
        """
        ...


class Delivery:
    """Takes a mail, has it processed, and hands it over once.

    Args:
        journal: Who has which mail.
        processor: What is done with it.
        next_hop: Where it goes.
    """

    def __init__(self, journal: Journal, processor: Processor, next_hop: NextHop) -> None:
        self._journal = journal
        self._processor = processor
        self._next_hop = next_hop

    def __call__(self, envelope: Envelope, content: BinaryIO, digest: bytes) -> dict[str, Reply]:
        """Deliver a mail.

        Args:
            envelope: From whom to whom.
            content: The mail as received, from its start.
            digest: The SHA-256 of the content.

        Returns:
            The answer to each recipient.
        """
        began = time.monotonic()
        mail = self._journal.mail(envelope.sender, digest)
        try:
            replies = self._deliver(envelope, content, mail)
        except Exception as error:  # noqa: BLE001 - the mail server keeps the mail, whatever went wrong here
            replies = dict.fromkeys(envelope.recipients, _refusal(error))
            _log.error("mail=%s failed: %s", mail[:16], _named(error))
        _log.info(
            "mail=%s recipients=%d accepted=%d ms=%d",
            mail[:16],
            len(replies),
            sum(reply.accepted for reply in replies.values()),
            (time.monotonic() - began) * 1000,
        )
        return replies

    def _deliver(self, envelope: Envelope, content: BinaryIO, mail: str) -> dict[str, Reply]:
        keys = {to: self._journal.key(mail, to) for to in envelope.recipients}
        owner = self._next_hop.owner
        claims = self._claimed(keys, owner)
        replies = {to: _BEFORE for to in keys if claims[to] is Claim.ACCEPTED}
        replies |= {to: _AGAIN for to in keys if claims[to] is Claim.BUSY}
        if any(claim is Claim.DOUBTFUL for claim in claims.values()):
            _log.warning("mail=%s may arrive twice: nobody knows whether the next hop has it", mail[:16])
        mine = {to: key for to, key in keys.items() if to not in replies}
        try:
            replies |= self._go_on(envelope, mine, content, mail, owner)
        except BaseException:
            self._journal.abandon(mine.values(), owner)
            raise
        return replies

    def _claimed(self, keys: Mapping[str, str], owner: str) -> dict[str, Claim]:
        """Claim the mail for each recipient; one that another process works on is waited for."""
        end = time.monotonic() + BUSY_PATIENCE
        found = self._journal.claim(keys.values(), owner)
        while (busy := [key for key in found if found[key] is Claim.BUSY]) and time.monotonic() < end:
            time.sleep(_LOOK)
            found |= self._journal.claim(busy, owner)
        return {to: found[key] for to, key in keys.items()}

    def _go_on(
        self, envelope: Envelope, keys: dict[str, str], content: BinaryIO, mail: str, owner: str
    ) -> dict[str, Reply]:
        """Process the mail for the recipients that are left, and hand its copies over."""
        replies: dict[str, Reply] = {}
        left = tuple(keys)
        copies: Sequence[Copy] = ()
        while left:
            content.seek(0)
            try:
                copies = self._processor.process(replace(envelope, recipients=left), content, mail)
                break
            except Refused as refusal:
                _log.info("mail=%s refused for %d recipients by policy", mail[:16], len(refusal.recipients))
                self._journal.abandon([keys[to] for to in refusal.recipients], owner)
                replies |= dict.fromkeys(refusal.recipients, Reply(550, f"5.7.1 {refusal.message}"))
                left = tuple(to for to in left if to not in refusal.recipients)
        with contextlib.ExitStack() as stack:
            for copy in copies:
                stack.enter_context(copy.content)
            for copy in copies:
                own = {to: keys[to] for to in copy.recipients}
                with copy.content:  # a hundred copies are not to take a hundred descriptors
                    replies |= self._next_hop.hand_over(envelope, own, copy.content, owner)
                _log.info("mail=%s %s recipients=%d", mail[:16], copy.outcome, len(own))
        return replies


def _refusal(error: Exception) -> Reply:
    """The answer to a failure: always one after which the mail server tries again."""
    match error:
        case TokenError():
            return Reply(451, "4.3.0 the token is not available")
        case FileError():
            return Reply(452, "4.3.1 the gateway has no room")
        case NetworkError():
            return Reply(451, "4.4.1 a server is not available")
        case _:
            return Reply(451, "4.3.0 the gateway cannot process the mail now")


def _named(error: Exception) -> str:
    """What is logged of a failure: nothing that may cite the mail."""
    told = isinstance(error, TokenError | FileError | NetworkError)
    return f"{type(error).__name__}: {error}" if told else type(error).__name__
