"""OpenSSL's fuzzing corpus: no verdict, only our errors, quickly."""

from __future__ import annotations

import io
import json
import time
from typing import TYPE_CHECKING, Any

from click.testing import CliRunner

from tokensign.algorithms import KeyUsage
from tokensign.cms.decrypt import decrypt
from tokensign.errors import TokensignError
from tokensign.smime.unwrap import open_message
from tokensign.verification import Expectations, verify

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tokensign.certificates import Certificate
    from tokensign.token import TokenKey

SECONDS = 1.0  # of the processor, because other tests run beside


def test_each_file_is_read_or_refused_in_time(
    files_of: Callable[..., Sequence[Any]],
    token_key: Callable[..., TokenKey],
    issue: Callable[..., Certificate],
    tally: Any,  # noqa: ANN401
) -> None:
    mine = token_key("rsa:2048", KeyUsage.BOTH)
    somebody = issue(mine.public_key, "somebody")
    expectations = Expectations(trust=None, certificates=[somebody], legacy=True)
    operations: dict[str, Callable[[io.BytesIO], object]] = {
        "open": lambda stream: open_message(stream).close(),
        "verify": lambda stream: verify(stream, expectations, output=io.BytesIO()),
        "verify-detached": lambda stream: verify(stream, expectations, io.BytesIO(b"content")),
        "decrypt": lambda stream: decrypt(stream, [mine], io.BytesIO(), legacy=True),
    }
    for path in files_of("fuzz-cms"):
        data = path.read_bytes()
        for name, operation in operations.items():
            started = time.process_time()
            try:
                operation(io.BytesIO(data))
                outcome = "typed"
            except TokensignError:
                outcome = "typed"
            except Exception as error:  # noqa: BLE001 - what this test is looking for
                outcome = repr(error)
            if time.process_time() - started > SECONDS:
                outcome = "slow"
            tally.check(f"{name} {path.name}", outcome, "typed")


def test_each_file_is_inspected_or_refused(files_of: Callable[..., Sequence[Any]], tally: Any) -> None:  # noqa: ANN401
    from tokensign.cli.root import root

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
