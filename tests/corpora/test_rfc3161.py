"""Time-stamp tokens of other authorities: the integrity of their SignedData (RFC 3161)."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import pytest

from tokensign import der
from tokensign.certificates import load_certificates
from tokensign.cms.signed_data import read_signed_data
from tokensign.cms.verify import verify_signatures

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

TST_INFO = "1.2.840.113549.1.9.16.1.4"
HOLDS = [
    "identrust/issue-104.tsr",
    "sigstage/response-no-embedded-cert.tsr",
    "sigstage/response-sha256.tsr",
    "sigstage/response-sha384.tsr",
    "sigstage/response-sha512.tsr",
    "sigstore.mock/response-expired.tsr",
    "test_tsa/response.tsr",
    "test_tsa/other_response.tsr",
    "test_tsa/response-injected-certs.tsr",
]
DOES_NOT = ["sigstage/response-invalid-signature.tsr"]


def error_of(path: Path) -> Any:  # noqa: ANN401 - an error or None
    """Why the signature of the TimeStampToken does not hold, or None."""
    _, token = der.elements(path.read_bytes())
    message = read_signed_data(io.BytesIO(token))
    assert message.content_type == TST_INFO
    assert message.content is not None
    chain = load_certificates((path.parent / "ts_chain.pem").read_bytes())
    (result,) = verify_signatures(message, message.content.chunks(), certificates=chain, legacy=True)
    return result.error


@pytest.mark.parametrize("name", HOLDS)
def test_good_tokens_hold(name: str, corpora: Callable[[str], Path]) -> None:
    assert error_of(corpora(f"rfc3161/{name}")) is None


@pytest.mark.parametrize("name", DOES_NOT)
def test_forged_tokens_do_not(name: str, corpora: Callable[[str], Path]) -> None:
    assert error_of(corpora(f"rfc3161/{name}")) is not None


def test_every_token_is_named_here(corpora: Callable[[str], Path]) -> None:
    folder = corpora("rfc3161")
    assert {str(path.relative_to(folder)) for path in folder.rglob("*.tsr")} == {*HOLDS, *DOES_NOT}
