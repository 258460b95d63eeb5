"""Real mail servers on loopback: Postfix and Dovecot, each with files of its own that go away."""

from __future__ import annotations

import contextlib
import grp
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

if TYPE_CHECKING:
    from collections.abc import Iterator

PASSWORD = "correct-horse"
PATIENCE = 60.0  # seconds until a server must listen, or be gone

_DAEMONS = Path("/usr/lib/postfix/sbin")
_SERVICES = """\
pickup    unix  n - n 60 1 pickup
cleanup   unix  n - n - 0 cleanup
qmgr      unix  n - n 300 1 qmgr
tlsmgr    unix  - - n 1000? 1 tlsmgr
rewrite   unix  - - n - - trivial-rewrite
bounce    unix  - - n - 0 bounce
defer     unix  - - n - 0 bounce
trace     unix  - - n - 0 bounce
verify    unix  - - n - 1 verify
flush     unix  n - n 1000? 0 flush
proxymap  unix  - - n - - proxymap
proxywrite unix - - n - 1 proxymap
smtp      unix  - - n - - smtp
relay     unix  - - n - - smtp
showq     unix  n - n - - showq
error     unix  - - n - - error
retry     unix  - - n - - error
discard   unix  - - n - - discard
lmtp      unix  - - n - - lmtp
anvil     unix  - - n - 1 anvil
scache    unix  - - n - 1 scache
postlog   unix-dgram n - n - 1 postlogd
"""
_SIEVE = """
protocol lmtp {{
  mail_plugins = sieve
}}
plugin {{
  sieve_before = {script}
}}
"""
_ONCE = """\
require ["duplicate", "envelope"];
if envelope :is "to" "once@acme.example" {
  if duplicate :header "Tokensign-Delivery" { discard; stop; }
}
"""
_FOLDERS = (
    "active", "bounce", "corrupt", "defer", "deferred", "flush", "hold", "incoming", "private", "saved",
    "trace",
)  # fmt: skip


def need_servers(*names: str) -> None:
    """Skip where a server is not installed, or cannot be started for want of root."""
    places = {"postfix": "/usr/sbin/postfix", "dovecot": "/usr/sbin/dovecot"}
    for name in names:
        if not Path(places[name]).exists():
            pytest.skip(f"{name} is not installed")
    if os.geteuid() != 0:
        pytest.skip(f"{' and '.join(names)} can be started by root only")


def has_sieve() -> bool:
    """Whether Dovecot filters with Sieve here."""
    return Path("/usr/lib/dovecot/modules/lib90_sieve_plugin.so").exists()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


@contextlib.contextmanager
def open_folder() -> Iterator[Path]:
    """A folder that the servers' users can walk into, as those of pytest are not."""
    folder = Path(tempfile.mkdtemp(prefix="mail-"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@dataclass(frozen=True)
class Tls:
    """A certificate for localhost, and not for its address, and the CA that issued it."""

    ca: Path
    certificate: Path
    key: Path

    @classmethod
    def make(cls, folder: Path) -> Tls:
        now = datetime.now(UTC)
        ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
        ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Mail CA")])

        def built(name: x509.Name, public: ec.EllipticCurvePublicKey, *, ca: bool) -> bytes:
            identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key())
            builder = (
                x509.CertificateBuilder()
                .subject_name(name)
                .issuer_name(ca_name)
                .public_key(public)
                .serial_number(x509.random_serial_number())
                .not_valid_before(now - timedelta(days=1))
                .not_valid_after(now + timedelta(days=1))
                .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
                .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
                .add_extension(identifier, critical=False)
            )
            if not ca:
                names = x509.SubjectAlternativeName([x509.DNSName("localhost")])
                builder = builder.add_extension(names, critical=False)
            return builder.sign(ca_key, hashes.SHA256()).public_bytes(Encoding.PEM)

        made = cls(folder / "mail-ca.pem", folder / "server.pem", folder / "server.key")
        made.ca.write_bytes(built(ca_name, ca_key.public_key(), ca=True))
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
        made.certificate.write_bytes(built(name, key.public_key(), ca=False))
        made.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return made


@dataclass(frozen=True)
class Dovecot:
    """A Dovecot that takes mail for every address of every domain, each with PASSWORD.

    Where it has Sieve, once@acme.example drops what was delivered before, as the manual has it.

    Attributes:
        folder: Its files.
        imaps: The port for mail programs.
        lmtp: The port for mail servers.
        auth: The socket for Postfix's logins.
    """

    folder: Path
    imaps: int = field(default_factory=free_port)
    lmtp: int = field(default_factory=free_port)

    @property
    def auth(self) -> Path:
        return self.folder / "auth"

    def mails(self, address: str) -> list[Path]:
        """The mails of an address, from its maildir."""
        return sorted((self.folder / "mail" / address / "Maildir").glob("new/*")) + sorted(
            (self.folder / "mail" / address / "Maildir").glob("cur/*")
        )

    @contextlib.contextmanager
    def running(self, tls: Tls) -> Iterator[Dovecot]:
        mail = self.folder / "mail"
        mail.mkdir(parents=True)
        self.folder.chmod(0o755)
        shutil.chown(mail, "mail", "mail")
        (self.folder / "dovecot.conf").write_text(f"""
base_dir = {self.folder}/run
state_dir = {self.folder}/state
log_path = {self.folder}/log
listen = 127.0.0.1
protocols = imap lmtp
ssl = required
ssl_cert = <{tls.certificate}
ssl_key = <{tls.key}
first_valid_uid = 1
mail_location = maildir:~/Maildir
mailbox_list_index = no
auth_failure_delay = 0 secs
service anvil {{
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
passdb {{
  driver = static
  args = password={PASSWORD}
}}
userdb {{
  driver = static
  args = uid=mail gid=mail home={mail}/%u allow_all_users=yes
}}
service imap-login {{
  inet_listener imap {{
    port = 0
  }}
  inet_listener imaps {{
    port = {self.imaps}
    ssl = yes
  }}
}}
service lmtp {{
  inet_listener lmtp {{
    port = {self.lmtp}
  }}
}}
service auth {{
  unix_listener {self.auth} {{
    mode = 0666
  }}
}}
{_SIEVE.format(script=self.folder / "before.sieve") if has_sieve() else ""}
""")
        (self.folder / "before.sieve").write_text(_ONCE)
        command = ["/usr/sbin/dovecot", "-F", "-c", str(self.folder / "dovecot.conf")]
        with _process(command, self.imaps, self.lmtp, log=self.folder / "log"):
            yield self


@dataclass(frozen=True)
class Postfix:
    """A Postfix with folders of its own.

    Attributes:
        folder: Its files.
        main: What stands in its main.cf besides what all have.
        services: Its ports: the port, and the options of its smtpd.
    """

    folder: Path
    main: dict[str, str]
    services: dict[int, dict[str, str]]

    def queued(self) -> str:
        """What is in the queue, as postqueue tells it."""
        command = ["/usr/sbin/postqueue", "-c", str(self.folder / "conf"), "-p"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    def is_idle(self) -> bool:
        places = (self.folder / "queue" / name for name in ("incoming", "active", "deferred", "maildrop"))
        return not any(file.is_file() for place in places for file in place.rglob("*"))

    def flush(self) -> None:
        subprocess.run(["/usr/sbin/postqueue", "-c", str(self.folder / "conf"), "-f"], check=True)

    @contextlib.contextmanager
    def running(self) -> Iterator[Postfix]:
        conf, queue, data = (self.folder / name for name in ("conf", "queue", "data"))
        for place in (conf, queue, data):
            place.mkdir(parents=True)
        self.folder.chmod(0o755)
        shutil.chown(data, "postfix")
        _make_queue(queue)
        settings = {
            "compatibility_level": "3.6",
            "queue_directory": str(queue),
            "data_directory": str(data),
            "command_directory": "/usr/sbin",
            "daemon_directory": str(_DAEMONS),
            "maillog_file": str(self.folder / "log"),
            "maillog_file_prefixes": str(self.folder),
            "mail_owner": "postfix",
            "setgid_group": "postdrop",
            "inet_interfaces": "127.0.0.1",
            "inet_protocols": "ipv4",
            "myhostname": "mail.acme.example",
            "mydestination": "",
            "mynetworks": "127.0.0.0/8",
            "alias_maps": "",
            "alias_database": "",
            "append_dot_mydomain": "no",
            "smtpd_relay_restrictions": "permit_mynetworks, reject",
            "queue_run_delay": "1s",
            "minimal_backoff_time": "1s",
            "maximal_backoff_time": "2s",
            "transport_retry_time": "1s",
            "smtp_tls_security_level": "none",
            "smtpd_error_sleep_time": "0",
            **self.main,
        }
        (conf / "main.cf").write_text("".join(f"{name} = {value}\n" for name, value in settings.items()))
        ports = "".join(
            f"127.0.0.1:{port} inet n - n - - smtpd\n"
            + "".join(f"  -o {{ {name} = {value} }}\n" for name, value in options.items())
            for port, options in self.services.items()
        )
        (conf / "master.cf").write_text(_SERVICES + ports)
        command = ["/usr/sbin/postfix", "-c", str(conf), "start-fg"]
        with _process(command, *self.services, log=self.folder / "log"):
            try:
                yield self
            finally:  # what was started is a script that waits for its child
                os.kill(int((queue / "pid" / "master.pid").read_text()), signal.SIGTERM)


def _make_queue(queue: Path) -> None:
    postdrop = grp.getgrnam("postdrop").gr_gid
    for name in _FOLDERS:
        (queue / name).mkdir(mode=0o700)
        shutil.chown(queue / name, "postfix")
    for name, mode in (("public", 0o2710), ("maildrop", 0o1730)):
        (queue / name).mkdir()
        shutil.chown(queue / name, "postfix", postdrop)
        (queue / name).chmod(mode)
    (queue / "pid").mkdir(mode=0o755)
    (queue / "tokensign").mkdir()  # for the socket of a gateway, as the manual has it
    shutil.chown(queue / "tokensign", "root", "postfix")
    (queue / "tokensign").chmod(0o2750)


@contextlib.contextmanager
def _process(command: list[str], *ports: int, log: Path) -> Iterator[None]:
    """A server in the foreground, until the block ends; ready when its ports are."""
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True
    ) as process:
        try:
            for port in ports:
                wait_for_listener(port, process)
            yield
        except BaseException:
            if log.exists():
                print(log.read_text(errors="replace")[-4000:])  # noqa: T201 - with the failure of the test
            raise
        finally:
            end_process(process)


def end_process(process: subprocess.Popen[bytes]) -> None:
    """Have a process end in good order, or else kill its group."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(0.5)
    process.terminate()
    try:
        process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise


def wait_for_listener(place: int | Path, process: subprocess.Popen[bytes]) -> None:
    """Wait until a process listens at a port or a socket in a folder."""
    end = time.monotonic() + PATIENCE
    while True:
        with contextlib.suppress(ConnectionRefusedError, FileNotFoundError), _connected(place):
            return
        if process.poll() is not None:
            told = process.stderr.read().decode(errors="replace") if process.stderr else ""
            pytest.fail(f"{process.args!r} ended with {process.returncode}: {told}")
        if time.monotonic() > end:
            pytest.fail(f"nothing listens at {place}")
        time.sleep(0.02)


def _connected(place: int | Path) -> socket.socket:
    if isinstance(place, int):
        return socket.create_connection(("127.0.0.1", place), PATIENCE)
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(str(place))
    except OSError:
        connection.close()
        raise
    return connection
