"""Terminal sessions: every file in `scripts/` is played, and what is printed is compared with what it says.

# A comment.
start: empty             a SoftHSM without a token; without this line the token "acme" with Alice's, Bob's
                         and Carol's keys is there, and `letter.txt`, `alice.pem`, `ca.pem` ... in the folder
$ tokensign sign ...     a line for bash; the PIN comes from the file `pin` unless the line says otherwise
letter.txt.p7s: ...      what it prints, standard error included; "..." in a line stands for any text,
                         and a line "..." for any lines
? 1                      its exit code, unless that is 0

So are the sessions in the README and the manual.
"""

from __future__ import annotations

import difflib
import re
import shlex
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests import launcher

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.cli.conftest import Terminal

SHELL_SYNTAX = frozenset("$`|&;<>(){}[]*?~#!\\")
ROOT = Path(__file__).parents[2]
SCRIPTS = sorted((Path(__file__).parent / "scripts").glob("*.txt"))
PAGES = [
    page
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
    if "```console\n" in page.read_text()
]


@dataclass
class Step:
    """A command and what is expected of it."""

    number: int
    command: str
    expected: list[str] = field(default_factory=list)
    code: int = 0

    def program(self, terminal: Terminal) -> list[str] | None:
        """The program and its arguments, where no shell is needed to know them."""
        if SHELL_SYNTAX.intersection(self.command):
            return None
        name, *arguments = shlex.split(self.command)
        return terminal.command(*arguments) if name == "tokensign" else None

    def fits(self, output: str) -> bool:
        """Whether the output is the expected one."""
        pattern = "".join(
            r"(?:.*\n)*" if line == "..." else ".*".join(map(re.escape, line.split("..."))) + r"\n"
            for line in self.expected
        )
        return re.fullmatch(pattern, output) is not None


def parse(script: str) -> tuple[bool, list[Step]]:
    """Whether a script starts with an empty SoftHSM, and its steps."""
    empty, steps = False, list[Step]()
    for number, line in enumerate(script.splitlines(), 1):
        if line.startswith("$ "):
            steps.append(Step(number, line.removeprefix("$ ")))
        elif line == "start: empty":
            empty = True
        elif line.startswith("? "):
            steps[-1].code = int(line.removeprefix("? "))
        elif line and not line.startswith("#"):
            steps[-1].expected.append(line)
    return empty, steps


def without_blank_lines(output: str) -> str:
    """Blank lines divide scripts for the eye, so they do not count in outputs."""
    return "".join(f"{line}\n" for line in output.splitlines() if line.strip())


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_session_goes_as_written(
    script: Path, new_terminal: Callable[[Path], Terminal], request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    empty, steps = parse(script.read_text())
    if not empty:
        shutil.copytree(request.getfixturevalue("furnished"), tmp_path, dirs_exist_ok=True)
    play(steps, new_terminal(tmp_path), script.name)


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_session_of_the_manual_goes_as_written(
    page: Path, new_terminal: Callable[[Path], Terminal], tmp_path: Path
) -> None:
    """All ```console blocks of a page are one session; what it does not show of an output may be anything."""
    steps = sessions_of(page)
    terminal = new_terminal(tmp_path)
    terminal.write("contract.pdf", "%PDF-1.4\n")
    terminal.write("letter.txt", "Dear Bob,\n\nthe figures are good.\n")
    if not any("token init" in step.command for step in steps):
        terminal.run("token", "init", "acme", "--so-pin-source", "file:so-pin")
    play(steps, terminal, page.name)


def sessions_of(page: Path) -> list[Step]:
    """The steps of the ```console blocks of a page."""
    lines: list[str] = []
    within = False
    for line in page.read_text().splitlines():
        if line.startswith("```"):
            within = line == "```console"
        lines.append(line if within and not line.startswith("```") else "")  # so that numbers stay true
    _, steps = parse("\n".join(lines))
    for step in steps:
        step.expected = step.expected or ["..."]
    return steps


def play(steps: list[Step], terminal: Terminal, name: str) -> None:
    """Do what a session says, and compare what is printed."""
    programs = terminal.folder / "bin"
    programs.mkdir()
    launcher.program(programs / "tokensign", terminal.environment)
    for step in steps:
        with launcher.LaunchedProcess(
            step.program(terminal) or ["bash", "-c", step.command],
            cwd=terminal.folder,
            env=terminal.environment | {"PATH": f"{programs}:{terminal.environment['PATH']}"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        ) as process:
            try:
                printed, _ = process.communicate(timeout=60)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
        output = without_blank_lines(printed.decode())
        if not step.fits(output) or process.returncode != step.code:
            difference = "\n".join(difflib.ndiff(step.expected, output.splitlines()))
            pytest.fail(
                f"{name}:{step.number}: $ {step.command}\n{difference}\n? {process.returncode}",
                pytrace=False,
            )
        assert "Traceback" not in output
        assert not any(secret in output for secret in terminal.secrets)
        assert terminal.leftovers() == []
