"""A next hop that keeps its answers back as a test tells it: a small SMTP server in a thread."""

from __future__ import annotations

import contextlib
import socketserver
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

PATIENCE = 60.0


@dataclass
class NextServer:
    """What it takes, and what it says.

    Attributes:
        port: Where it listens.
        answer: What it says after the content.
        refused: What it says to some recipients.
        extensions: What it offers.
        taken: The mails that it accepted, as they came, dots and all.
        has_content: Set when it has the content of a mail.
        may_answer: It says nothing after the content until this is set.
        hang_up: Close the connection instead of an answer after the content.
        hang_up_after: Close it after that answer, of which LMTP has one for each recipient.
        not_ready: What it says to EHLO, if it is not ready.
    """

    port: int = 0
    answer: str = "250 2.0.0 ok"
    refused: dict[str, str] = field(default_factory=dict)
    extensions: tuple[str, ...] = ("SIZE 10000000", "8BITMIME", "SMTPUTF8")
    taken: list[bytes] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)
    has_content: threading.Event = field(default_factory=threading.Event)
    may_answer: threading.Event = field(default_factory=threading.Event)
    hang_up: bool = False
    hang_up_after: bool = False
    not_ready: str | None = None


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = False

    def __init__(self, state: NextServer) -> None:
        super().__init__(("127.0.0.1", 0), _Conversation)
        self.state = state


class _Conversation(socketserver.StreamRequestHandler):
    timeout = PATIENCE
    server: _Server

    def handle(self) -> None:
        with contextlib.suppress(OSError):
            self._say("220 next")
            while line := self.rfile.readline(4096).decode().rstrip():
                self.server.state.commands.append(line)
                if not self._answer(line):
                    return

    def _answer(self, line: str) -> bool:
        """Answer a command; whether the conversation goes on."""
        state = self.server.state
        match line.upper().split()[0]:
            case "DATA":
                return self._content()
            case "QUIT":
                self._say("221 bye")
                return False
            case "EHLO" | "LHLO" if state.not_ready:
                self._say(state.not_ready)
            case "EHLO" | "LHLO":
                self._say(
                    "\r\n".join(["250-next", *(f"250-{name}" for name in state.extensions), "250 HELP"])
                )
            case _:
                self._say(next((said for to, said in state.refused.items() if to in line), "250 ok"))
        return True

    def _content(self) -> bool:
        state = self.server.state
        self._say("354 go on")
        content = b""
        while (line := self.rfile.readline()) != b".\r\n":
            if not line:
                return False
            content += line
        state.has_content.set()
        state.may_answer.wait(PATIENCE)
        if state.hang_up:
            return False
        if state.answer.startswith("2"):
            state.taken.append(content)
        self._say(state.answer)
        return not state.hang_up_after

    def _say(self, text: str) -> None:
        self.wfile.write(f"{text}\r\n".encode())


@contextlib.contextmanager
def next_server() -> Iterator[NextServer]:
    """The server, as long as the block lasts."""
    state = NextServer()
    state.may_answer.set()
    with _Server(state) as server:
        state.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield state
        finally:
            state.may_answer.set()
            server.shutdown()
            thread.join(PATIENCE)
