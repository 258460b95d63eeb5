"""Requests of Alice at the CA "acme", for the tests of registration."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric import ec
from software_signer import SoftwareSigner

from tokensign.authority import load_profile
from tokensign.authority.registration import prove_mailbox, submit_request
from tokensign.pki.request import certificate_request

if TYPE_CHECKING:
    from tokensign.store import Store

ALICE = "alice@acme.example"
PROFILE = load_profile("smime-mailbox-strict")
CA_KEY = SoftwareSigner(ec.generate_private_key(ec.SECP256R1()))


def new_key() -> SoftwareSigner:
    return SoftwareSigner(ec.generate_private_key(ec.SECP256R1()))


def csr(*emails: str, subject: str = "") -> bytes:
    return certificate_request(new_key(), subject or f"CN={emails[0]}", emails)


def submitted(store: Store, *emails: str) -> tuple[int, dict[str, str]]:
    """A request of Alice that the front desk handed in, and its codes."""
    request, codes = submit_request(store, csr(*(emails or (ALICE,))), "acme", PROFILE, submitter="desk")
    return request.id, dict(codes)


def waiting(store: Store) -> int:
    number, codes = submitted(store)
    prove_mailbox(store, number, codes[ALICE])
    return number
