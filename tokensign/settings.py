"""Where configuration comes from: flags before environment variables before the configuration file.

The file is TOML, `config.toml` in the user's configuration folder or named by --config:

    module = "/usr/lib/softhsm/libsofthsm2.so"
    token = "acme"
    pin-source = "file:pin"
    trust = ["anchors/", "partner-ca.pem", "store:partners", "system"]
    require-non-extractable = true
    token-timeout = 60
    agent = true
    contacts = "contacts.sqlite"
    database = "postgresql+psycopg://pki@db.acme.example/pki"    # of `ca`, `ra` and the records of `key`

    [stores.partners]                     # --trust store:partners
    files = ["partners/", "partners.p12"]
    password-source = "file:p12-password"

    [policy]                              # what is asked of certificate policies (RFC 5280 section 6.1.1)
    initial = ["2.16.840.1.101.3.2.1.48.1"]
    explicit = true
    inhibit-any = true
    inhibit-mapping = true

    [revocation]                          # whether certificates were revoked, as --revocation has it
    mode = "prefer"
    fetch = true                          # ask OCSP responders, and get CRLs and issuers' certificates
    allow-private = ["10.0.0.0/8"]        # networks that are not public and may be asked all the same

    [mail]                                # what `mail send` and `mail fetch` use where no option says it
    submission = "smtps://alice@mail.acme.example"
    imap = "imaps://alice@mail.acme.example"
    password-source = "keyring:mail"
    trust = ["mail-ca.pem"]               # CAs of these servers; without it the system's

    [gateway]                             # `mail gateway`; docs/gateway.md has what stands in it

    [service]                             # `serve`; docs/service.md has what stands in it

    [remote]                              # the credentials for --service
    url = "https://signing.acme.example"
    certificate = "alice.pem"
    key = "alice.key"
    ca = "acme-ca.pem"                    # of the service's certificate; without it the system's CAs
    token-source = "keyring:signing"      # of an API key or a token, instead of the certificate or with it

Paths in it are relative to its folder. A key that is not known is an error, so that no typing mistake
weakens anything.
"""

from __future__ import annotations

import math
import tomllib
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from tokensign.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "FLAG",
    "LIST",
    "NUMBER",
    "PIN_SOURCES",
    "STORE_PREFIX",
    "SYSTEM_STORE",
    "TABLE",
    "TABLES",
    "TEXT",
    "MailSettings",
    "PolicySettings",
    "RemoteSettings",
    "RevocationSettings",
    "Settings",
    "StoreSettings",
    "check_table",
    "default_config_path",
    "default_contacts_path",
    "default_database_path",
    "load_settings",
    "token_timeout",
]

PIN_SOURCES: Final = "prompt, env:NAME, file:PATH, fd:N, keyring:SERVICE, credential:NAME, pinentry or pad"
"""The forms in which it is said where a PIN comes from."""

SYSTEM_STORE: Final = "system"
"""Names the system's trust anchors where a file could stand; a file of that name is written ./system."""
STORE_PREFIX: Final = "store:"
"""Before the name of a store of the configuration, where a file could stand."""

TEXT, LIST, FLAG, TABLE = "a text", "a list of texts", "true or false", "a table"
NUMBER, TABLES, TEXTS = "a number", "a list of tables", "a text, or a list of texts"
"""The types of settings."""

_KEYS: Final = {
    "module": TEXTS,
    "token": TEXT,
    "pin-source": TEXT,
    "trust": LIST,
    "stores": TABLE,
    "policy": TABLE,
    "revocation": TABLE,
    "require-non-extractable": FLAG,
    "agent": FLAG,
    "token-timeout": NUMBER,
    "contacts": TEXT,
    "database": TEXT,
    "mail": TABLE,
    "gateway": TABLE,
    "service": TABLE,
    "remote": TABLE,
}
_STORE_KEYS: Final = {"files": LIST, "password-source": TEXT}
_POLICY_KEYS: Final = {"initial": LIST, "explicit": FLAG, "inhibit-any": FLAG, "inhibit-mapping": FLAG}
_REVOCATION_KEYS: Final = {"mode": TEXT, "fetch": FLAG, "allow-private": LIST}
_REMOTE_KEYS: Final = {"url": TEXT, "certificate": TEXT, "key": TEXT, "ca": TEXT, "token-source": TEXT}
_MAIL_KEYS: Final = {"submission": TEXT, "imap": TEXT, "password-source": TEXT, "trust": LIST}


@dataclass(frozen=True, slots=True)
class StoreSettings:
    """A named store of trust anchors.

    Attributes:
        files: Files and folders with trust anchors.
        password_source: Where the password of PKCS#12 files comes from, or None.
    """

    files: tuple[Path, ...]
    password_source: str | None = None


@dataclass(frozen=True, slots=True)
class PolicySettings:
    """What is asked of certificate policies (RFC 5280 section 6.1.1, c to g).

    Attributes:
        initial: The acceptable policies, dotted; empty for any.
        explicit: Whether a path must be valid for one of them.
        inhibit_any: Whether anyPolicy in certificates does not count.
        inhibit_mapping: Whether CAs may not map policies.
    """

    initial: tuple[str, ...] = ()
    explicit: bool = False
    inhibit_any: bool = False
    inhibit_mapping: bool = False


@dataclass(frozen=True, slots=True)
class RevocationSettings:
    """How it is found out whether certificates were revoked.

    Attributes:
        mode: "off", "prefer" or "require", or None where that is not said.
        fetch: Whether servers are asked, or None where that is not said.
        allow_private: Networks that are not public and may be asked all the same.
    """

    mode: Literal["off", "prefer", "require"] | None = None
    fetch: bool | None = None
    allow_private: tuple[IPv4Network | IPv6Network, ...] = ()


@dataclass(frozen=True, slots=True)
class MailSettings:
    """The servers that mail is sent and fetched with.

    Attributes:
        submission: The URL of the submission server, or None.
        imap: The URL of the IMAP server, or None.
        password_source: Where the password for them comes from, or None.
        trust: Files with the CAs of these servers; empty for the system's.
    """

    submission: str | None = None
    imap: str | None = None
    password_source: str | None = None
    trust: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class RemoteSettings:
    """A signing service whose keys are used, and by what it knows who asks.

    Attributes:
        url: Of the service; the credentials are shown to no other. None: there is no service.
        certificate: A client certificate, PEM, or None.
        key: Its private key, PEM, or None.
        ca: The CAs of the service's certificate, PEM; None: those of the system.
        token_source: Where an API key or a token comes from, or None.
    """

    url: str | None = None
    certificate: Path | None = None
    key: Path | None = None
    ca: Path | None = None
    token_source: str | None = None


@dataclass(frozen=True, slots=True)
class Settings:
    """What a configuration file says.

    Attributes:
        modules: The PKCS#11 modules; none: the usual places. Of several the one that has the token is used.
        token: Label or URI of the token, or None.
        pin_source: Where the PIN comes from, or None.
        trust: Where trust anchors come from, as --trust has it: files and folders, SYSTEM_STORE, STORE_PREFIX
            and a name.
        stores: The named stores.
        policy: What is asked of certificate policies.
        revocation: How it is found out whether certificates were revoked.
        require_non_extractable: Whether to sign and decrypt only with keys of which the token says that they
            were never outside.
        token_timeout: Seconds after which a token that has not answered is taken for hanging, or None.
        agent: Whether to use the agent in the user's runtime folder where TOKENSIGN_AGENT names none.
        contacts: The database of contacts, a file or a URL; None for `default_contacts_path`.
        database: The database of CAs, requests and the audit log, a file or a URL; None for
            `default_database_path`.
        mail: The servers that mail is sent and fetched with.
        gateway: The table of the gateway as it stands, which `tokensign.gateway.policy` reads.
        service: The table of the signing service as it stands, which `tokensign.service.settings` reads.
        remote: The signing service whose keys are used with --service.
        folder: The folder of the file, to which paths are relative.
    """

    modules: tuple[Path, ...] = ()
    token: str | None = None
    pin_source: str | None = None
    trust: tuple[str, ...] = ()
    stores: Mapping[str, StoreSettings] = field(default_factory=dict)
    policy: PolicySettings = field(default_factory=PolicySettings)
    revocation: RevocationSettings = field(default_factory=RevocationSettings)
    require_non_extractable: bool = False
    token_timeout: float | None = None
    agent: bool = False
    contacts: str | None = None
    database: str | None = None
    mail: MailSettings = field(default_factory=MailSettings)
    gateway: Mapping[str, Any] = field(default_factory=dict)
    service: Mapping[str, Any] = field(default_factory=dict)
    remote: RemoteSettings = field(default_factory=RemoteSettings)
    folder: Path = field(default=Path(), compare=False)


def default_config_path() -> Path:
    """The configuration file that is read when none is named; it need not exist."""
    import platformdirs  # noqa: PLC0415 - only needed when no --config was given

    return platformdirs.user_config_path("tokensign", appauthor=False) / "config.toml"


def default_contacts_path() -> Path:
    """The database of contacts that is used when none is named; it is made when it is needed."""
    import platformdirs  # noqa: PLC0415 - only needed when no --contacts was given

    return platformdirs.user_data_path("tokensign", appauthor=False) / "contacts.sqlite"


def default_database_path() -> Path:
    """The database of CAs, requests and the audit log that is used when none is named."""
    import platformdirs  # noqa: PLC0415 - only needed when no --database was given

    return platformdirs.user_data_path("tokensign", appauthor=False) / "authority.sqlite"


def load_settings(path: Path | None = None) -> Settings:
    """Read a configuration file.

    Args:
        path: The file; None reads the default one, where a missing file means no settings.

    Raises:
        ConfigurationError: The file cannot be read or understood, or `path` does not exist.
    """
    file = path or default_config_path()
    try:
        with file.open("rb") as stream:
            content = tomllib.load(stream)
    except FileNotFoundError:
        if path is None:
            return Settings()
        raise ConfigurationError(f"the configuration file {path} does not exist") from None
    except OSError as error:
        raise ConfigurationError(
            f"the configuration file {file} cannot be read: {error.strerror or error}"
        ) from error
    except ValueError as error:  # broken TOML, or not UTF-8
        raise ConfigurationError(f"the configuration file {file} is broken: {error}") from error
    check_table(content, _KEYS, f"{file}:")
    if "pin-value=" in content.get("token", "").lower():
        raise ConfigurationError(
            f"{file}: a PIN does not belong in a configuration file, and the token's URI has a pin-value",
            hint="say with pin-source where the PIN comes from",
        )
    folder = file.resolve().parent
    modules = content.get("module", ())
    return Settings(
        modules=tuple(
            _path(entry, folder) for entry in ((modules,) if isinstance(modules, str) else modules)
        ),
        token=content.get("token"),
        pin_source=_source(content.get("pin-source"), folder),
        trust=tuple(_anchors(entry, folder) for entry in content.get("trust", ())),
        stores={name: _store(table, folder, file, name) for name, table in content.get("stores", {}).items()},
        policy=_policy(content.get("policy", {}), file),
        revocation=_revocation(content.get("revocation", {}), file),
        require_non_extractable=content.get("require-non-extractable", False),
        token_timeout=token_timeout(content.get("token-timeout")),
        agent=content.get("agent", False),
        contacts=_database(content.get("contacts"), folder),
        database=_database(content.get("database"), folder),
        mail=_mail(content.get("mail", {}), folder, file),
        gateway=content.get("gateway", {}),
        service=content.get("service", {}),
        remote=_remote(content.get("remote", {}), folder, file),
        folder=folder,
    )


def token_timeout(given: str | float | None) -> float | None:
    """Seconds, as the configuration file or TOKENSIGN_TOKEN_TIMEOUT has them.

    Args:
        given: A number; None, or an empty text, for no opinion.

    Raises:
        ConfigurationError: It is no positive number.
    """
    if given is None or given == "":
        return None
    try:
        seconds = float(given)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise ConfigurationError(
            f"the token timeout {given} is no number of seconds",
            hint="set token-timeout or TOKENSIGN_TOKEN_TIMEOUT to a number such as 60",
        )
    return seconds


def check_table(content: Any, known: Mapping[str, str], where: str) -> None:  # noqa: ANN401 - any TOML
    """Refuse a table with a setting that is not known or has the wrong type.

    Args:
        content: The table.
        known: What is known, each with its type: TEXT, LIST, FLAG, NUMBER, TABLE or TABLES.
        where: What errors begin with.

    Raises:
        ConfigurationError: There is one.
    """
    if not isinstance(content, dict):
        raise ConfigurationError(f"{where} a table is needed here")
    for key, value in content.items():
        if key not in known:
            names = ", ".join(known)
            raise ConfigurationError(f"{where} {key!r} is not a setting", hint=f"settings are: {names}")
        fits = {
            TEXT: isinstance(value, str),
            LIST: _is_list_of_texts(value),
            FLAG: isinstance(value, bool),
            TABLE: isinstance(value, dict),
            NUMBER: isinstance(value, int | float) and not isinstance(value, bool),
            TABLES: isinstance(value, list) and all(isinstance(entry, dict) for entry in value),
            TEXTS: isinstance(value, str) or _is_list_of_texts(value),
        }
        if not fits[known[key]]:
            raise ConfigurationError(
                f"{where} the setting {key!r} has the wrong type", hint=f"it is {known[key]}"
            )


def _is_list_of_texts(value: Any) -> bool:  # noqa: ANN401 - as above
    return isinstance(value, list) and all(isinstance(entry, str) for entry in value)


def _store(table: Any, folder: Path, file: Path, name: str) -> StoreSettings:  # noqa: ANN401 - as above
    where = f"{file}: [stores.{name}]:"
    check_table(table, _STORE_KEYS, where)
    if not table.get("files"):
        raise ConfigurationError(f"{where} the store has no files", hint='write files = ["ca.pem"]')
    return StoreSettings(
        files=tuple(_path(entry, folder) for entry in table["files"]),
        password_source=_source(table.get("password-source"), folder),
    )


def _policy(table: dict[str, Any], file: Path) -> PolicySettings:
    check_table(table, _POLICY_KEYS, f"{file}: [policy]:")
    return PolicySettings(
        initial=tuple(table.get("initial", ())),
        explicit=table.get("explicit", False),
        inhibit_any=table.get("inhibit-any", False),
        inhibit_mapping=table.get("inhibit-mapping", False),
    )


def _mail(table: dict[str, Any], folder: Path, file: Path) -> MailSettings:
    check_table(table, _MAIL_KEYS, f"{file}: [mail]:")
    return MailSettings(
        submission=table.get("submission"),
        imap=table.get("imap"),
        password_source=_source(table.get("password-source"), folder),
        trust=tuple(_path(entry, folder) for entry in table.get("trust", ())),
    )


def _remote(table: dict[str, Any], folder: Path, file: Path) -> RemoteSettings:
    where = f"{file}: [remote]:"
    check_table(table, _REMOTE_KEYS, where)
    if table and "url" not in table:
        raise ConfigurationError(f"{where} the service has no url", hint='write url = "https://HOST:PORT"')
    return RemoteSettings(
        url=table.get("url"),
        token_source=_source(table.get("token-source"), folder),
        **{name: _path(table[name], folder) for name in ("certificate", "key", "ca") if name in table},
    )


def _revocation(table: dict[str, Any], file: Path) -> RevocationSettings:
    where = f"{file}: [revocation]:"
    check_table(table, _REVOCATION_KEYS, where)
    mode = table.get("mode")
    if mode not in {None, "off", "prefer", "require"}:
        raise ConfigurationError(f"{where} {mode!r} is not a mode", hint="modes are: off, prefer, require")
    try:
        networks = tuple(map(ip_network, table.get("allow-private", ())))
    except ValueError as error:
        raise ConfigurationError(f"{where} {error}", hint='write "10.0.0.0/8" or "fd00::/8"') from error
    return RevocationSettings(mode, table.get("fetch"), networks)


def _path(entry: str, folder: Path) -> Path:
    return folder / Path(entry).expanduser()


def _database(place: str | None, folder: Path) -> str | None:
    return place if place is None or "://" in place else str(_path(place, folder))


def _anchors(entry: str, folder: Path) -> str:
    is_store = entry == SYSTEM_STORE or entry.startswith(STORE_PREFIX)
    return entry if is_store else str(_path(entry, folder))


def _source(spec: str | None, folder: Path) -> str | None:
    if spec and spec.startswith("file:"):
        return f"file:{_path(spec.removeprefix('file:'), folder)}"
    return spec
