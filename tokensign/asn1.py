"""asn1crypto's certificate, with names prepared for comparison once, and addresses as they are written.

Comparing names needs the string preparation of RFC 5280 section 7.1, and asn1crypto does it anew at every
comparison. Path building and validation compare the same few names dozens of times: a large part of all
their time.
"""

from __future__ import annotations

import re
from functools import cached_property
from typing import Any, Final

from asn1crypto import x509

__all__ = ["X509Certificate"]


_BLANKS: Final = re.compile(" +")


class _Name(x509.Name):  # type: ignore[misc]  # asn1crypto has no types
    """A Name, read and never changed."""

    @cached_property
    def hashable(self) -> str:
        """A text that is the same for equal names."""
        for relative in self.chosen:
            for part in relative:
                text = part["value"].native
                if isinstance(text, str) and text.isascii() and text.isprintable():
                    # All that RFC 4518 section 2 does to it, which asn1crypto takes a dozen steps for.
                    part._prepped = f" {_BLANKS.sub('  ', text.lower()).strip()} "  # noqa: SLF001 - its memory
        found: str = super().hashable
        return found

    def __eq__(self, other: object) -> bool:
        """Equality by RFC 5280 section 7.1: of the same bytes at once, else of what the names prepare to."""
        if not isinstance(other, x509.Name):
            return False
        if self.chosen.contents == other.chosen.contents:
            return True
        return self.hashable == other.hashable and bool(super().__eq__(other))

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = None  # type: ignore[assignment]  # as asn1crypto's: what is hashed is `hashable`


class _Rfc822Name(x509.EmailAddress):  # type: ignore[misc]  # as above
    """An rfc822Name as it is: IA5String, the domain in A-labels (RFC 9598 section 3).

    asn1crypto shows U-labels, by the IDNA of 2003, and letters beyond ASCII, which cannot be meant.
    """

    def __unicode__(self) -> str:
        contents: bytes = self.contents
        return contents.decode("ascii", "backslashreplace")


class _GeneralName(x509.GeneralName):  # type: ignore[misc]  # as above
    _alternatives = [  # noqa: RUF012 - asn1crypto's way
        (name, _Rfc822Name if kind is x509.EmailAddress else kind, *options)
        for name, kind, *options in x509.GeneralName._alternatives  # noqa: SLF001 - made for subclasses
    ]


class _GeneralNames(x509.GeneralNames):  # type: ignore[misc]  # as above
    _child_spec = _GeneralName


class _Extension(x509.Extension):  # type: ignore[misc]  # as above
    _oid_specs = x509.Extension._oid_specs | {"subject_alt_name": _GeneralNames}  # noqa: SLF001 - as above


class _Extensions(x509.Extensions):  # type: ignore[misc]  # as above
    _child_spec = _Extension


_OURS: Final = {x509.Name: _Name, x509.Extensions: _Extensions}


class _TbsCertificate(x509.TbsCertificate):  # type: ignore[misc]  # as above
    _fields = [  # noqa: RUF012 - asn1crypto's way
        (name, _OURS.get(kind, kind), *options) for name, kind, *options in x509.TbsCertificate._fields
    ]


class X509Certificate(x509.Certificate):  # type: ignore[misc]  # as above
    """A Certificate (RFC 5280 section 4.1) that is read and never changed."""

    _fields = [  # noqa: RUF012 - asn1crypto's way
        ("tbs_certificate", _TbsCertificate),
        *x509.Certificate._fields[1:],
    ]

    @classmethod
    def load(cls, encoded: bytes) -> Any:  # noqa: ANN401 - asn1crypto has no types
        """Read a certificate, DER, with nothing behind it.

        Raises:
            ValueError: It is none.
        """
        return super().load(encoded, strict=True)
