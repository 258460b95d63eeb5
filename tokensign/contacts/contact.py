"""What is known of a correspondent, and which certificate follows from it."""

from __future__ import annotations

import enum
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tokensign.errors import MessageError, UntrustedError, UsageError
from tokensign.mailboxes import a_labels
from tokensign.pki.purpose import check_encryption_use

if TYPE_CHECKING:
    from datetime import datetime

    from tokensign.certificates import Certificate
    from tokensign.cms.capabilities import Capability

__all__ = ["Contact", "KnownCertificate", "Origin", "Recipient", "canonical_address", "serves_encryption"]


class Origin(enum.Enum):
    """How a certificate came here; the value is its name in the database and in JSON."""

    HAND = "hand"
    """The user added it; it goes before all others."""
    MAIL = "mail"
    """From a signed mail that held."""
    SMIMEA = "smimea"
    """From the DNS (RFC 8162)."""


@dataclass(frozen=True, slots=True)
class KnownCertificate:
    """A certificate of a correspondent.

    Attributes:
        certificate: As it was received.
        origin: How it came here.
        encrypts: Whether the correspondent wants mail encrypted to it; otherwise it has signed only.
        stated_at: When that was said: the signing time of the newest mail, or the time at which it was added
            or looked up.
        revoked_at: Since when it is known to be revoked, or None: nothing is known of that.
    """

    certificate: Certificate
    origin: Origin
    encrypts: bool
    stated_at: datetime
    revoked_at: datetime | None = None

    def is_usable_at(self, moment: datetime) -> bool:
        """Whether mail may be encrypted to it at a moment."""
        return self.encrypts and self.revoked_at is None and self.certificate.is_valid_at(moment)


@dataclass(frozen=True, slots=True)
class Contact:
    """A correspondent.

    Attributes:
        address: As `canonical_address` writes it.
        certificates: All that were ever known, in the order in which they are chosen: those that the user
            added first, then by what was said last.
        capabilities: What the correspondent's software reads, the preferred first; None: unknown.
        capabilities_at: The signing time of the mail that said so, or None.
    """

    address: str
    certificates: tuple[KnownCertificate, ...] = ()
    capabilities: tuple[Capability, ...] | None = None
    capabilities_at: datetime | None = None

    def usable(self, moment: datetime) -> tuple[KnownCertificate, ...]:
        """Those to which mail may be encrypted at a moment, the best first."""
        return tuple(known for known in self.certificates if known.is_usable_at(moment))

    def chosen(self, moment: datetime) -> KnownCertificate | None:
        """That to which mail is encrypted at a moment, or None."""
        return next(iter(self.usable(moment)), None)

    def state(self, known: KnownCertificate, moment: datetime) -> str:
        """What a certificate of this contact is good for at a moment.

        Returns:
            "current": mail is encrypted to it. "revoked", "expired", "future" (not valid yet). "signs": it is
            not for encryption. "retired": another one took its place; it is kept to verify old mail and for
            the record.
        """
        certificate = known.certificate
        if known.revoked_at is not None:
            return "revoked"
        if moment > certificate.not_after:
            return "expired"
        if moment < certificate.not_before:
            return "future"
        if not known.encrypts:
            return "signs"
        return "current" if known == self.chosen(moment) else "retired"


@dataclass(frozen=True, slots=True)
class Recipient:
    """Whom a mail is encrypted to.

    Attributes:
        address: As it was asked for.
        certificate: The correspondent's.
        capabilities: As in `Contact`.
    """

    address: str
    certificate: Certificate
    capabilities: tuple[Capability, ...] | None = None


def canonical_address(address: str) -> str:
    """An address in the one form in which equal ones are equal (RFC 9598 section 5).

    Args:
        address: Such as "bob@Bücher.example"; the local part stays as it is.

    Raises:
        UsageError: It is no address.
    """
    local, _, domain = address.strip().rpartition("@")
    labels = a_labels(unicodedata.normalize("NFC", domain.lower()))
    is_domain = labels is not None and all(labels.split("."))
    if not local or not is_domain or not address.strip().isprintable():
        raise UsageError(f"{address!r} is not an e-mail address", hint="write it as bob@acme.example")
    return f"{local}@{labels}"


def serves_encryption(certificate: Certificate) -> bool:
    """Whether a certificate's key and usages allow to encrypt mail to it."""
    try:
        check_encryption_use(certificate)
    except (UntrustedError, MessageError):
        return False
    return True
