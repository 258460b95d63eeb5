"""One CA in a database: opening it, and what it does."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sqlalchemy import select

from tokensign.authority import crl, issuing, records, revoking
from tokensign.authority.drafting import Wanted
from tokensign.certificates import Certificate, load_certificates
from tokensign.errors import UsageError
from tokensign.store.tables import AUTHORITIES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime
    from typing import Any

    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
    from sqlalchemy import Row

    from tokensign.algorithms import KeyUsage
    from tokensign.authority.crl import RevocationList
    from tokensign.authority.issuing import IssuedCertificate
    from tokensign.authority.profiles import Profile
    from tokensign.authority.records import CertificateRecord, CertificateStatus, Reason
    from tokensign.keys import Signer
    from tokensign.store import Store

__all__ = ["Authority", "list_authorities", "open_authority"]


@dataclass(frozen=True, slots=True)
class Authority:
    """A CA: its certificate, and the database of what it issued.

    Its methods take its key as a `Signer`, where they need it; it is kept nowhere.

    Attributes:
        name: What it is called here.
        certificate: Its certificate.
        chain: The certificates above it, the issuer of `certificate` first.
        key_uri: Where its key is (RFC 7512), or None.
        url: Below which it serves CRLs, OCSP and its certificate, without a slash at the end; or None.
        partitions: Over how many CRLs its certificates are spread; 1 for one complete CRL.
        store: The database.
        successor: The CA with the next key, which issues in its place; or None.
    """

    name: str
    certificate: Certificate
    chain: tuple[Certificate, ...]
    key_uri: str | None
    url: str | None
    partitions: int
    store: Store = field(repr=False, compare=False)
    successor: str | None = None

    @property
    def issuer_url(self) -> str | None:
        """Where its certificate is (caIssuers, RFC 5280 section 4.2.2.1), DER; or None."""
        return self.url and f"{self.url}/ca.cer"

    @property
    def ocsp_url(self) -> str | None:
        """Where its OCSP responder answers, or None."""
        return self.url and f"{self.url}/ocsp"

    def crl_url(self, partition: int | None = None, *, delta: bool = False) -> str | None:
        """Where a CRL is, DER; or None.

        Args:
            partition: Its number, counted from 0; None for the CRL of all certificates.
            delta: Whether the delta CRL is meant.
        """
        return self.url and f"{self.url}/{crl.file_name(partition, delta=delta)}"

    def issue(  # noqa: PLR0913 - each is something of its own that is asked for
        self,
        signer: Signer,
        request: bytes | PublicKeyTypes,
        profile: Profile,
        *,
        subject: str | x509.Name | None = None,
        emails: Iterable[str] | None = None,
        dns: Iterable[str] | None = None,
        usage: KeyUsage | None = None,
        days: int | None = None,
        now: datetime | None = None,
        request_id: str | None = None,
        replaces: int | None = None,
        actor: str | None = None,
    ) -> IssuedCertificate:
        """Issue a certificate; see `tokensign.authority.issuing.issue`."""
        wanted = Wanted(
            request=request,
            profile=profile,
            subject=subject,
            emails=None if emails is None else tuple(emails),
            dns=None if dns is None else tuple(dns),
            usage=usage,
            days=days,
            now=now,
            request_id=request_id,
            replaces=replaces,
            actor=actor,
        )
        return issuing.issue(self, signer, wanted)

    def renew(
        self,
        signer: Signer,
        serial: int,
        profile: Profile,
        *,
        request: bytes | None = None,
        days: int | None = None,
        actor: str | None = None,
    ) -> IssuedCertificate:
        """Issue a certificate with the names of an older one; see `tokensign.authority.issuing.renew`."""
        return issuing.renew(self, signer, serial, profile, request=request, days=days, actor=actor)

    def revoke(
        self, serial: int, reason: Reason, at: datetime | None = None, *, actor: str | None = None
    ) -> CertificateRecord:
        """Revoke a certificate, or put it on hold; see `tokensign.authority.revoking.revoke`."""
        return revoking.revoke(self, serial, reason, at, actor=actor)

    def release(self, serial: int, *, actor: str | None = None) -> CertificateRecord:
        """Take a certificate from hold; see `tokensign.authority.revoking.release`."""
        return revoking.release(self, serial, actor=actor)

    def crl(
        self,
        signer: Signer,
        *,
        delta: bool = False,
        partition: int | None = None,
        days: int | None = None,
        now: datetime | None = None,
    ) -> bytes:
        """Make a CRL, DER; see `tokensign.authority.crl.make_crl`."""
        return crl.make_crl(self, signer, delta=delta, partition=partition, days=days, now=now).der

    def latest_crl(self, partition: int | None = None, *, delta: bool = False) -> RevocationList | None:
        """The CRL with the highest number, or None where there is none yet; arguments as of `crl_url`."""
        return crl.latest_crl(self, partition, delta=delta)

    def status_of(self, serial: int) -> CertificateStatus:
        """What is said of a serial number now: good, revoked, or unknown.

        Raises:
            FileError: The database fails.
        """
        return records.status_of(self.store, self.name, serial)

    def find(self, serial: int) -> CertificateRecord:
        """What is known of a serial number.

        Raises:
            UsageError: The CA never gave it out.
            FileError: The database fails.
        """
        return records.find(self.store, self.name, serial)

    def certificates(self, *, expiring_before: datetime | None = None) -> Iterator[CertificateRecord]:
        """All serial numbers that were given out, by the end of the validity.

        Args:
            expiring_before: Only certificates that are good now and end before that.

        Raises:
            FileError: The database fails.
        """
        return records.certificates(self.store, self.name, expiring_before=expiring_before)

    @classmethod
    def of(cls, row: Row[Any], store: Store) -> Authority:
        """Read a row of `AUTHORITIES`."""
        chain = load_certificates(row.chain.encode("ascii")) if row.chain else []
        return cls(
            name=row.name,
            certificate=Certificate(row.certificate),
            chain=tuple(chain),
            key_uri=row.key_uri,
            url=row.url,
            partitions=row.partitions,
            store=store,
            successor=row.successor,
        )


def open_authority(store: Store, name: str | None = None) -> Authority:
    """A CA of a database; what dead processes left unfinished is brought to an end.

    Args:
        store: The database.
        name: What the CA is called; None for the only one.

    Raises:
        UsageError: There is none of that name, or there are several and none was named.
        FileError: The database fails.
    """
    found = list_authorities(store)
    names = ", ".join(one.name for one in found)
    if not found:
        raise UsageError("there is no CA in the database", hint="make one with `tokensign ca init`")
    if name is None and len(found) > 1:
        raise UsageError("there are several CAs in the database", hint=f"choose one with --ca: {names}")
    chosen = next((one for one in found if name in (None, one.name)), None)
    if chosen is None:
        raise UsageError(f"there is no CA {name} in the database", hint=f"there are: {names}")
    issuing.abandon_overdue(chosen)
    return chosen


def list_authorities(store: Store) -> list[Authority]:
    """All CAs of a database, by name.

    Raises:
        FileError: The database fails.
    """
    with store.reading() as connection:
        rows = connection.execute(select(AUTHORITIES).order_by(AUTHORITIES.c.name)).all()
    return [Authority.of(row, store) for row in rows]
