"""OpenSSL's fuzzing corpus: no verdict, only our errors, quickly, and in little memory for each file.

Run as a program, this module reads the files and prints what time and memory each took: a process of its
own, in which nothing else takes memory or has left any.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import pytest
from click.testing import CliRunner

import tokensign
from tokensign.algorithms import KeyUsage
from tokensign.certificates import load_certificates
from tokensign.cli.root import root
from tokensign.cms.authenticated import verify_authenticated_data
from tokensign.cms.compressed import decompress
from tokensign.cms.decrypt import decrypt
from tokensign.cms.digested import verify_digested_data
from tokensign.cms.encrypted import decrypt_with_key
from tokensign.cms.layers import open_layers, walk_layers
from tokensign.cms.recipients.kek_bytes import KeyEncryptionKeyBytes
from tokensign.cms.signed_data import _read_in_place, _read_small
from tokensign.errors import TokensignError
from tokensign.keys import Password
from tokensign.smime.unwrap import open_message
from tokensign.token import Pin, open_key, open_token
from tokensign.verification import Expectations, verify

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tokensign.certificates import Certificate
    from tokensign.keys import DecryptionKey
    from tokensign.token import TokenKey

    Operation = Callable[[io.BytesIO], object]

SECONDS: Final = 1.0
MEBIBYTES: Final = 190  # which is less than 200 MB
DEADLINE: Final = 300  # seconds for all files together, which take about ten
CLEAR_REFS: Final = Path("/proc/self/clear_refs")  # proc(5): who writes 5 there resets VmHWM
STATUS: Final = Path("/proc/self/status")


def operations_with(mine: TokenKey, certificate: Certificate) -> dict[str, Operation]:
    """Everything that reads a message."""
    expectations = Expectations(trust=None, certificates=[certificate], legacy=True)
    keys: list[DecryptionKey] = [mine, Password("x"), KeyEncryptionKeyBytes(b"x", bytes(16))]
    return {
        "open": lambda stream: open_message(stream).close(),
        "verify": lambda stream: verify(stream, expectations, output=io.BytesIO()),
        "verify-detached": lambda stream: verify(stream, expectations, io.BytesIO(b"content")),
        "decrypt": lambda stream: decrypt(stream, keys, io.BytesIO(), legacy=True),
        "decrypt-with-key": lambda stream: decrypt_with_key(stream, bytes(24), io.BytesIO(), legacy=True),
        "authenticated": lambda stream: verify_authenticated_data(stream, keys, io.BytesIO(), legacy=True),
        "compressed": lambda stream: decompress(stream, io.BytesIO()),
        "digested": lambda stream: verify_digested_data(stream, io.BytesIO(), legacy=True),
        "open-layers": lambda stream: open_layers(stream, keys, io.BytesIO(), legacy=True),
        "walk-layers": lambda stream: list(walk_layers(stream)),
    }


def outcome_of(operation: Operation, data: bytes) -> str:
    """ "typed" for a result or an error of ours."""
    try:
        operation(io.BytesIO(data))
    except TokensignError:
        pass
    except Exception as error:  # noqa: BLE001 - what these tests are looking for
        return repr(error)
    return "typed"


on_linux = pytest.mark.skipif(not CLEAR_REFS.exists(), reason="only Linux forgets the peak of the memory")


@on_linux
def test_each_file_is_read_or_refused_in_time_and_little_memory(
    files_of: Callable[..., Sequence[Path]],
    token_key: Callable[..., TokenKey],
    issue: Callable[..., Certificate],
    user_pin: str,
    tally: Any,  # noqa: ANN401
    record_property: Callable[[str, object], None],
) -> None:
    mine = token_key("rsa:2048", KeyUsage.BOTH)
    task = {
        "module": str(mine.token.module.path),
        "token": mine.token.info.label,
        "pin": user_pin,
        "key": mine.info.label,
        "certificate": issue(mine.public_key, "somebody").pem(),
        "files": [str(path) for path in files_of("fuzz-cms")],
    }
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    done = subprocess.run(
        [sys.executable, __file__],
        input=json.dumps(task),
        stdout=subprocess.PIPE,
        env=environment | {"PYTHONPATH": str(Path(tokensign.__file__).parents[1])},
        timeout=DEADLINE,
        text=True,
        check=True,
    )
    readings = [Reading(*reading) for reading in json.loads(done.stdout)]
    for reading in readings:
        tally.check(reading.case, reading.verdict, "typed")
    most = max(readings, key=lambda reading: reading.mebibytes)
    told = f"{most.mebibytes:.1f} MiB ({most.case})"
    record_property("tally", f"fuzz_cms, most memory of a file and reader: {told}")


@on_linux
def test_memory_that_was_given_back_is_seen_and_is_that_of_its_file(tmp_path: Path) -> None:
    for name, content in (("first", b"small"), ("large", b"large"), ("last", b"small")):
        (tmp_path / name).write_bytes(content)
    files = [str(tmp_path / name) for name in ("first", "large", "last")]
    reader = {
        "reader": lambda stream: len(stream.read() * (20 << 20 if stream.getvalue() == b"large" else 1))
    }
    first, large, last = readings_of(reader, files)
    assert 95 < large.mebibytes < 120
    assert max(first.mebibytes, last.mebibytes) < 20


class Reading(NamedTuple):
    """What became of a file and a reader.

    Attributes:
        case: The reader, and the file's name.
        outcome: As `outcome_of` has it.
        seconds: Of the processor, because other tests run beside.
        mebibytes: By how many the process was larger at the most than before all files. What one file leaves
            behind counts for all after it, so that none looks smaller than it is.
    """

    case: str
    outcome: str
    seconds: float
    mebibytes: float

    @property
    def verdict(self) -> str:
        if self.seconds > SECONDS:
            return f"{self.seconds:.1f} s"
        return self.outcome if self.mebibytes < MEBIBYTES else f"{self.mebibytes:.0f} MiB"


def readings_of(operations: dict[str, Operation], files: Sequence[str]) -> Iterator[Reading]:
    """Let each reader read each file."""
    for operation in operations.values():  # what is loaded at the first use is no file's
        outcome_of(operation, Path(files[0]).read_bytes())
    before = resident("VmRSS")
    for path in map(Path, files):
        data = path.read_bytes()
        for name, operation in operations.items():
            CLEAR_REFS.write_text("5")
            started = time.process_time()
            outcome = outcome_of(operation, data)
            seconds = time.process_time() - started
            yield Reading(f"{name} {path.name}", outcome, seconds, resident("VmHWM") - before)


def resident(field: str) -> float:
    """MiB of this process: "VmRSS" now, "VmHWM" at the highest point."""
    return int(STATUS.read_text().partition(f"{field}:")[2].split(maxsplit=1)[0]) / 1024


def main() -> None:
    """Take a task on standard input; print what each reader made of each file."""
    task = json.load(sys.stdin)
    with open_token(task["module"], task["token"], Pin(task["pin"])) as token:
        (certificate,) = load_certificates(task["certificate"].encode())
        operations = operations_with(open_key(token, task["key"]), certificate)
        json.dump(list(readings_of(operations, task["files"])), sys.stdout)


def test_each_file_is_inspected_or_refused(files_of: Callable[..., Sequence[Path]], tally: Any) -> None:  # noqa: ANN401
    runner = CliRunner()
    for path in files_of("fuzz-cms"):
        started = time.process_time()
        result = runner.invoke(root, ["inspect", str(path), "--json"])
        typed = result.exception is None or isinstance(result.exception, TokensignError)
        outcome = "typed" if typed else repr(result.exception)
        if result.exit_code == 0:
            json.loads(result.stdout)
        if time.process_time() - started > SECONDS:
            outcome = "slow"
        tally.check(path.name, outcome, "typed")


def test_the_short_way_to_read_signed_data_finds_what_the_other_finds(
    files_of: Callable[..., Sequence[Path]],
) -> None:
    for path in (*files_of("fuzz-cms"), *files_of("nss")):
        if small := _read_small(io.BytesIO(path.read_bytes())):
            assert small == _read_in_place(io.BytesIO(path.read_bytes())), path.name


if __name__ == "__main__":
    main()
