"""Mail servers, and the gateway between them: Postfix, gateway, Postfix, Dovecot, all on loopback."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parent))

import pytest
from servers import (
    PASSWORD,
    PATIENCE,
    Dovecot,
    Postfix,
    Tls,
    end_process,
    free_port,
    need_servers,
    open_folder,
    wait_for_listener,
)

import tokensign
from tokensign.algorithms import KeyUsage
from tokensign.contacts import ContactStore
from tokensign.pki.ca import issue, root_certificate
from tokensign.token import import_certificate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tokensign.certificates import Certificate
    from tokensign.token import Token, TokenKey

PACKAGE_FOLDER = Path(tokensign.__file__).parents[1]


@dataclass(frozen=True)
class PostOffice:
    """Two Postfixes with room for a gateway between them, and a Dovecot behind.

    Attributes:
        tls: The certificate of all of them.
        dovecot: Where mail ends up.
        submission: The port where people send mail, over TLS from the start.
        starttls: The port where they do so with STARTTLS.
        inward: The port where mail of strangers comes in.
        reinjection: The port that takes mail from the gateway.
        outgoing: The port of the gateway for what people send.
        incoming: The socket of the gateway for what comes in.
    """

    tls: Tls
    dovecot: Dovecot
    submission: int = field(default_factory=free_port)
    starttls: int = field(default_factory=free_port)
    inward: int = field(default_factory=free_port)
    reinjection: int = field(default_factory=free_port)
    outgoing: int = field(default_factory=free_port)

    @property
    def incoming(self) -> Path:
        return self.tls.ca.parent / "first" / "queue" / "tokensign" / "in"

    def first(self, folder: Path) -> Postfix:
        """The Postfix before the gateway: with a port for one direction, and a socket for the other."""
        login = {
            "smtpd_sasl_auth_enable": "yes",
            "smtpd_tls_auth_only": "yes",
            "smtpd_relay_restrictions": "permit_sasl_authenticated, reject",
            "content_filter": f"lmtp:inet:127.0.0.1:{self.outgoing}",
        }
        main = {
            "smtpd_tls_cert_file": str(self.tls.certificate),
            "smtpd_tls_key_file": str(self.tls.key),
            "smtpd_sasl_type": "dovecot",
            "smtpd_sasl_path": str(self.dovecot.auth),
            "smtpd_recipient_restrictions": "reject_unlisted_recipient",
            "smtpd_reject_unlisted_recipient": "no",
            "relayhost": f"[127.0.0.1]:{self.reinjection}",  # for bounces, which no filter sees
        }
        return Postfix(
            folder,
            main,
            {
                self.submission: {"smtpd_tls_wrappermode": "yes", **login},
                self.starttls: {"smtpd_tls_security_level": "encrypt", **login},
                self.inward: {"content_filter": "lmtp:unix:tokensign/in"},
            },
        )

    def second(self, folder: Path) -> Postfix:
        """The Postfix behind the gateway; it knows that nobody is called nobody."""
        (folder.parent / "refused").write_text("nobody@acme.example 550 5.1.1 no such person\n")
        main = {
            "default_transport": f"lmtp:inet:127.0.0.1:{self.dovecot.lmtp}",
            "smtpd_recipient_restrictions": f"check_recipient_access texthash:{folder.parent}/refused",
        }
        return Postfix(folder, main, {self.reinjection: {}})


@dataclass(frozen=True)
class Post:
    """The office, and its servers while they run.

    Attributes:
        office: Where everything listens.
        first: The Postfix before the gateway.
        second: The Postfix behind it.
        logs: What all of them say, with the gateways that were started.
    """

    office: PostOffice
    first: Postfix
    second: Postfix
    logs: list[Path]

    def wait_for(self, address: str, count: int) -> list[Path]:
        """The mails of an address, when there are as many, or the time is over."""
        end = time.monotonic() + PATIENCE
        while len(found := self.office.dovecot.mails(address)) < count:
            if time.monotonic() > end:
                self._tell(f"{address} has {len(found)} mails instead of {count}")
                break
            time.sleep(0.02)
        return found

    def wait_until_idle(self) -> None:
        """Wait until no mail is on its way, or the time is over."""
        end = time.monotonic() + PATIENCE
        while not (self.first.is_idle() and self.second.is_idle()):
            if time.monotonic() > end:
                self._tell("mail is still on its way")
                break
            time.sleep(0.05)

    def _tell(self, reason: str) -> None:
        """Print where mail may be and what the servers said, for the failure that follows."""
        print(f"{reason}\n{self.first.queued()}{self.second.queued()}")  # noqa: T201 - with the failure
        for log in self.logs:
            print(f"{log}:\n{log.read_text(errors='replace')[-4000:]}")  # noqa: T201 - with the failure


@pytest.fixture(scope="session")
def post() -> Iterator[Post]:
    need_servers("postfix", "dovecot")
    with open_folder() as folder, contextlib.ExitStack() as stack:
        tls = Tls.make(folder)
        dovecot = stack.enter_context(Dovecot(folder / "dovecot").running(tls))
        office = PostOffice(tls, dovecot)
        second = stack.enter_context(office.second(folder / "second").running())
        first = stack.enter_context(office.first(folder / "first").running())
        yield Post(office, first, second, [server.folder / "log" for server in (first, second, dovecot)])


@dataclass(frozen=True)
class Organisation:
    """Acme: Alice, who sends, and Bob, whose mail the gateway opens; both have keys on the token "acme".

    Attributes:
        root: The CA.
        alice: Signs as alice@acme.example.
        bob: Decrypts as bob@acme.example.
        for_carol: A certificate for carol@acme.example, who has no key here.
        folder: With ca.pem, contacts.sqlite, which has Bob, and the PIN.
    """

    root: Certificate
    alice: TokenKey
    bob: TokenKey
    for_carol: Certificate
    folder: Path


@pytest.fixture(scope="session")
def acme(
    token: Token,
    token_key: Callable[..., TokenKey],
    user_pin: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Organisation:
    folder = tmp_path_factory.mktemp("acme")
    ca = token_key("ec:p256", name="gateway-ca")
    root = root_certificate(ca, "CN=Acme Root,O=Acme")
    alice = token_key("ec:p256", name="gateway-alice")
    bob = token_key("rsa:2048", KeyUsage.DECRYPT, name="gateway-bob")
    for name, key, usage in (("alice", alice, KeyUsage.SIGN), ("bob", bob, KeyUsage.DECRYPT)):
        address = f"{name}@acme.example"
        certificate = issue(ca, root, key.public_key, f"CN={name.title()},O=Acme", [address], usage=usage)
        import_certificate(token, certificate)
        if name == "bob":
            with ContactStore(folder / "contacts.sqlite") as contacts:
                contacts.add(certificate, address)
    (folder / "ca.pem").write_text(root.pem())
    (folder / "pin").touch(mode=0o600)
    (folder / "pin").write_text(f"{user_pin}\n")
    (folder / "password").touch(mode=0o600)
    (folder / "password").write_text(f"{PASSWORD}\n")
    carol = issue(
        ca,
        root,
        token_key("rsa:2048", KeyUsage.DECRYPT, name="gateway-carol").public_key,
        "CN=Carol,O=Acme",
        ["carol@acme.example"],
        usage=KeyUsage.DECRYPT,
    )
    return Organisation(root, alice, bob, carol, folder)


@dataclass
class Gateway:
    """A gateway in a process of its own.

    Attributes:
        direction: "outgoing" or "incoming".
        config: Its configuration.
        place: Where it listens, a port or a socket.
        log: What it says.
        process: The process, while it runs.
    """

    direction: str
    config: Path
    place: int | Path
    log: Path
    process: subprocess.Popen[bytes] | None = None

    @property
    def runs(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "tokensign",
                    "mail",
                    "gateway",
                    self.direction,
                    "--config",
                    self.config,
                ],
                env=os.environ | {"PYTHONPATH": str(PACKAGE_FOLDER)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            wait_for_listener(self.place, self.process)
        except BaseException:
            print(self.log.read_text())  # noqa: T201 - with the failure of the test
            raise

    def kill(self) -> None:
        """SIGKILL to the process that was started and to what it runs the token in, at once."""
        assert self.process is not None
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(PATIENCE)

    def stop(self) -> int:
        assert self.process is not None
        end_process(self.process)
        return self.process.returncode


_OUTGOING = """
[[gateway.outgoing.senders]]
from = "alice@acme.example"
key = "{alice}"
encrypt = "require"

[[gateway.outgoing.senders]]
from = "office@acme.example"
key = "{alice}"
"""
_INCOMING = """
authserv-id = "mail.acme.example"

[[gateway.incoming.recipients]]
to = "acme.example"
keys = ["{bob}"]
"""


@pytest.fixture(scope="session")
def outgoing_gateway(
    post: Post, acme: Organisation, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    """The gateway for what people send; it may have been killed by a test."""
    rules = _OUTGOING.format(alice=acme.alice.info.label)
    yield from _gateway("outgoing", rules, post, acme, tmp_path_factory.mktemp("outgoing"))


@pytest.fixture
def outgoing(outgoing_gateway: Gateway) -> Gateway:
    """The same, and it runs: Alice's mail is signed and encrypted, the office's signed."""
    if not outgoing_gateway.runs:
        outgoing_gateway.start()
    return outgoing_gateway


@pytest.fixture(scope="session")
def incoming(post: Post, acme: Organisation, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """The gateway for what comes in: with Bob's key it opens the mail of everybody at Acme."""
    rules = _INCOMING.format(bob=acme.bob.info.label)
    yield from _gateway("incoming", rules, post, acme, tmp_path_factory.mktemp("incoming"))


def _gateway(direction: str, rules: str, post: Post, acme: Organisation, folder: Path) -> Iterator[Gateway]:
    place: int | Path = getattr(post.office, direction)
    listen = f"127.0.0.1:{place}" if isinstance(place, int) else f"unix:{place}"
    config = folder / "gateway.toml"
    config.write_text(f"""
token = "acme"
pin-source = "file:{acme.folder / "pin"}"
trust = ["{acme.folder / "ca.pem"}"]
contacts = "{acme.folder / "contacts.sqlite"}"

[gateway]
folder = "{folder / "state"}"

[gateway.{direction}]
listen = "{listen}"
next = "127.0.0.1:{post.office.reinjection}"
{rules}""")
    made = Gateway(direction, config, place, folder / "log")
    post.logs.append(made.log)
    made.start()
    try:
        yield made
    finally:
        if made.runs:
            made.stop()


@pytest.fixture(autouse=True)
def _empty_mailboxes(request: pytest.FixtureRequest) -> None:
    """Each test begins with empty mailboxes and queues."""
    if "post" in request.fixturenames:
        post: Post = request.getfixturevalue("post")
        post.wait_until_idle()
        for place in (post.office.dovecot.folder / "mail").glob("*/Maildir/*/*"):
            if place.is_file() and place.parent.name in ("new", "cur"):
                place.unlink()
