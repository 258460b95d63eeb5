"""What people and programs are told about timestamps; the schema is checked by `World.report`."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from tokensign.cades.levels import Level
from tokensign.cli.output import Output
from tokensign.cli.verdicts import show
from tokensign.report import VerificationReport

if TYPE_CHECKING:
    import pytest

    from tests.cades.conftest import World
    from tokensign.report import SignerReport


def shown(signer: SignerReport, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """The lines that people read."""
    report = VerificationReport("data", detached=True, signers=(signer,), moment=signer.judged_at)
    show(Output(), report, "contract.pdf", on_stderr=False)
    return capsys.readouterr().out.splitlines()


def test_people_are_told_what_timestamps_prove(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    lines = shown(world.report(world.raised(Level.B_LTA)), capsys)
    today = f"{datetime.now(UTC):%Y-%m-%d}"
    assert lines[0].startswith("GOOD: contract.pdf is unchanged since it was signed by Alice")
    assert lines[0].endswith(f"(says Root, at the latest on {today})")
    stamps = [line for line in lines if "timestamp" in line]
    assert [line.split(", ")[-1] for line in stamps] == ["over the signature", "over the whole message"]
    assert all(line.startswith(f"  ✓ timestamp {today} ") and "TSA tsa" in line for line in stamps)
    assert lines[-1].startswith(f"    existed   {today} ")
    assert lines[-1].endswith(" UTC at the latest; level B-LTA")


def test_people_are_told_why_a_timestamp_proves_nothing(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    after_the_tsa_expired = datetime.now(UTC) + timedelta(days=1600)
    signer = world.report(world.raised(Level.B_T), at=after_the_tsa_expired, trust=world.policy)
    lines = shown(signer, capsys)
    assert lines[0].startswith("BAD: the signature of Alice on contract.pdf does not hold: ")
    (stamp,) = [line for line in lines if "timestamp" in line.partition(":")[0]]
    assert stamp.startswith("  ✗ timestamp ")
    assert "over the signature: " in stamp
    assert not any("existed" in line for line in lines)


def test_programs_are_told_what_timestamps_prove(world: World) -> None:
    signer = world.report(world.raised(Level.B_LTA))
    document = signer.to_json()
    assert document["level"] == "b-lta"
    assert document["judged_at"] == document["existed_at"] == document["timestamps"][0]["time"]
    assert [entry["kind"] for entry in document["timestamps"]] == ["signature", "archive"]
    assert all(entry["holds"] and entry["path"][-1] == "CN=Root" for entry in document["timestamps"])
    assert {answer["source"] for answer in document["revocation"]} == {"embedded"}
    assert all(entry["revocation"] for entry in document["timestamps"])
