"""Storing certificates on a token, beside the keys that they were issued for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pkcs11
from pkcs11.constants import Attribute, CertificateType, ObjectClass

from tokensign import der
from tokensign.errors import UsageError
from tokensign.token.objects import StoredCertificate, read_certificates, read_keys
from tokensign.token.public_key import key_identifier, public_key_info

if TYPE_CHECKING:
    from tokensign.certificates import Certificate
    from tokensign.token.opening import Token

__all__ = ["import_certificate"]


def import_certificate(
    token: Token, certificate: Certificate, *, label: str | None = None
) -> StoredCertificate:
    """Store a certificate, under the CKA_ID and label of its key where the token has that.

    It is not marked as trusted (CKA_TRUSTED): trust is the configuration's business, not the token's.

    Args:
        token: A token opened with `read_write`.
        certificate: The certificate.
        label: CKA_LABEL; None for the key's, or, where there is no key or the token does not take that, the
            subject's common name.

    Raises:
        UsageError: It is on the token already, or the token is open only for reading.
        UnsupportedError: The type of its public key is not known.
        TokenError: The token does not take it.
    """
    with token.borrow("store a certificate", change=True) as session:
        for stored in read_certificates(session, token.info):
            if stored.certificate == certificate:
                raise UsageError(f"the certificate is on the token already: {stored.uri}")
        key = next(
            (
                key
                for key in read_keys(session, token.info)
                if key.public_key is not None
                and public_key_info(key.public_key) == certificate.public_key_info
            ),
            None,
        )
        template = {
            Attribute.CLASS: ObjectClass.CERTIFICATE,
            Attribute.CERTIFICATE_TYPE: CertificateType.X_509,
            Attribute.TOKEN: True,
            Attribute.PRIVATE: False,
            Attribute.LABEL: label or (key.label if key else _common_name(certificate)),
            Attribute.ID: (key.id if key else b"") or key_identifier(certificate.public_key),
            Attribute.SUBJECT: certificate.encoded_subject,
            Attribute.ISSUER: certificate.encoded_issuer,
            Attribute.SERIAL_NUMBER: der.integer(certificate.serial_number),
            Attribute.VALUE: certificate.der,
        }
        try:
            session.binding.create_object(template)
        except pkcs11.AttributeValueInvalid:
            if label or key is None:
                raise
            # NSS gives a label to one subject only, and a certificate of the key may have had another.
            session.binding.create_object(template | {Attribute.LABEL: _common_name(certificate)})
        return next(
            stored for stored in read_certificates(session, token.info) if stored.certificate == certificate
        )


def _common_name(certificate: Certificate) -> str:
    native = certificate.asn1.subject.native
    name = native.get("common_name", certificate.subject)
    return str(name if isinstance(name, str) else name[-1])
