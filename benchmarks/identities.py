"""A throw-away SoftHSM token with certified keys."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from tokensign.algorithms import KeySpec, KeyUsage
from tokensign.certificates import Certificate
from tokensign.distinguished_names import subject_name
from tokensign.pki.ca import issue, root_certificate, self_signed
from tokensign.pki.extensions import authority, subject_key_identifier
from tokensign.pki.signer_key import signer_key, signing_hash
from tokensign.token import (
    Pin,
    generate_key,
    import_certificate,
    initialize_token,
    load_module,
    open_key,
    open_token,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tokensign.token import Token, TokenKey

__all__ = ["LABEL", "USER_PIN", "certified_key", "chained_key", "throwaway_token"]

LABEL = "bench"
USER_PIN = "1234-bench"


@contextlib.contextmanager
def throwaway_token() -> Iterator[Token]:
    """A fresh SoftHSM token, open for reading and writing; it is gone afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        tokens = Path(folder) / "tokens"
        tokens.mkdir()
        configuration = Path(folder) / "softhsm2.conf"
        configuration.write_text(
            f"directories.tokendir = {tokens}\nobjectstore.backend = file\nlog.level = ERROR\n"
        )
        os.environ["SOFTHSM2_CONF"] = str(configuration)
        module = load_module()
        initialize_token(module, LABEL, Pin("5678-officer"), Pin(USER_PIN))
        with open_token(module, LABEL, Pin(USER_PIN), read_write=True) as token:
            yield token


def certified_key(token: Token, spec: str, emails: Sequence[str] = ("bench@acme.example",)) -> TokenKey:
    """A new key with a self-signed certificate on the token."""
    usage = KeyUsage.BOTH if spec.startswith("rsa") else KeyUsage.SIGN
    info = generate_key(token, spec, KeySpec.parse(spec), usage)
    name = f"CN={spec.replace(':', '-')},O=Acme"
    import_certificate(token, self_signed(open_key(token, info), name, emails, usage=usage))
    return open_key(token, info)


def chained_key(
    token: Token, spec: str, email: str = "bench@acme.example"
) -> tuple[TokenKey, tuple[Certificate, Certificate]]:
    """A new key with a certificate two steps below a root; with it the intermediate and the root."""

    def key(label: str, usage: KeyUsage = KeyUsage.SIGN) -> TokenKey:
        return open_key(token, generate_key(token, f"{label}-{spec}", KeySpec.parse(spec), usage))

    top, middle, person = key("root"), key("intermediate"), key("person")
    root = root_certificate(top, "CN=Acme Root,O=Acme,C=CH")
    intermediate = subordinate_certificate(top, root, middle, "CN=Acme CA,O=Acme,C=CH")
    import_certificate(token, issue(middle, intermediate, person.public_key, "CN=Bench,O=Acme,C=CH", [email]))
    return open_key(token, person.info), (intermediate, root)


def subordinate_certificate(
    ca: TokenKey, ca_certificate: Certificate, subordinate: TokenKey, subject: str
) -> Certificate:
    """The certificate of a CA below another one."""
    issuer = x509.load_der_x509_certificate(ca_certificate.der)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject_name(subject))
        .issuer_name(issuer.subject)
        .public_key(subordinate.public_key)  # type: ignore[arg-type]  # RSA or an elliptic curve
        .serial_number(x509.random_serial_number())
        .not_valid_before(ca_certificate.not_before)
        .not_valid_after(ca_certificate.not_after)
        .add_extension(subject_key_identifier(subordinate.public_key), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(ca.public_key),  # type: ignore[arg-type]  # as above
            critical=False,
        )
    )
    for extension, critical in authority(0):
        made = made.add_extension(extension, critical=critical)
    return Certificate(made.sign(signer_key(ca), signing_hash(ca.public_key)).public_bytes(Encoding.DER))
