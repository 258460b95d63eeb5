"""What would not work although the service starts: files, addresses and keys that its settings name.

`assembled` refuses what cannot be meant. This looks at the rest, which a person wants to know before.
"""

from __future__ import annotations

import contextlib
import errno
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from tokensign.authority.http_server import listening
from tokensign.errors import FileError, NetworkError
from tokensign.files import read_small
from tokensign.service.start import certificates_of, lanes_of, tokens_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from tokensign.service.lanes import LaneKey, LaneState
    from tokensign.service.settings import ServiceSettings, TlsSettings

__all__ = ["Findings", "look"]

_SOON: Final = timedelta(days=14)  # time enough to get another certificate
_FOR_SERVERS: Final = {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE}


@dataclass(frozen=True, slots=True)
class Findings:
    """What was found.

    Attributes:
        lanes: How each lane is, after its workers logged in once.
        keys: The ids of the keys that there are.
        troubles: What would not work, beside the lanes that are not up.
        remarks: What may be as it is meant.
    """

    lanes: Mapping[str, LaneState]
    keys: Sequence[str]
    troubles: Sequence[str]
    remarks: Sequence[str]


async def look(settings: ServiceSettings) -> Findings:
    """Look at all that the settings name. Each lane logs in on its token once.

    Raises:
        ConfigurationError, FileError, MalformedError: As for `tokensign.service.start.assembled`.
    """
    troubles, remarks = list(_certificates(settings.tls)), list(_revocation(settings))
    for name, address in (("listen", settings.listen), ("metrics", settings.metrics)):
        if address is not None:
            _try_address(name, address, troubles, remarks)
    tokens = tokens_of(settings)
    if tokens is not None:
        try:
            await tokens.have_keys()
        except (FileError, NetworkError) as error:
            troubles.append(f"service.oidc.jwks: {error.message}")
    lanes = lanes_of(settings)
    try:
        await lanes.start()
        states, keys = lanes.states(), dict(lanes.keys())
    finally:
        await lanes.stop(graceful=False)
    troubles += _named_keys(settings, states, keys)
    return Findings(states, sorted(keys), troubles, remarks + list(_ending(settings.tls)))


def _certificates(tls: TlsSettings | None) -> Iterator[str]:
    if tls is None:
        return
    now = datetime.now(UTC)
    own = _read(tls)
    if not own.not_valid_before_utc <= now < own.not_valid_after_utc:
        yield f"service.tls.certificate {tls.certificate} is not valid now: {_validity(own)}"
    with contextlib.suppress(x509.ExtensionNotFound):
        purposes = own.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        if _FOR_SERVERS.isdisjoint(purposes):
            yield f"service.tls.certificate {tls.certificate} is not one for servers (extendedKeyUsage)"
    try:
        own.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        yield f"service.tls.certificate {tls.certificate} names no host (subjectAltName)"
    if tls.client_ca is not None:
        for one in x509.load_pem_x509_certificates(read_small(tls.client_ca)):
            if not one.not_valid_before_utc <= now < one.not_valid_after_utc:
                name = one.subject.rfc4514_string()
                yield f"service.tls.client-ca: the certificate of {name} is not valid now: {_validity(one)}"


def _ending(tls: TlsSettings | None) -> Iterator[str]:
    if tls is not None:
        left = _read(tls).not_valid_after_utc - datetime.now(UTC)
        if timedelta(0) < left < _SOON:
            yield f"service.tls.certificate {tls.certificate} ends in {left.days} days"


def _read(tls: TlsSettings) -> x509.Certificate:
    """The certificate of the service, which stands first; `ServerTls` has read the file."""
    return x509.load_pem_x509_certificate(read_small(tls.certificate))


def _validity(certificate: x509.Certificate) -> str:
    start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return f"from {start:%Y-%m-%d} to {end:%Y-%m-%d}"


def _revocation(settings: ServiceSettings) -> Iterator[str]:
    found = certificates_of(settings)
    for name in found.untold() if found is not None else ():
        yield f"no CRL of service.tls.client-crl tells of certificates of {name} now; those are refused"


def _try_address(name: str, address: tuple[str, int], troubles: list[str], remarks: list[str]) -> None:
    try:
        listening(*address).close()
    except NetworkError as error:
        is_taken = isinstance(error.__cause__, OSError) and error.__cause__.errno == errno.EADDRINUSE
        told = f"service.{name}: {error.message}"
        if is_taken:
            remarks.append(f"{told}; by the service itself, if it runs")
        else:
            troubles.append(told)


def _named_keys(
    settings: ServiceSettings, states: Mapping[str, LaneState], keys: Mapping[str, LaneKey]
) -> Iterator[str]:
    for setting, key_id in (("audit.key", settings.audit.key), ("monitor-key", settings.monitor_key)):
        if key_id is None:
            continue
        lane = key_id.partition("/")[0]
        if lane not in states:
            yield f"service.{setting} {key_id}: no lane is called {lane}; write LANE/LABEL"
        elif states[lane].status == "up" and key_id not in keys:
            yield f"service.{setting} {key_id}: there is no such key; make it with `tokensign key generate`"
        elif setting == "audit.key" and key_id in keys and keys[key_id].certificate is None:
            yield (
                f"service.{setting} {key_id} has no certificate, which checkpoints need; "
                "make one with `tokensign cert self-sign`"
            )
