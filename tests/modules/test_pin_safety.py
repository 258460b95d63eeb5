"""PINs on real tokens: each is one try, the last one only if it is asked for, and how it goes on then."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from tests.modules.base import write_pin_file
from tests.modules.nss import Nss
from tests.modules.opencryptoki import OpenCryptoki
from tests.modules.piv import Piv
from tests.modules.tpm import Tpm

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator
    from pathlib import Path

    from tests.modules.base import RealModule, RunningModule


WRONG = "765432"


def started(module: RealModule, folder: Path) -> Iterator[RunningModule]:
    reason = module.missing()
    if reason:
        pytest.skip(f"{module.name} cannot be started here: {reason}")
    with module.start(folder) as running:
        yield running


@pytest.fixture
def card(tmp_path: Path) -> Iterator[RunningModule]:
    """A PIV card with PIN 123456, which locks after three wrong ones, and counts what is asked of it."""
    yield from started(Piv(), tmp_path)


@pytest.fixture
def opencryptoki(tmp_path: Path) -> Iterator[RunningModule]:
    yield from started(OpenCryptoki(), tmp_path)


@pytest.fixture
def tpm(tmp_path: Path) -> Iterator[RunningModule]:
    yield from started(Tpm(), tmp_path)


@pytest.fixture
def nss(tmp_path: Path) -> Iterator[RunningModule]:
    yield from started(Nss(), tmp_path)


def tokensign(
    running: RunningModule, *arguments: str, code: int, pin: str | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command, with another PIN than the right one if one is given."""
    environment = {}
    if pin is not None:
        environment["TOKENSIGN_PIN_SOURCE"] = f"file:{pin_file(running, pin)}"
    finished = running.run([sys.executable, "-m", "tokensign", *arguments], environment=environment)
    assert finished.returncode == code, finished.stderr
    assert pin is None or pin not in finished.stderr
    return finished


def pin_file(running: RunningModule, pin: str) -> Path:
    return write_pin_file(running.pin_file.parent / f"pin-{pin}", pin)


LISTING = ("key", "list")


def verifications(running: RunningModule) -> int:
    """How many PINs the card has been given."""
    return running.counts().get("VERIFY", 0)


# --- a PIV card


def test_the_card_is_locked_by_three_wrong_pins_and_by_no_fewer(card: RunningModule) -> None:
    for count, options in ((1, ()), (2, ()), (3, ("--last-try",))):
        refused = tokensign(card, *LISTING, *options, code=3, pin=WRONG)
        assert "refused the PIN; it was tried once" in refused.stderr
        assert verifications(card) == count
    assert card.counts()["wrong PIN"] == 3
    for options in ((), ("--last-try",)):
        assert "is locked" in tokensign(card, *LISTING, *options, code=3).stderr
    assert verifications(card) == 3


def test_the_last_try_on_the_card_is_not_taken_unasked(card: RunningModule) -> None:
    for _ in range(2):
        tokensign(card, *LISTING, code=3, pin=WRONG)
    for pin in (None, WRONG):
        refused = tokensign(card, *LISTING, code=3, pin=pin)
        assert "has one try left, and a wrong one locks it; it was not tried" in refused.stderr
        assert "--last-try" in refused.stderr
    assert verifications(card) == 2
    assert "one try is left" in tokensign(card, "token", "info", code=0).stdout
    tokensign(card, *LISTING, "--last-try", code=0)
    tokensign(card, *LISTING, code=0)


def test_a_pin_whose_length_the_module_refuses_costs_no_try_and_is_not_called_wrong(
    card: RunningModule,
) -> None:
    refused = tokensign(card, *LISTING, code=3, pin="1")
    assert "refused the PIN for its length" in refused.stderr
    assert verifications(card) == 0


def test_the_pin_of_the_card_is_changed(card: RunningModule) -> None:
    changed = ("token", "change-pin", "--new-pin-source", f"file:{pin_file(card, '654321')}")
    tokensign(card, *changed, code=0)
    tokensign(card, *LISTING, code=0, pin="654321")


def test_a_card_whose_module_does_not_unblock_says_what_does(card: RunningModule) -> None:
    new = f"file:{pin_file(card, '654321')}"
    puk = f"file:{pin_file(card, '12345678')}"
    unblocking = ("token", "unblock-pin", "--so-pin-source", puk, "--new-pin-source", new)
    refused = tokensign(card, *unblocking, code=3)
    assert "lets no security officer log in" in refused.stderr
    assert "pkcs15-tool --unblock-pin" in refused.stderr
    tokensign(card, *LISTING, code=0)


# --- opencryptoki, which has all flags and a security officer


def test_opencryptoki_locks_and_its_officer_unblocks(opencryptoki: RunningModule) -> None:
    for state, options in (("count-low", ()), ("final-try", ()), ("locked", ("--last-try",))):
        tokensign(opencryptoki, *LISTING, *options, code=3, pin=WRONG)
        told = tokensign(opencryptoki, "token", "info", "--json", code=0).stdout
        assert f'"pin_state": "{state}"' in told
    assert "token unblock-pin" in tokensign(opencryptoki, *LISTING, code=3).stderr
    so = f"file:{pin_file(opencryptoki, opencryptoki.so_pin)}"
    new = f"file:{pin_file(opencryptoki, '246810')}"
    tokensign(opencryptoki, "token", "unblock-pin", "--so-pin-source", so, "--new-pin-source", new, code=0)
    tokensign(opencryptoki, *LISTING, code=0, pin="246810")


# --- modules that keep no flags


@pytest.mark.parametrize("name", ["tpm", "nss"])
def test_a_module_that_does_not_count_says_that_it_cannot_tell(
    request: pytest.FixtureRequest, name: str
) -> None:
    running: RunningModule = request.getfixturevalue(name)
    refused = tokensign(running, *LISTING, code=3, pin=WRONG)
    assert "it was tried once" in refused.stderr
    assert "does not tell how many tries are left" in refused.stderr
    assert "not every module counts" in tokensign(running, "token", "info", code=0).stdout


def test_the_pin_of_nss_is_changed_by_a_login(nss: RunningModule) -> None:
    new = f"file:{pin_file(nss, '135791')}"
    assert "refused the PIN" in tokensign(
        nss, "token", "change-pin", "--new-pin-source", new, code=3, pin=WRONG
    ).stderr  # fmt: skip
    tokensign(nss, "token", "change-pin", "--new-pin-source", new, code=0)
    tokensign(nss, *LISTING, code=0, pin="135791")


def test_nss_has_no_officer_who_unblocks(nss: RunningModule) -> None:
    so = f"file:{pin_file(nss, '12345678')}"
    unblocking = ("token", "unblock-pin", "--so-pin-source", so, "--new-pin-source", so)
    assert "lets no security officer log in" in tokensign(nss, *unblocking, code=3).stderr
