"""The process that hands mail over to the next hop; it finishes what it began when the gateway is killed.

    python -m tokensign.gateway.handover FOLDER NEXT OWNER LOCK CONTROL

It is started by `next_hop.NextHop` in a session of its own, with the descriptors of its lock and of a control
socket. A job comes as a packet of JSON with the descriptor of the mail; the outcome goes back likewise, and,
what counts, into the journal. When the other end of the control socket is closed, for whatever reason, it
finishes the jobs that it has and ends. It parses no mail, has no key, and loads no module.
"""

from __future__ import annotations

import json
import logging
import signal
import smtplib
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from tokensign.errors import UnsupportedError
from tokensign.gateway.hops import Hop, connect, parse_hop
from tokensign.gateway.journal import Journal, Owner
from tokensign.smime.transport.smtp_client import Envelope, LostAfterContentError, Reply, hand_over

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["PACKET_MAXIMUM", "HandOver", "packed", "receive_packet", "serve"]

_log: Final = logging.getLogger(__name__)

PACKET_MAXIMUM: Final = 3 << 16
"""Octets of a job or an outcome: a hundred recipients with long addresses and answers have some 150,000."""

CONNECTIONS_MAXIMUM: Final = 16
"""Connections to the next hop at a time; a mail server takes at least 20 from one client."""


@dataclass(frozen=True, slots=True)
class HandOver:
    """Hands mail over and writes down what became of it.

    Args:
        journal: The journal.
        owner: The name of this process in it.
        hop: The next hop.
        trust: The CAs of the next hop, where it is on another machine.
    """

    journal: Journal
    owner: str
    hop: Hop
    trust: tuple[Path, ...] = ()

    def perform(self, envelope: Envelope, keys: Mapping[str, str], content: BinaryIO) -> dict[str, Reply]:
        """Hand a mail over.

        Args:
            envelope: From whom to whom.
            keys: The key in the journal of each recipient.
            content: The mail.

        Returns:
            The answer to each recipient: what the next hop said, or why there is none.
        """
        begun = False

        def before_end() -> None:
            nonlocal begun
            self.journal.closing(keys.values(), self.owner)
            begun = True

        try:
            with connect(self.hop, self.trust) as smtp:
                replies = hand_over(smtp, envelope, content, before_end=before_end)
                self._write_down(keys, replies)  # at once: until then nobody would know it
                return replies
        except LostAfterContentError as lost:
            self._write_down({to: keys[to] for to in lost.replies}, lost.replies)
            untold = [to for to in keys if to not in lost.replies]
            self.journal.unknown(keys[to] for to in untold)
            gone = Reply(451, "4.4.2 the next hop went away after the content")
            return lost.replies | dict.fromkeys(untold, gone)
        except Exception as error:
            if begun:  # the journal failed, or what the next hop said was not understood
                self.journal.unknown(keys.values())
                raise
            self.journal.release(keys.values())
            return dict.fromkeys(keys, _failure(error, self.hop))

    def _write_down(self, keys: Mapping[str, str], replies: Mapping[str, Reply]) -> None:
        taken = [key for to, key in keys.items() if replies[to].accepted]
        self.journal.accepted(taken)
        self.journal.release(set(keys.values()) - set(taken))


def serve(work: HandOver, control: socket.socket) -> None:
    """Perform the jobs that come on a control socket, several at a time, until its other end is closed."""
    with ThreadPoolExecutor(CONNECTIONS_MAXIMUM) as pool:
        while (packet := receive_packet(control)) is not None:
            job, content = packet
            if content is not None:
                pool.submit(_perform, work, control, job, content)


def receive_packet(control: socket.socket) -> tuple[dict[str, Any], BinaryIO | None] | None:
    """The next packet of a control socket, and the file with it; None when the other end is closed."""
    try:
        octets, descriptors, _, _ = socket.recv_fds(control, PACKET_MAXIMUM, 1)
    except ConnectionError:
        return None
    content = open(descriptors[0], "rb") if descriptors else None  # noqa: PTH123, SIM115 - a descriptor
    return (json.loads(octets), content) if octets else None


def packed(packet: Mapping[str, object]) -> bytes:
    """What `receive_packet` reads."""
    return json.dumps(packet, ensure_ascii=False).encode()


def _perform(work: HandOver, control: socket.socket, job: dict[str, Any], content: BinaryIO) -> None:
    keys: dict[str, str] = job["keys"]
    try:
        with content:
            content.seek(0)
            replies = work.perform(Envelope(job["sender"], tuple(keys), job["smtputf8"]), keys, content)
        outcome = {to: [reply.code, reply.line] for to, reply in replies.items()}
    except Exception as error:  # noqa: BLE001 - the mails that are under way come to their end
        _log.error("a mail was not handed over: %s", type(error).__name__)
        outcome = {to: [451, "4.3.0 the hand-over failed"] for to in keys}
        control.shutdown(socket.SHUT_RD)  # the process ends then, and with it its claims
    try:
        control.send(packed({"id": job["id"], "replies": outcome}))
    except OSError:  # the gateway is gone; the journal tells the next one
        _log.info("a mail was handed over for a gateway that is gone")


def _failure(error: Exception, hop: Hop) -> Reply:
    if isinstance(error, UnsupportedError):
        return Reply(554, f"5.6.3 {error.message}")
    if isinstance(error, smtplib.SMTPResponseException):
        return Reply(451, f"4.4.1 the next hop said {error.smtp_code}")
    return Reply(451, f"4.4.1 the next hop {hop} cannot be reached: {type(error).__name__}")


def _main(folder: str, hop: str, owner: str, lock: str, control: str, *trust: str) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # it ends when its work is done, and that is soon
    path = Path(folder)
    held = Owner(path, owner, int(lock))
    work = HandOver(Journal(path), held.name, parse_hop(hop), tuple(map(Path, trust)))
    with socket.socket(fileno=int(control)) as connection:
        serve(work, connection)
    held.close()


if __name__ == "__main__":
    _main(*sys.argv[1:])
