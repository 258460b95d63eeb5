"""`tokensign serve --dev`: a service to try, on SoftHSM, with a CA, keys, clients and grants of its own.

What needs the PKCS#11 module happens in a process of its own, `python -m tokensign.cli.serve_dev`, because
the service never loads one.
"""

from __future__ import annotations

import json
import os
import secrets
import shlex
import stat
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tokensign.errors import FileError, ModuleError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cryptography import x509

    from tokensign.certificates import Certificate
    from tokensign.cli.command import Cli
    from tokensign.pki.extensions import Extensions
    from tokensign.token import TokenKey

__all__ = ["DevPlace", "furnish"]

_MARKER: Final = (
    ".tokensign-serve-dev"  # tells the folder of an earlier run from one that must not be touched
)
_LANE: Final = "dev"
_DATABASE: Final = "service.sqlite"
_SECONDS: Final = 120  # for making keys on a slow machine
_BEARER: Final = "bob.header"  # curl reads header fields from files, so that a secret is in no command line
_ALICE_URI: Final = "urn:tokensign:dev:alice"
_DAYS: Final = 30  # that the certificates are valid
_CONTRACT: Final = "contract.txt"  # to be signed and encrypted
_RECIPIENT: Final = "to-alice.pem"  # the certificate of Alice's key on the token; hers for TLS is alice.pem

_SERVICE: Final = """\
database = "{database}"
trust = ["ca.pem"]

[service]
listen = "127.0.0.1:8443"
metrics = "127.0.0.1:0"
monitor-key = "dev/monitor"

[service.tls]
certificate = "server.pem"
key = "server.key"
client-ca = "ca.pem"

[[service.lanes]]
name = "dev"
module = {module}
token = "dev"
pin-source = "file:pin"

[service.audit]
key = "dev/audit"
seconds = 10
"""
_CLIENT: Final = """\
trust = ["ca.pem"]

[remote]
url = "{url}"
certificate = "alice.pem"
key = "alice.key"
ca = "ca.pem"
"""


@dataclass(frozen=True)
class DevPlace:
    """The folder of a service to try.

    Attributes:
        folder: Where it is.
    """

    folder: Path

    @property
    def config(self) -> Path:
        """The configuration of the service."""
        return self.folder / "service.toml"

    def open(self, url: str) -> list[str]:
        """Write `client.toml`, and return commands that work while the service runs.

        Args:
            url: Where that is.
        """
        _write(self.folder / "client.toml", _CLIENT.format(url=url))
        folder = shlex.quote(str(self.folder))
        file, remote = f"{folder}/{_CONTRACT}", f"--service {url} --config {folder}/client.toml"
        curl = f"curl --cacert {folder}/ca.pem"
        alice = f"{curl} --cert {folder}/alice.pem --key {folder}/alice.key"
        digest = f"$(openssl dgst -sha256 -binary {file} | base64)"
        wanted = '-H "Content-Type: application/json" -d "{\\"digests\\": [\\"' + digest + '\\"]}"'
        document = f'-H "Content-Type: application/octet-stream" --data-binary @{file}'
        return [
            "# for another terminal: what Alice may use, a signature over a digest, and one in CMS",
            f"{alice} {url}/v1/keys",
            f"{alice} {url}/v1/keys/dev/alice/signatures {wanted}",
            f"{alice} {url}/v1/keys/dev/alice/cms {document} -o {file}.p7s",
            f"tokensign verify {file}.p7s --content {file} --trust {folder}/ca.pem",
            "# keys of the service used like local ones",
            f"tokensign key list {remote}",
            f"tokensign sign {file} --key bob {remote} -o {folder}/bob.p7s --force",
            f"tokensign encrypt {file} --to {folder}/{_RECIPIENT} -o {file}.p7m --force",
            f"tokensign decrypt {file}.p7m --key alice {remote} -o -",
            "# the keys that Bob may use, who has an API key",
            f"{curl} -H @{folder}/{_BEARER} {url}/v1/keys",
        ]


def furnish(cli: Cli, folder: Path) -> DevPlace:
    """A folder with a token, certificates, grants and a configuration; one that is there stays.

    Args:
        cli: The common options; --module names another SoftHSM.
        folder: Where it is made.

    Raises:
        FileError: The folder holds something else, or certificates that have ended, or is open to others.
        ModuleError: SoftHSM is not there, or does not do it.
    """
    os.environ["SOFTHSM2_CONF"] = str(folder / "softhsm2.conf")  # for the processes of the lane
    if (folder / _MARKER).is_file():
        _require_own(folder)
        _require_valid(folder)
        _configure_token(folder)  # the folder may have been moved
        return DevPlace(folder)
    if folder.exists() and any(folder.iterdir()):
        raise FileError(f"{folder} is not empty and not from `serve --dev`", hint="name another with --dir")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    _configure_token(folder)
    _write(folder / _CONTRACT, "Alice and Bob agree.\n")
    module = _make_token(cli, folder)
    _write(folder / "service.toml", _SERVICE.format(database=_DATABASE, module=json.dumps(module)))
    _grant(folder)
    (folder / _MARKER).touch()
    return DevPlace(folder)


def _require_own(folder: Path) -> None:
    """Refuse a folder that somebody else may have made or changed: it names the module that is loaded."""
    status = folder.stat()
    if status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) & (stat.S_IWGRP | stat.S_IWOTH):
        raise FileError(
            f"{folder} is not yours alone, so others may have changed it", hint="name another with --dir"
        )


def _require_valid(folder: Path) -> None:
    from tokensign.cli.inputs import read_certificates

    (root,) = read_certificates([str(folder / "ca.pem")])
    if root.not_after <= datetime.now(UTC):
        raise FileError(
            f"the certificates in {folder} ended on {root.not_after:%Y-%m-%d}",
            hint="remove the folder, or name another with --dir",
        )


def _configure_token(folder: Path) -> None:
    places = f"directories.tokendir = {folder}/tokens\nobjectstore.backend = file\nlog.level = ERROR\n"
    _write(folder / "softhsm2.conf", places)


def _make_token(cli: Cli, folder: Path) -> str:
    """Let another process make the token and the certificates; the path of the module."""
    done = subprocess.run(
        [sys.executable, "-P", "-m", "tokensign.cli.serve_dev", str(folder), cli.module or ""],
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        check=False,
    )
    if done.returncode:
        reason = done.stderr.strip().rpartition("\n")[2]
        raise ModuleError(
            f"the token for the service cannot be made: {reason}",
            hint="install softhsm2, or name it with --module",
        )
    return done.stdout.strip()


def _grant(folder: Path) -> None:
    """Let Alice do everything, and Bob sign with his own key, who has an API key."""
    from tokensign.service.granting import GrantTerms, add_grant
    from tokensign.service.grants import OPERATIONS
    from tokensign.service.identities import add_identity, create_api_key
    from tokensign.store import Store

    with Store(folder / _DATABASE) as store:
        add_identity(store, "alice", "uri", _ALICE_URI)
        add_grant(store, "alice", GrantTerms(key="*", operations=OPERATIONS))
        add_grant(store, "bob", GrantTerms(key=f"{_LANE}/bob", operations=["sign", "cms"], rate="600/m"))
        whole, _ = create_api_key(store, "bob", days=_DAYS)
    _write(folder / _BEARER, f"Authorization: Bearer {whole}\n")


def _write(file: Path, text: str | bytes) -> None:
    """Write a file that only its owner reads."""
    file.touch(mode=0o600)
    file.write_bytes(text.encode() if isinstance(text, str) else text)


# --- what the other process does


def main(arguments: Sequence[str]) -> None:
    """Make the token, its keys and all certificates in a folder; print the path of the module."""
    from tokensign.algorithms import KeySpec, KeyUsage
    from tokensign.pki.ca import issue, root_certificate
    from tokensign.token import (
        Pin,
        delete_key,
        find_module,
        generate_key,
        import_certificate,
        initialize_token,
        load_module,
        open_key,
        open_token,
    )

    folder, named = Path(arguments[0]), arguments[1] or None
    (folder / "tokens").mkdir(mode=0o700, exist_ok=True)
    path = find_module(named)
    if "softhsm" not in path.name:
        raise ModuleError("SoftHSM is not in the usual places")
    pin, so_pin = secrets.token_hex(8), secrets.token_hex(8)
    _write(folder / "pin", pin)
    _write(folder / "so-pin", so_pin)
    module = load_module(path)
    initialize_token(module, _LANE, Pin(so_pin), Pin(pin))
    with open_token(module, _LANE, Pin(pin), read_write=True) as token:
        generate_key(token, "ca", KeySpec.parse("ec:p256"), KeyUsage.SIGN)
        ca = open_key(token, "ca", KeyUsage.SIGN)
        root = root_certificate(ca, "CN=Development CA", days=_DAYS)
        import_certificate(token, root)
        _write(folder / "ca.pem", root.pem())
        people = {"alice": "rsa:2048", "bob": "ec:p256", "audit": "ec:p256", "monitor": "ec:p256"}
        for name, kind in people.items():
            usage = KeyUsage.BOTH if kind.startswith("rsa") else KeyUsage.SIGN
            key = open_key(token, generate_key(token, name, KeySpec.parse(kind), usage))
            subject, email = f"CN={name.capitalize()}", f"{name}@dev.example"
            certificate = issue(ca, root, key.public_key, subject, [email], days=_DAYS, usage=usage)
            import_certificate(token, certificate)
            if name == "alice":
                _write(folder / _RECIPIENT, certificate.pem())
        _make_tls(ca, root, folder)
        delete_key(token, "ca")  # which shall sign for nobody who asks the service
    print(path)  # noqa: T201 - what the parent reads


def _make_tls(ca: TokenKey, root: Certificate, folder: Path) -> None:
    """Certificates of TLS for the service and for Alice, with keys in files."""
    from ipaddress import ip_address

    from cryptography import x509
    from cryptography.x509.oid import ExtendedKeyUsageOID

    local = [x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))]
    _issue_tls(ca, root, folder, "server", local, ExtendedKeyUsageOID.SERVER_AUTH)
    alice = [x509.UniformResourceIdentifier(_ALICE_URI)]
    _issue_tls(ca, root, folder, "alice", alice, ExtendedKeyUsageOID.CLIENT_AUTH)


def _issue_tls(
    ca: TokenKey,
    root: Certificate,
    folder: Path,
    name: str,
    names: Sequence[x509.GeneralName],
    purpose: x509.ObjectIdentifier,
) -> None:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    from tokensign.pki.certificate_builder import (
        authority_key_identifier,
        certificate_builder,
        sign_certificate,
        validity,
    )

    key = ec.generate_private_key(ec.SECP256R1())
    issuer = x509.load_der_x509_certificate(root.der)
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    extensions: Extensions = [
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (x509.SubjectAlternativeName(names), False),
        (x509.ExtendedKeyUsage([purpose]), False),
        (authority_key_identifier(root), False),
    ]
    _, not_after = validity(_DAYS)
    builder = certificate_builder(
        key.public_key(), subject, issuer.subject, root.not_before, min(not_after, root.not_after), extensions
    )
    _write(folder / f"{name}.pem", sign_certificate(builder, ca, issuer=issuer).pem())
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    _write(folder / f"{name}.key", private)


if __name__ == "__main__":
    main(sys.argv[1:])
