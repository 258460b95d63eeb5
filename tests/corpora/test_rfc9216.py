"""RFC 9216: sign and encrypt as the sample people, whose keys are on the token."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from tokensign.cms.decrypt import decrypt
from tokensign.cms.encrypt import encrypt
from tokensign.cms.signed import sign_attached
from tokensign.pki.policy import TrustPolicy
from tokensign.verification import Expectations, verify

if TYPE_CHECKING:
    from collections.abc import Callable

    from tokensign.certificates import Certificate
    from tokensign.token import TokenKey

CONTENT = b"Content-Type: text/plain\r\n\r\nHello\r\n"
MOMENT = datetime(2026, 6, 1, tzinfo=UTC)
AUTHORITIES = {"alice": "rsa", "bob": "rsa", "carlos": "25519", "dana": "25519"}


@pytest.mark.parametrize("name", AUTHORITIES)
def test_each_person_signs_under_their_authority(
    name: str, person: Callable[[str], TokenKey], certificate: Callable[[str], Certificate]
) -> None:
    output = io.BytesIO()
    sign_attached(io.BytesIO(CONTENT), [person(f"{name}.sign")], output)
    policy = TrustPolicy(anchors=(certificate(f"ca.{AUTHORITIES[name]}"),))
    expectations = Expectations(trust=policy, email=f"{name}@smime.example", moment=MOMENT)
    report = verify(io.BytesIO(output.getvalue()), expectations)
    assert [verdict.status.value for verdict in report.signers[0].verdicts.values()] == ["passed"] * 4


@pytest.mark.parametrize("name", AUTHORITIES)
def test_each_person_decrypts_on_the_token(
    name: str, person: Callable[[str], TokenKey], certificate: Callable[[str], Certificate]
) -> None:
    encrypted, output = io.BytesIO(), io.BytesIO()
    encrypt(io.BytesIO(CONTENT), [certificate(f"{name}.encrypt")], encrypted)
    decrypt(io.BytesIO(encrypted.getvalue()), [person(f"{name}.encrypt")], output)
    assert output.getvalue() == CONTENT
