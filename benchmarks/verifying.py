"""Detached CMS signatures verified: integrity beside the bare public-key operation, all beside pyHanko.

python -m benchmarks.verifying [--size OCTETS] [--rounds N] [--seconds S] [--key SPEC]...
"""

from __future__ import annotations

import argparse
import io
import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from benchmarks.identities import certified_key, chained_key, throwaway_token
from benchmarks.peers import pyhanko_verifier
from benchmarks.rounds import Contender, measure, print_table
from tokensign.algorithms import default_scheme
from tokensign.cms import signed_data
from tokensign.cms.signature import verify_fresh
from tokensign.cms.signed import SigningOptions, sign_detached
from tokensign.cms.signed_data import read_signed_data
from tokensign.cms.verify import verify_signatures
from tokensign.pki.trust import CHAINS, TrustPolicy
from tokensign.verification import Expectations, verify

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tokensign.token import Token, TokenKey


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
            for title, contenders in (
                ("integrity", list(_integrity(certified_key(token, spec), content))),
                ("integrity, path of three certificates, identity", list(_all(token, spec, content))),
            ):
                measured = measure(contenders, rounds=arguments.rounds, seconds=arguments.seconds)
                print_table(f"{spec}, {arguments.size:,} octets, detached, verified: {title}", measured)


def _integrity(key: TokenKey, content: bytes) -> Iterator[Contender]:
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


def _all(token: Token, spec: str, content: bytes) -> Iterator[Contender]:
    key, (intermediate, root) = chained_key(token, spec)
    message = sign_detached(io.BytesIO(content), [key], SigningOptions(extra_certificates=[intermediate]))
    expectations = Expectations(
        trust=TrustPolicy((root,)), email="bench@acme.example", moment=datetime.now(UTC)
    )

    def warm(count: int) -> None:
        for _ in range(count):
            verify(io.BytesIO(message), expectations, io.BytesIO(content))

    def cold(count: int) -> None:
        for _ in range(count):
            CHAINS.clear()
            signed_data._certificate.cache_clear()  # noqa: SLF001 - nobody else wants to forget them
            verify(io.BytesIO(message), expectations, io.BytesIO(content))

    yield pyhanko_verifier(message, content, root)
    yield Contender("tokensign, cold", cold)
    yield Contender("tokensign, warm chain cache", warm)


if __name__ == "__main__":
    main()
