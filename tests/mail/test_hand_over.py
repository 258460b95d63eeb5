"""Mail is handed over once: whatever is killed, refused or lost on the way."""

from __future__ import annotations

import io
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import pytest
from next_server import NextServer, next_server

from tokensign.errors import DecryptionError, FileError, MalformedError, TokenRemovedError
from tokensign.files import spool
from tokensign.gateway import delivery
from tokensign.gateway.delivery import Copy, Delivery, Refused
from tokensign.gateway.hops import parse_hop
from tokensign.gateway.journal import Claim, Journal, Owner
from tokensign.gateway.next_hop import NextHop
from tokensign.smime.transport.smtp_client import Envelope, Reply

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from conftest import Post

MAIL = b"Subject: x\r\n\r\n.\r\n..text\r\n"
TO_BOB = Envelope("alice@acme.example", ("bob@acme.example",))


class PassOn:
    """Lets mail go on as it is, and counts; or fails."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.seen = 0

    def process(self, envelope: Envelope, content: BinaryIO, mail: str) -> Sequence[Copy]:  # noqa: ARG002
        self.seen += 1
        if self.error is not None:
            raise self.error
        return [Copy(spool(content), envelope.recipients, "passed on")]


@pytest.fixture
def hop() -> Iterator[NextServer]:
    with next_server() as server:
        yield server


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "journal")


@pytest.fixture
def deliver(hop: NextServer, journal: Journal) -> Iterator[Callable[..., dict[str, Reply]]]:
    """Deliver MAIL: `deliver(TO_BOB, processor)`."""
    with NextHop(journal, parse_hop(f"127.0.0.1:{hop.port}")) as onward:

        def make(
            envelope: Envelope = TO_BOB, processor: PassOn | None = None, mail: bytes = MAIL
        ) -> dict[str, Reply]:
            return Delivery(journal, processor or PassOn(), onward)(envelope, io.BytesIO(mail), mail)

        yield make


def test_accepted_when_the_next_hop_has_accepted(
    hop: NextServer, deliver: Callable[..., dict[str, Reply]]
) -> None:
    assert deliver() == {"bob@acme.example": Reply(250, "2.0.0 ok")}
    assert hop.taken == [b"Subject: x\r\n\r\n..\r\n...text\r\n"]  # dots are doubled on the wire


def test_the_same_mail_again_is_accepted_and_not_sent(
    hop: NextServer, deliver: Callable[..., dict[str, Reply]]
) -> None:
    deliver()
    processor = PassOn()
    assert deliver(TO_BOB, processor)["bob@acme.example"].accepted
    assert (processor.seen, len(hop.taken)) == (0, 1)


def test_the_same_content_to_somebody_else_or_from_somebody_else_is_another_mail(
    hop: NextServer, deliver: Callable[..., dict[str, Reply]]
) -> None:
    deliver()
    deliver(Envelope("alice@acme.example", ("carol@acme.example",)))
    deliver(Envelope("carol@acme.example", ("bob@acme.example",)))
    assert len(hop.taken) == 3


@pytest.mark.parametrize("answer", ["451 4.3.0 later", "554 5.6.0 never"])
def test_what_the_next_hop_says_to_the_content_is_passed_on_and_forgotten(
    hop: NextServer, deliver: Callable[..., dict[str, Reply]], answer: str
) -> None:
    hop.answer = answer
    assert str(deliver()["bob@acme.example"]) == answer
    hop.answer = "250 ok"
    assert deliver()["bob@acme.example"].accepted
    assert len(hop.taken) == 1


def test_a_recipient_whom_the_next_hop_refuses_does_not_hold_up_the_others(
    hop: NextServer, deliver: Callable[..., dict[str, Reply]]
) -> None:
    hop.refused = {"nobody@": "550 5.1.1 no such person"}
    replies = deliver(Envelope("alice@acme.example", ("nobody@acme.example", "bob@acme.example")))
    assert str(replies["nobody@acme.example"]) == "550 5.1.1 no such person"
    assert replies["bob@acme.example"].accepted
    assert len(hop.taken) == 1


def test_a_next_hop_that_speaks_lmtp_answers_for_each_recipient(post: Post, journal: Journal) -> None:
    both = Envelope("alice@acme.example", ("bob@acme.example", "carol@acme.example"))
    with NextHop(journal, parse_hop(f"lmtp:127.0.0.1:{post.office.dovecot.lmtp}")) as onward:
        replies = Delivery(journal, PassOn(), onward)(both, io.BytesIO(MAIL), MAIL)
    assert "<bob@acme.example>" in replies["bob@acme.example"].text
    assert "<carol@acme.example>" in replies["carol@acme.example"].text
    for address in both.recipients:
        (mail,) = post.wait_for(address, 1)
        assert mail.read_bytes().endswith(b"\n\n.\n..text\n")


def test_a_next_hop_that_is_not_there_is_temporary(journal: Journal) -> None:
    with NextHop(journal, parse_hop("127.0.0.1:1")) as onward:
        delivery = Delivery(journal, PassOn(), onward)
        assert delivery(TO_BOB, io.BytesIO(MAIL), MAIL)["bob@acme.example"].temporary


@pytest.mark.parametrize(
    "error",
    [TokenRemovedError("gone"), DecryptionError("no"), MalformedError("broken"), ValueError("a bug")],
    ids=lambda error: type(error).__name__,
)
def test_whatever_fails_in_the_gateway_the_mail_server_keeps_the_mail(
    hop: NextServer, deliver: Callable[..., dict[str, Reply]], error: Exception
) -> None:
    assert deliver(TO_BOB, PassOn(error))["bob@acme.example"].temporary
    assert hop.taken == []
    assert deliver()["bob@acme.example"].accepted  # and it goes when nothing fails


def test_a_refusal_by_policy_is_final_and_goes_to_those_it_is_about(
    hop: NextServer, deliver: Callable[..., dict[str, Reply]]
) -> None:
    class NotToCarol(PassOn):
        def process(self, envelope: Envelope, content: BinaryIO, mail: str) -> Sequence[Copy]:
            if "carol@acme.example" in envelope.recipients:
                raise Refused("not to Carol", ["carol@acme.example"])
            return super().process(envelope, content, mail)

    both = Envelope("alice@acme.example", ("carol@acme.example", "bob@acme.example"))
    replies = deliver(both, NotToCarol())
    assert str(replies["carol@acme.example"]) == "550 5.7.1 not to Carol"
    assert replies["bob@acme.example"].accepted
    assert [command for command in hop.commands if command.startswith("RCPT")] == [
        "RCPT TO:<bob@acme.example>"
    ]


def test_a_gateway_killed_between_content_and_answer_sends_nothing_twice(
    hop: NextServer, journal: Journal
) -> None:
    hop.may_answer.clear()
    with subprocess.Popen([sys.executable, __file__, journal.folder, str(hop.port)]) as first:
        assert hop.has_content.wait(20)
        first.kill()
    with NextHop(journal, parse_hop(f"127.0.0.1:{hop.port}")) as onward:  # the second one
        again: dict[str, Reply] = {}

        def come_again() -> None:
            again.update(Delivery(journal, PassOn(), onward)(TO_BOB, io.BytesIO(MAIL), MAIL))

        thread = threading.Thread(target=come_again)
        thread.start()
        time.sleep(0.3)
        assert not again  # it waits for the one that is under way
        hop.may_answer.set()
        thread.join(20)
    assert again["bob@acme.example"] == Reply(250, "2.0.0 accepted before")
    assert len(hop.taken) == 1


def test_a_mail_whose_answer_was_lost_is_sent_again_because_twice_is_better_than_never(
    hop: NextServer, deliver: Callable[..., dict[str, Reply]], caplog: pytest.LogCaptureFixture
) -> None:
    hop.hang_up = True
    assert deliver()["bob@acme.example"].temporary
    hop.hang_up = False
    assert deliver()["bob@acme.example"].accepted
    assert "may arrive twice" in caplog.text


def test_a_mail_in_doubt_is_not_stuck_when_the_gateway_fails_then(
    hop: NextServer, deliver: Callable[..., dict[str, Reply]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "BUSY_PATIENCE", 0.2)
    hop.hang_up = True
    assert deliver()["bob@acme.example"].temporary
    hop.hang_up = False
    assert deliver(TO_BOB, PassOn(TokenRemovedError("gone")))["bob@acme.example"].temporary
    assert deliver()["bob@acme.example"].accepted


def test_what_lmtp_has_answered_counts_when_the_connection_is_lost_then(
    hop: NextServer, journal: Journal
) -> None:
    both = Envelope("alice@acme.example", ("bob@acme.example", "carol@acme.example"))
    hop.hang_up_after = True
    with NextHop(journal, parse_hop(f"lmtp:127.0.0.1:{hop.port}")) as onward:
        deliver = Delivery(journal, PassOn(), onward)
        replies = deliver(both, io.BytesIO(MAIL), MAIL)
        assert replies["bob@acme.example"].accepted
        assert replies["carol@acme.example"].temporary
        assert all(reply.accepted for reply in deliver(both, io.BytesIO(MAIL), MAIL).values())
    named = [command for command in hop.commands if command.startswith("RCPT")]
    assert named.count("RCPT TO:<bob@acme.example>") == 1
    assert named.count("RCPT TO:<carol@acme.example>") == 2


def test_long_answers_to_many_recipients_come_through(
    hop: NextServer, deliver: Callable[..., dict[str, Reply]]
) -> None:
    long = f"{'x' * 240}é@{'y' * 70}.example"
    many = Envelope("alice@acme.example", tuple(f"{number}{long}" for number in range(100)))
    hop.answer = "550 " + '5.0.0 "' * 1000
    replies: dict[str, Reply] = {}
    thread = threading.Thread(target=lambda: replies.update(deliver(many)), daemon=True)
    thread.start()
    thread.join(20)
    assert {reply.code for reply in replies.values()} == {550}
    assert len(replies) == 100


def test_a_next_hop_that_is_not_ready_bounces_nothing(
    hop: NextServer, deliver: Callable[..., dict[str, Reply]]
) -> None:
    hop.not_ready = "421 4.3.2 not now"
    assert deliver(mail="Subject: x\r\n\r\nZürich\r\n".encode())["bob@acme.example"].temporary


def test_a_header_in_8_bit_goes_on_as_it_was_announced(
    hop: NextServer, deliver: Callable[..., dict[str, Reply]]
) -> None:
    mail = "Subject: Zürich\r\n\r\n".encode()
    announced = Envelope("alice@acme.example", ("carol@acme.example",), smtputf8=True)
    assert deliver(announced, mail=mail)["carol@acme.example"].accepted
    hop.extensions = ("8BITMIME",)  # as Dovecot
    assert deliver(mail=mail)["bob@acme.example"].accepted
    assert [command for command in hop.commands if command.startswith("MAIL")] == [
        f"MAIL FROM:<alice@acme.example> SIZE={len(mail)} BODY=8BITMIME SMTPUTF8",
        "MAIL FROM:<alice@acme.example> BODY=8BITMIME",
    ]


def test_copies_are_closed_one_by_one() -> None:
    class Copies(PassOn):
        def process(self, envelope: Envelope, content: BinaryIO, mail: str) -> Sequence[Copy]:  # noqa: ARG002
            self.copies = [Copy(spool(content), (to,), "passed on") for to in envelope.recipients]
            return self.copies

    processor = Copies()
    open_then = []

    class Onward:
        owner = "owner"

        def hand_over(self, _envelope: object, keys: Mapping[str, str], *_: object) -> dict[str, Reply]:
            open_then.append(sum(not copy.content.closed for copy in processor.copies))
            return dict.fromkeys(keys, Reply(250, "ok"))

    class Free:
        def mail(self, *_: object) -> str:
            return "00"

        def key(self, _: str, recipient: str) -> str:
            return recipient

        def claim(self, keys: Iterable[str], _: str) -> dict[str, Claim]:
            return dict.fromkeys(keys, Claim.NEW)

    both = Envelope("alice@acme.example", ("bob@acme.example", "carol@acme.example"))
    deliver = Delivery(Free(), processor, Onward())  # type: ignore[arg-type]
    assert all(reply.accepted for reply in deliver(both, io.BytesIO(MAIL), MAIL).values())
    assert open_then == [2, 1]


def test_a_hand_over_that_comes_too_late_leaves_the_claims_of_others(journal: Journal) -> None:
    other = Owner(journal.folder)
    journal.claim(["k"], other.name)
    with NextHop(journal, parse_hop("127.0.0.1:1")) as onward:
        late = onward.hand_over(TO_BOB, {"bob@acme.example": "k"}, io.BytesIO(MAIL), "dead")
    assert late["bob@acme.example"].temporary
    assert journal.claim(["k"], "third") == {"k": Claim.BUSY}
    other.close()


def test_a_hand_over_process_that_is_killed_is_started_anew(
    hop: NextServer, journal: Journal, caplog: pytest.LogCaptureFixture
) -> None:
    hop.may_answer.clear()
    with NextHop(journal, parse_hop(f"127.0.0.1:{hop.port}")) as onward:
        delivery = Delivery(journal, PassOn(), onward)
        replies: dict[str, Reply] = {}
        thread = threading.Thread(target=lambda: replies.update(delivery(TO_BOB, io.BytesIO(MAIL), MAIL)))
        thread.start()
        assert hop.has_content.wait(20)
        assert onward._worker is not None  # noqa: SLF001 - nothing else knows the process
        onward._worker._process.kill()  # noqa: SLF001
        thread.join(20)
        assert replies["bob@acme.example"].temporary
        hop.may_answer.set()
        assert delivery(TO_BOB, io.BytesIO(MAIL), MAIL)["bob@acme.example"].accepted
    assert "may arrive twice" in caplog.text  # nobody knows what the next hop did with the first one


def test_a_claim_is_void_when_its_owner_is_dead(journal: Journal) -> None:
    owner = Owner(journal.folder)
    assert journal.claim(["k"], owner.name) == {"k": Claim.NEW}
    assert journal.claim(["k"], "other") == {"k": Claim.BUSY}
    owner.close()
    assert journal.claim(["k"], "other") == {"k": Claim.NEW}


def test_what_a_dead_owner_was_about_to_end_is_in_doubt(journal: Journal) -> None:
    owner = Owner(journal.folder)
    journal.claim(["k"], owner.name)
    journal.closing(["k"], owner.name)
    owner.close()
    assert journal.claim(["k"], "other") == {"k": Claim.DOUBTFUL}


def test_the_journal_tells_nothing_of_the_mail(journal: Journal, tmp_path: Path) -> None:
    other = Journal(tmp_path / "other")
    digest = b"\1" * 32
    assert journal.mail("alice@acme.example", digest) == journal.mail("alice@acme.example", digest)
    assert journal.mail("alice@acme.example", digest) != other.mail("alice@acme.example", digest)
    assert (tmp_path / "journal" / "secret").stat().st_mode & 0o777 == 0o600


def test_a_secret_that_a_crash_of_the_machine_cut_is_not_used(journal: Journal) -> None:
    (journal.folder / "secret").write_bytes(b"")
    with pytest.raises(FileError, match="damaged"):
        Journal(journal.folder)


def test_the_journal_forgets_after_a_month(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    journal.accepted(["k"])
    Owner(journal.folder).close()
    assert list(journal.folder.glob("*.lock")) != []
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 31 * 24 * 3600)
    journal.sweep()
    assert journal.claim(["k"], "other") == {"k": Claim.NEW}
    assert list(journal.folder.glob("*.lock")) == []


if __name__ == "__main__":  # a gateway that is going to be killed
    own_journal = Journal(Path(sys.argv[1]))
    own_onward = NextHop(own_journal, parse_hop(f"127.0.0.1:{sys.argv[2]}"))
    Delivery(own_journal, PassOn(), own_onward)(TO_BOB, io.BytesIO(MAIL), MAIL)
