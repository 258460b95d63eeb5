"""What the routes work with, and how they find out who asks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tokensign.service.header import header_field
from tokensign.service.principals import Credentials
from tokensign.service.problems import NOT_FOUND, Problem

if TYPE_CHECKING:
    from fastapi import Request

    from tokensign.cades.extend import ExtensionMeans
    from tokensign.pki.policy import TrustPolicy
    from tokensign.service.checkpoints import Checkpoints
    from tokensign.service.documents import Documents
    from tokensign.service.grants import Grants
    from tokensign.service.jobs import JobQueue
    from tokensign.service.journal import Journal
    from tokensign.service.lanes import LaneKey, Lanes
    from tokensign.service.principals import Principal, Principals
    from tokensign.service.settings import ServiceSettings
    from tokensign.service.telemetry import Telemetry
    from tokensign.service.tls import ServerTls
    from tokensign.store import Store

__all__ = ["CLIENT_CERTIFICATE", "Context"]

CLIENT_CERTIFICATE: Final = "tokensign.client_certificate"
"""The extension of ASGI's scope that has the certificate of the client as `der`, which may be None."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """The parts of a service that runs.

    Attributes:
        settings: As the operator has them.
        store: The database.
        lanes: The tokens.
        journal: Where each use of a key is recorded.
        principals: Who is known.
        grants: What they may do.
        telemetry: What is told of requests.
        documents: Room for documents.
        jobs: Works on jobs.
        tls: How connections are protected; None: a proxy does that.
        checkpoints: Signs the audit log; None: nobody does.
        trust: Whom POST /v1/verifications trusts; None: nobody, and nothing is verified.
        means: Makes the levels of CAdES above B-B; None: they are not made.
    """

    settings: ServiceSettings
    store: Store
    lanes: Lanes
    journal: Journal
    principals: Principals
    grants: Grants
    telemetry: Telemetry
    documents: Documents
    jobs: JobQueue
    tls: ServerTls | None = None
    checkpoints: Checkpoints | None = None
    trust: TrustPolicy | None = None
    means: ExtensionMeans | None = None

    async def caller(self, request: Request) -> Principal:
        """Who asks.

        Raises:
            UnauthenticatedError: Nobody that is known.
            FileError: The database fails.
        """
        certificate = request.scope["extensions"][CLIENT_CERTIFICATE]["der"]
        credentials = Credentials(certificate, header_field(request, b"authorization"))
        principal = await self.principals.identify(credentials)
        request.state.facts["principal"] = principal.name
        return principal

    def key(self, principal: Principal, name: str, operation: str) -> LaneKey:
        """A key on one of the tokens; who may not use it is not told whether it is there.

        Args:
            principal: Who asks.
            name: The id of the key.
            operation: What is going to be done with it; the grant for it is still to be checked.

        Raises:
            ForbiddenError: It is not there, and no grant is about it.
            Problem: It is not there.
        """
        key = self.lanes.keys().get(name)
        if key is None:
            self.grants.check(principal, name, operation)
            raise Problem(NOT_FOUND, f"there is no key {name}")
        return key
