"""Writes docs/modules.md from the JUnit XML of a test run, and prints it.

    python write_table.py RESULTS.xml DOCUMENT.md

`test_suite.py` notes every cell there: which module did what, and what it said where it did not.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree as ET

INTRODUCTION = """\
# Modules

What tokensign does with six PKCS#11 modules, all real: one suite, the same for all, in processes of its own
for each. Made by `softhsm/test.sh` from its own run. Signatures and secrets are checked with cryptography,
and CMS signatures with OpenSSL, too.

✓: it passed. A number: the module does not do it, and says what stands below. tokensign refused first, then
the module was asked directly; the tests fail when it turns out that it can, and when anything else fails. The
column of the PIV card is of two cards, one with RSA and one with EC keys. A card makes no keys here, so those
that are on it were used. RSA keys that were made either sign or decrypt, which matters to the TPM.
"""
PASSED, FAILED = "passed", "failed"


@dataclass
class Table:
    """Cells by row and column, all in the order of the suite."""

    rows: dict[str, None] = field(default_factory=dict)
    cells: dict[tuple[str, str], dict[str, str]] = field(default_factory=dict)


def main() -> None:
    results, document = map(Path, sys.argv[1:])
    noted = [
        json.loads(element.get("value", ""))
        for element in ET.parse(results).iter("property")  # noqa: S314 - pytest wrote it
        if element.get("name") == "module"
    ]
    if noted:
        text = render(noted)
        document.write_text(text, encoding="utf-8")
        sys.stdout.write(text)


def render(noted: list[dict[str, str]]) -> str:
    """The whole document, whatever the order in which the modules were done."""
    tables: dict[str, Table] = {}
    libraries: dict[str, str] = {}
    counts: dict[str, Counter[str]] = {}
    reasons: dict[str, int] = {}
    for cell in sorted(noted, key=lambda cell: cell["column"].casefold()):
        column = cell["column"]
        libraries[column] = cell["library"]
        counts.setdefault(column, Counter())[cell["state"]] += 1
        table = tables.setdefault(cell["table"], Table())
        table.rows[cell["row"]] = None
        table.cells[cell["row"], column] = cell
    columns = list(libraries)
    states = list(dict.fromkeys((PASSED, *sorted({state for count in counts.values() for state in count}))))
    summary = [
        [column, libraries[column], *(str(counts[column][state]) for state in states)] for column in columns
    ]
    parts = [INTRODUCTION, _rows(["", "its own name and version", *states], summary)]
    for title, table in tables.items():
        lines = [
            [row, *(_mark(table.cells.get((row, column)), reasons) for column in columns)]
            for row in table.rows
        ]
        parts += [f"## {title}\n", _rows(["", *columns], lines)]
    if reasons:
        parts.append("## What the modules say\n")
        parts.append("".join(f"{number}. {reason}\n" for reason, number in reasons.items()))
    return "\n".join(parts)


def _mark(cell: dict[str, str] | None, reasons: dict[str, int]) -> str:
    if cell is None:
        return "not tried"
    if cell["state"] == PASSED:
        return "✓"
    if cell["state"] == FAILED:
        return FAILED
    return str(reasons.setdefault(cell["reason"], len(reasons) + 1))


def _rows(head: list[str], lines: list[list[str]]) -> str:
    """A table in Markdown."""
    return "".join(f"| {' | '.join(line)} |\n" for line in [head, ["---"] * len(head), *lines])


if __name__ == "__main__":
    main()
