"""Security labels of a mail that was opened, held against a clearance (RFC 2634 section 3.1.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tokensign.ess.attributes import ess_of
from tokensign.ess.label_policy import agreed_label

if TYPE_CHECKING:
    from tokensign.ess.label_policy import Clearance
    from tokensign.ess.labels import SecurityLabel
    from tokensign.smime.mail_report import MailReport

__all__ = ["check_labels"]


def check_labels(report: MailReport, clearance: Clearance) -> tuple[SecurityLabel, ...]:
    """Check that a reader may see a mail; every signed layer may have a label of its own.

    Labels count only under signatures that hold. A mail without a label may be seen.

    Args:
        report: That of the mail, from `tokensign.smime.open_mail`.
        clearance: What the reader may see.

    Returns:
        The labels that decided, from the outside.

    Raises:
        PolicyError: The reader may not see it, a policy is not known, or signatures carry different labels.
        MalformedError: A label is broken.
    """
    decided = []
    for layer in (*report.signed, *report.signed_parts):
        signers = layer.verification.signers if layer.verification else ()
        verified = [ess_of(entry.signer_info) for entry in signers if entry.holds and entry.signer_info]
        found = agreed_label(verified)
        if found is not None:
            decided.append(clearance.check(*found))
    return tuple(decided)
