"""What is kept on the disk: whole, private, and not without end."""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING

from tokensign.pki.revocation import RevocationCache, default_cache

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def contents(cache: RevocationCache, *questions: bytes) -> list[bytes | None]:
    found = [cache.find(question) for question in questions]
    return [None if entry is None else entry.body for entry in found]


def test_an_answer_is_found_by_its_question_alone(tmp_path: Path) -> None:
    cache = RevocationCache(tmp_path / "a" / "b")
    assert contents(cache, b"one") == [None]
    cache.keep(b"one", b"1")
    cache.keep(b"two", b"2")
    assert contents(cache, b"one", b"two", b"three") == [b"1", b"2", None]
    cache.keep(b"one", b"newer")
    assert contents(RevocationCache(tmp_path / "a" / "b"), b"one") == [b"newer"]


def test_folder_and_files_are_private(tmp_path: Path) -> None:
    mask = os.umask(0)
    try:
        RevocationCache(tmp_path / "cache").keep(b"one", b"1")
    finally:
        os.umask(mask)
    (file,) = (tmp_path / "cache").iterdir()
    assert (tmp_path / "cache").stat().st_mode & 0o777 == 0o700
    assert file.stat().st_mode & 0o777 == 0o600
    assert b"one" not in os.fsencode(file.name)


def test_the_age_of_an_answer_is_told(tmp_path: Path) -> None:
    cache = RevocationCache(tmp_path)
    cache.keep(b"one", b"1")
    (file,) = tmp_path.iterdir()
    os.utime(file, (time.time() - 1000,) * 2)
    answer = cache.find(b"one")
    assert answer is not None
    assert 999 < answer.age < 1060
    os.utime(file, (time.time() + 1000,) * 2)
    answer = cache.find(b"one")
    assert answer is not None
    assert answer.age == 0


def test_the_oldest_make_room(tmp_path: Path) -> None:
    cache = RevocationCache(tmp_path, files=3, octets=100)
    names = [b"%d" % number for number in range(5)]
    for number, name in enumerate(names):
        cache.keep(name, bytes(10))
        newest = max(tmp_path.iterdir(), key=lambda file: file.stat().st_ctime_ns)
        os.utime(newest, (number, number))
    assert [entry is not None for entry in contents(cache, *names)] == [False, False, True, True, True]
    cache.keep(b"large", bytes(85))
    assert [entry is not None for entry in contents(cache, *names, b"large")] == [False] * 4 + [True, True]
    cache.keep(b"too large", bytes(101))
    assert contents(cache, b"too large", b"large") == [None, bytes(85)]


def test_a_folder_that_cannot_be_used_is_no_failure(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    cache = RevocationCache(tmp_path / "file" / "cache")
    cache.keep(b"one", b"1")
    assert contents(cache, b"one") == [None]
    other = RevocationCache(tmp_path / "cache")
    other.keep(b"one", b"1")
    (file,) = (tmp_path / "cache").iterdir()
    file.unlink()
    file.mkdir()
    assert contents(other, b"one") == [None]
    other.keep(b"one", b"1")


def test_readers_see_whole_answers_while_others_write(tmp_path: Path) -> None:
    cache = RevocationCache(tmp_path, files=2)
    bodies = {bytes([number]) * 10_000 for number in range(4)}
    failures: list[object] = []

    def work(body: bytes) -> None:
        try:
            for number in range(20):
                cache.keep(b"one", body)
                cache.keep(b"%d" % number, body)
                failures.extend({*contents(cache, b"one")} - bodies - {None})
        except Exception as error:  # noqa: BLE001 - shown below
            failures.append(error)

    threads = [threading.Thread(target=work, args=(body,)) for body in bodies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(list(tmp_path.iterdir())) == 2


def test_the_default_is_the_cache_folder_of_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    default_cache().keep(b"one", b"1")
    assert [file.parent for file in tmp_path.rglob("*.der")] == [tmp_path / "tokensign" / "revocation"]
