"""`tokensign ca serve`: OCSP, timestamps, CRLs and the certificates of CAs over HTTP."""

from __future__ import annotations

import contextlib
import functools
import re
import sys
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

import click

from tokensign.cli.command import Cli, Command
from tokensign.cli.completions import complete_authorities
from tokensign.cli.database import database_option, open_database
from tokensign.cli.signals import SignalError
from tokensign.cli.timestamp_reply import ACCURACY
from tokensign.cli.trust import require_dotted
from tokensign.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tokensign.authority import Authority
    from tokensign.authority.ocsp_responder import OcspResponder
    from tokensign.authority.tsa import TimestampIssuer

__all__ = ["serve"]

_ADDRESS: Final = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9.-]+)):([0-9]{1,5})")
_PORT_MAXIMUM: Final = 65535
_HOUR: Final = timedelta(hours=1)


class _Address(click.ParamType[tuple[str, int]]):
    """A host and a port."""

    name = "address"

    def convert(
        self,
        value: Any,  # noqa: ANN401 - click's
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> tuple[str, int]:
        """Take it apart."""
        match = _ADDRESS.fullmatch(value)
        if match is None or int(match[3]) > _PORT_MAXIMUM:
            self.fail(f"{value!r} is no address; write 127.0.0.1:8080 or [::1]:8080", param, ctx)
        return match[1] or match[2], int(match[3])


@click.command(cls=Command)
@click.option(
    "--ca",
    "name",
    metavar="NAME",
    shell_complete=complete_authorities,
    help="Serve this CA only. [default: all of the database]",
)
@click.option(
    "--listen",
    metavar="HOST:PORT",
    type=_Address(),
    default="127.0.0.1:8080",
    show_default=True,
    help="Where; port 0 is any that is free.",
)
@click.option(
    "--ocsp-key",
    "ocsp_keys",
    metavar="KEY",
    multiple=True,
    help="Signs OCSP answers for the CA that certified it; may be repeated.",
)
@click.option(
    "--ocsp-hours",
    metavar="HOURS",
    type=click.IntRange(1, 240),
    default=8,
    show_default=True,
    help="How long an OCSP answer counts.",
)
@click.option("--tsa-key", metavar="KEY", help="Signs timestamps.")
@click.option("--tsa-policy", metavar="OID", help="The TSA policy. [default: anyPolicy, 2.5.29.32.0]")
@click.option(
    "--tsa-accuracy",
    metavar="SECONDS",
    type=ACCURACY,
    help="By how much the clock of this machine may be wrong. [default: it is not said]",
)
@click.option("--tsa-ordering", is_flag=True, help="Promise that times order the timestamps.")
@database_option
@click.pass_obj
def serve(
    cli: Cli,
    name: str | None,
    listen: tuple[str, int],
    ocsp_keys: tuple[str, ...],
    ocsp_hours: int,
    tsa_key: str | None,
    tsa_policy: str | None,
    tsa_accuracy: float | None,
    tsa_ordering: bool,
    database: str | None,
) -> None:
    """Answer OCSP, and serve CRLs and certificates over HTTP.

    This runs until SIGTERM or Ctrl-C. A CA is served below the path of its URL; /tsa makes timestamps. The
    key of the CA itself is not needed: `tokensign ca crl` makes the CRLs, and --ocsp-key has a certificate of
    the profile ocsp-responder.

    \b
    Examples:
      tokensign ca serve --ocsp-key ocsp
      tokensign ca serve --listen 0.0.0.0:80 --ocsp-key ocsp --tsa-key tsa --tsa-accuracy 1
    """
    from tokensign.authority import list_authorities, open_authority
    from tokensign.authority.ocsp_service import OcspService
    from tokensign.authority.publications import Publications
    from tokensign.authority.signing_queue import SigningQueue
    from tokensign.extras import extra

    with extra("service"):
        from tokensign.authority.http import Services, application
        from tokensign.authority.http_server import HttpServer, address_of, listening
    if tsa_policy is not None:
        require_dotted(tsa_policy)
    with contextlib.ExitStack() as stack:
        store = stack.enter_context(open_database(cli, database))
        authorities = [open_authority(store, name)] if name else list_authorities(store)
        if not authorities:
            raise UsageError("there is no CA in the database", hint="make one with `tokensign ca init`")
        publications = Publications(authorities)
        responders = _responders(cli, stack, ocsp_keys, authorities, ocsp_hours * _HOUR)
        timestamps = None
        if tsa_key is not None:
            timestamps = _timestamps(
                cli, stack, tsa_key, list_authorities(store), tsa_policy, tsa_accuracy, ordering=tsa_ordering
            )
        listener = stack.enter_context(listening(*listen))
        queue = SigningQueue()
        stack.callback(queue.close)
        ocsp = OcspService(responders, queue) if responders else None
        services = Services(publications, queue, ocsp, timestamps)
        server = HttpServer(application(services), listener)
        _tell(cli, address_of(listener), authorities, responders, timestamps)
        with contextlib.suppress(SignalError):
            server.run()
        cli.output.status("stopped; what was asked before is answered")


def _responders(
    cli: Cli,
    stack: contextlib.ExitStack,
    keys: Sequence[str],
    authorities: Sequence[Authority],
    life: timedelta,
) -> list[tuple[Authority, OcspResponder]]:
    from tokensign.authority.ocsp_responder import OcspResponder, certifies
    from tokensign.authority.service_certificates import require_not_revoked
    from tokensign.cli.service_keys import find_service_key

    found: dict[str, tuple[Authority, OcspResponder]] = {}
    own = [authority.certificate.public_key for authority in authorities]
    for key in keys:
        signer = stack.enter_context(
            find_service_key(
                cli,
                key,
                "ocsp_signing",
                profile="ocsp-responder",
                action="answer OCSP requests",
                certified=own,
            )
        )
        authority = next((one for one in authorities if certifies(one.certificate, signer)), None)
        if authority is None:
            raise UsageError(
                f"the certificate of the key {key} was issued by none of the CAs that are served",
                hint="the CA whose certificates are asked about must issue it itself",
            )
        if authority.name in found:
            raise UsageError(f"two keys would answer for the CA {authority.name}", hint="name one of them")
        responder = OcspResponder(authority.certificate, signer, life)
        if responder.certificate != authority.certificate:
            require_not_revoked(authority, responder.certificate)
        found[authority.name] = authority, responder
    return list(found.values())


def _timestamps(
    cli: Cli,
    stack: contextlib.ExitStack,
    key: str,
    authorities: Iterable[Authority],
    policy: str | None,
    accuracy: float | None,
    *,
    ordering: bool,
) -> TimestampIssuer:
    from tokensign.authority.ocsp_responder import certifies
    from tokensign.authority.service_certificates import require_not_revoked
    from tokensign.authority.tsa import ANY_POLICY, MonotonicClock, TimestampIssuer
    from tokensign.cli.service_keys import find_service_key

    signer = stack.enter_context(
        find_service_key(cli, key, "time_stamping", profile="timestamping", action="make timestamps")
    )
    issuer = next((one for one in authorities if certifies(one.certificate, signer)), None)
    check = None
    if issuer is not None and signer.certificate is not None:
        check = functools.partial(require_not_revoked, issuer, signer.certificate)
        check()
    return TimestampIssuer(
        signer,
        policy=policy or ANY_POLICY,
        accuracy=None if accuracy is None else timedelta(seconds=accuracy),
        clock=MonotonicClock() if ordering else None,
        ordering=ordering,
        check=check,
    )


def _tell(
    cli: Cli,
    address: str,
    authorities: Sequence[Authority],
    responders: Sequence[tuple[Authority, OcspResponder]],
    timestamps: TimestampIssuer | None,
) -> None:
    """Say what is served where; from now on it is."""
    from tokensign.authority.publications import path_of

    answered = {authority.name for authority, _ in responders}
    cli.output.status(f"listening at http://{address}")
    for authority in authorities:
        also = "OCSP, CRL, certificate" if authority.name in answered else "CRL, certificate; no --ocsp-key"
        cli.output.status(f"{path_of(authority)}/ of the CA {authority.name}: {also}")
    if timestamps is not None:
        cli.output.status(f"/tsa: timestamps under the policy {timestamps.policy}")
    cli.output.document(
        {
            "url": f"http://{address}",
            "authorities": [
                {"name": one.name, "path": path_of(one), "ocsp": one.name in answered} for one in authorities
            ],
            "timestamps": timestamps is not None,
        }
    )
    sys.stdout.flush()
