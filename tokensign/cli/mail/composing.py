"""What `mail sign` and `mail encrypt` share: the options, and what they say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import click

from tokensign.algorithms import SIGNATURE_FAMILIES
from tokensign.cli.command import PATH, Cli, grouped
from tokensign.cli.inputs import read_certificates
from tokensign.cli.mail.ess_options import label_attribute

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tokensign.certificates import Certificate
    from tokensign.cli.holder import HeldKey
    from tokensign.cms.signer_info import SigningOptions
    from tokensign.smime.compose_mail import ComposedMail

__all__ = ["Composing", "composing_options", "signer_rows", "warn_of_doubts"]

_OPTIONS: Final = (
    click.option(
        "--digest", metavar="NAME", help="sha256, sha384, sha512, sha3-256 ... [default: the key's]"
    ),
    click.option("--scheme", type=click.Choice(SIGNATURE_FAMILIES), help="[default: the key's]"),
    click.option(
        "--chain",
        metavar="FILE",
        type=PATH,
        multiple=True,
        help="Certificates to include besides the token's.",
    ),
    click.option(
        "--encryption-cert",
        "encryption_certificate",
        metavar="CERT",
        type=PATH,
        help="Tell the readers to encrypt to this certificate of yours. [default: that of the signature]",
    ),
    click.option(
        "--opaque",
        is_flag=True,
        help="Put the mail into the signature: relays cannot break it, and only S/MIME reads it.",
    ),
    click.option("--compress", is_flag=True, help="Compress the mail (RFC 3274)."),
    click.option(
        "--protect-headers/--no-protect-headers",
        default=True,
        help="Sign and encrypt Subject, From and the others, too (RFC 9788; default), or not.",
    ),
    click.option(
        "--security-label",
        metavar="POLICY:CLASSIFICATION[:MARK]",
        help="Sign how sensitive the mail is (RFC 2634): the policy as OID, and `secret` or a number.",
    ),
    click.option("--force", is_flag=True, help="Replace OUT if it exists."),
)


@dataclass(frozen=True, slots=True)
class Composing:
    """The values of `composing_options`.

    Attributes:
        digest: The name of the digest of signatures, or None.
        scheme: Their family, or None.
        chain: Files with further certificates.
        encryption_certificate: A file with the certificate that readers are to encrypt to, or None.
        opaque: Whether signatures are application/pkcs7-mime.
        compress: Whether the mail is compressed.
        protect_headers: Whether the header is protected.
        security_label: How sensitive the mail is, or None.
        force: Whether files that exist are replaced.
    """

    digest: str | None
    scheme: str | None
    chain: tuple[str, ...]
    encryption_certificate: str | None
    opaque: bool
    compress: bool
    protect_headers: bool
    security_label: str | None
    force: bool

    def signing(self) -> SigningOptions:
        """How signatures are made."""
        from tokensign import algorithms
        from tokensign.cms.encryption_key_preference import encryption_key_preference
        from tokensign.cms.signer_info import SigningOptions

        preferred = self._preferred()
        return SigningOptions(
            family=self.scheme,
            digest=algorithms.digest(self.digest) if self.digest else None,
            extra_certificates=[*preferred, *read_certificates(self.chain)],
            signed_attributes=(
                *label_attribute(self.security_label),
                *map(encryption_key_preference, preferred),
            ),
        )

    def _preferred(self) -> list[Certificate]:
        """The certificate that readers are to encrypt to, if one was named."""
        from tokensign.pki.purpose import check_encryption_use

        if self.encryption_certificate is None:
            return []
        certificate = read_certificates([self.encryption_certificate])[0]
        check_encryption_use(certificate)
        return [certificate]


composing_options = grouped("composing", Composing, _OPTIONS)
"""Give a command the options about composing; it gets them as one argument, `composing`."""


def warn_of_doubts(cli: Cli, mail: ComposedMail, signers: Sequence[HeldKey]) -> None:
    """Say what readers of a signed mail will doubt: Date at another time, From that is not the signer's."""
    if not mail.date_agrees:
        shown = mail.date.isoformat(sep=" ") if mail.date else "not readable"
        signed = mail.signing_time.isoformat(sep=" ")
        cli.output.status(f"warning: Date is {shown}, and the mail was signed at {signed}")
    for certificate in (signer.certificate for signer in signers):
        if certificate and not mail.is_from(certificate):
            owner = f"in the certificate of {certificate.subject}"
            doubt = f"is {', '.join(mail.senders)}, which is not {owner}"
            cli.output.status(
                f"warning: From {doubt if mail.senders else f'must be an address {owner}, and is none'}"
            )


def signer_rows(signers: Sequence[HeldKey], options: SigningOptions) -> list[dict[str, str]]:
    """Who signed, for programs."""
    from tokensign.cms.signed import schemes_of

    return [
        {
            "key": str(signer.info.uri),
            "signer": signer.certificate.subject if signer.certificate else signer.info.label,
            "scheme": str(scheme),
        }
        for signer, scheme in zip(signers, schemes_of(signers, options), strict=True)
    ]
