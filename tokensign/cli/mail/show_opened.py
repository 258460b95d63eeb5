"""How the report on a mail is told to people: the verdict first, then layer by layer what it rests on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from tokensign.cli.mail.show_services import services_of
from tokensign.cli.verdicts import check, tell_signer
from tokensign.smime.mail_report import LayerKind

if TYPE_CHECKING:
    from collections.abc import Callable

    from tokensign.cli.output import Output
    from tokensign.smime.mail_report import FieldReport, LayerReport, MailReport

__all__ = ["show_opened"]

_COLOURS: Final = {
    "good": "green",
    "bad": "red",
    "intact": "yellow",
    "partial": "yellow",
    "unsigned": "yellow",
}
_SHOWN: Final = ("from", "to", "cc", "subject", "date", "reply-to", "sender")
_PROTECTION: Final = {
    "unprotected": "not protected",
    "signed-only": "signed",
    "signed-and-encrypted": "signed and encrypted",
    "encrypted-only": "encrypted, not signed",
}


def show_opened(output: Output, found: MailReport, *, on_stderr: bool) -> None:
    """Print a report, for people or as JSON.

    Args:
        output: Where to.
        found: The report.
        on_stderr: Whether standard output is taken by the mail.
    """
    output.document(found.to_json(), on_stderr=on_stderr)
    tell = output.status if on_stderr else output.text
    headline = click.style(f"{found.verdict.upper()}:", fg=_COLOURS[found.verdict], bold=True)
    tell(found.summary(), prefix=f"{headline} ")
    check(tell, "", found.sender.status.value, f"sender    {found.sender.reason}")
    for layer in (*found.layers, *found.signed_parts):
        _tell_layer(tell, layer)
    for field in found.headers.fields:
        if field.name.lower() in _SHOWN:
            tell(f"header {field.name}: {field.text} ({_field(field)})")
    for text in found.outside:
        tell(f"not covered: {text}")
    for text in found.remarks:
        tell(f"note: {text}")


def _tell_layer(tell: Callable[..., None], layer: LayerReport) -> None:
    where = f"part {layer.path}" if layer.path else "the mail"
    match layer.kind:
        case LayerKind.SIGNED if layer.verification:
            tell(f"{where} is signed ({layer.media_type})")
            for signer in layer.verification.signers:
                tell_signer(tell, signer, "signature", "  ")
                for line in services_of(signer):
                    tell(f"      {line}")
        case LayerKind.SIGNED:
            tell(layer.summary())
        case LayerKind.ENCRYPTED:
            name = layer.cipher.name if layer.cipher else "in an unknown way"
            state = (
                "unchanged since it was encrypted"
                if layer.authenticated
                else "not authenticated, anybody may have changed it"
            )
            by = f", opened with the key of {layer.recipient.subject}" if layer.recipient else ""
            tell(f"{where} is encrypted ({name}, {state}{by})")
        case LayerKind.COMPRESSED:
            tell(f"{where} is compressed")
        case LayerKind.CERTS_ONLY:
            subjects = "; ".join(certificate.subject for certificate in layer.certificates)
            tell(f"{where} carries certificates, and no signature: {subjects}")


def _field(field: FieldReport) -> str:
    protection = _PROTECTION[field.protection]
    if field.outside == "changed":
        return f"{protection}; changed outside to {field.outside_text or 'nothing'}"
    return f"{protection}; hidden outside" if field.outside == "hidden" else protection
