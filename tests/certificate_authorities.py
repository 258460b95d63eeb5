"""CAs of the tests, and keys in memory that stand for keys on tokens."""

# ruff: noqa: ANN401 - keys of every type pass through here

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, mldsa, mlkem, rsa, x448, x25519
from software_signer import SoftwareSigner

from tokensign.authority import Authority, load_profile
from tokensign.pki.request import certificate_request

if TYPE_CHECKING:
    from collections.abc import Callable

    from tokensign.store import Store

__all__ = ["URL", "People", "private_key"]

URL = "http://pki.acme.example/people"
_MAKERS: dict[str, Callable[[], Any]] = {
    "rsa": lambda: rsa.generate_private_key(65537, 2048),
    "rsa:3072": lambda: rsa.generate_private_key(65537, 3072),
    "ec:p256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "ec:p384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "ec:p521": lambda: ec.generate_private_key(ec.SECP521R1()),
    "ec:k256": lambda: ec.generate_private_key(ec.SECP256K1()),
    "ed25519": ed25519.Ed25519PrivateKey.generate,
    "ed448": ed448.Ed448PrivateKey.generate,
    "x25519": x25519.X25519PrivateKey.generate,
    "x448": x448.X448PrivateKey.generate,
    "ml-dsa-44": mldsa.MLDSA44PrivateKey.generate,
    "ml-dsa-65": mldsa.MLDSA65PrivateKey.generate,
    "ml-dsa-87": mldsa.MLDSA87PrivateKey.generate,
    "ml-kem-768": mlkem.MLKEM768PrivateKey.generate,
    "ml-kem-1024": mlkem.MLKEM1024PrivateKey.generate,
}


@cache
def private_key(kind: str, number: int = 0) -> Any:
    """A key by the name of its type; another number is another key."""
    del number
    return _MAKERS[kind]()


@dataclass(frozen=True)
class People:
    """A CA for people below a root, with its key.

    Attributes:
        authority: The CA.
        signer: Its key.
        root: The CA above it.
        root_signer: That one's key.
    """

    authority: Authority
    signer: SoftwareSigner
    root: Authority
    root_signer: SoftwareSigner

    @property
    def store(self) -> Store:
        return self.authority.store

    def request(
        self,
        subject: str = "CN=alice@acme.example",
        emails: tuple[str, ...] = ("alice@acme.example",),
        kind: str = "ec:p256",
    ) -> bytes:
        """A certification request."""
        return certificate_request(SoftwareSigner(private_key(kind)), subject, emails)

    def issue(self, profile: str = "smime-mailbox-strict", **details: Any) -> Any:
        """A certificate for Alice, as `Authority.issue` makes it."""
        return self.authority.issue(self.signer, self.request(), load_profile(profile), **details)
