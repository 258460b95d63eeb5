"""One call of the module fails, whichever it is: the command gives a right result, or a clear error.

Each case is the real command line, supervisor included, on a token of its own.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.faults.place import LETTER, clean_environment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tests.faults.place import Place

DRIVER = Path(__file__).with_name("driver.py")
COMMANDS = {
    "sign": ("sign", "letter.txt", "--key", "alice", "-o", "output"),
    "decrypt": ("decrypt", "letter.txt.p7m", "-o", "output"),
}
LAST = 200
STEP = 6  # of every so many calls one fails in CI; with --full all of them do
FAULTS = {
    "crash": "crash",
    "hang": "hang",
    "DEVICE_ERROR": "0x30",
    "GENERAL_ERROR": "0x5",
    "DEVICE_REMOVED": "0x32",
}
MORE_FAULTS = {
    "abort": "abort",
    "FUNCTION_FAILED": "0x6",
    "HOST_MEMORY": "0x2",
    "SESSION_COUNT": "0xb1",
    "SESSION_HANDLE_INVALID": "0xb3",
    "TOKEN_NOT_PRESENT": "0xe0",
    "USER_NOT_LOGGED_IN": "0x101",
    "unknown": "0x80000001",
}
TIMEOUT = 1.5  # seconds for an operation of a module that hangs; those of SoftHSM take milliseconds
MARGIN = 20.0  # seconds that a command may take for the rest, with the others running beside it


@dataclass(frozen=True)
class Case:
    """A command and the call that fails in it."""

    command: str
    at: int
    fault: str
    code: str
    always: bool

    def __str__(self) -> str:
        return f"{self.command}, {self.fault} {'from' if self.always else 'at'} call {self.at}"


def run_all(
    cases: list[Case], new_place: Callable[[str], Place], shim: Path, module: Path
) -> Iterable[tuple[Case, Place, dict[str, float]]]:
    """Run the cases; each with its place and with the exit code and the seconds that it took."""
    with subprocess.Popen(
        [sys.executable, DRIVER],
        env={name: value for name, value in clean_environment().items() if not name.startswith("COVERAGE_")},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as driver:
        assert driver.stdin
        assert driver.stdout
        places = {}
        for number, case in enumerate(cases):
            place = places[number] = new_place(f"{case}".replace(" ", "-"))
            faults = {"at": case.at, "fault": case.code} | ({"always": 1} if case.always else {})
            own = Path(
                shutil.copy(shim, place.folder)
            )  # processes with one module wait for each other's logins
            environment = place.shimmed(own, module, **faults)
            job = {
                "number": number,
                "folder": str(place.folder),
                "arguments": COMMANDS[case.command],
                "environment": environment
                | ({"TOKENSIGN_TOKEN_TIMEOUT": str(TIMEOUT)} if case.code == "hang" else {}),
            }
            print(json.dumps(job), file=driver.stdin)
        driver.stdin.close()
        for line in driver.stdout:
            outcome = json.loads(line)
            number = outcome["number"]
            yield cases[number], places.pop(number), outcome
    assert driver.returncode == 0
    assert not places


def judge(case: Case, place: Place, code: int, seconds: float) -> str:
    """What came of a case, in a word; what is wrong with it fails the test."""
    error = (place.folder / "stderr").read_text()
    output = place.folder / "output"
    assert seconds < TIMEOUT + MARGIN
    assert "Traceback" not in error
    assert place.leftovers() == []
    logins = [call for call in place.calls() if call.startswith("C_Login")]
    assert len(logins) <= 1, logins
    if code == 0:
        assert is_right(case, place)
        return "right"
    assert any(line.startswith("error: ") for line in error.splitlines()), error  # warnings may stand before
    assert not output.exists()
    if code == 4:  # the token says that the ciphertext is bad, and nobody can know better
        assert case.command == "decrypt"
        assert place.calls()[case.at - 1] == "C_Decrypt"
        assert "cannot be decrypted" in error
        return "cannot be decrypted"
    assert code == 3, error
    if case.fault in ("crash", "abort"):
        assert "crashed (SIG" in error
    if case.fault == "hang":
        assert "hangs" in error
    return "clear error"


def is_right(case: Case, place: Place) -> bool:
    if case.command == "decrypt":
        return (place.folder / "output").read_text() == LETTER
    verified = subprocess.run(
        [
            "openssl",
            "cms",
            "-verify",
            "-noverify",
            "-inform",
            "DER",
            "-in",
            "output",
            "-content",
            "letter.txt",
            "-binary",
        ],
        cwd=place.folder,
        capture_output=True,
        check=False,
    )
    return verified.returncode == 0 and verified.stdout.decode() == LETTER


def check(cases: list[Case], new_place: Callable[[str], Place], shim: Path, module: Path) -> Counter[str]:
    counts: Counter[str] = Counter()
    failures = []
    for case, place, outcome in run_all(cases, new_place, shim, module):
        try:
            counts[judge(case, place, int(outcome["code"]), outcome["seconds"])] += 1
        except AssertionError as error:
            told = (place.folder / "stderr").read_text()
            failures.append(f"{case}: {outcome}: {error} {told}")
    assert not failures, f"{len(failures)} of {len(cases)}:\n" + "\n".join(failures[:20])
    return counts


@pytest.fixture(scope="module")
def number_of_calls(new_place: Callable[[str], Place], shim: Path, module_path: Path) -> dict[str, int]:
    """How many calls the commands make when none fails."""
    numbers = {}
    for name, arguments in COMMANDS.items():
        place = new_place(f"{name}-without-a-fault")
        done = place.run(*arguments, environment=place.shimmed(shim, module_path))
        assert done.returncode == 0, done.stderr
        numbers[name] = len(place.calls())
    return numbers


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("command", COMMANDS)
def test_a_call_that_fails_once(
    *,
    command: str,
    fault: str,
    number_of_calls: dict[str, int],
    new_place: Callable[[str], Place],
    shim: Path,
    module_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    last = min(LAST, number_of_calls[command] + 1)
    first = 1 + list(FAULTS).index(fault) % STEP  # together they are at every call
    cases = [Case(command, at, fault, FAULTS[fault], always=False) for at in range(first, last + 1, STEP)]
    counts = check(cases, new_place, shim, module_path)
    assert sum(counts.values()) == len(cases)
    assert counts["clear error"] > len(cases) / 10  # a question that changes nothing is asked again
    told = ", ".join(f"{count} {what}" for what, count in counts.most_common())
    record_property("tally", f"{command}, every {STEP}th call up to {last} with {fault}: {told}")


@pytest.mark.full
@pytest.mark.parametrize("fault", FAULTS | MORE_FAULTS)
@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("always", [False, True], ids=["once", "from-then-on"])
def test_a_call_that_fails_in_any_way(
    *,
    command: str,
    fault: str,
    always: bool,
    new_place: Callable[[str], Place],
    shim: Path,
    module_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    code = (FAULTS | MORE_FAULTS)[fault]
    cases = [Case(command, at, fault, code, always) for at in range(1, LAST + 1)]
    told = ", ".join(
        f"{count} {what}" for what, count in check(cases, new_place, shim, module_path).most_common()
    )
    when = "from then on" if always else "once"
    record_property("tally", f"{command}, call 1 to {LAST} with {fault} {when}: {told}")
