"""Certificate profiles: what a certificate of a kind may hold, as TOML files say it.

Nothing gets into a certificate that its profile does not name: not from a request, not from the command line.
A profile looks like this::

    description = "S/MIME, mailbox-validated"
    usages = ["both", "sign", "decrypt"]      # the first that the key can do, unless one is asked for
    policies = ["2.23.140.1.5.1.3"]

    [validity]
    days = 730                                # unless asked for otherwise
    maximum-days = 825

    [keys]
    types = ["rsa", "ec:p256", "ed25519"]
    rsa-minimum-bits = 2048

    [subject]
    required = ["O"]                          # attribute types as in a distinguished name
    allowed = ["CN", "serialNumber"]          # beside the required ones
    one-of = ["GN", "SN", "pseudonym"]        # at least one of these, where there are some
    common-name = ["mailbox"]                 # what a CN must repeat; none: anything

    [names]                                   # subjectAltName
    emails = "required"                       # or "optional"; "forbidden" unless it stands here
    dns = "forbidden"

    [extended-key-usage]
    purposes = ["emailProtection"]            # as RFC 5280 names them, or dotted
    critical = false

    [authority]                               # only for certificates of CAs
    path-length = 0                           # CAs that may follow below; any number, unless it stands here

    [name-constraints]                        # likewise only for CAs; RFC 5280 section 4.2.1.10
    permitted = ["email:acme.example"]        # subtrees; also "email:.acme.example", "dns:...", "dn:O=Acme"
    excluded = []

A key that is not known is an error, so that no typing mistake weakens anything.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from tokensign.algorithms import KeyUsage
from tokensign.authority.name_constraints import name_constraints
from tokensign.distinguished_names import attribute_type
from tokensign.errors import ConfigurationError, UsageError
from tokensign.files import read_small
from tokensign.pki.certificate_builder import DAYS_MAXIMUM
from tokensign.settings import FLAG, LIST, NUMBER, TABLE, TEXT, check_table

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["CommonNameSource", "Presence", "Profile", "SubjectRules", "load_profile", "profile_names"]

Presence = Literal["required", "optional", "forbidden"]
CommonNameSource = Literal["mailbox", "organization", "pseudonym", "person"]

_PURPOSES: Final = {  # RFC 5280 section 4.2.1.12
    "emailProtection": ExtendedKeyUsageOID.EMAIL_PROTECTION,
    "codeSigning": ExtendedKeyUsageOID.CODE_SIGNING,
    "timeStamping": ExtendedKeyUsageOID.TIME_STAMPING,
    "OCSPSigning": ExtendedKeyUsageOID.OCSP_SIGNING,
    "clientAuth": ExtendedKeyUsageOID.CLIENT_AUTH,
    "serverAuth": ExtendedKeyUsageOID.SERVER_AUTH,
}
_PRESENCES: Final = ("required", "optional", "forbidden")
_SOURCES: Final = ("mailbox", "organization", "pseudonym", "person")

_KEYS: Final = {
    "description": TEXT,
    "usages": LIST,
    "policies": LIST,
    "ocsp-no-check": FLAG,
    "validity": TABLE,
    "keys": TABLE,
    "subject": TABLE,
    "names": TABLE,
    "extended-key-usage": TABLE,
    "authority": TABLE,
    "name-constraints": TABLE,
}
_TABLES: Final[Mapping[str, Mapping[str, str]]] = {
    "validity": {"days": NUMBER, "maximum-days": NUMBER},
    "keys": {"types": LIST, "rsa-minimum-bits": NUMBER},
    "subject": {"required": LIST, "allowed": LIST, "one-of": LIST, "common-name": LIST},
    "names": {"emails": TEXT, "dns": TEXT},
    "extended-key-usage": {"purposes": LIST, "critical": FLAG},
    "authority": {"path-length": NUMBER},
    "name-constraints": {"permitted": LIST, "excluded": LIST},
}


@dataclass(frozen=True, slots=True)
class SubjectRules:
    """What a subject's name may be.

    Attributes:
        required: Attribute types that must be there.
        allowed: All attribute types that may be there, the required ones among them.
        one_of: Attribute types of which one must be there; empty where none need be.
        common_name: What a common name must repeat: an address of the certificate, the organization's name,
            the pseudonym; or "person": it may be anything where a given name or a surname is there too. Where
            nothing is named here, it may be anything.
    """

    required: frozenset[x509.ObjectIdentifier]
    allowed: frozenset[x509.ObjectIdentifier]
    one_of: frozenset[x509.ObjectIdentifier]
    common_name: tuple[CommonNameSource, ...]


@dataclass(frozen=True, slots=True)
class Profile:
    """What a certificate of a kind may hold.

    Attributes:
        name: What it is called.
        description: What it is for, in a few words.
        days: How long its certificates are valid, unless asked for otherwise.
        maximum_days: How long they may be valid.
        key_types: Types of keys, such as "rsa", "ec:p256", "ed25519".
        rsa_minimum_bits: The shortest RSA modulus in bits.
        usages: What its keys are for; the first that a key can do, unless asked for otherwise. Empty for CAs.
        subject: What a subject's name may be.
        emails: Whether addresses stand in subjectAltName.
        dns: Whether host names do.
        purposes: The KeyPurposeIds of extendedKeyUsage; empty for none.
        purposes_critical: Whether that extension is critical.
        policies: Certificate policies.
        is_authority: Whether its certificates are of CAs.
        path_length: CAs that may follow below a CA, or None for any number.
        name_constraints: The names that certificates below a CA may have, or None for any.
        ocsp_no_check: Whether nobody shall ask if its certificates are revoked (RFC 6960 section 4.2.2.2.1).
    """

    name: str
    description: str
    days: int
    maximum_days: int
    key_types: frozenset[str]
    rsa_minimum_bits: int
    usages: tuple[KeyUsage, ...]
    subject: SubjectRules
    emails: Presence
    dns: Presence
    purposes: tuple[x509.ObjectIdentifier, ...]
    purposes_critical: bool
    policies: tuple[x509.ObjectIdentifier, ...]
    is_authority: bool
    path_length: int | None
    name_constraints: x509.NameConstraints | None
    ocsp_no_check: bool


def profile_names() -> list[str]:
    """The names of the profiles that come with tokensign."""
    folder = resources.files(__package__) / "profiles"
    return sorted(
        entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml")
    )


def load_profile(name: str | Path) -> Profile:
    """Read a profile.

    Args:
        name: The name of one that comes with tokensign, or a file that ends in .toml.

    Raises:
        ConfigurationError: There is none of that name, or the file cannot be understood.
        FileError: The file cannot be read.
    """
    path = Path(name)
    if path.suffix == ".toml":
        return _read(read_small(path), path.stem, str(path))
    known = profile_names()
    if str(name) not in known:
        raise ConfigurationError(
            f"there is no profile {name}",
            hint=f"name a file that ends in .toml, or one of: {', '.join(known)}",
        )
    file = resources.files(__package__) / "profiles" / f"{name}.toml"
    return _read(file.read_bytes(), str(name), f"profile {name}")


def _read(encoded: bytes, name: str, where: str) -> Profile:
    try:
        content = tomllib.loads(encoded.decode())
    except ValueError as error:  # broken TOML, or not UTF-8
        raise ConfigurationError(f"{where}: the file is broken: {error}") from error
    check_table(content, _KEYS, f"{where}:")
    tables: dict[str, dict[str, Any]] = {}
    for table, known in _TABLES.items():
        tables[table] = content.get(table, {})
        check_table(tables[table], known, f"{where}: [{table}]:")
    reader = _Reader(where)
    validity, keys, purposes = tables["validity"], tables["keys"], tables["extended-key-usage"]
    is_authority = "authority" in content
    maximum_days = reader.number(validity, "maximum-days", 1, DAYS_MAXIMUM)
    length = tables["authority"].get("path-length")
    return Profile(
        name=name,
        description=content.get("description", name),
        days=reader.number(validity, "days", 1, maximum_days),
        maximum_days=maximum_days,
        key_types=frozenset(reader.needed(keys, "types")),
        rsa_minimum_bits=reader.number(keys, "rsa-minimum-bits", 2048, 16384, otherwise=2048),
        usages=() if is_authority else tuple(map(reader.usage, reader.needed(content, "usages"))),
        subject=reader.subject(tables["subject"]),
        emails=reader.choice(tables["names"].get("emails", "forbidden"), _PRESENCES),
        dns=reader.choice(tables["names"].get("dns", "forbidden"), _PRESENCES),
        purposes=tuple(map(reader.purpose, purposes.get("purposes", ()))),
        purposes_critical=purposes.get("critical", False),
        policies=tuple(map(reader.dotted, content.get("policies", ()))),
        is_authority=is_authority,
        path_length=None if length is None else reader.number(tables["authority"], "path-length", 0, 16),
        name_constraints=reader.name_constraints(tables["name-constraints"], is_authority=is_authority),
        ocsp_no_check=content.get("ocsp-no-check", False),
    )


class _Reader:
    """Reads values of a profile.

    Args:
        where: What errors begin with.
    """

    def __init__(self, where: str) -> None:
        self._where = where

    def number(
        self, table: Mapping[str, Any], key: str, least: int, most: int, *, otherwise: int | None = None
    ) -> int:
        value = table.get(key, otherwise)
        if not isinstance(value, int) or not least <= value <= most:
            raise self._error(f"{key} must be a whole number from {least} to {most}")
        return value

    def needed(self, table: Mapping[str, Any], key: str) -> list[str]:
        if not (value := table.get(key)):
            raise self._error(f"{key} is missing")
        found: list[str] = value
        return found

    def usage(self, name: str) -> KeyUsage:
        return KeyUsage(self.choice(name, tuple(usage.value for usage in KeyUsage)))

    def choice(self, value: str, choices: tuple[str, ...]) -> Any:  # noqa: ANN401 - one of the choices
        if value not in choices:
            raise self._error(f"{value!r} is none of: {', '.join(choices)}")
        return value

    def subject(self, table: Mapping[str, list[str]]) -> SubjectRules:
        required = frozenset(map(attribute_type, table.get("required", ())))
        one_of = frozenset(map(attribute_type, table.get("one-of", ())))
        allowed = frozenset(map(attribute_type, table.get("allowed", ())))
        return SubjectRules(
            required=required,
            allowed=required | one_of | allowed,
            one_of=one_of,
            common_name=tuple(self.choice(source, _SOURCES) for source in table.get("common-name", ())),
        )

    def purpose(self, name: str) -> x509.ObjectIdentifier:
        return _PURPOSES.get(name) or self.dotted(name)

    def dotted(self, text: str) -> x509.ObjectIdentifier:
        try:
            return x509.ObjectIdentifier(text)
        except ValueError:
            raise self._error(f"{text!r} is no object identifier") from None

    def name_constraints(
        self, table: Mapping[str, list[str]], *, is_authority: bool
    ) -> x509.NameConstraints | None:
        try:
            found = name_constraints(table.get("permitted", ()), table.get("excluded", ()))
        except UsageError as error:
            raise self._error(error.message) from error
        if found is not None and not is_authority:
            raise self._error("[name-constraints] is for CAs only")
        return found

    def _error(self, text: str) -> ConfigurationError:
        return ConfigurationError(f"{self._where}: {text}", hint="docs/ca.md has all that a profile may say")
