"""The sample certificates of RFC 9216: an RSA and an Ed25519 authority, and their cross-certificates."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from tokensign.certificates import Certificate, load_certificates
from tokensign.errors import UntrustedError
from tokensign.pki.trust import TrustPolicy, check_encryption_use, validate_path

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MOMENT = datetime(2026, 6, 1, tzinfo=UTC)
PEOPLE = {"alice": "rsa", "bob": "rsa", "carlos": "25519", "dana": "25519"}
OTHER = {"rsa": "25519", "25519": "rsa"}


@pytest.fixture
def sample(corpora: Callable[[str], Path]) -> Callable[[str], Certificate]:
    return lambda name: load_certificates((corpora("rfc9216") / f"{name}.crt").read_bytes())[0]


@pytest.mark.parametrize("person", PEOPLE)
def test_signing_certificates_lead_to_their_authority(
    person: str, sample: Callable[[str], Certificate]
) -> None:
    root = sample(f"ca.{PEOPLE[person]}")
    signer = sample(f"{person}.sign")
    assert validate_path(signer, [], TrustPolicy((root,)), MOMENT).certificates == (signer, root)


@pytest.mark.parametrize("person", PEOPLE)
def test_signing_certificates_lead_to_the_other_authority_by_cross_certificate(
    person: str, sample: Callable[[str], Certificate]
) -> None:
    own = PEOPLE[person]
    root, cross, signer = sample(f"ca.{OTHER[own]}"), sample(f"ca.{own}.cross"), sample(f"{person}.sign")
    every = [sample(f"ca.{name}") for name in ("rsa", "25519", "rsa.cross", "25519.cross")]
    assert validate_path(signer, every, TrustPolicy((root,)), MOMENT).certificates == (signer, cross, root)


@pytest.mark.parametrize("person", PEOPLE)
def test_without_the_cross_certificate_the_reason_names_the_missing_authority(
    person: str, sample: Callable[[str], Certificate]
) -> None:
    policy = TrustPolicy((sample(f"ca.{OTHER[PEOPLE[person]]}"),))
    with pytest.raises(UntrustedError, match=r"the certificate of 'Sample LAMPS .* Authority' is missing"):
        validate_path(sample(f"{person}.sign"), [], policy, MOMENT)


@pytest.mark.parametrize("person", PEOPLE)
def test_encryption_certificates_do_not_sign_and_signing_certificates_do_not_encrypt(
    person: str, sample: Callable[[str], Certificate]
) -> None:
    check_encryption_use(sample(f"{person}.encrypt"))
    with pytest.raises(UntrustedError, match=r"not meant for encryption|only signs"):
        check_encryption_use(sample(f"{person}.sign"))
    with pytest.raises(UntrustedError, match="not meant for signatures"):
        validate_path(sample(f"{person}.encrypt"), [], TrustPolicy((sample(f"ca.{PEOPLE[person]}"),)), MOMENT)
