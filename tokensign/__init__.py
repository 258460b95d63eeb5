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

What is promised: no call reads or wraps a private key; a PIN is tried once and shown nowhere; content
streams in constant memory; a file appears whole or not at all; errors are those of `tokensign.errors`,
each with a hint. Streams must be able to seek (`tokensign.files.spool` makes a pipe so). Everything may be
called from several threads; a process that loaded a module is not forked.

Keys that live elsewhere are used the same way: whatever has the methods of `Signer` or `Decrypter` will do.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from tokensign.algorithms import KeySpec, KeyUsage, SignatureScheme, content_cipher, digest
    from tokensign.certificates import Certificate, load_certificates
    from tokensign.cms.decrypt import DecryptionResult, decrypt, decrypt_to_file
    from tokensign.cms.encrypt import encrypt
    from tokensign.cms.signed import SigningOptions, add_signatures, sign_attached, sign_detached
    from tokensign.cms.signed_data import SignedData, read_signed_data
    from tokensign.errors import TokensignError, VerificationError
    from tokensign.keys import Decrypter, OaepTransport, Pkcs1Transport, Signer
    from tokensign.pki.anchors import load_anchors
    from tokensign.pki.ca import self_signed
    from tokensign.pki.policy import TrustPolicy
    from tokensign.pki.purpose import Purpose
    from tokensign.pki.request import certificate_request
    from tokensign.token import (
        Pin,
        Token,
        TokenKey,
        check_key,
        generate_key,
        import_certificate,
        list_certificates,
        list_keys,
        open_decrypters,
        open_key,
        open_token,
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
    "Certificate": "certificates",
    "Decrypter": "keys",
    "DecryptionResult": "cms.decrypt",
    "Expectations": "verification",
    "KeySpec": "algorithms",
    "KeyUri": "uri",
    "KeyUsage": "algorithms",
    "OaepTransport": "keys",
    "Pin": "token",
    "Pkcs1Transport": "keys",
    "Purpose": "pki.purpose",
    "SignatureScheme": "algorithms",
    "SignedData": "cms.signed_data",
    "Signer": "keys",
    "SignerReport": "verification",
    "SigningOptions": "cms.signed",
    "Status": "verification",
    "Token": "token",
    "TokenKey": "token",
    "TokensignError": "errors",
    "TrustPolicy": "pki.policy",
    "Verdict": "verification",
    "VerificationError": "errors",
    "VerificationReport": "verification",
    "add_signatures": "cms.signed",
    "certificate_request": "pki.request",
    "check_key": "token",
    "content_cipher": "algorithms",
    "decrypt": "cms.decrypt",
    "decrypt_to_file": "cms.decrypt",
    "digest": "algorithms",
    "encrypt": "cms.encrypt",
    "generate_key": "token",
    "import_certificate": "token",
    "list_certificates": "token",
    "list_keys": "token",
    "load_anchors": "pki.anchors",
    "load_certificates": "certificates",
    "open_decrypters": "token",
    "open_key": "token",
    "open_token": "token",
    "read_signed_data": "cms.signed_data",
    "self_signed": "pki.ca",
    "sign_attached": "cms.signed",
    "sign_detached": "cms.signed",
    "verify": "verification",
    "verify_to_file": "verification",
}

__all__ = [
    "Certificate",
    "Decrypter",
    "DecryptionResult",
    "Expectations",
    "KeySpec",
    "KeyUri",
    "KeyUsage",
    "OaepTransport",
    "Pin",
    "Pkcs1Transport",
    "Purpose",
    "SignatureScheme",
    "SignedData",
    "Signer",
    "SignerReport",
    "SigningOptions",
    "Status",
    "Token",
    "TokenKey",
    "TokensignError",
    "TrustPolicy",
    "Verdict",
    "VerificationError",
    "VerificationReport",
    "add_signatures",
    "certificate_request",
    "check_key",
    "content_cipher",
    "decrypt",
    "decrypt_to_file",
    "digest",
    "encrypt",
    "generate_key",
    "import_certificate",
    "list_certificates",
    "list_keys",
    "load_anchors",
    "load_certificates",
    "open_decrypters",
    "open_key",
    "open_token",
    "read_signed_data",
    "self_signed",
    "sign_attached",
    "sign_detached",
    "verify",
    "verify_to_file",
]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - whatever was asked for
    if name not in _PUBLIC:
        raise AttributeError(f"module 'tokensign' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"tokensign.{_PUBLIC[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
