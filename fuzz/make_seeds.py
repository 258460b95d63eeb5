"""Makes the seeds: one small message of each kind, to and from the keys in keys/.

python -m fuzz.make_seeds
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from asn1crypto import pem

from fuzz.identities import FOLDER, NAMES, PASSWORD, certified
from tokensign.algorithms import MACS, content_cipher
from tokensign.cms.certificates_only import write_certificates_only
from tokensign.cms.compressed import compress
from tokensign.cms.countersignature import add_countersignatures
from tokensign.cms.digested import make_digested_data
from tokensign.cms.encrypt import encrypt
from tokensign.cms.recipients.key_derivation import Pbkdf2Derivation
from tokensign.cms.recipients.password import PasswordRecipient
from tokensign.cms.signed import SigningOptions, sign_attached, sign_detached
from tokensign.cms.signed_data import read_signed_data
from tokensign.keys import Password
from tokensign.smime.compose_mail import encrypt_mail, sign_mail
from tokensign.smime.mail_options import MailOptions

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tokensign.cms.encrypt import Recipient
    from tokensign.keys import Signer

CONTENT = b"seed"
MAIL = b"From: alice@acme.example\r\nTo: bob@acme.example\r\nSubject: seed\r\n\r\nseed\r\n"
FOOTER = (
    b'From: alice@acme.example\r\nContent-Type: multipart/mixed; boundary="x"\r\n\r\n'
    b"--x\r\nSIGNED\r\n--x\r\n\r\nfooter\r\n--x--\r\n"
)
CIPHERS = ("aes-256-gcm", "aes-256-cbc", "aes-256-ccm", "chacha20-poly1305")
ITERATIONS = 1000  # the fewest that are taken


def main() -> None:
    """Write them all."""
    for name, encoded in _seeds():
        (FOLDER / "seeds" / name).write_bytes(encoded)


def _seeds() -> Iterator[tuple[str, bytes]]:
    signers = [certified(name) for name in NAMES]
    for name, signer in zip(NAMES, signers, strict=True):
        yield f"signed-{name}.der", sign_detached(io.BytesIO(CONTENT), [signer])
    output = io.BytesIO()
    sign_attached(
        io.BytesIO(CONTENT), signers[:1], output, SigningOptions(family="rsa-pss", identifier="ski")
    )
    yield "signed-attached-pss.der", output.getvalue()
    countersigned = io.BytesIO()
    message = read_signed_data(io.BytesIO(output.getvalue()))
    add_countersignatures(message, signers[1:], countersigned, SigningOptions(include_certificates=False))
    yield "countersigned.der", countersigned.getvalue()
    yield "certificates.der", write_certificates_only([signers[1].certificate])
    yield "signed.pem", pem.armor("CMS", sign_detached(io.BytesIO(CONTENT), signers[1:2]))
    everybody: list[Recipient] = [signer.certificate for signer in signers[:2]]
    everybody.append(
        PasswordRecipient(Password(PASSWORD), Pbkdf2Derivation(b"fuzz-salt", ITERATIONS, MACS["hmac-sha256"]))
    )
    for name in CIPHERS:
        encrypted = io.BytesIO()
        encrypt(io.BytesIO(CONTENT), everybody, encrypted, cipher=content_cipher(name))
        yield f"encrypted-{name}.der", encrypted.getvalue()
    compressed, digested = io.BytesIO(), io.BytesIO()
    compress(io.BytesIO(CONTENT), compressed)
    yield "compressed.der", compressed.getvalue()
    make_digested_data(io.BytesIO(CONTENT), digested)
    yield "digested.der", digested.getvalue()
    yield from _mails(signers[1])


def _mails(alice: Signer) -> Iterator[tuple[str, bytes]]:
    """A mail clear-signed, opaque, in three layers, and with a footer that nobody signed."""
    for name, options in (("clear", MailOptions()), ("opaque", MailOptions(opaque=True))):
        signed = io.BytesIO()
        sign_mail(io.BytesIO(MAIL), [alice], signed, options)
        yield f"mail-{name}.eml", signed.getvalue()
        if name == "clear":
            entity = signed.getvalue().partition(b"MIME-Version: 1.0\r\n")[2]
            yield "mail-footer.eml", FOOTER.replace(b"SIGNED", entity)
    wrapped = io.BytesIO()
    options = MailOptions(triple_wrap=True, every_recipient=False)
    encrypt_mail(io.BytesIO(MAIL), [certified("rsa").certificate], wrapped, options, signers=[alice])
    yield "mail-triple-wrapped.eml", wrapped.getvalue()


if __name__ == "__main__":
    main()
