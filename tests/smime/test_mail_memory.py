"""Mail of any size is composed and opened in constant memory."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

MEBIBYTE = 1 << 20
TESTS = Path(__file__).parents[1]

# A process of its own, because the peak is that of a process and is never forgotten.
PROGRAM = """
import resource, sys, tempfile
sys.path.insert(0, sys.argv[1])
from mail_people import person, trusting
from tokensign.smime.compose_mail import encrypt_mail
from tokensign.smime.open_mail import open_mail

alice, bob = person("alice@acme.example"), person("bob@acme.example")

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

def compose(mail):
    output = tempfile.TemporaryFile()
    encrypt_mail(mail, [bob.certificate], output, signers=[alice])
    opened = tempfile.TemporaryFile()
    assert open_mail(output, trusting(), [bob], opened).verdict == "good"
    return opened.tell()

def letter(lines):
    mail = tempfile.TemporaryFile()
    mail.write(b"From: alice@acme.example\\nTo: bob@acme.example\\nSubject: large\\n")
    mail.write(b"Content-Type: application/pdf\\nContent-Transfer-Encoding: 8bit\\n\\n")
    for _ in range(lines // 1024):
        mail.write((bytes(range(128, 191)) + b"\\n") * 1024)
    return mail

compose(letter(1024))
before = peak()
assert compose(letter(int(sys.argv[2]) // 64)) > int(sys.argv[2])
print(peak() - before)
"""


@pytest.mark.parametrize("size", [32, pytest.param(1024, marks=pytest.mark.full)])
def test_a_large_attachment_takes_no_more_memory_than_a_small_one(size: int) -> None:
    """The rest are spools, which stay in memory up to their limit."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, TESTS, str(size * MEBIBYTE)],
        env={name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 24 * MEBIBYTE
