"""A resolver on the loopback address with a small DNS: the root, "example." and "acme.example."."""

from __future__ import annotations

import contextlib
import socketserver
import struct
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import dns.dnssec
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rrset
import dns.zone
from cryptography.hazmat.primitives.asymmetric import ec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ZONES = (".", "example.", "acme.example.")
_SIGNED_AGO = 3600  # seconds


def _key(flags: int) -> tuple[ec.EllipticCurvePrivateKey, dns.rdata.Rdata]:
    key = ec.generate_private_key(ec.SECP256R1())
    return key, dns.dnssec.make_dnskey(key.public_key(), "ECDSAP256SHA256", flags=flags)


@dataclass
class Domain:
    """Zones that sign one another's keys, and what a resolver answers from them.

    Attributes:
        records: Lines of "acme.example.", as a zone file has them.
        lifetime: Seconds for which the signatures are valid, which were made an hour ago.
        unsigned: Zones that have no signatures and no keys.
        unannounced: Zones whose keys are not announced above them.
        change: Applied to each answer, as somebody on the way would.
        proved: Whether the resolver says that it has proved its answers (AD).
        truncates: Whether answers over UDP are cut off.
    """

    records: str
    lifetime: int = 7200
    unsigned: tuple[str, ...] = ()
    unannounced: tuple[str, ...] = ()
    change: Callable[[dns.message.Message], None] | None = None
    proved: bool = False
    truncates: bool = False
    questions: list[tuple[str, str]] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        keys = {name: [_key(257), _key(256)] for name in ZONES}  # to sign keys, and to sign records
        self._announced = {name: pairs[0][1] for name, pairs in keys.items()}
        self._zones: dict[dns.name.Name, dns.zone.Zone] = {}
        for name, child in zip(ZONES, (*ZONES[1:], None), strict=True):
            text = f"{name} 60 IN SOA ns.{ZONES[-1]} hostmaster.{ZONES[-1]} 1 60 60 60 60\n"
            text += f"{name} 60 IN NS ns.{ZONES[-1]}\n"
            if child is None:
                text += self.records
            else:
                text += f"{child} 60 IN NS ns.{ZONES[-1]}\n"
                if child not in self.unannounced:
                    text += f"{child} 60 IN DS {self._ds(child)}\n"
            zone = dns.zone.from_text(text, origin=name, relativize=False)
            if name not in self.unsigned:
                start = time.time() - _SIGNED_AGO
                dns.dnssec.sign_zone(zone, keys=keys[name], inception=start, expiration=start + self.lifetime)
            self._zones[dns.name.from_text(name)] = zone

    def _ds(self, zone: str) -> str:
        return dns.dnssec.make_ds(zone, self._announced[zone], "SHA256").to_text()

    @property
    def anchor(self) -> str:
        """The DS record of the root's key."""
        return f". 0 IN DS {self._ds('.')}\n"

    def answer(self, query: dns.message.Message) -> dns.message.Message:
        question = query.question[0]
        self.questions.append((question.name.to_text(), dns.rdatatype.to_text(question.rdtype)))
        response = dns.message.make_response(query, recursion_available=True)
        zone = self._zone_of(question)
        for covers in (dns.rdatatype.NONE, question.rdtype):
            kind = question.rdtype if covers == dns.rdatatype.NONE else dns.rdatatype.RRSIG
            found = zone.get_rrset(question.name, kind, covers)
            if found is not None:
                response.answer.append(found)
        if not response.answer and zone.get_node(question.name) is None:
            response.set_rcode(dns.rcode.NXDOMAIN)
        if self.proved:
            response.flags |= dns.flags.AD
        if self.change:
            self.change(response)
        return response

    def _zone_of(self, question: dns.rrset.RRset) -> dns.zone.Zone:
        """The lowest zone above a name; of the DS records of a zone, the one above that."""
        at_cut = question.rdtype == dns.rdatatype.DS
        return next(
            zone
            for name, zone in reversed(self._zones.items())
            if question.name.is_subdomain(name) and not (at_cut and question.name == name)
        )


class _Udp(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        data, socket = self.request
        query = dns.message.from_wire(data)
        response = self.server.domain.answer(query)
        if self.server.domain.truncates:
            response.answer.clear()
            response.flags |= dns.flags.TC
        socket.sendto(response.to_wire(max_size=65535), self.client_address)


class _Tcp(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        (size,) = struct.unpack("!H", self.rfile.read(2))
        response = self.server.domain.answer(dns.message.from_wire(self.rfile.read(size)))
        encoded = response.to_wire(max_size=65535)
        self.wfile.write(struct.pack("!H", len(encoded)) + encoded)


@contextlib.contextmanager
def resolver(domain: Domain) -> Iterator[int]:
    """The port on 127.0.0.1 at which the domain is answered, over UDP and TCP."""
    with contextlib.ExitStack() as stack:
        tcp: Any = stack.enter_context(socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Tcp))
        port = tcp.server_address[1]
        udp: Any = stack.enter_context(socketserver.ThreadingUDPServer(("127.0.0.1", port), _Udp))
        for server in (tcp, udp):
            server.domain = domain
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
            thread.start()
            stack.callback(thread.join)
            stack.callback(server.shutdown)
        yield port
