"""Certificates that a domain publishes for its addresses: SMIMEA records (RFC 8162)."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

import dns.exception
import dns.name
import dns.rdatatype

from tokensign.certificates import Certificate
from tokensign.contacts.contact import canonical_address
from tokensign.contacts.dnssec import Validator, records_of_trusted
from tokensign.errors import UnsupportedError, UsageError

if TYPE_CHECKING:
    from dns.name import Name

    from tokensign.contacts.dnssec import Resolver

__all__ = ["lookup_smimea", "smimea_name"]

_DIGEST_SIZE: Final = 28  # octets of the hash of the local part (RFC 8162 section 3)
_RECORDS_MAXIMUM: Final = 8  # that are looked at; people have a certificate or two, and one that comes next
_DANE_EE: Final = 3  # the certificate is the domain's word, whoever issued it (RFC 6698 section 2.1.1)
_WHOLE_CERTIFICATE: Final = (0, 0)  # selector and matching type: all of it, and not a hash


def smimea_name(address: str) -> Name:
    """The name at which the SMIMEA records of an address stand (RFC 8162 section 3).

    Args:
        address: The local part is hashed as it is written, without the quotes of a quoted string.

    Raises:
        UsageError: It is no address, or too long for a name.
    """
    local, _, domain = canonical_address(address).rpartition("@")
    if local.startswith('"') and local.endswith('"'):
        local = local[1:-1].replace('\\"', '"').replace("\\\\", "\\")
    digest = hashlib.sha256(local.encode()).digest()[:_DIGEST_SIZE]
    try:
        return dns.name.from_text(f"{digest.hex()}._smimecert.{domain}.")
    except dns.exception.DNSException as error:
        raise UsageError(f"{address} cannot be looked up in the DNS: {error}") from error


def lookup_smimea(
    address: str, resolver: Resolver, validator: Validator | None = None
) -> tuple[Certificate, ...]:
    """The certificates that a domain publishes for an address.

    Taken are those of usage DANE-EE(3) that the DNS has as a whole. The other usages need a trust anchor or a
    certificate from elsewhere; whoever has that adds it as a file.

    Args:
        address: Whose certificates.
        resolver: Whom to ask.
        validator: Proves the answer; None believes the resolver's word that it has proved it.

    Returns:
        At least one.

    Raises:
        UnsupportedError: There is none, or none that can be used.
        MalformedError: A record has no certificate.
        UntrustedError: The answer is not proved.
        NetworkError: There is no answer.
        UsageError: `address` is none.
    """
    name = smimea_name(address)
    kind = dns.rdatatype.SMIMEA
    found = validator.records(name, kind) if validator else records_of_trusted(resolver, name, kind)
    records = list(found or ())
    if not records:
        raise UnsupportedError(
            f"the DNS has no certificate for {address}", hint="ask for a signed mail, or for the certificate"
        )
    whole = [
        Certificate(record.cert)
        for record in records[:_RECORDS_MAXIMUM]
        if record.usage == _DANE_EE and (record.selector, record.mtype) == _WHOLE_CERTIFICATE
    ]
    if not whole:
        raise UnsupportedError(
            f"the DNS has only hashes or issuers of the certificate for {address}",
            hint="ask for the certificate, and add it as a file",
        )
    return tuple(whole)
