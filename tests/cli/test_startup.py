"""What a command imports: only what it uses, so that it starts at once."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.cli.conftest import Terminal

HEAVY = {
    "pkcs11",
    "cryptography",
    "asn1crypto",
    "rich",
    "pyhanko_certvalidator",
    "tokensign.cms",
    "tokensign.pki",
}
PROGRAM = """
import sys
from tokensign.cli import main
try:
    main(sys.argv[1:])
finally:
    sys.stderr.write("|".join(sys.modules))
"""


def imported(terminal: Terminal, *arguments: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        env=terminal.environment,
        cwd=terminal.folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stderr.rpartition("\n")[2].split("|"))


@pytest.mark.parametrize("arguments", [("--help",), ("--version",), ("-h",)], ids=" ".join)
def test_help_imports_nothing_heavy(terminal: Terminal, arguments: tuple[str, ...]) -> None:
    assert imported(terminal, *arguments).isdisjoint(HEAVY)


@pytest.mark.parametrize("name", ["key", "cert", "sign", "verify", "decrypt", "doctor"])
def test_help_of_a_command_loads_no_module_of_pkcs11(terminal: Terminal, name: str) -> None:
    assert imported(terminal, name, "--help").isdisjoint({"pkcs11", "rich", "pyhanko_certvalidator"})


def test_verifying_and_encrypting_need_no_token(terminal: Terminal) -> None:
    for command in (
        ("verify", "signed.p7m", "--trust", "ca.pem"),
        ("encrypt", "letter.txt", "--to", "bob.pem"),
        ("authenticate", "letter.txt", "--to", "bob.pem", "-o", "letter.mac"),
        ("digest", "letter.txt", "-o", "letter.digest"),
        ("inspect", "signed.p7m"),
    ):
        assert imported(terminal, *command).isdisjoint({"pkcs11", "tokensign.token"})


@pytest.mark.parametrize(
    ("library", "name", "arguments"),
    [
        ("uvicorn", "service", ("ca", "serve")),
        ("starlette", "service", ("ca", "serve")),
        ("fastapi", "service", ("serve", "--dev")),
        (
            "psycopg",
            "postgresql",
            ("ca", "list", "--database", "postgresql+psycopg://nobody@localhost/nothing"),
        ),
    ],
)
def test_library_of_an_extra_that_is_missing_is_named_with_the_way_to_it(
    terminal: Terminal, library: str, name: str, arguments: tuple[str, ...]
) -> None:
    missing = (
        f"import sys; sys.modules[{library!r}] = None; from tokensign.cli import main; main(sys.argv[1:])"
    )
    done = subprocess.run(
        [sys.executable, "-c", missing, *arguments],
        env=terminal.environment,
        cwd=terminal.folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert f"this needs {library}" in done.stderr
    assert f"pip install 'tokensign[{name}]'" in done.stderr
