"""Correspondents: to which certificate mail for an address is encrypted, and with which algorithms.

`ContactStore` remembers. What it knows comes from signed mail that holds (`announcement` judges that), from
certificates that the user adds, and from SMIMEA records whose DNSSEC signatures hold (`smimea`, `dnssec`).
`choosing` answers the question of whoever sends: `recipients_for` and `choose_algorithms`.
"""

from __future__ import annotations

from tokensign.contacts.announcement import Announcement, announcement_of
from tokensign.contacts.choosing import Algorithms, choose_algorithms, recipients_for
from tokensign.contacts.contact import (
    Contact,
    KnownCertificate,
    Origin,
    Recipient,
    canonical_address,
)
from tokensign.contacts.contact_store import Change, ContactStore

__all__ = [
    "Algorithms",
    "Announcement",
    "Change",
    "Contact",
    "ContactStore",
    "KnownCertificate",
    "Origin",
    "Recipient",
    "announcement_of",
    "canonical_address",
    "choose_algorithms",
    "recipients_for",
]
