"""`tokensign openpgp`, inside this process."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pysequoia
import pytest
from click.testing import CliRunner

from tokensign.algorithms import KeyUsage
from tokensign.cli.root import root
from tokensign.errors import DecryptionError, TokensignError, UsageError
from tokensign.pki.ca import self_signed
from tokensign.token import import_certificate

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import Gpg

    from tokensign.token import Token, TokenKey

USER_ID = "Alice <alice@acme.example>"
SIGNING, DECRYPTING = "command-ec:p256-sign", "command-ec:p256-decrypt"


@pytest.fixture
def run(token_key: Callable[..., TokenKey], token: Token, pin_file: Path) -> Callable[..., Any]:
    """Run a command to its end; the document that it prints."""
    for usage in (KeyUsage.SIGN, KeyUsage.DECRYPT):
        token_key("ec:p256", usage, name="command")

    def call(*arguments: object) -> Any:  # noqa: ANN401 - JSON
        options = ["--json", "--token", token.info.label, "--pin-source", f"file:{pin_file}"]
        done = CliRunner().invoke(root, [*options, "openpgp", *map(str, arguments)])
        if isinstance(done.exception, TokensignError):
            raise done.exception
        assert done.exit_code == 0, (done.output, done.exception)
        return json.loads(done.output)

    return call


@pytest.fixture
def certificate(run: Callable[..., Any], tmp_path: Path, gpg: Gpg) -> Path:
    """Alice's certificate, which GnuPG has imported."""
    file = tmp_path / "alice.asc"
    options = ["--created", "2026-01-31T12:00:00Z", "--encryption-key", DECRYPTING, "-o", file]
    run("certificate", SIGNING, "--user-id", USER_ID, *options)
    gpg.run("--import", file)
    return file


def fingerprint(certificate: Path) -> str:
    return pysequoia.Cert.from_file(str(certificate)).fingerprint.upper()


def test_signature_names_the_key_of_the_certificate(
    run: Callable[..., Any], certificate: Path, tmp_path: Path, gpg: Gpg
) -> None:
    content = tmp_path / "contract.txt"
    content.write_bytes(b"Pay 100\n")
    document = run("sign", content, "--key", SIGNING, "--certificate", certificate)
    signature = tmp_path / "contract.txt.asc"
    assert document["output"] == str(signature)
    assert gpg.verifies(signature.read_bytes(), content.read_bytes()) == document["fingerprint"]


def test_time_of_creation_names_the_same_key(
    run: Callable[..., Any], certificate: Path, tmp_path: Path, gpg: Gpg
) -> None:
    content = tmp_path / "contract.txt"
    content.write_bytes(b"Pay 100\n")
    output = tmp_path / "text.asc"
    options = ["--created", "2026-01-31T12:00:00Z", "--text", "-o", output]
    document = run("sign", content, "--key", SIGNING, *options)
    assert gpg.verifies(output.read_bytes(), b"Pay 100\r\n") == document["fingerprint"]
    again = run(
        "certificate", SIGNING, "--user-id", USER_ID, "--certificate", certificate, "-o", output, "--force"
    )
    assert again["fingerprint"] == document["fingerprint"]


def test_file_is_decrypted_whole(
    run: Callable[..., Any], certificate: Path, tmp_path: Path, gpg: Gpg
) -> None:
    message, output, inside = (tmp_path / name for name in ("report.gpg", "report", "inside"))
    message.write_bytes(
        gpg.run("--encrypt", "--recipient", fingerprint(certificate), content=b"secret").stdout
    )
    options = [message, "--key", DECRYPTING, "--certificate", certificate]
    document = run("decrypt", *options, "-o", output)
    assert output.read_bytes() == b"secret"
    assert output.stat().st_mode & 0o777 == 0o600
    assert (document["authenticated"], document["signed"]) == (True, False)
    run("decrypt", *options, "--packets", "-o", inside)
    assert gpg.run("--decrypt", inside).stdout == b"secret"


def test_signature_inside_is_told_and_not_believed(
    run: Callable[..., Any], certificate: Path, tmp_path: Path
) -> None:
    sender = pysequoia.Tsk.generate("Bob <bob@acme.example>")
    to = [pysequoia.Cert.from_file(str(certificate))]
    message, output = tmp_path / "report.asc", tmp_path / "report"
    message.write_bytes(pysequoia.encrypt(bytes=b"secret", recipients=to, signer=sender.signer()))
    document = run("decrypt", message, "--key", DECRYPTING, "--certificate", certificate, "-o", output)
    assert (document["signed"], len(document["signers"])) == (True, 1)
    assert document["signatures_verified"] is False


def test_file_that_was_changed_leaves_nothing(
    run: Callable[..., Any], certificate: Path, tmp_path: Path, gpg: Gpg
) -> None:
    message, output = tmp_path / "report.gpg", tmp_path / "report"
    made = gpg.run("--encrypt", "--recipient", fingerprint(certificate), content=b"secret").stdout
    message.write_bytes(made[:-1] + bytes((made[-1] ^ 1,)))
    with pytest.raises(DecryptionError):
        run("decrypt", message, "--key", DECRYPTING, "--certificate", certificate, "-o", output)
    assert not output.exists()


def test_mail_is_signed_and_opened(
    run: Callable[..., Any], certificate: Path, tmp_path: Path, gpg: Gpg
) -> None:
    mail, signed, encrypted, output = (tmp_path / name for name in ("mail", "signed", "encrypted", "opened"))
    mail.write_bytes(b"From: alice@acme.example\nSubject: hello\n\nDear Bob\n")
    run("sign", mail, "--mail", "--key", SIGNING, "--certificate", certificate, "-o", signed)
    assert b"application/pgp-signature" in signed.read_bytes()
    options = ["--armor", "--encrypt", "--recipient", fingerprint(certificate)]
    message = gpg.run(*options, content=b"\nDear Alice\n").stdout
    encrypted.write_bytes(
        b"From: bob@acme.example\n"
        b'Content-Type: multipart/encrypted; protocol="application/pgp-encrypted"; boundary=x\n\n'
        b"--x\nContent-Type: application/pgp-encrypted\n\nVersion: 1\n\n"
        b"--x\nContent-Type: application/octet-stream\n\n" + message + b"\n--x--\n"
    )
    run("decrypt", encrypted, "--mail", "--key", DECRYPTING, "--certificate", certificate, "-o", output)
    assert output.read_bytes().endswith(b"\nDear Alice\n")


def test_key_is_dated_by_its_first_certificate(
    run: Callable[..., Any], token: Token, token_key: Callable[..., TokenKey], tmp_path: Path
) -> None:
    key = token_key("ec:p384", KeyUsage.SIGN, name="dated")
    first = self_signed(key, "CN=Alice", ["alice@acme.example"])
    import_certificate(token, first)
    document = run("certificate", key.info.label, "--user-id", USER_ID, "-o", tmp_path / "alice.asc")
    assert document["created"] == first.not_before.isoformat()


def test_key_that_nothing_dates_is_refused(run: Callable[..., Any], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nothing tells when"):
        run("certificate", SIGNING, "--user-id", USER_ID, "-o", tmp_path / "alice.asc")


@pytest.mark.parametrize(
    ("options", "what"),
    [
        (["sign", "F", "--key", SIGNING, "--text", "--mail"], "--text and --mail"),
        (["decrypt", "F", "--key", DECRYPTING, "--packets", "--mail", "-o", "X"], "--packets"),
        (["sign", "F", "--key", SIGNING, "--certificate", "F", "--rfc9580"], "--certificate says"),
        (["sign", "F", "--key", SIGNING, "--created", "2099-01-01"], "in the future"),
    ],
)
def test_options_that_contradict_each_other_are_refused(
    run: Callable[..., Any], tmp_path: Path, options: list[str], what: str
) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"x")
    places = {"F": str(file), "X": str(tmp_path / "output")}
    with pytest.raises(UsageError, match=what):
        run(*(places.get(option, option) for option in options))
