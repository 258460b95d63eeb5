"""The names that programs build on: a change here changes the interface, and stands in the changelog."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest

import tokensign

PUBLIC = [
    "AuthenticationResult",
    "Certificate",
    "Decapsulator",
    "DecompressionLimit",
    "Decrypter",
    "DecryptionResult",
    "DigestedData",
    "Expectations",
    "ExtensionMeans",
    "HttpClient",
    "KekRecipient",
    "KeyAgreement",
    "KeyEncryptionKey",
    "KeyEncryptionKeyBytes",
    "KeySpec",
    "KeyUri",
    "KeyUsage",
    "Layer",
    "Level",
    "Limits",
    "MailOptions",
    "MailReport",
    "OaepTransport",
    "OpenedContent",
    "OpenedLayer",
    "Password",
    "PasswordRecipient",
    "Pbkdf2Derivation",
    "Pin",
    "Pkcs1Transport",
    "PolicyInputs",
    "Purpose",
    "RecipientEncoder",
    "RevocationCache",
    "RevocationEvidence",
    "RevocationInfo",
    "ScryptDerivation",
    "SignatureScheme",
    "SignedData",
    "Signer",
    "SignerReport",
    "SigningOptions",
    "SigningTemplate",
    "Status",
    "TimestampAuthority",
    "TimestampRequest",
    "TimestampResponse",
    "TimestampToken",
    "Token",
    "TokenKey",
    "TokenSecretKey",
    "TokensignError",
    "TrustPolicy",
    "ValidatedPath",
    "Verdict",
    "VerificationError",
    "VerificationReport",
    "add_countersignatures",
    "add_signatures",
    "authenticate",
    "certificate_request",
    "check_key",
    "compress",
    "content_cipher",
    "decompress",
    "decrypt",
    "decrypt_to_file",
    "decrypt_with_key",
    "digest",
    "encrypt",
    "encrypt_mail",
    "encrypt_streamed",
    "encrypt_with_key",
    "extend_signatures",
    "generate_key",
    "generate_secret_key",
    "import_certificate",
    "list_certificates",
    "list_keys",
    "load_anchors",
    "load_certificates",
    "mac_algorithm",
    "make_digested_data",
    "open_decrypters",
    "open_key",
    "open_layers",
    "open_mail",
    "open_secret_key",
    "open_secret_keys",
    "open_token",
    "protection_statement",
    "read_certificates_only",
    "read_signed_data",
    "self_signed",
    "sign_attached",
    "sign_detached",
    "sign_mail",
    "sign_streamed",
    "system_anchors",
    "validate_path",
    "validate_timestamp",
    "verify",
    "verify_authenticated_data",
    "verify_digested_data",
    "verify_to_file",
    "walk_layers",
    "write_certificates_only",
]


def test_the_public_names_are_these() -> None:
    assert tokensign.__all__ == PUBLIC
    assert set(PUBLIC) <= set(dir(tokensign))


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_name_is_documented(name: str) -> None:
    value = getattr(tokensign, name)
    assert value.__module__.startswith("tokensign")
    documentation = inspect.getdoc(value) or ""
    assert len(documentation) > 20
    assert not documentation.startswith(f"{name}(")  # what a dataclass without docstring has


@pytest.mark.parametrize(
    "name", [name for name in PUBLIC if inspect.isfunction(getattr(tokensign, name)) and name != "digest"]
)
def test_a_public_function_says_what_it_takes_and_raises(name: str) -> None:
    documentation = inspect.getdoc(getattr(tokensign, name)) or ""
    assert "Raises:" in documentation
    if len(inspect.signature(getattr(tokensign, name)).parameters) > 1:
        assert "Args:" in documentation


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'tokensign' has no attribute 'sing'"):
        _ = tokensign.sing


def test_version_is_that_of_the_distribution() -> None:
    assert tokensign.__version__.count(".") == 2


def loaded_by(statement: str) -> set[str]:
    code = f"import sys; {statement}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_a_name_loads_only_what_it_needs() -> None:
    assert not {"cryptography", "asn1crypto", "pkcs11"} & loaded_by("import tokensign")
    assert "pkcs11" not in loaded_by("from tokensign import verify, encrypt, sign_detached")
    assert "pyhanko_certvalidator" not in loaded_by("from tokensign import encrypt, sign_detached")
