"""The settings of `tokensign serve`: the table `[service]` of the configuration file, and the environment.

::

    database = "postgresql+psycopg://signing@db.acme.example/signing"  # a file, or a URL
    trust = ["ca.pem"]                       # whom POST /v1/verifications trusts

    [service]
    listen = "0.0.0.0:8443"
    metrics = "127.0.0.1:9464"

    [service.tls]
    certificate = "server.pem"               # with the certificates above it
    key = "server.key"
    client-ca = "clients-ca.pem"             # issues the certificates of clients

    [[service.lanes]]
    name = "acme"
    module = "/usr/lib/softhsm/libsofthsm2.so"
    token = "acme"
    pin-source = "credential:acme-pin"
    workers = 2

Paths are relative to the folder of the file. A variable such as TOKENSIGN_SERVICE_LISTEN goes before the
file; TOKENSIGN_SERVICE_TLS__KEY reaches into a table.
"""

from __future__ import annotations

import re
from contextvars import ContextVar
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from tokensign.errors import ConfigurationError, UsageError
from tokensign.uri import KeyUri, is_uri

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic_core import ErrorDetails

__all__ = ["Address", "LaneTable", "ServiceSettings", "TlsSettings", "load_service_settings", "parse_address"]

_ADDRESS: Final = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9.-]+)):([0-9]{1,5})")
_PORT_MAXIMUM: Final = 65535
_GIB: Final = 1 << 30
_YEAR_HOURS: Final = 8784.0  # a job that has waited for that long is forgotten
_WORKER_SOURCES: Final = ("file", "credential", "keyring")  # that a worker reads by itself, at any time
_NO_SETTING: Final = "extra_forbidden"
_REASONS: Final = {
    _NO_SETTING: "there is no such setting",
    "missing": "it is missing",
    "tuple_type": "it is a list: [...], or [[...]] for tables",
    "model_type": "it is a table",
    "string_type": "it is a text",
    "too_short": "one is needed at least",
}
"""In our words, by pydantic's names of errors; its own words speak of Python."""
_NOBODY: Final = "nobody is there to be asked when a lane is started again"
_NOT_FOR_WORKERS: Final = {
    "env": "the environment is that of the process that answers HTTP, too, which must not see a PIN",
    "fd": "a file descriptor does not reach the workers of a lane",
    "prompt": _NOBODY,
    "pinentry": _NOBODY,
    "pad": _NOBODY,
}

_folder: ContextVar[Path] = ContextVar("folder", default=Path())


def parse_address(text: Any) -> tuple[str, int]:  # noqa: ANN401 - whatever stands in a file
    """A host and a port, from HOST:PORT.

    Raises:
        ValueError: It is none.
    """
    match = _ADDRESS.fullmatch(text) if isinstance(text, str) else None
    if match is None or int(match[3]) > _PORT_MAXIMUM:
        raise ValueError(f"{text!r} is no address; write 127.0.0.1:8443 or [::1]:8443")
    return match[1] or match[2], int(match[3])


def _beside_the_file(path: Path) -> Path:
    return _folder.get() / path.expanduser()


def _source_of_a_worker(specification: str) -> str:
    """Refuse what shows this process a PIN, or does not reach a worker; the text may be a PIN by mistake."""
    kind, _, argument = specification.partition(":")
    if not argument or kind not in _WORKER_SOURCES:
        raise ValueError(
            f"{_NOT_FOR_WORKERS.get(kind, 'this is no source of a PIN')}; "
            "write file:PATH, credential:NAME or keyring:SERVICE"
        )
    if kind == "file":
        return f"file:{_beside_the_file(Path(argument))}"
    return specification


def _token_without_pin(name: str) -> str:
    """Refuse a URI that holds a PIN, or says a second time where it is."""
    if not is_uri(name):
        return name
    try:
        uri = KeyUri.parse(name)
    except UsageError as error:
        raise ValueError(error.message) from None
    if uri.pin_value is not None or uri.pin_source is not None:
        raise ValueError("the URI has a PIN, or a source of it; leave it out, and write pin-source beside it")
    return name


def _file_or_url(place: str) -> str:
    return place if "://" in place else str(_beside_the_file(Path(place)))


def _web_address(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("it is a URL: https://HOST/PATH")
    return url


Address = Annotated[tuple[str, int], NoDecode, BeforeValidator(parse_address)]
"""HOST:PORT; port 0 is any that is free."""
_File = Annotated[Path, AfterValidator(_beside_the_file)]
_FileOrUrl = Annotated[str, AfterValidator(_file_or_url)]
_Source = Annotated[str, AfterValidator(_source_of_a_worker)]
_TokenName = Annotated[str, AfterValidator(_token_without_pin)]
_Url = Annotated[str, AfterValidator(_web_address)]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TlsSettings(_Table):
    """How connections are protected, and who vouches for clients.

    Attributes:
        certificate: PEM, with the certificates above it.
        key: Its private key, PEM; not on a token, because each connection needs it.
        client_ca: PEM; the CAs of client certificates. None: clients have tokens and API keys only.
        client_crl: CRLs of these CAs, PEM or DER. With any, each client certificate must be covered by one.
    """

    certificate: _File
    key: _File
    client_ca: _File | None = None
    client_crl: tuple[_File, ...] = ()

    @model_validator(mode="after")
    def _be_coherent(self) -> TlsSettings:
        if self.client_crl and self.client_ca is None:
            raise ValueError("client-crl is of no use without client-ca, which issues the certificates")
        return self


class LaneTable(_Table):
    """A token, and the processes that use it; as `tokensign.service.lanes.LaneSettings` has them."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,31}$")
    module: _File
    token: _TokenName
    pin_source: _Source
    workers: int = Field(default=1, ge=1, le=64)
    queue: int = Field(default=256, ge=1, le=65536)
    deadline: float = Field(default=10.0, gt=0, le=600)


class OidcSettings(_Table):
    """Whose tokens are accepted (OpenID Connect).

    Attributes:
        issuer: The `iss` that tokens must have.
        audience: The `aud` that tokens must have.
        jwks: The issuer's keys, a JWK set (RFC 7517): a file, or an https URL.
        certificate_bound: Whether a token must be bound to the client certificate (RFC 8705).
    """

    issuer: str
    audience: str
    jwks: _FileOrUrl
    certificate_bound: bool = False


class AuditSettings(_Table):
    """The audit log's checkpoints.

    Attributes:
        key: The id of the key that signs them; None: there are none, and tampering shows only against copies.
        seconds: From one to the next.
    """

    key: str | None = None
    seconds: float = Field(default=60.0, gt=0)


class ServiceSettings(BaseSettings):
    """What the table `[service]` says.

    Attributes:
        listen: Where clients are answered.
        metrics: Where Prometheus is answered, without TLS; None: nowhere.
        tls: How connections are protected. None is for a proxy on the same machine that does it.
        connections: That may be open at once.
        document_size: Octets that a document or message may have.
        documents: That are worked on at once; each has a thread, and room on the disk for twice its size.
        stop_seconds: For the requests that came before the signal to stop.
        job_hours: After which what is not signed of a job never will be.
        lanes: The tokens.
        monitor_key: The id of the key with which GET /v1/monitor signs; None: it is not answered.
        oidc: Whose tokens are accepted; None: nobody's.
        audit: The audit log's checkpoints.
        tsa: The URL of the timestamp authority for the levels of CAdES above B-B; None: they are not made.
        traces: The URL of an OTLP collector over HTTP; None: no traces are kept.
    """

    model_config = SettingsConfigDict(
        env_prefix="TOKENSIGN_SERVICE_", env_nested_delimiter="__", extra="forbid", frozen=True
    )

    listen: Address = Field(default=("127.0.0.1", 8443), validate_default=False)
    metrics: Address | None = None
    tls: TlsSettings | None = None
    connections: int = Field(default=4000, ge=1)
    document_size: int = Field(default=_GIB, ge=1)
    documents: int = Field(default=16, ge=1, le=256)
    stop_seconds: int = Field(default=30, ge=1, le=600)
    job_hours: float = Field(default=24.0, gt=0, le=_YEAR_HOURS)
    lanes: tuple[LaneTable, ...] = Field(min_length=1)
    monitor_key: str | None = None
    oidc: OidcSettings | None = None
    audit: AuditSettings = AuditSettings()
    tsa: _Url | None = None
    traces: _Url | None = None

    @model_validator(mode="after")
    def _be_coherent(self) -> ServiceSettings:
        if self.tls is None and not _is_loopback(self.listen[0]):
            raise ValueError("without [service.tls] the service listens at a loopback address only")
        if self.metrics == self.listen and self.listen[1]:
            raise ValueError("listen and metrics are one address; write another port for metrics")
        names = [lane.name for lane in self.lanes]
        if len(set(names)) < len(names):
            raise ValueError("two lanes have the same name")
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - pydantic's
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - as above
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - as above
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment goes before the file."""
        return env_settings, init_settings


def load_service_settings(table: Mapping[str, Any], folder: Path) -> ServiceSettings:
    """The settings in the table `[service]` and the environment.

    Args:
        table: As it stands in the file.
        folder: That of the file, to which paths are relative.

    Raises:
        ConfigurationError: They cannot be meant.
    """
    token = _folder.set(folder)
    try:
        return ServiceSettings(**_underscored(table, "service"))
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False, include_input=False)
        raise _refusal(min(found, key=lambda one: one["type"] != _NO_SETTING)) from None  # or one is missing
    except SettingsError as error:
        raise ConfigurationError(
            f"a variable TOKENSIGN_SERVICE_... of the environment cannot be used: {error}",
            hint="write tables and lists in it as JSON",
        ) from None
    finally:
        _folder.reset(token)


def _refusal(error: ErrorDetails) -> ConfigurationError:
    place = ".".join(str(part).replace("_", "-") for part in ("service", *error["loc"]))
    reason = _REASONS.get(error["type"], error["msg"].removeprefix("Value error, "))
    return ConfigurationError(
        f"the setting {place} cannot be used: {reason}",
        hint="docs/service.md has all settings of [service]",
    )


def _underscored(value: Any, where: str) -> Any:  # noqa: ANN401 - any TOML
    """The same with the names that Python has for settings."""
    if isinstance(value, list):
        return [_underscored(entry, where) for entry in value]
    if not isinstance(value, dict):
        return value
    for name in value:
        if "_" in name:
            raise ConfigurationError(f"{where}.{name} is not a setting", hint="write - instead of _")
    return {name.replace("-", "_"): _underscored(entry, f"{where}.{name}") for name, entry in value.items()}


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
