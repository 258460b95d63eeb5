# ruff: noqa: T201 - a benchmark prints what it measured
"""Large files beside `openssl cms`: processor time and peak memory of whole processes, in turns.

    python -m benchmarks.large_files [--size 4G] [--rounds N] [--folder DIR] [--only NAME]...

Each operation runs as a process of its own; what a Python interpreter takes before it does anything is shown
first, to be subtracted. Each reads what it has written, and tokensign also what openssl has, in segments of
4096 octets. The keys are in SoftHSM for tokensign and in files for openssl. Needs ten times the size on disk.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.identities import USER_PIN, certified_key, throwaway_token
from benchmarks.processes import Cost, FailedError, octets, run

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class Operation:
    """The same work for both.

    Attributes:
        name: What it is.
        ours: The command line of tokensign.
        theirs: The command line of openssl.
    """

    name: str
    ours: Sequence[object]
    theirs: Sequence[object]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.large_files", description=__doc__)
    parser.add_argument("--size", default="256M", help="size of the file, such as 64M or 4G (default: 256M)")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each (default: 3)")
    parser.add_argument("--folder", type=Path, help="where the files are put (default: the temporary folder)")
    parser.add_argument("--only", action="append", default=[], help="measure these operations alone")
    arguments = parser.parse_args()
    with contextlib.ExitStack() as held:
        folder = Path(held.enter_context(tempfile.TemporaryDirectory(dir=arguments.folder)))
        token = held.enter_context(throwaway_token())
        certificate = certified_key(token, "rsa:2048").certificate
        if certificate is None:
            raise SystemExit("the token did not keep the certificate")
        (folder / "ours.pem").write_text(certificate.pem())
        _make_files(folder, octets(arguments.size))
        idle = run([sys.executable, "-c", "pass"])
        print(f"{arguments.size} file; an idle interpreter: {idle.peak >> 20} MiB")
        print(f"{'':<24}{'tokensign':>22}{'openssl':>22}{'time':>9}{'memory':>9}")
        for operation in _operations(folder):
            if not arguments.only or operation.name in arguments.only:
                _compare(operation, arguments.rounds)


def _make_files(folder: Path, size: int) -> None:
    with (folder / "content").open("wb") as content:
        for start in range(0, size, BLOCK):
            content.write(os.urandom(min(BLOCK, size - start)))
    (folder / "pin").touch(mode=0o600)
    (folder / "pin").write_text(USER_PIN)
    request = "req -x509 -newkey rsa:2048 -nodes -subj /CN=bench -days 2"
    command = ["openssl", *request.split(), "-keyout", folder / "key.pem", "-out", folder / "cert.pem"]
    subprocess.run(command, check=True, capture_output=True)


def _operations(folder: Path) -> Iterator[Operation]:
    """In this order: each reads what one before has written."""
    at = folder.joinpath
    token = ["--pin-source", f"file:{at('pin')}", "--key", "rsa:2048"]
    certificate, key = ["-signer", at("cert.pem")], ["-inkey", at("key.pem")]
    recipient = ["-recip", at("cert.pem")]
    oaep = ["-keyopt", "rsa_padding_mode:oaep"]
    both = [*recipient, *oaep, "-recip", at("ours.pem"), *oaep]
    der_in, der_out = ["-inform", "DER"], ["-stream", "-outform", "DER"]

    def ours(*arguments: object, to: str) -> Sequence[object]:
        return [sys.executable, "-m", "tokensign", *arguments, "-o", at(to), "--force"]

    def theirs(*arguments: object, to: str) -> Sequence[object]:
        return ["openssl", "cms", "-binary", *arguments, "-out", at(to)]

    yield Operation(
        "sign attached",
        ours("sign", at("content"), "--attached", *token, to="ours.p7m"),
        theirs("-sign", "-nodetach", "-in", at("content"), *der_out, *certificate, *key, to="theirs.p7m"),
    )
    for name, written in (("verify attached", "ours.p7m"), ("verify openssl's", "theirs.p7m")):
        yield Operation(
            name,
            ours("verify", at(written), "--signature-only", to="ours.out"),
            theirs("-verify", "-noverify", "-in", at("theirs.p7m"), *der_in, to="theirs.out"),
        )
    for cipher in ("aes-256-gcm", "aes-256-cbc"):
        one, other = f"ours-{cipher}.p7m", f"theirs-{cipher}.p7m"
        yield Operation(
            f"encrypt {cipher}",
            ours("encrypt", at("content"), "--to", at("ours.pem"), "--cipher", cipher, to=one),
            theirs("-encrypt", f"-{cipher}", "-in", at("content"), *der_out, *both, to=other),
        )
        for name, written in ((f"decrypt {cipher}", one), (f"decrypt openssl's {cipher[-3:]}", other)):
            yield Operation(
                name,
                ours("decrypt", at(written), *token, to="ours.out"),
                theirs("-decrypt", "-in", at(other), *der_in, *recipient, *key, to="theirs.out"),
            )


def _compare(operation: Operation, rounds: int) -> None:
    ours, theirs, refusal = [], [], ""
    for _ in range(rounds):
        ours.append(run(operation.ours))
        try:
            theirs.append(run(operation.theirs))
        except FailedError as error:  # openssl reads whole messages into a buffer that has a limit
            refusal = str(error)
    our = _median(ours)
    if refusal:
        print(f"{operation.name:<24}{_shown(our):>22}{'cannot':>22}   {refusal}")
        return
    their = _median(theirs)
    print(
        f"{operation.name:<24}{_shown(our):>22}{_shown(their):>22}"
        f"{our.seconds / their.seconds:>9.2f}{our.peak / their.peak:>9.2f}"
    )


def _median(costs: Sequence[Cost]) -> Cost:
    seconds = statistics.median(cost.seconds for cost in costs)
    return Cost(seconds, int(statistics.median(cost.peak for cost in costs)))


def _shown(cost: Cost) -> str:
    return f"{cost.seconds:.2f} s {cost.peak >> 20:,} MiB"


if __name__ == "__main__":
    main()
