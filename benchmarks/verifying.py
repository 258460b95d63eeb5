"""Detached CMS signatures verified, integrity alone, beside the bare public-key operation.

python -m benchmarks.verifying [--size OCTETS] [--rounds N] [--seconds S] [--key SPEC]...
"""

from __future__ import annotations

import argparse
import io
import os
from typing import TYPE_CHECKING

from benchmarks.identities import certified_key, throwaway_token
from benchmarks.rounds import Contender, measure, print_table
from tokensign.algorithms import default_scheme
from tokensign.cms.signature import verify_fresh
from tokensign.cms.signed import sign_detached
from tokensign.cms.signed_data import read_signed_data
from tokensign.cms.verify import verify_signatures

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tokensign.token import TokenKey


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.verifying", description=__doc__)
    parser.add_argument("--size", type=int, default=10_240, help="octets of the content (default: 10240)")
    parser.add_argument("--rounds", type=int, default=9, help="turns of each contender (default: 9)")
    parser.add_argument("--seconds", type=float, default=0.3, help="length of a turn (default: 0.3)")
    parser.add_argument("--key", action="append", help="type of key (default: rsa:2048 and ec:p256)")
    arguments = parser.parse_args()
    content = os.urandom(arguments.size)
    with throwaway_token() as token:
        for spec in arguments.key or ("rsa:2048", "ec:p256"):
            contenders = list(_contenders(certified_key(token, spec), content))
            measured = measure(contenders, rounds=arguments.rounds, seconds=arguments.seconds)
            print_table(f"{spec}, {arguments.size:,} octets, detached, verified", measured)


def _contenders(key: TokenKey, content: bytes) -> Iterator[Contender]:
    scheme = default_scheme(key.public_key)
    signature = key.sign(content, scheme)
    message = sign_detached(io.BytesIO(content), [key])

    def bare(count: int) -> None:
        for _ in range(count):
            verify_fresh(key.public_key, scheme, signature, message=content)

    def whole(count: int) -> None:
        for _ in range(count):
            (result,) = verify_signatures(read_signed_data(io.BytesIO(message)), [content])
            if result.error:
                raise result.error

    yield Contender("public-key operation (cryptography)", bare)
    yield Contender("tokensign, integrity", whole)


if __name__ == "__main__":
    main()
