"""docs/modules.md is made of the cells that the suite noted."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from xml.sax.saxutils import quoteattr

SCRIPT = Path(__file__).with_name("write_table.py")


def write_table(folder: Path, *cells: dict[str, str]) -> str:
    """What the script makes of a run that noted these cells, and prints; empty where it writes nothing."""
    values = (quoteattr(json.dumps(cell)) for cell in cells)
    properties = "".join(f'<property name="module" value={value}/>' for value in values)
    results, document = folder / "results.xml", folder / "modules.md"
    results.write_text(f"<testsuites><properties>{properties}</properties></testsuites>", encoding="utf-8")
    command = [sys.executable, str(SCRIPT), str(results), str(document)]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    text = document.read_text(encoding="utf-8") if document.exists() else ""
    assert printed == text
    return text


def cell(column: str, row: str = "rsa", state: str = "passed", reason: str = "") -> dict[str, str]:
    return {
        "column": column,
        "library": f"{column} 1.2",
        "table": "Signatures",
        "row": row,
        "state": state,
        "reason": reason,
    }


def test_cells_stand_in_rows_and_columns(tmp_path: Path) -> None:
    refusal = "C_SignInit: CKR_MECHANISM_INVALID"
    tpm = [cell("TPM"), cell("TPM", "eddsa", "unsupported", refusal)]
    nss = [cell("NSS"), cell("NSS", "ml-dsa", "unsupported", refusal)]
    text = write_table(tmp_path, *tpm, *nss)
    assert "|  | NSS | TPM |\n" in text
    assert "| rsa | ✓ | ✓ |\n| ml-dsa | 1 | not tried |\n| eddsa | not tried | 1 |\n" in text
    assert f"\n1. {refusal}\n" in text
    assert write_table(tmp_path, *nss, *tpm) == text  # whichever module was done first


def test_columns_are_counted_with_their_libraries(tmp_path: Path) -> None:
    text = write_table(tmp_path, cell("NSS"), cell("NSS", "eddsa", "failed", "it hangs"))
    assert "| NSS | NSS 1.2 | 1 | 1 |\n" in text
    assert "| eddsa | failed |\n" in text


def test_a_run_without_cells_leaves_the_document_alone(tmp_path: Path) -> None:
    assert not write_table(tmp_path)
