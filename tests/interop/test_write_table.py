"""docs/interop.md is made of the cells that the tests noted."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from xml.sax.saxutils import quoteattr

SCRIPT = Path(__file__).with_name("write_table.py")


def write_table(folder: Path, *cells: dict[str, str | None]) -> str:
    """What the script makes of a test run that noted these cells; empty where it writes nothing."""
    values = (quoteattr(json.dumps(cell)) for cell in cells)
    properties = "".join(f'<property name="interop" value={value}/>' for value in values)
    results, document = folder / "results.xml", folder / "interop.md"
    results.write_text(f"<testsuites><properties>{properties}</properties></testsuites>", encoding="utf-8")
    subprocess.run([sys.executable, str(SCRIPT), str(results), str(document)], check=True)
    return document.read_text(encoding="utf-8") if document.exists() else ""


def cell(
    row: str, direction: str = "tokensign → {peer}", refusal: str | None = None
) -> dict[str, str | None]:
    return {
        "table": "Signatures",
        "row": row,
        "peer": "Peer",
        "version": "Peer 1.2",
        "direction": direction,
        "refusal": refusal,
    }


def test_cells_stand_in_rows_and_columns(tmp_path: Path) -> None:
    text = write_table(
        tmp_path,
        cell("rsa"),
        cell("eddsa", refusal="Peer 1 is old"),
        cell("eddsa", "{peer} → tokensign"),
    )
    assert "| eddsa | ✓ | 1 |\n| rsa | not tried | ✓ |\n" in text
    assert "|  | Peer → tokensign | tokensign → Peer |\n" in text
    assert "1. Peer 1 is old\n" in text
    assert "with Peer 1.2." in text


def test_cell_holds_only_when_all_its_tests_do(tmp_path: Path) -> None:
    refused = cell("rsa", refusal="not detached")
    for cells in ((refused, cell("rsa")), (cell("rsa"), refused)):
        assert "| rsa | 1 |\n" in write_table(tmp_path, *cells)


def test_run_without_cells_leaves_the_document_alone(tmp_path: Path) -> None:
    assert not write_table(tmp_path)


def test_tables_that_matter_most_come_first(tmp_path: Path) -> None:
    titles = ("Something else", "Encryption", "Signatures")
    text = write_table(tmp_path, *(cell("rsa") | {"table": title} for title in titles))
    assert text.index("## Signatures") < text.index("## Encryption") < text.index("## Something else")
