from __future__ import annotations

import hashlib
import io
from typing import TYPE_CHECKING, Any

import pytest

from tokensign import der
from tokensign.algorithms import default_scheme
from tokensign.cms import verify
from tokensign.cms.attributes import (
    CONTENT_TYPE,
    COUNTERSIGNATURE,
    MESSAGE_DIGEST,
    SIGNING_TIME,
    parse_signed_attributes,
)
from tokensign.cms.countersignature import add_countersignatures, countersignatures_of
from tokensign.cms.signed import SigningOptions, add_signatures, sign_attached, sign_detached
from tokensign.cms.signed_data import SignedData, SignerInfo, read_signed_data
from tokensign.cms.signed_data_parts import SignedDataParts
from tokensign.cms.verify import SignerResult, verify_signatures
from tokensign.errors import BadSignatureError, MalformedError, SigningError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tokensign.token import TokenKey

CONTENT = b"Pay 100 to Bob."
ARCHIVE = "1.2.3.4"


def read(encoded: bytes) -> SignedData:
    return read_signed_data(io.BytesIO(encoded))


def countersign(message: bytes, *signers: Any, path: Sequence[int] = (0,), **options: Any) -> bytes:  # noqa: ANN401
    output = io.BytesIO()
    add_countersignatures(read(message), signers, output, SigningOptions(**options), path=path)
    return output.getvalue()


def check(encoded: bytes) -> tuple[SignerResult, ...]:
    message = read(encoded)
    return verify_signatures(message, message.content.chunks() if message.content else [CONTENT])


def names(result: SignerResult) -> list[Any]:
    """The tree of who signed over whom, which must all hold."""
    assert result.error is None, result.error
    assert result.certificate is not None
    return [result.certificate.subject.partition(",")[0], *(names(one) for one in result.countersignatures)]


def with_unsigned(encoded: bytes, *attributes: bytes) -> bytes:
    """The message with these unsigned attributes on its first signature."""
    message = read(encoded)
    fields = der.elements(message.signer_infos[0].encoded)[:6]
    info = der.sequence(*fields, der.set_of(*attributes, tag=0xA1))
    return SignedDataParts(
        digest_algorithms=message.digest_algorithms,
        content_type=message.content_type,
        certificates=message.certificate_choices,
        signer_infos=[info, *(one.encoded for one in message.signer_infos[1:])],
    ).detached()


@pytest.fixture
def alice_signed(software: Callable[..., Any]) -> bytes:
    return sign_detached(io.BytesIO(CONTENT), [software()])


# --- made and verified


@pytest.mark.parametrize("spec", ["rsa:2048", "ec:p256", "ed25519"])
def test_a_key_on_a_token_countersigns(
    spec: str, token_person: Callable[[str], TokenKey], software: Callable[..., Any]
) -> None:
    output = io.BytesIO()
    sign_attached(io.BytesIO(CONTENT), [software()], output)
    (result,) = check(countersign(output.getvalue(), token_person(spec)))
    assert names(result) == ["CN=p256 0", [f"CN=token {spec.replace(':', '-')}"]]


def test_what_is_signed_is_the_signature_without_a_content_type(
    alice_signed: bytes, software: Callable[..., Any]
) -> None:
    """RFC 5652 section 11.4."""
    (info,) = read(countersign(alice_signed, software(number=1))).signer_infos
    (countersignature,) = countersignatures_of(info)
    attributes = parse_signed_attributes(countersignature.signed_attributes or b"")
    assert CONTENT_TYPE not in attributes.types
    assert attributes.check_message_digest(hashlib.sha256(info.signature).digest())


def test_everything_that_was_there_stays_as_it_was(alice_signed: bytes, software: Callable[..., Any]) -> None:
    before = read(alice_signed)
    after = read(countersign(alice_signed, software(number=1)))
    assert der.elements(after.signer_infos[0].encoded)[:6] == der.elements(before.signer_infos[0].encoded)
    assert set(before.certificate_choices) < set(after.certificate_choices)
    assert software(number=1).certificate in after.certificates


def test_several_countersign_at_once_and_one_after_the_other(
    alice_signed: bytes, software: Callable[..., Any]
) -> None:
    message = countersign(alice_signed, software(number=1), software("rsa:2048"))
    (result,) = check(countersign(message, software("ed25519")))
    assert sorted(map(str, names(result)[1:])) == ["['CN=ed25519 0']", "['CN=p256 1']", "['CN=rsa-2048 0']"]
    (info,) = read(countersign(message, software("ed25519"))).signer_infos
    assert len(der.elements(info.unsigned_attributes or b"")) == 1  # one attribute with three values


def test_a_countersignature_is_countersigned(alice_signed: bytes, software: Callable[..., Any]) -> None:
    message = countersign(alice_signed, software(number=1))
    message = countersign(message, software(number=2), path=(0, 0))
    (result,) = check(countersign(message, software(number=3), path=(0, 0, 0)))
    assert names(result) == ["CN=p256 0", ["CN=p256 1", ["CN=p256 2", ["CN=p256 3"]]]]


def test_the_signer_is_chosen_among_several(software: Callable[..., Any]) -> None:
    message = sign_detached(io.BytesIO(CONTENT), [software(), software("ed25519")])
    before = read(message).signer_infos
    results = check(countersign(message, software(number=1), path=(1,)))
    countersigned = [result for result in results if result.countersignatures]
    assert [result.signer.signature for result in countersigned] == [before[1].signature]


def test_countersignatures_survive_further_signatures(
    alice_signed: bytes, software: Callable[..., Any]
) -> None:
    message = countersign(alice_signed, software(number=1))
    output = io.BytesIO()
    add_signatures(read(message), [software("ed25519")], output, content=io.BytesIO(CONTENT))
    trees = [names(result) for result in check(output.getvalue())]
    assert sorted(trees) == [["CN=ed25519 0"], ["CN=p256 0", ["CN=p256 1"]]]


def test_other_unsigned_attributes_survive(
    alice_signed: bytes, make_attribute: Callable[..., bytes], software: Callable[..., Any]
) -> None:
    archive = make_attribute(ARCHIVE, der.octet_string(b"kept"))
    (info,) = read(countersign(with_unsigned(alice_signed, archive), software(number=1))).signer_infos
    assert archive in der.elements(info.unsigned_attributes or b"")
    (result,) = check(countersign(with_unsigned(alice_signed, archive), software(number=1)))
    assert names(result) == ["CN=p256 0", ["CN=p256 1"]]


# --- what does not hold


def test_a_wrong_countersignature_is_reported_beside_a_good_signature(
    alice_signed: bytes,
    liar: Any,  # noqa: ANN401
    software: Callable[..., Any],
) -> None:
    message = countersign(alice_signed, liar, software(number=1), check=False)
    (result,) = check(message)
    assert result.error is None
    errors = {one.certificate: one.error for one in result.countersignatures}
    assert errors[software(number=1).certificate] is None
    assert isinstance(errors[liar.certificate], BadSignatureError)


def test_a_countersignature_of_another_signature_does_not_hold(
    alice_signed: bytes, software: Callable[..., Any], make_attribute: Callable[..., bytes]
) -> None:
    (other,) = read(
        countersign(sign_detached(io.BytesIO(b"other"), [software()]), software(number=1))
    ).signer_infos
    (moved,) = countersignatures_of(other)
    (result,) = check(with_unsigned(alice_signed, make_attribute(COUNTERSIGNATURE, moved.encoded)))
    assert result.error is None
    (countersigner,) = result.countersignatures
    assert countersigner.error is not None


def test_a_countersignature_with_a_content_type_is_refused(
    alice_signed: bytes, software: Callable[..., Any], make_attribute: Callable[..., bytes]
) -> None:
    (info,) = read(alice_signed).signer_infos
    (plain,) = read(sign_detached(io.BytesIO(info.signature), [software(number=1)])).signer_infos
    message = read(with_unsigned(alice_signed, make_attribute(COUNTERSIGNATURE, plain.encoded)))
    (result,) = verify_signatures(message, [CONTENT], certificates=[software(number=1).certificate])
    (countersigner,) = result.countersignatures
    assert isinstance(countersigner.error, MalformedError)
    assert "contentType" in str(countersigner.error)


def test_a_countersignature_may_do_without_signed_attributes(
    alice_signed: bytes, software: Callable[..., Any], make_attribute: Callable[..., bytes]
) -> None:
    alice = software()
    for kind in ("p256", "ed25519"):
        signer = software(kind, 1)
        (template,) = read(sign_detached(io.BytesIO(CONTENT), [signer])).signer_infos
        version, sid, digest, _, algorithm, _ = der.elements(template.encoded)
        (info,) = read(alice_signed).signer_infos
        signature = signer.sign(info.signature, default_scheme(signer.public_key))
        bare = der.sequence(version, sid, digest, algorithm, der.octet_string(signature))
        message = read(with_unsigned(alice_signed, make_attribute(COUNTERSIGNATURE, bare)))
        (result,) = verify_signatures(
            message, [CONTENT], certificates=[alice.certificate, signer.certificate]
        )
        assert [one.error for one in result.countersignatures] == [None]


@pytest.mark.parametrize("kind", [CONTENT_TYPE, MESSAGE_DIGEST, SIGNING_TIME])
def test_attributes_that_must_be_signed_are_refused_unsigned(
    kind: str, alice_signed: bytes, make_attribute: Callable[..., bytes]
) -> None:
    """RFC 5652 sections 11.1 to 11.3."""
    (result,) = check(with_unsigned(alice_signed, make_attribute(kind, der.NULL)))
    assert isinstance(result.error, MalformedError)
    assert "is not signed, and must be" in str(result.error)


def test_a_countersignature_must_not_be_signed(
    forge: Callable[..., Any], make_attribute: Callable[..., bytes]
) -> None:
    message = forge().with_attributes(make_attribute(COUNTERSIGNATURE, der.NULL)).encode()
    (result,) = check(message)
    assert isinstance(result.error, MalformedError)
    assert "countersignature must not be signed" in str(result.error)


def test_a_broken_countersignature_breaks_its_signer_only(
    software: Callable[..., Any], make_attribute: Callable[..., bytes]
) -> None:
    message = sign_detached(io.BytesIO(CONTENT), [software(), software("ed25519")])
    results = check(with_unsigned(message, make_attribute(COUNTERSIGNATURE, der.sequence())))
    broken = {result.signer.unsigned_attributes is not None: result.error for result in results}
    assert isinstance(broken[True], MalformedError)
    assert broken[False] is None


def test_the_nesting_has_a_limit(
    alice_signed: bytes, software: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    message = countersign(countersign(alice_signed, software(number=1)), software(number=2), path=(0, 0))
    monkeypatch.setattr(verify, "MAX_COUNTERSIGNATURE_DEPTH", 1)
    (result,) = check(message)
    assert result.error is None
    (countersigner,) = result.countersignatures
    assert isinstance(countersigner.error, MalformedError)
    assert "deeper than 1" in str(countersigner.error)


def test_the_number_has_a_limit(
    alice_signed: bytes, software: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    message = countersign(alice_signed, software(number=1), software(number=2))
    monkeypatch.setattr(verify, "MAX_COUNTERSIGNATURES", 1)
    (result,) = check(message)
    assert isinstance(result.error, MalformedError)
    assert "more than 1 countersignatures" in str(result.error)


# --- refusals


@pytest.mark.parametrize("path", [(), (1,), (-1,), (0, 0), (0, 1, 0)])
def test_a_signature_that_is_not_there_is_not_countersigned(
    path: tuple[int, ...], alice_signed: bytes, software: Callable[..., Any]
) -> None:
    with pytest.raises(UsageError, match="no signature number"):
        countersign(alice_signed, software(number=1), path=path)


def test_a_lying_token_is_caught_before_anything_is_released(alice_signed: bytes, liar: Any) -> None:  # noqa: ANN401
    output = io.BytesIO()
    with pytest.raises(SigningError):
        add_countersignatures(read(alice_signed), [liar], output)
    assert output.getvalue() == b""


def test_an_unexpected_element_behind_the_signature_is_refused(alice_signed: bytes) -> None:
    (info,) = read(alice_signed).signer_infos
    with pytest.raises(MalformedError, match="SignerInfo is broken"):
        SignerInfo.load(der.sequence(*der.elements(info.encoded), der.NULL))
