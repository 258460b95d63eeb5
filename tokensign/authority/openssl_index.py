"""What a CA has issued, in the form of the index.txt that `openssl ca` and `openssl ocsp` read.

Six columns with tabs between them (openssl-ca(1), "DATABASE"): V, R or E; the end of the validity; since when
it is revoked, and why; the serial number; the file, which is always "unknown"; the subject.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cryptography import x509

from tokensign.authority.records import Reason, State
from tokensign.distinguished_names import attribute_name

if TYPE_CHECKING:
    from datetime import datetime

    from tokensign.authority.records import CertificateRecord

__all__ = ["index_line"]

_REASONS: Final = {  # as openssl-ca(1) spells them; it takes no other ones, and then makes no CRL at all
    Reason.KEY_COMPROMISE: "keyCompromise",
    Reason.CA_COMPROMISE: "CACompromise",
    Reason.AFFILIATION_CHANGED: "affiliationChanged",
    Reason.SUPERSEDED: "superseded",
    Reason.CESSATION_OF_OPERATION: "cessationOfOperation",
    Reason.CERTIFICATE_HOLD: "certificateHold",
}
_YEARS_OF_UTC_TIME: Final = range(1950, 2050)  # RFC 5280 section 4.1.2.5


def index_line(record: CertificateRecord, now: datetime) -> str | None:
    """The line of a certificate, without the end of the line.

    Args:
        record: What is known of it.
        now: What time it is: what is expired and was not revoked counts as expired.

    Returns:
        The line; None where the certificate is not issued yet. A serial number that was given up counts as
        revoked, as everywhere.
    """
    if record.state is State.RESERVED:
        return None
    revoked = "" if record.revoked_at is None else _revocation(record.revoked_at, record.reason)
    status = "R" if revoked else "E" if record.is_expired(now) else "V"
    serial = f"{record.serial:X}"
    even = serial if len(serial) % 2 == 0 else f"0{serial}"  # whole octets
    return "\t".join((status, _time(record.not_after), revoked, even, "unknown", _subject(record)))


def _revocation(since: datetime, reason: Reason | None) -> str:
    known = _REASONS.get(reason) if reason is not None else None
    return _time(since) if known is None else f"{_time(since)},{known}"


def _time(moment: datetime) -> str:
    """UTCTime, or GeneralizedTime where that has no such year."""
    year = "%y" if moment.year in _YEARS_OF_UTC_TIME else "%Y"
    return f"{moment:{year}%m%d%H%M%SZ}"


def _subject(record: CertificateRecord) -> str:
    """The name from its least specific part on, with slashes between the parts."""
    if record.certificate is None:  # an attempt that was given up
        return "/CN=none"
    name = x509.load_der_x509_certificate(record.certificate.der).subject
    return "".join(f"/{attribute_name(part.oid)}={_escaped(str(part.value))}" for part in name)


def _escaped(value: str) -> str:
    r"""As X509_NAME_oneline prints octets that are not printable ASCII: \xC3\x9C."""
    return "".join(
        chr(octet) if chr(octet).isascii() and chr(octet).isprintable() else f"\\x{octet:02X}"
        for octet in value.encode()
    )
