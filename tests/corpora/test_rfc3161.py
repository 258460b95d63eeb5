"""Timestamps of other authorities: structure, signature, path, and what they answer (RFC 3161)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from tokensign.certificates import load_certificates
from tokensign.cms.timestamp import TimestampRequest, TimestampResponse, TimestampToken
from tokensign.errors import TokensignError
from tokensign.pki.timestamping import Material, validate_timestamp
from tokensign.pki.trust import TrustPolicy

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import Tally

CASES = {  # what is found at the time of each, with the root beside it as the anchor
    "identrust/issue-104.tsr": "holds",
    "sigstage/response-invalid-signature.tsr": "BadSignatureError",
    "sigstage/response-no-embedded-cert.tsr": "holds",
    "sigstage/response-sha256.tsr": "holds",
    "sigstage/response-sha384.tsr": "holds",
    "sigstage/response-sha512.tsr": "holds",
    "sigstore.mock/response-expired.tsr": "holds",
    "test_tsa/other_response.tsr": "IssuerMissingError",  # of another root with the same name
    "test_tsa/response-injected-certs.tsr": "holds",  # its own certificate is found among strangers'
    "test_tsa/response.tsr": "holds",
}
ANSWERS = {"test_tsa/response.tsr", "test_tsa/response-injected-certs.tsr"}  # to request.der beside them


@dataclass(frozen=True)
class Case:
    """A response of the corpus, and the certificates beside it."""

    path: Path

    @property
    def token(self) -> TimestampToken:
        return TimestampToken.load(TimestampResponse.load(self.path.read_bytes()).token or b"")

    def outcome(self, later: timedelta = timedelta(0)) -> str:
        *others, root = load_certificates((self.path.parent / "ts_chain.pem").read_bytes())
        policy = TrustPolicy((root,), revocation="off")
        try:
            token = self.token
            validate_timestamp(token, policy, token.info.time + later, Material(tuple(others)))
        except TokensignError as error:
            return type(error).__name__
        return "holds"


def test_every_timestamp_is_what_it_should_be(corpora: Callable[[str], Path], tally: Tally) -> None:
    for name, expected in CASES.items():
        tally.check(name, Case(corpora(f"rfc3161/{name}")).outcome(), expected)


def test_every_timestamp_is_named_here(corpora: Callable[[str], Path]) -> None:
    folder = corpora("rfc3161")
    assert {str(path.relative_to(folder)) for path in folder.rglob("*.tsr")} == {*CASES}


def test_requests_are_read_and_answered_by_their_own_timestamps_only(
    corpora: Callable[[str], Path], tally: Tally
) -> None:
    for name in CASES:
        path = corpora(f"rfc3161/{name}")
        request = path.parent / "request.der"
        if not request.exists():
            tally.skip("have no request beside them")
            continue
        try:
            Case(path).token.check_request(TimestampRequest.load(request.read_bytes()))
            answers = True
        except TokensignError:
            answers = False
        tally.check(name, answers, name in ANSWERS)


def test_a_timestamp_of_a_tsa_that_has_expired_since_does_not_hold_now(
    corpora: Callable[[str], Path],
) -> None:
    case = Case(corpora("rfc3161/sigstore.mock/response-expired.tsr"))
    assert case.outcome(later=datetime.now(UTC) - case.token.info.time) == "UntrustedError"


def test_a_tsa_certificate_that_is_nowhere_is_missed(corpora: Callable[[str], Path]) -> None:
    token = Case(corpora("rfc3161/sigstage/response-no-embedded-cert.tsr")).token
    with pytest.raises(TokensignError, match="is not in the message"):
        token.verify()


def test_every_request_survives_being_written(corpora: Callable[[str], Path]) -> None:
    for path in corpora("rfc3161").rglob("*request.der"):
        request = TimestampRequest.load(path.read_bytes())
        assert TimestampRequest.load(request.encode()) == request
