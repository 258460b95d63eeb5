from __future__ import annotations

import hashlib
import io
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding

from tokensign import der
from tokensign.algorithms import DIGESTS, signature_scheme
from tokensign.cms import signed_content
from tokensign.cms.attributes import (
    CMS_ALGORITHM_PROTECTION,
    CONTENT_TYPE,
    MESSAGE_DIGEST,
    ONLY_SIGNED,
    SIGNING_CERTIFICATE_V2,
    SIGNING_TIME,
)
from tokensign.cms.signed import sign_detached
from tokensign.cms.signed_data import read_signed_data
from tokensign.cms.verify import verify_signatures
from tokensign.errors import (
    BadSignatureError,
    LegacyAlgorithmError,
    MalformedError,
    MessageError,
    UnsupportedError,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tokensign.cms.verify import SignerResult

CONTENT = b"Pay 100 to Bob."


def check(message: bytes, *, legacy: bool = False) -> SignerResult:
    """What is found about the one signature of an attached message."""
    signed = read_signed_data(io.BytesIO(message))
    assert signed.content is not None
    (result,) = verify_signatures(signed, signed.content.chunks(), legacy=legacy)
    return result


def refused(message: bytes, error: type[Exception], words: str) -> None:
    result = check(message)
    assert isinstance(result.error, error), result.error
    assert words in str(result.error)


# --- what holds


def test_contenttype_and_messagedigest_are_enough(forge: Callable[..., Any]) -> None:
    result = check(forge().with_attributes().encode())
    assert result.error is None
    assert result.signing_time is None


@pytest.mark.parametrize("kind", ["rsa:2048", "p256", "ed25519"])
def test_the_content_itself_may_be_signed(kind: str, forge: Callable[..., Any]) -> None:
    """RFC 5652 section 5.4, and RFC 8419 section 3.2 for Ed25519, which hashes nothing beforehand."""
    digest = "sha512" if kind == "ed25519" else "sha256"
    message = forge(kind, attributes=None, digest=digest).encode()
    assert check(message).error is None
    refused(message.replace(b"100", b"900"), BadSignatureError, "signature is wrong")


def test_openssl_signs_the_content_itself(
    software: Callable[..., Any], openssl: Callable[..., bytes], tmp_path: Path
) -> None:
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    key = software("rsa:2048")
    pem = key.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (tmp_path / "key.pem").write_bytes(pem)
    (tmp_path / "cert.pem").write_text(key.certificate.pem())
    message = openssl(
        *("cms", "-sign", "-noattr", "-nodetach", "-binary", "-outform", "DER"),
        *("-signer", tmp_path / "cert.pem", "-inkey", tmp_path / "key.pem"),
        feed=CONTENT,
    )
    result = check(message)
    assert result.error is None
    assert result.signer.signed_attributes is None


def test_attributes_signed_in_the_order_in_which_they_were_sent_hold(forge: Callable[..., Any]) -> None:
    """Old software forgot to sort; RFC 5652 section 5.4 asks for DER."""
    forgery = forge()
    attributes = sorted(forgery.with_attributes().attributes, reverse=True)
    assert check(replace(forgery, attributes=attributes, in_order=True).encode()).error is None


def test_attributes_sent_unsorted_and_signed_as_der_hold(forge: Callable[..., Any]) -> None:
    forgery = forge()
    attributes = sorted(forgery.with_attributes().attributes, reverse=True)
    assert check(replace(forgery, attributes=attributes).encode()).error is None


def test_the_content_is_copied_as_it_passes(software: Callable[..., Any]) -> None:
    signed = read_signed_data(io.BytesIO(sign_detached(io.BytesIO(CONTENT), [software()])))
    copied: list[bytes] = []
    (result,) = verify_signatures(signed, [CONTENT[:5], CONTENT[5:]], copy=copied.append)
    assert result.error is None
    assert copied == [CONTENT[:5], CONTENT[5:]]


def test_one_pass_serves_several_signers_and_digests(software: Callable[..., Any]) -> None:
    signers = [software(), software("ed25519"), software("p384")]
    signed = read_signed_data(io.BytesIO(sign_detached(io.BytesIO(CONTENT), signers)))
    results = verify_signatures(signed, iter([CONTENT]))
    assert [result.error for result in results] == [None, None, None]


def test_one_bad_signature_does_not_hide_the_good_one(liar: Any, software: Callable[..., Any]) -> None:  # noqa: ANN401
    from tokensign.cms.signed import SigningOptions

    message = sign_detached(io.BytesIO(CONTENT), [software(number=1), liar], SigningOptions(check=False))
    results = verify_signatures(read_signed_data(io.BytesIO(message)), [CONTENT])
    by_certificate = {result.certificate: result.error for result in results}
    assert by_certificate[software(number=1).certificate] is None
    assert isinstance(by_certificate[liar.certificate], BadSignatureError)


# --- what does not


def test_changed_content_is_told_apart_from_a_wrong_signature(
    forge: Callable[..., Any],
    liar: Any,  # noqa: ANN401
) -> None:
    message = forge().with_attributes().encode()
    refused(message.replace(b"100", b"900"), BadSignatureError, "content was changed after it was signed")
    refused(replace(forge(), signer=liar).with_attributes().encode(), BadSignatureError, "signature is wrong")


def test_missing_attributes_are_refused(forge: Callable[..., Any]) -> None:
    """RFC 5652 section 5.3: contentType and messageDigest must be there."""
    forgery = forge()
    only_type = replace(forgery, attributes=[forgery.content_type_attribute()])
    refused(only_type.encode(), MalformedError, "messageDigest is missing")
    only_digest = replace(forgery, attributes=[forgery.message_digest_attribute()])
    refused(only_digest.encode(), MalformedError, "contentType is missing")


def test_present_and_empty_attributes_are_not_absent_ones(forge: Callable[..., Any]) -> None:
    """Or else a signature over the content would verify beside attributes that it does not cover."""
    forgery = forge()
    signature = forgery.signer.sign(CONTENT, forgery.scheme)
    refused(replace(forgery, attributes=[], signature=signature).encode(), MalformedError, "are empty")


def test_attributes_that_occur_twice_are_refused(
    forge: Callable[..., Any], make_attribute: Callable[..., bytes]
) -> None:
    forgery = forge()
    second = make_attribute(MESSAGE_DIGEST, der.octet_string(bytes(32)))
    refused(forgery.with_attributes(second).encode(), MalformedError, "occurs twice")
    two_values = make_attribute(
        MESSAGE_DIGEST, der.octet_string(hashlib.sha256(CONTENT).digest()), der.octet_string(bytes(32))
    )
    attributes = [forgery.content_type_attribute(), two_values]
    refused(replace(forgery, attributes=attributes).encode(), MalformedError, "has 2 values")


def test_another_content_type_is_refused(
    forge: Callable[..., Any], make_attribute: Callable[..., bytes]
) -> None:
    forgery = forge()
    other = make_attribute(CONTENT_TYPE, der.object_identifier("1.2.840.113549.1.9.16.1.4"))
    attributes = [other, forgery.message_digest_attribute()]
    refused(replace(forgery, attributes=attributes).encode(), MalformedError, "contentType differs")


def test_content_of_another_type_than_data_needs_attributes(forge: Callable[..., Any]) -> None:
    message = forge(attributes=None, content_type="1.2.840.113549.1.9.16.1.4").encode()
    refused(message, MalformedError, "must be signed with signed attributes")


def test_algorithm_protection_of_other_algorithms_is_refused(
    forge: Callable[..., Any], make_attribute: Callable[..., bytes]
) -> None:
    scheme = signature_scheme("rsa-pss", DIGESTS["sha256"])
    protection = der.sequence(
        DIGESTS["sha256"].algorithm_identifier, b"\xa1" + scheme.algorithm_identifier[1:]
    )
    message = forge("rsa:2048").with_attributes(make_attribute(CMS_ALGORITHM_PROTECTION, protection))
    refused(message.encode(), MalformedError, "names other algorithms")


def test_a_signing_certificate_of_somebody_else_is_refused(
    forge: Callable[..., Any], make_attribute: Callable[..., bytes]
) -> None:
    value = der.sequence(der.sequence(der.sequence(der.octet_string(bytes(32)))))
    message = forge().with_attributes(make_attribute(SIGNING_CERTIFICATE_V2, value)).encode()
    refused(message, MalformedError, "names another certificate")


def test_a_signing_time_that_cannot_be_read_is_refused(
    forge: Callable[..., Any], make_attribute: Callable[..., bytes]
) -> None:
    value = make_attribute(SIGNING_TIME, der.octet_string(b"yesterday"))
    refused(forge().with_attributes(value).encode(), MalformedError, "cannot be read")


def test_a_digest_other_than_the_schemes_is_refused(forge: Callable[..., Any]) -> None:
    ecdsa_with_sha384 = signature_scheme("ecdsa", DIGESTS["sha384"]).algorithm_identifier
    message = forge(signature_algorithm=ecdsa_with_sha384).with_attributes().encode()
    refused(message, MalformedError, "made with sha384, but the content is digested with sha256")


def test_unknown_algorithms_are_named(forge: Callable[..., Any]) -> None:
    strange = der.sequence(der.object_identifier("1.2.3.4"))
    refused(
        forge(digest_algorithm=strange).with_attributes().encode(),
        UnsupportedError,
        "digest algorithm 1.2.3.4",
    )
    refused(
        forge(signature_algorithm=strange).with_attributes().encode(),
        UnsupportedError,
        "signature algorithm 1.2.3.4",
    )
    refused(
        forge(signature_algorithm=strange, attributes=None).encode(),
        UnsupportedError,
        "signature algorithm 1.2.3.4",
    )


def test_sha1_is_read_only_on_request(forge: Callable[..., Any], software: Callable[..., Any]) -> None:
    key = software("rsa:2048")
    rsa_encryption = signature_scheme("rsa-pkcs1", DIGESTS["sha256"]).algorithm_identifier
    forgery = forge("rsa:2048", digest="sha1", signature_algorithm=rsa_encryption).with_attributes()
    signed = der.set_of(*forgery.attributes)
    weak = key.key.sign(signed, padding.PKCS1v15(), hashes.SHA1())  # noqa: S303 - weak on purpose
    message = replace(forgery, signature=weak).encode()
    refused(message, LegacyAlgorithmError, "SHA1")
    assert check(message, legacy=True).error is None
    assert check(message.replace(b"100", b"900"), legacy=True).error is not None


def test_a_certificate_that_is_not_at_hand_is_named(software: Callable[..., Any]) -> None:
    from tokensign.cms.signed import SigningOptions

    options = SigningOptions(include_certificates=False)
    signed = read_signed_data(io.BytesIO(sign_detached(io.BytesIO(CONTENT), [software()], options)))
    (result,) = verify_signatures(signed, [CONTENT])
    assert isinstance(result.error, MessageError)
    assert f"serial {software().certificate.serial_number:x} of CN=Root" in str(result.error)
    assert "--untrusted" in str(result.error.hint)


def test_a_message_without_signatures_is_not_verified(software: Callable[..., Any]) -> None:
    """A certificates-only message."""
    data = der.sequence(
        der.integer(1),
        der.set_of(),
        der.sequence(der.object_identifier("1.2.840.113549.1.7.1")),
        der.tlv(0xA0, software().certificate.der),
        der.set_of(),
    )
    message = der.sequence(der.object_identifier("1.2.840.113549.1.7.2"), der.explicit(0, data))
    signed = read_signed_data(io.BytesIO(message))
    assert signed.certificates == (software().certificate,)
    with pytest.raises(UnsupportedError, match="no signature"):
        verify_signatures(signed, [])


def test_pure_ed25519_content_has_a_limit(forge: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signed_content, "MAX_PURE_CONTENT_SIZE", len(CONTENT))
    message = forge("ed25519", attributes=None, digest="sha512", content=CONTENT).encode()
    assert check(message).error is None
    longer = forge("ed25519", attributes=None, digest="sha512", content=CONTENT + b"!").encode()
    with pytest.raises(UnsupportedError, match="at most 15 bytes"):
        check(longer)


# --- attributes that are not signed


def with_unsigned(message: bytes, *attributes: bytes) -> bytes:
    """The message with unsigned attributes at its only signature."""
    kind, data = der.elements(message)
    *fields, infos = der.elements(der.elements(data)[0])
    (info,) = der.elements(infos)
    info = der.sequence(der.content(info), der.tlv(0xA1, b"".join(attributes)))
    return der.sequence(kind, der.explicit(0, der.sequence(*fields, der.set_of(info))))


def test_unsigned_attributes_do_not_matter_to_integrity(
    forge: Callable[..., Any], make_attribute: Callable[..., bytes]
) -> None:
    unknown = make_attribute("1.2.3", der.NULL)
    result = check(with_unsigned(forge().with_attributes().encode(), unknown))
    assert result.error is None
    assert result.signer.unsigned_attributes == der.set_of(unknown)


@pytest.mark.parametrize("kind", sorted(ONLY_SIGNED))
def test_what_must_be_signed_is_refused_among_the_unsigned(
    kind: str, forge: Callable[..., Any], make_attribute: Callable[..., bytes]
) -> None:
    """RFC 5652 sections 11.1 to 11.3: a stranger could have put it there."""
    message = with_unsigned(forge().with_attributes().encode(), make_attribute(kind, der.NULL))
    refused(message, MalformedError, "is not signed, and must be")


@pytest.mark.parametrize("broken", [der.NULL, der.sequence(), der.sequence(der.NULL, der.set_of())])
def test_broken_unsigned_attributes_are_refused(broken: bytes, forge: Callable[..., Any]) -> None:
    refused(with_unsigned(forge().with_attributes().encode(), broken), MalformedError, "broken")


def test_fields_behind_the_unsigned_attributes_are_refused(forge: Callable[..., Any]) -> None:
    message = with_unsigned(with_unsigned(forge().with_attributes().encode()))
    with pytest.raises(MalformedError, match="a SignerInfo is broken"):
        read_signed_data(io.BytesIO(message))
