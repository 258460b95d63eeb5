"""Putting the parts of a service together, as its settings say."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tokensign.errors import ConfigurationError, KeyNotFoundError
from tokensign.service.checkpoints import Checkpoints
from tokensign.service.client_certificates import ClientCertificates
from tokensign.service.context import Context
from tokensign.service.documents import Documents
from tokensign.service.grants import Grants
from tokensign.service.job_records import JobRecords
from tokensign.service.jobs import JobWork
from tokensign.service.journal import Journal
from tokensign.service.lane_settings import LaneSettings
from tokensign.service.lanes import Lanes
from tokensign.service.permissions import Permissions
from tokensign.service.polled_jobs import PolledJobs
from tokensign.service.principals import Principals
from tokensign.service.telemetry import Telemetry
from tokensign.service.tls import ServerTls
from tokensign.service.tokens import BearerTokens, TokenPolicy

if TYPE_CHECKING:
    from tokensign.cades.extend import ExtensionMeans
    from tokensign.keys import Signer
    from tokensign.pki.policy import TrustPolicy
    from tokensign.service.jobs import JobQueue
    from tokensign.service.settings import LaneTable, ServiceSettings
    from tokensign.store import Store

__all__ = ["assembled", "certificates_of", "lanes_of", "tokens_of"]


def assembled(
    settings: ServiceSettings,
    store: Store,
    trust: TrustPolicy | None = None,
    means: ExtensionMeans | None = None,
) -> Context:
    """The parts of a service; `tokensign.service.app.application` starts them.

    Args:
        settings: What the operator wants.
        store: The database.
        trust: Whom POST /v1/verifications trusts, or None.
        means: Makes the levels of CAdES above B-B, or None.

    Raises:
        ConfigurationError: The settings contradict each other, or a part is not installed.
        FileError, MalformedError: A file that they name cannot be used.
    """
    lanes, journal, permissions = lanes_of(settings), Journal(store), Permissions(store)
    grants = Grants(permissions)
    tls = ServerTls(settings.tls) if settings.tls is not None else None
    return Context(
        settings=settings,
        store=store,
        lanes=lanes,
        journal=journal,
        principals=Principals(permissions, certificates_of(settings), tokens_of(settings)),
        grants=grants,
        telemetry=Telemetry(lanes.states, settings.traces),
        documents=Documents(settings.documents, settings.document_size),
        jobs=_jobs(
            JobWork(JobRecords(store), lanes, journal, permissions, grants, settings.job_hours),
            settings,
            store,
        ),
        tls=tls,
        checkpoints=_checkpoints(settings, store, lanes),
        trust=trust,
        means=means,
    )


def lanes_of(settings: ServiceSettings) -> Lanes:
    """The lanes, which are not started yet.

    Raises:
        ConfigurationError: Two have the same name.
    """
    return Lanes([_lane(table) for table in settings.lanes])


def _lane(table: LaneTable) -> LaneSettings:
    return LaneSettings(**dict(table))


def _jobs(work: JobWork, settings: ServiceSettings, store: Store) -> JobQueue:
    names = [lane.name for lane in settings.lanes]
    if not store.place.startswith("postgresql"):
        return PolledJobs(work, names)
    try:
        from tokensign.service.queued_jobs import QueuedJobs  # noqa: PLC0415 - of the extra postgresql
    except ImportError:
        raise ConfigurationError(
            "the database is in PostgreSQL, and procrastinate is not installed",
            hint="pip install 'tokensign[service,postgresql]'",
        ) from None
    return QueuedJobs(work, names, store)


def _checkpoints(settings: ServiceSettings, store: Store, lanes: Lanes) -> Checkpoints | None:
    name = settings.audit.key
    if name is None:
        return None

    def signer() -> Signer:
        key = lanes.keys().get(name)
        if key is None:
            raise KeyNotFoundError(f"the key {name} of service.audit is not on a token that is up")
        return key.signer()

    return Checkpoints(store, signer, settings.audit.seconds)


def certificates_of(settings: ServiceSettings) -> ClientCertificates | None:
    """What tells which client certificates were revoked; None where clients have none.

    Raises:
        FileError, MalformedError: A file cannot be used.
    """
    tls = settings.tls
    if tls is None or tls.client_ca is None:
        return None
    return ClientCertificates(tls.client_ca, tls.client_crl)


def tokens_of(settings: ServiceSettings) -> BearerTokens | None:
    """What checks tokens of OpenID Connect, or None.

    Raises:
        ConfigurationError: The URL of the keys is not one of https.
    """
    oidc = settings.oidc
    if oidc is None:
        return None
    return BearerTokens(
        TokenPolicy(
            issuer=oidc.issuer,
            audience=oidc.audience,
            keys=oidc.jwks,
            certificate_bound=oidc.certificate_bound,
        )
    )
