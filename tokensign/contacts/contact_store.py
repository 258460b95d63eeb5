"""The memory of correspondents: tables in, `Contact` out."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Self

from sqlalchemy import and_, delete, insert, select, update

from tokensign.certificates import Certificate
from tokensign.cms.capabilities import read_capabilities
from tokensign.contacts.announcement import announcement_of
from tokensign.contacts.contact import Contact, KnownCertificate, Origin, canonical_address
from tokensign.errors import UntrustedError
from tokensign.pki.purpose import check_encryption_use
from tokensign.store import Store
from tokensign.store.tables import CONTACT_CERTIFICATES, CONTACTS, ISSUERS

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from sqlalchemy import ColumnElement, Connection, Row

    from tokensign.cms.capabilities import Capability
    from tokensign.contacts.announcement import Announcement
    from tokensign.pki.policy import TrustPolicy
    from tokensign.report import VerificationReport

__all__ = ["Change", "ContactStore"]

_LEVELS_MAXIMUM: Final = 4  # CAs above one another; real paths have one or two


@dataclass(frozen=True, slots=True)
class Change:
    """What became of a contact.

    Attributes:
        contact: As it is now.
        before: To which certificate mail was encrypted before, or None.
        after: To which it is now, or None.
        problem: What could not be learned, or None.
    """

    contact: Contact
    before: Certificate | None
    after: Certificate | None
    problem: str | None = None

    @property
    def replaces_key(self) -> bool:
        """Whether mail goes to another key than before: a renewed certificate, or somebody else's."""
        return (
            self.before is not None
            and self.after is not None
            and self.before.public_key_info != self.after.public_key_info
        )


class ContactStore:
    """The correspondents in a database; for any number of threads and processes.

    Args:
        place: A file, or the URL of a database; as for `tokensign.store.Store`.

    Raises:
        FileError, ConfigurationError: As for `Store`.
    """

    def __init__(self, place: Path | str) -> None:
        self._store = Store(place)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the database."""
        self._store.close()

    def find(self, address: str) -> Contact | None:
        """The correspondent with an address, or None.

        Raises:
            UsageError: It is no address.
            FileError: The database fails.
        """
        with self._store.reading() as connection:
            return _find(connection, canonical_address(address))

    def all(self) -> list[Contact]:
        """All correspondents, by address.

        Raises:
            FileError: The database fails.
        """
        with self._store.reading() as connection:
            addresses = connection.scalars(select(CONTACTS.c.address).order_by(CONTACTS.c.address)).all()
            return [found for address in addresses if (found := _find(connection, address))]

    def certificates_for(self, address: str) -> tuple[KnownCertificate, ...]:
        """All certificates of an address, retired ones too, in the order of `Contact.certificates`."""
        found = self.find(address)
        return found.certificates if found else ()

    def capabilities_for(self, address: str) -> tuple[Capability, ...] | None:
        """What the correspondent's software reads, the preferred first; None where that is unknown."""
        found = self.find(address)
        return found.capabilities if found else None

    def learn(
        self,
        report: VerificationReport,
        address: str,
        trust: TrustPolicy,
        *,
        moment: datetime | None = None,
    ) -> Change:
        """Learn from a signed mail that holds.

        What was said earlier never replaces what was said later, whatever comes first (RFC 8551 section 2.7).

        Args:
            report: What was found about the signed part that covers the From field.
            address: That of the From field.
            trust: Whom to trust for a certificate that encrypts only, which the signature does not prove.
            moment: Now, unless told.

        Raises:
            UntrustedError: The mail does not prove enough; nothing was learned.
            MalformedError: A signed attribute cannot be read; nothing was learned.
            UsageError: `address` is none.
            FileError: The database fails.
        """
        if not report.holds:
            raise UntrustedError(
                f"nothing is learned about {address}: {report.summary('the mail')}",
                hint="contacts are learned from mail only where everything about the signature is proved",
            )
        own = [
            entry
            for entry in report.signers
            if entry.holds and entry.certificate and entry.certificate.belongs_to(address)
        ]
        now = moment or datetime.now(UTC)
        known = [entry.certificate for entry in self.certificates_for(address)]  # sent with an earlier mail
        at_hand = (*report.certificates, *known)
        said = announcement_of((own or report.signers)[0], address, at_hand, trust, now)
        with self._store.writing() as connection:
            before = _find_or_make(connection, said.address)
            _keep_capabilities(connection, before, said)
            kept = {said.signer: False} | ({said.encryption: True} if said.encryption else {})
            for certificate, encrypts in kept.items():
                new = KnownCertificate(certificate, Origin.MAIL, encrypts, said.signing_time)
                _keep_certificate(connection, before, new)
            _keep_issuers(connection, said.issuers)
            return _change(connection, before, now, said.problem)

    def add(
        self,
        certificate: Certificate,
        address: str,
        origin: Origin = Origin.HAND,
        *,
        moment: datetime | None = None,
    ) -> Change:
        """Add a certificate, to which mail for an address is to be encrypted.

        By hand also one that was revoked, as after a suspension (certificateHold) that ended.

        Args:
            certificate: The certificate; it need not name the address, because the user says whose it is.
            address: The correspondent's.
            origin: Who says so.
            moment: Now, unless told.

        Raises:
            UntrustedError: It is not meant for encryption.
            UnsupportedError: The type of its key is not known.
            UsageError: `address` is none.
            FileError: The database fails.
        """
        check_encryption_use(certificate)
        now = moment or datetime.now(UTC)
        known = KnownCertificate(certificate, origin, encrypts=True, stated_at=now)
        with self._store.writing() as connection:
            before = _find_or_make(connection, canonical_address(address))
            _keep_certificate(connection, before, known)
            return _change(connection, before, now)

    def add_issuers(self, certificates: Iterable[Certificate]) -> None:
        """Remember certificates of CAs, from which paths can be built; nobody trusts them by that.

        Raises:
            FileError: The database fails.
        """
        with self._store.writing() as connection:
            _keep_issuers(connection, certificates)

    def issuers_of(self, certificate: Certificate) -> tuple[Certificate, ...]:
        """The known certificates of CAs that may lie between a certificate and an anchor.

        Raises:
            FileError: The database fails.
        """
        found: dict[Certificate, None] = {}
        names = {certificate.encoded_issuer}
        with self._store.reading() as connection:
            for _ in range(_LEVELS_MAXIMUM):
                rows = connection.scalars(select(ISSUERS.c.der).where(ISSUERS.c.subject.in_(names)))
                found |= dict.fromkeys(above := [Certificate(encoded) for encoded in rows])
                names = {entry.encoded_issuer for entry in above}
        return tuple(found)

    def revoke(self, certificate: Certificate, since: datetime) -> int:
        """Remember that a certificate is revoked; the caller has verified who says so.

        Args:
            certificate: The certificate, of whichever contacts.
            since: Since when that is known.

        Returns:
            Of how many contacts it is.

        Raises:
            FileError: The database fails.
        """
        with self._store.writing() as connection:
            is_it = CONTACT_CERTIFICATES.c.sha256 == certificate.sha256
            return connection.execute(
                update(CONTACT_CERTIFICATES).where(is_it).values(revoked_at=since)
            ).rowcount

    def remove(self, address: str, certificate: Certificate | None = None) -> bool:
        """Forget a correspondent, or one certificate of a correspondent.

        Args:
            address: The correspondent's.
            certificate: The certificate; None: all that is known.

        Returns:
            Whether there was one.

        Raises:
            UsageError: `address` is none.
            FileError: The database fails.
        """
        canonical = canonical_address(address)
        with self._store.writing() as connection:
            if certificate is None:
                gone = delete(CONTACTS).where(CONTACTS.c.address == canonical)
            else:
                gone = delete(CONTACT_CERTIFICATES).where(_is_row(canonical, certificate))
            return connection.execute(gone).rowcount > 0


def _is_row(address: str, certificate: Certificate) -> ColumnElement[bool]:
    columns = CONTACT_CERTIFICATES.c
    return and_(columns.address == address, columns.sha256 == certificate.sha256)


def _find(connection: Connection, address: str) -> Contact | None:
    row = connection.execute(select(CONTACTS).where(CONTACTS.c.address == address)).one_or_none()
    if row is None:
        return None
    columns = CONTACT_CERTIFICATES.c
    rows = connection.execute(select(CONTACT_CERTIFICATES).where(columns.address == address))
    certificates = sorted(map(_known, rows), key=_rank, reverse=True)
    capabilities = None if row.capabilities is None else read_capabilities(row.capabilities)
    return Contact(address, tuple(certificates), capabilities, row.capabilities_at)


def _known(row: Row[Any]) -> KnownCertificate:
    certificate = Certificate(row.der)
    return KnownCertificate(certificate, Origin(row.origin), row.encrypts, row.stated_at, row.revoked_at)


def _rank(known: KnownCertificate) -> tuple[bool, datetime, datetime, bytes]:
    """The user's word first, then what was said last, then what was issued last."""
    certificate = known.certificate
    return known.origin is Origin.HAND, known.stated_at, certificate.not_before, certificate.sha256


def _find_or_make(connection: Connection, address: str) -> Contact:
    found = _find(connection, address)
    if found is None:
        connection.execute(insert(CONTACTS).values(address=address))
    return found or Contact(address)


def _keep_capabilities(connection: Connection, contact: Contact, said: Announcement) -> None:
    known_at = contact.capabilities_at
    if said.capabilities is not None and (known_at is None or said.signing_time > known_at):
        connection.execute(
            update(CONTACTS)
            .where(CONTACTS.c.address == contact.address)
            .values(capabilities=said.capabilities, capabilities_at=said.signing_time)
        )


def _keep_certificate(connection: Connection, contact: Contact, new: KnownCertificate) -> None:
    """Add a certificate, or what is new about a known one; the later word counts, but the user's first."""
    old = next((known for known in contact.certificates if known.certificate == new.certificate), None)
    if old is None:
        connection.execute(
            insert(CONTACT_CERTIFICATES).values(
                address=contact.address,
                sha256=new.certificate.sha256,
                der=new.certificate.der,
                origin=new.origin.value,
                encrypts=new.encrypts,
                stated_at=new.stated_at,
            )
        )
        return
    last = new if new.stated_at > old.stated_at else old
    by_hand = Origin.HAND in {old.origin, new.origin}
    connection.execute(
        update(CONTACT_CERTIFICATES)
        .where(_is_row(contact.address, new.certificate))
        .values(
            origin=Origin.HAND.value if by_hand else last.origin.value,
            encrypts=by_hand or last.encrypts,
            stated_at=last.stated_at,
            revoked_at=None if new.origin is Origin.HAND else old.revoked_at,
        )
    )


def _keep_issuers(connection: Connection, certificates: Iterable[Certificate]) -> None:
    for entry in certificates:
        is_known = select(ISSUERS.c.sha256).where(ISSUERS.c.sha256 == entry.sha256)
        if connection.scalar(is_known) is None:
            values = {"sha256": entry.sha256, "subject": entry.encoded_subject, "der": entry.der}
            connection.execute(insert(ISSUERS).values(values))


def _change(connection: Connection, before: Contact, now: datetime, problem: str | None = None) -> Change:
    after = _find(connection, before.address) or before
    return Change(after, _encrypted_to(before, now), _encrypted_to(after, now), problem)


def _encrypted_to(contact: Contact, now: datetime) -> Certificate | None:
    chosen = contact.chosen(now)
    return chosen.certificate if chosen else None
