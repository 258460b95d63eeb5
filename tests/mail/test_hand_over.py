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

from tokensign.errors import DecryptionError, MalformedError, TokenRemovedError
from tokensign.files import spool
from tokensign.gateway.delivery import Copy, Delivery, Refused
from tokensign.gateway.hops import parse_hop
from tokensign.gateway.journal import Claim, Journal, Owner
from tokensign.gateway.next_hop import NextHop
from tokensign.smime.transport.smtp_client import Envelope, Reply

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

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
            delivery = Delivery(journal, processor or PassOn(), onward)
            return delivery(envelope, io.BytesIO(mail), mail)

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


def test_the_journal_forgets_after_a_month(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    journal.accepted(["k"])
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 31 * 24 * 3600)
    journal.sweep()
    assert journal.claim(["k"], "other") == {"k": Claim.NEW}
    assert list(journal.folder.glob("*.lock")) == []


if __name__ == "__main__":  # a gateway that is going to be killed
    own_journal = Journal(Path(sys.argv[1]))
    own_onward = NextHop(own_journal, parse_hop(f"127.0.0.1:{sys.argv[2]}"))
    Delivery(own_journal, PassOn(), own_onward)(TO_BOB, io.BytesIO(MAIL), MAIL)
