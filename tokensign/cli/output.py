"""What a command prints: text for people, or one JSON document; status on stderr, results on stdout."""

from __future__ import annotations

import contextlib
import json as json_format
import sys
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import click

from tokensign.files import STANDARD_STREAM

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.progress import Progress

__all__ = ["Output", "in_words", "named", "print_error", "printable"]

_PROGRESS_FROM: Final = 8 << 20  # octets of a file from which a progress bar is worth its line

_UNFOLDED: Final = 10_000  # columns where nobody looks, so that grep and awk see whole rows


def in_words(value: Any) -> str:  # noqa: ANN401 - a JSON value
    """A value of a document for people."""
    match value:
        case None:
            return "unknown"
        case bool():
            return "yes" if value else "no"
        case list():
            return ", ".join(map(in_words, value)) or "none"
        case _:
            return str(value)


def printable(text: str) -> str:
    """One line of text with its control characters made visible: strangers write names in certificates."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape", "surrogatepass").decode()
        for character in text
    )


def named(target: str) -> str:
    """What to call an output in messages."""
    return "standard output" if target == STANDARD_STREAM else target


class Output:
    """Where the results of a command go.

    Args:
        json: One JSON document instead of text.
        quiet: No status lines.
    """

    def __init__(self, *, json: bool = False, quiet: bool = False) -> None:
        self.json = json
        self.quiet = quiet
        self._bar: Progress | None = None

    def status(self, text: str, *, prefix: str = "") -> None:
        """A line about what was done, for people; on stderr, because stdout may carry content.

        Args:
            text: The line; whatever in it could steer a terminal is made visible.
            prefix: Stands before it as it is, so that it may have a colour.
        """
        if not self.json and not self.quiet:
            click.echo(prefix + printable(text), err=True)

    def text(self, text: str, *, prefix: str = "") -> None:
        """A line of the result, for people; the arguments are those of `status`."""
        if not self.json:
            click.echo(prefix + printable(text))

    def document(self, value: Any, *, on_stderr: bool = False) -> None:  # noqa: ANN401 - JSON
        """The result for programs; on stderr where stdout carries content."""
        if self.json:
            click.echo(_dumps(value), err=on_stderr)

    def fields(self, document: dict[str, Any]) -> None:
        """A document for people: a line a field."""
        width = max(map(len, document))
        for name, value in document.items():
            self.text(f"{name.replace('_', ' '):{width}}  {in_words(value)}")

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[str]], empty: str) -> None:
        """A table for people.

        Args:
            columns: The headings.
            rows: The cells, as plain text.
            empty: What is said when there is no row.
        """
        if self.json:
            return
        if not rows:
            click.echo(empty)
            return
        from rich import box
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="bold")
        for column in columns:
            table.add_column(column, overflow="fold")
        for row in rows:
            table.add_row(*(Text(printable(cell)) for cell in row))
        on_terminal = sys.stdout is not None and sys.stdout.isatty()
        console = Console(width=None if on_terminal else _UNFOLDED, highlight=False)
        with console.capture() as capture:
            console.print(table)
        for line in capture.get().splitlines():
            click.echo(line.rstrip())

    @contextlib.contextmanager
    def progress(self, stream: BinaryIO, label: str) -> Iterator[BinaryIO]:
        """The stream, with a progress bar on stderr while it is read, if it is large and somebody looks."""
        start = stream.tell()
        size = stream.seek(0, 2) - start
        stream.seek(start)
        if self.quiet or self.json or size < _PROGRESS_FROM or not sys.stderr.isatty():
            yield stream
            return
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

        bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            DownloadColumn(binary_units=True),
            TransferSpeedColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self._bar = bar
        try:
            with bar:
                task = bar.add_task(printable(label), total=size)
                yield _Watched(stream, lambda done: bar.update(task, completed=done - start))  # type: ignore[misc]
        finally:
            self._bar = None

    @contextlib.contextmanager
    def without_progress(self) -> Iterator[None]:
        """Take the progress bar off the terminal for a while, because somebody is asked something there."""
        bar = self._bar
        if bar is None:
            yield
            return
        bar.stop()
        try:
            yield
        finally:
            bar.start()


class _Watched:
    """A stream that tells its position after each read; everything else is the stream's own."""

    def __init__(self, stream: BinaryIO, tell: Any) -> None:  # noqa: ANN401 - a callback
        self._stream = stream
        self._tell = tell

    def read(self, size: int = -1) -> bytes:
        piece = self._stream.read(size)
        self._tell(self._stream.tell())
        return piece

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the stream has
        return getattr(self._stream, name)


def print_error(
    message: str, hint: str | None, exit_code: int, *, as_json: bool, kind: str = "UsageError"
) -> int:
    """Tell an error on stderr, and with --json as a document on stdout too; returns the exit code."""
    click.echo(f"{click.style('error:', fg='red', bold=True)} {printable(message)}", err=True)
    if hint:
        click.echo(f"{click.style('hint:', fg='cyan')} {printable(hint)}", err=True)
    if as_json:
        error = {"type": kind, "message": message, "hint": hint, "exit_code": exit_code}
        click.echo(_dumps({"error": error}))
    return exit_code


def _dumps(value: Any) -> str:  # noqa: ANN401 - JSON
    """JSON in ASCII, in which no character steers a terminal, and which every locale can print."""
    return json_format.dumps(value, indent=2)
