"""Alice, Bob and mailing lists, with keys in memory; and messages that they sign."""

# ruff: noqa: ANN401 - options are passed on

from __future__ import annotations

import io
from functools import cache
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from software_signer import SoftwareSigner

from tokensign.cms.signed import SigningOptions, sign_attached
from tokensign.cms.signed_data import SignedData, read_signed_data
from tokensign.pki.ca import issue, root_certificate

if TYPE_CHECKING:
    from collections.abc import Callable

    from tokensign.certificates import Certificate

CONTENT = b"Content-Type: text/plain\r\n\r\nSee you at noon.\r\n"


@cache
def authority() -> tuple[SoftwareSigner, Certificate]:
    key = SoftwareSigner(ec.generate_private_key(ec.SECP256R1()))
    return key, root_certificate(key, "CN=Root,O=Acme")


@cache
def person(name: str) -> SoftwareSigner:
    key = ed25519.Ed25519PrivateKey.generate() if name == "Bob" else ec.generate_private_key(ec.SECP256R1())
    holder = SoftwareSigner(key)
    address = f"{name.lower()}@acme.example"
    holder.certificate = issue(*authority(), holder.public_key, f"CN={name},O=Acme", [address])
    return holder


@pytest.fixture
def people() -> Callable[[str], SoftwareSigner]:
    """Somebody by name, whose address is name@acme.example."""
    return person


@pytest.fixture
def root() -> Certificate:
    """The CA above everybody here."""
    return authority()[1]


@pytest.fixture
def signed() -> Callable[..., SignedData]:
    """A message with some signed attributes, read: by Alice unless told."""

    def sign(*attributes: bytes, by: str = "Alice", content: bytes = CONTENT, **options: Any) -> SignedData:
        output = io.BytesIO()
        sign_attached(
            io.BytesIO(content), [person(by)], output, SigningOptions(signed_attributes=attributes, **options)
        )
        return read_signed_data(io.BytesIO(output.getvalue()))

    return sign
