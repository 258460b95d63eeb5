"""Sign, verify, encrypt and decrypt CMS with private keys that never leave their PKCS#11 token.

Sign a file, detached::

    import tokensign

    with tokensign.open_token(token="acme", pin_source="env:ACME_PIN") as token:
        alice = tokensign.open_key(token, "alice")
        with open("contract.pdf", "rb") as content:
            signature = tokensign.sign_detached(content, [alice])

Verify it against a trust anchor; `verify` raises unless integrity, trust and identity all hold::

    anchors = tokensign.load_anchors([Path("ca.pem")])
    expectations = tokensign.Expectations(
        trust=tokensign.TrustPolicy(anchors=anchors), email="alice@acme.example"
    )
    with open("contract.pdf", "rb") as content:
        report = tokensign.verify(io.BytesIO(signature), expectations, content)

Encrypt to certificates, and decrypt with the keys of a token::

    with open("contract.pdf", "rb") as content, open("contract.p7m", "wb") as output:
        tokensign.encrypt(content, tokensign.load_certificates(Path("bob.pem").read_bytes()), output)
    with open("contract.p7m", "rb") as message:
        tokensign.decrypt_to_file(message, tokensign.open_decrypters(token), "contract.pdf")

A recipient is a certificate, a `KekRecipient` or a `PasswordRecipient`; what opens a message is a key on a
token, a `KeyEncryptionKey` or a `Password`. The other content types have a pair of functions each: `compress`
and `decompress`, `make_digested_data` and `verify_digested_data`, `authenticate` and
`verify_authenticated_data`, `encrypt_with_key` and `decrypt_with_key`, `write_certificates_only` and
`read_certificates_only`. `open_layers` opens messages inside messages, `walk_layers` looks into them;
`add_countersignatures` signs a signature, `extend_signatures` makes signatures outlive their certificates.
`sign_mail`, `encrypt_mail` and `open_mail` do the same for mail, header fields and all layers included.

What is promised: no call reads or wraps a private key; a PIN is tried once and shown nowhere; content
streams in constant memory; a file appears whole or not at all; errors are those of `tokensign.errors`,
each with a hint. Streams must be able to seek (`tokensign.files.spool` makes a pipe so). Everything may be
called from several threads; a process that loaded a module is not forked.

Keys that live elsewhere are used the same way: whatever has the methods of `Signer`, `Decrypter`,
`KeyAgreement`, `Decapsulator` or `KeyEncryptionKey` will do.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from tokensign.algorithms import KeySpec, KeyUsage, SignatureScheme, content_cipher, digest, mac_algorithm
    from tokensign.cades.extend import ExtensionMeans, extend_signatures
    from tokensign.cades.levels import Level
    from tokensign.certificates import Certificate, load_certificates
    from tokensign.cms.authenticated import AuthenticationResult, authenticate, verify_authenticated_data
    from tokensign.cms.certificates_only import read_certificates_only, write_certificates_only
    from tokensign.cms.compressed import DecompressionLimit, compress, decompress
    from tokensign.cms.countersignature import add_countersignatures
    from tokensign.cms.decrypt import DecryptionResult, decrypt, decrypt_to_file
    from tokensign.cms.digested import DigestedData, make_digested_data, verify_digested_data
    from tokensign.cms.encrypt import encrypt, encrypt_streamed
    from tokensign.cms.encrypted import decrypt_with_key, encrypt_with_key
    from tokensign.cms.layers import Layer, OpenedContent, OpenedLayer, open_layers, walk_layers
    from tokensign.cms.recipients import RecipientEncoder
    from tokensign.cms.recipients.kek import KekRecipient
    from tokensign.cms.recipients.kek_bytes import KeyEncryptionKeyBytes
    from tokensign.cms.recipients.key_derivation import Pbkdf2Derivation, ScryptDerivation
    from tokensign.cms.recipients.password import PasswordRecipient
    from tokensign.cms.signed import (
        SigningOptions,
        SigningTemplate,
        add_signatures,
        sign_attached,
        sign_detached,
        sign_streamed,
    )
    from tokensign.cms.signed_data import SignedData, read_signed_data
    from tokensign.cms.timestamp import TimestampRequest, TimestampResponse, TimestampToken
    from tokensign.errors import TokensignError, VerificationError
    from tokensign.keys import (
        Decapsulator,
        Decrypter,
        KeyAgreement,
        KeyEncryptionKey,
        OaepTransport,
        Password,
        Pkcs1Transport,
        Signer,
    )
    from tokensign.pki.anchors import load_anchors, system_anchors
    from tokensign.pki.ca import self_signed
    from tokensign.pki.http import HttpClient, Limits
    from tokensign.pki.policy import PolicyInputs, TrustPolicy
    from tokensign.pki.purpose import Purpose
    from tokensign.pki.request import certificate_request
    from tokensign.pki.revocation import RevocationCache, RevocationInfo
    from tokensign.pki.timestamping import validate_timestamp
    from tokensign.pki.trust import validate_path
    from tokensign.pki.tsa_client import TimestampAuthority
    from tokensign.pki.validated_path import RevocationEvidence, ValidatedPath
    from tokensign.smime.compose_mail import encrypt_mail, sign_mail
    from tokensign.smime.mail_options import MailOptions
    from tokensign.smime.mail_report import MailReport
    from tokensign.smime.open_mail import open_mail
    from tokensign.token import (
        Pin,
        Token,
        TokenKey,
        TokenSecretKey,
        check_key,
        generate_key,
        generate_secret_key,
        import_certificate,
        list_certificates,
        list_keys,
        open_decrypters,
        open_key,
        open_secret_key,
        open_secret_keys,
        open_token,
        protection_statement,
    )
    from tokensign.uri import KeyUri
    from tokensign.verification import (
        Expectations,
        SignerReport,
        Status,
        Verdict,
        VerificationReport,
        verify,
        verify_to_file,
    )

__version__ = "0.1.0"

# Public name to the module it is imported from when it is first used, so that a program loads only what it
# needs: verifying loads no PKCS#11 binding, and `tokensign --help` next to nothing.
_PUBLIC: Final = {
    "AuthenticationResult": "cms.authenticated",
    "Certificate": "certificates",
    "Decapsulator": "keys",
    "DecompressionLimit": "cms.compressed",
    "Decrypter": "keys",
    "DecryptionResult": "cms.decrypt",
    "DigestedData": "cms.digested",
    "Expectations": "verification",
    "ExtensionMeans": "cades.extend",
    "HttpClient": "pki.http",
    "KekRecipient": "cms.recipients.kek",
    "KeyAgreement": "keys",
    "KeyEncryptionKey": "keys",
    "KeyEncryptionKeyBytes": "cms.recipients.kek_bytes",
    "KeySpec": "algorithms",
    "KeyUri": "uri",
    "KeyUsage": "algorithms",
    "Layer": "cms.layers",
    "Level": "cades.levels",
    "Limits": "pki.http",
    "MailOptions": "smime.mail_options",
    "MailReport": "smime.mail_report",
    "OaepTransport": "keys",
    "OpenedContent": "cms.layers",
    "OpenedLayer": "cms.layers",
    "Password": "keys",
    "PasswordRecipient": "cms.recipients.password",
    "Pbkdf2Derivation": "cms.recipients.key_derivation",
    "Pin": "token",
    "Pkcs1Transport": "keys",
    "PolicyInputs": "pki.policy",
    "Purpose": "pki.purpose",
    "RecipientEncoder": "cms.recipients",
    "RevocationCache": "pki.revocation",
    "RevocationEvidence": "pki.validated_path",
    "RevocationInfo": "pki.revocation",
    "ScryptDerivation": "cms.recipients.key_derivation",
    "SignatureScheme": "algorithms",
    "SignedData": "cms.signed_data",
    "Signer": "keys",
    "SignerReport": "verification",
    "SigningOptions": "cms.signed",
    "SigningTemplate": "cms.signed",
    "Status": "verification",
    "TimestampAuthority": "pki.tsa_client",
    "TimestampRequest": "cms.timestamp",
    "TimestampResponse": "cms.timestamp",
    "TimestampToken": "cms.timestamp",
    "Token": "token",
    "TokenKey": "token",
    "TokenSecretKey": "token",
    "TokensignError": "errors",
    "TrustPolicy": "pki.policy",
    "ValidatedPath": "pki.validated_path",
    "Verdict": "verification",
    "VerificationError": "errors",
    "VerificationReport": "verification",
    "add_countersignatures": "cms.countersignature",
    "add_signatures": "cms.signed",
    "authenticate": "cms.authenticated",
    "certificate_request": "pki.request",
    "check_key": "token",
    "compress": "cms.compressed",
    "content_cipher": "algorithms",
    "decompress": "cms.compressed",
    "decrypt": "cms.decrypt",
    "decrypt_to_file": "cms.decrypt",
    "decrypt_with_key": "cms.encrypted",
    "digest": "algorithms",
    "encrypt": "cms.encrypt",
    "encrypt_mail": "smime.compose_mail",
    "encrypt_streamed": "cms.encrypt",
    "encrypt_with_key": "cms.encrypted",
    "extend_signatures": "cades.extend",
    "generate_key": "token",
    "generate_secret_key": "token",
    "import_certificate": "token",
    "list_certificates": "token",
    "list_keys": "token",
    "load_anchors": "pki.anchors",
    "load_certificates": "certificates",
    "mac_algorithm": "algorithms",
    "make_digested_data": "cms.digested",
    "open_decrypters": "token",
    "open_key": "token",
    "open_layers": "cms.layers",
    "open_mail": "smime.open_mail",
    "open_secret_key": "token",
    "open_secret_keys": "token",
    "open_token": "token",
    "protection_statement": "token",
    "read_certificates_only": "cms.certificates_only",
    "read_signed_data": "cms.signed_data",
    "self_signed": "pki.ca",
    "sign_attached": "cms.signed",
    "sign_detached": "cms.signed",
    "sign_mail": "smime.compose_mail",
    "sign_streamed": "cms.signed",
    "system_anchors": "pki.anchors",
    "validate_path": "pki.trust",
    "validate_timestamp": "pki.timestamping",
    "verify": "verification",
    "verify_authenticated_data": "cms.authenticated",
    "verify_digested_data": "cms.digested",
    "verify_to_file": "verification",
    "walk_layers": "cms.layers",
    "write_certificates_only": "cms.certificates_only",
}

__all__ = [
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


def __getattr__(name: str) -> Any:  # noqa: ANN401 - whatever was asked for
    if name not in _PUBLIC:
        raise AttributeError(f"module 'tokensign' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"tokensign.{_PUBLIC[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
