"""OpenSSL's fuzzing corpus: no verdict, only our errors, quickly, and in bounded memory."""

from __future__ import annotations

import io
import json
import resource
import time
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from tokensign.algorithms import KeyUsage
from tokensign.cli.root import root
from tokensign.cms.authenticated import verify_authenticated_data
from tokensign.cms.compressed import decompress
from tokensign.cms.decrypt import decrypt
from tokensign.cms.digested import verify_digested_data
from tokensign.cms.encrypted import decrypt_with_key
from tokensign.cms.layers import open_layers, walk_layers
from tokensign.cms.recipients.kek_bytes import KeyEncryptionKeyBytes
from tokensign.errors import TokensignError
from tokensign.keys import Password
from tokensign.smime.unwrap import open_message
from tokensign.verification import Expectations, verify

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from tokensign.certificates import Certificate
    from tokensign.keys import DecryptionKey
    from tokensign.token import TokenKey

    Operation = Callable[[io.BytesIO], object]

SECONDS = 1.0  # of the processor, because other tests run beside
KIBIBYTES = 200 << 10  # more resident at the highest point, of all files together


@pytest.fixture
def operations(token_key: Callable[..., TokenKey], issue: Callable[..., Certificate]) -> dict[str, Operation]:
    """Everything that reads a message."""
    mine = token_key("rsa:2048", KeyUsage.BOTH)
    expectations = Expectations(trust=None, certificates=[issue(mine.public_key, "somebody")], legacy=True)
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


def test_each_file_is_read_or_refused_in_time_and_in_bounded_memory(
    files_of: Callable[..., Sequence[Path]],
    operations: dict[str, Operation],
    tally: Any,  # noqa: ANN401
) -> None:
    highest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for path in files_of("fuzz-cms"):
        data = path.read_bytes()
        for name, operation in operations.items():
            started = time.process_time()
            outcome = "typed"
            try:
                operation(io.BytesIO(data))
            except TokensignError:
                pass
            except Exception as error:  # noqa: BLE001 - what this test is looking for
                outcome = repr(error)
            if time.process_time() - started > SECONDS:
                outcome = "slow"
            tally.check(f"{name} {path.name}", outcome, "typed")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - highest < KIBIBYTES


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
