"""One certificate revocation list (RFC 5280 section 5)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from asn1crypto import crl, pem
from cryptography import x509
from pyhanko_certvalidator.revinfo.archival import CRLContainer

from tokensign import der
from tokensign.errors import MalformedError
from tokensign.pki.anchors import UNREADABLE
from tokensign.pki.names import short_name
from tokensign.pki.revocation.errors import first_line, require_strength

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime

    from tokensign.pki.validated_path import RevocationKind

__all__ = ["Crl", "load_crls"]

_CERTIFICATE_ISSUER: Final = der.object_identifier("2.5.29.29")  # entries of others, RFC 5280 section 5.3.3


@dataclass(frozen=True, slots=True)
class Crl:
    """A CRL that could be read. Nothing in it is proven.

    Attributes:
        encoded: The CertificateList, DER.
        source: Where it comes from, as in `RevocationEvidence.source`.
        container: As pyhanko-certvalidator has it.
        this_update: When it was made.
        next_update: When a newer one is due, or None.
        number: cRLNumber (section 5.2.3), or None.
        base_number: BaseCRLNumber of a delta CRL (section 5.2.4), or None for a complete one.
        is_partial: Whether it tells of some reasons for revocation only (section 5.2.5).
    """

    encoded: bytes
    source: str
    container: CRLContainer
    this_update: datetime
    next_update: datetime | None
    number: int | None
    base_number: int | None
    is_partial: bool

    @classmethod
    def load(cls, encoded: bytes, source: str, *, legacy: bool) -> Crl:
        """Read a CRL.

        Args:
            encoded: A CertificateList, DER or PEM.
            source: Where it comes from.
            legacy: Whether signatures with MD5 or SHA-1 are accepted.

        Raises:
            MalformedError: It is not a CRL.
            UntrustedError: Its signature is too weak.
        """
        try:
            encoded = pem.unarmor(encoded)[2] if pem.detect(encoded) else encoded
            x509.load_der_x509_crl(encoded)  # reads every entry, hundreds of times faster than asn1crypto
            asn1 = crl.CertificateList.load(encoded, strict=True)
            issuer = short_name(asn1.issuer)
            scope = asn1.issuing_distribution_point_value
            times = asn1["tbs_cert_list"]["this_update"].native, asn1["tbs_cert_list"]["next_update"].native
            numbers = _native(asn1.crl_number_value), _native(asn1.delta_crl_indicator_value)
            is_partial = scope is not None and scope["only_some_reasons"].native is not None
            algorithm = asn1["signature_algorithm"]
            _ = asn1.critical_extensions, asn1.freshest_crl_value, algorithm.native
        except (x509.InvalidVersion, *UNREADABLE) as error:
            raise MalformedError("the CRL cannot be read", hint=first_line(error)) from error
        require_strength(f"the CRL of {issuer}", algorithm, legacy=legacy)
        return cls(encoded, source, CRLContainer(asn1), *times, *numbers, is_partial)

    @property
    def kind(self) -> RevocationKind:
        """A CRL."""
        return "crl"

    @property
    def produced_at(self) -> datetime:
        """When it was made."""
        return self.this_update

    @property
    def is_delta(self) -> bool:
        """Whether it holds only what changed since another one."""
        return self.base_number is not None

    @property
    def freshest(self) -> Any:  # noqa: ANN401 - asn1crypto has no types
        """Where its delta CRLs are: CRLDistributionPoints (section 5.2.6), or None."""
        return self.container.crl_data.freshest_crl_value

    def updates(self, base: Crl) -> bool:
        """Whether it is a delta CRL that brings a complete one up to date (section 5.2.4).

        The validator goes by the names; that a delta CRL is older than what it shall update shows in the
        numbers alone.
        """
        if self.number is None or self.base_number is None or base.number is None:
            return False
        return self.base_number <= base.number <= self.number

    def about(self, serial_number: bytes) -> CRLContainer:
        """The CRL, in which a search for one certificate sees only the entries that may matter.

        Of a CRL with 300,000 entries the validator would otherwise read each one, which takes a quarter of a
        minute.

        Args:
            serial_number: CertificateSerialNumber, an INTEGER, DER.
        """
        asn1 = _CertificateList.load(self.encoded)
        revoked = asn1["tbs_cert_list"]["revoked_certificates"]
        if isinstance(revoked, _RevokedCertificates):
            revoked.wanted = serial_number
        return CRLContainer(asn1)

    def lists(self, serial_number: bytes) -> bool:
        """Whether there is an entry for a certificate, whatever its date.

        Args:
            serial_number: As for `about`.
        """
        if serial_number not in self.encoded:  # as nearly always
            return False
        revoked = self.about(serial_number).crl_data["tbs_cert_list"]["revoked_certificates"]
        entries = revoked if isinstance(revoked, _RevokedCertificates) else ()
        return any(entry["user_certificate"].dump() == serial_number for entry in entries)


def load_crls(encoded: Iterable[bytes], *, legacy: bool, source: str = "given") -> list[Crl]:
    """Read CRLs.

    Args:
        encoded: Each a CertificateList, DER or PEM.
        legacy: Whether signatures with MD5 or SHA-1 are accepted.
        source: Where they come from.

    Raises:
        MalformedError: One is not a CRL.
        UntrustedError: One has a signature that is too weak.
    """
    return [Crl.load(entry, source, legacy=legacy) for entry in encoded]


def _native(value: Any) -> int | None:  # noqa: ANN401 - asn1crypto has no types
    return None if value is None else int(value.native)


class _RevokedCertificates(crl.RevokedCertificates):  # type: ignore[misc]  # asn1crypto has no types
    wanted: bytes = b""

    def __iter__(self) -> Iterator[Any]:
        """The entries with the wanted serial number, and those that say whose certificates follow."""
        contents: bytes = self.contents
        if self.wanted not in contents and _CERTIFICATE_ISSUER not in contents:
            return
        for entry in der.elements(der.sequence(contents)):
            if self.wanted in entry or _CERTIFICATE_ISSUER in entry:
                yield crl.RevokedCertificate.load(entry)


class _TbsCertList(crl.TbsCertList):  # type: ignore[misc]  # as above
    _fields = [  # noqa: RUF012 - asn1crypto's way
        (name, _RevokedCertificates if kind is crl.RevokedCertificates else kind, *options)
        for name, kind, *options in crl.TbsCertList._fields
    ]


class _CertificateList(crl.CertificateList):  # type: ignore[misc]  # as above
    _fields = [  # noqa: RUF012 - asn1crypto's way
        ("tbs_cert_list", _TbsCertList),
        *crl.CertificateList._fields[1:],
    ]
