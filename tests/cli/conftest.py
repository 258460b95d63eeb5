"""Fixtures of the tests of the command line: real processes, with a folder and a SoftHSM for each test."""

from __future__ import annotations

import glob
import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

import tokensign
from tests.launcher import LaunchedProcess
from tokensign import cli

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

PACKAGE_FOLDER = Path(tokensign.__file__).parents[1]
SPY_PLACES = (
    "/usr/lib/*/pkcs11-spy.so",
    "/usr/lib/*/pkcs11/pkcs11-spy.so",
    "/usr/lib64/pkcs11-spy.so",
    "/usr/lib64/pkcs11/pkcs11-spy.so",
    "/opt/homebrew/lib/pkcs11-spy.so",
    "/usr/local/lib/pkcs11-spy.so",
)
KEY_USAGES = (  # RFC 5280 section 4.2.1.3, in cryptography's names
    "digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
    "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
)  # fmt: skip
KNOWN_EXIT_CODES = {0, 1, 2, 3, 4, 5, 129, 130, 141, 143}


@dataclass(frozen=True)
class Finished:
    """How a command ended."""

    code: int
    output: bytes
    error: str

    @property
    def text(self) -> str:
        return self.output.decode()

    @property
    def json(self) -> Any:  # noqa: ANN401 - a document
        return json.loads(self.output)


@dataclass(frozen=True)
class Terminal:
    """Somebody's shell: a folder, and an environment with a SoftHSM that lives in the folder.

    Whatever runs here is held to what holds for every command: no traceback, no PIN in what it prints, an
    exit code from the documented list, no temporary file left.
    """

    folder: Path
    secrets: Sequence[str]
    environment: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        tokens = self.folder / "tokens"
        tokens.mkdir(exist_ok=True)
        (self.folder / "softhsm2.conf").write_text(
            f"directories.tokendir = {tokens}\nobjectstore.backend = file\nlog.level = ERROR\n"
        )
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("TOKENSIGN_")}
        self.environment.update(
            inherited,
            SOFTHSM2_CONF=str(self.folder / "softhsm2.conf"),
            TOKENSIGN_PIN_SOURCE=f"file:{self.folder / 'pin'}",
            PYTHONPATH=str(PACKAGE_FOLDER),
            HOME=str(self.folder),
            XDG_CONFIG_HOME=str(self.folder / ".config"),
            LC_ALL="C.UTF-8",
            TERM="dumb",
        )

    @staticmethod
    def command(*arguments: str | Path) -> list[str]:
        return [sys.executable, "-m", "tokensign", *map(str, arguments)]

    def run(
        self,
        *arguments: str | Path,
        code: int = 0,
        prefix: Sequence[str] = (),
        environment: dict[str, str | None] | None = None,
        **options: Any,  # noqa: ANN401 - those of subprocess.run
    ) -> Finished:
        """Run tokensign to its end, without a controlling terminal, and see that it ends with `code`."""
        with self.start(*arguments, prefix=prefix, environment=environment, **options) as process:
            return self.finish(process, code)

    def start(
        self,
        *arguments: str | Path,
        prefix: Sequence[str] = (),
        environment: dict[str, str | None] | None = None,
        **options: Any,  # noqa: ANN401 - those of subprocess.Popen
    ) -> subprocess.Popen[bytes]:
        changed = self.environment | (environment or {})
        settings: dict[str, Any] = {
            "stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE,
            "cwd": self.folder, "start_new_session": True,
        }  # fmt: skip
        return LaunchedProcess(
            [*prefix, *self.command(*arguments)],
            env={name: value for name, value in changed.items() if value is not None},
            **(settings | options),
        )

    def finish(self, process: subprocess.Popen[bytes], code: int, given: bytes | None = None) -> Finished:
        """Wait for a process that `start` made."""
        try:
            output, error = process.communicate(given, timeout=60)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        finished = Finished(process.returncode, output or b"", (error or b"").decode())
        assert finished.code == code, f"exit code {finished.code} instead of {code}\n{finished.error}"
        self.hold_to_promises(finished)
        return finished

    def hold_to_promises(self, finished: Finished) -> None:
        assert finished.code in KNOWN_EXIT_CODES
        assert "Traceback" not in finished.error
        for secret in self.secrets:
            assert secret not in finished.error
            assert secret.encode() not in finished.output
        assert self.leftovers() == []

    def certify(
        self,
        authority: Authority,
        name: str,
        subject: str | None = None,
        *,
        kind: str = "ec:p256",
        **details: Any,  # noqa: ANN401 - those of `Authority.issue`
    ) -> None:
        """Generate a key and store a certificate for it."""
        self.run("key", "generate", name, "--type", kind)
        request = self.run("cert", "request", name, "--subject", f"CN={name}").output
        self.write(f"{name}.pem", authority.issue(request, subject or name.capitalize(), **details))
        self.run("cert", "import", f"{name}.pem", "--label", name)

    def leftovers(self) -> list[Path]:
        """Temporary files."""
        return list(self.folder.glob(".*.part"))

    def read(self, name: str) -> bytes:
        return (self.folder / name).read_bytes()

    def write(self, name: str, content: bytes | str) -> Path:
        path = self.folder / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    def exists(self, name: str) -> bool:
        return (self.folder / name).exists()


class Trace:
    """What OpenSC's pkcs11-spy wrote down of the calls of a module.

    Args:
        folder: Where the trace goes.
        spy: The spy's library.
        module: The module that it watches.
    """

    def __init__(self, folder: Path, spy: Path, module: Path) -> None:
        self._file = folder / "trace"
        self.environment: dict[str, str | None] = {
            "TOKENSIGN_MODULE": str(spy),
            "PKCS11SPY": str(module),
            "PKCS11SPY_OUTPUT": str(self._file),
        }

    def all_calls(self) -> list[tuple[str, str]]:
        """Each call's name, and what went in and out."""
        parts = re.split(r"^\d+: (C_\w+)$", self._file.read_text(errors="replace"), flags=re.MULTILINE)
        return list(zip(parts[1::2], parts[2::2], strict=True))

    def calls(self, name: str) -> list[str]:
        """What went in and out of the calls of a function."""
        return [detail for called, detail in self.all_calls() if called == name]


class Authority:
    """A CA in software, which issues certificates for keys on tokens."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Acme CA")])
        usage = {"key_cert_sign": True, "crl_sign": True}
        self.pem = self._issue(self._key.public_key(), self._name, usage, days=(-60, 60), ca=True)

    def issue(
        self,
        request: bytes,
        subject: str,
        *,
        email: str | None = None,
        days: tuple[int, int] = (-30, 30),
        usages: Sequence[str] = ("digital_signature", "key_encipherment"),
        crl: str | None = None,
    ) -> bytes:
        """A certificate for the key of a request, PEM; `days` are counted from today, `crl` is a URL."""
        public_key = x509.load_pem_x509_csr(request).public_key()
        return self.issue_for(public_key, subject, email=email, days=days, usages=usages, crl=crl)

    def issue_for(
        self,
        public_key: Any,  # noqa: ANN401 - any that certificates are made for
        subject: str,
        *,
        email: str | None = None,
        days: tuple[int, int] = (-30, 30),
        usages: Sequence[str],
        crl: str | None = None,
    ) -> bytes:
        """A certificate for a key that cannot sign a request, PEM."""
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject, _validate=False)])
        names = [x509.SubjectAlternativeName([x509.RFC822Name(email)])] if email else []
        if crl is not None:
            point = x509.DistributionPoint([x509.UniformResourceIdentifier(crl)], None, None, None)
            names.append(x509.CRLDistributionPoints([point]))
        purposes = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION])
        return self._issue(public_key, name, dict.fromkeys(usages, True), days, purposes, *names)

    def revocation_list(self, *revoked: bytes) -> bytes:
        """A CRL that revokes some certificates, PEM."""
        now = datetime.now(UTC).replace(microsecond=0)
        builder = x509.CertificateRevocationListBuilder(
            self._name, last_update=now - timedelta(days=1), next_update=now + timedelta(days=1)
        ).add_extension(x509.CRLNumber(1), critical=False)
        for certificate in revoked:
            serial = x509.load_pem_x509_certificate(certificate).serial_number
            entry = x509.RevokedCertificateBuilder(serial, now - timedelta(hours=1)).build()
            builder = builder.add_revoked_certificate(entry)
        return builder.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM)

    def status(self, certificate: bytes, *, good: bool) -> bytes:
        """An OCSP response, DER."""
        now = datetime.now(UTC).replace(microsecond=0)
        issuer = x509.load_pem_x509_certificate(self.pem)
        builder = ocsp.OCSPResponseBuilder().add_response(
            cert=x509.load_pem_x509_certificate(certificate),
            issuer=issuer,
            algorithm=hashes.SHA1(),  # noqa: S303 - of a name, as every responder does
            cert_status=ocsp.OCSPCertStatus.GOOD if good else ocsp.OCSPCertStatus.REVOKED,
            this_update=now - timedelta(hours=1),
            next_update=now + timedelta(days=1),
            revocation_time=None if good else now - timedelta(hours=1),
            revocation_reason=None,
        )
        builder = builder.responder_id(ocsp.OCSPResponderEncoding.HASH, issuer)
        return builder.sign(self._key, hashes.SHA256()).public_bytes(Encoding.DER)

    def _issue(
        self,
        public_key: Any,  # noqa: ANN401 - any that certificates are made for
        subject: x509.Name,
        usage: dict[str, bool],
        days: tuple[int, int],
        *extensions: x509.ExtensionType,
        ca: bool = False,
    ) -> bytes:
        now = datetime.now(UTC).replace(microsecond=0)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + timedelta(days=days[0]))
            .not_valid_after(now + timedelta(days=days[1]))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(x509.KeyUsage(**dict.fromkeys(KEY_USAGES, False) | usage), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False
            )
        )
        for extension in extensions:
            builder = builder.add_extension(extension, critical=False)
        return builder.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM)


@pytest.fixture(scope="session")
def authority() -> Authority:
    """The CA "Acme CA"; its certificate is in `ca.pem` of the terminals."""
    return Authority()


@pytest.fixture(scope="session")
def new_terminal(user_pin: str, so_pin: str) -> Callable[[Path], Terminal]:
    """Open a terminal in a folder, with the files `pin` and `so-pin` and no token."""

    def make(folder: Path) -> Terminal:
        for name, value in (("pin", user_pin), ("so-pin", so_pin)):
            (folder / name).touch(mode=0o600)
            (folder / name).write_text(f"{value}\n")
        return Terminal(folder, (user_pin, so_pin))

    return make


@pytest.fixture(scope="session")
def furnished(
    new_terminal: Callable[[Path], Terminal], authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A folder to be copied: the token "acme" with Alice's, Bob's and Carol's keys and certificates."""
    terminal = new_terminal(tmp_path_factory.mktemp("furnished"))
    terminal.run("token", "init", "acme", "--so-pin-source", "file:so-pin")
    for name, kind in (("alice", "rsa:2048"), ("bob", "rsa:2048"), ("carol", "ec:p256")):
        terminal.run("key", "generate", name, "--type", kind)
        request = terminal.run("cert", "request", name, "--subject", f"CN={name.capitalize()}").output
        usages = (
            ("digital_signature",) if kind.startswith("ec") else ("digital_signature", "key_encipherment")
        )
        email = f"{name}@acme.example"
        terminal.write(f"{name}.pem", authority.issue(request, name.capitalize(), email=email, usages=usages))
        terminal.run("cert", "import", f"{name}.pem")
    alice = terminal.read("alice.pem")
    terminal.write("ca.pem", authority.pem)
    terminal.write("none-revoked.crl", authority.revocation_list())
    terminal.write("alice-revoked.crl", authority.revocation_list(alice))
    terminal.write("alice-good.ocsp", authority.status(alice, good=True))
    terminal.write("alice-revoked.ocsp", authority.status(alice, good=False))
    terminal.write("letter.txt", "Dear Bob,\n\nthe figures are good.\n")
    terminal.run("sign", "letter.txt", "--key", "alice", "--attached", "-o", "signed.p7m")
    terminal.run("encrypt", "letter.txt", "--to", "bob.pem", "-o", "secret.p7m")
    return terminal.folder


@pytest.fixture
def bare_terminal(new_terminal: Callable[[Path], Terminal], tmp_path: Path) -> Terminal:
    """A terminal in an empty folder, with a SoftHSM that has no token yet."""
    return new_terminal(tmp_path)


@pytest.fixture
def terminal(new_terminal: Callable[[Path], Terminal], furnished: Path, tmp_path: Path) -> Terminal:
    """A terminal with a token of its own, on which Alice, Bob (RSA) and Carol (EC) have keys.

    In its folder are `letter.txt`, signed by Alice as `signed.p7m` and encrypted to Bob as `secret.p7m`,
    `alice.pem`, `bob.pem`, `carol.pem`, `ca.pem`, and what their CA says of revocation: `none-revoked.crl`,
    `alice-revoked.crl`, `alice-good.ocsp`, `alice-revoked.ocsp`.
    """
    shutil.copytree(furnished, tmp_path, dirs_exist_ok=True)
    return new_terminal(tmp_path)


@pytest.fixture
def certify(terminal: Terminal, authority: Authority) -> Callable[..., None]:
    """Generate a key and store a certificate for it: `certify("dave", days=(-20, -10))`."""

    return partial(terminal.certify, authority)


@pytest.fixture(scope="session")
def spy(module_path: Path) -> Callable[[Terminal], Trace]:
    """Watch what tokensign calls: `spy(terminal)` gives the environment to run it in, and then the calls."""
    places = [Path(place) for pattern in SPY_PLACES for place in glob.glob(pattern)]  # noqa: PTH207 - absolute
    if not places:
        pytest.skip("pkcs11-spy is not installed; it comes with OpenSC")
    return lambda terminal: Trace(terminal.folder, places[0], module_path)


@pytest.fixture
def main_here(capsys: pytest.CaptureFixture[str]) -> Iterator[Callable[..., tuple[str, str]]]:
    """Run a command line in this process: `main_here("mail", "open", ..., code=1)` gives what it prints.

    What `main` does to a process is taken back in the end: it handles signals, and commands log.
    """

    def run(*arguments: str, code: int = 0) -> tuple[str, str]:
        with pytest.raises(SystemExit) as ended:
            cli.main(arguments)
        shown = capsys.readouterr()
        assert ended.value.code == code, shown.err
        return shown.out, shown.err

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.getsignal(number) for number in numbers}
    yield run
    for number, handler in before.items():
        signal.signal(number, handler)
    logger = logging.getLogger("tokensign")
    logger.handlers.clear()
    logger.setLevel(logging.NOTSET)


@pytest.fixture
def desk_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder in which this process works, without the user's own configuration."""
    folder = tmp_path / "desk"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    return folder
