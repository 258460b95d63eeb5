"""Fixtures of all tests: a private SoftHSM for each test process, tokens on it, and the public test data.

No test touches the user's own SoftHSM: SOFTHSM2_CONF is set before the module is loaded, to a folder that
belongs to the process (under pytest-xdist: to the worker).
"""

from __future__ import annotations

import itertools
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from tokensign.algorithms import KeySpec, KeyUsage
from tokensign.certificates import Certificate
from tokensign.errors import KeyNotFoundError, ModuleError
from tokensign.token import (
    Pin,
    TokenKey,
    find_module,
    generate_key,
    initialize_token,
    load_module,
    open_key,
    open_token,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

    from tokensign.token import Module, Token

USER_PIN = "1234-user"
SO_PIN = "5678-officer"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full", action="store_true", help="also run the long tests: soaks, fuzzing, gigabytes")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--full"):
        for item in items:
            if item.get_closest_marker("full"):
                item.add_marker(pytest.mark.skip(reason="runs long, only with --full"))


@pytest.fixture(scope="session")
def user_pin() -> str:
    """The user's PIN of every token."""
    return USER_PIN


@pytest.fixture(scope="session")
def so_pin() -> str:
    """The security officer's PIN of every token."""
    return SO_PIN


def configure_softhsm(folder: Path) -> Path:
    """Write a SoftHSM configuration with a token folder of its own; the path of the file."""
    (folder / "tokens").mkdir(parents=True)
    file = folder / "softhsm2.conf"
    file.write_text(
        f"directories.tokendir = {folder / 'tokens'}\nobjectstore.backend = file\nlog.level = ERROR\n"
    )
    return file


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

    def get(spec: str = "ec:p256", usage: KeyUsage = KeyUsage.SIGN, name: str = "key") -> TokenKey:
        label = f"{name}-{spec}-{usage.value}"
        try:
            return open_key(token, label)
        except KeyNotFoundError:
            return open_key(token, generate_key(token, label, KeySpec.parse(spec), usage))

    return get


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
