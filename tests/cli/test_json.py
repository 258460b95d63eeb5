"""--json: one document on standard output for every command, with the keys that programs rely on."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from reports import check_document

if TYPE_CHECKING:
    from tests.cli.conftest import Terminal

TOKEN = {
    "label", "uri", "manufacturer", "model", "serial", "slot", "slot_description", "initialized", "pin_state",
    "so_pin_state", "protected_authentication_path",
}  # fmt: skip
KEY = {
    "label", "id", "type", "usages", "uri", "has_certificate", "sensitive", "extractable", "always_sensitive",
    "never_extractable", "private", "local", "always_authenticate",
}  # fmt: skip
CERTIFICATE = {
    "subject", "issuer", "serial_number", "not_before", "not_after", "emails", "key_usage",
    "extended_key_usage", "ca", "sha256",
}  # fmt: skip
STORED = CERTIFICATE | {"label", "id", "uri"}
REQUEST = {
    "id", "state", "authority", "profile", "subject", "requester", "submitter", "addresses", "hosts",
    "approvals_needed", "approvers", "reason", "submitted_at", "decided_at",
}  # fmt: skip
DOCUMENTS: dict[tuple[str, ...], Any] = {
    ("token", "list"): [TOKEN],
    ("token", "info"): TOKEN | {"module", "module_description", "mechanisms"},
    ("token", "init", "new", "--so-pin-source", "file:so-pin"): TOKEN,
    ("token", "change-pin", "--new-pin-source", "file:pin"): {"token", "changed"},
    ("token", "unblock-pin", "--so-pin-source", "file:so-pin", "--new-pin-source", "file:pin"): {
        "token", "unblocked",
    },
    ("key", "generate", "dave", "--type", "ec:p256"): KEY,
    ("key", "list"): [KEY | {"valid_until", "notes"}],
    ("key", "generate", "archive", "--type", "aes:256"): KEY,
    ("key", "show", "alice"): KEY | {"valid_until", "notes", "public_key"},
    ("key", "check"): [{"key", "weak", "findings"}],
    ("key", "delete", "alice", "--yes"): {"deleted"},
    ("key", "retire", "alice", "--yes"): {"retired", "usages"},
    ("key", "destroy", "alice", "--yes"): {"destroyed", "reason"},
    ("cert", "request", "alice", "--subject", "CN=A", "-o", "a.csr"): {"output", "key", "subject"},
    ("cert", "self-sign", "alice", "--subject", "CN=A"): STORED | {"output"},
    ("cert", "import", "ca.pem"): [STORED],
    ("cert", "list"): [STORED],
    ("cert", "show", "alice"): STORED,
    ("cert", "export", "alice", "-o", "exported.pem"): STORED | {"output"},
    ("sign", "letter.txt", "--key", "alice"): {"output", "form", "detached", "signers"},
    ("verify", "signed.p7m", "--trust", "ca.pem"): {
        "verdict", "summary", "failed", "holds", "content_type", "detached", "verified_at", "signers",
    },
    ("encrypt", "letter.txt", "--to", "bob.pem"): {"output", "form", "cipher", "key_transport", "recipients"},
    ("decrypt", "secret.p7m", "-o", "back.txt"): {
        "output", "content_type", "cipher", "authenticated", "layers",
    },
    ("authenticate", "letter.txt", "--to", "bob.pem"): {
        "output", "form", "mac", "digest", "key_transport", "recipients",
    },
    ("digest", "letter.txt"): {"output", "form", "digest", "detached"},
    ("compress", "letter.txt"): {"output", "form"},
    ("certs", "alice.pem", "-o", "alice.p7c"): {
        "output", "form", "message", "certificates", "revocation_lists",
    },
    ("inspect", "alice.pem"): {"kind", "certificates"},
    ("inspect", "signed.p7m"): {
        "kind", "form", "content_type", "detached", "content_size", "signers", "certificates",
        "revocation_lists",
    },
    ("inspect", "secret.p7m"): {
        "kind", "form", "content_type", "encrypted_size", "cipher", "authenticated", "recipients",
    },
    ("doctor",): [{"subject", "state", "text", "hint", "abilities"}],
    ("demo",): {"folder", "token", "files"},
}  # fmt: skip


@pytest.mark.parametrize("command", DOCUMENTS, ids=lambda command: " ".join(command[:2]))
def test_document_has_its_keys_and_stands_alone(terminal: Terminal, command: tuple[str, ...]) -> None:
    finished = terminal.run(*command, "--json")
    assert finished.error == ""
    expected = DOCUMENTS[command]
    if isinstance(expected, list):
        assert finished.json
        assert all(set(entry) == expected[0] for entry in finished.json)
    else:
        assert set(finished.json) == expected


@pytest.mark.parametrize(
    ("options", "code", "failed"),
    [
        (("--trust", "ca.pem", "--crl", "none-revoked.crl", "--ocsp", "alice-good.ocsp"), 0, []),
        (("--signature-only",), 0, []),
        (("--trust", "bob.pem"), 1, ["trust"]),
        (
            ("--trust", "ca.pem", "--ocsp", "alice-revoked.ocsp", "--email", "x@acme.example"),
            1,
            ["trust", "identity"],
        ),
        (("--trust", "ca.pem", "--revocation", "require"), 1, ["policy"]),
        (("--trust", "ca.pem", "--countersigned"), 1, ["witness"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_report_is_what_its_schema_promises(
    terminal: Terminal, options: tuple[str, ...], code: int, failed: list[str]
) -> None:
    printed = terminal.run("verify", "signed.p7m", *options, "--json", "--report", "report.json", code=code)
    check_document(printed.json)
    assert printed.json["failed"] == failed
    assert json.loads(terminal.read("report.json")) == printed.json


@pytest.mark.parametrize(
    ("command", "code", "kind"),
    [
        (("key", "show", "nobody"), 3, "KeyNotFoundError"),
        (("inspect", "letter.txt"), 4, "MalformedError"),
        (("inspect", "nowhere"), 5, "FileError"),
        (("key", "list", "--token", "none"), 3, "TokenNotFoundError"),
        (("sign", "letter.txt"), 2, "UsageError"),
        (("sing",), 2, "UsageError"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_error_is_a_document_too(terminal: Terminal, command: tuple[str, ...], code: int, kind: str) -> None:
    finished = terminal.run(*command, "--json", code=code)
    error = finished.json["error"]
    assert set(error) == {"type", "message", "hint", "exit_code"}
    assert (error["type"], error["exit_code"]) == (kind, code)
    assert error["message"] in finished.error


def test_document_goes_to_standard_error_where_the_content_takes_standard_output(terminal: Terminal) -> None:
    finished = terminal.run("decrypt", "secret.p7m", "-o", "-", "--json")
    assert finished.output == terminal.read("letter.txt")
    assert '"authenticated": true' in finished.error


def test_a_request_has_its_keys_in_every_document(terminal: Terminal) -> None:
    address = "alice@acme.example"
    terminal.run("ca", "init", "acme", "--key", "carol", "--subject", "CN=Acme CA,O=Acme,C=CH", "-q")
    asked = ("--subject", f"CN={address}", "--email", address, "-o", "alice.csr")
    terminal.run("cert", "request", "alice", *asked)

    def ask(*arguments: str) -> Any:  # noqa: ANN401 - a document
        finished = terminal.run("ra", *arguments, "--json")
        assert finished.error == ""
        return finished.json

    assert set(ask("submit", "alice.csr", "--as", "desk")) == REQUEST | {"codes"}
    made = ask("challenge", "1")
    assert set(made) == REQUEST | {"codes"}
    assert set(made["addresses"][0]) == {"address", "proved_at", "code_expires_at"}
    assert set(ask("verify", "1", made["codes"][address])) == REQUEST
    assert set(ask("approve", "1", "--as", "bob")) == REQUEST
    assert set(ask("issue", "1", "-o", "alice-new.pem")) == CERTIFICATE | {"request", "output"}
    assert set(ask("show", "1")) == REQUEST
    assert [set(one) for one in ask("list", "--all")] == [REQUEST]
