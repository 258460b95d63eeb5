"""The gateway's side of LMTP: the answers, the limits, and what is no end of a mail."""

from __future__ import annotations

import errno
import socket
import threading
import time
from typing import TYPE_CHECKING, BinaryIO, NoReturn

import pytest

from tokensign.gateway.hops import listening, parse_address
from tokensign.gateway.lmtp import RECIPIENTS_MAXIMUM
from tokensign.gateway.server import CONNECTIONS_MAXIMUM, Server
from tokensign.smime.transport.smtp_client import Envelope, Reply

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LIMIT = 100_000


class Line:
    """A connection to the gateway, word by word."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(20)
        self.socket.connect(str(path))
        self.file = self.socket.makefile("rb")
        self.greeting = self.answer()

    def say(self, *lines: str | bytes) -> str:
        """Say some lines at once; the last answer of as many."""
        encoded = [line if isinstance(line, bytes) else f"{line}\r\n".encode() for line in lines]
        self.socket.sendall(b"".join(encoded))
        return [self.answer() for _ in lines][-1]

    def answer(self) -> str:
        line = self.file.readline().decode()
        while line[3:4] == "-":
            line = self.file.readline().decode()
        return line.rstrip()

    def close(self) -> None:
        self.file.close()
        self.socket.close()


class Inbox:
    """Takes mail, and answers as it is told."""

    def __init__(self) -> None:
        self.mails: list[tuple[Envelope, bytes]] = []
        self.replies: dict[str, Reply] = {}

    def __call__(self, envelope: Envelope, content: BinaryIO, digest: bytes) -> dict[str, Reply]:  # noqa: ARG002
        self.mails.append((envelope, content.read()))
        return {to: self.replies.get(to, Reply(250, "2.0.0 ok")) for to in envelope.recipients}


@pytest.fixture
def inbox() -> Inbox:
    return Inbox()


@pytest.fixture
def server(inbox: Inbox, tmp_path: Path) -> Iterator[Server]:
    made = Server(listening(parse_address(f"unix:{tmp_path}/lmtp")), inbox, LIMIT)
    thread = threading.Thread(target=made.run)
    thread.start()
    yield made
    made.stop()
    thread.join(20)
    assert not thread.is_alive()


@pytest.fixture
def line(server: Server, tmp_path: Path) -> Iterator[Line]:  # noqa: ARG001 - it listens
    opened = Line(tmp_path / "lmtp")
    yield opened
    opened.close()


def announce(line: Line, *recipients: str) -> None:
    assert line.say("LHLO mail").startswith("250")
    assert line.say("MAIL FROM:<alice@acme.example> SIZE=10 BODY=8BITMIME").startswith("250")
    for recipient in recipients or ("bob@acme.example",):
        assert line.say(f"RCPT TO:<{recipient}>").startswith("250")
    assert line.say("DATA").startswith("354")


def test_each_recipient_gets_an_answer_of_its_own(line: Line, inbox: Inbox) -> None:
    inbox.replies = {"carol@acme.example": Reply(550, "5.1.1 no such person")}
    announce(line, "bob@acme.example", "carol@acme.example", "bob@acme.example")
    assert line.say(b"Subject: x\r\n\r\n..\r\n...a\r\n.\r\n") == "250 2.0.0 ok"
    assert line.answer() == "550 5.1.1 no such person"
    assert line.answer() == "250 2.0.0 ok"
    assert inbox.mails == [
        (
            Envelope("alice@acme.example", ("bob@acme.example", "carol@acme.example")),
            b"Subject: x\r\n\r\n.\r\n..a\r\n",
        )
    ]


def test_several_mails_on_a_connection_and_commands_at_once(line: Line, inbox: Inbox) -> None:
    line.say("LHLO mail")
    for number in range(3):
        line.say("MAIL FROM:<>", "RCPT TO:<bob@acme.example>", "DATA")
        assert line.say(f"{number}\r\n.").startswith("250")
    assert [content for _, content in inbox.mails] == [b"0\r\n", b"1\r\n", b"2\r\n"]
    assert inbox.mails[0][0].sender == ""


@pytest.mark.parametrize(
    "smuggled", [b"\n.\n", b"\n.\r\n", b"\r\n.\n"], ids=["LF dot LF", "LF dot CRLF", "CRLF dot LF"]
)
def test_only_cr_lf_dot_cr_lf_ends_a_mail(line: Line, inbox: Inbox, smuggled: bytes) -> None:
    announce(line)
    second = b"MAIL FROM:<mallory@evil.example>\r\nRCPT TO:<bob@acme.example>\r\nDATA\r\nbad\r\n.\r\n"
    assert line.say(b"Subject: x\r\n\r\ntext" + smuggled + second).startswith("554 5.6.0")
    assert line.say("NOOP").startswith("250")  # nothing of it was taken for a command
    assert inbox.mails == []


def test_a_line_longer_than_what_is_read_at_a_time_stays_as_it_is(line: Line, inbox: Inbox) -> None:
    announce(line)
    for size in (65534, 65535, 65536):
        content = b"x" * size
        assert line.say(content + b"\r\n.\r\n").startswith("250")
        assert inbox.mails[-1][1] == content + b"\r\n"
        line.say("MAIL FROM:<>", "RCPT TO:<bob@acme.example>", "DATA")
    line.say(b".\r\n")


def test_a_mail_beyond_the_limit_is_refused_before_and_after_it_comes(line: Line, inbox: Inbox) -> None:
    line.say("LHLO mail")
    assert line.say(f"MAIL FROM:<> SIZE={LIMIT + 1}").startswith("552")
    line.say("MAIL FROM:<> SIZE=1", "RCPT TO:<bob@acme.example>", "DATA")
    assert line.say(b"x\r\n" * LIMIT + b".\r\n").startswith("552")
    assert inbox.mails == []
    assert line.say("NOOP").startswith("250")


def test_too_many_recipients_are_asked_to_come_again(line: Line) -> None:
    line.say("LHLO mail")
    line.say("MAIL FROM:<>")
    for number in range(RECIPIENTS_MAXIMUM):
        assert line.say(f"RCPT TO:<{number}@acme.example>").startswith("250")
    assert line.say("RCPT TO:<more@acme.example>").startswith("452")


def test_what_is_announced_of_a_mail_goes_with_it(line: Line, inbox: Inbox) -> None:
    line.say("LHLO mail")
    for parameters in (" SMTPUTF8 BODY=8BITMIME", " BODY=8BITMIME"):
        line.say(f"MAIL FROM:<alice@acme.example>{parameters}", "RCPT TO:<bob@acme.example>", "DATA")
        assert line.say(b"\r\n.\r\n").startswith("250")
    assert [envelope.smtputf8 for envelope, _ in inbox.mails] == [True, False]


def test_an_address_that_no_mail_server_takes_is_refused(line: Line) -> None:
    line.say("LHLO mail")
    assert line.say(f"MAIL FROM:<{'ü' * 160}@acme.example>").startswith("501 5.1.7")
    line.say("MAIL FROM:<>")
    assert line.say(f"RCPT TO:<{'x' * 310}@acme.example>").startswith("501 5.1.3")


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ("MAIL FROM:<a@b>", "503"),
        ("EHLO mail", "500"),
        ("NONSENSE", "500"),
        ("VRFY bob", "252"),
        (b"\xff\xfe\r\n", "500"),
    ],
)
def test_what_is_not_understood_or_comes_too_early(line: Line, said: str | bytes, code: str) -> None:
    assert line.say(said).startswith(code)


@pytest.mark.parametrize(
    "said", ["MAIL FROM:alice", "MAIL FROM:<a b@c>", "MAIL TO:<a@b>", "MAIL FROM:<a@b> NEWS=1"]
)
def test_a_sender_that_is_none(line: Line, said: str) -> None:
    line.say("LHLO mail")
    assert line.say(said)[:3] in ("501", "555")


def test_an_endless_command_and_endless_mistakes_end_the_connection(server: Server, tmp_path: Path) -> None:  # noqa: ARG001
    first, second = Line(tmp_path / "lmtp"), Line(tmp_path / "lmtp")
    assert first.say(b"x" * 5000).startswith("500")
    assert first.answer() == ""
    for _ in range(20):
        second.say("NONSENSE")
    assert second.answer() == ""
    first.close()
    second.close()


def test_one_connection_too_many_is_told_to_come_later(server: Server, tmp_path: Path) -> None:  # noqa: ARG001
    held = [Line(tmp_path / "lmtp") for _ in range(CONNECTIONS_MAXIMUM)]
    assert held[-1].greeting.startswith("220")
    last = Line(tmp_path / "lmtp")
    assert last.greeting.startswith("421")
    for one in (*held, last):
        one.close()


def test_a_system_without_descriptors_is_not_kept_busy(
    inbox: Inbox, caplog: pytest.LogCaptureFixture
) -> None:
    class Listener(socket.socket):
        asked = 0

        def accept(self) -> NoReturn:
            self.asked += 1
            raise OSError(errno.EMFILE, "Too many open files")

    ours, theirs = socket.socketpair()
    listener = Listener(fileno=ours.detach())
    theirs.send(b"x")  # so that there is always something to accept
    server = Server(listener, inbox, LIMIT)
    thread = threading.Thread(target=server.run)
    thread.start()
    end = time.monotonic() + 20
    while not listener.asked and time.monotonic() < end:
        time.sleep(0.01)
    time.sleep(0.3)  # in which it does not ask again
    server.stop()
    thread.join(20)
    theirs.close()
    assert listener.asked == 1
    assert "Too many open files" in caplog.text


def test_a_mail_that_is_cut_off_is_not_delivered(line: Line, inbox: Inbox, server: Server) -> None:
    announce(line)
    line.socket.sendall(b"Subject: x\r\n\r\nthe first ha")
    line.socket.shutdown(socket.SHUT_WR)
    assert line.answer() == ""
    server.stop()
    assert inbox.mails == []


def test_stopping_takes_no_further_mail(line: Line, server: Server) -> None:
    line.say("LHLO mail")
    server.stop()
    assert line.say("MAIL FROM:<>").startswith("421")


def test_a_socket_that_a_killed_gateway_left_behind_is_replaced(tmp_path: Path) -> None:
    place = parse_address(f"unix:{tmp_path}/lmtp")
    listening(place).close()
    with listening(place):
        assert (tmp_path / "lmtp").stat().st_mode & 0o777 == 0o660
