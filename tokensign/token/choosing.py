"""Choosing a key or a certificate on a token by what people call it.

A name is taken for one of these, in this order; the first that fits anything decides:

1. a PKCS#11 URI (RFC 7512), if it begins with `pkcs11:`; nothing else is tried then
2. the label, CKA_LABEL
3. the CKA_ID, in hexadecimal
4. the SHA-256 fingerprint of a certificate, in hexadecimal, with or without colons
5. an e-mail address in a certificate
6. the subject of a certificate (RFC 4514), such as "CN=Alice,O=Acme"
7. some parts of a subject, such as "O=Acme"
8. the common name in a subject

A private key is called what its certificates say. Where a name fits several keys, the usage that is wanted
decides, and to sign, a certificate that is valid and meant for it. If several are left they are listed:
nothing is guessed.
"""

from __future__ import annotations

import re
import string
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from asn1crypto import x509

from tokensign.certificates import Certificate
from tokensign.distinguished_names import subject_name
from tokensign.errors import AmbiguousNameError, KeyNotFoundError, UsageError
from tokensign.token.objects import (
    KeyInfo,
    StoredCertificate,
    list_certificates,
    list_secret_keys,
    read_certificates,
    read_keys,
)
from tokensign.token.public_key import public_key_info
from tokensign.uri import KeyUri, is_uri

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from tokensign.algorithms import KeyUsage
    from tokensign.token.opening import Token

__all__ = [
    "ChosenKey",
    "choose_key",
    "find_certificate",
    "find_certificates",
    "find_key",
    "find_private_or_secret_key",
    "find_secret_key",
    "signing_certificate",
]

_WORDS: Final = {"sign": "sign", "decrypt": "decrypt", "both": "sign and decrypt"}
_FINGERPRINT: Final = re.compile("[0-9a-f]{64}")  # SHA-256
_PRIVATE: Final = ("private", "public")  # a URI may name a private key by its public half
_SECRET: Final = ("secret-key",)

_Item = TypeVar("_Item", KeyInfo, StoredCertificate)


@dataclass(frozen=True, slots=True)
class ChosenKey:
    """A private key and the certificate by which it was chosen.

    Attributes:
        key: The key.
        certificate: The certificate that its name stands in, where that one is to sign; else None.
    """

    key: KeyInfo
    certificate: Certificate | None = None


def find_key(token: Token, name: str | KeyUri | Certificate, usage: KeyUsage | None = None) -> KeyInfo:
    """The one private key with a name.

    Args:
        token: An open token.
        name: A name as the top of `tokensign.token.choosing` lists them, or a certificate of the key.
        usage: What it must be usable for; None for anything. It also decides between keys of the same name.

    Raises:
        KeyNotFoundError: None fits; those that are there are listed.
        AmbiguousNameError: Several fit; they are listed with their certificates.
        UsageError: The URI is malformed or names no key.
    """
    return choose_key(token, name, usage).key


def choose_key(token: Token, name: str | KeyUri | Certificate, usage: KeyUsage | None = None) -> ChosenKey:
    """As `find_key`; where the name stands in a certificate, with the one that is to sign.

    Raises:
        KeyNotFoundError: None fits; those that are there are listed.
        AmbiguousNameError: Several fit; they are listed with their certificates.
        UsageError: The URI is malformed or names no key.
    """
    with token.borrow("look for the key") as session:
        stored = read_certificates(session, token.info)
        keys = read_keys(session, token.info, stored)
        if not keys:
            token.connection.require_token()
    certificates = [entry.certificate for entry in stored]
    named = _named(token, name, keys, certificates, _PRIVATE)
    found = [one for one in named if usage is None or one.item.serves(usage)]
    if named and not found and usage:
        raise KeyNotFoundError(
            f"the key {_text(name)} is not made to {_WORDS[usage.value]}",
            hint=f"its usages are: {', '.join(sorted(named[0].item.usages)) or 'none'}",
        )
    if usage is not None and usage.signs and any(one.certificates for one in found):
        return _one_that_signs(token, name, found, certificates)
    key = _single(token, name, "key", [one.item for one in found], keys, certificates)
    return ChosenKey(key, found[0].certificates[0] if _is_exact(name, found[0]) else None)


def find_secret_key(token: Token, name: str | KeyUri) -> KeyInfo:
    """The one AES key with a name: a PKCS#11 URI, a label or a CKA_ID in hexadecimal.

    Raises:
        KeyNotFoundError: None fits; those that are there are listed.
        AmbiguousNameError: Several fit; they are listed.
        UsageError: The URI is malformed or names another kind of object.
    """
    there = list_secret_keys(token)
    found = [one.item for one in _named(token, name, there, (), _SECRET)]
    return _single(token, name, "secret key", found, there, ())


def find_private_or_secret_key(token: Token, name: str | KeyUri | Certificate) -> KeyInfo:
    """The one key of either kind with a name; see `find_key` and `find_secret_key`.

    Raises:
        KeyNotFoundError: None fits; those that are there are listed.
        AmbiguousNameError: Several fit; they are listed.
        UsageError: The URI is malformed or names no key.
    """
    with token.borrow("look for the key") as session:
        stored = read_certificates(session, token.info)
        keys = read_keys(session, token.info, stored)
    keys += list_secret_keys(token)
    certificates = [entry.certificate for entry in stored]
    found = [one.item for one in _named(token, name, keys, certificates, (*_PRIVATE, *_SECRET))]
    return _single(token, name, "key", found, keys, certificates)


def find_certificate(token: Token, name: str | KeyUri) -> StoredCertificate:
    """The one certificate with a name, as the top of `tokensign.token.choosing` lists them.

    Raises:
        KeyNotFoundError: None fits; those that are there are listed.
        AmbiguousNameError: Several fit; they are listed.
        UsageError: The URI is malformed or names no certificate.
    """
    there = list_certificates(token)
    return _single(token, name, "certificate", _certificates_named(token, name, there), there, ())


def find_certificates(token: Token, name: str | KeyUri) -> list[StoredCertificate]:
    """All certificates with a name, which may be several of one person; see `find_certificate`.

    Raises:
        KeyNotFoundError: None fits; those that are there are listed.
        UsageError: The URI is malformed or names no certificate.
    """
    there = list_certificates(token)
    found = _certificates_named(token, name, there)
    return found or [_single(token, name, "certificate", found, there, ())]


def signing_certificate(certificates: Iterable[Certificate]) -> Certificate | None:
    """The certificate to sign with: the newest that is valid now, of those that are meant for signatures.

    Args:
        certificates: Those of one key.

    Returns:
        Where none is valid now, the newest; where none is meant for signatures, None.
    """
    now = datetime.now(UTC)
    return max(
        (one for one in certificates if one.signs_messages),
        key=lambda one: (one.is_valid_at(now), one.not_before),
        default=None,
    )


@dataclass(frozen=True, slots=True)
class _Named(Generic[_Item]):
    """Something that a name fits, and the certificates that say so; none where it was not a certificate."""

    item: _Item
    certificates: Sequence[Certificate] = ()


def _named(
    token: Token,
    name: str | KeyUri | Certificate,
    there: list[_Item],
    certificates: Sequence[Certificate],
    types: Sequence[str],
) -> list[_Named[_Item]]:
    """What a name fits, by the first kind of name that fits anything."""
    if isinstance(name, Certificate):
        return _by_certificates(there, [name])
    if isinstance(name, KeyUri) or is_uri(name):
        return [_Named(item) for item in _by_uri(token, name, there, types)]
    named = [item for item in there if name and item.label == name]
    if not named and name and len(name) % 2 == 0 and set(name) <= set(string.hexdigits):
        named = [item for item in there if item.id == bytes.fromhex(name)]
    if named:
        return [_Named(item) for item in named]
    for fits in _certificate_tests(name):
        found = _by_certificates(there, [one for one in certificates if fits(one)])
        if found:
            return found
    return []


def _by_uri(token: Token, name: str | KeyUri, there: list[_Item], types: Sequence[str]) -> list[_Item]:
    uri = KeyUri.parse(name) if isinstance(name, str) else name
    if uri.type not in (None, *types):
        raise UsageError(f"{uri} names an object of type {uri.type}, and {types[0]} is wanted")
    if not uri.matches(token.info.properties | token.module.properties):
        return []
    uri = replace(uri, type="private") if uri.type == "public" else uri
    return [
        item for item in there if uri.matches({"object": item.label, "id": item.id, "type": item.uri.type})
    ]


def _by_certificates(there: list[_Item], certificates: Sequence[Certificate]) -> list[_Named[_Item]]:
    found = []
    for item in there:
        own = [one for one in certificates if _belongs(one, item)]
        if own:
            found.append(_Named(item, own))
    return found


def _belongs(certificate: Certificate, item: KeyInfo | StoredCertificate) -> bool:
    if isinstance(item, StoredCertificate):
        return item.certificate == certificate
    return item.public_key is not None and public_key_info(item.public_key) == certificate.public_key_info


def _certificate_tests(name: str) -> Iterator[Callable[[Certificate], bool]]:
    """Whether a certificate has a name, for each kind of name in turn."""
    if fingerprint := _fingerprint(name):
        yield lambda certificate: certificate.sha256 == fingerprint
    if "@" in name:
        yield lambda certificate: certificate.belongs_to(name)
    if subject := _subject(name):
        yield lambda certificate: _same_parts(certificate, subject, whole=True)
        yield lambda certificate: _same_parts(certificate, subject, whole=False)
    if name:
        common_name = x509.Name.build({"common_name": name})
        yield lambda certificate: _same_parts(certificate, common_name, whole=False)


def _fingerprint(name: str) -> bytes | None:
    text = name.replace(":", "").lower()
    return bytes.fromhex(text) if _FINGERPRINT.fullmatch(text) else None


def _subject(name: str) -> x509.Name | None:
    try:
        return x509.Name.load(subject_name(name).public_bytes()) if "=" in name else None
    except UsageError:  # it is something else then
        return None


def _same_parts(certificate: Certificate, wanted: x509.Name, *, whole: bool) -> bool:
    """Whether a subject is a name, or has all of its parts, by the rules of RFC 5280 section 7.1."""
    subject = certificate.asn1.subject
    try:
        if whole:
            return bool(subject == wanted)
        return all(any(part == one for one in subject.chosen) for part in wanted.chosen)
    except ValueError:  # letters that these rules forbid
        return False


def _certificates_named(
    token: Token, name: str | KeyUri, there: list[StoredCertificate]
) -> list[StoredCertificate]:
    certificates = [entry.certificate for entry in there]
    return [one.item for one in _named(token, name, there, certificates, ("cert",))]


def _is_exact(name: str | KeyUri | Certificate, named: _Named[KeyInfo]) -> bool:
    """Whether a name is that of one certificate and no other."""
    return isinstance(name, Certificate) or (
        isinstance(name, str) and [one.sha256 for one in named.certificates] == [_fingerprint(name)]
    )


def _one_that_signs(
    token: Token,
    name: str | KeyUri | Certificate,
    named: Sequence[_Named[KeyInfo]],
    certificates: Sequence[Certificate],
) -> ChosenKey:
    """The key that a name stands for in a certificate with which it may sign."""
    if len(named) == 1 and _is_exact(name, named[0]):
        return ChosenKey(named[0].item, named[0].certificates[0])
    able = [(one.item, signing_certificate(one.certificates)) for one in named]
    meant = [ChosenKey(key, certificate) for key, certificate in able if certificate]
    if not meant:
        raise KeyNotFoundError(
            f"no certificate of {_text(name)} is meant for signatures",
            hint="`tokensign cert list` shows what is there; a fingerprint names any certificate",
        )
    now = datetime.now(UTC)
    valid = [one for one in meant if one.certificate and one.certificate.is_valid_at(now)]
    left = valid or meant
    keys = [one.key for one in left]
    _single(token, name, "key", keys, keys, certificates)  # refuses several
    return left[0]


def _single(
    token: Token,
    name: object,
    kind: str,
    found: Sequence[_Item],
    there: Sequence[_Item],
    certificates: Sequence[Certificate],
) -> _Item:
    if len(found) == 1:
        return found[0]
    if found:
        listed = "; ".join(_described(item, certificates) for item in found)
        raise AmbiguousNameError(
            f"{len(found)} {kind}s fit {_text(name)}: {listed}", hint="name one of them by its URI"
        )
    if there:
        raise KeyNotFoundError(
            f"there is no {kind} {_text(name)} on the token {token.info.label}; there are: "
            f"{', '.join(str(item.uri) for item in there)}"
        )
    raise KeyNotFoundError(
        f"there is no {kind} {_text(name)}: the token {token.info.label} has no {kind} at all"
    )


def _described(item: KeyInfo | StoredCertificate, certificates: Sequence[Certificate]) -> str:
    """The URI, and the subject and validity of the certificate or certificates."""
    own = [item.certificate] if isinstance(item, StoredCertificate) else certificates
    text = ", ".join(
        f"{one.subject} from {one.not_before:%Y-%m-%d} to {one.not_after:%Y-%m-%d}"
        for one in own
        if _belongs(one, item)
    )
    return f"{item.uri} ({text or 'no certificate'})"


def _text(name: object) -> str:
    return f"with the certificate of {name.subject}" if isinstance(name, Certificate) else str(name)
