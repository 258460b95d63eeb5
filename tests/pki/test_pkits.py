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

MOMENT = datetime(2026, 6, 1, tzinfo=UTC)

# Accepted by PKITS and refused here.
LEGACY_ONLY = {
    "valid_dsa_signatures_test4": "DSA is withdrawn (FIPS 186-5) and accepted with legacy only",
}
DEVIATIONS = {
    "valid_dsa_parameter_inheritance_test5": "cryptography reads no DSA key without its parameters",
}


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


def deviations(folder: Path, *, legacy: bool) -> tuple[int, set[str]]:
    rows = json.loads((folder / "pkits.json").read_text())
    return len(rows), {
        row["name"] for row in rows if accepts(row, folder, legacy=legacy) != ("error" not in row)
    }


def test_every_row_is_decided_as_nist_says(corpora: Callable[[str], Path]) -> None:
    count, different = deviations(corpora("pkits"), legacy=False)
    assert count == 246
    assert different == LEGACY_ONLY.keys() | DEVIATIONS.keys()


def test_legacy_changes_nothing_but_dsa(corpora: Callable[[str], Path]) -> None:
    _, different = deviations(corpora("pkits"), legacy=True)
    assert different == DEVIATIONS.keys()
