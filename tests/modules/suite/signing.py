"""Signatures of every scheme. Each is verified by cryptography, those in CMS by tokensign and OpenSSL."""

from __future__ import annotations

import io
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, padding

from tests.modules.suite.bench import MESSAGE, Bench
from tests.modules.suite.cells import CannotDoError, Case
from tests.modules.suite.direct import signing_answer
from tokensign.algorithms import DIGESTS, KeyUsage, Strength, default_scheme, signature_scheme
from tokensign.cms.signed import sign_attached
from tokensign.cms.signer_info import SigningOptions
from tokensign.errors import MechanismError
from tokensign.pki.ca import self_signed
from tokensign.token import open_key
from tokensign.verification import Expectations, verify

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tokensign.algorithms import SignatureFamily, SignatureScheme
    from tokensign.token import TokenKey

__all__ = ["PURE", "cases", "cms_cases", "verify_signature"]

TABLE: Final = "Signatures"
CMS_TABLE: Final = "CMS signatures"
RSA: Final = "rsa:2048"
CURVES: Final = ("ec:p256", "ec:p384", "ec:p521")
PURE: Final = ("ed25519", "ed448", "ml-dsa-44", "ml-dsa-65", "ml-dsa-87")
_STRONG: Final = [digest for digest in DIGESTS.values() if digest.strength is Strength.STRONG]


def cases(bench: Bench) -> Iterator[Case]:
    """Every scheme with the keys that it has."""
    for spec, families in ((RSA, ("rsa-pkcs1", "rsa-pss")), *((curve, ("ecdsa",)) for curve in CURVES)):
        for family in families:
            for digest in _STRONG:
                scheme = signature_scheme(family, digest)
                name = f"{scheme}, {spec}" if family == "ecdsa" else str(scheme)
                yield Case(TABLE, name, partial(_sign, bench, spec, scheme))
    for spec in PURE:
        yield Case(TABLE, spec, partial(_sign, bench, spec))


def cms_cases(bench: Bench) -> Iterator[Case]:
    """A message of CMS with a key of each type."""
    families: tuple[SignatureFamily, ...] = ("rsa-pkcs1", "rsa-pss")
    for family in families:
        yield Case(CMS_TABLE, family, partial(_sign_message, bench, RSA, family))
    for spec in (*CURVES, *PURE):
        yield Case(CMS_TABLE, spec, partial(_sign_message, bench, spec, None))


def _sign(bench: Bench, spec: str, scheme: SignatureScheme | None = None) -> None:
    key = bench.key(spec, KeyUsage.SIGN)
    chosen = scheme or default_scheme(key.public_key)
    signature = _signature(key, chosen)
    verify_signature(key.public_key, signature, MESSAGE, chosen)
    try:
        verify_signature(key.public_key, signature, MESSAGE + b"!", chosen)
    except InvalidSignature:
        return
    raise AssertionError("the signature is also that of another message")


def _signature(key: TokenKey, scheme: SignatureScheme) -> bytes:
    try:
        return key.sign(MESSAGE, scheme)
    except MechanismError:
        raise CannotDoError(signing_answer(key, MESSAGE, scheme)) from None


def verify_signature(public_key: Any, signature: bytes, message: bytes, scheme: SignatureScheme) -> None:  # noqa: ANN401
    """Verify with cryptography alone.

    Raises:
        InvalidSignature: It does not hold.
    """
    match scheme.family:
        case "rsa-pkcs1":
            public_key.verify(signature, message, padding.PKCS1v15(), scheme.digest.primitive())
        case "rsa-pss":
            encoding = padding.PSS(padding.MGF1(scheme.digest.primitive()), scheme.salt_size)
            public_key.verify(signature, message, encoding, scheme.digest.primitive())
        case "ecdsa":
            public_key.verify(signature, message, ec.ECDSA(scheme.digest.primitive()))
        case _:
            public_key.verify(signature, message)


def _sign_message(bench: Bench, spec: str, family: SignatureFamily | None) -> None:
    key = bench.key(spec, KeyUsage.SIGN)
    certificate = self_signed(key, "CN=Alice", ["alice@example.org"])
    signer = open_key(bench.token, key.info, certificate=certificate)
    message = io.BytesIO()
    sign_attached(io.BytesIO(MESSAGE), [signer], message, SigningOptions(family=family))
    content = io.BytesIO()
    verify(io.BytesIO(message.getvalue()), Expectations(trust=None), output=content)
    assert content.getvalue() == MESSAGE
    if spec not in PURE:  # which OpenSSL 3.0 does not know in CMS
        name = (family or spec).replace(":", "-")
        (bench.folder / f"{name}.p7m").write_bytes(message.getvalue())
        (bench.folder / f"{name}.der").write_bytes(certificate.der)
