"""Trust anchors: the certificates that a user trusts, and what each of them may vouch for."""

from __future__ import annotations

import contextlib
import ssl
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from asn1crypto import pem
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, pkcs12
from pyhanko_certvalidator.authority import (
    AuthorityWithCert,
    CertTrustAnchor,
    TrustedServiceType,
    derive_quals_from_cert,
)
from pyhanko_certvalidator.policy_decl import PKIXValidationParams
from pyhanko_certvalidator.registry import TrustManager

from tokensign import der
from tokensign.certificates import Certificate, load_certificates
from tokensign.errors import FileError, MalformedError, UsageError
from tokensign.files import read_small

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pyhanko_certvalidator.authority import Authority, TrustAnchor, TrustQualifiers

    from tokensign.keys import Password

UNREADABLE: Final = (
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    OverflowError,
    RecursionError,
    NotImplementedError,
)
"""What asn1crypto and pyhanko-certvalidator raise over broken and odd certificates."""

__all__ = ["UNREADABLE", "AnchorStore", "load_anchors", "may_issue", "system_anchors"]


def load_anchors(paths: Iterable[Path], password: Password | None = None) -> tuple[Certificate, ...]:
    """Read trust anchors from files and folders, doublets dropped.

    Args:
        paths: PEM files with any number of certificates, DER files with one, PKCS#12 files, of which the CA
            certificates count, or folders of such files but PKCS#12. What is no certificate in a folder is
            passed over, and so are the folders in it.
        password: That of the PKCS#12 files; None where they have none.

    Raises:
        FileError: A file or folder cannot be read.
        MalformedError: A file that is named itself holds no certificate, or a broken one, or the password is
            another one.
        UsageError: Nothing was found.
    """
    named = list(paths)
    found: dict[Certificate, None] = {}
    for path in named:
        found |= dict.fromkeys(_folder(path) if path.is_dir() else _file(path, password))
    if not found:
        where = ", ".join(map(str, named)) or "what was named"
        raise UsageError(f"there is no trust anchor in {where}", hint="name a file with a CA certificate")
    return tuple(found)


def system_anchors() -> tuple[Certificate, ...]:
    """The trust anchors of this system, where OpenSSL looks for them (SSL_CERT_FILE and SSL_CERT_DIR count).

    They vouch for web servers first, and there are more than a hundred: naming one's own says more. One that
    cannot be read is passed over.

    Raises:
        FileError: They cannot be read.
        UsageError: There are none.
    """
    places = ssl.get_default_verify_paths()
    found: dict[Certificate, None] = {}
    if places.cafile:
        found |= dict.fromkeys(_readable(read_small(places.cafile)))
    if places.capath:
        found |= dict.fromkeys(_folder(Path(places.capath)))
    if not found:
        raise UsageError(
            "this system has no trust anchors where OpenSSL looks for them",
            hint="install its CA certificates (on Debian: ca-certificates), or name a file instead",
        )
    return tuple(found)


def _file(path: Path, password: Password | None) -> list[Certificate]:
    data = read_small(path)
    try:
        return _from_pkcs12(data, password) if _is_pkcs12(data) else load_certificates(data)
    except MalformedError as error:
        raise MalformedError(f"{path}: {error.message}", hint=error.hint) from error


def _folder(path: Path) -> Iterator[Certificate]:
    try:
        entries = sorted(entry for entry in path.iterdir() if entry.is_file())
    except OSError as error:
        raise FileError(f"cannot read {path}: {error.strerror}") from error
    for entry in entries:
        try:
            yield from load_certificates(read_small(entry))
        except MalformedError:
            continue


def _readable(bundle: bytes) -> Iterator[Certificate]:
    """The certificates of a PEM file, but those that cannot be read."""
    with contextlib.suppress(ValueError):  # what follows broken armor is lost
        for kind, _, encoded in pem.unarmor(bundle, multiple=True):
            if kind == "CERTIFICATE":
                with contextlib.suppress(MalformedError):
                    yield Certificate(encoded)


def _is_pkcs12(data: bytes) -> bool:
    """Whether it begins as a PFX of version 3 (RFC 7292 section 4); a certificate begins with a SEQUENCE."""
    match data[:1], data[1:2]:
        case b"\x30", length if length:
            header = 2 + (length[0] & 0x7F if length[0] & 0x80 else 0)
            return data[header : header + 3] == der.integer(3)
        case _:
            return False


def _from_pkcs12(data: bytes, password: Password | None) -> list[Certificate]:
    """The CA certificates of a PKCS#12 file; a person's own in it is no anchor."""
    try:
        loaded = pkcs12.load_pkcs12(data, password.reveal() if password else None)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise MalformedError(
            "the PKCS#12 file cannot be opened: it is broken, or its password is another one",
            hint="give its password with --trust-password-source",
        ) from error
    entries = [loaded.cert, *loaded.additional_certs]
    found = [Certificate(entry.certificate.public_bytes(Encoding.DER)) for entry in entries if entry]
    if not (authorities := [entry for entry in found if entry.is_ca]):
        raise MalformedError("there is no CA certificate in the PKCS#12 file")
    return authorities


def may_issue(anchor: Certificate, *, legacy: bool) -> bool:
    """Whether an anchor may vouch for other certificates, or for itself only.

    A person's certificate may be an anchor, and that person must not be able to issue certificates in
    other names with it. So basicConstraints must say that it is a CA, and keyUsage must not say otherwise.

    Args:
        anchor: The trust anchor.
        legacy: Whether self-issued certificates of version 1, which have no extensions, count as CAs.
    """
    if anchor.asn1["tbs_certificate"]["version"].native == "v1":
        return legacy and anchor.is_self_issued
    return anchor.is_ca and (anchor.key_usage is None or "key_cert_sign" in anchor.key_usage)


class AnchorStore(TrustManager):
    """The anchors as pyhanko-certvalidator asks for them.

    A certificate is an anchor when its bytes are, not when name and key are: otherwise the owner of a
    trusted certificate could make others of the same name and key, with any address and lifetime.

    Args:
        anchors: The trust anchors.
        maximum_path_length: CA certificates between anchor and signer at the most, less the self-issued ones.
        legacy: See `may_issue`.
    """

    def __init__(
        self, anchors: Iterable[Certificate], *, maximum_path_length: int | None, legacy: bool
    ) -> None:
        self._by_subject: dict[str, list[CertTrustAnchor]] = defaultdict(list)
        for anchor in anchors:
            # An anchor whose limits cannot be read vouches for nobody, rather than without limits.
            with contextlib.suppress(*UNREADABLE):
                if may_issue(anchor, legacy=legacy):
                    entry = CertTrustAnchor(anchor.asn1, _qualifiers(anchor, maximum_path_length))
                    self._by_subject[anchor.asn1.subject.hashable].append(entry)

    @property
    def certificates(self) -> list[Any]:
        """The anchors that may issue, as asn1crypto has them."""
        return [entry.certificate for entries in self._by_subject.values() for entry in entries]

    def as_trust_anchor(self, authority: Authority) -> TrustAnchor | None:
        """The anchor that an authority is, if it is one."""
        if not isinstance(authority, AuthorityWithCert):
            return None
        certificate = authority.certificate
        entries = self._by_subject.get(certificate.subject.hashable, ())
        return next((entry for entry in entries if _same(entry.certificate, certificate)), None)

    def find_potential_issuers(self, cert: Any) -> Iterator[TrustAnchor]:  # noqa: ANN401 - asn1crypto has no types
        """The anchors that may have issued a certificate, by name and key identifier."""
        for entry in self._by_subject.get(cert.issuer.hashable, ()):
            if entry.authority.is_potential_issuer_of(cert):
                yield entry


def _same(one: Any, other: Any) -> bool:  # noqa: ANN401 - asn1crypto has no types
    """Whether two certificates are the same bytes.

    Their parts are compared, because asn1crypto takes a length that ends in the octet 0x80 for an indefinite
    one, and then dump() writes the whole anew, and not always as it was.
    """
    return one is other or (
        one.signature == other.signature and one["tbs_certificate"].dump() == other["tbs_certificate"].dump()
    )


def _qualifiers(anchor: Certificate, maximum_path_length: int | None) -> TrustQualifiers:
    """What an anchor's own certificate limits: validity, path length and names (RFC 5937)."""
    derived = derive_quals_from_cert(anchor.asn1)
    names = derived.standard_parameters
    limits = [limit for limit in (derived.max_path_length, maximum_path_length) if limit is not None]
    length = min(limits, default=None)
    return replace(
        derived,
        standard_parameters=names
        and PKIXValidationParams(  # no certificate policies: an anchor's list is no demand on every path
            initial_permitted_subtrees=names.initial_permitted_subtrees,
            initial_excluded_subtrees=names.initial_excluded_subtrees,
        ),
        max_path_length=length,
        max_aa_path_length=length,
        trusted_service_type=TrustedServiceType.CERTIFICATE_AUTHORITY,
    )
