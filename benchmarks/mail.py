# ruff: noqa: T201 - a benchmark prints what it measured
"""Mail signed, encrypted and opened beside `openssl cms`, endesive and python-smail; and one large mail.

    python -m benchmarks.mail [--mails N] [--size OCTETS] [--rounds N]
    python -m benchmarks.mail --attachment 1G [--folder DIR]

All take turns in one run, and times are of processor time, that of processes which were started included.
The slow ones handle fewer mails, and their times are scaled to all of them: openssl, with a process for each
mail, and endesive one where tokensign handles 50, python-smail one where it handles 10. The key of tokensign
is in SoftHSM, those of the others in files; all keys are RSA-2048 with a certificate that is its own anchor.

With --attachment, whole processes sign, encrypt and open one mail, and their peak memory is shown. It needs
twelve times the size on disk.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import io
import itertools
import os
import resource
import statistics
import sys
import tempfile
from dataclasses import dataclass, field
from email.utils import formatdate
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.identities import USER_PIN, certified_key, throwaway_token
from benchmarks.mail_peers import Peer, peers
from benchmarks.processes import octets, run
from tokensign.pki.trust import TrustPolicy
from tokensign.smime.compose_mail import encrypt_mail, sign_mail
from tokensign.smime.open_mail import open_mail
from tokensign.verification import Expectations

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from benchmarks.mail_peers import Step
    from tokensign.certificates import Certificate
    from tokensign.token import TokenKey

KEY = "rsa:2048"
DIFFERENT = 50  # mails that are not alike; they are handled again and again
LINE = b"The quick brown fox jumps over the lazy dog. 0123456789\r\n"
BLOCK = 57 << 14  # octets that are whole lines of base64


@dataclass(slots=True)
class Turns:
    """One contender at one kind of work.

    Attributes:
        name: Who.
        share: It handles one mail where the first contender handles as many.
        step: Handles a mail.
        mails: What is handled, again and again.
        costs: Seconds of processor time for a mail, in each round.
    """

    name: str
    share: int
    step: Step
    mails: Sequence[bytes]
    costs: list[float] = field(default_factory=list)

    def take(self, count: int) -> None:
        """Have a turn of `count` mails."""
        begin = _processor_time()
        for mail in itertools.islice(itertools.cycle(self.mails), count):
            self.step(mail)
        self.costs.append((_processor_time() - begin) / count)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.mail", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--mails", type=int, default=10_000, help="mails in a run (default: 10000)")
    parser.add_argument("--size", type=int, default=20_000, help="octets of a mail (default: 20000)")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each (default: 5)")
    parser.add_argument("--attachment", metavar="SIZE", help="measure one mail with this attachment instead")
    parser.add_argument("--folder", type=Path, help="where the files are put (default: the temporary folder)")
    arguments = parser.parse_args()
    with contextlib.ExitStack() as held:
        folder = Path(held.enter_context(tempfile.TemporaryDirectory(dir=arguments.folder)))
        token = held.enter_context(throwaway_token())
        key = certified_key(token, KEY)
        if key.certificate is None:
            raise SystemExit("the token did not keep the certificate")
        if arguments.attachment:
            _measure_attachment(folder, key.certificate, arguments.attachment)
        else:
            _measure_mails(folder, key, key.certificate, arguments.mails, arguments.size, arguments.rounds)


# --- many mails


def _measure_mails(
    folder: Path, key: TokenKey, certificate: Certificate, count: int, size: int, rounds: int
) -> None:
    mails = [_mail(number, size) for number in range(DIFFERENT)]
    contenders = [_ourselves(key, certificate), *peers(folder)]
    print(f"{count:,} mails of {size:,} octets, {KEY}")
    print(f"{'':34}{'a mail':>12}{f'{count:,}':>12}{'measured':>10}{'ratio':>8}")
    for title, made, handled in (
        ("signed", None, "sign"),
        ("verified", "sign", "verify"),
        ("signed and encrypted", None, "encrypt"),
        ("decrypted and verified", "encrypt", "decrypt"),
    ):
        turns = []
        for one in contenders:
            step: Step | None = getattr(one, handled)
            if step is None:
                continue
            given = list(map(getattr(one, made), mails[: max(1, DIFFERENT // one.share)])) if made else mails
            turns.append(Turns(one.name, one.share, step, given))
        _take_turns(turns, count, rounds)
        print(title)
        for turn in turns:
            _print(turn, turns[0], count, rounds)


def _take_turns(turns: Sequence[Turns], count: int, rounds: int) -> None:
    for one in turns:
        one.take(1)  # which warms everything up
        one.costs.clear()
    for number in range(rounds):
        start = number % len(turns)
        for one in (*turns[start:], *turns[:start]):
            one.take(max(1, count // rounds // one.share))


def _print(one: Turns, first: Turns, count: int, rounds: int) -> None:
    """The median time of a mail, scaled to all of them, and the median of the ratios in each round."""
    cost = statistics.median(one.costs)
    ratio = statistics.median(own / other for own, other in zip(one.costs, first.costs, strict=True))
    measured = max(1, count // rounds // one.share) * rounds
    print(f"  {one.name:<32}{cost * 1e6:>9,.0f} us{cost * count:>10,.1f} s{measured:>10,}{ratio:>8.1f}")


def _mail(number: int, size: int) -> bytes:
    header = (
        f"From: Bench <bench@acme.example>\r\nTo: Bench <bench@acme.example>\r\nSubject: Mail {number}\r\n"
        f"Date: {formatdate()}\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n"
    ).encode("ascii")
    return header + LINE * ((size - len(header)) // len(LINE))


def _ourselves(key: TokenKey, certificate: Certificate) -> Peer:
    """Tokensign, with everything that its commands do: headers protected, each signature checked."""
    expectations = Expectations(trust=TrustPolicy((certificate,)))

    def sign(mail: bytes) -> bytes:
        output = io.BytesIO()
        sign_mail(io.BytesIO(mail), [key], output)
        return output.getvalue()

    def encrypt(mail: bytes) -> bytes:
        output = io.BytesIO()
        encrypt_mail(io.BytesIO(mail), [certificate], output, signers=[key])
        return output.getvalue()

    def opened(mail: bytes) -> bytes:
        output = io.BytesIO()
        report = open_mail(io.BytesIO(mail), expectations, [key], output)
        if report.verdict != "good":
            raise ValueError(report.summary())
        return output.getvalue()

    return Peer("tokensign", 1, sign, encrypt, opened, opened)


def _processor_time() -> float:
    """Seconds of this process and of those it has waited for."""
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


# --- one large mail


def _measure_attachment(folder: Path, certificate: Certificate, size: str) -> None:
    (folder / "cert").write_text(certificate.pem())
    (folder / "pin").touch(mode=0o600)
    (folder / "pin").write_text(USER_PIN)
    with (folder / "mail").open("wb") as mail:
        mail.writelines(_mail_with_attachment(octets(size)))
    idle = run([sys.executable, "-c", "pass"])
    print(f"a mail with an attachment of {size}; an idle interpreter: {idle.peak >> 20} MiB")
    for name, arguments in _operations(folder):
        cost = run([sys.executable, "-m", "tokensign", "mail", *arguments])
        print(f"  {name:<32}{cost.seconds:>9.2f} s{cost.peak >> 20:>8,} MiB")


def _mail_with_attachment(size: int) -> Iterator[bytes]:
    yield (
        b"From: bench@acme.example\r\nTo: bench@acme.example\r\nSubject: large\r\nDate: "
        + formatdate().encode("ascii")
        + b'\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary="part"\r\n\r\n'
        b"--part\r\nContent-Type: text/plain\r\n\r\nHere it is.\r\n"
        b"--part\r\nContent-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n"
        b'Content-Disposition: attachment; filename="large"\r\n\r\n'
    )
    for start in range(0, size, BLOCK):
        yield base64.encodebytes(os.urandom(min(BLOCK, size - start))).replace(b"\n", b"\r\n")
    yield b"--part--\r\n"


def _operations(folder: Path) -> Iterator[tuple[str, Sequence[object]]]:
    """In this order: each reads what one before has written."""
    at = folder.joinpath
    pin = ("--pin-source", f"file:{at('pin')}")
    to, trust = ("--to", at("cert")), ("--trust", at("cert"))
    yield "signed", ("sign", at("mail"), "--key", KEY, *pin, "-o", at("signed"))
    yield "verified", ("open", at("signed"), *trust, "-o", at("opened"))
    yield "encrypted", ("encrypt", at("mail"), *to, "-o", at("encrypted"))
    yield "decrypted", ("open", at("encrypted"), *trust, *pin, "-o", at("opened"), "--force")
    yield "signed and encrypted", ("encrypt", at("mail"), *to, "--sign-with", KEY, *pin, "-o", at("both"))
    yield "decrypted and verified", ("open", at("both"), *trust, *pin, "-o", at("opened"), "--force")


if __name__ == "__main__":
    main()
