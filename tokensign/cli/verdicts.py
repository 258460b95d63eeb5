"""How a verification is told to people: the verdict and its reason first, then what they rest on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime, timedelta

    from tokensign.cades.validate import TimestampResult
    from tokensign.cli.output import Output
    from tokensign.pki.validated_path import RevocationEvidence
    from tokensign.report import SignerReport, VerificationReport

__all__ = ["check", "show", "tell_signer"]

_MARKS: Final = {"passed": ("✓", "green"), "failed": ("✗", "red"), "not-checked": ("-", "yellow")}
_COLOURS: Final = {"good": "green", "bad": "red", "intact": "yellow"}
_REVOKED: Final = {"good": "not revoked", "revoked": "revoked", "unknown": "not known to its issuer"}
_KINDS: Final = {"crl": "a CRL", "ocsp": "an OCSP response"}
_SOURCES: Final = {"given": "given here", "embedded": "in the message", "cached": "fetched before"}
_COVERED: Final = {"signature": "over the signature", "archive": "over the whole message"}


def show(output: Output, found: VerificationReport, content: str, *, on_stderr: bool) -> None:
    """Print a report, for people or as JSON.

    Args:
        output: Where to.
        found: The report.
        content: What to call what was signed.
        on_stderr: Whether standard output is taken by the content.
    """
    output.document(found.to_json(), on_stderr=on_stderr)
    tell = output.status if on_stderr else output.text
    headline = click.style(f"{found.verdict.upper()}:", fg=_COLOURS[found.verdict], bold=True)
    tell(found.summary(content), prefix=f"{headline} ")
    for signer in found.signers:
        tell_signer(tell, signer, "signature")


def tell_signer(tell: Callable[..., None], signer: SignerReport, what: str, margin: str = "") -> None:
    """A signature, its verdicts, what they rest on, and its countersignatures beneath it."""
    tell(f"{margin}{what} of {signer.name}: {'good' if signer.holds else 'NOT GOOD'}")
    for name, verdict in signer.verdicts.items():
        check(tell, margin, verdict.status.value, f"{name:9} {verdict.reason}")
    tell(f"{margin}    signed    {_signed(signer)}; {signer.scheme or 'in an unknown scheme'}")
    for said in signer.revocation:
        tell(f"{margin}    status    {_status(said, signer.judged_at)}")
    for stamp in signer.time.timestamps:
        check(tell, margin, "failed" if stamp.error else "passed", f"timestamp {_stamp(stamp)}")
    if signer.time.existed_at:
        level = f"; level {signer.level.value.upper()}" if signer.level else ""
        tell(f"{margin}    existed   {_moment(signer.time.existed_at)} at the latest{level}")
    for entry in signer.countersignatures:
        tell_signer(tell, entry, "countersignature", f"{margin}    ")


def check(tell: Callable[..., None], margin: str, status: str, text: str) -> None:
    """A line about one check: its mark, and what it found."""
    mark, colour = _MARKS[status]
    tell(text, prefix=click.style(f"{margin}  {mark} ", fg=colour))


def _signed(signer: SignerReport) -> str:
    if signer.signing_time is None:
        return "at an unknown time"
    return f"{_moment(signer.signing_time)} by the signer's clock"


def _status(said: RevocationEvidence, at: datetime) -> str:
    source, _, url = said.source.partition(" ")
    where = f"from {url}" if url else _SOURCES[source]
    return (
        f"{said.certificate.subject}: {_REVOKED[said.status]}, says {_KINDS[said.kind]} {where},"
        f" {_age(at - said.this_update)}"
    )


def _stamp(stamp: TimestampResult) -> str:
    time = _moment(stamp.time) if stamp.time else "that cannot be read"
    by = f" by {stamp.path[0].subject}" if stamp.path else ""
    reason = f": {stamp.error.message}" if stamp.error else ""
    return f"{time}{by}, {_COVERED[stamp.kind]}{reason}"


def _moment(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"


def _age(age: timedelta) -> str:
    """How old something was when the certificates were judged; or how much later it was made."""
    seconds = abs(int(age.total_seconds()))
    amount, unit = next(
        (seconds // size, unit)
        for size, unit in ((86400, "day"), (3600, "hour"), (60, "minute"), (1, "second"))
        if seconds >= size or size == 1
    )
    words = f"{amount} {unit}{'' if amount == 1 else 's'}"
    return f"{words} old" if age.total_seconds() >= 0 else f"made {words} later"
