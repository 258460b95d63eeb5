"""Certificate revocation lists: complete ones, deltas and partitions (RFC 5280 section 5).

The number of a CRL is taken from the database in the same transaction that reads what is revoked, before
the CRL is signed. So a CRL with a higher number never says less, and a process that dies leaves a gap and no
doublet.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from sqlalchemy import and_, delete, insert, select, update

from tokensign.audit.changes import record_change
from tokensign.authority.records import lock_authority
from tokensign.errors import MalformedError, SigningError, UsageError
from tokensign.files import open_output, read_small
from tokensign.pki.certificate_builder import authority_key_identifier, require_authority
from tokensign.pki.signer_key import signer_key, signing_hash
from tokensign.store.tables import AUTHORITIES, ISSUED_CERTIFICATES, REVOCATION_LISTS

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, Connection, Row

    from tokensign.authority.authority import Authority
    from tokensign.keys import Signer

__all__ = [
    "CRL_DAYS",
    "DELTA_DAYS",
    "RevocationList",
    "crl_number_of",
    "file_name",
    "latest_crl",
    "make_crl",
    "publish",
]

CRL_DAYS: Final = 7  # the CA/Browser Forum's S/MIME BR section 4.9.7 allow ten for certificates of people
DELTA_DAYS: Final = 1
CRL_DAYS_MAXIMUM: Final = 366  # the same section: a CA of CAs issues one each year
CRL_FILE_MAXIMUM: Final = 1 << 28  # octets; a million revoked certificates take 40 million

# A certificate stays on CRLs until one was issued after its end (RFC 5280 section 3.3), also by a CA of CAs.
_KEPT_AFTER_EXPIRY: Final = timedelta(days=CRL_DAYS_MAXIMUM)


@dataclass(frozen=True, slots=True)
class RevocationList:
    """A CRL.

    Attributes:
        number: Its number, higher than that of every one before of this CA.
        partition: Which certificates it is about; None: all of the CA.
        base_number: The number of the complete CRL to which a delta CRL adds, or None.
        this_update: When it was made.
        next_update: When another one will be there at the latest.
        der: The CertificateList.
    """

    number: int
    partition: int | None
    base_number: int | None
    this_update: datetime
    next_update: datetime
    der: bytes

    @classmethod
    def of(cls, row: Row[Any]) -> RevocationList:
        """Read a row of `REVOCATION_LISTS`."""
        return cls(row.number, row.partition, row.base_number, row.this_update, row.next_update, row.der)


def make_crl(
    authority: Authority,
    signer: Signer,
    *,
    delta: bool = False,
    partition: int | None = None,
    days: int | None = None,
    now: datetime | None = None,
) -> RevocationList:
    """Make a CRL of what is revoked now, and record it.

    Args:
        authority: The CA.
        signer: Its key.
        delta: Whether to say only what changed since the last complete CRL of the same certificates.
        partition: Which certificates it is about, counted from 0; None: all of the CA.
        days: For how long it counts; None for CRL_DAYS, or DELTA_DAYS.
        now: What time it is; None asks the clock.

    Raises:
        UsageError: The key is not the CA's, there is no such partition, the days cannot be meant, or there is
            no complete CRL yet to which a delta could add.
        SigningError: The signature does not hold.
        TokenError: The token failed.
        FileError: The database fails.
    """
    if days is None:
        days = DELTA_DAYS if delta else CRL_DAYS
    if not 1 <= days <= CRL_DAYS_MAXIMUM:
        raise UsageError(f"a CRL cannot count for {days} days", hint=f"use 1 to {CRL_DAYS_MAXIMUM}")
    if partition is not None and not (authority.partitions > 1 and 0 <= partition < authority.partitions):
        raise UsageError(
            f"the CA {authority.name} has no partition {partition}",
            hint=f"it has {authority.partitions}, counted from 0" if authority.partitions > 1 else None,
        )
    require_authority(signer, authority.certificate, now or datetime.now(UTC))
    with authority.store.writing() as connection:
        number = lock_authority(connection, authority.name) + 1
        # Now, and not before others were waited for: a higher number has no earlier time.
        this_update = (now or datetime.now(UTC)).replace(microsecond=0)
        connection.execute(
            update(AUTHORITIES).where(AUTHORITIES.c.name == authority.name).values(crl_number=number)
        )
        base = _base_number(connection, authority, partition) if delta else None
        entries = _entries(connection, authority, partition, base, this_update)
        points_to_delta = not delta and _has_deltas(connection, authority, partition)
    # Both ends count, as for certificates.
    next_update = this_update + timedelta(days=days) - timedelta(seconds=1)
    extensions = _extensions(authority, number, partition, base, points_to_delta=points_to_delta)
    der = _sign(authority, signer, (this_update, next_update), entries, extensions)
    made = RevocationList(number, partition, base, this_update, next_update, der)
    with authority.store.writing() as connection:
        _record(connection, authority, made, len(entries))
    return made


def latest_crl(
    authority: Authority, partition: int | None = None, *, delta: bool = False
) -> RevocationList | None:
    """The CRL with the highest number; see `Authority.latest_crl`."""
    table = REVOCATION_LISTS.c
    query = (
        select(REVOCATION_LISTS)
        .where(
            _of_scope(authority, partition),
            table.base_number.is_not(None) if delta else table.base_number.is_(None),
        )
        .order_by(table.number.desc())
        .limit(1)
    )
    with authority.store.reading() as connection:
        row = connection.execute(query).one_or_none()
    return None if row is None else RevocationList.of(row)


def publish(authority: Authority, der: bytes, path: str | Path) -> bool:
    """Put a CRL into a file, unless a newer one is there: numbers never go back, whoever is faster.

    The file appears whole or not at all.

    Args:
        authority: The CA.
        der: The CRL.
        path: The file.

    Returns:
        Whether it was put there; else the file has that number, or a higher one.

    Raises:
        MalformedError: The file has something else than a CRL of this CA.
        FileError: The file or the database fails.
    """
    place = Path(path)
    with authority.store.writing() as connection:  # one at a time, from looking to replacing
        lock_authority(connection, authority.name)
        if place.exists() and _number_in(authority, place) >= crl_number_of(der):
            return False
        with open_output(place, force=True) as file:
            file.write(der)
    return True


def crl_number_of(der: bytes) -> int:
    """The number of a CRL (RFC 5280 section 5.2.3).

    Raises:
        MalformedError: It is no CRL, or has no number.
    """
    try:
        return x509.load_der_x509_crl(der).extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
    except (ValueError, x509.ExtensionNotFound) as error:
        raise MalformedError("this is no CRL with a number") from error


def file_name(partition: int | None, *, delta: bool) -> str:
    """What the file of a CRL is called, below the URL of its CA."""
    return f"{'delta' if delta else 'ca'}{'' if partition is None else f'-{partition}'}.crl"


def _number_in(authority: Authority, place: Path) -> int:
    existing = read_small(place, CRL_FILE_MAXIMUM)
    with contextlib.suppress(MalformedError, ValueError):
        found = x509.load_der_x509_crl(existing)
        if found.is_signature_valid(authority.certificate.public_key):  # type: ignore[arg-type]  # of a CA
            return crl_number_of(existing)
    raise MalformedError(
        f"{place} exists already and is no CRL of {authority.name}", hint="name another file, or remove it"
    )


def _base_number(connection: Connection, authority: Authority, partition: int | None) -> int:
    table = REVOCATION_LISTS.c
    query = select(table.number).where(_of_scope(authority, partition), table.base_number.is_(None))
    number: int | None = connection.scalar(query.order_by(table.number.desc()).limit(1))
    if number is None:
        raise UsageError(
            "there is no complete CRL yet to which a delta CRL could add", hint="make a complete one first"
        )
    return number


def _has_deltas(connection: Connection, authority: Authority, partition: int | None) -> bool:
    table = REVOCATION_LISTS.c
    query = select(table.number).where(_of_scope(authority, partition), table.base_number.is_not(None))
    return connection.execute(query.limit(1)).one_or_none() is not None


def _of_scope(authority: Authority, partition: int | None) -> ColumnElement[bool]:
    table = REVOCATION_LISTS.c
    same = table.partition.is_(None) if partition is None else table.partition == partition
    return and_(table.authority == authority.name, same)


def _entries(
    connection: Connection, authority: Authority, partition: int | None, base: int | None, now: datetime
) -> list[x509.RevokedCertificate]:
    table = ISSUED_CERTIFICATES.c
    query = select(table.serial, table.revoked_at, table.reason).where(
        table.authority == authority.name, table.not_after > now - _KEPT_AFTER_EXPIRY
    )
    if partition is not None:
        query = query.where(table.partition == partition)
    if base is None:
        query = query.where(table.revoked_at.is_not(None))
    else:  # a status that the base does not show
        query = query.where(table.changed_crl_number >= base)
    return [
        _entry(row.serial, row.revoked_at or now, row.reason if row.revoked_at else _RELEASED)
        for row in connection.execute(query.order_by(table.serial))
    ]


_RELEASED: Final = x509.ReasonFlags.remove_from_crl.value  # in delta CRLs only, RFC 5280 section 5.3.1


def _entry(serial: str, since: datetime, reason: str | None) -> x509.RevokedCertificate:
    builder = x509.RevokedCertificateBuilder(int(serial, 16), since.replace(microsecond=0, tzinfo=None))
    if reason is not None:
        builder = builder.add_extension(x509.CRLReason(x509.ReasonFlags(reason)), critical=False)
    return builder.build()


def _extensions(
    authority: Authority, number: int, partition: int | None, base: int | None, *, points_to_delta: bool
) -> list[tuple[x509.ExtensionType, bool]]:
    extensions: list[tuple[x509.ExtensionType, bool]] = [
        (authority_key_identifier(authority.certificate), False),
        (x509.CRLNumber(number), False),
    ]
    if base is not None:
        extensions.append((x509.DeltaCRLIndicator(base), True))
    if partition is not None:
        extensions.append((_distribution_point(authority.crl_url(partition)), True))
    delta_url = authority.crl_url(partition, delta=True)
    if points_to_delta and delta_url is not None:
        point = x509.DistributionPoint([x509.UniformResourceIdentifier(delta_url)], None, None, None)
        extensions.append((x509.FreshestCRL([point]), False))
    return extensions


def _distribution_point(url: str | None) -> x509.IssuingDistributionPoint:
    """What the CRL of a partition is about: the certificates that name it (RFC 5280 section 5.2.5)."""
    return x509.IssuingDistributionPoint(
        full_name=None if url is None else [x509.UniformResourceIdentifier(url)],
        relative_name=None,
        only_contains_user_certs=False,
        only_contains_ca_certs=False,
        only_some_reasons=None,
        indirect_crl=False,
        only_contains_attribute_certs=False,
    )


def _sign(
    authority: Authority,
    signer: Signer,
    counts: tuple[datetime, datetime],
    entries: list[x509.RevokedCertificate],
    extensions: list[tuple[x509.ExtensionType, bool]],
) -> bytes:
    issuer = x509.load_der_x509_certificate(authority.certificate.der)
    this_update, next_update = counts
    # The entries go to the constructor: adding one by one copies the list each time.
    builder = x509.CertificateRevocationListBuilder(issuer.subject, this_update, next_update, [], entries)
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical=critical)
    made = builder.sign(signer_key(signer), signing_hash(signer.public_key))
    if not made.is_signature_valid(issuer.public_key()):  # type: ignore[arg-type]  # of a CA, which signs
        raise SigningError(
            "the signature of the fresh CRL does not hold", hint="check the token; it is faulty"
        )
    return made.public_bytes(Encoding.DER)


def _record(connection: Connection, authority: Authority, made: RevocationList, entries: int) -> None:
    """Keep a CRL, and drop those of the same kind that count no more."""
    table = REVOCATION_LISTS.c
    same_kind = table.base_number.is_(None) if made.base_number is None else table.base_number.is_not(None)
    connection.execute(
        delete(REVOCATION_LISTS).where(
            _of_scope(authority, made.partition), same_kind, table.next_update < made.this_update
        )
    )
    connection.execute(
        insert(REVOCATION_LISTS).values(
            authority=authority.name,
            number=made.number,
            partition=made.partition,
            base_number=made.base_number,
            this_update=made.this_update,
            next_update=made.next_update,
            der=made.der,
        )
    )
    record_change(
        connection,
        "CRL made",
        {
            "ca": authority.name,
            "number": made.number,
            "partition": made.partition,
            "base": made.base_number,
            "entries": entries,
        },
    )
