"""`openssl ca` and a CA of ours: the same key on the same token, the same certificate, the same index."""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from certificate_authorities import private_key
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from software_signer import SoftwareSigner

from tokensign.algorithms import KeySpec
from tokensign.authority import Reason, State, create_authority, load_profile
from tokensign.authority.openssl_index import index_line
from tokensign.pki.request import certificate_request
from tokensign.store import Store
from tokensign.token import Pin, generate_key, open_key, open_token

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from certificate_authorities import People

    from tokensign.token import Module, TokenKey

CONFIGURATION = """
[ca]
default_ca = acme
[acme]
database = index.txt
serial = serial
crlnumber = crlnumber
new_certs_dir = .
certificate = ca.pem
default_md = sha256
default_days = 30
default_crl_days = 7
unique_subject = no
policy = names
email_in_dn = no
copy_extensions = copy
[names]
commonName = supplied
"""


def openssl(folder: Path, *arguments: str, code: int = 0, environment: dict[str, str] | None = None) -> str:
    done = subprocess.run(
        ["openssl", *arguments],
        cwd=folder, env=os.environ | (environment or {}), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    return done.stdout + done.stderr


def prepare(folder: Path) -> None:
    (folder / "openssl.cnf").write_text(CONFIGURATION)
    (folder / "index.txt").touch()
    for name in ("serial", "crlnumber"):
        (folder / name).write_text("1000\n")


@pytest.fixture
def signer(module: Module, new_token: Callable[..., str], user_pin: str) -> Iterator[TokenKey]:
    """A key on a token of its own: OpenSSL's engine, libp11 0.4.12, finds none beside one of Curve25519."""
    with open_token(module, new_token("openssl-ca"), Pin(user_pin), read_write=True) as token:
        yield open_key(token, generate_key(token, "ca", KeySpec.parse("rsa:2048")))


def test_openssl_ca_signs_with_the_key_on_the_token_under_the_certificate_made_here(
    signer: TokenKey, tmp_path: Path, module_path: Path, user_pin: str
) -> None:
    if "[ available ]" not in openssl(tmp_path, "engine", "-t", "pkcs11"):
        pytest.skip("OpenSSL's PKCS #11 engine is not installed (libengine-pkcs11-openssl)")
    prepare(tmp_path)
    pin_file = tmp_path / "pin"
    pin_file.touch(mode=0o600)
    pin_file.write_text(user_pin)  # without the end of a line, which the engine would take for a part of it
    with Store(tmp_path / "pki.sqlite") as store:
        root = create_authority(store, "root", signer, "CN=Acme Root", profile=load_profile("root-ca"))
        (tmp_path / "ca.pem").write_text(root.certificate.pem())
    alice = SoftwareSigner(private_key("ec:p256"))
    (tmp_path / "alice.csr").write_bytes(certificate_request(alice, "CN=Alice", ("alice@acme.example",)))
    key = f"{signer.info.uri}?pin-source=file:{pin_file}"
    engine = ("-config", "openssl.cnf", "-engine", "pkcs11", "-keyform", "engine", "-keyfile", key)
    module = {"PKCS11_MODULE_PATH": str(module_path)}
    issue = ("ca", *engine, "-batch", "-notext", "-in", "alice.csr", "-out", "alice.pem")
    openssl(tmp_path, *issue, environment=module)
    openssl(tmp_path, "ca", *engine, "-gencrl", "-out", "ca.crl", environment=module)
    verify = ("verify", "-crl_check", "-CAfile", "ca.pem", "-CRLfile", "ca.crl", "alice.pem")
    assert openssl(tmp_path, *verify) == "alice.pem: OK\n"
    made = x509.load_pem_x509_certificate((tmp_path / "alice.pem").read_bytes())
    assert made.public_key() == alice.public_key


def test_openssl_goes_on_from_an_index_of_what_was_issued_here(local_people: People, tmp_path: Path) -> None:
    """Its `ca` tells the status and makes the same CRL, and its `ocsp` answers from the same lines."""
    authority = local_people.authority
    good, lost, old = (local_people.issue().certificate.serial_number for _ in range(3))
    authority.revoke(lost, Reason.CA_COMPROMISE)
    authority.revoke(old, Reason.UNSPECIFIED)
    prepare(tmp_path)
    lines = [index_line(record, datetime.now(UTC)) for record in authority.certificates()]
    (tmp_path / "index.txt").write_text("".join(f"{line}\n" for line in lines))
    (tmp_path / "ca.pem").write_text(authority.certificate.pem())
    pem = local_people.signer.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (tmp_path / "ca.key").write_bytes(pem)
    for serial, expected in ((good, "Valid (V)"), (lost, "Revoked (R)"), (old, "Revoked (R)")):
        name = even(serial)
        told = openssl(tmp_path, "ca", "-config", "openssl.cnf", "-status", name, code=1)  # whatever it finds
        assert f"{name}={expected}" in told
    openssl(tmp_path, "ca", "-config", "openssl.cnf", "-keyfile", "ca.key", "-gencrl", "-out", "ca.crl")
    theirs = x509.load_pem_x509_crl((tmp_path / "ca.crl").read_bytes())
    ours = x509.load_der_x509_crl(authority.crl(local_people.signer))
    assert sorted(map(entry, theirs)) == sorted(map(entry, ours))
    for serial, expected in ((good, "good"), (lost, "revoked")):
        answer = openssl(
            tmp_path, "ocsp", "-index", "index.txt", "-CA", "ca.pem", "-rsigner", "ca.pem", "-rkey", "ca.key",
            "-issuer", "ca.pem", "-serial", f"0x{serial:x}", "-CAfile", "ca.pem", "-text",
        )  # fmt: skip
        assert f"Cert Status: {expected}" in answer


def even(serial: int) -> str:
    text = f"{serial:X}"
    return text.zfill(len(text) + len(text) % 2)


def entry(one: x509.RevokedCertificate) -> tuple[int, datetime, list[str]]:
    reasons = [part.value.reason.value for part in one.extensions if isinstance(part.value, x509.CRLReason)]
    return one.serial_number, one.revocation_date_utc, reasons


def test_lines_of_an_index_tell_what_is_known(local_people: People) -> None:
    issued = local_people.issue(profile="signing", subject="CN=Zoë,O=Acme,C=CH")
    record, now = issued.record, issued.record.not_before
    end = f"{record.not_after:%y%m%d%H%M%SZ}"
    place = f"{even(record.serial)}\tunknown\t/C=CH/O=Acme/CN=Zo\\xC3\\xAB"
    assert index_line(record, now) == f"V\t{end}\t\t{place}"
    assert index_line(record, record.not_after + timedelta(seconds=1)) == f"E\t{end}\t\t{place}"
    held = local_people.authority.revoke(record.serial, Reason.CERTIFICATE_HOLD)
    assert held.revoked_at is not None
    since = f"{held.revoked_at:%y%m%d%H%M%SZ}"
    assert index_line(held, now) == f"R\t{end}\t{since},certificateHold\t{place}"
    withdrawn = replace(held, reason=Reason.PRIVILEGE_WITHDRAWN)  # of which openssl knows nothing
    assert index_line(withdrawn, now) == f"R\t{end}\t{since}\t{place}"
    far = replace(record, not_after=datetime(2051, 1, 2, 3, 4, 5, tzinfo=UTC))
    assert index_line(far, now) == f"V\t20510102030405Z\t\t{place}"
    assert index_line(replace(record, state=State.RESERVED, certificate=None), now) is None
