"""The harness: whatever comes in, only errors of tokensign come out."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["tokensign", "asn1crypto"]):
    from fuzz.identities import FOLDER, decryption_keys
    from tokensign.cms import ber
    from tokensign.cms.layers import open_layers, walk_layers
    from tokensign.cms.recipients import key_derivation
    from tokensign.cms.signed_data import read_signed_data
    from tokensign.cms.verify import verify_signatures
    from tokensign.errors import TokensignError
    from tokensign.smime.open_mail import open_mail
    from tokensign.smime.unwrap import open_message
    from tokensign.verification import Expectations

KEYS = decryption_keys()
CONTENT = b"seed"
CORPORA = ("rfc4134", "nss", "openssl-cms", "pqc", "rfc3161", "fuzz-cms")
MAX_SEED_SIZE = 1 << 14
_EXPECTATIONS = Expectations(trust=None, legacy=True)


key_derivation.MAX_ITERATIONS = 10_000  # seconds of hashing tell nothing new
key_derivation.MAX_SCRYPT_COST = 1 << 14


def test_one_input(data: bytes) -> None:
    """Read, verify, decrypt and describe one message, or one mail."""
    for reader in (_ber, _signed, _layers, _opened, _mail):
        with contextlib.suppress(TokensignError):
            reader(data)


def _ber(data: bytes) -> None:
    definite = ber.to_der(data)
    if ber.to_der(definite) != definite:
        raise AssertionError("what is in definite form changed")


def _signed(data: bytes) -> None:
    """Verified as DER, with the old algorithms too, and described."""
    message = read_signed_data(open_message(io.BytesIO(data)).cms)
    pieces = message.content.chunks() if message.content else [CONTENT]
    for result in verify_signatures(message, pieces, legacy=True):
        str(result.scheme)
    with contextlib.suppress(TokensignError):
        _ = message.ocsp_responses
    for info in message.signer_infos:
        with contextlib.suppress(TokensignError):
            str(info.identifier)


def _layers(data: bytes) -> None:
    for layer in walk_layers(open_message(io.BytesIO(data)).cms):
        str(layer)


def _opened(data: bytes) -> None:
    output = io.BytesIO()
    try:
        open_layers(open_message(io.BytesIO(data)).cms, KEYS, output, legacy=True)
    except TokensignError:
        if output.getvalue():
            raise AssertionError("a failure left something in the output") from None
        raise


def _mail(data: bytes) -> None:
    output = io.BytesIO()
    report = open_mail(io.BytesIO(data), _EXPECTATIONS, KEYS, output, legacy=True)
    if output.getvalue() and not report.holds:
        raise AssertionError("a mail that does not hold was written")
    str(report.to_json())


def _seed_folders() -> list[str]:
    """The seeds and, flat in a temporary folder, what is small enough of the public test data."""
    folders = [str(FOLDER / "seeds")]
    public = Path(os.environ.get("TOKENSIGN_CORPORA", FOLDER.parents[1] / "shared" / "corpora"))
    if public.is_dir():
        gathered = Path(tempfile.mkdtemp(prefix="seeds-"))
        for folder in CORPORA:
            for number, path in enumerate(sorted((public / folder).rglob("*"))):
                if path.is_file() and path.stat().st_size <= MAX_SEED_SIZE:
                    (gathered / f"{folder}-{number}").write_bytes(path.read_bytes())
        folders.append(str(gathered))
    return folders


def main() -> None:
    """Run libFuzzer."""
    arguments = sys.argv
    if all(argument.startswith("-") for argument in arguments[1:]):
        found = tempfile.mkdtemp(prefix="corpus-")  # new inputs go there, not between the seeds
        arguments = [*arguments, found, *_seed_folders()]
    atheris.Setup(arguments, test_one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
