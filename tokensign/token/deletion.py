"""Deleting keys and certificates from a token."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pkcs11.constants import Attribute, ObjectClass

from tokensign.errors import KeyNotFoundError
from tokensign.token.attributes import objects
from tokensign.token.choosing import find_certificate, find_private_or_secret_key
from tokensign.token.objects import KeyInfo, StoredCertificate, read_certificates, read_public_key
from tokensign.token.public_key import decode, public_key_info

if TYPE_CHECKING:
    from tokensign.token.opening import Token
    from tokensign.token.session import Session
    from tokensign.uri import KeyUri

__all__ = ["delete_certificate", "delete_key"]


def delete_key(token: Token, key: str | KeyUri | KeyInfo, *, certificates: bool = False) -> None:
    """Destroy a private key and its public half, or an AES key, for ever.

    Args:
        token: A token opened with `read_write`.
        key: The key, as for `find_private_or_secret_key`.
        certificates: Whether the certificates for the key go too.

    Raises:
        KeyNotFoundError: There is no such key.
        AmbiguousNameError: Several fit.
        UsageError: The token is open only for reading.
    """
    token.require_change("delete a key")
    info = key if isinstance(key, KeyInfo) else find_private_or_secret_key(token, key)
    wanted = None if info.public_key is None else public_key_info(info.public_key)
    with token.borrow(f"delete the key {info.label}", change=True) as session:
        kind = ObjectClass.SECRET_KEY if info.secret else ObjectClass.PRIVATE_KEY
        found = objects(session, _template(kind, info.label, info.id))
        if len(found) != 1:
            raise KeyNotFoundError(f"the key {info.uri} is not there any more")
        found[0].destroy()
        token.connection.forget_objects()  # a module may give the handle to another object
        if info.secret:
            return
        for public in objects(session, _template(ObjectClass.PUBLIC_KEY, info.label, info.id)):
            half = decode(read_public_key(public))
            if half is None or wanted is None or public_key_info(half) == wanted:
                public.destroy()
        if certificates and wanted is not None:
            for stored in read_certificates(session, token.info):
                if stored.certificate.public_key_info == wanted:
                    _delete(session, stored)


def delete_certificate(token: Token, certificate: str | KeyUri | StoredCertificate) -> None:
    """Delete a certificate; its key stays.

    Args:
        token: A token opened with `read_write`.
        certificate: The certificate, as for `find_certificate`.

    Raises:
        KeyNotFoundError: There is no such certificate.
        AmbiguousNameError: Several fit.
        UsageError: The token is open only for reading.
    """
    token.require_change("delete a certificate")
    stored = (
        certificate if isinstance(certificate, StoredCertificate) else find_certificate(token, certificate)
    )
    with token.borrow(f"delete the certificate {stored.label}", change=True) as session:
        _delete(session, stored)


def _delete(session: Session, stored: StoredCertificate) -> None:
    template = _template(ObjectClass.CERTIFICATE, stored.label, stored.id)
    for item in objects(session, template | {Attribute.VALUE: stored.certificate.der}):
        item.destroy()


def _template(kind: ObjectClass, label: str, identifier: bytes) -> dict[Attribute, Any]:
    template: dict[Attribute, Any] = {Attribute.CLASS: kind}
    if label:
        template[Attribute.LABEL] = label
    if identifier:
        template[Attribute.ID] = identifier
    return template
