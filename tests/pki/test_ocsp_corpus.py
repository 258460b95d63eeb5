"""OpenSSL's OCSP cases: responses that are right, and each kind that is wrong."""

from __future__ import annotations

import base64
import json
from datetime import datetime
from typing import TYPE_CHECKING, Any

from tokensign.certificates import load_certificates
from tokensign.errors import UntrustedError
from tokensign.pki.trust import Purpose, TrustPolicy, validate_path

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import Tally
    from tokensign.pki.validated_path import ValidatedPath


def validated(case: dict[str, Any], folder: Path) -> ValidatedPath:
    def certificate(name: str) -> Any:  # noqa: ANN401 - one certificate
        return load_certificates((folder / name).read_bytes())[0]

    policy = TrustPolicy(
        (certificate(case["root"]),),
        purpose=Purpose.ANY,
        revocation="prefer" if only_the_end(case) else "require",
        ocsp_responses=tuple(base64.b64decode((folder / name).read_bytes()) for name in case["ocsps"]),
        legacy=True,  # all of 2012 is signed with SHA-1
    )
    others = [certificate(name) for name in case.get("other_certs", ())]
    return validate_path(certificate(case["cert"]), others, policy, datetime.fromisoformat(case["moment"]))


def only_the_end(case: dict[str, Any]) -> bool:
    """Whether the case has a response for the signer and none for its CA."""
    return len(case["ocsps"]) < len(case.get("other_certs", ())) + 1


def outcome(case: dict[str, Any], folder: Path) -> str:
    try:
        path = validated(case, folder)
    except UntrustedError as refusal:
        return f"{refusal.message} {refusal.hint}"
    told = [entry for entry in path.revocation if entry.certificate == path[0]]
    if not told:
        return "nothing tells"
    return f"{told[0].status}, {len(path)} certificates"


def test_each_response_counts_or_not_as_openssl_says(corpora: Callable[[str], Path], tally: Tally) -> None:
    folder = corpora("ocsp")
    cases = json.loads((folder / "openssl-ocsp.json").read_text())
    assert len(cases) == 29
    for case in cases:
        found = outcome(case, folder)
        if "error" not in case:
            tally.check(case["name"], found, f"good, {case['path_len']} certificates")
        else:
            tally.check(case["name"], found.startswith("nothing tells"), expected=True)
