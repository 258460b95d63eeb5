"""Post-quantum messages of the IETF hackathon (Bouncy Castle, OpenSSL) and of the LAMPS group.

SignedData with ML-DSA (RFC 9882) and SLH-DSA (RFC 9814), and EnvelopedData with ML-KEM (RFC 9936).
"""

from __future__ import annotations

import io
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest
from asn1crypto import pem
from cryptography.hazmat.primitives.asymmetric import mlkem
from pkcs11 import Attribute, KeyType, ObjectClass
from pkcs11.mechanisms import MLKEMParameterSet

from tokensign import der
from tokensign.algorithms import KEMS, Kem, KeySpec
from tokensign.certificates import Certificate, load_certificates
from tokensign.cms.decrypt import decrypt
from tokensign.cms.envelope import read_envelope
from tokensign.cms.recipients import KemRecipientInfo
from tokensign.cms.recipients.key_encapsulation import encode_kem
from tokensign.cms.signed_data import read_signed_data
from tokensign.cms.verify import verify_signatures
from tokensign.errors import BadSignatureError, UnsupportedError
from tokensign.token import TokenKey, delete_key, generate_key, import_certificate

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from tokensign.cms.verify import SignerResult
    from tokensign.token import Token

COUNTS = {  # pure ones, which hold, and prehashed ones, which CMS does not have
    "bc": (15, 15),
    "openssl": (7, 0),
}
ML_KEM_512 = "ml-kem-512-2.16.840.1.101.3.4.4.1"
ML_KEM = {
    "ml-kem-768-2.16.840.1.101.3.4.4.2": (mlkem.MLKEM768PrivateKey, MLKEMParameterSet.ML_KEM_768),
    "ml-kem-1024-2.16.840.1.101.3.4.4.3": (mlkem.MLKEM1024PrivateKey, MLKEMParameterSet.ML_KEM_1024),
}


# --- signed


def signed_artifacts(folder: Path) -> tuple[list[Path], list[Path]]:
    found = sorted(folder.glob("*_signed_attrs.der"))
    prehashed = [path for path in found if "-with-" in path.name]
    return [path for path in found if path not in prehashed], prehashed


def check(encoded: bytes, certificates: Path | None = None) -> SignerResult:
    message = read_signed_data(io.BytesIO(encoded))
    assert message.content is not None
    given = load_certificates(certificates.read_bytes()) if certificates else []
    (result,) = verify_signatures(message, message.content.chunks(), certificates=given)
    return result


@pytest.mark.parametrize("origin", COUNTS)
def test_every_pure_signature_holds_for_its_content_only(
    origin: str,
    corpora: Callable[[str], Path],
    tally: Any,  # noqa: ANN401
) -> None:
    folder = corpora(f"pqc/{origin}")
    plaintext = (folder / "expected_plaintext.txt").read_bytes()
    for path in signed_artifacts(folder)[0]:
        encoded = path.read_bytes()
        result = check(encoded)
        tally.check(path.name, result.error, None)
        assert result.scheme is not None
        assert path.name.startswith(result.scheme.parameter_set + "-2.16")
        assert plaintext[:5] in encoded
        assert isinstance(check(encoded.replace(plaintext[:5], b"other", 1)).error, BadSignatureError)
    assert tally.passed == COUNTS[origin][0]


@pytest.mark.parametrize("origin", COUNTS)
def test_a_changed_signature_does_not_hold(origin: str, corpora: Callable[[str], Path]) -> None:
    for path in signed_artifacts(corpora(f"pqc/{origin}"))[0]:
        encoded = bytearray(path.read_bytes())
        encoded[-100] ^= 1  # the signature is the last field
        assert isinstance(check(bytes(encoded)).error, BadSignatureError), path.name


def test_every_prehashed_signature_is_refused_by_name(
    corpora: Callable[[str], Path],
    tally: Any,  # noqa: ANN401
) -> None:
    """HashML-DSA and HashSLH-DSA: RFC 9882 section 1 and RFC 9814 section 1 take the pure form only."""
    for origin, (_, count) in COUNTS.items():
        _, prehashed = signed_artifacts(corpora(f"pqc/{origin}"))
        assert len(prehashed) == count
        for path in prehashed:
            error = check(path.read_bytes()).error
            assert isinstance(error, UnsupportedError)
            name = "HashML-DSA" if path.name.startswith("ml-dsa") else "HashSLH-DSA"
            tally.check(path.name, (name in str(error), "pure form only" in str(error)), (True, True))


@pytest.mark.parametrize("size", ["44", "65", "87"])
def test_the_examples_of_rfc_9882_hold(
    size: str,
    corpora: Callable[[str], Path],
    tally: Any,  # noqa: ANN401
) -> None:
    _, _, encoded = pem.unarmor(corpora(f"pqc/lamps/mldsa{size}-signed-attrs.pem").read_bytes())
    certificate = corpora(f"pqc/lamps/dilithium-certificates/examples/ML-DSA-{size}.crt")
    result = check(encoded, certificate)
    tally.check(size, (result.error, str(result.scheme)), (None, f"ml-dsa-{size} with sha512"))


# --- encrypted


@dataclass(frozen=True)
class HostKey:
    """An ML-KEM key in memory."""

    key: Any
    certificates: Sequence[Certificate]

    @property
    def public_key(self) -> Any:  # noqa: ANN401 - of the library's type
        return self.key.public_key()

    @property
    def kem(self) -> Kem:
        return next(
            kem for kem in KEMS.values() if kem.primitive and isinstance(self.public_key, kem.primitive)
        )

    def decapsulate(self, ciphertext: bytes) -> bytes:
        return bytes(self.key.decapsulate(ciphertext))


@dataclass(frozen=True)
class KnownSecret:
    """Somebody with ML-KEM-512, which no library here computes: it knows the secret of one ciphertext."""

    certificates: Sequence[Certificate]
    ciphertext: bytes
    secret: bytes
    kem: Kem = KEMS["ml-kem-512"]
    public_key: None = None

    def decapsulate(self, ciphertext: bytes) -> bytes:
        assert ciphertext == self.ciphertext
        return self.secret


def decrypted(message: bytes, key: Any) -> bytes:  # noqa: ANN401 - any key that decapsulates
    output = io.BytesIO()
    decrypt(io.BytesIO(message), [key], output)
    return output.getvalue()


def private_key(folder: Path, kind: str) -> Any:  # noqa: ANN401 - of any strength
    """The key in a OneAsymmetricKey that has the seed, alone or before the expanded key (RFC 9935)."""
    inner = der.content(der.elements((folder / f"{kind}_priv.der").read_bytes())[2])
    seed = der.elements(inner)[0] if inner[0] == 0x30 else inner
    return ML_KEM[kind][0].from_seed_bytes(der.content(seed))


@pytest.mark.parametrize("kind", ML_KEM)
def test_messages_to_a_key_in_memory_are_read(
    kind: str,
    corpora: Callable[[str], Path],
    tally: Any,  # noqa: ANN401
) -> None:
    folder = corpora("pqc/bc")
    key = HostKey(private_key(folder, kind), [Certificate((folder / f"{kind}_ee.der").read_bytes())])
    expected = (folder / "expected_plaintext.txt").read_bytes()
    for path in sorted(folder.glob(f"{kind}_kemri*.der")):
        tally.check(path.name, decrypted(path.read_bytes(), key), expected)
    assert tally.passed == 4


@pytest.mark.parametrize("kind", ML_KEM)
def test_a_token_opens_the_messages_of_bouncy_castle(
    kind: str,
    nss_token: Token,
    corpora: Callable[[str], Path],
    tally: Any,  # noqa: ANN401
) -> None:
    folder = corpora("pqc/bc")
    import_certificate(nss_token, Certificate((folder / f"{kind}_ee.der").read_bytes()))
    private = private_key(folder, kind)
    with nss_token.borrow("import a test key", change=True) as session:
        imported = session.binding.create_object(
            {
                Attribute.CLASS: ObjectClass.PRIVATE_KEY,
                Attribute.KEY_TYPE: KeyType.ML_KEM,
                Attribute.TOKEN: False,
                Attribute.PRIVATE: True,
                Attribute.SENSITIVE: True,
                Attribute.EXTRACTABLE: False,
                Attribute.DECAPSULATE: True,
                Attribute.LABEL: kind,
                Attribute.ID: kind.encode(),
                Attribute.PARAMETER_SET: ML_KEM[kind][1],
                Attribute.SEED: private.private_bytes_raw(),
            }
        )
    like = generate_key(nss_token, f"like {kind}", KeySpec.parse(kind.rpartition("-")[0]))
    info = replace(like, label=kind, id=kind.encode(), public_key=private.public_key())
    expected = (folder / "expected_plaintext.txt").read_bytes()
    for path in sorted(folder.glob(f"{kind}_kemri*.der")):
        tally.check(path.name, decrypted(path.read_bytes(), TokenKey(nss_token, info)), expected)
    assert tally.passed == 4
    imported.destroy()
    delete_key(nss_token, like)


def test_the_example_of_lamps_is_read(
    corpora: Callable[[str], Path],
    tally: Any,  # noqa: ANN401
) -> None:
    folder = corpora("pqc/lamps/kyber/example")

    def octets(name: str) -> bytes:
        return bytes.fromhex((folder / name).read_text())

    certificates = load_certificates((folder / "ML-KEM-512.pem").read_bytes())
    key = KnownSecret(certificates, octets("ciphertext.txt"), octets("shared_secret.txt"))
    _, _, message = pem.unarmor((folder / "ML-KEM-512.cms").read_bytes())
    tally.check("ML-KEM-512.cms", decrypted(message, key), (folder / "decrypted.txt").read_bytes())
    (recipient,) = read_envelope(io.BytesIO(message)).recipients
    assert recipient.content_key(key) == octets("cek.txt")


def test_messages_to_ml_kem_512_are_read_for_their_structure(
    corpora: Callable[[str], Path],
    tally: Any,  # noqa: ANN401
) -> None:
    """Whoever decapsulates would get the content; no token and no library here does, so it stays closed."""
    folder = corpora("pqc/bc")
    certificate = Certificate((folder / f"{ML_KEM_512}_ee.der").read_bytes())
    messages = sorted(folder.glob(f"{ML_KEM_512}_kemri*.der"))
    assert len(messages) == 4
    for path in messages:
        (recipient,) = read_envelope(io.BytesIO(path.read_bytes())).recipients
        assert isinstance(recipient, KemRecipientInfo)
        assert recipient.identifier.names(certificate)
        assert recipient.kem == KEMS["ml-kem-512"]
        recipient.require_strength(legacy=False)
        tally.skip("decapsulation with ML-KEM-512, which NSS and cryptography do not have")
    with pytest.raises(UnsupportedError, match="cannot be used"):
        encode_kem(certificate, bytes(16))
