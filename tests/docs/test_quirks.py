"""The table of quirks: the manual shows all of it, and the code asks for what the table decides."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from tokensign.token.quirks import QUIRKS, Handling, Quirk

ROOT = Path(__file__).parents[2]


def test_the_manual_shows_the_table_as_it_is() -> None:
    script = runpy.run_path(str(Path(__file__).with_name("write_quirks.py")))
    page = (ROOT / "docs" / "tokens.md").read_text(encoding="utf-8")
    assert script["with_table"](page) == page, "run `python tests/docs/write_quirks.py`"


def test_every_quirk_is_known_of_some_module_and_of_each_once() -> None:
    assert {known.quirk for known in QUIRKS} == set(Quirk)
    rows = [(known.quirk, known.module) for known in QUIRKS]
    assert len(set(rows)) == len(rows)


@pytest.mark.parametrize("quirk", sorted({one.quirk for one in QUIRKS}, key=lambda quirk: quirk.name))
def test_the_code_asks_just_for_what_the_table_decides(quirk: Quirk) -> None:
    decides = any(known.quirk is quirk and known.handling is Handling.TABLE for known in QUIRKS)
    code = [path for path in (ROOT / "tokensign").rglob("*.py") if path.name != "quirks.py"]
    asked = any(f"Quirk.{quirk.name}" in path.read_text(encoding="utf-8") for path in code)
    asked |= quirk is Quirk.LOCAL_DENIED  # by `denies_local`
    assert asked is decides
