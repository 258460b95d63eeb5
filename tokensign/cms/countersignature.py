"""Countersignatures: signatures over a signature, which carries them unsigned (RFC 5652 section 11.4)."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, BinaryIO

from tokensign import der
from tokensign.cms.attributes import COUNTERSIGNATURE, attribute, parse_unsigned_attributes
from tokensign.cms.signed_data import SignerInfo
from tokensign.cms.signed_data_parts import SignedDataParts
from tokensign.cms.signer_info import DEFAULT_OPTIONS, certificates_of, templates_of
from tokensign.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tokensign.cms.signed_data import SignedData
    from tokensign.cms.signer_info import SignerInfoTemplate, SigningOptions
    from tokensign.keys import Signer

__all__ = ["add_countersignatures", "countersignatures_of"]


def countersignatures_of(signer: SignerInfo) -> tuple[SignerInfo, ...]:
    """The countersignatures that a signature carries, not verified.

    Raises:
        MalformedError: Its unsigned attributes are broken, or a countersignature is.
    """
    if signer.unsigned_attributes is None:
        return ()
    return tuple(
        SignerInfo.load(value)
        for kind, values in parse_unsigned_attributes(signer.unsigned_attributes)
        if kind == COUNTERSIGNATURE
        for value in values
    )


def add_countersignatures(
    message: SignedData,
    signers: Sequence[Signer],
    output: BinaryIO,
    options: SigningOptions = DEFAULT_OPTIONS,
    *,
    path: Sequence[int] = (0,),
) -> None:
    """Sign a signature of a message; everything that is there stays as it is.

    The signature that is countersigned is not verified; do so before.

    Args:
        message: The message, from `tokensign.cms.signed_data.read_signed_data`.
        signers: The keys that countersign.
        output: Receives the new message, DER, with its content where it had it.
        options: How to sign; a content type has no meaning here.
        path: Which signature: the number of the signer, counted from 0; then, for a countersignature, its
            number among those of that signer, and so on.

    Raises:
        UsageError: There is no such signature; or no signer, or one without a certificate.
        UnsupportedError: A key cannot sign the way that was asked for.
        SigningError: A fresh signature does not verify.
        TokenError: The token failed.
    """
    templates = templates_of(signers, options, None)
    moment = options.signing_time or datetime.now(UTC)
    parts = SignedDataParts.of(message)
    signed = _countersign(message.signer_infos, path, templates, moment)
    parts = replace(
        parts,
        digest_algorithms=[
            *parts.digest_algorithms,
            *(template.scheme.digest.algorithm_identifier for template in templates),
        ],
        certificates={*parts.certificates, *certificates_of(templates, options)},
        signer_infos=signed,
    )
    if message.content is None:
        output.write(parts.detached())
    else:
        parts.write(output, message.content.chunks(), message.content.size())


def _countersign(
    signers: Sequence[SignerInfo],
    path: Sequence[int],
    templates: Sequence[SignerInfoTemplate],
    moment: datetime,
) -> list[bytes]:
    """Signatures, encoded, of which the one at the path carries further countersignatures."""
    if not path or not 0 <= path[0] < len(signers):
        raise UsageError(
            f"there is no signature number {path[0] if path else ''} to countersign",
            hint=f"they are counted from 0, and there are {len(signers)}",
        )
    encoded = [signer.encoded for signer in signers]
    target = signers[path[0]]
    existing = countersignatures_of(target)
    if len(path) > 1:
        values = _countersign(existing, path[1:], templates, moment)
    else:
        values = [signer.encoded for signer in existing]
        values += [_sign(template, target.signature, moment) for template in templates]
    encoded[path[0]] = _with_countersignatures(target, values)
    return encoded


def _sign(template: SignerInfoTemplate, signature: bytes, moment: datetime) -> bytes:
    return template.sign(template.scheme.digest.new(signature).digest(), moment)


def _with_countersignatures(signer: SignerInfo, values: Sequence[bytes]) -> bytes:
    """A SignerInfo with these countersignatures instead of its own, and all else as it is."""
    fields = der.elements(signer.encoded)
    kept = []
    if signer.unsigned_attributes is not None:
        fields.pop()
        pairs = zip(
            parse_unsigned_attributes(signer.unsigned_attributes),
            der.elements(signer.unsigned_attributes),
            strict=True,
        )
        kept = [encoded for (kind, _), encoded in pairs if kind != COUNTERSIGNATURE]
    return der.sequence(*fields, der.set_of(*kept, attribute(COUNTERSIGNATURE, *values), tag=0xA1))
