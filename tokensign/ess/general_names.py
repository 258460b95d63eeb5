"""The GeneralNames by which RFC 2634 names those who give and get receipts (RFC 5280 section 4.2.1.6)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from asn1crypto import x509

from tokensign import der
from tokensign.certificates import SMTP_UTF8_MAILBOX, name_string
from tokensign.cms.content_info import parsing
from tokensign.errors import MalformedError, UsageError
from tokensign.mailboxes import a_labels

if TYPE_CHECKING:
    from tokensign.certificates import Certificate

__all__ = ["MAX_NAMES", "GeneralNames"]

MAX_NAMES: Final = 64  # of one person; one is usual, and each is compared with an address
_SEQUENCE: Final = 0x30
_RFC822_NAME: Final = 0x81
_OTHER_NAME: Final = 0xA0
_DIRECTORY_NAME: Final = 0xA4  # EXPLICIT, because Name is a CHOICE


@dataclass(frozen=True, slots=True)
class GeneralNames:
    """The names of one person or list.

    Attributes:
        encoded: DER, as received or made.
        mailboxes: The e-mail addresses among the names.
        directory_names: The distinguished names among them, DER.
    """

    encoded: bytes
    mailboxes: tuple[str, ...] = ()
    directory_names: tuple[bytes, ...] = ()

    @classmethod
    def of(cls, address: str) -> GeneralNames:
        """The name of somebody who is known by an e-mail address (RFC 5280 section 4.2.1.6, RFC 9598).

        Raises:
            UsageError: It is no address.
        """
        local, at, domain = address.rpartition("@")
        ascii_domain = a_labels(domain.lower())
        if not (at and local) or ascii_domain is None or not address.isprintable() or " " in address:
            raise UsageError(f"{address!r} is not an e-mail address", hint="write it as alice@acme.example")
        mailbox = f"{local}@{ascii_domain}"
        if mailbox.isascii():
            name = der.tlv(_RFC822_NAME, mailbox.encode("ascii"))
        else:
            value = der.explicit(0, der.utf8_string(mailbox))
            name = der.constructed(_OTHER_NAME, der.object_identifier(SMTP_UTF8_MAILBOX), value)
        return cls(der.sequence(name), (mailbox,))

    @classmethod
    def load(cls, encoded: bytes) -> GeneralNames:
        """Read GeneralNames.

        Args:
            encoded: With the tag SEQUENCE, in definite form.

        Raises:
            MalformedError: They are broken, or more than `MAX_NAMES`.
        """
        names = der.elements(encoded) if encoded[0] == _SEQUENCE else []
        if not 1 <= len(names) <= MAX_NAMES:
            raise MalformedError("GeneralNames cannot be read")
        directory_names = tuple(der.content(name) for name in names if name[0] == _DIRECTORY_NAME)
        return cls(encoded, tuple(filter(None, map(_mailbox, names))), directory_names)

    def belongs_to(self, certificate: Certificate) -> bool:
        """Whether one of the names is that of a certificate's holder."""
        return certificate.encoded_subject in self.directory_names or any(
            map(certificate.belongs_to, self.mailboxes)
        )

    def __str__(self) -> str:
        with parsing("GeneralNames"):
            names = [name_string(x509.Name.load(name)) for name in self.directory_names]
        return ", ".join((*self.mailboxes, *names)) or "somebody without an e-mail address"


def _mailbox(name: bytes) -> str | None:
    """The e-mail address in a GeneralName, or None where it is another kind of name."""
    try:
        if name[0] == _RFC822_NAME:
            return der.content(name).decode("ascii")
        if name[0] == _OTHER_NAME:
            match der.elements(name):
                case [kind, value] if kind == der.object_identifier(SMTP_UTF8_MAILBOX):
                    return der.content(der.content(value)).decode("utf-8")
    except UnicodeDecodeError as error:
        raise MalformedError("an e-mail address in GeneralNames is not text") from error
    return None
