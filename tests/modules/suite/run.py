"""Runs the behavioural suite on the token that the environment names, and writes the outcomes as JSON.

    python -m tests.modules.suite.run PART FOLDER SECONDS

It is the same for every module, and runs where the module lives. PART is one of `PARTS`, in this order.
FOLDER has a file with the PIN of the security officer and gets PART.json. SECONDS is the length of the soak.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.modules.control import Control
from tests.modules.suite import agreement, decryption, load, objects, operations, pins, signing, wrapping
from tests.modules.suite.bench import Bench
from tests.modules.suite.cells import attempt
from tokensign.token import load_module, parse_pin_source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tests.modules.suite.cells import Case

__all__ = ["PARTS"]

PARTS: Final[dict[str, Sequence[Callable[[Bench], Iterator[Case]]]]] = {
    "use": (
        objects.generation_cases,
        signing.cases,
        signing.cms_cases,
        decryption.cases,
        agreement.cases,
        wrapping.cases,
        objects.cases,
        operations.cases,
    ),
    "load": (load.cases,),
    "pins": (pins.cases,),
}
"""Each part is a process of its own: a login belongs to the process, and a crash would end it."""


def main(arguments: Sequence[str]) -> None:
    """Run one part."""
    part, folder, seconds = arguments
    bench = Bench(
        load_module(os.environ["TOKENSIGN_MODULE"]),
        os.environ["TOKENSIGN_TOKEN"],
        parse_pin_source(os.environ["TOKENSIGN_PIN_SOURCE"]),
        Path(folder),
        Control.from_environment(),
        float(seconds),
    )
    cells = [attempt(case) for case in chain.from_iterable(cases(bench) for cases in PARTS[part])]
    module = bench.module
    version = ".".join(map(str, module.library_version))
    outcome = {"library": f"{module.description} {version}", "cells": [asdict(cell) for cell in cells]}
    Path(folder, f"{part}.json").write_text(json.dumps(outcome))


if __name__ == "__main__":
    main(sys.argv[1:])
