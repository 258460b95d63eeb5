from __future__ import annotations

import io
import os
import stat
import sys
from pathlib import Path

import pytest

from tokensign.errors import FileError, OutputExistsError
from tokensign.files import chunks, open_input, open_output, read_small, spool


def test_output_appears_whole_with_the_permissions_of_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        with open_output(tmp_path / "out") as file:
            file.write(b"content")
            assert not (tmp_path / "out").exists()
            (temporary,) = tmp_path.iterdir()
            assert stat.S_IMODE(temporary.stat().st_mode) == 0o600
    finally:
        os.umask(before)
    assert (tmp_path / "out").read_bytes() == b"content"
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o640
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_failure_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), open_output(tmp_path / "out") as file:  # noqa: PT012 - it fails inside
        file.write(b"content")
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_failure_keeps_the_file_that_is_being_replaced(tmp_path: Path) -> None:
    (tmp_path / "out").write_bytes(b"old")
    with pytest.raises(ZeroDivisionError), open_output(tmp_path / "out", force=True):
        raise ZeroDivisionError
    assert (tmp_path / "out").read_bytes() == b"old"


def test_file_that_somebody_made_meanwhile_is_kept(tmp_path: Path) -> None:
    with pytest.raises(OutputExistsError), open_output(tmp_path / "out") as file:  # noqa: PT012 - it fails inside
        file.write(b"ours")
        (tmp_path / "out").write_bytes(b"theirs")
    assert (tmp_path / "out").read_bytes() == b"theirs"


@pytest.fixture
def without_hard_links(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_self: Path, _target: Path) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "hardlink_to", refuse)


@pytest.mark.usefixtures("without_hard_links")
def test_file_systems_without_hard_links_will_do(tmp_path: Path) -> None:
    with open_output(tmp_path / "out") as file:
        file.write(b"content")
    assert (tmp_path / "out").read_bytes() == b"content"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.usefixtures("without_hard_links")
def test_without_hard_links_nothing_is_overwritten_either(tmp_path: Path) -> None:
    with pytest.raises(OutputExistsError), open_output(tmp_path / "out"):
        (tmp_path / "out").write_bytes(b"theirs")
    assert (tmp_path / "out").read_bytes() == b"theirs"


def test_very_long_names_have_room_for_the_temporary_one(tmp_path: Path) -> None:
    path = tmp_path / ("n" * 255)
    with open_output(path) as file:
        file.write(b"content")
    assert path.read_bytes() == b"content"


def test_pipe_gets_nothing_before_all_went_well(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    try:
        with pytest.raises(ZeroDivisionError), open_output(tmp_path / "pipe") as file:  # noqa: PT012 - it fails inside
            file.write(bytes(100_000))
            raise ZeroDivisionError
        assert os.read(reader, 10) == b""
        with open_output(tmp_path / "pipe") as file:
            file.write(b"content")
        assert os.read(reader, 10) == b"content"
    finally:
        os.close(reader)


def test_reader_of_a_pipe_that_went_away_is_no_failure_of_a_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    with pytest.raises(BrokenPipeError), open_output(tmp_path / "pipe") as file:  # noqa: PT012 - it fails inside
        file.write(b"content")
        os.close(reader)


def test_failing_input_is_named_where_it_fails() -> None:
    with (
        pytest.raises(FileError, match=r"^cannot read /proc/self/mem: Input/output error$"),
        open_input("/proc/self/mem") as file,
    ):
        file.read(1)


def test_failing_input_is_named_when_all_of_it_is_read() -> None:
    with pytest.raises(FileError, match="cannot read /proc/self/mem"), open_input("/proc/self/mem") as file:
        file.read()


def test_input_that_cannot_seek_is_made_to(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.write(writing, b"content")
    os.close(writing)
    with open_input(Path(f"/dev/fd/{reading}")) as file:
        assert file.read() == b"content"
        assert file.seek(3) == 3
        assert file.read() == b"tent"
    os.close(reading)
    assert tmp_path.exists()


@pytest.mark.parametrize(("name", "direction"), [("stdin", "input"), ("stdout", "output")])
def test_closed_standard_streams_are_told(monkeypatch: pytest.MonkeyPatch, name: str, direction: str) -> None:
    monkeypatch.setattr(sys, name, None)
    opened = open_input("-") if name == "stdin" else open_output("-")
    with pytest.raises(FileError, match=f"standard {direction} is closed"), opened:
        pass


def test_small_file_has_a_limit(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    assert read_small(tmp_path / "file", limit=5) == b"12345"
    with pytest.raises(FileError, match="larger than the 4 bytes"):
        read_small(tmp_path / "file", limit=4)


def test_spooling_many_pieces_does_not_gather_them_in_memory() -> None:
    piece = bytes(1 << 20)
    with spool() as held:
        held.writelines(piece for _ in range(12))
        assert held.fileno() >= 0  # it went to a file on the way
        held.seek(0)
        assert sum(map(len, chunks(held))) == 12 << 20


def test_spool_is_filled_and_rewound() -> None:
    with spool(io.BytesIO(b"content")) as held:
        assert held.read() == b"content"
