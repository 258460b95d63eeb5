"""What a certificate will hold: the rules of its profile, put to what is asked for."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, mlkem, rsa, x448, x25519
from cryptography.x509.oid import NameOID

from tokensign.algorithms import CURVES, ml_dsa_of
from tokensign.distinguished_names import attribute_name, subject_name
from tokensign.errors import PolicyError, UnsupportedError, UsageError
from tokensign.pki.certificate_builder import require_strong_key
from tokensign.pki.extensions import authority as authority_extensions
from tokensign.pki.extensions import end_entity_usages, key_usage
from tokensign.pki.names import mailboxes

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

    from tokensign.algorithms import KeyUsage
    from tokensign.authority.profiles import Presence, Profile
    from tokensign.pki.extensions import Extensions

__all__ = ["check_key", "extensions_of", "key_type", "permitted_subject"]

_KEY_TYPES: Final = {
    "rsa": rsa.RSAPublicKey,
    "ed25519": ed25519.Ed25519PublicKey,
    "ed448": ed448.Ed448PublicKey,
    "x25519": x25519.X25519PublicKey,
    "x448": x448.X448PublicKey,
    "ml-kem-768": mlkem.MLKEM768PublicKey,
    "ml-kem-1024": mlkem.MLKEM1024PublicKey,
}
_REPEATABLE: Final = {NameOID.ORGANIZATIONAL_UNIT_NAME, NameOID.DOMAIN_COMPONENT, NameOID.STREET_ADDRESS}
_UPPER_BOUNDS: Final = {  # letters, RFC 5280 appendix A.1
    NameOID.COMMON_NAME: 64,
    NameOID.ORGANIZATION_NAME: 64,
    NameOID.ORGANIZATIONAL_UNIT_NAME: 64,
    NameOID.TITLE: 64,
    NameOID.SERIAL_NUMBER: 64,
    NameOID.LOCALITY_NAME: 128,
    NameOID.STATE_OR_PROVINCE_NAME: 128,
    NameOID.PSEUDONYM: 128,
    NameOID.EMAIL_ADDRESS: 255,
}
_COUNTRY: Final = re.compile("[A-Z]{2}")  # ISO 3166-1
_SHOWN: Final = 40  # letters of a value in a message
_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_ADDRESS: Final = re.compile("[^\\s@][@\uff20\ufe6b][^\\s@]")  # also with an @ in another width
_HOST: Final = re.compile(rf"(?:\*\.)?{_LABEL}(?:\.{_LABEL})+", re.IGNORECASE)  # RFC 1123 section 2.1
_HOST_MAXIMUM: Final = 253  # letters, RFC 1035 section 2.3.4


def key_type(public_key: PublicKeyTypes) -> str:
    """The type of a key as profiles name it, such as "rsa", "ec:p256", "ml-dsa-65"; "" where it has none."""
    if isinstance(public_key, ec.EllipticCurvePublicKey):
        fitting = (name for name, known in CURVES.items() if isinstance(public_key.curve, known.primitive))
        return next((f"ec:{name}" for name in fitting), "")
    fitting = (name for name, kind in _KEY_TYPES.items() if isinstance(public_key, kind))
    return next(fitting, ml_dsa_of(public_key))


def check_key(profile: Profile, public_key: PublicKeyTypes) -> None:
    """Refuse a key that the profile does not allow.

    Raises:
        PolicyError: Its type or size is not allowed.
        UnsupportedError: It is too weak for any certificate.
    """
    require_strong_key(public_key)
    kind = key_type(public_key)
    if kind not in profile.key_types:
        raise PolicyError(
            f"the profile {profile.name} does not allow {f'keys of type {kind}' if kind else 'such keys'}",
            hint=f"it allows: {', '.join(sorted(profile.key_types))}",
        )
    if isinstance(public_key, rsa.RSAPublicKey) and (
        public_key.key_size < profile.rsa_minimum_bits or public_key.key_size % 8
    ):
        raise PolicyError(
            f"the profile {profile.name} does not allow RSA keys of {public_key.key_size} bits",
            hint=f"it wants {profile.rsa_minimum_bits} bits or more, in whole octets",
        )


def permitted_subject(profile: Profile, wanted: str | x509.Name | None, emails: Sequence[str]) -> x509.Name:
    """The subject's name, each attribute written anew, if the profile allows all of it.

    Args:
        profile: Whose rules count.
        wanted: The name; None or empty for a certificate that names its subject in subjectAltName only.
        emails: The addresses of the certificate.

    Raises:
        UsageError: The text is no distinguished name.
        PolicyError: An attribute is missing, is not allowed, or has a value that is not allowed.
    """
    rules = profile.subject
    name = (
        (subject_name(wanted) if wanted else x509.Name([])) if not isinstance(wanted, x509.Name) else wanted
    )
    found: dict[x509.ObjectIdentifier, list[str]] = {}
    for attribute in name:
        if attribute.oid not in rules.allowed:
            raise PolicyError(
                f"the profile {profile.name} does not allow {attribute_name(attribute.oid)} in a subject",
                hint="leave it out of the request, or name another subject with `ca issue --subject`; allowed"
                f" are: {_listed(rules.allowed) or 'none'}",
            )
        found.setdefault(attribute.oid, []).append(_text(attribute))
    if missing := rules.required - found.keys():
        raise PolicyError(f"the profile {profile.name} wants {_listed(missing)} in a subject")
    if rules.one_of and not rules.one_of & found.keys():
        raise PolicyError(f"the profile {profile.name} wants one of {_listed(rules.one_of)} in a subject")
    twice = [oid for oid, count in Counter(part.oid for part in name).items() if count > 1]
    if extra := set(twice) - _REPEATABLE:
        raise PolicyError(f"a subject has {_listed(extra)} once")
    _check_values(profile, found, emails)
    _check_addresses(found, emails)
    try:
        return x509.Name([x509.NameAttribute(part.oid, _text(part)) for part in name])
    except ValueError as error:  # cryptography counts octets, where RFC 5280 counts letters
        raise PolicyError(
            "a value in the subject is longer than can be written", hint="shorten it"
        ) from error


def extensions_of(
    profile: Profile,
    public_key: PublicKeyTypes,
    *,
    usage: KeyUsage | None,
    emails: Sequence[str],
    dns: Sequence[str],
    nameless: bool,
) -> Extensions:
    """The extensions that follow from the profile and the names.

    Args:
        profile: Whose rules count.
        public_key: The subject's key.
        usage: What the key is for; None takes the first of the profile that the key can do.
        emails: Addresses.
        dns: Host names.
        nameless: Whether the subject is empty; then the names here are critical (RFC 5280 section 4.1.2.6).

    Raises:
        UsageError: An address or a host name is none, or the key cannot be used so.
        PolicyError: The profile does not allow a name, or wants one, or does not allow the usage.
    """
    if profile.is_authority:
        extensions = authority_extensions(profile.path_length)
        if profile.name_constraints is not None:
            extensions.append((profile.name_constraints, True))
    else:
        extensions = [
            (x509.BasicConstraints(ca=False, path_length=None), True),
            (key_usage(end_entity_usages(public_key, _usage(profile, public_key, usage))), True),
        ]
    if profile.purposes:
        extensions.append((x509.ExtendedKeyUsage(profile.purposes), profile.purposes_critical))
    if profile.policies:
        policies = [x509.PolicyInformation(policy, None) for policy in profile.policies]
        extensions.append((x509.CertificatePolicies(policies), False))
    if profile.ocsp_no_check:
        extensions.append((x509.OCSPNoCheck(), False))
    _check_presence(profile, "an e-mail address", profile.emails, emails)
    _check_presence(profile, "a host name", profile.dns, dns)
    if names := [*mailboxes(emails), *_hosts(dns)]:
        extensions.append((x509.SubjectAlternativeName(names), nameless))
    elif nameless:
        raise PolicyError("a certificate needs a subject or a name beside it", hint="give --subject")
    return extensions


def _check_values(
    profile: Profile, found: dict[x509.ObjectIdentifier, list[str]], emails: Sequence[str]
) -> None:
    """The rules about values (S/MIME BR section 7.1.4.2.2)."""
    if {NameOID.PSEUDONYM} <= found.keys() and found.keys() & {NameOID.GIVEN_NAME, NameOID.SURNAME}:
        raise PolicyError("a subject has a pseudonym, or a name, and not both")
    allowed = {
        "mailbox": list(emails),
        "organization": found.get(NameOID.ORGANIZATION_NAME, []),
        "pseudonym": found.get(NameOID.PSEUDONYM, []),
        "person": [],
    }
    sources = profile.subject.common_name
    named = bool(found.keys() & {NameOID.GIVEN_NAME, NameOID.SURNAME})
    if not sources or ("person" in sources and named):
        return
    for common_name in found.get(NameOID.COMMON_NAME, ()):
        if not any(common_name in allowed[source] for source in sources):
            raise PolicyError(
                f"the profile {profile.name} does not allow the common name {common_name!r}",
                hint=f"it must repeat one of: {', '.join(sources)}; or leave it out",
            )


def _check_addresses(found: dict[x509.ObjectIdentifier, list[str]], emails: Sequence[str]) -> None:
    """Refuse what people would take for an address in a subject, where it is none of the certificate."""
    for oid, values in found.items():
        for value in values:
            if (oid == NameOID.EMAIL_ADDRESS or _ADDRESS.search(value)) and value not in emails:
                raise PolicyError(
                    f"{attribute_name(oid)} {value!r} in the subject is no address of the certificate",
                    hint="ask for the address too, or leave it out of the subject",
                )


def _usage(profile: Profile, public_key: PublicKeyTypes, wanted: KeyUsage | None) -> KeyUsage:
    if wanted is not None and wanted not in profile.usages:
        raise PolicyError(
            f"the profile {profile.name} is not for the usage {wanted.value}",
            hint=f"it is for: {', '.join(usage.value for usage in profile.usages)}",
        )
    for usage in (wanted,) if wanted else profile.usages:
        try:
            end_entity_usages(public_key, usage)
        except UsageError:
            continue
        return usage
    raise PolicyError(
        f"a key of type {key_type(public_key)} cannot do what the profile {profile.name} is for",
        hint=f"it is for: {', '.join(usage.value for usage in profile.usages)}",
    )


def _check_presence(profile: Profile, what: str, rule: Presence, names: Sequence[str]) -> None:
    if rule == "required" and not names:
        raise PolicyError(f"the profile {profile.name} wants {what}")
    if rule == "forbidden" and names:
        raise PolicyError(
            f"the profile {profile.name} does not allow {what}: {names[0]}",
            hint="have a request made without it, or use another profile",
        )


def _hosts(names: Iterable[str]) -> list[x509.DNSName]:
    for name in names:
        if len(name) > _HOST_MAXIMUM or not _HOST.fullmatch(name):
            raise UsageError(f"{name!r} is not a host name", hint="write it in ASCII, like www.acme.example")
    return [x509.DNSName(name.lower()) for name in dict.fromkeys(names)]


def _text(attribute: x509.NameAttribute[str | bytes]) -> str:
    kind = attribute_name(attribute.oid)
    if not isinstance(attribute.value, str):
        raise UnsupportedError(f"{kind} in the subject is no text")
    if not attribute.value.strip() or not attribute.value.isprintable():
        raise PolicyError(f"{kind} in the subject is empty or not printable")
    if attribute.oid == NameOID.COUNTRY_NAME and not _COUNTRY.fullmatch(attribute.value):
        raise PolicyError(
            f"{kind} in the subject is {attribute.value[:_SHOWN]!r}, and not two capital letters"
        )
    bound = _UPPER_BOUNDS.get(attribute.oid)
    if bound is not None and len(attribute.value) > bound:
        raise PolicyError(f"{kind} in the subject has more than {bound} letters")
    return attribute.value


def _listed(kinds: Iterable[x509.ObjectIdentifier]) -> str:
    return ", ".join(sorted(map(attribute_name, kinds)))
