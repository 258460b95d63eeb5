"""NIST's Public Key Interoperability Test Suite, every row with its CRLs and policy inputs."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from tokensign.certificates import Certificate
from tokensign.errors import UntrustedError
from tokensign.pki.trust import PolicyInputs, Purpose, TrustPolicy, validate_path

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import Tally

MOMENT = datetime(2026, 6, 1, tzinfo=UTC)

LEGACY_ONLY = "valid_dsa_signatures_test4"


def accepts(row: dict[str, Any], folder: Path, *, legacy: bool) -> bool:
    def certificate(name: str) -> Certificate:
        return Certificate((folder / "certs" / name).read_bytes())

    inputs = row.get("params", {})
    # The suite gives no CRL of the issuer in 4.16, and marks the rows of 4.1 to 4.3 that are not about CRLs.
    about_revocation = row.get("revocation", True) and not row["id"].startswith("416")
    policy = TrustPolicy(
        anchors=(certificate("TrustAnchorRootCertificate.crt"),),
        purpose=Purpose.ANY,
        revocation="require" if about_revocation else "prefer",
        crls=tuple(
            (folder / "crls" / name).read_bytes() for name in [*row.get("crls", ()), "TrustAnchorRootCRL.crl"]
        ),
        legacy=legacy,
        policies=PolicyInputs(
            initial_policies=frozenset(inputs.get("user_initial_policy_set", ())),
            require_explicit_policy=inputs.get("initial_explicit_policy", False),
            inhibit_policy_mapping=inputs.get("initial_policy_mapping_inhibit", False),
            inhibit_any_policy=inputs.get("initial_any_policy_inhibit", False),
        ),
    )
    others = [certificate(name) for name in row.get("other_certs", ())]
    try:
        path = validate_path(certificate(row["cert"]), others, policy, MOMENT)
    except UntrustedError:
        return False
    assert len(path) == row["path_len"]
    assert path[-1] == policy.anchors[0]
    return True


def check(folder: Path, tally: Tally, differing: set[str], *, legacy: bool) -> None:
    rows = json.loads((folder / "pkits.json").read_text())
    assert len(rows) == 246
    assert differing <= {row["name"] for row in rows}
    for row in rows:
        verdict = accepts(row, folder, legacy=legacy)
        tally.check_or_differ(row["name"], verdict, "error" not in row, differing)


def test_every_row_is_decided_as_nist_says_or_as_the_manual_explains(
    corpora: Callable[[str], Path], deviations: Callable[[str], set[str]], tally: Tally
) -> None:
    check(corpora("pkits"), tally, deviations("PKITS"), legacy=False)


def test_legacy_changes_nothing_but_dsa(
    corpora: Callable[[str], Path], deviations: Callable[[str], set[str]], tally: Tally
) -> None:
    check(corpora("pkits"), tally, deviations("PKITS") - {LEGACY_ONLY}, legacy=True)
