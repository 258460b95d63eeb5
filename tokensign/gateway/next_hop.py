"""The gateway's side of the process that talks to the next hop."""

from __future__ import annotations

import contextlib
import itertools
import logging
import socket
import subprocess
import sys
import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, BinaryIO, Final, Self

from tokensign.gateway.handover import packed, receive_packet
from tokensign.gateway.journal import Owner
from tokensign.smime.transport.smtp_client import Reply

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from tokensign.gateway.hops import Hop
    from tokensign.gateway.journal import Journal
    from tokensign.smime.transport.smtp_client import Envelope

__all__ = ["NextHop"]

_log: Final = logging.getLogger(__name__)

Replies = dict[str, Reply]


class NextHop:
    """The next hop, by way of a process of its own, which is started anew where it ended.

    Args:
        journal: The journal of the gateway.
        hop: Where mail goes.
        trust: The CAs of the next hop, where it is on another machine.
    """

    def __init__(self, journal: Journal, hop: Hop, trust: Sequence[Path] = ()) -> None:
        self._journal = journal
        self._hop = hop
        self._trust = trust
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        self._worker: _Worker | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            if self._worker is not None:
                self._worker.close()

    @property
    def owner(self) -> str:
        """Who will hand over: the name under which a mail is claimed before `hand_over`."""
        return self._living().owner

    def hand_over(
        self, envelope: Envelope, keys: Mapping[str, str], content: BinaryIO, owner: str
    ) -> Replies:
        """Hand a mail over to some of its recipients, and wait for the answers.

        Args:
            envelope: Who sends it.
            keys: The journal's key for each of these recipients, claimed for `owner`.
            content: The mail, in a file that has a descriptor.
            owner: As `owner` was when they were claimed.

        Returns:
            The answer to each recipient.

        Raises:
            OSError: It could not be given to the process; so nobody has it.
        """
        worker = self._living()
        if worker.owner != owner:
            self._journal.abandon(keys.values(), owner)
            return dict.fromkeys(keys, _GONE)
        content.flush()
        job = {
            "id": next(self._numbers),
            "sender": envelope.sender,
            "smtputf8": envelope.smtputf8,
            "keys": dict(keys),
        }
        return worker.ask(job, content.fileno()) or dict.fromkeys(keys, _GONE)

    def _living(self) -> _Worker:
        with self._lock:
            if self._worker is None or self._worker.ended:
                if self._worker is not None:
                    _log.warning("the process that hands mail over has ended; another one is started")
                    self._worker.close()
                self._worker = _Worker(self._journal, self._hop, self._trust)
            return self._worker


class _Worker:
    """A process of `handover`, and a thread that takes its answers."""

    def __init__(self, journal: Journal, hop: Hop, trust: Sequence[Path]) -> None:
        held = Owner(journal.folder)
        self.owner = held.name
        self.ended = False
        self._waiting: dict[int, Future[Replies | None]] = {}
        self._lock = threading.Lock()
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            descriptors = [str(held.descriptor), str(theirs.fileno())]
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-P", "-m", "tokensign.gateway.handover"),
                    *(str(journal.folder), str(hop), self.owner, *descriptors, *map(str, trust)),
                ],
                pass_fds=[held.descriptor, theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                start_new_session=True,  # a kill of the gateway's process group is not one of its hand-overs
            )
        finally:
            theirs.close()
            held.close()
        self._thread = threading.Thread(target=self._take_answers, daemon=True)
        self._thread.start()

    def ask(self, job: dict[str, object], content: int) -> Replies | None:
        """Send a job and wait for its answers; None when the process has ended.

        Raises:
            OSError: The job could not be sent.
        """
        future: Future[Replies | None] = Future()
        number = int(str(job["id"]))
        with self._lock:
            if self.ended:
                return None
            self._waiting[number] = future
        try:
            socket.send_fds(self._control, [packed(job)], [content])
        except OSError:
            with self._lock:
                self._waiting.pop(number, None)
            raise
        return future.result()

    def _take_answers(self) -> None:
        try:
            while (packet := receive_packet(self._control)) is not None:
                answer, _ = packet
                with self._lock:
                    future = self._waiting.pop(answer["id"])
                future.set_result({to: Reply(*reply) for to, reply in answer["replies"].items()})
        finally:  # whatever came, nobody waits for ever
            with self._lock:
                self.ended = True
                for future in self._waiting.values():
                    future.set_result(None)

    def close(self) -> None:
        """Let it finish and end; nobody waits for a next hop that takes its time."""
        with contextlib.suppress(OSError):
            self._control.shutdown(socket.SHUT_WR)
        try:
            self._process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:  # somebody has to take its exit code when it has one
            threading.Thread(target=self._process.wait, daemon=True).start()
        self._thread.join(_PATIENCE)
        self._control.close()


_PATIENCE: Final = 0.8  # seconds; what is not done then is finished without the gateway
_GONE: Final = Reply(451, "4.3.0 the hand-over was interrupted")
