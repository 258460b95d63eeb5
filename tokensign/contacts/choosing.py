"""Whom a mail is encrypted to, and with which algorithms that all can read (RFC 8551 section 2.7.1)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from asn1crypto import algos
from cryptography.hazmat.primitives.asymmetric import rsa

from tokensign.algorithms import (
    CONTENT_CIPHERS,
    DIGESTS,
    RSAES_OAEP_OID,
    ContentCipher,
    Strength,
    digest_by_oid,
)
from tokensign.cms.content_info import parsing
from tokensign.contacts.contact import Recipient
from tokensign.errors import MessageError, UnsupportedError, UntrustedError, UsageError
from tokensign.keys import OaepTransport, Pkcs1Transport
from tokensign.pki.purpose import Purpose
from tokensign.pki.revocation import RevokedCertificateError
from tokensign.pki.trust import validate_path

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tokensign.certificates import Certificate
    from tokensign.cms.capabilities import Capability
    from tokensign.contacts.contact import Contact
    from tokensign.contacts.contact_store import ContactStore
    from tokensign.keys import KeyTransport
    from tokensign.pki.policy import TrustPolicy

__all__ = ["CIPHERS", "Algorithms", "choose_algorithms", "recipients_for"]

CIPHERS: Final = tuple(
    CONTENT_CIPHERS[name]
    for name in (
        "aes-256-gcm",
        "chacha20-poly1305",
        "aes-256-ccm",
        "aes-192-gcm",
        "aes-192-ccm",
        "aes-128-gcm",
        "aes-128-ccm",
        "aes-256-cbc",
        "aes-192-cbc",
        "aes-128-cbc",
    )
)
"""The strongest first: every cipher that shows changes on the way goes before every one that does not."""

_EXPECTED: Final = tuple(
    cipher
    for cipher in CIPHERS
    if cipher.name in {"aes-256-gcm", "aes-128-gcm", "aes-256-cbc", "aes-128-cbc"}
)
"""What everybody is expected to read who did not tell (RFC 8551 section 2.7)."""

_OAEP_DIGESTS: Final = (
    "sha256",
    "sha384",
    "sha512",
    "sha1",
)  # the default first; OAEP does no harm with SHA-1
_WEAK_OIDS: Final = {
    **{entry.oid: entry.name for entry in CONTENT_CIPHERS.values() if entry.strength is not Strength.STRONG},
    "1.3.14.3.2.7": "des-cbc",
}


@dataclass(frozen=True, slots=True)
class Algorithms:
    """How a mail is encrypted.

    Attributes:
        cipher: Encrypts the content.
        transport: Encrypts the key to RSA certificates.
    """

    cipher: ContentCipher
    transport: KeyTransport


def recipients_for(
    addresses: Sequence[str],
    store: ContactStore,
    *,
    trust: TrustPolicy | None = None,
    moment: datetime | None = None,
) -> list[Recipient]:
    """The recipients with these addresses, each with the certificate that mail is encrypted to.

    Args:
        addresses: As mail has them.
        store: Where the certificates are.
        trust: Where given, each certificate must be trusted now (RFC 8550 section 4); one that turns out to
            be revoked is remembered as such, and the next one is taken.
        moment: Now, unless told.

    Raises:
        UsageError: No certificate is known for some of the addresses, all of which the message names; or
            one is no address.
        FileError: The database fails.
    """
    now = moment or datetime.now(UTC)
    found: list[Recipient] = []
    missing: dict[str, None] = {}
    for address in addresses:
        contact = store.find(address)
        certificate = contact and _usable_certificate(contact, store, trust, now)
        if contact and certificate:
            found.append(Recipient(address, certificate, contact.capabilities))
        else:
            missing[address] = None
    if missing:
        raise UsageError(
            f"no certificate to encrypt to is known for {', '.join(missing)}",
            hint="add one with `tokensign contacts add`, or ask for a signed mail; `tokensign contacts show`"
            " tells about certificates that are there and cannot be used",
        )
    return found


def _usable_certificate(
    contact: Contact, store: ContactStore, trust: TrustPolicy | None, now: datetime
) -> Certificate | None:
    known = [entry.certificate for entry in contact.usable(now)]
    if trust is None:
        return next(iter(known), None)
    for certificate in known:
        try:
            issuers = store.issuers_of(certificate)
            validate_path(certificate, issuers, replace(trust, purpose=Purpose.ANY), now)
        except RevokedCertificateError as error:  # this one, or a CA above it
            for entry in error.evidence:
                if entry.status == "revoked":
                    store.revoke(entry.certificate, entry.this_update)
        except (UntrustedError, MessageError):
            continue
        else:
            return certificate
    return None


def choose_algorithms(recipients: Sequence[Recipient]) -> Algorithms:
    """The strongest algorithms that all recipients can read.

    Of a recipient who never told what can be read, AES-256-GCM and OAEP with SHA-256 are expected, as
    RFC 8551 section 2.7.1.2 and section 2.3 have it. One who told, and did not list OAEP, gets the key by
    PKCS #1 v1.5, which all read.

    Args:
        recipients: Those of one mail.

    Raises:
        UnsupportedError: A recipient reads weak ciphers only, or no cipher is read by all; they are named.
    """
    readable = {entry.address: _ciphers(entry) for entry in recipients}
    common = [cipher for cipher in CIPHERS if all(cipher in ciphers for ciphers in readable.values())]
    if not common:
        told = "; ".join(
            f"{address} reads {', '.join(cipher.name for cipher in ciphers)}"
            for address, ciphers in readable.items()
        )
        raise UnsupportedError(
            f"no cipher is read by all recipients: {told}", hint="send the mail to each of them separately"
        )
    return Algorithms(common[0], _transport(recipients))


def _ciphers(recipient: Recipient) -> tuple[ContentCipher, ...]:
    """The strong ciphers that a recipient can read, the strongest first."""
    listed = {capability.oid for capability in recipient.capabilities or ()}
    found = tuple(cipher for cipher in CIPHERS if cipher.oid in listed)
    weak = [name for oid, name in _WEAK_OIDS.items() if oid in listed]
    if found:
        return found
    if weak:
        raise UnsupportedError(
            f"{recipient.address} can only read {', '.join(weak)}, which no longer protects anything",
            hint="ask for mail that was signed by newer software, or name a cipher with --cipher",
        )
    return _EXPECTED  # nothing was told about ciphers


def _transport(recipients: Sequence[Recipient]) -> KeyTransport:
    common = list(_OAEP_DIGESTS)
    for recipient in recipients:
        if not isinstance(recipient.certificate.public_key, rsa.RSAPublicKey):
            continue
        digests = _oaep_digests(recipient.capabilities)
        common = [name for name in common if name in digests]
    if not common:
        return Pkcs1Transport()
    return OaepTransport(DIGESTS[common[0]], DIGESTS[common[0]])


def _oaep_digests(capabilities: Sequence[Capability] | None) -> set[str]:
    """The hashes with which a recipient can read OAEP."""
    if capabilities is None:
        return {"sha256"}
    found = (_oaep_digest(entry) for entry in capabilities if entry.oid == RSAES_OAEP_OID)
    return {name for name in found if name}


def _oaep_digest(capability: Capability) -> str | None:
    """The hash of OAEP and its MGF1 in a capability (RFC 4055 section 4.1), or None: it is not used here."""
    try:
        with parsing("a capability of OAEP"):
            parameters = algos.RSAESOAEPParams.load(capability.parameters or b"\x30\x00", strict=True)
            mask_generation = parameters["mask_gen_algorithm"]
            oids = (
                parameters["hash_algorithm"]["algorithm"].dotted,
                mask_generation["parameters"]["algorithm"].dotted,
            )
        names = {digest_by_oid(oid).name for oid in oids}
    except MessageError:
        return None
    return names.pop() if len(names) == 1 else None
