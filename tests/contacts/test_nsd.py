"""SMIMEA records from NSD, in zones that the tools of ldns signed with keys of three kinds."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import time
from typing import TYPE_CHECKING

import dns.exception
import dns.message
import dns.query
import pytest
from correspondents import BOB

from tokensign.contacts.dnssec import ROOT_ANCHORS, Resolver, Validator, read_trust_anchors
from tokensign.contacts.smimea import lookup_smimea, smimea_name
from tokensign.errors import UntrustedError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from correspondents import Authority

ZONES = {".": "RSASHA256", "example": "ECDSAP384SHA384", "acme.example": "ED25519"}
START_SECONDS = 20


def run(folder: Path, *command: str) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def sign_zone(folder: Path, zone: str, algorithm: str, records: str) -> str:
    """Write a zone and sign it; what comes back is the DS record of its key."""
    generate = ("ldns-keygen", "-r", "/dev/urandom", "-a", algorithm, "-b", "2048")
    keys = [run(folder, *generate, *kind, zone) for kind in (("-k",), ())]
    origin = f"{zone.rstrip('.')}."
    file = f"{zone.strip('.') or 'root'}.zone"
    (folder / file).write_text(
        f"{origin} 60 IN SOA ns.acme.example. hostmaster.acme.example. 1 3600 600 86400 60\n"
        f"{origin} 60 IN NS ns.acme.example.\n{records}"
    )
    run(folder, "ldns-signzone", "-o", zone, "-f", f"{file}.signed", file, *keys)
    return run(folder, "ldns-key2ds", "-n", "-2", f"{keys[0]}.key") + "\n"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def nsd(folder: Path) -> Iterator[int]:
    """NSD with the signed zones, and its port."""
    port = free_port()
    lines = [
        "server:",
        f"  ip-address: 127.0.0.1@{port}",
        '  username: ""',
        '  chroot: ""',
        f'  zonesdir: "{folder}"',
        '  database: ""',
        '  pidfile: ""',
        f'  xfrdfile: "{folder}/xfrd.state"',
        f'  zonelistfile: "{folder}/zone.list"',
        "  server-count: 1",
        "remote-control:",
        "  control-enable: no",
    ]
    for zone in ZONES:
        lines += ["zone:", f'  name: "{zone}"', f'  zonefile: "{zone.strip(".") or "root"}.zone.signed"']
    (folder / "nsd.conf").write_text("\n".join(lines) + "\n")
    process = subprocess.Popen(["nsd", "-d", "-c", folder / "nsd.conf"], stderr=subprocess.PIPE)
    try:
        wait_for(port, process)
        yield port
    finally:
        process.terminate()
        process.communicate(timeout=START_SECONDS)


def wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    query = dns.message.make_query("acme.example.", "SOA")
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(dns.exception.Timeout, OSError):
            dns.query.udp(query, "127.0.0.1", port=port, timeout=0.2)
            return
    process.kill()
    raise AssertionError(process.communicate()[1].decode())


def test_a_certificate_is_proved_from_a_real_server_and_real_signatures(
    authority: Authority, tmp_path: Path
) -> None:
    for program in ("nsd", "ldns-keygen", "ldns-signzone", "ldns-key2ds"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not at hand")
    certificate = authority.issue("bob rsa", usage=("key_encipherment",))
    records = f"{smimea_name(BOB)} 60 IN SMIMEA 3 0 0 {certificate.der.hex()}\n"
    for zone, algorithm in reversed(ZONES.items()):
        announced = sign_zone(tmp_path, zone, algorithm, records)
        records = f"{zone.rstrip('.')}. 60 IN NS ns.acme.example.\n{announced}"
    with nsd(tmp_path) as port:
        asked = Resolver("127.0.0.1", port)
        assert lookup_smimea(BOB, asked, Validator(asked, read_trust_anchors(announced))) == (certificate,)
        with pytest.raises(UntrustedError, match="not those that were announced"):
            lookup_smimea(BOB, asked, Validator(asked, ROOT_ANCHORS))
