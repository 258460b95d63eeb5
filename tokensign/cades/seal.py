"""Whether anything stands in a message that its newest archive timestamp does not vouch for.

The index of an archive timestamp lists what it protects, and says nothing about the rest: the timestamp
itself, what was added after it, and fields of SignedData that no signature covers. ETSI leaves that rest
alone. Here each part of it must be accounted for, so that not one octet of an archived message can be changed
unnoticed:

- certificates, CRLs and OCSP responses that are not listed must be what the path of the TSA rests on;
- unsigned attributes that are not listed must be timestamps, or countersignatures: they are judged by
  themselves;
- versions and algorithm identifiers outside of signatures must be the ones that fit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tokensign import der
from tokensign.algorithms import content_digest_by_oid
from tokensign.cms.attributes import ARCHIVE_TIME_STAMP_V3, COUNTERSIGNATURE, SIGNATURE_TIME_STAMP
from tokensign.cms.signed_data import algorithm_of, revocation_choice
from tokensign.cms.signed_data_parts import SignedDataParts
from tokensign.cms.unsigned_attributes import signed_fields, unsigned_instances
from tokensign.errors import BadSignatureError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tokensign.algorithms import Digest
    from tokensign.cades.archive import Unindexed
    from tokensign.cms.signed_data import SignedData
    from tokensign.cms.timestamp import TimestampToken
    from tokensign.pki.validated_path import ValidatedPath

__all__ = ["check_seal"]

_JUDGED_BY_THEMSELVES: Final = frozenset({ARCHIVE_TIME_STAMP_V3, SIGNATURE_TIME_STAMP, COUNTERSIGNATURE})
_NULL: Final = b"\x05\x00"
_SEQUENCE: Final = 0x30
_OBJECT_IDENTIFIER: Final = 0x06
_INTEGER: Final = 0x02
_PARAMETER_TAGS: Final = frozenset({_SEQUENCE, _OBJECT_IDENTIFIER, _INTEGER, 0xA0, 0xA1, 0xA2, 0xA3})
_BY_ISSUER: Final = der.integer(1)  # the version of a SignerInfo, RFC 5652 section 5.3
_BY_KEY_IDENTIFIER: Final = der.integer(3)


def check_seal(
    message: SignedData,
    token: TimestampToken,
    added: Unindexed,
    path: ValidatedPath,
    digests: Iterable[Digest],
) -> None:
    """Check that all of a message is protected, or accounted for.

    Args:
        message: The message.
        token: Its newest archive timestamp.
        added: What the index of that does not list.
        path: The path from its TSA to an anchor, with revocation information.
        digests: Those of the message's timestamps.

    Raises:
        BadSignatureError: Something is in the message that nothing vouches for.
        MalformedError: The token is broken.
        UnsupportedError: An algorithm is not known.
    """
    proven = {entry.der for entry in path} | {*message.certificate_choices} - {*added.certificates}
    if not proven >= {*added.certificates, *token.message.certificate_choices}:
        raise _unprotected("a certificate")
    told = {revocation_choice(entry.kind, entry.encoded) for entry in path.revocation}
    told |= {*message.revocation_choices} - {*added.revocation_choices}
    if not told >= {*added.revocation_choices, *token.message.revocation_choices}:
        raise _unprotected("a CRL or an OCSP response")
    if any(kind not in _JUDGED_BY_THEMSELVES for kind, _ in added.unsigned):
        raise _unprotected("an unsigned attribute")
    if len(unsigned_instances(token.signer)) != 1:  # the index
        raise _unprotected("an unsigned attribute of the timestamp")
    _check_fields(message, {*digests, *(signer.digest for signer in message.signer_infos)})
    _check_fields(token.message, {token.signer.digest})
    _check_signer_fields(token)


def _check_fields(message: SignedData, digests: Iterable[Digest]) -> None:
    """The fields of SignedData that no signature covers."""
    if message.version != SignedDataParts.of(message).version:
        raise _unprotected(f"version {message.version}, which does not fit,")
    for identifier in message.digest_algorithms:
        _check_algorithm(identifier)
        if content_digest_by_oid(algorithm_of(identifier)) not in digests:
            raise _unprotected("a digest algorithm that nothing uses")


def _check_signer_fields(token: TimestampToken) -> None:
    """The fields of the TSA's SignerInfo that its signature does not cover."""
    signer = token.signer
    version, _, digest_algorithm, *_ = signed_fields(signer)
    by_key_identifier = signer.identifier.subject_key_identifier is not None
    if version != (_BY_KEY_IDENTIFIER if by_key_identifier else _BY_ISSUER):
        raise _unprotected("a SignerInfo version that does not fit")
    _check_algorithm(digest_algorithm)
    _check_algorithm(signer.signature_algorithm)


def _check_algorithm(identifier: bytes) -> None:
    """An AlgorithmIdentifier made of what they are made of, so that no octet is without meaning."""
    if identifier[0] != _SEQUENCE or not _is_plain(identifier):
        raise _unprotected("an odd algorithm identifier")


def _is_plain(element: bytes) -> bool:
    """Whether it is NULL or has content, and its parts likewise."""
    if element == _NULL:
        return True
    if element[0] not in _PARAMETER_TAGS or not der.content(element):
        return False
    if element[0] in {_OBJECT_IDENTIFIER, _INTEGER}:
        return True
    return all(map(_is_plain, der.elements(element)))


def _unprotected(what: str) -> BadSignatureError:
    return BadSignatureError(
        f"the archive timestamp does not protect all of the message: there is {what} outside of it",
        hint="if that was added on purpose, renew the archive: `tokensign timestamp extend --level b-lta`",
    )
