"""People who send each other mail: Alice and Bob under an authority, and a stranger under the same one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tokensign.algorithms import KeyUsage
from tokensign.pki.ca import issue as issue_under
from tokensign.pki.ca import root_certificate
from tokensign.pki.policy import TrustPolicy
from tokensign.token import import_certificate, open_key
from tokensign.verification import Expectations

if TYPE_CHECKING:
    from collections.abc import Callable

    from tokensign.certificates import Certificate
    from tokensign.token import TokenKey


@pytest.fixture(scope="session")
def mail_authority(token_key: Callable[..., TokenKey]) -> tuple[TokenKey, Certificate]:
    key = token_key("ec:p384", name="mail-authority")
    return key, root_certificate(key, "CN=Mail Root,O=Acme")


@pytest.fixture(scope="session")
def mail_person(
    token_key: Callable[..., TokenKey], mail_authority: tuple[TokenKey, Certificate]
) -> Callable[..., TokenKey]:
    """Somebody with a key and a certificate: `mail_person("alice")`, `mail_person("bob", "rsa:2048")`."""

    def make(
        name: str, spec: str = "ec:p256", usage: KeyUsage = KeyUsage.SIGN, address: str | None = None
    ) -> TokenKey:
        key = token_key(spec, usage, name=f"mail-{name}")
        address = address or f"{name}@acme.example"
        certificate = issue_under(
            *mail_authority, key.public_key, f"CN={name.title()},O=Acme", [address], usage=usage
        )
        import_certificate(key.token, certificate)
        return open_key(key.token, key.info, certificate=certificate)

    return make


@pytest.fixture(scope="session")
def alice(mail_person: Callable[..., TokenKey]) -> TokenKey:
    """Signs as alice@acme.example."""
    return mail_person("alice")


@pytest.fixture(scope="session")
def mallory(mail_person: Callable[..., TokenKey]) -> TokenKey:
    """Signs as mallory@evil.example, with a certificate that is as good as that of Alice."""
    return mail_person("mallory", address="mallory@evil.example")


@pytest.fixture(scope="session")
def bob(mail_person: Callable[..., TokenKey]) -> TokenKey:
    """Reads what is encrypted to bob@acme.example."""
    return mail_person("bob", "rsa:2048", KeyUsage.DECRYPT)


@pytest.fixture(scope="session")
def mail_trust(mail_authority: tuple[TokenKey, Certificate]) -> Expectations:
    """Who trusts the authority."""
    return Expectations(trust=TrustPolicy(anchors=(mail_authority[1],)))
