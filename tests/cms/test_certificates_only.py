from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import pytest

from tokensign import der
from tokensign.cms.certificates_only import read_certificates_only, write_certificates_only
from tokensign.cms.signed import add_signatures, sign_attached, sign_detached
from tokensign.cms.signed_data import OCSP_RESPONSE, read_signed_data
from tokensign.cms.signed_data_parts import SignedDataParts
from tokensign.cms.verify import verify_signatures
from tokensign.errors import MalformedError, UnsupportedError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tokensign.certificates import Certificate

CONTENT = b"some content"
OCSP = der.sequence(der.tlv(0x0A, b"\x06"))  # OCSPResponse: unauthorized


@pytest.fixture
def crl(corpora: Callable[[str], Path]) -> bytes:
    return corpora("rfc4134/CarlRSACRLForAll.crl").read_bytes()


def other_revocation(kind: str, value: bytes) -> bytes:
    """RevocationInfoChoice other."""
    return der.constructed(0xA1, der.object_identifier(kind), value)


def with_revocation(message: bytes, *choices: bytes) -> bytes:
    signed = read_signed_data(io.BytesIO(message))
    return SignedDataParts(
        digest_algorithms=signed.digest_algorithms,
        content_type=signed.content_type,
        certificates=signed.certificate_choices,
        revocation_choices=choices,
        signer_infos=[info.encoded for info in signed.signer_infos],
    ).detached()


# --- certificates-only


def test_certificates_and_crls_go_in_and_come_out(
    software: Callable[..., Any], root: Certificate, crl: bytes, openssl: Callable[..., bytes]
) -> None:
    certificates = [software().certificate, root, root]
    encoded = write_certificates_only(certificates, [crl, crl])
    message = read_certificates_only(io.BytesIO(encoded))
    assert sorted(one.der for one in message.certificates) == sorted({one.der for one in certificates})
    assert message.crls == (crl,)
    printed = openssl("pkcs7", "-inform", "DER", "-print_certs", feed=encoded)
    assert printed.count(b"BEGIN CERTIFICATE") == 2
    assert printed.count(b"BEGIN X509 CRL") == 1


def test_it_is_der_of_version_1(software: Callable[..., Any], parse: Callable[[bytes], Any]) -> None:
    """RFC 8551 section 3.8: no content, no digestAlgorithms, no signerInfos."""
    parsed = parse(write_certificates_only([software().certificate]))
    assert parsed["version"].native == "v1"
    assert parsed["encap_content_info"].native == {"content_type": "data", "content": None}
    assert not len(parsed["digest_algorithms"])
    assert not len(parsed["signer_infos"])
    assert parsed.copy().dump(force=True) == parsed.dump()


def test_crls_alone_are_enough(crl: bytes) -> None:
    message = read_certificates_only(io.BytesIO(write_certificates_only([], [crl])))
    assert (message.certificates, message.crls) == ((), (crl,))


def test_what_openssl_writes_is_read(
    software: Callable[..., Any], openssl: Callable[..., bytes], tmp_path: Path
) -> None:
    path = tmp_path / "cert.pem"
    path.write_text(software().certificate.pem())
    encoded = openssl("crl2pkcs7", "-nocrl", "-certfile", path, "-outform", "DER")
    assert read_certificates_only(io.BytesIO(encoded)).certificates == (software().certificate,)


def test_a_message_with_nothing_is_not_written() -> None:
    with pytest.raises(UsageError, match="needs a certificate or a CRL"):
        write_certificates_only([])


@pytest.mark.parametrize("encoded", [b"", b"\x30\x00", b"\x04\x01x"])
def test_what_is_no_crl_is_not_written(encoded: bytes, software: Callable[..., Any]) -> None:
    with pytest.raises(MalformedError, match="CertificateList"):
        write_certificates_only([software().certificate], [encoded])


def test_a_signed_message_is_not_certificates_only(software: Callable[..., Any]) -> None:
    with pytest.raises(UnsupportedError, match="is a signed message"):
        read_certificates_only(io.BytesIO(sign_detached(io.BytesIO(CONTENT), [software()])))


# --- revocation information in signed messages


def test_crls_and_ocsp_responses_are_told_apart_and_kept(
    software: Callable[..., Any], crl: bytes, parse: Callable[[bytes], Any]
) -> None:
    """RFC 5652 section 10.2.1 and RFC 5940 section 2.1."""
    choices = (crl, other_revocation(OCSP_RESPONSE, OCSP), other_revocation("1.2.3.4", der.NULL))
    encoded = with_revocation(sign_detached(io.BytesIO(CONTENT), [software()]), *choices)
    assert parse(encoded)["version"].native == "v5"
    output = io.BytesIO()
    add_signatures(
        read_signed_data(io.BytesIO(encoded)), [software("ed25519")], output, content=io.BytesIO(CONTENT)
    )
    for message in map(read_signed_data, (io.BytesIO(encoded), io.BytesIO(output.getvalue()))):
        assert message.crls == (crl,)
        assert message.ocsp_responses == (OCSP,)
        assert sorted(message.revocation_choices) == sorted(choices)
        results = verify_signatures(message, [CONTENT])
        assert [result.error for result in results] == [None] * len(results)


@pytest.mark.parametrize("choice", [b"\xa1\x00", der.constructed(0xA1, der.object_identifier(OCSP_RESPONSE))])
def test_a_broken_choice_has_no_ocsp_response(choice: bytes, software: Callable[..., Any]) -> None:
    encoded = with_revocation(sign_detached(io.BytesIO(CONTENT), [software()]), choice)
    assert read_signed_data(io.BytesIO(encoded)).ocsp_responses == ()


def test_crls_survive_when_content_is_attached(software: Callable[..., Any], crl: bytes) -> None:
    output = io.BytesIO()
    sign_attached(io.BytesIO(CONTENT), [software()], output)
    message = read_signed_data(io.BytesIO(output.getvalue()))
    parts = SignedDataParts(
        digest_algorithms=message.digest_algorithms,
        content_type=message.content_type,
        certificates=message.certificate_choices,
        revocation_choices=[crl],
        signer_infos=[info.encoded for info in message.signer_infos],
    )
    rewritten = io.BytesIO()
    parts.write(rewritten, iter([CONTENT]), len(CONTENT))
    again = io.BytesIO()
    add_signatures(read_signed_data(io.BytesIO(rewritten.getvalue())), [software("ed25519")], again)
    assert read_signed_data(io.BytesIO(again.getvalue())).crls == (crl,)
