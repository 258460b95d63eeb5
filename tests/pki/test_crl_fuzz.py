"""OpenSSL's fuzzing corpus of CRLs: no verdict, only our errors, quickly, and in little memory."""

from __future__ import annotations

import time
import tracemalloc
from typing import TYPE_CHECKING, Final

import pytest
from asn1crypto import crl as asn1_crl

from tokensign.errors import TokensignError
from tokensign.pki.revocation import load_crls
from tokensign.pki.trust import RevocationInfo, TrustPolicy, validate_path

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import Forged, Toolbox

    from tests.conftest import Tally

SECONDS: Final = 1.0  # of the processor, a file
MEBIBYTES: Final = 32  # of Python's objects, a file; the largest file has 100 kB


@pytest.fixture
def files(corpora: Callable[[str], Path]) -> list[Path]:
    found = sorted(path for path in corpora("fuzz-crl").iterdir() if path.is_file())
    assert len(found) == 516
    return found


@pytest.fixture
def chain(toolbox: Toolbox) -> tuple[Forged, Forged]:
    root = toolbox.authority()
    return root, toolbox.forge(issuer=root)


def test_each_file_is_read_or_refused(files: list[Path], tally: Tally) -> None:
    read = 0
    for path in files:
        tracemalloc.start()
        started = time.process_time()
        try:
            read += len(load_crls([path.read_bytes()], legacy=True))
            outcome = "typed"
        except TokensignError:
            outcome = "typed"
        except Exception as error:  # noqa: BLE001 - what this test looks for
            outcome = repr(error)
        if time.process_time() - started > SECONDS:
            outcome = "slow"
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        tally.check(path.name, outcome if peak < MEBIBYTES << 20 else f"{peak} octets", "typed")
    assert read == 2  # the others are broken, most of them in their first lengths


@pytest.mark.parametrize("way", ["given", "embedded"])
def test_each_file_beside_a_genuine_crl_decides_nothing(
    files: list[Path], chain: tuple[Forged, Forged], toolbox: Toolbox, tally: Tally, way: str
) -> None:
    """What a stranger puts into a message; what a user gives must be readable."""
    root, alice = chain
    genuine = toolbox.crl(root)
    for path in files:
        data = path.read_bytes()
        policy = TrustPolicy(
            (root.certificate,),
            revocation="require",
            crls=(genuine, data) if way == "given" else (genuine,),
            legacy=True,
        )
        embedded = (RevocationInfo("crl", data),) if way == "embedded" else ()
        started = time.process_time()
        try:
            found = validate_path(alice.certificate, [], policy, toolbox.now, embedded=embedded)
            outcome = "cleared" if [entry.encoded for entry in found.revocation] == [genuine] else "believed"
        except TokensignError as error:
            outcome = "refused" if way == "given" and "cannot be read" in error.message else repr(error)
        except Exception as error:  # noqa: BLE001 - what this test looks for
            outcome = repr(error)
        if time.process_time() - started > SECONDS:
            outcome = "slow"
        tally.check(path.name, outcome in {"cleared", "refused"} or outcome, expected=True)


def test_each_file_with_the_name_of_the_issuer_decides_nothing(
    files: list[Path], chain: tuple[Forged, Forged], toolbox: Toolbox, tally: Tally
) -> None:
    """So that the validator goes past the name: the issuer of each readable one is replaced."""
    root, alice = chain
    for path in files:
        try:
            asn1 = asn1_crl.CertificateList.load(path.read_bytes())
            asn1["tbs_cert_list"]["issuer"] = root.certificate.asn1.subject
            data = asn1.dump(force=True)
        except Exception:  # noqa: BLE001 - asn1crypto's, over a broken one
            tally.skip("too broken to be changed")
            continue
        policy = TrustPolicy((root.certificate,), revocation="require", legacy=True)
        started = time.process_time()
        try:
            validate_path(alice.certificate, [], policy, toolbox.now, embedded=[RevocationInfo("crl", data)])
            outcome = "believed"
        except TokensignError as error:
            outcome = "nothing tells" if error.message.startswith("nothing tells") else repr(error)
        except Exception as error:  # noqa: BLE001 - what this test looks for
            outcome = repr(error)
        if time.process_time() - started > SECONDS:
            outcome = "slow"
        tally.check(path.name, outcome, "nothing tells")
