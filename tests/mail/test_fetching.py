"""`mail fetch` from a real Dovecot."""

from __future__ import annotations

import imaplib
import smtplib
import ssl
from typing import TYPE_CHECKING

import pytest
from servers import PASSWORD

from tokensign.errors import NetworkError, UsageError
from tokensign.smime.transport import imap
from tokensign.smime.transport.imap import fetch_mails, opened_mailbox
from tokensign.smime.transport.servers import Server, verified_tls

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from conftest import Post

    from tokensign.smime.transport.imap import Mailbox

ADDRESS = "carol@acme.example"


@pytest.fixture
def opened(post: Post) -> Callable[..., AbstractContextManager[Mailbox]]:
    """Open Carol's mailbox: `opened()`, `opened(password=b"x", name="y")`."""

    def make(
        password: bytes = PASSWORD.encode(), name: str = "INBOX", tls: ssl.SSLContext | None = None
    ) -> AbstractContextManager[Mailbox]:
        server = Server("imaps", "localhost", post.office.dovecot.imaps, ADDRESS)
        return opened_mailbox(server, tls or verified_tls([post.office.tls.ca]), lambda: password, name)

    return make


@pytest.fixture
def deliver(post: Post) -> Iterator[Callable[[bytes], None]]:
    """Put a mail into Carol's mailbox."""
    with smtplib.LMTP("127.0.0.1", post.office.dovecot.lmtp, "here") as lmtp:
        yield lambda mail: (lmtp.sendmail("alice@acme.example", [ADDRESS], mail), None)[1]


def test_mails_come_as_they_are_and_only_once(
    opened: Callable[..., AbstractContextManager[Mailbox]], deliver: Callable[[bytes], None], tmp_path: Path
) -> None:
    deliver(b"Subject: ../../etc/passwd\r\n\r\nfirst\r\n")
    deliver("Subject: 2\r\n\r\nZürich\r\n".encode())
    with opened() as mailbox:
        first = list(fetch_mails(mailbox, tmp_path))
    assert [mail.state for mail in first] == ["fetched", "fetched"]
    assert [mail.path.read_bytes().partition(b"\r\n\r\n")[2] for mail in first] == [
        b"first\r\n",
        "Zürich\r\n".encode(),
    ]
    assert all(mail.path.stat().st_mode & 0o777 == 0o600 for mail in first)
    deliver(b"Subject: 3\r\n\r\nthird\r\n")
    with opened() as mailbox:
        again = list(fetch_mails(mailbox, tmp_path))
    assert [mail.state for mail in again] == ["present", "present", "fetched"]
    assert sorted(tmp_path.iterdir()) == sorted(mail.path for mail in again)


def test_fetching_leaves_mail_unseen_and_unseen_leaves_out_what_was_seen(
    post: Post,
    opened: Callable[..., AbstractContextManager[Mailbox]],
    deliver: Callable[[bytes], None],
    tmp_path: Path,
) -> None:
    deliver(b"Subject: 1\r\n\r\nfirst\r\n")
    deliver(b"Subject: 2\r\n\r\nsecond\r\n")
    with opened() as mailbox:
        assert len(list(fetch_mails(mailbox, tmp_path, unseen=True))) == 2
        assert len(mailbox.uids(unseen=True)) == 2
    tls = ssl.create_default_context(cafile=post.office.tls.ca)
    with imaplib.IMAP4_SSL("localhost", post.office.dovecot.imaps, ssl_context=tls) as reader:
        reader.login(ADDRESS, PASSWORD)
        reader.select()
        reader.store("1", "+FLAGS", "\\Seen")
    with opened() as mailbox:
        assert len(list(fetch_mails(mailbox, tmp_path, unseen=True))) == 1


@pytest.mark.parametrize("size", [999, 1000, 1001, 2500])
def test_a_mail_larger_than_a_piece_comes_whole(
    opened: Callable[..., AbstractContextManager[Mailbox]],
    deliver: Callable[[bytes], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    size: int,
) -> None:
    monkeypatch.setattr(imap, "_PIECE", 1000)
    body = b"".join(b"%06d\r\n" % number for number in range(size // 8))
    deliver(b"Subject: x\r\n\r\n" + body)
    with opened() as mailbox:
        (mail,) = fetch_mails(mailbox, tmp_path)
    assert mail.path.read_bytes().partition(b"\r\n\r\n")[2] == body
    assert mail.path.stat().st_size == mail.size


def test_a_mail_beyond_the_limit_stays_there(
    opened: Callable[..., AbstractContextManager[Mailbox]], deliver: Callable[[bytes], None], tmp_path: Path
) -> None:
    deliver(b"Subject: x\r\n\r\n" + b"x\r\n" * 1000)
    with opened() as mailbox:
        (mail,) = fetch_mails(mailbox, tmp_path, limit=1000)
    assert mail.state == "too large"
    assert list(tmp_path.iterdir()) == []


def test_a_mail_that_turns_out_larger_than_said_leaves_no_file(
    opened: Callable[..., AbstractContextManager[Mailbox]],
    deliver: Callable[[bytes], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    deliver(b"Subject: x\r\n\r\n" + b"x\r\n" * 1000)
    monkeypatch.setattr(imap.Mailbox, "size", lambda *_: 10)
    with opened() as mailbox, pytest.raises(NetworkError, match="larger than the server said"):
        list(fetch_mails(mailbox, tmp_path, limit=1000))
    assert list(tmp_path.iterdir()) == []


def test_a_server_with_another_ca_gets_no_password(
    opened: Callable[..., AbstractContextManager[Mailbox]],
) -> None:
    with pytest.raises(NetworkError, match="is not the server that it should be"), opened(tls=verified_tls()):
        pass


def test_a_wrong_password_is_told_without_it(opened: Callable[..., AbstractContextManager[Mailbox]]) -> None:
    with pytest.raises(NetworkError, match="refuses the login") as caught, opened(password=b"wrong-horse"):
        pass
    assert "wrong-horse" not in str(caught.value)


def test_a_mailbox_that_is_not_there_or_no_name(
    opened: Callable[..., AbstractContextManager[Mailbox]],
) -> None:
    with pytest.raises(NetworkError, match="has no mailbox"), opened(name="No such"):
        pass
    with pytest.raises(UsageError, match="not the name"), opened(name="a\r\nb"):
        pass
