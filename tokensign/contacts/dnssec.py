"""Answers of the DNS that DNSSEC proves, from the trust anchor down (RFC 4035 section 5).

A resolver is asked for records and is not believed: every signature is checked here. The way goes up from an
answer: the signer's keys are proved by its DS records, these by the keys of the zone above, and so on until a
trust anchor. Only what exists is proved, which is all that is asked for; so no proof of absence is needed.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import dns.dnssec
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.query
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.resolver
import dns.rrset
import dns.zonefile
from dns.dnssectypes import Algorithm, DSDigest

from tokensign.errors import ConfigurationError, NetworkError, UntrustedError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from dns.name import Name
    from dns.rdatatype import RdataType
    from dns.rdtypes.ANY.DNSKEY import DNSKEY
    from dns.rdtypes.ANY.DS import DS
    from dns.rdtypes.ANY.RRSIG import RRSIG
    from dns.rrset import RRset

__all__ = [
    "ROOT_ANCHORS",
    "Resolver",
    "Validator",
    "read_trust_anchors",
    "records_of_trusted",
    "system_resolver",
]

_ROOT_DS: Final = """\
. 0 IN DS 20326 8 2 E06D44B80B8F1D39A95C0B0D7C65D08458E880409BBC683457104237C7F8EC8D
. 0 IN DS 38696 8 2 683D2D0ACB8C9B712A1948B27F741219298D0A450D612C483AF444A4C0FB2B16
"""  # the key-signing keys of 2017 and 2024, as IANA publishes them

_QUERIES_MAXIMUM: Final = 40  # two a zone; names with more than ten zones above them are attacks
_KEYS_MAXIMUM: Final = 32  # of a zone; each may have to be tried (CVE-2023-50387)
_SIGNATURES_MAXIMUM: Final = 8  # over a record set, as above

_ALGORITHMS: Final = frozenset(  # RFC 9904: those with which signatures are still made
    {
        Algorithm.RSASHA256,
        Algorithm.RSASHA512,
        Algorithm.ECDSAP256SHA256,
        Algorithm.ECDSAP384SHA384,
        Algorithm.ED25519,
        Algorithm.ED448,
    }
)
_DIGESTS: Final = frozenset({DSDigest.SHA256, DSDigest.SHA384})


@dataclass(frozen=True, slots=True)
class Resolver:
    """A recursive resolver, which is asked and not believed.

    Attributes:
        address: Its IP address.
        port: Its port.
        seconds: How long an answer may take; a resolver that has to ask others takes one or two.
    """

    address: str
    port: int = 53
    seconds: float = 5.0

    def ask(self, name: Name, kind: RdataType, *, flags: int) -> dns.message.Message:
        """Ask for records and their signatures, over UDP, and over TCP where the answer is too long for that.

        Args:
            name: The owner.
            kind: The type.
            flags: Of the question, beside RD.

        Raises:
            NetworkError: There is no answer in time, or the resolver failed.
        """
        query = dns.message.make_query(name, kind, want_dnssec=True)
        query.flags |= flags
        try:
            answer, _ = dns.query.udp_with_fallback(query, self.address, timeout=self.seconds, port=self.port)
        except (dns.exception.DNSException, OSError) as error:
            raise NetworkError(
                f"the resolver {self.address} gave no answer about {name}: {error or type(error).__name__}",
                hint="see whether the network works, or name another one with --nameserver",
            ) from error
        if answer.rcode() not in {dns.rcode.NOERROR, dns.rcode.NXDOMAIN}:
            raise NetworkError(
                f"the resolver {self.address} failed to answer about {name}:"
                f" {dns.rcode.to_text(answer.rcode())}"
            )
        return answer


def system_resolver(file: str = "/etc/resolv.conf") -> Resolver:
    """The first resolver of the system's configuration.

    Args:
        file: Where that stands; Windows has it elsewhere.

    Raises:
        ConfigurationError: There is none.
    """
    try:
        configured = dns.resolver.Resolver(file)
    except dns.exception.DNSException as error:
        raise ConfigurationError(
            "the system's configuration names no resolver", hint="name one with --nameserver"
        ) from error
    return Resolver(str(configured.nameservers[0]), configured.port)


def read_trust_anchors(text: str) -> Mapping[Name, RRset]:
    """Read trust anchors.

    Args:
        text: DS records as in a zone file, with full names.

    Returns:
        A zone to the DS records of its keys.

    Raises:
        ConfigurationError: It is no such text, or there is no DS record in it.
    """
    try:
        found = dns.zonefile.read_rrsets(
            text, rdclass=None, default_ttl=0, origin=dns.name.root, relativize=False
        )
    except (dns.exception.DNSException, ValueError) as error:
        raise ConfigurationError(f"the trust anchors of the DNS cannot be read: {error}") from error
    anchors = {rrset.name: rrset for rrset in found if rrset.rdtype == dns.rdatatype.DS}
    if not anchors:
        raise ConfigurationError("there is no DS record among the trust anchors of the DNS")
    return anchors


ROOT_ANCHORS: Final = read_trust_anchors(_ROOT_DS)


@dataclass
class Validator:
    """Gets records and proves them.

    Attributes:
        resolver: Whom to ask.
        anchors: What is believed; the keys of the root unless told.
    """

    resolver: Resolver
    anchors: Mapping[Name, RRset] = field(default_factory=lambda: ROOT_ANCHORS)
    _keys: dict[Name, RRset] = field(default_factory=dict, init=False)
    _queries: int = field(default=0, init=False)

    def records(self, name: Name, kind: RdataType) -> RRset | None:
        """The records of a type at a name, proved; None where the resolver knows of none.

        Args:
            name: The owner, absolute. An alias there is not followed.
            kind: The type.

        Raises:
            UntrustedError: They are not signed, or no chain of signatures leads to them from an anchor.
            NetworkError: The resolver gave no answer.
        """
        records, signatures = self._ask(name, kind)
        if records is None:
            return None
        for signature in signatures:
            # the zone above signs DS records, and no other zone than the root has none above it
            is_inside = name.is_subdomain(signature.signer) and (
                kind != dns.rdatatype.DS or name != signature.signer
            )
            # fewer labels: made from a wildcard, which must be proved to be the closest match
            if not is_inside or signature.labels != len(name.labels) - 1:
                continue
            if _holds(records, signature, self._keys_of(signature.signer)):
                return records
        raise UntrustedError(
            f"no DNSSEC signature proves the {dns.rdatatype.to_text(kind)} records of {name}",
            hint="the domain is not signed, or somebody forged the answer; nothing was taken from it",
        )

    def _keys_of(self, zone: Name) -> RRset:
        """The proved keys of a zone."""
        if zone not in self._keys:
            keys, signatures = self._ask(zone, dns.rdatatype.DNSKEY)
            if keys is None or len(keys) > _KEYS_MAXIMUM:
                raise UntrustedError(f"the zone {zone} has no keys, or more than {_KEYS_MAXIMUM}")
            entry = self._named_by(self._delegation(zone), keys)
            if not any(one.signer == zone and _holds(keys, one, entry) for one in signatures):
                raise UntrustedError(f"the keys of the zone {zone} are not signed as they must be")
            self._keys[zone] = keys
        return self._keys[zone]

    def _delegation(self, zone: Name) -> RRset:
        """The DS records of a zone: an anchor, or proved by the zone above."""
        if zone in self.anchors:
            return self.anchors[zone]
        found = None if zone == dns.name.root else self.records(zone, dns.rdatatype.DS)
        if found is None:
            raise UntrustedError(f"no chain of DNSSEC signatures leads to the zone {zone}")
        return found

    @staticmethod
    def _named_by(delegation: RRset, keys: RRset) -> RRset:
        """Those keys of a zone that its DS records name; they sign the others."""
        named = [key for key in keys if any(_is_of(ds, keys.name, key) for ds in delegation)]
        if not named:
            raise UntrustedError(
                f"the keys of the zone {keys.name} are not those that were announced above it"
            )
        return dns.rrset.from_rdata_list(keys.name, keys.ttl, named)

    def _ask(self, name: Name, kind: RdataType) -> tuple[RRset | None, list[RRSIG]]:
        """The records and their signatures, unproved."""
        self._queries += 1
        if self._queries > _QUERIES_MAXIMUM:
            raise UntrustedError(f"more than {_QUERIES_MAXIMUM} questions are needed to prove one answer")
        answer = self.resolver.ask(name, kind, flags=int(dns.flags.CD))  # forgeries too: they are seen here
        return _records(answer, name, kind), list(_signatures(answer, name, kind))


def records_of_trusted(resolver: Resolver, name: Name, kind: RdataType) -> RRset | None:
    """The records of a type at a name as a resolver has proved them, which is believed.

    That is right only where the resolver and the way to it are the user's own (RFC 4035 section 4.9.3).

    Args:
        resolver: Whom to ask.
        name: The owner, absolute.
        kind: The type.

    Returns:
        The records, or None where there are none.

    Raises:
        UntrustedError: The resolver does not say that it proved them.
        NetworkError: It gave no answer.
    """
    answer = resolver.ask(name, kind, flags=int(dns.flags.AD))
    found = _records(answer, name, kind)
    if found is not None and not answer.flags & dns.flags.AD:
        raise UntrustedError(
            f"the resolver {resolver.address} did not prove the records of {name}",
            hint="the domain is not signed, or the resolver does not validate",
        )
    return found


def _records(answer: dns.message.Message, name: Name, kind: RdataType) -> RRset | None:
    return answer.get_rrset(answer.answer, name, dns.rdataclass.IN, kind)


def _signatures(answer: dns.message.Message, name: Name, kind: RdataType) -> Iterator[RRSIG]:
    found = answer.get_rrset(answer.answer, name, dns.rdataclass.IN, dns.rdatatype.RRSIG, kind)
    return itertools.islice(found or (), _SIGNATURES_MAXIMUM)


def _holds(records: RRset, signature: RRSIG, keys: RRset) -> bool:
    """Whether a signature over records is that of a zone's key, and valid now."""
    strong = [key for key in keys if key.algorithm in _ALGORITHMS]
    if not strong:
        return False
    try:
        own = dns.rrset.from_rdata_list(keys.name, keys.ttl, strong)
        dns.dnssec.validate_rrsig(records, signature, {keys.name: own})
    except dns.exception.DNSException:
        return False
    return True


def _is_of(ds: DS, zone: Name, key: DNSKEY) -> bool:
    """Whether a DS record names a key."""
    if (
        ds.digest_type not in _DIGESTS
        or key.algorithm != ds.algorithm
        or dns.dnssec.key_id(key) != ds.key_tag
    ):
        return False
    return dns.dnssec.make_ds(zone, key, ds.digest_type, validating=True).digest == ds.digest
