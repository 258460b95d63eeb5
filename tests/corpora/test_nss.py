"""NSS interop: EnvelopedData that OpenSSL made for Fran, whose key is on the token."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, pkcs12

from tokensign.certificates import Certificate
from tokensign.cms.decrypt import decrypt
from tokensign.cms.envelope import read_envelope
from tokensign.errors import NoRecipientError, UnsupportedError
from tokensign.smime.unwrap import open_message

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tokensign.token import TokenKey

TEXT = b"This is a test message to Fran.\n"


@pytest.fixture(scope="module")
def fran(corpora: Callable[[str], Any], import_key: Callable[..., TokenKey]) -> TokenKey:
    bundle = pkcs12.load_pkcs12(corpora("nss/Fran.p12").read_bytes(), b"nss")
    assert bundle.cert is not None
    return import_key(bundle.key, Certificate(bundle.cert.certificate.public_bytes(Encoding.DER)))


def test_each_message_to_fran_is_decrypted_on_the_token(
    fran: TokenKey,
    files_of: Callable[..., Sequence[Any]],
    tally: Any,  # noqa: ANN401
) -> None:
    for path in files_of("nss", "*.env"):
        with path.open("rb") as file, open_message(file) as opened:
            if path.name.startswith("fran-ec"):
                with pytest.raises(NoRecipientError, match="no key here"):
                    decrypt(opened.cms, [fran], io.BytesIO())
                tally.skip("key agreement: a later issue")
                continue
            output = io.BytesIO()
            if path.name == "fran-oaep_ossl.env":
                with pytest.raises(UnsupportedError, match=r"content encryption 1\.2\.840\.113549\.3\.7"):
                    decrypt(opened.cms, [fran], output)
                tally.skip("3DES: a later issue")
                continue
            decrypt(opened.cms, [fran], output)
            tally.check(path.name, output.getvalue().replace(b"\r\n", b"\n"), TEXT)
    assert tally.passed == 11
    assert tally.skips.total() == 6


def test_the_parameters_are_those_that_the_names_tell(
    files_of: Callable[..., Sequence[Any]],
    tally: Any,  # noqa: ANN401
) -> None:
    """Where only the hash is named, OpenSSL takes it for MGF1 too."""
    for path in files_of("nss", "fran-oaep*_ossl.env"):
        if path.name == "fran-oaep_ossl.env":
            tally.skip("3DES: a later issue")
            continue
        with path.open("rb") as file, open_message(file) as opened:
            transport: Any = read_envelope(opened.cms).recipients[0].transport  # type: ignore[union-attr]
        named_hash = re.search(r"(sha\d+)hash", path.name)
        named_mgf = re.search(r"(sha\d+)mgf", path.name)
        digest = named_hash[1] if named_hash else "sha1"
        expected = (digest, named_mgf[1] if named_mgf else digest, "label" in path.name)
        found = (transport.digest.name, transport.mgf_digest.name, bool(transport.label))
        tally.check(path.name, found, expected)
