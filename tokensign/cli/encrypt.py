"""`tokensign encrypt`."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, BinaryIO

import click

from tokensign.cli.command import PATH, PIN_SOURCE, Cli, Command
from tokensign.cli.forms import FORMS, message_of
from tokensign.cli.inputs import default_output, secret_key_from
from tokensign.cli.output import named
from tokensign.cli.recipients import recipient_options, recipients_from, transport_from
from tokensign.errors import UsageError
from tokensign.files import STANDARD_STREAM, open_input, open_output

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tokensign.algorithms import ContentCipher
    from tokensign.cms.encrypt import Recipient
    from tokensign.keys import KeyTransport

__all__ = ["encrypt"]


@click.command(cls=Command)
@click.argument("source", metavar="INPUT", type=PATH)
@recipient_options
@click.option(
    "--secret-key-source",
    metavar="SPEC",
    type=PIN_SOURCE,
    help="Make EncryptedData with a key from there, in hexadecimal, instead.",
)
@click.option(
    "--cipher",
    metavar="NAME",
    help="Encrypts the content. [default: aes-256-gcm; with --secret-key-source AES-CBC of the key's size]",
)
@click.option("--form", type=FORMS, default="der", show_default=True)
@click.option("-o", "--output", metavar="OUT", type=PATH, help="Where the result goes. [default: INPUT.p7m]")
@click.option("--force", is_flag=True, help="Replace OUT if it exists.")
@click.pass_obj
def encrypt(
    cli: Cli,
    source: str,
    recipients: tuple[str, ...],
    password_source: str | None,
    secret_key_source: str | None,
    cipher: str | None,
    key_transport: str,
    oaep_digest: str,
    form: str,
    output: str | None,
    force: bool,
) -> None:
    """Encrypt INPUT to the holders of certificates, of AES keys and of a password, in any mixture.

    Nobody needs a token for it, unless --to names an object on one. Ciphers are aes-256-gcm, aes-256-ccm,
    chacha20-poly1305 (AuthEnvelopedData) and aes-256-cbc (EnvelopedData), which older programs read, but
    which does not show changes on the way; those of AES also with 192 and 128 bits. With
    --secret-key-source the message names no recipients: whoever has the key reads it (EncryptedData,
    RFC 5652 section 8). It does not show changes either.

    \b
    Examples:
      tokensign encrypt contract.pdf --to bob.pem -o contract.pdf.p7m
      tokensign encrypt contract.pdf --to bob@acme.example
      tokensign encrypt contract.pdf --password-source prompt
      tokensign encrypt contract.pdf --to "pkcs11:token=acme;object=archive;type=secret-key"
      tokensign encrypt contract.pdf --to bob.pem --cipher aes-256-cbc --form smime -o mail.eml
      tokensign encrypt backup.tar --secret-key-source file:key -o backup.tar.p7m
    """
    from tokensign.algorithms import DEFAULT_CONTENT_CIPHER, content_cipher

    if secret_key_source is not None and (recipients or password_source is not None):
        raise UsageError(
            "--secret-key-source makes a message without recipients",
            hint="leave it away, or --to and --password-source",
        )
    chosen = content_cipher(cipher) if cipher else None
    target = output or default_output(source, ".eml" if form == "smime" else ".p7m")
    with contextlib.ExitStack() as stack:
        stream = stack.enter_context(open_input(source))
        if secret_key_source is not None:
            encryption = _with_secret_key(secret_key_source, chosen)
        else:
            found = recipients_from(cli, stack, recipients, password_source)
            transport = transport_from(key_transport, oaep_digest)
            encryption = _to_recipients(found, chosen or DEFAULT_CONTENT_CIPHER, transport)
        destination = stack.enter_context(open_output(target, force=force))
        content = stack.enter_context(cli.output.progress(stream, f"encrypting {source}"))
        with message_of(content, source, form, encryption.smime_type, destination) as (plain, message):
            encryption.write(plain, message)
    readers = "; ".join(encryption.recipients) or "whoever has the secret key"
    cli.output.status(f"{named(target)}: encrypted with {encryption.cipher.name} to {readers}")
    cli.output.document(
        {
            "output": target,
            "form": form,
            "cipher": encryption.cipher.name,
            "key_transport": encryption.transport and str(encryption.transport),
            "recipients": encryption.recipients,
        },
        on_stderr=target == STANDARD_STREAM,
    )


@dataclass(frozen=True, slots=True)
class _Encryption:
    """How a message is encrypted.

    Attributes:
        write: Takes the content and where the message goes.
        cipher: Encrypts the content.
        smime_type: As for `message_of`.
        recipients: What to call them.
        transport: Encrypts the key to RSA certificates; None without recipients.
    """

    write: Callable[[BinaryIO, BinaryIO], None]
    cipher: ContentCipher
    smime_type: str | None = None
    recipients: list[str] = field(default_factory=list)
    transport: KeyTransport | None = None


def _to_recipients(
    found: Sequence[tuple[str, Recipient]], cipher: ContentCipher, transport: KeyTransport
) -> _Encryption:
    """EnvelopedData or AuthEnvelopedData."""
    from tokensign.cms.encrypt import encrypt as encrypt_content

    readers = [reader for _, reader in found]

    def write(content: BinaryIO, message: BinaryIO) -> None:
        encrypt_content(content, readers, message, cipher=cipher, transport=transport)

    kind = "authEnveloped-data" if cipher.authenticated else "enveloped-data"
    return _Encryption(write, cipher, kind, [name for name, _ in found], transport)


def _with_secret_key(source: str, cipher: ContentCipher | None) -> _Encryption:
    """EncryptedData."""
    from tokensign.cms.encrypted import cipher_for_key, encrypt_with_key

    key = secret_key_from(source, "the message", repeat=True)
    chosen = cipher or cipher_for_key(key)

    def write(content: BinaryIO, message: BinaryIO) -> None:
        encrypt_with_key(content, key, message, cipher=chosen)

    return _Encryption(write, chosen)
