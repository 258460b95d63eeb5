from __future__ import annotations

import io
import random
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pytest

from tokensign import der
from tokensign.algorithms import DIGESTS
from tokensign.cms.signed import SigningOptions, add_signatures, schemes_of, sign_attached, sign_detached
from tokensign.cms.signed_data import read_signed_data
from tokensign.cms.verify import verify_signatures
from tokensign.errors import FileError, SigningError, UnsupportedError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from tokensign.certificates import Certificate
    from tokensign.cms.verify import SignerResult
    from tokensign.keys import Signer
    from tokensign.token import TokenKey

CONTENT = b"Pay 100 to Bob.\n" * 1000
SCHEMES = [  # what SoftHSM signs: a key, a family, a digest
    ("rsa:2048", None, None),
    ("rsa:2048", "rsa-pkcs1", "sha384"),
    ("rsa:2048", "rsa-pkcs1", "sha3_256"),
    ("rsa:2048", "rsa-pss", None),
    ("rsa:2048", "rsa-pss", "sha512"),
    ("ec:p256", None, None),
    ("ec:p256", "ecdsa", "sha3_512"),
    ("ec:p384", None, None),
    ("ec:p521", None, None),
    ("ec:p521", "ecdsa", "sha224"),
    ("ed25519", None, None),
]


def options_for(family: str | None, digest: str | None, **others: Any) -> SigningOptions:  # noqa: ANN401
    return SigningOptions(family=family, digest=DIGESTS[digest] if digest else None, **others)


def attached(signers: Sequence[Signer], options: SigningOptions | None = None) -> bytes:
    output = io.BytesIO()
    sign_attached(io.BytesIO(CONTENT), signers, output, options or SigningOptions())
    return output.getvalue()


def results_of(message: bytes, content: bytes | None = None) -> tuple[SignerResult, ...]:
    """What is found about each signature, which must all hold."""
    signed = read_signed_data(io.BytesIO(message))
    pieces = [content] if content is not None else signed.content.chunks() if signed.content else []
    results = verify_signatures(signed, pieces)
    assert [result.error for result in results] == [None] * len(results)
    return results


@pytest.fixture
def root_file(root: Certificate, tmp_path: Path) -> Path:
    path = tmp_path / "root.pem"
    path.write_text(root.pem())
    return path


@pytest.mark.parametrize(("spec", "family", "digest"), SCHEMES)
def test_a_detached_signature_of_each_scheme_holds_here_and_with_openssl(  # noqa: PLR0917 - fixtures
    spec: str,
    family: str | None,
    digest: str | None,
    token_person: Callable[[str], TokenKey],
    openssl: Callable[..., bytes],
    root_file: Path,
    tmp_path: Path,
) -> None:
    options = options_for(family, digest)
    message = sign_detached(io.BytesIO(CONTENT), [token_person(spec)], options)
    (result,) = results_of(message, CONTENT)
    assert result.scheme is not None
    assert str(result.scheme) == str(schemes_of([token_person(spec)], options)[0])
    content = tmp_path / "content"
    content.write_bytes(CONTENT)
    arguments = ["-verify", "-binary", "-inform", "DER", "-content", content, "-CAfile", root_file]
    if spec != "ed25519":  # which OpenSSL 3.0 does not do in CMS
        assert openssl("cms", *arguments, "-purpose", "any", feed=message) == CONTENT


@pytest.mark.parametrize(("spec", "family", "digest"), SCHEMES)
def test_an_attached_signature_of_each_scheme_carries_its_content(
    spec: str,
    family: str | None,
    digest: str | None,
    token_person: Callable[[str], TokenKey],
    openssl: Callable[..., bytes],
    root_file: Path,
) -> None:
    message = attached([token_person(spec)], options_for(family, digest))
    signed = read_signed_data(io.BytesIO(message))
    assert signed.content is not None
    assert b"".join(signed.content.chunks()) == CONTENT
    results_of(message)
    arguments = ["-verify", "-binary", "-inform", "DER", "-CAfile", root_file, "-purpose", "any"]
    if spec != "ed25519":  # as above
        assert openssl("cms", *arguments, feed=message) == CONTENT


@pytest.mark.parametrize("make", ["detached", "attached"])
def test_the_message_is_der(make: str, software: Callable[..., Any], parse: Callable[[bytes], Any]) -> None:
    signers = [software("p256"), software("rsa:2048"), software("ed25519")]
    message = sign_detached(io.BytesIO(CONTENT), signers) if make == "detached" else attached(signers)
    parsed = parse(message)
    assert parsed.copy().dump(force=True) == parsed.dump()
    for name in ("digest_algorithms", "certificates", "signer_infos"):
        encoded = [entry.dump() for entry in parsed[name]]
        assert encoded == sorted(encoded)
    assert {entry["algorithm"].native for entry in parsed["digest_algorithms"]} == {"sha256", "sha512"}


def test_a_signer_is_named_by_issuer_and_serial_number(
    software: Callable[..., Any], parse: Callable[[bytes], Any]
) -> None:
    alice = software()
    parsed = parse(sign_detached(io.BytesIO(CONTENT), [alice]))
    (info,) = parsed["signer_infos"]
    assert parsed["version"].native == info["version"].native == "v1"
    assert info["sid"].name == "issuer_and_serial_number"
    assert info["sid"].chosen["serial_number"].native == alice.certificate.serial_number
    assert info["digest_algorithm"].dump() == DIGESTS["sha256"].algorithm_identifier


def test_a_signer_is_named_by_subject_key_identifier(
    software: Callable[..., Any], parse: Callable[[bytes], Any], openssl: Callable[..., bytes]
) -> None:
    alice = software()
    message = attached([alice], SigningOptions(identifier="ski"))
    parsed = parse(message)
    (info,) = parsed["signer_infos"]
    assert parsed["version"].native == info["version"].native == "v3"
    assert info["sid"].chosen.native == alice.certificate.subject_key_identifier
    results_of(message)
    assert openssl("cms", "-verify", "-noverify", "-binary", "-inform", "DER", feed=message) == CONTENT
    assert b"subjectKeyIdentifier" in openssl("cms", "-cmsout", "-print", "-inform", "DER", feed=message)


def test_a_certificate_without_key_identifier_is_not_named_by_it(
    nameless: Callable[..., Any], issue: Callable[..., Certificate]
) -> None:
    key = nameless()
    key.certificate = issue(key.public_key, "no identifier")
    with pytest.raises(UsageError, match="no subject key identifier"):
        sign_detached(io.BytesIO(CONTENT), [key], SigningOptions(identifier="ski"))


def test_several_signers_sign_one_message(token_person: Callable[[str], TokenKey]) -> None:
    signers = [token_person("rsa:2048"), token_person("ec:p256"), token_person("ed25519")]
    results = results_of(attached(signers))
    assert {str(result.scheme) for result in results} == {
        "rsa-pkcs1 with sha256",
        "ecdsa with sha256",
        "eddsa with sha512",
    }
    assert {result.certificate for result in results} == {signer.certificate for signer in signers}


@pytest.mark.parametrize("include", [True, False])
def test_certificates_are_included_or_not(
    include: bool,  # noqa: FBT001 - a parameter of the test
    software: Callable[..., Any],
    root: Certificate,
) -> None:
    alice, bob = software(number=0), software(number=1)
    alice.chain = [root]
    options = SigningOptions(include_certificates=include, extra_certificates=[bob.certificate])
    signed = read_signed_data(io.BytesIO(sign_detached(io.BytesIO(CONTENT), [alice], options)))
    alice.chain = ()
    expected = {alice.certificate, root, bob.certificate} if include else {bob.certificate}
    assert set(signed.certificates) == expected
    assert len(signed.certificates) == len(expected)


def test_a_message_without_any_certificate_has_no_certificates_field(
    software: Callable[..., Any], parse: Callable[[bytes], Any]
) -> None:
    message = sign_detached(io.BytesIO(CONTENT), [software()], SigningOptions(include_certificates=False))
    assert not parse(message)["certificates"]
    (result,) = verify_signatures(
        read_signed_data(io.BytesIO(message)), [CONTENT], certificates=[software().certificate]
    )
    assert result.error is None


def test_another_content_type_makes_version_3_and_is_signed(
    software: Callable[..., Any], parse: Callable[[bytes], Any]
) -> None:
    message = attached([software()], SigningOptions(content_type="1.2.840.113549.1.9.16.1.4"))
    parsed = parse(message)
    assert parsed["version"].native == "v3"
    assert parsed["encap_content_info"]["content_type"].dotted == "1.2.840.113549.1.9.16.1.4"
    results_of(message)


def test_the_signing_time_is_that_of_the_options_to_the_second(software: Callable[..., Any]) -> None:
    moment = datetime(2030, 1, 2, 3, 4, 5, 678901, tzinfo=timezone(timedelta(hours=2)))
    message = sign_detached(io.BytesIO(CONTENT), [software()], SigningOptions(signing_time=moment))
    assert results_of(message, CONTENT)[0].signing_time == datetime(2030, 1, 2, 1, 4, 5, tzinfo=UTC)


def test_the_signing_time_is_now_unless_told(software: Callable[..., Any]) -> None:
    before = datetime.now(UTC).replace(microsecond=0)
    message = sign_detached(io.BytesIO(CONTENT), [software()])
    moment = results_of(message, CONTENT)[0].signing_time
    assert moment is not None
    assert before <= moment <= datetime.now(UTC)


def test_signing_begins_at_the_position_of_the_content(software: Callable[..., Any]) -> None:
    content = io.BytesIO(b"skipped" + CONTENT)
    content.seek(7)
    output = io.BytesIO()
    sign_attached(content, [software()], output)
    signed = read_signed_data(io.BytesIO(output.getvalue()))
    assert signed.content is not None
    assert b"".join(signed.content.chunks()) == CONTENT


# --- refusals


def test_without_a_signer_there_is_no_signature() -> None:
    with pytest.raises(UsageError, match="at least one signer"):
        sign_detached(io.BytesIO(CONTENT), [])


def test_a_key_without_certificate_does_not_sign_messages(nameless: Callable[..., Any]) -> None:
    with pytest.raises(UsageError, match="has no certificate") as failure:
        sign_detached(io.BytesIO(CONTENT), [nameless()])
    assert "tokensign cert import" in str(failure.value.hint)


def test_a_family_that_the_key_does_not_have_is_refused(software: Callable[..., Any]) -> None:
    with pytest.raises(UnsupportedError, match="does not sign with rsa-pss"):
        sign_detached(io.BytesIO(CONTENT), [software("p256")], SigningOptions(family="rsa-pss"))


@pytest.mark.parametrize("name", ["sha1", "md5"])
def test_weak_digests_are_never_written(name: str, software: Callable[..., Any]) -> None:
    with pytest.raises(UnsupportedError, match="are not made"):
        sign_detached(io.BytesIO(CONTENT), [software()], SigningOptions(digest=DIGESTS[name]))


@pytest.mark.parametrize("check", [True, False])
def test_a_short_rsa_key_is_refused_before_it_signs(
    check: bool,  # noqa: FBT001 - a parameter of the test
    nameless: Callable[..., Any],
    issue: Callable[..., Certificate],
) -> None:
    key = nameless("rsa:1024")
    key.certificate = issue(key.public_key, "weak")
    key.sign = None  # would fail if it were called
    with pytest.raises(UnsupportedError, match="RSA key of 1024 bits"):
        sign_detached(io.BytesIO(CONTENT), [key], SigningOptions(check=check))


def test_a_lying_token_is_caught_before_anything_is_released(liar: Any) -> None:  # noqa: ANN401
    output = io.BytesIO()
    with pytest.raises(SigningError, match="is wrong and was thrown away") as failure:
        sign_attached(io.BytesIO(CONTENT), [liar], output)
    assert "doctor" in str(failure.value.hint)
    assert output.getvalue() == b""
    with pytest.raises(SigningError):
        sign_detached(io.BytesIO(CONTENT), [liar])


def test_the_check_of_fresh_signatures_can_be_left_out(liar: Any) -> None:  # noqa: ANN401
    message = sign_detached(io.BytesIO(CONTENT), [liar], SigningOptions(check=False))
    (result,) = verify_signatures(read_signed_data(io.BytesIO(message)), [CONTENT])
    assert result.error is not None


class Growing(io.BytesIO):
    """A file to which somebody appends while it is being signed."""

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        if offset == 0 and whence == io.SEEK_SET:
            super().seek(0, io.SEEK_END)
            self.write(b"appended")
        return super().seek(offset, whence)


def test_content_that_grows_meanwhile_is_noticed(software: Callable[..., Any]) -> None:
    with pytest.raises(FileError, match="changed while it was being signed"):
        sign_attached(Growing(CONTENT), [software()], io.BytesIO())


# --- further signatures


def test_a_signature_is_added_to_an_attached_message(
    software: Callable[..., Any], openssl: Callable[..., bytes]
) -> None:
    first = attached([software(number=0)])
    output = io.BytesIO()
    add_signatures(read_signed_data(io.BytesIO(first)), [software("rsa:2048")], output)
    results = results_of(output.getvalue())
    assert {result.certificate for result in results} == {
        software(number=0).certificate,
        software("rsa:2048").certificate,
    }
    arguments = ["-verify", "-noverify", "-binary", "-inform", "DER"]
    assert openssl("cms", *arguments, feed=output.getvalue()) == CONTENT


def test_a_signature_is_added_beside_detached_content(software: Callable[..., Any]) -> None:
    first = sign_detached(io.BytesIO(CONTENT), [software(number=0)])
    output = io.BytesIO()
    add_signatures(
        read_signed_data(io.BytesIO(first)), [software("ed25519")], output, content=io.BytesIO(CONTENT)
    )
    assert len(results_of(output.getvalue(), CONTENT)) == 2


def test_the_signatures_that_are_there_stay_octet_by_octet(
    software: Callable[..., Any], openssl: Callable[..., bytes], tmp_path: Path
) -> None:
    """Also those of a message that OpenSSL wrote in BER, with a key identifier and a CRL-free set."""
    key = software("rsa:2048")
    write_identity(tmp_path, key)
    streamed = openssl(
        *("cms", "-sign", "-stream", "-indef", "-nodetach", "-binary", "-outform", "DER", "-keyid"),
        *("-signer", tmp_path / "cert.pem", "-inkey", tmp_path / "key.pem"),
        feed=CONTENT,
    )
    before = read_signed_data(io.BytesIO(streamed))
    output = io.BytesIO()
    add_signatures(before, [software()], output, SigningOptions(include_certificates=False))
    after = read_signed_data(io.BytesIO(output.getvalue()))
    assert before.signer_infos[0].encoded in [info.encoded for info in after.signer_infos]
    assert set(before.certificate_choices) <= set(after.certificate_choices)
    results = verify_signatures(
        after, after.content.chunks() if after.content else [], certificates=[software().certificate]
    )
    assert [result.error for result in results] == [None, None]


def test_adding_needs_the_content_of_a_detached_signature(software: Callable[..., Any]) -> None:
    message = read_signed_data(io.BytesIO(sign_detached(io.BytesIO(CONTENT), [software()])))
    with pytest.raises(UsageError, match="detached, and its content is needed"):
        add_signatures(message, [software(number=1)], io.BytesIO())


def test_adding_takes_no_second_content(software: Callable[..., Any]) -> None:
    message = read_signed_data(io.BytesIO(attached([software()])))
    with pytest.raises(UsageError, match="holds its content already"):
        add_signatures(message, [software(number=1)], io.BytesIO(), content=io.BytesIO(CONTENT))


def test_what_else_a_message_carries_is_kept_and_decides_the_version(
    software: Callable[..., Any], parse: Callable[[bytes], Any]
) -> None:
    """Attribute certificates, other certificates and other revocation information (RFC 5652 section 5.1)."""
    original = parse(attached([software()]))
    crl = der.sequence(der.integer(7))
    for choices, revocation, version in (
        ([], [crl], "v1"),
        ([der.tlv(0xA1, der.integer(1))], [], "v3"),
        ([der.tlv(0xA2, der.integer(1))], [crl], "v4"),
        ([der.tlv(0xA3, der.object_identifier("1.2.3"))], [], "v5"),
        ([], [der.tlv(0xA1, der.object_identifier("1.2.3"))], "v5"),
    ):
        fields = [original[name].dump() for name in ("version", "digest_algorithms", "encap_content_info")]
        certificates = [entry.dump() for entry in original["certificates"]]
        fields.append(der.set_of(*certificates, *choices, tag=0xA0))
        if revocation:
            fields.append(der.set_of(*revocation, tag=0xA1))
        fields.append(original["signer_infos"].dump())
        message = der.sequence(
            der.object_identifier("1.2.840.113549.1.7.2"), der.explicit(0, der.sequence(*fields))
        )
        output = io.BytesIO()
        add_signatures(read_signed_data(io.BytesIO(message)), [software(number=1)], output)
        after = read_signed_data(io.BytesIO(output.getvalue()))
        assert set(choices) <= set(after.certificate_choices)
        assert list(after.revocation_choices) == revocation
        assert parse(output.getvalue())["version"].native == version


def write_identity(folder: Path, key: Any) -> None:  # noqa: ANN401 - of any type
    """Put a software key and its certificate where OpenSSL reads them."""
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    pem = key.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / "key.pem").write_bytes(pem)
    (folder / "cert.pem").write_text(key.certificate.pem())


def test_random_sizes_have_the_right_lengths_in_front(software: Callable[..., Any]) -> None:
    """Around every boundary of a DER length."""
    generator = random.Random(1)  # noqa: S311 - reproducible
    alice = software("ed25519")
    for size in (0, 1, 127, 128, 255, 256, 65535, 65536):
        content = generator.randbytes(size)
        output = io.BytesIO()
        sign_attached(io.BytesIO(content), [alice], output)
        signed = read_signed_data(io.BytesIO(output.getvalue()))
        assert signed.content is not None
        assert b"".join(signed.content.chunks()) == content
        (result,) = verify_signatures(signed, signed.content.chunks())
        assert result.error is None
