"""Composing mail: signed, encrypted, both, in three layers (RFC 8551), its header protected (RFC 9788).

A mail comes as a file (RFC 5322) and leaves as one. Its body becomes the innermost entity, into which the
header fields are copied; signature, compression and encryption are put around it, each by a function that
takes an entity and writes an entity. The fields that stay outside go to the outermost one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO, Final

from tokensign.errors import UsageError
from tokensign.smime.mail_draft import Draft
from tokensign.smime.mail_layers import (
    compressed_layer,
    encrypted_layer,
    put_around,
    signed_layer,
    signing_of_third_layer,
    wrapped,
)
from tokensign.smime.mail_options import ComposedMail, MailOptions
from tokensign.smime.mail_recipients import blind_copies, recipients_of_bcc, recipients_of_main
from tokensign.smime.mime import read_entity

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tokensign.cms.encrypt import Recipient
    from tokensign.keys import Signer
    from tokensign.smime.header_fields import HeaderFields
    from tokensign.smime.mail_layers import Layer

__all__ = [
    "ComposedMail",
    "MailOptions",
    "check_recipients",
    "encrypt_copies",
    "encrypt_mail",
    "mail_copies",
    "sign_mail",
]

_DEFAULT_OPTIONS: Final = MailOptions()


def sign_mail(
    message: BinaryIO, signers: Sequence[Signer], output: BinaryIO, options: MailOptions = _DEFAULT_OPTIONS
) -> ComposedMail:
    """Sign a mail (RFC 8551 section 3.5).

    The header fields stay outside as they are, in their order. Where there is no Date, it is the signing
    time.

    Args:
        message: The mail (RFC 5322), from its start; it must be able to seek. Line ends are CR LF or LF.
        signers: Who signs.
        output: Receives the signed mail.
        options: How.

    Raises:
        MalformedError: The mail is damaged so that readers would disagree on what it says.
        UsageError: There is no signer, or one without a certificate.
        UnsupportedError: A key cannot sign the way that was asked for.
        SigningError: A fresh signature does not verify.
        TokenError: The token failed.
    """
    draft = Draft.read(message, options)
    layers = [signed_layer(signers, draft.signing, opaque=options.opaque)]
    if options.compress:
        layers.append(compressed_layer)
    with draft.payload(None) as (payload, outside):
        put_around(payload, layers, output, outside)
    return draft.composed()


def encrypt_mail(
    message: BinaryIO,
    recipients: Sequence[Recipient],
    output: BinaryIO,
    options: MailOptions = _DEFAULT_OPTIONS,
    *,
    signers: Sequence[Signer] = (),
    bcc: str | None = None,
) -> ComposedMail:
    """Encrypt one copy of a mail, signed before that where somebody signs (RFC 8551 section 3.7).

    `mail_copies` tells which copies there are, and `encrypt_copies` makes all of them with one signature. No
    copy has a Bcc field, and the one for those in To and Cc is not encrypted to the certificates of those in
    Bcc.

    Args:
        message: As for `sign_mail`.
        recipients: Certificates and other recipients. Whose they are, their addresses tell.
        output: Receives the encrypted mail.
        options: How.
        signers: Who signs; nobody: the mail is encrypted only.
        bcc: The address in Bcc whose copy is made; None: the copy of all others.

    Raises:
        MalformedError, UnsupportedError, SigningError, TokenError: As for `sign_mail`.
        UsageError: There is no recipient, an address without a certificate, or nobody signs the third layer.
    """
    return encrypt_copies(message, recipients, {bcc: output}, options, signers=signers)[bcc]


def encrypt_copies(
    message: BinaryIO,
    recipients: Sequence[Recipient],
    outputs: Mapping[str | None, BinaryIO],
    options: MailOptions = _DEFAULT_OPTIONS,
    *,
    signers: Sequence[Signer] = (),
) -> dict[str | None, ComposedMail]:
    """Encrypt several copies of a mail; what is signed inside is the same in all, and is signed once.

    Args:
        message: As for `sign_mail`.
        recipients: As for `encrypt_mail`.
        outputs: What receives each copy, by the address in Bcc, or None, as `mail_copies` has them.
        options: How.
        signers: As for `encrypt_mail`. With `triple_wrap` each copy is signed for itself once more.

    Returns:
        What was composed, by the same keys.

    Raises:
        MalformedError, UnsupportedError, SigningError, TokenError, UsageError: As for `encrypt_mail`.
    """
    if options.triple_wrap and not signers:
        raise UsageError("a mail in three layers is signed twice", hint="say who signs it")
    draft = Draft.read(message, options)
    readers = {bcc: _readers(draft.fields, recipients, options, bcc) for bcc in outputs}
    inner: list[Layer] = []
    if signers:
        inner.append(signed_layer(signers, draft.signing, opaque=options.opaque))
    if options.compress:
        inner.append(compressed_layer)
    with (
        draft.without_bcc().payload(options.hcp) as (payload, outside),
        wrapped(payload, inner) as entity,
    ):
        for bcc, output in outputs.items():
            outer = [encrypted_layer(readers[bcc], options.cipher, options.key_transport)]
            if options.triple_wrap:
                third = signing_of_third_layer(draft.signing)
                outer.append(signed_layer(signers, third, opaque=options.opaque))
            entity.seek(0)
            put_around(entity, outer, output, outside)
    return {bcc: draft.composed(readers[bcc]) for bcc in outputs}


def mail_copies(message: BinaryIO) -> tuple[str | None, ...]:
    """The copies of a mail that must be encrypted each for itself, as the argument `bcc` of `encrypt_mail`.

    Args:
        message: The mail, from its start.

    Returns:
        None for the copy to those in To and Cc, unless Bcc alone names recipients; then the addresses in Bcc.

    Raises:
        MalformedError: An address list cannot be read.
    """
    return blind_copies(read_entity(message).fields)


def check_recipients(
    message: BinaryIO, recipients: Sequence[Recipient], options: MailOptions = _DEFAULT_OPTIONS
) -> None:
    """See that every copy of a mail can be encrypted, before anybody is asked for a PIN to sign it.

    Args:
        message: As for `sign_mail`.
        recipients: As for `encrypt_mail`.
        options: As for `encrypt_mail`.

    Raises:
        UsageError: There is no recipient, or an address without a certificate.
        MalformedError: An address list cannot be read.
    """
    fields = read_entity(message).fields
    for bcc in blind_copies(fields):
        _readers(fields, recipients, options, bcc)


def _readers(
    fields: HeaderFields, recipients: Sequence[Recipient], options: MailOptions, bcc: str | None
) -> list[Recipient]:
    if bcc is not None:
        return recipients_of_bcc(bcc, recipients)
    readers = recipients_of_main(fields, recipients, every=options.every_recipient)
    if not readers:
        raise UsageError("the mail is for nobody", hint="name the certificates of its recipients")
    return readers
