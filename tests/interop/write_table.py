"""Writes docs/interop.md from the JUnit XML of a test run.

    python write_table.py RESULTS.xml DOCUMENT.md

Each interop test notes its cell there with the fixture `record_cell`: who gave what to whom, and the
reason where the other program cannot. A cell is of several tests (attached, detached) and holds when all do.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree as ET

INTRODUCTION = """\
# Interoperability

Messages that tokensign made and the other program took, and the other way round. The private keys on
tokensign's side are on tokens: those of ML-DSA and ML-KEM of NSS, all others of SoftHSM. Made by
`softhsm/test.sh` from its own run, with {versions}.

✓: it works; a signature attached and detached. A number: the other program or the token cannot do it, or
tokensign does not write it, for the reason below. A program that has an option for it is asked all the same,
and the tests fail when it turns out that it can.
"""


ORDER = (
    "Signatures",
    "Forms of signatures",
    "Encryption",
    "Recipients",
    "Other contents",
    "Mail",
)  # then the others


@dataclass
class Table:
    """Cells by row and column, all in the order of the tests."""

    rows: dict[str, None] = field(default_factory=dict)
    columns: dict[str, None] = field(default_factory=dict)
    cells: dict[tuple[str, str], str | None] = field(default_factory=dict)

    def add(self, row: str, column: str, refusal: str | None) -> None:
        self.rows[row] = self.columns[column] = None
        told = (refusal, self.cells.get((row, column)))
        self.cells[row, column] = min(filter(None, told), default=None)  # whichever test ended first


def main() -> None:
    results, document = map(Path, sys.argv[1:])
    tables: dict[str, Table] = {}
    versions: dict[str, None] = {}
    for element in ET.parse(results).iter("property"):  # noqa: S314 - pytest wrote it
        if element.get("name") == "interop":
            cell = json.loads(element.get("value", ""))
            column = cell["direction"].format(peer=cell["peer"])
            tables.setdefault(cell["table"], Table()).add(cell["row"], column, cell["refusal"])
            versions[cell["version"]] = None
    if tables:
        document.write_text(render(tables, sorted(versions)), encoding="utf-8")


def render(tables: dict[str, Table], versions: list[str]) -> str:
    """The whole document."""
    reasons: dict[str, int] = {}
    parts = [INTRODUCTION.format(versions=", ".join(versions))]
    for title in sorted(
        tables, key=lambda title: (ORDER.index(title) if title in ORDER else len(ORDER), title)
    ):
        table = tables[title]
        parts.append(f"## {title}\n")
        columns = sorted(table.columns, key=str.casefold)
        lines = [["", *columns], ["---"] * (len(columns) + 1)]
        for row in sorted(table.rows):
            marks = [_mark(table, row, column, reasons) for column in columns]
            lines.append([row, *marks])
        parts.append("".join(f"| {' | '.join(line)} |\n" for line in lines))
    if reasons:
        parts.append("## What cannot be done\n")
        parts.append("".join(f"{number}. {reason}\n" for reason, number in reasons.items()))
    return "\n".join(parts)


def _mark(table: Table, row: str, column: str, reasons: dict[str, int]) -> str:
    if (row, column) not in table.cells:
        return "not tried"
    refusal = table.cells[row, column]
    return "✓" if refusal is None else str(reasons.setdefault(refusal, len(reasons) + 1))


if __name__ == "__main__":
    main()
