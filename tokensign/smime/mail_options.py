"""How a mail is composed, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from tokensign.algorithms import DEFAULT_CONTENT_CIPHER, ContentCipher
from tokensign.cms.signer_info import DEFAULT_OPTIONS

if TYPE_CHECKING:
    from tokensign.certificates import Certificate
    from tokensign.cms.encrypt import Recipient
    from tokensign.cms.signer_info import SigningOptions
    from tokensign.keys import KeyTransport
    from tokensign.smime.header_policy import HeaderPolicy

__all__ = ["DATE_TOLERANCE", "ComposedMail", "MailOptions"]

DATE_TOLERANCE: Final = timedelta(minutes=5)
"""How far Date may be from the signing time: a mail is written and sent within that, and clocks differ."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MailOptions:
    """How a mail is composed.

    Attributes:
        signing: How it is signed: scheme, digest, certificates, further attributes. The signing time in it is
            that of the mail, too; None: now.
        opaque: Sign as application/pkcs7-mime, which relays cannot break and other programs cannot show,
            instead of multipart/signed.
        triple_wrap: Sign the encrypted mail once more (RFC 2634 section 1.1).
        compress: Compress what is signed, inside of the encryption (RFC 3274).
        cipher: Encrypts the content.
        key_transport: Encrypts the key to RSA certificates; None: OAEP with SHA-256.
        protect_headers: Copy the header fields into what is signed and encrypted (RFC 9788).
        hcp: Which of them are seen outside of an encrypted mail.
        legacy_display: Show those that are not at the top of the text, for programs that do not know them.
        every_recipient: Refuse a mail to an address in To or Cc for which there is no certificate.
    """

    signing: SigningOptions = DEFAULT_OPTIONS
    opaque: bool = False
    triple_wrap: bool = False
    compress: bool = False
    cipher: ContentCipher = DEFAULT_CONTENT_CIPHER
    key_transport: KeyTransport | None = None
    protect_headers: bool = True
    hcp: HeaderPolicy = "baseline"
    legacy_display: bool = True
    every_recipient: bool = True


@dataclass(frozen=True, slots=True)
class ComposedMail:
    """What was composed.

    Attributes:
        signing_time: The moment that the signatures name.
        date: What Date says; None where that cannot be read.
        senders: The addresses in From; nothing where they cannot be read.
        recipients: Those who can read it; empty for a mail that is not encrypted.
        headers_protected: Whether its header is protected, too.
    """

    signing_time: datetime
    date: datetime | None
    senders: tuple[str, ...] = ()
    recipients: tuple[Recipient, ...] = ()
    headers_protected: bool = False

    @property
    def date_agrees(self) -> bool:
        """Whether Date is the signing time, or close to it: readers may doubt a mail where it is not."""
        return self.date is not None and abs(self.date - self.signing_time) <= DATE_TOLERANCE

    def is_from(self, signer: Certificate) -> bool:
        """Whether From is one address, the signer's; readers refuse the mail else (RFC 8550 section 3)."""
        return len(self.senders) == 1 and signer.belongs_to(self.senders[0])
