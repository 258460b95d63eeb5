"""Writes the table of quirks in docs/tokens.md: `python tests/docs/write_quirks.py`."""

from __future__ import annotations

from pathlib import Path

from tokensign.token.quirks import QUIRKS

PAGE = Path(__file__).parents[2] / "docs" / "tokens.md"
BEGIN, END = "<!-- quirks: written by tests/docs/write_quirks.py -->\n", "<!-- end of quirks -->\n"


def main() -> None:
    """Put the table between the two comments."""
    PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


def with_table(page: str) -> str:
    """The page with the table as it is now."""
    before, rest = page.split(BEGIN)
    _, after = rest.split(END)
    return before + BEGIN + table() + END + after


def table() -> str:
    """The table, by module and in the order of the quirks there."""
    rows = [
        f"| {known.module} | {known.quirk.value} | {known.reason} | {known.remedy} | {known.handling.value} |"
        for known in sorted(QUIRKS, key=lambda known: known.module.casefold())
    ]
    head = ["| module | quirk | what was seen | what tokensign does | how |", "| --- " * 5 + "|"]
    return "\n".join((*head, *rows, ""))


if __name__ == "__main__":
    main()
