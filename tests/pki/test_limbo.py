"""x509-limbo: 208 paths made for web servers, of which the rules of RFC 5280 concern us as well."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from tokensign.certificates import Certificate, load_certificates
from tokensign.errors import MalformedError, UntrustedError
from tokensign.pki.trust import Purpose, TrustPolicy, validate_path

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import Tally

MOMENT = datetime(2026, 6, 1, tzinfo=UTC)
SECONDS_MAXIMUM: Final = 3.0  # generous for a loaded machine; hostile paths take up to half a second


def accepts(case: dict[str, Any]) -> bool:
    def certificates(texts: list[str]) -> list[Certificate]:
        return [certificate for text in texts for certificate in load_certificates(text.encode())]

    moment = case["validation_time"]
    try:
        policy = TrustPolicy(
            anchors=tuple(certificates(case["trusted_certs"])),
            purpose=Purpose.ANY,
            revocation="require" if case["crls"] else "off",
            crls=tuple(text.encode() for text in case["crls"]),
            maximum_path_length=case["max_chain_depth"],
        )
        leaf = certificates([case["peer_certificate"]])[0]
        intermediates = certificates(case["untrusted_intermediates"])
        validate_path(leaf, intermediates, policy, datetime.fromisoformat(moment) if moment else MOMENT)
    except (UntrustedError, MalformedError):
        return False
    return True


def test_every_path_is_decided_as_the_suite_says_or_as_the_manual_explains(
    corpora: Callable[[str], Path], deviations: Callable[[str], set[str]], tally: Tally
) -> None:
    cases = json.loads(corpora("limbo.json").read_text())["testcases"]
    differing, slow = deviations("x509-limbo"), {}
    assert len(cases) == 208
    assert differing <= {case["id"] for case in cases}
    for case in cases:
        start = time.process_time()
        verdict = accepts(case)
        if (seconds := time.process_time() - start) > SECONDS_MAXIMUM:
            slow[case["id"]] = seconds
        tally.check_or_differ(case["id"], verdict, case["expected_result"] == "SUCCESS", differing)
    assert not slow
