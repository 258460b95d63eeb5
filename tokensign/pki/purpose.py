"""What a certificate may be used for: keyUsage and extendedKeyUsage (RFC 5280, RFC 8550 section 4.4)."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Final

from cryptography.hazmat.primitives.asymmetric import ec, mlkem, rsa, x448, x25519

from tokensign.errors import UntrustedError
from tokensign.pki.names import display_name

if TYPE_CHECKING:
    from tokensign.certificates import Certificate

__all__ = ["Purpose", "check_encryption_use", "check_issuing_use", "check_signing_use"]

_ANY_EXTENDED_KEY_USAGE: Final = "any_extended_key_usage"


class Purpose(enum.Enum):
    """What the signatures of a certificate's key are about; the value is its name on the command line."""

    EMAIL_PROTECTION = "email-protection"
    """S/MIME, and CMS in general (RFC 8550 section 4.4.4)."""
    CODE_SIGNING = "code-signing"
    """Software (RFC 5280 section 4.2.1.12)."""
    TIME_STAMPING = "time-stamping"
    """Timestamps: a critical extendedKeyUsage must say so and nothing else (RFC 3161 section 2.3)."""
    ANY = "any"
    """Nothing is asked of the certificate; for callers that look at its use themselves."""

    @property
    def description(self) -> str:
        """The purpose in words."""
        return {"email-protection": "e-mail protection"}.get(self.value, self.value.replace("-", " "))

    @property
    def extended_key_usage(self) -> str:
        """The KeyPurposeId, in asn1crypto's name."""
        return self.value.replace("-", "_")


def check_signing_use(certificate: Certificate, purpose: Purpose) -> None:
    """Check that a certificate allows signatures for a purpose.

    An extension that is absent restricts nothing, but for timestamps.

    Args:
        certificate: The signer's certificate.
        purpose: What the signature is about.

    Raises:
        UntrustedError: Its keyUsage has neither digitalSignature nor nonRepudiation (contentCommitment), or
            its extendedKeyUsage does not have the purpose.
    """
    if purpose is Purpose.ANY:
        return
    usage = certificate.key_usage
    if usage is not None and not usage & {"digital_signature", "non_repudiation"}:
        raise UntrustedError(
            f"the certificate of {display_name(certificate)} is not meant for signatures",
            hint=f"its key usage is: {_words(usage)}",
        )
    if purpose is Purpose.TIME_STAMPING:
        _check_exclusive(certificate, purpose)
    else:
        _check_extended(certificate, purpose)


def check_issuing_use(certificate: Certificate, purpose: Purpose) -> None:
    """Check that an intermediate CA's extendedKeyUsage, where it has one, covers the purpose.

    RFC 5280 leaves open what the extension means in a CA certificate; the CA/Browser Forum, Mozilla,
    Microsoft and OpenSSL take it as a limit on what the CA issues, and so do CAs that put it there.

    Raises:
        UntrustedError: The purpose is not among its extended key usages.
    """
    if purpose is not Purpose.ANY:
        _check_extended(certificate, purpose)


def check_encryption_use(certificate: Certificate) -> None:
    """Check that mail may be encrypted to a certificate (RFC 8550 section 4.4.2, RFC 8551 section 2.3).

    Args:
        certificate: The recipient's certificate.

    Raises:
        UntrustedError: Its key cannot decrypt, its keyUsage lacks keyEncipherment (RSA, ML-KEM) or
            keyAgreement (elliptic curves), or its extendedKeyUsage lacks e-mail protection.
        UnsupportedError: The key's type is not known.
    """
    name = display_name(certificate)
    match certificate.public_key:
        case rsa.RSAPublicKey() if certificate.asn1.public_key.algorithm == "rsa":  # not id-RSASSA-PSS
            needed = "key_encipherment"
        case mlkem.MLKEM768PublicKey() | mlkem.MLKEM1024PublicKey():  # RFC 9935 section 5
            needed = "key_encipherment"
        case ec.EllipticCurvePublicKey() | x25519.X25519PublicKey() | x448.X448PublicKey():
            needed = "key_agreement"
        case _:
            raise UntrustedError(
                f"nothing can be encrypted to the certificate of {name}: its key only signs",
                hint=f"ask {name} for an encryption certificate",
            )
    usage = certificate.key_usage
    if usage is not None and needed not in usage:
        raise UntrustedError(
            f"the certificate of {name} is not meant for encryption",
            hint=f"its key usage is: {_words(usage)}; ask {name} for an encryption certificate",
        )
    _check_extended(certificate, Purpose.EMAIL_PROTECTION)


def _check_extended(certificate: Certificate, purpose: Purpose) -> None:
    extended = certificate.extended_key_usage
    if extended is not None and not extended & {purpose.extended_key_usage, _ANY_EXTENDED_KEY_USAGE}:
        raise UntrustedError(
            f"the certificate of {display_name(certificate)} is not meant for {purpose.description}",
            hint=f"its extended key usage is: {_words(extended)}; another certificate is needed",
        )


def _check_exclusive(certificate: Certificate, purpose: Purpose) -> None:
    wanted = frozenset({purpose.extended_key_usage})
    if (
        certificate.extended_key_usage != wanted
        or "extended_key_usage" not in certificate.asn1.critical_extensions
    ):
        raise UntrustedError(
            f"the certificate of {display_name(certificate)} is not meant for {purpose.description} alone",
            hint="RFC 3161 asks for a critical extended key usage of this one purpose",
        )


def _words(usages: frozenset[str]) -> str:
    return ", ".join(sorted(usage.replace("_", " ") for usage in usages)) or "none"
