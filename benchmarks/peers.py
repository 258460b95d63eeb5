"""How the peers sign with a key on a token, and verify, as their manuals say."""

from __future__ import annotations

import asyncio
import functools
import hashlib
import io
from typing import TYPE_CHECKING, Any

from asn1crypto import cms, x509
from pkcs11 import Mechanism
from pkcs11.constants import Attribute, ObjectClass

from benchmarks.rounds import Contender

if TYPE_CHECKING:
    from collections.abc import Callable

    from tokensign.certificates import Certificate
    from tokensign.token import TokenKey

__all__ = ["endesive", "pyhanko", "pyhanko_verifier", "raw", "raw_with_hash"]


def pyhanko(session: Any, key: TokenKey, content: bytes) -> Contender:  # noqa: ANN401 - of the binding
    """PyHanko's PKCS11Signer with its defaults."""
    from pyhanko.sign.pkcs11 import PKCS11Signer  # noqa: PLC0415 - not everybody has it

    certificate = x509.Certificate.load(_certificate(key))
    signer = PKCS11Signer(
        session, signing_cert=certificate, key_label=key.info.label, use_raw_mechanism=_is_ec(key)
    )

    async def sign(count: int) -> None:
        for _ in range(count):
            (await signer.async_sign_general_data(io.BytesIO(content), "sha256", detached=True)).dump()

    return Contender("pyHanko", lambda count: asyncio.run(sign(count)))


def pyhanko_verifier(message: bytes, content: bytes, root: Certificate) -> Contender:
    """PyHanko verifies a detached signature, with a fresh validation context, which gathers certificates."""
    from pyhanko.sign.validation import (  # noqa: PLC0415 - not everybody has it
        KeyUsageConstraints,
        async_validate_detached_cms,
    )
    from pyhanko_certvalidator import ValidationContext  # noqa: PLC0415 - as above

    anchor = x509.Certificate.load(root.der)
    usage = KeyUsageConstraints(key_usage={"digital_signature"})  # S/MIME does without nonRepudiation

    async def verify(count: int) -> None:
        for _ in range(count):
            status = await async_validate_detached_cms(
                content,
                cms.ContentInfo.load(message)["content"],
                signer_validation_context=ValidationContext(trust_roots=[anchor]),
                key_usage_settings=usage,
            )
            if not status.bottom_line:
                raise ValueError(status.summary())

    return Contender("pyHanko", lambda count: asyncio.run(verify(count)))


def endesive(session: Any, key: TokenKey, content: bytes) -> Contender:  # noqa: ANN401 - of the binding
    """Endesive's signer with an HSM object on the same session."""
    from endesive import signer  # noqa: PLC0415 - as above

    private_key = next(
        iter(session.get_objects({Attribute.CLASS: ObjectClass.PRIVATE_KEY, Attribute.LABEL: key.info.label}))
    )
    certificate = _certificate(key)

    class Hsm:
        def certificate(self) -> tuple[bytes, bytes]:
            return b"", certificate

        def sign(self, _key: bytes, data: bytes, _digest: str) -> bytes:
            found: bytes = private_key.sign(data, mechanism=Mechanism.SHA256_RSA_PKCS)
            return found

    def repeat(count: int) -> None:
        for _ in range(count):
            signer.sign(content, None, None, [], "sha256", hsm=Hsm())

    return Contender("endesive", repeat)


def raw(session: Any, key: TokenKey, digest: bytes) -> Contender:  # noqa: ANN401 - of the binding
    """The loop that nobody can be faster than: python-pkcs11 signs one hash value again and again."""
    sign = _raw_operation(session, key)

    def repeat(count: int) -> None:
        for _ in range(count):
            sign(digest)

    return Contender("raw token loop (python-pkcs11)", repeat)


def raw_with_hash(session: Any, key: TokenKey, content: bytes) -> Contender:  # noqa: ANN401 - of the binding
    """The same, with the content hashed each time, as whoever signs content must."""
    sign = _raw_operation(session, key)

    def repeat(count: int) -> None:
        for _ in range(count):
            sign(hashlib.sha256(content).digest())

    return Contender("raw token loop that hashes the content", repeat)


def _raw_operation(session: Any, key: TokenKey) -> Callable[[bytes], bytes]:  # noqa: ANN401 - of the binding
    private_key = next(
        iter(session.get_objects({Attribute.CLASS: ObjectClass.PRIVATE_KEY, Attribute.LABEL: key.info.label}))
    )
    if _is_ec(key):
        return functools.partial(private_key.sign, mechanism=Mechanism.ECDSA)
    head = bytes.fromhex("3031300d060960864801650304020105000420")  # DigestInfo of SHA-256
    return lambda digest: private_key.sign(head + digest, mechanism=Mechanism.RSA_PKCS)


def _is_ec(key: TokenKey) -> bool:
    return key.info.spec.startswith("ec:")


def _certificate(key: TokenKey) -> bytes:
    if key.certificate is None:
        raise ValueError("the key has no certificate")
    return key.certificate.der
