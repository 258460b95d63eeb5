"""`mail send`: with a real Postfix where TLS and logins are at stake."""

from __future__ import annotations

import contextlib
import io
import smtplib
import ssl
from typing import TYPE_CHECKING

import pytest
from next_server import next_server
from servers import PASSWORD

from tokensign.errors import MalformedError, NetworkError, UnsupportedError, UsageError
from tokensign.smime.entity import read_header
from tokensign.smime.transport import submission
from tokensign.smime.transport.servers import SUBMISSION_SCHEMES, Server, parse_server, verified_tls
from tokensign.smime.transport.smtp_client import Envelope, hand_over
from tokensign.smime.transport.submission import envelope_of, send_mail

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import Post

MAIL = b"From: alice@acme.example\r\nTo: bob@acme.example\r\nSubject: x\r\n\r\ntext\r\n"


def to(post: Post, scheme: str, host: str = "localhost", user: str | None = "alice@acme.example") -> Server:
    return Server(scheme, host, post.office.submission if scheme == "smtps" else post.office.starttls, user)


def send(
    post: Post, server: Server, mail: bytes = MAIL, password: str = PASSWORD, **options: object
) -> object:
    tls = verified_tls([post.office.tls.ca])
    return send_mail(io.BytesIO(mail), server, tls, lambda: password, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("scheme", ["smtps", "smtp"])
@pytest.mark.usefixtures("outgoing")
def test_sent_over_tls_after_a_login(post: Post, scheme: str) -> None:
    mail = MAIL.replace(b"alice@", b"office@")
    mail = mail.replace(b"\r\n\r\n", b"\r\nBcc: carol@acme.example,\r\n dave@acme.example\r\n\r\n", 1)
    sent = send(post, to(post, scheme), mail)
    assert sent.accepted == ("bob@acme.example", "carol@acme.example", "dave@acme.example")  # type: ignore[attr-defined]
    for name in ("bob", "carol", "dave"):
        (arrived,) = post.wait_for(f"{name}@acme.example", 1)
        assert b"\nbcc:" not in arrived.read_bytes().lower()


def test_a_server_with_another_ca_or_another_name_gets_nothing(post: Post) -> None:
    with pytest.raises(NetworkError, match="is not the server that it should be"):
        send_mail(io.BytesIO(MAIL), to(post, "smtps"), verified_tls(), lambda: PASSWORD)
    with pytest.raises(NetworkError, match="is not the server that it should be"):
        send(post, to(post, "smtps", host="127.0.0.1"))


def test_a_wrong_password_is_tried_once_and_told_without_it(post: Post) -> None:
    asked = []

    def password() -> str:
        asked.append(1)
        return "wrong-horse"

    with pytest.raises(NetworkError, match=r"refuses the login of alice@acme\.example \(535\)") as caught:
        send_mail(io.BytesIO(MAIL), to(post, "smtps"), verified_tls([post.office.tls.ca]), password)
    assert len(asked) == 1
    assert "wrong-horse" not in str(caught.value)


def test_a_server_that_is_not_there_is_looked_for_first_in_its_name() -> None:
    with pytest.raises(NetworkError) as caught:
        send_mail(io.BytesIO(MAIL), Server("smtps", "127.0.0.1", 1), verified_tls())
    assert caught.value.hint == "see whether its name and port are right, or try it again later"


def test_nothing_is_said_to_a_server_without_starttls() -> None:
    with next_server() as server:
        target = Server("smtp", "127.0.0.1", server.port, "alice")
        with pytest.raises(NetworkError, match="offers no TLS"):
            send_mail(io.BytesIO(MAIL), target, verified_tls(), lambda: PASSWORD)
        assert [command.split()[0].upper() for command in server.commands] == ["EHLO", "QUIT"]


def test_a_server_without_8bitmime_gets_no_8_bit_mail() -> None:
    with next_server() as server:
        server.extensions = ("SIZE 1000",)
        with smtplib.SMTP("127.0.0.1", server.port, "here") as smtp:
            smtp.ehlo()
            envelope = Envelope("alice@acme.example", ("bob@acme.example",))
            with pytest.raises(UnsupportedError, match="8-bit"):
                hand_over(smtp, envelope, io.BytesIO("Subject: x\r\n\r\nZürich\r\n".encode()))
            with pytest.raises(UnsupportedError, match="ASCII"):
                hand_over(smtp, Envelope("zoë@acme.example", ("bob@acme.example",)), io.BytesIO(MAIL))
        assert not any(command.startswith("MAIL") for command in server.commands)


def test_a_header_that_is_not_ascii_is_announced_or_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    @contextlib.contextmanager
    def connected(server: Server, *_: object) -> Iterator[smtplib.SMTP]:
        with smtplib.SMTP(server.host, server.port, "here") as smtp:
            smtp.ehlo()
            yield smtp

    monkeypatch.setattr(submission, "connected", connected)
    mail = MAIL.replace(b"Subject: x", "Subject: ü".encode())
    with next_server() as server:
        target = Server("smtp", "127.0.0.1", server.port)
        send_mail(io.BytesIO(mail), target, verified_tls())
        assert server.commands[1].endswith(" BODY=8BITMIME SMTPUTF8")
        server.extensions = ("8BITMIME",)
        with pytest.raises(UnsupportedError, match="header of the mail is not in ASCII"):
            send_mail(io.BytesIO(mail), target, verified_tls())


def test_international_addresses_are_announced() -> None:
    with next_server() as server:
        with smtplib.SMTP("127.0.0.1", server.port, "here") as smtp:
            smtp.ehlo()
            envelope = Envelope("zoë@acme.example", ("bob@acme.example",))
            assert hand_over(smtp, envelope, io.BytesIO("Subject: ü\n\nZürich".encode()))
        assert "MAIL FROM:<zoë@acme.example> SIZE=22 BODY=8BITMIME SMTPUTF8" in server.commands
        assert server.taken == ["Subject: ü\r\n\r\nZürich\r\n".encode()]


def test_a_line_that_relays_would_break_is_refused_before_the_connection() -> None:
    nowhere = Server("smtps", "127.0.0.1", 1, None)
    with pytest.raises(UsageError, match="a line of 999 bytes"):
        send_mail(io.BytesIO(MAIL + b"x" * 999), nowhere, verified_tls())


def test_a_server_that_is_not_there() -> None:
    with pytest.raises(NetworkError, match="Connection refused"):
        send_mail(io.BytesIO(MAIL), Server("smtps", "127.0.0.1", 1, None), verified_tls())


@pytest.mark.parametrize(
    ("fields", "sender", "recipients"),
    [
        ("From: a@x.example\nTo: b@x.example", "a@x.example", ["b@x.example"]),
        ("From: a@x.example\nSender: s@x.example\nCc: b@x.example", "s@x.example", ["b@x.example"]),
        ('From: "To: c@x.example" <a@x.example>\nTo: b@x.example', "a@x.example", ["b@x.example"]),
        ("From: a@x.example\nTo: Team: b@x.example, c@x.example;", "a@x.example",
         ["b@x.example", "c@x.example"]),
        ("From: a@x.example\nTo: b@x.example\nBcc: b@x.example,\n c@x.example", "a@x.example",
         ["b@x.example", "c@x.example"]),
        ("From: a@bücher.example\nTo: b@x.example", "a@xn--bcher-kva.example", ["b@x.example"]),
        ("From: =?utf-8?q?e=40evil=2Eexample?= <a@x.example>\nTo: b@x.example", "a@x.example",
         ["b@x.example"]),
    ],
)  # fmt: skip
def test_the_envelope_is_what_the_fields_say(fields: str, sender: str, recipients: list[str]) -> None:
    header = read_header(io.BytesIO(f"{fields}\n\n".encode()))
    assert envelope_of(header) == Envelope(sender, tuple(recipients))


@pytest.mark.parametrize(
    "fields",
    [
        "To: b@x.example",
        "From: a@x.example, c@x.example\nTo: b@x.example",
        "From: a@x.example",
        "From: a@x.example\nTo: b",
    ],
)
def test_a_mail_from_nobody_or_for_nobody_is_not_sent(fields: str) -> None:
    with pytest.raises((UsageError, MalformedError)):
        envelope_of(read_header(io.BytesIO(f"{fields}\n\n".encode())))


@pytest.mark.parametrize("address", ["a@b\r\nDATA", "a b@c", "<a@b>", "a@b>", "ab", "@b", "a@"])
def test_an_address_that_would_be_more_than_an_address_is_refused(address: str) -> None:
    with pytest.raises(UsageError, match="is not an e-mail address"):
        envelope_of(read_header(io.BytesIO(MAIL)), recipients=[address])


@pytest.mark.parametrize(
    ("url", "server"),
    [
        ("smtps://h.example", Server("smtps", "h.example", 465, None)),
        ("smtp://a%40b.example@h.example", Server("smtp", "h.example", 587, "a@b.example")),
        ("smtps://a@[::1]:25", Server("smtps", "::1", 25, "a")),
    ],
)
def test_the_url_of_a_server(url: str, server: Server) -> None:
    assert parse_server(url, SUBMISSION_SCHEMES) == server


@pytest.mark.parametrize(
    "url",
    ["http://h.example", "smtps://", "smtps://h:99999", "smtps://h/x", "h.example", "smtps://a:secret@h"],
)
def test_what_is_no_url_of_a_server(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_server(url, SUBMISSION_SCHEMES)
    assert "secret" not in str(caught.value)


def test_tls_below_1_2_is_not_spoken() -> None:
    tls = verified_tls()
    assert tls.minimum_version is ssl.TLSVersion.TLSv1_2
    assert tls.check_hostname
    assert tls.verify_mode is ssl.CERT_REQUIRED
