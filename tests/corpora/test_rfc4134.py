"""RFC 4134, the examples of S/MIME version 3: all 19 are read, old algorithms with the legacy switch only."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.serialization import load_der_private_key

from tokensign.certificates import Certificate
from tokensign.cms.certificates_only import read_certificates_only
from tokensign.cms.content_info import DATA
from tokensign.cms.decrypt import decrypt
from tokensign.cms.digested import verify_digested_data
from tokensign.cms.encrypt import encrypt
from tokensign.cms.encrypted import decrypt_with_key
from tokensign.cms.layers import open_layers, walk_layers
from tokensign.cms.signed_data import read_signed_data
from tokensign.cms.verify import verify_signatures
from tokensign.errors import BadSignatureError, LegacyAlgorithmError, MessageError, UnsupportedError
from tokensign.smime.unwrap import open_message

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from tokensign.cms.verify import SignerResult
    from tokensign.token import TokenKey

SCHEMES = {  # of the signatures of each example of section 4
    "4.1.bin": ["dsa with sha1"],
    "4.2.bin": ["rsa-pkcs1 with sha1"],
    "4.3.bin": ["dsa with sha1"],
    "4.4.bin": ["dsa with sha1"],
    "4.5.bin": ["rsa-pkcs1 with sha1"],
    "4.6.bin": ["dsa with sha1", "dsa with sha1"],
    "4.7.bin": ["dsa with sha1"],
    "4.8.eml": ["dsa with sha1"],
    "4.9.eml": ["dsa with sha1"],
    "4.10.bin": ["dsa with sha1"],
}
DETACHED = "4.3.bin"
INHERITING = "4.6.bin"  # Diane's DSA key has the parameters of Carl's
PLAIN = ["3.1.bin", "3.2.bin", "4.11.bin"]  # data and certificates, which no algorithm protects
ENVELOPED = ["5.1.bin", "5.2.bin", "5.3.eml"]  # 5.2 has a second recipient, whose key is wrapped with RC2
DIGESTED = "6.0.bin"
ENCRYPTED = ["7.1.bin", "7.2.bin"]  # 7.2 has unprotected attributes
KEY = bytes.fromhex("737c791f25ead0e04629254352f7dc6291e5cb26917ada32")  # section 7.1


@pytest.fixture
def content(corpora: Callable[[str], Path]) -> bytes:
    return corpora("rfc4134/ExContent.bin").read_bytes()


@pytest.fixture
def carl(corpora: Callable[[str], Path]) -> Certificate:
    return Certificate(corpora("rfc4134/CarlDSSSelf.cer").read_bytes())


@pytest.fixture
def others(corpora: Callable[[str], Path]) -> list[Certificate]:
    names = ("AliceDSSSignByCarlNoInherit", "AliceRSASignByCarl", "DianeDSSSignByCarlInherit")
    return [Certificate(corpora(f"rfc4134/{name}.cer").read_bytes()) for name in names]


@pytest.fixture
def bob(corpora: Callable[[str], Path], import_key: Callable[..., TokenKey]) -> TokenKey:
    """Bob, to whom those of section 5 are encrypted."""
    key: Any = load_der_private_key(corpora("rfc4134/BobPrivRSAEncrypt.pri").read_bytes(), None)
    return import_key(key, Certificate(corpora("rfc4134/BobRSASignByCarl.cer").read_bytes()))


@pytest.fixture
def check(corpora: Callable[[str], Path], content: bytes) -> Callable[..., tuple[SignerResult, ...]]:
    """What is found about the signatures of an example, of which the content can be changed."""

    def verify(
        name: str,
        certificates: Iterable[Certificate],
        *,
        legacy: bool,
        changed: bool = False,
        copy: Callable[[bytes], object] | None = None,
    ) -> tuple[SignerResult, ...]:
        def maybe_changed(octets: bytes) -> bytes:
            return octets.replace(b"sample content", b"other content!") if changed else octets

        with corpora(f"rfc4134/{name}").open("rb") as file, open_message(file) as opened:
            signed = opened.content.read() if opened.content else content
            message = read_signed_data(io.BytesIO(maybe_changed(opened.cms.read())))
            pieces: Iterable[bytes] = [maybe_changed(signed)]
            if message.content is not None:
                pieces = message.content.chunks()
            assert (message.content is None) == (name == DETACHED or opened.content is not None)
        return verify_signatures(message, pieces, certificates=list(certificates), legacy=legacy, copy=copy)

    return verify


@pytest.fixture
def read(
    corpora: Callable[[str], Path],
    check: Callable[..., tuple[SignerResult, ...]],
    bob: TokenKey,
    others: Sequence[Certificate],
    carl: Certificate,
) -> Callable[..., bytes]:
    """The content of an example, by whatever its kind asks for."""

    def contents(name: str, *, legacy: bool) -> bytes:
        output = io.BytesIO()
        if name in SCHEMES:
            for result in check(name, [*others, carl], legacy=legacy, copy=output.write):
                if result.error:
                    raise result.error
            return output.getvalue()
        with corpora(f"rfc4134/{name}").open("rb") as file, open_message(file) as opened:
            if name == "4.11.bin":
                return b"".join(
                    one.subject.encode() for one in read_certificates_only(opened.cms).certificates
                )
            if name in PLAIN:
                open_layers(opened.cms, [], output, legacy=legacy)
            elif name in ENVELOPED:
                decrypt(opened.cms, [bob], output, legacy=legacy)
            elif name == DIGESTED:
                verify_digested_data(opened.cms, output, legacy=legacy)
            else:
                decrypt_with_key(opened.cms, KEY, output, legacy=legacy)
        return output.getvalue()

    return contents


def test_all_19_examples_are_read_with_the_legacy_switch_only(
    corpora: Callable[[str], Path],
    read: Callable[..., bytes],
    content: bytes,
    tally: Any,  # noqa: ANN401
) -> None:
    mail = b"\r\n" + content  # of 4.8 and 4.9: an entity without header fields
    expected = dict.fromkeys((*PLAIN, *SCHEMES, *ENVELOPED, DIGESTED, *ENCRYPTED), content)
    expected |= {"4.8.eml": mail, "4.9.eml": mail, "4.11.bin": b"CN=CarlDSSCN=AliceDSS"}
    assert {path.name for path in corpora("rfc4134").glob("[3-7].*")} == set(expected)
    for name, octets in expected.items():
        tally.check(name, read(name, legacy=True), octets)
        if name in PLAIN:
            assert read(name, legacy=False) == octets
        else:
            with pytest.raises(LegacyAlgorithmError):
                read(name, legacy=False)
    assert tally.passed == 19


@pytest.mark.parametrize("name", SCHEMES)
def test_changed_content_is_noticed_in_each_signed_example(
    name: str,
    check: Callable[..., tuple[SignerResult, ...]],
    others: list[Certificate],
    carl: Certificate,
) -> None:
    results = check(name, [*others, carl], legacy=True)
    assert [str(result.scheme) for result in results] == SCHEMES[name]
    for result in check(name, [*others, carl], legacy=True, changed=True):
        assert isinstance(result.error, BadSignatureError)


def test_the_countersignature_of_4_4_holds(
    check: Callable[..., tuple[SignerResult, ...]], others: list[Certificate]
) -> None:
    (result,) = check("4.4.bin", others, legacy=True)
    (countersigner,) = result.countersignatures
    assert countersigner.error is None
    assert str(countersigner.scheme) == "rsa-pkcs1 with sha1"
    assert countersigner.certificate is not None
    assert countersigner.certificate.subject == "CN=AliceRSA"
    assert countersigner.signing_time is not None


def test_dsa_parameters_are_inherited_from_a_certificate_that_the_caller_gives(
    check: Callable[..., tuple[SignerResult, ...]], others: list[Certificate], carl: Certificate
) -> None:
    """RFC 3279 section 2.3.2. Whoever chooses the parameters can forge, so the message's own do not count."""
    alice, diane = check(INHERITING, others, legacy=True)
    assert alice.error is None
    assert isinstance(diane.error, MessageError)
    assert "issuer's parameters" in str(diane.error)
    assert "CN=CarlDSS" in str(diane.error.hint)
    assert [result.error for result in check(INHERITING, [carl], legacy=True)] == [None, None]


def test_the_revocation_list_of_4_11_is_read(corpora: Callable[[str], Path]) -> None:
    with corpora("rfc4134/4.11.bin").open("rb") as stream:
        message = read_certificates_only(stream)
    assert message.crls == (corpora("rfc4134/CarlDSSCRLForAll.crl").read_bytes(),)


@pytest.mark.parametrize("name", ["3.1.bin", "3.2.bin"])
def test_plain_data_is_one_layer(name: str, corpora: Callable[[str], Path]) -> None:
    with corpora(f"rfc4134/{name}").open("rb") as stream:
        assert [layer.kind for layer in walk_layers(stream)] == [DATA]


def test_keys_of_the_examples_are_short_and_never_encrypted_to(corpora: Callable[[str], Path]) -> None:
    bob = Certificate(corpora("rfc4134/BobRSASignByCarl.cer").read_bytes())
    with pytest.raises(UnsupportedError, match="1024 bits"):
        encrypt(io.BytesIO(b"x"), [bob], io.BytesIO())
