"""CMS signatures in steady state: how much of the token's own rate is left.

    python -m benchmarks.signing [--size OCTETS] [--rounds N] [--seconds S] [--key SPEC]...

The raw loop signs a ready hash value and does nothing else; the second one hashes the content too. All others
hash the content, build and hash the signed attributes and encode a detached SignedData. Rates are of
processor time.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import io
import os
from typing import TYPE_CHECKING

import pkcs11

from benchmarks import peers
from benchmarks.identities import LABEL, certified_key, throwaway_token
from benchmarks.rounds import Contender, measure, print_table
from tokensign.algorithms import default_scheme
from tokensign.cms.signed import SigningOptions, SigningTemplate, sign_detached

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tokensign.token import Token, TokenKey


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.signing", description=__doc__)
    parser.add_argument("--size", type=int, default=10_240, help="octets of the content (default: 10240)")
    parser.add_argument("--rounds", type=int, default=9, help="turns of each contender (default: 9)")
    parser.add_argument("--seconds", type=float, default=0.5, help="length of a turn (default: 0.5)")
    parser.add_argument("--key", action="append", help="type of key (default: rsa:2048 and ec:p256)")
    arguments = parser.parse_args()
    content = os.urandom(arguments.size)
    with throwaway_token() as token:
        for spec in arguments.key or ("rsa:2048", "ec:p256"):
            contenders = list(_contenders(token, spec, content))
            measured = measure(contenders, rounds=arguments.rounds, seconds=arguments.seconds)
            print_table(f"{spec}, {arguments.size:,} octets, detached", measured)


def _contenders(token: Token, spec: str, content: bytes) -> Iterator[Contender]:
    key = certified_key(token, spec)
    session = (
        pkcs11.lib(str(token.module.path)).get_token(token_label=LABEL).open()
    )  # logged in with the process
    yield peers.raw(session, key, hashlib.sha256(content).digest())
    yield peers.raw_with_hash(session, key, content)
    yield Contender("token key of tokensign, hash value", _hash_value(key, content))
    yield Contender("tokensign, check=False", _template(key, content, SigningOptions(check=False)))
    yield Contender("tokensign (checks each signature)", _template(key, content, SigningOptions()))
    yield Contender(
        "tokensign.sign_detached, check=False", _function(key, content, SigningOptions(check=False))
    )
    if importlib.util.find_spec("pyhanko"):
        yield peers.pyhanko(session, key, content)
    if importlib.util.find_spec("endesive") and spec.startswith("rsa"):  # it writes no ECDSA with an HSM
        yield peers.endesive(session, key, content)


def _hash_value(key: TokenKey, content: bytes) -> Callable[[int], None]:
    scheme, digest = default_scheme(key.public_key), hashlib.sha256(content).digest()

    def repeat(count: int) -> None:
        for _ in range(count):
            key.sign_digest(digest, scheme)

    return repeat


def _template(key: TokenKey, content: bytes, options: SigningOptions) -> Callable[[int], None]:
    template = SigningTemplate([key], options)

    def repeat(count: int) -> None:
        for _ in range(count):
            template.detached(io.BytesIO(content))

    return repeat


def _function(key: TokenKey, content: bytes, options: SigningOptions) -> Callable[[int], None]:
    def repeat(count: int) -> None:
        for _ in range(count):
            sign_detached(io.BytesIO(content), [key], options)

    return repeat


if __name__ == "__main__":
    main()
