"""The behavioural suite on every real module; `write_table.py` makes docs/modules.md of the outcomes."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest
from pkcs11.exceptions import GeneralError, PKCS11Error

from tests.modules import control
from tests.modules.base import write_pin_file
from tests.modules.registry import MODULES
from tests.modules.suite.bench import MESSAGE
from tests.modules.suite.cells import CannotDoError, Case, Cell, State, attempt
from tests.modules.suite.declared import COLUMNS, UNSUPPORTED, contradictions, merged
from tests.modules.suite.direct import name_of
from tests.modules.suite.pins import SO_PIN_FILE
from tests.modules.suite.run import PARTS
from tokensign.token.cryptoki import CurveNotSupportedError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from tests.modules.base import RunningModule

SOAK = 1.0  # seconds of eight threads
FULL_SOAK = 60.0
PART_TIMEOUT = 300.0  # seconds for a part beside its soak; on two free cores the longest takes 20


@pytest.mark.parametrize("column", COLUMNS)
def test_a_module_does_all_but_what_it_is_known_not_to(
    column: str,
    tmp_path: Path,
    pytestconfig: pytest.Config,
    record_property: Callable[[str, object], None],
) -> None:
    for name in COLUMNS[column]:
        if reason := MODULES[name].missing():
            pytest.skip(f"{name} cannot be started here: {reason}")
    soak = FULL_SOAK if pytestconfig.getoption("--full") else SOAK
    started = time.monotonic()
    runs, library = [], ""
    for number, name in enumerate(COLUMNS[column]):
        folder = tmp_path / name
        folder.mkdir()
        parts = list(PARTS) if number == 0 else ["use"]  # another token of the module has only other keys
        with MODULES[name].start(folder) as running:
            outcomes = [run_part(running, part, soak) for part in parts]
        library = outcomes[0]["library"]
        runs.append([as_cell(cell) for outcome in outcomes for cell in outcome["cells"]])
    cells = merged(runs)
    for cell in cells:
        told = {"column": column, "library": library, "table": cell.table, "row": cell.row}
        record_property("module", json.dumps(told | {"state": cell.state, "reason": cell.reason}))
    counts = ", ".join(f"{sum(cell.state is state for cell in cells)} {state}" for state in State)
    record_property("tally", f"module {column}: {counts}; {time.monotonic() - started:.0f} s")
    if wrong := list(contradictions(cells, UNSUPPORTED[column])):
        pytest.fail("\n".join(wrong), pytrace=False)


def run_part(running: RunningModule, part: str, soak: float) -> dict[str, Any]:
    """Run a part of the suite where the module lives; its outcomes."""
    folder = running.pin_file.parent
    if not (folder / SO_PIN_FILE).exists():
        write_pin_file(folder / SO_PIN_FILE, running.so_pin or "none")  # NSS has no officer
    command = [sys.executable, "-m", "tests.modules.suite.run", part, str(folder), str(soak)]
    with control.serve(running) as variables:
        done = running.run(command, environment=variables, timeout=PART_TIMEOUT + soak)
    assert done.returncode == 0, done.stderr
    for secret in filter(None, (running.user_pin, running.so_pin)):
        assert secret not in done.stdout + done.stderr
    for message in folder.glob("*.p7m"):
        require_openssl_verifies(message)
    outcome: dict[str, Any] = json.loads((folder / f"{part}.json").read_text())
    return outcome


def as_cell(cell: dict[str, Any]) -> Cell:
    """A cell that came as JSON."""
    return Cell(**cell | {"state": State(cell["state"])})


def require_openssl_verifies(message: Path) -> None:
    """A CMS signature that a token made holds for another program, too."""
    command = ["openssl", "cms", "-verify", "-binary", "-noverify", "-inform", "DER", "-in", str(message)]
    done = subprocess.run(command, capture_output=True, timeout=30, check=False)
    assert done.returncode == 0, (message.name, done.stderr)
    assert done.stdout == MESSAGE


# --- the suite itself


def raising(error: Exception) -> Case:
    def run() -> None:
        raise error

    return Case("table", "row", run)


@pytest.mark.parametrize(
    ("case", "state", "reason"),
    [
        (Case("table", "row", lambda: None), State.PASSED, ""),
        (raising(CannotDoError("CKR_MECHANISM_INVALID")), State.UNSUPPORTED, "CKR_MECHANISM_INVALID"),
        (raising(AssertionError("it holds not")), State.FAILED, "AssertionError: it holds not"),
    ],
)
def test_a_case_ends_in_one_of_three_ways(case: Case, state: State, reason: str) -> None:
    cell = attempt(case)
    assert cell.state is state
    assert cell.reason.startswith(reason)


def cell(state: State, reason: str = "", row: str = "row") -> Cell:
    return Cell("table", row, state, reason, 0.1)


@pytest.mark.parametrize(
    ("outcome", "declared", "said"),
    [
        (cell(State.PASSED), {}, None),
        (cell(State.PASSED), {"table: r*": "CKR_X"}, "table: row: works, and is declared as unsupported"),
        (cell(State.UNSUPPORTED, "C_Sign: CKR_X"), {"table: r*": "CKR_X"}, None),
        (cell(State.UNSUPPORTED, "CKR_Y"), {"table: r*": "CKR_X"}, "not declared so: CKR_Y"),
        (cell(State.UNSUPPORTED, "CKR_Y"), {}, "not declared so: CKR_Y"),
        (cell(State.FAILED, "KeyError"), {"table: r*": "CKR_X"}, "table: row: KeyError"),
        (cell(State.PASSED), {"table: other": "CKR_X"}, "nothing is called so: table: other"),
    ],
)
def test_the_declared_is_the_truth(outcome: Cell, declared: dict[str, str], said: str | None) -> None:
    found = list(contradictions([outcome], declared))
    assert len(found) == (said is not None)
    assert not said or said in found[0]


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        ((State.UNSUPPORTED, State.PASSED), State.PASSED),
        ((State.PASSED, State.UNSUPPORTED), State.PASSED),
        ((State.PASSED, State.FAILED), State.FAILED),
        ((State.UNSUPPORTED, State.UNSUPPORTED), State.UNSUPPORTED),
    ],
)
def test_two_tokens_of_a_module_make_one_column(states: Sequence[State], expected: State) -> None:
    (together,) = merged([[cell(state)] for state in states])
    assert together.state is expected


@pytest.mark.parametrize(
    ("error", "name"),
    [
        (GeneralError(), "CKR_GENERAL_ERROR"),
        (CurveNotSupportedError(), "CKR_CURVE_NOT_SUPPORTED"),
        (PKCS11Error("Unmapped error code 0x140"), "CKR_CURVE_NOT_SUPPORTED"),
    ],
)
def test_a_return_code_has_its_name(error: PKCS11Error, name: str) -> None:
    assert name_of(error) == name


def test_every_module_is_in_a_column() -> None:
    assert {name for names in COLUMNS.values() for name in names} == set(MODULES)
    assert set(UNSUPPORTED) == set(COLUMNS)
