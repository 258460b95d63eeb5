"""`tokensign serve` as a process: starting, checking, stopping; and its keys used like local ones."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import ssl
import subprocess
import sys
import threading
import time
import urllib.request
from dataclasses import dataclass
from http.client import HTTPSConnection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from service_place import digest_of

from tests.launcher import LaunchedProcess, program

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE_FOLDER = Path(__file__).parents[2]
START_SECONDS = 60
BODY = json.dumps({"digests": [digest_of(b"hello")] * 20})


def environment(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TOKENSIGN_")}
    return {"PYTHONPATH": str(PACKAGE_FOLDER), **kept, "LC_ALL": "C.UTF-8", **more}


def start(*arguments: object, folder: Path, **more: str) -> LaunchedProcess:
    command = [sys.executable, "-m", "tokensign", *map(str, arguments)]
    pipes: dict[str, Any] = {
        "stdin": subprocess.DEVNULL,
        "stdout": subprocess.PIPE,
        "stderr": subprocess.PIPE,
    }
    return LaunchedProcess(command, cwd=folder, env=environment(**more), **pipes)


def tokensign(*arguments: object, folder: Path, code: int = 0, **more: str) -> str:
    """Run a command; what it prints, on both streams."""
    with start(*arguments, folder=folder, **more) as process:
        stdout, stderr = process.communicate(timeout=START_SECONDS)
    told = (stdout + stderr).decode()
    assert process.returncode == code, told
    return told


@dataclass
class DevService:
    """`tokensign serve --dev` that runs."""

    folder: Path
    process: LaunchedProcess
    lines: list[str]

    @property
    def url(self) -> str:
        return next(found[0] for line in self.lines if (found := re.search(r"https://localhost:\d+", line)))

    def connection(self) -> HTTPSConnection:
        context = ssl.create_default_context(cafile=self.folder / "ca.pem")
        context.load_cert_chain(self.folder / "alice.pem", self.folder / "alice.key")
        return HTTPSConnection(self.url.removeprefix("https://"), context=context, timeout=20)

    def stop(self) -> str:
        """End it gracefully; what it wrote on stderr."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.communicate(timeout=START_SECONDS)[1].decode()


@contextlib.contextmanager
def dev_service(folder: Path) -> Iterator[DevService]:
    process = start("serve", "--dev", "--dir", "dev", "--listen", "127.0.0.1:0", folder=folder)
    try:
        assert process.stdout is not None
        lines: list[str] = []
        while not lines or "bob.header" not in lines[-1]:
            line = process.stdout.readline().decode()
            assert line, process.communicate(timeout=5)[1]
            lines.append(line.rstrip("\n"))
        yield DevService(folder / "dev", process, lines)
    finally:
        process.kill()
        process.communicate(timeout=START_SECONDS)


@pytest.fixture(scope="module")
def dev(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevService]:
    with dev_service(tmp_path_factory.mktemp("dev")) as service:
        yield service


class TestDev:
    def test_commands_that_it_prints_work(self, dev: DevService) -> None:
        folder = dev.folder.parent
        shell = environment(PATH=f"{folder}:{os.environ['PATH']}")
        program(folder / "tokensign", shell)
        outputs = []
        for line in dev.lines:
            if line.startswith("#"):
                continue
            done = subprocess.run(
                ["/bin/sh", "-c", line],
                capture_output=True,
                text=True,
                timeout=START_SECONDS,
                check=False,
                cwd=folder,
                env=shell,
            )
            assert done.returncode == 0, (line, done.stderr)
            outputs.append(done.stdout or done.stderr)
        keys, signature, _, verdict, listed, signed, _, decrypted, bobs = outputs
        assert {key["id"] for key in json.loads(keys)["keys"]} >= {"dev/alice", "dev/bob", "dev/audit"}
        assert json.loads(signature)["results"][0]["signature"]
        assert verdict.startswith(f"GOOD: {dev.folder}/contract.txt is unchanged since it was signed by")
        assert "dev/alice     rsa:2048" in listed
        assert decrypted == (dev.folder / "contract.txt").read_text()
        assert "bob.p7s: signed by CN=Bob (ecdsa with sha256)" in signed
        assert [key["id"] for key in json.loads(bobs)["keys"]] == ["dev/bob"]

    def test_web_process_has_no_module_and_no_pin(self, dev: DevService) -> None:
        maps = f"/proc/{dev.process.pid}/maps"
        with open(maps) as file:  # noqa: PTH123 - of the kernel
            assert "softhsm" not in file.read()
        (lane,) = subprocess.run(
            ["ps", "-o", "pid=", "--ppid", str(dev.process.pid)], capture_output=True, text=True, check=True
        ).stdout.split()
        with open(f"/proc/{lane}/cmdline") as file:  # noqa: PTH123 - as above
            assert (dev.folder / "pin").read_text() not in file.read()

    def test_folder_that_was_moved_works_on(self, dev: DevService, tmp_path: Path) -> None:
        shutil.copytree(dev.folder, tmp_path / "moved", ignore=shutil.ignore_patterns("service.sqlite*"))
        tokens = tmp_path / "moved" / "tokens"
        tokens.rename(tmp_path / "elsewhere")
        down = tokensign("serve", "--dev", "--check", "--dir", "moved", folder=tmp_path, code=3)
        assert "lane dev is down" in down  # although the token of the first folder is where it was
        (tmp_path / "elsewhere").rename(tokens)
        assert "lane dev is up" in tokensign("serve", "--dev", "--check", "--dir", "moved", folder=tmp_path)

    def test_folder_of_somebody_else_is_left_alone(self, tmp_path: Path) -> None:
        (tmp_path / "other").mkdir()
        (tmp_path / "other" / "letter").touch()
        told = tokensign("serve", "--dev", "--dir", "other", folder=tmp_path, code=5)
        assert "is not empty and not from" in told

    @pytest.mark.parametrize("mode", [0o720, 0o702])
    def test_folder_that_others_may_write_to_is_not_used(self, tmp_path: Path, mode: int) -> None:
        (tmp_path / "shared").mkdir()
        (tmp_path / "shared" / ".tokensign-serve-dev").touch()
        (tmp_path / "shared").chmod(mode)
        told = tokensign("serve", "--dev", "--dir", "shared", folder=tmp_path, code=5)
        assert "is not yours alone" in told
        assert [file.name for file in (tmp_path / "shared").iterdir()] == [".tokensign-serve-dev"]


class TestRemoteKeys:
    def test_keys_are_listed(self, dev: DevService) -> None:
        config = ("--config", "client.toml", "--service", dev.url)
        listed = json.loads(tokensign("key", "list", "--json", *config, folder=dev.folder))
        assert {one["key"]: one["type"] for one in listed}["dev/alice"] == "rsa:2048"

    def test_remote_key_signs_and_decrypts_like_a_local_one(self, dev: DevService, tmp_path: Path) -> None:
        config = ("--config", dev.folder / "client.toml", "--service", dev.url)
        (tmp_path / "letter").write_text("Dear Bob")
        tokensign(
            *("sign", "letter", "--key", "dev/alice", "--key", "bob", "--attached", *config), folder=tmp_path
        )
        trust = ("--trust", dev.folder / "ca.pem")
        told = tokensign("verify", "letter.p7m", *trust, "-o", "content", folder=tmp_path)
        assert told.startswith("GOOD")
        assert (tmp_path / "content").read_text() == "Dear Bob"
        keys = json.loads(self.ask(dev, "/v1/keys"))["keys"]
        alice = next(key["certificate"] for key in keys if key["id"] == "dev/alice")
        (tmp_path / "alice.pem").write_text(alice)
        tokensign("encrypt", "letter", "--to", "alice.pem", "-o", "secret", folder=tmp_path)
        tokensign("decrypt", "secret", "--key", "alice", *config, "-o", "opened", folder=tmp_path)
        assert (tmp_path / "opened").read_text() == "Dear Bob"
        told = tokensign(
            "decrypt", "letter.p7m", "--key", "alice", *config, "-o", "x", folder=tmp_path, code=4
        )
        assert "cannot be decrypted with this key" in told
        assert not (tmp_path / "x").exists()

    def test_credentials_are_shown_to_no_other_service(self, dev: DevService, tmp_path: Path) -> None:
        config = ("--config", dev.folder / "client.toml", "--service", "https://localhost:1")
        told = tokensign("key", "list", *config, folder=tmp_path, code=2)
        assert "no credentials for https://localhost:1" in told

    def ask(self, dev: DevService, path: str) -> bytes:
        with contextlib.closing(dev.connection()) as connection:
            connection.request("GET", path)
            return connection.getresponse().read()


class TestStopping:
    def test_requests_that_were_taken_on_are_answered(self, dev: DevService) -> None:
        before = self.entries(dev)
        with dev_service(dev.folder.parent) as service:  # a second one over the same database and token
            statuses: list[int] = []
            begun = threading.Barrier(9)

            def ask() -> None:
                with contextlib.closing(service.connection()) as connection:
                    connection.connect()
                    begun.wait()
                    headers = {"Content-Type": "application/json"}
                    connection.request("POST", "/v1/keys/dev/alice/signatures", BODY, headers)
                    statuses.append(connection.getresponse().status)

            askers = [threading.Thread(target=ask) for _ in range(8)]
            for asker in askers:
                asker.start()
            begun.wait()
            time.sleep(0.1)  # they are sent, and 160 signatures take longer
            told = service.stop()
            for asker in askers:
                asker.join(20)
            assert statuses == [200] * 8
            assert "stopped; what was asked before is answered" in told
            assert service.process.returncode == 0
        assert self.entries(dev) == before + 16

    def entries(self, dev: DevService) -> int:
        told = tokensign("audit", "verify", "--database", dev.folder / "service.sqlite", folder=dev.folder)
        match = re.search(r"whole: (\d+) entries", told)
        assert match is not None, told
        return int(match[1])


class TestReloading:
    def test_lane_that_was_latched_tries_the_pin_again_on_sighup(self, dev: DevService) -> None:
        pin = (dev.folder / "pin").read_text()
        (dev.folder / "pin").write_text("0000")
        try:
            with dev_service(dev.folder.parent) as service:
                assert self.wait_for(service, 503)["lanes"] == {"dev": "latched"}
                (dev.folder / "pin").write_text(pin)
                service.process.send_signal(signal.SIGHUP)
                assert self.wait_for(service, 200)["lanes"] == {"dev": "up"}
        finally:
            (dev.folder / "pin").write_text(pin)

    def test_certificate_of_tls_is_read_again_on_sighup(self, dev: DevService) -> None:
        old = (dev.folder / "server.pem").read_bytes(), (dev.folder / "server.key").read_bytes()
        served = self.certificate(dev)
        for name in ("pem", "key"):
            (dev.folder / f"server.{name}").write_bytes((dev.folder / f"alice.{name}").read_bytes())
        try:
            dev.process.send_signal(signal.SIGHUP)
            deadline = time.monotonic() + 60
            while self.certificate(dev) == served:
                assert time.monotonic() < deadline
                time.sleep(0.05)
        finally:
            (dev.folder / "server.pem").write_bytes(old[0])
            (dev.folder / "server.key").write_bytes(old[1])
            dev.process.send_signal(signal.SIGHUP)
        while self.certificate(dev) != served:
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def certificate(self, dev: DevService) -> str:
        host, _, port = dev.url.removeprefix("https://").partition(":")
        return ssl.get_server_certificate((host, int(port)), timeout=10)

    def wait_for(self, service: DevService, status: int) -> dict[str, Any]:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            with contextlib.closing(service.connection()) as connection:
                connection.request("GET", "/readyz")
                answer = connection.getresponse()
                if answer.status == status:
                    return dict(json.loads(answer.read()))
            time.sleep(0.1)
        pytest.fail(f"/readyz never answered {status}")


class TestChecking:
    def config(self, dev: DevService, *changes: tuple[str, str]) -> Path:
        text = (dev.folder / "service.toml").read_text()
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        file = dev.folder / "changed.toml"
        file.write_text(text.replace("127.0.0.1:8443", "127.0.0.1:0"))
        return file

    def check(self, dev: DevService, *changes: tuple[str, str], code: int = 0) -> str:
        file = self.config(dev, *changes)
        conf = str(dev.folder / "softhsm2.conf")
        return tokensign(
            "serve", "--check", "--config", file, folder=dev.folder, code=code, SOFTHSM2_CONF=conf
        )

    def test_good_configuration_is_told_with_its_keys(self, dev: DevService) -> None:
        told = self.check(dev)
        assert "lane dev is up; its keys: dev/alice, dev/audit, dev/bob, dev/monitor" in told

    def test_wrong_pin_is_told_and_fails(self, dev: DevService) -> None:
        (dev.folder / "wrong").touch(mode=0o600)
        (dev.folder / "wrong").write_text("0000")
        told = self.check(dev, ("file:pin", "file:wrong"), code=3)
        assert "lane dev is latched" in told
        assert "0000" not in told

    @pytest.mark.parametrize(
        ("change", "told"),
        [
            (('client-ca = "ca.pem"', 'client-ca = "none.pem"'), "client-ca"),
            (('key = "server.key"', 'key = "alice.key"'), "service.tls.key"),
            (('monitor-key = "dev/monitor"', 'monitor-kez = "dev/monitor"'), "service.monitor-kez"),
            (('name = "dev"', 'name = "Dev/1"'), "service.lanes.0.name"),
            (("seconds = 10", 'seconds = "ten"'), "service.audit.seconds"),
            (("file:pin", "env:DEV_PIN"), "service.lanes.0.pin-source"),
            (('certificate = "server.pem"', 'certificate = "none.pem"'), "service.tls.certificate"),
        ],
    )
    def test_what_cannot_be_meant_is_named(self, dev: DevService, change: tuple[str, str], told: str) -> None:
        assert told in self.check(dev, change, code=2)

    def test_all_that_would_not_work_is_told_at_once(self, dev: DevService) -> None:
        told = self.check(
            dev,
            ('key = "dev/audit"', 'key = "dev/audit-2026"'),
            ('monitor-key = "dev/monitor"', 'monitor-key = "monitor"'),
            ('metrics = "127.0.0.1:0"', 'metrics = "host.invalid:0"'),
            (
                'certificate = "server.pem"\nkey = "server.key"',
                'certificate = "alice.pem"\nkey = "alice.key"',
            ),
            (
                "[service.audit]",
                '[service.oidc]\nissuer = "i"\naudience = "a"\njwks = "none"\n[service.audit]',
            ),
            code=2,
        )
        assert "service.audit.key dev/audit-2026: there is no such key" in told
        assert "service.monitor-key monitor: no lane is called monitor" in told
        assert "service.metrics: host.invalid:0 cannot be listened at" in told
        assert "alice.pem is not one for servers" in told
        assert "service.oidc.jwks: cannot read" in told
        assert "lane dev is up" in told

    def test_address_of_the_service_that_runs_is_no_fault(self, dev: DevService) -> None:
        address = dev.url.removeprefix("https://localhost")
        told = self.check(dev, ('metrics = "127.0.0.1:0"', f'metrics = "127.0.0.1{address}"'))
        assert "warning: service.metrics" in told
        assert "by the service itself, if it runs" in told

    def test_one_document_tells_programs(self, dev: DevService) -> None:
        file = self.config(dev, ('key = "dev/audit"', 'key = "dev/none"'))
        conf = str(dev.folder / "softhsm2.conf")
        with start(
            "serve", "--check", "--json", "--config", file, folder=dev.folder, SOFTHSM2_CONF=conf
        ) as process:
            found = json.loads(process.communicate(timeout=START_SECONDS)[0])
        assert process.returncode == 2
        assert found["lanes"] == {"dev": {"status": "up", "reason": ""}}
        assert [trouble.split(":")[0] for trouble in found["troubles"]] == ["service.audit.key dev/none"]

    def test_without_tls_it_listens_to_this_machine_only(self, dev: DevService) -> None:
        text = (dev.folder / "service.toml").read_text()
        table = text[text.index("[service.tls]") : text.index("[[service.lanes]]")]
        assert "loopback" in self.check(dev, (table, ""), ("127.0.0.1:8443", "0.0.0.0:0"), code=2)


class TestMetrics:
    def test_prometheus_is_told_of_requests_and_lanes(self, dev: DevService) -> None:
        with contextlib.closing(dev.connection()) as connection:
            connection.request("GET", "/v1/monitor")
            assert connection.getresponse().status == 200
        assert dev.process.stderr is not None
        told: dict[str, Any] = {}
        while "metrics" not in told:
            line = dev.process.stderr.readline().decode()
            if found := re.search(r"metrics at (\S+)", line):
                told["metrics"] = found[1]
        counted = r'tokensign_requests_total\{method="GET",route="/v1/monitor",status="200"\} [1-9]'
        end, metrics = time.monotonic() + START_SECONDS, ""
        while not re.search(counted, metrics):  # a request is counted when its answer is on its way
            assert time.monotonic() < end, metrics
            with urllib.request.urlopen(told["metrics"], timeout=10) as answer:  # noqa: S310 - on loopback
                metrics = answer.read().decode()
        assert 'tokensign_lane_up{lane="dev"} 1.0' in metrics
        assert re.search(
            r'tokensign_operations_total\{lane="dev",operation="sign",result="succeeded"\}', metrics
        )
