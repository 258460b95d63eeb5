"""Trust anchors: the certificates that a user trusts, and what each of them may vouch for."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from pyhanko_certvalidator.authority import (
    AuthorityWithCert,
    CertTrustAnchor,
    TrustedServiceType,
    derive_quals_from_cert,
)
from pyhanko_certvalidator.policy_decl import PKIXValidationParams
from pyhanko_certvalidator.registry import TrustManager

from tokensign.certificates import load_certificates
from tokensign.errors import FileError, MalformedError, UsageError
from tokensign.files import read_small

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from pyhanko_certvalidator.authority import Authority, TrustAnchor, TrustQualifiers

    from tokensign.certificates import Certificate

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

__all__ = ["UNREADABLE", "AnchorStore", "load_anchors", "may_issue"]


def load_anchors(paths: Iterable[Path]) -> tuple[Certificate, ...]:
    """Read trust anchors from files and folders, doublets dropped.

    Args:
        paths: PEM files with any number of certificates, DER files with one, or folders of such files. What
            is no certificate in a folder is passed over, and so are the folders in it.

    Raises:
        FileError: A file or folder cannot be read.
        MalformedError: A file that is named itself holds no certificate, or a broken one.
        UsageError: Nothing was found.
    """
    named = list(paths)
    found: dict[Certificate, None] = {}
    for path in named:
        found |= dict.fromkeys(_folder(path) if path.is_dir() else _file(path))
    if not found:
        where = ", ".join(map(str, named)) or "what was named"
        raise UsageError(f"there is no trust anchor in {where}", hint="name a file with a CA certificate")
    return tuple(found)


def _file(path: Path) -> list[Certificate]:
    try:
        return load_certificates(read_small(path))
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
