from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID as Eku

from tokensign.errors import UntrustedError
from tokensign.pki.purpose import Purpose, check_encryption_use, check_issuing_use, check_signing_use

if TYPE_CHECKING:
    from conftest import Toolbox


@pytest.mark.parametrize(
    ("options", "purpose"),
    [
        ({}, Purpose.EMAIL_PROTECTION),
        ({"usage": ["digital_signature"]}, Purpose.EMAIL_PROTECTION),
        ({"usage": ["content_commitment"]}, Purpose.EMAIL_PROTECTION),
        ({"extended": [Eku.EMAIL_PROTECTION, Eku.CLIENT_AUTH]}, Purpose.EMAIL_PROTECTION),
        ({"extended": [Eku.ANY_EXTENDED_KEY_USAGE]}, Purpose.EMAIL_PROTECTION),
        ({"extended": [Eku.CODE_SIGNING]}, Purpose.CODE_SIGNING),
        ({"extended": [Eku.TIME_STAMPING], "extended_critical": True}, Purpose.TIME_STAMPING),
        ({"extended": [Eku.SERVER_AUTH], "usage": ["key_agreement"]}, Purpose.ANY),
    ],
)
def test_signing_is_allowed(toolbox: Toolbox, options: dict[str, Any], purpose: Purpose) -> None:
    check_signing_use(toolbox.forge(**options).certificate, purpose)


@pytest.mark.parametrize(
    ("options", "purpose", "reason"),
    [
        ({"usage": ["key_agreement"]}, Purpose.EMAIL_PROTECTION, "not meant for signatures"),
        ({"usage": ["key_cert_sign"]}, Purpose.EMAIL_PROTECTION, "not meant for signatures"),
        ({"extended": [Eku.SERVER_AUTH]}, Purpose.EMAIL_PROTECTION, "not meant for e-mail protection"),
        ({"extended": [Eku.EMAIL_PROTECTION]}, Purpose.CODE_SIGNING, "not meant for code signing"),
        ({}, Purpose.TIME_STAMPING, "not meant for time stamping alone"),
        ({"extended": [Eku.TIME_STAMPING]}, Purpose.TIME_STAMPING, "alone"),
        (
            {"extended": [Eku.TIME_STAMPING, Eku.EMAIL_PROTECTION], "extended_critical": True},
            Purpose.TIME_STAMPING,
            "alone",
        ),
    ],
)
def test_signing_is_refused(toolbox: Toolbox, options: dict[str, Any], purpose: Purpose, reason: str) -> None:
    with pytest.raises(UntrustedError, match=f"certificate of Alice is {reason}|{reason}"):
        check_signing_use(toolbox.forge(**options).certificate, purpose)


def test_the_hint_lists_what_the_certificate_allows(toolbox: Toolbox) -> None:
    certificate = toolbox.forge(extended=[Eku.SERVER_AUTH, Eku.CLIENT_AUTH]).certificate
    with pytest.raises(UntrustedError) as refusal:
        check_signing_use(certificate, Purpose.EMAIL_PROTECTION)
    assert "client auth, server auth" in (refusal.value.hint or "")


def test_an_intermediate_limits_what_it_issues(toolbox: Toolbox) -> None:
    check_issuing_use(toolbox.authority().certificate, Purpose.EMAIL_PROTECTION)
    web = toolbox.authority(extended=[Eku.SERVER_AUTH]).certificate
    check_issuing_use(web, Purpose.ANY)
    with pytest.raises(UntrustedError, match="not meant for e-mail protection"):
        check_issuing_use(web, Purpose.EMAIL_PROTECTION)


@pytest.mark.parametrize(
    "options",
    [
        {"kind": "rsa:2048"},
        {"kind": "rsa:2048", "usage": ["key_encipherment"]},
        {"kind": "p256", "usage": ["key_agreement"]},
        {"kind": "p256", "extended": [Eku.EMAIL_PROTECTION]},
    ],
)
def test_encryption_is_allowed(toolbox: Toolbox, options: dict[str, Any]) -> None:
    check_encryption_use(toolbox.forge(**options).certificate)


def test_encryption_to_x25519_is_allowed(toolbox: Toolbox) -> None:
    root = toolbox.authority()
    carol = toolbox.forge("Carol", issuer=root, key=toolbox.private_key("x25519"), usage=["key_agreement"])
    check_encryption_use(carol.certificate)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"kind": "rsa:2048", "usage": ["digital_signature"]}, "not meant for encryption"),
        ({"kind": "rsa:2048", "usage": ["key_agreement"]}, "not meant for encryption"),
        ({"kind": "p256", "usage": ["key_encipherment"]}, "not meant for encryption"),
        ({"kind": "ed25519"}, "only signs"),
        ({"kind": "rsa:2048", "extended": [Eku.SERVER_AUTH]}, "not meant for e-mail protection"),
    ],
)
def test_encryption_is_refused(toolbox: Toolbox, options: dict[str, Any], reason: str) -> None:
    with pytest.raises(UntrustedError, match=reason):
        check_encryption_use(toolbox.forge(**options).certificate)
