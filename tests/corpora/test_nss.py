"""NSS interop: EnvelopedData that OpenSSL made for Fran, whose keys are on the token."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, pkcs12

from tokensign.certificates import Certificate
from tokensign.cms.decrypt import decrypt
from tokensign.cms.envelope import read_envelope
from tokensign.errors import LegacyAlgorithmError
from tokensign.smime.unwrap import open_message

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tokensign.token import TokenKey

TEXT = b"This is a test message to Fran.\n"
COUNT = 17  # 12 with OAEP, 5 with key agreement
LEGACY = "fran-oaep_ossl.env"  # its content is encrypted with 3DES


@pytest.fixture(scope="module")
def fran(corpora: Callable[[str], Any], import_key: Callable[..., TokenKey]) -> list[TokenKey]:
    """Fran's RSA key and her key on P-384."""

    def load(name: str) -> TokenKey:
        bundle = pkcs12.load_pkcs12(corpora(f"nss/{name}").read_bytes(), b"nss")
        assert bundle.cert is not None
        return import_key(bundle.key, Certificate(bundle.cert.certificate.public_bytes(Encoding.DER)))

    return [load("Fran.p12"), load("Fran-ec.p12")]


def test_each_message_to_fran_is_decrypted_on_the_token(
    fran: list[TokenKey],
    files_of: Callable[..., Sequence[Any]],
    tally: Any,  # noqa: ANN401
) -> None:
    for path in files_of("nss", "*.env"):
        output = io.BytesIO()
        with path.open("rb") as file, open_message(file) as opened:
            decrypt(opened.cms, fran, output, legacy=path.name == LEGACY)
        tally.check(path.name, output.getvalue().replace(b"\r\n", b"\n"), TEXT)
    assert tally.passed == COUNT


def test_3des_asks_for_the_legacy_switch(corpora: Callable[[str], Any], fran: list[TokenKey]) -> None:
    output = io.BytesIO()
    with (
        corpora(f"nss/{LEGACY}").open("rb") as file,
        open_message(file) as opened,
        pytest.raises(LegacyAlgorithmError, match="des-ede3-cbc is no longer secure"),
    ):
        decrypt(opened.cms, fran, output)
    assert output.getvalue() == b""


def test_the_parameters_are_those_that_the_names_tell(
    files_of: Callable[..., Sequence[Any]],
    tally: Any,  # noqa: ANN401
) -> None:
    """Where only the hash is named, OpenSSL takes it for MGF1 too."""
    for path in files_of("nss", "fran-oaep*_ossl*.env"):
        with path.open("rb") as file, open_message(file) as opened:
            transport: Any = read_envelope(opened.cms).recipients[0].transport  # type: ignore[attr-defined]
        named_hash = re.search(r"(sha\d+)hash", path.name)
        named_mgf = re.search(r"(sha\d+)mgf", path.name)
        digest = named_hash[1] if named_hash else "sha1"
        expected = (digest, named_mgf[1] if named_mgf else digest, "label" in path.name)
        found = (transport.digest.name, transport.mgf_digest.name, bool(transport.label))
        tally.check(path.name, found, expected)
    assert tally.passed == COUNT - 5
