"""Fixtures of all tests: a private SoftHSM for each test process, tokens on it, and the public test data.

No test touches the user's own SoftHSM: SOFTHSM2_CONF is set before the module is loaded, to a folder that
belongs to the process (under pytest-xdist: to the worker).
"""

from __future__ import annotations

import ctypes
import itertools
import os
import signal
import sys
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # test modules are loaded by path, and some share `loopback`

import loopback
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from softhsm_stores import configure_softhsm, key_of_a_type

from tokensign.certificates import Certificate
from tokensign.errors import ModuleError
from tokensign.token import (
    Pin,
    TokenKey,
    find_module,
    initialize_token,
    load_module,
    open_token,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

    from tokensign.token import Module, Token

pytest_plugins = ["databases"]

USER_PIN = "1234-user"
SO_PIN = "5678-officer"


# Shells start what runs in the background with some signals ignored, and nohup does. Every process of a test
# would inherit that; a signal that is handled here has its default there.
for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, lambda *_: None)


os.environ.pop("PYTHONUNBUFFERED", None)  # users have not set it, and what fails to be written differs


@dataclass
class Tally:
    """The cases of a corpus, each counted, each failure and each skip with its reason."""

    corpus: str
    passed: int = 0
    failures: list[str] = field(default_factory=list)
    skips: Counter[str] = field(default_factory=Counter)

    def check(self, case: object, outcome: object, expected: object) -> None:
        """Count one case."""
        if outcome == expected:
            self.passed += 1
        else:
            self.failures.append(f"{case}: {outcome!r} instead of {expected!r}")

    def check_or_differ(
        self, case: object, outcome: object, expected: object, differing: Collection[object]
    ) -> None:
        """Count one case; one of `differing`, which the manual explains, must not be as expected."""
        if case not in differing:
            self.check(case, outcome, expected)
        elif outcome == expected:
            self.failures.append(f"{case}: differs no longer; take it out of docs/deviations.md")
        else:
            self.skip("differ, for the reasons in docs/deviations.md")

    def skip(self, reason: str) -> None:
        """Count one case that is not tried."""
        self.skips[reason] += 1

    def __str__(self) -> str:
        skipped = "".join(f", {count} skipped ({reason})" for reason, count in self.skips.items())
        return f"{self.corpus}: {self.passed} passed, {len(self.failures)} failed{skipped or ', 0 skipped'}"


@pytest.fixture
def website() -> Iterator[loopback.Website]:
    """A web server on the loopback address, whose pages the test writes."""
    with loopback.website() as site:
        yield site


@pytest.fixture
def tally(request: pytest.FixtureRequest, record_property: Callable[[str, object], None]) -> Iterator[Tally]:
    """Counts the cases of the test; the test fails where one did."""
    corpus = request.module.__name__.rpartition(".")[2].removeprefix("test_")
    tally = Tally(f"{corpus}, {request.node.name.removeprefix('test_')}")
    yield tally
    record_property("tally", str(tally))  # printed at the end of the run
    assert not tally.failures, tally.failures[:20]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full", action="store_true", help="also run the long tests: soaks, fuzzing, gigabytes")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--full"):
        for item in items:
            if item.get_closest_marker("full"):
                item.add_marker(pytest.mark.skip(reason="runs long, only with --full"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the counts of the public test data, which the fixture `tally` records."""
    reports = [report for category in terminalreporter.stats.values() for report in category]
    properties = [entry for report in reports for entry in getattr(report, "user_properties", ())]
    tallies = sorted({str(value) for name, value in properties if name == "tally"})
    if tallies:
        terminalreporter.section("cases of the public test data")
        terminalreporter.write_line("\n".join(tallies))


@pytest.fixture(scope="session")
def user_pin() -> str:
    """The user's PIN of every token."""
    return USER_PIN


@pytest.fixture(scope="session")
def so_pin() -> str:
    """The security officer's PIN of every token."""
    return SO_PIN


@pytest.fixture(scope="session", autouse=True)
def softhsm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of this process's SoftHSM: `softhsm2.conf` and `tokens/`. Its environment is inherited."""
    folder = tmp_path_factory.mktemp("softhsm")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOFTHSM2_CONF", str(configure_softhsm(folder)))
        for name in ("TOKENSIGN_MODULE", "TOKENSIGN_TOKEN", "TOKENSIGN_PIN_SOURCE", "TOKENSIGN_CONFIG"):
            patch.delenv(name, raising=False)
        yield folder


@pytest.fixture(scope="session")
def module_path() -> Path:
    """SoftHSM's library."""
    try:
        path = find_module()
    except ModuleError:
        pytest.fail("SoftHSM is not installed: run softhsm/test.sh, or install softhsm2")
    assert "softhsm" in path.name, f"the tests need SoftHSM, and found {path}"
    return path


@pytest.fixture(scope="session")
def module(softhsm: Path, module_path: Path) -> Module:  # noqa: ARG001 - the environment comes first
    """SoftHSM, loaded into this process."""
    return load_module(module_path)


@pytest.fixture(scope="session")
def new_token(module: Module) -> Callable[..., str]:
    """Set up a fresh token with USER_PIN and SO_PIN, and give its label: `new_token()`, `new_token("x")`."""
    numbers = itertools.count(1)

    def make(label: str | None = None) -> str:
        label = label or f"token-{next(numbers)}"
        initialize_token(module, label, Pin(SO_PIN), Pin(USER_PIN))
        return label

    return make


@pytest.fixture(scope="session")
def token(module: Module, new_token: Callable[..., str]) -> Iterator[Token]:
    """The token "acme", open for reading and writing; shared by all tests, so leave no surprises on it."""
    new_token("acme")
    with open_token(module, "acme", Pin(USER_PIN), read_write=True) as opened:
        yield opened


@pytest.fixture(scope="session")
def token_key(token: Token) -> Callable[..., TokenKey]:
    """A key on "acme" of a type and usage, made at its first use: `token_key("rsa:2048", KeyUsage.BOTH)`."""
    return partial(key_of_a_type, token)


@pytest.fixture(scope="session")
def nss_token(tmp_path_factory: pytest.TempPathFactory, user_pin: str) -> Iterator[Token]:
    """A token of NSS that knows ML-KEM and ML-DSA, fresh for this process; skips where it is not at hand."""
    libraries = Path(os.environ.get("NSS_FORKY", Path(__file__).parents[1] / ".forky"))
    found = next(libraries.rglob("libsoftokn3.so"), None)
    if found is None:
        pytest.skip("an NSS with ML-KEM is not at hand: softhsm/forky.sh fetches it")
    database = tmp_path_factory.mktemp("nss")
    with pytest.MonkeyPatch.context() as patch:
        options = "certPrefix='' keyPrefix='' secmod='secmod.db' flags="
        patch.setenv("NSS_LIB_PARAMS", f"configdir='sql:{database}' {options}")
        ctypes.CDLL(str(found.with_name("libnssutil3.so")), ctypes.RTLD_GLOBAL)  # not where the loader looks
        module = load_module(found)
        empty = next(info for info in module.tokens(uninitialized=True) if not info.initialized)
        with module.slot(empty.slot_id).get_token().open(rw=True, so_pin="") as session:
            session.init_pin(user_pin)
        with open_token(module, empty.label, Pin(user_pin), read_write=True) as opened:
            yield opened


@pytest.fixture
def pin_file(tmp_path: Path) -> Path:
    """A file with USER_PIN that only its owner can read, for `--pin-source file:PATH`."""
    path = tmp_path / "pin"
    path.touch(mode=0o600)
    path.write_text(f"{USER_PIN}\n")
    return path


@pytest.fixture(scope="session")
def issue() -> Callable[..., Certificate]:
    """Make a certificate for a public key, signed by a throw-away key: `issue(public_key, "alice")`."""
    authority = ec.generate_private_key(ec.SECP256R1())

    def make(
        public_key: PublicKeyTypes,
        subject: str,
        issuer: str = "Throw-away CA",
        *,
        ca: bool = False,
        days: tuple[int, int] = (-1, 30),
    ) -> Certificate:
        now = datetime.now(UTC).replace(microsecond=0)
        built = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]))
            .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
            .public_key(public_key)  # type: ignore[arg-type]
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + timedelta(days=days[0]))
            .not_valid_after(now + timedelta(days=days[1]))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .sign(authority, hashes.SHA256())
        )
        return Certificate(built.public_bytes(Encoding.DER))

    return make


@pytest.fixture(scope="session")
def corpora() -> Callable[[str], Path]:
    """A file or folder of the public test data: `corpora("wycheproof/x.json")`; skips when it is absent."""
    default = Path(__file__).parents[2] / "shared" / "corpora"
    folder = Path(os.environ.get("TOKENSIGN_CORPORA", default))

    def find(name: str) -> Path:
        path = folder / name
        if not path.exists():
            pytest.skip(f"corpus {name} is not at hand; name its folder with TOKENSIGN_CORPORA")
        return path

    return find
