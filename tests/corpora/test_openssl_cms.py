"""OpenSSL's regressions: malformed and forged messages give an error and no output, the good ones decrypt."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from tokensign.algorithms import KeyUsage
from tokensign.certificates import load_certificates
from tokensign.cms.decrypt import decrypt
from tokensign.cms.layers import open_layers
from tokensign.cms.recipients.kek_bytes import KeyEncryptionKeyBytes
from tokensign.errors import (
    DecryptionError,
    LegacyAlgorithmError,
    MalformedError,
    NoRecipientError,
    TokensignError,
    UnsupportedError,
    VerificationError,
)
from tokensign.smime.unwrap import open_message
from tokensign.verification import Expectations, verify

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from tokensign.certificates import Certificate
    from tokensign.token import TokenKey

GOOD = {
    "ciphertext_from_1_1_1.cms": b"Somewhat longer test content for OpenSSL CMS utility to handle,"
    b" and a bit longer...",
    "authenveloped_attrs.pem": b"Hello AuthEnvelopedData world\n",
}
REFUSED: dict[str, tuple[type[TokensignError], str]] = {
    "authenticated_attrs.pem": (MalformedError, "contentType is missing"),  # RFC 5652 section 9.2
    "bad_authenveloped_attrs.pem": (DecryptionError, "cannot be decrypted"),
    "bad_signtime_attr.cms": (VerificationError, "signingTime is not signed, and must be"),
    "ct_multiple_attr.cms": (VerificationError, "1.2.840.113549.1.9.3 occurs twice"),
    "dh-malformed.der": (MalformedError, "lacks its key wrap"),
    "ecdh-malformed.der": (MalformedError, "lacks its key wrap"),
    "no_ct_attr.cms": (VerificationError, "contentType is missing"),
    "no_md_attr.cms": (VerificationError, "messageDigest is missing"),
    "pkcs7-md4.pem": (VerificationError, "digest algorithm 1.2.840.113549.2.4 is not supported"),
    "pkcs7-md4-encrypted.pem": (UnsupportedError, "1.2.840.113549.1.7.4"),  # not in CMS
    "rsa-malformed.der": (MalformedError, "OAEP label is announced and not there"),
}
SMEC3 = 0x6B4DD197ED8ADFCC20C15C89CD2CBE9271A8AC65990461B9A7FFE47B459449BA  # OpenSSL's smime-certs/smec3.pem
SECRET_KEY = KeyEncryptionKeyBytes(bytes.fromhex("c0fee0"), bytes(range(16)))

pytestmark = pytest.mark.filterwarnings(
    "ignore:Diffie-Hellman over finite fields"  # cryptography's advice, of the key of dh-malformed.der
)


@dataclass(frozen=True)
class FiniteFieldKey:
    """A Diffie-Hellman key in memory, of a kind that is not used on tokens here."""

    key: Any
    certificates: Sequence[Certificate]

    @property
    def public_key(self) -> Any:  # noqa: ANN401 - of the library's type
        return self.key.public_key()

    def agree(self, peer: Any) -> bytes:  # noqa: ANN401 - as above
        return bytes(self.key.exchange(peer))


@pytest.fixture(scope="module")
def keys(
    corpora: Callable[[str], Path],
    import_key: Callable[..., TokenKey],
    token_key: Callable[..., TokenKey],
) -> list[Any]:
    """Those of the messages, as far as they were published, and an RSA key that may be anybody's."""

    def load(name: str) -> tuple[Any, list[Certificate]]:
        folder = corpora("openssl-cms")
        return (
            load_pem_private_key((folder / f"{name}-key.pem").read_bytes(), None),
            load_certificates((folder / f"{name}-cert.pem").read_bytes()),
        )

    key, certificates = load("ecdh")
    smec3 = import_key(ec.derive_private_key(SMEC3, ec.SECP256R1()))
    anybody = token_key("rsa:2048", KeyUsage.BOTH)
    return [smec3, import_key(key, *certificates), FiniteFieldKey(*load("dh")), SECRET_KEY, anybody]


def outcome_of(path: Path, keys: list[Any], output: io.BytesIO) -> TokensignError | None:
    """Why a message cannot be opened, or verified where it is signed."""
    with path.open("rb") as file, open_message(file) as opened:
        try:
            if path.name.endswith("attr.cms") or path.name == "pkcs7-md4.pem":
                verify(opened.cms, Expectations(trust=None, legacy=True), output=output)
            else:
                open_layers(opened.cms, keys, output, legacy=True)
        except TokensignError as error:
            return error
    return None


def test_bad_messages_are_refused_with_no_output_and_good_ones_open(
    files_of: Callable[..., Sequence[Path]],
    keys: list[Any],
    tally: Any,  # noqa: ANN401
) -> None:
    seen = set()
    for path in files_of("openssl-cms"):
        if path.name.endswith(("-cert.pem", "-key.pem")):
            continue  # certificates and keys of the messages
        seen.add(path.name)
        output = io.BytesIO()
        error = outcome_of(path, keys, output)
        if path.name in GOOD:
            tally.check(path.name, (error, output.getvalue()), (None, GOOD[path.name]))
            continue
        kind, words = REFUSED[path.name]
        told = str(error)
        if isinstance(error, VerificationError):
            told = error.report.signers[0].integrity.reason
        tally.check(path.name, (isinstance(error, kind), words in told, output.getvalue()), (True, True, b""))
    assert seen == {*GOOD, *REFUSED}


def test_the_message_of_openssl_1_1_1_is_old_and_for_one_key(
    corpora: Callable[[str], Path], keys: list[Any]
) -> None:
    smec3, ecdh, *_ = keys
    for key, legacy, error in (
        (smec3, False, LegacyAlgorithmError),
        (ecdh, True, NoRecipientError),
    ):
        output = io.BytesIO()
        with (
            corpora("openssl-cms/ciphertext_from_1_1_1.cms").open("rb") as file,
            open_message(file) as opened,
            pytest.raises(error),
        ):
            decrypt(opened.cms, [key], output, legacy=legacy)
        assert output.getvalue() == b""
