from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import pytest

from tokensign import der
from tokensign.cms import signed_data
from tokensign.cms.encrypt import encrypt
from tokensign.cms.signed import SigningOptions, sign_attached, sign_detached
from tokensign.cms.signed_data import (
    SignedData,
    SignerIdentifier,
    SignerInfo,
    _read_in_place,
    _read_small,
    read_signed_data,
)
from tokensign.errors import MalformedError, TokensignError, UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

CONTENT = b"some content"


@pytest.fixture
def message(software: Callable[..., Any]) -> bytes:
    return sign_detached(io.BytesIO(CONTENT), [software()])


def build(
    *,
    content_type: str = "1.2.840.113549.1.7.2",
    digests: bytes | None = None,
    certificates: bytes = b"",
    revocation: bytes = b"",
    infos: bytes | None = None,
    more: bytes = b"",
) -> io.BytesIO:
    data = der.sequence(
        der.integer(1),
        der.set_of() if digests is None else digests,
        der.sequence(der.object_identifier("1.2.840.113549.1.7.1")),
        certificates,
        revocation,
        der.set_of() if infos is None else infos,
        more,
    )
    return io.BytesIO(der.sequence(der.object_identifier(content_type), der.explicit(0, data)))


def test_the_structure_is_read(message: bytes, software: Callable[..., Any]) -> None:
    signed = read_signed_data(io.BytesIO(message))
    assert signed.content_type == "1.2.840.113549.1.7.1"
    assert signed.content is None
    assert signed.certificates == (software().certificate,)
    (info,) = signed.signer_infos
    assert info.digest.name == "sha256"
    assert info.identifier.names(software().certificate)
    assert not info.identifier.names(software(number=1).certificate)
    assert signed.certificate_of(info) == software().certificate


def test_reading_begins_at_the_position_of_the_stream(message: bytes) -> None:
    stream = io.BytesIO(b"skipped" + message)
    stream.seek(7)
    assert len(read_signed_data(stream).signer_infos) == 1


def test_content_is_read_as_often_as_asked(software: Callable[..., Any]) -> None:
    output = io.BytesIO()
    sign_attached(io.BytesIO(CONTENT), [software()], output)
    output.seek(0)
    content = read_signed_data(output).content
    assert content is not None
    assert [b"".join(content.chunks()) for _ in range(2)] == [CONTENT, CONTENT]


def test_a_certificate_from_elsewhere_is_found(software: Callable[..., Any]) -> None:
    options = SigningOptions(include_certificates=False, identifier="ski")
    signed = read_signed_data(io.BytesIO(sign_detached(io.BytesIO(CONTENT), [software()], options)))
    (info,) = signed.signer_infos
    assert signed.certificate_of(info) is None
    others = [software(number=1).certificate, software().certificate]
    assert signed.certificate_of(info, others) == software().certificate
    assert str(info.identifier) == f"key identifier {software().certificate.subject_key_identifier.hex()}"


def test_an_identifier_says_who_it_is(software: Callable[..., Any]) -> None:
    certificate = software().certificate
    identifier = SignerIdentifier(issuer_and_serial_number=certificate.issuer_and_serial_number)
    assert str(identifier) == f"serial {certificate.serial_number:x} of CN=Root,O=Acme"


def test_a_broken_certificate_that_nobody_needs_does_no_harm(software: Callable[..., Any]) -> None:
    broken = der.sequence(der.integer(1))
    stream = build(certificates=der.tlv(0xA0, broken + software().certificate.der))
    signed = read_signed_data(stream)
    assert signed.certificate_choices == (broken, software().certificate.der)
    assert signed.certificates == (software().certificate,)


@pytest.mark.parametrize(
    ("content_type", "words", "hint"),
    [
        ("1.2.840.113549.1.7.3", "enveloped-data", "decrypt"),
        ("1.2.840.113549.1.9.16.1.23", "auth-enveloped-data", "decrypt"),
        ("1.2.840.113549.1.7.1", "data", "inspect"),
        ("1.2.3.4", "1.2.3.4", "inspect"),
    ],
)
def test_another_kind_of_message_is_named(content_type: str, words: str, hint: str) -> None:
    with pytest.raises(UnsupportedError, match=f"is {words}, not signed-data") as failure:
        read_signed_data(build(content_type=content_type))
    assert hint in str(failure.value.hint)


def test_an_encrypted_message_is_sent_to_decrypt(software: Callable[..., Any]) -> None:
    output = io.BytesIO()
    encrypt(io.BytesIO(CONTENT), [software("rsa:2048").certificate], output)
    output.seek(0)
    with pytest.raises(UnsupportedError, match="auth-enveloped-data"):
        read_signed_data(output)


@pytest.mark.parametrize(
    ("stream", "words"),
    [
        (io.BytesIO(b""), "empty"),
        (io.BytesIO(b"\x04\x01x"), "not a CMS message"),
        (io.BytesIO(der.sequence()), "lacks its contentType"),
        (io.BytesIO(der.sequence(der.object_identifier("1.2.3"))), "lacks its content"),
        (io.BytesIO(der.sequence(der.integer(1))), "in the place of contentType"),
        (build(digests=der.sequence()), "in the place of digestAlgorithms"),
        (build(infos=b""), "lacks its signerInfos"),
        (build(more=der.NULL), "unexpected element"),
        (build(infos=der.set_of(der.sequence())), "SignerInfo is broken"),
        (build(infos=der.set_of(der.sequence(der.integer(1)))), "SignerInfo is broken"),
    ],
)
def test_a_broken_structure_is_refused(stream: io.BytesIO, words: str) -> None:
    with pytest.raises(MalformedError, match=words):
        read_signed_data(stream)


@pytest.mark.parametrize(("field", "tag"), [("digests", 0x31), ("infos", 0x31), ("certificates", 0xA0)])
def test_the_number_of_parts_has_a_limit(
    field: str, tag: int, monkeypatch: pytest.MonkeyPatch, software: Callable[..., Any]
) -> None:
    monkeypatch.setattr(signed_data, "MAX_SIGNERS", 2)
    monkeypatch.setattr(signed_data, "MAX_CERTIFICATES", 2)
    info = read_signed_data(io.BytesIO(sign_detached(io.BytesIO(CONTENT), [software()]))).signer_infos[0]
    one = {"digests": der.sequence(), "infos": info.encoded, "certificates": der.sequence()}[field]
    read_signed_data(build(**{field: der.tlv(tag, one * 2)}))  # type: ignore[arg-type]
    with pytest.raises(MalformedError, match="more than 2"):
        read_signed_data(build(**{field: der.tlv(tag, one * 3)}))  # type: ignore[arg-type]


def test_signed_attributes_keep_their_octets_under_the_tag_of_a_set(message: bytes) -> None:
    info = read_signed_data(io.BytesIO(message)).signer_infos[0]
    assert info.signed_attributes is not None
    assert info.signed_attributes[0] == 0x31
    assert info.signed_attributes[1:] in message
    assert SignerInfo.load(info.encoded) == info


# --- the short way for small messages, beside the one for all


def read_both_ways(encoded: bytes) -> tuple[SignedData | None, SignedData | None]:
    """By the short way, None where that is not taken; and by the other, None where that refuses."""
    small = _read_small(io.BytesIO(encoded))
    try:
        return small, _read_in_place(io.BytesIO(encoded))
    except TokensignError:
        return small, None


def test_a_small_detached_message_is_read_in_memory(message: bytes) -> None:
    small, other = read_both_ways(message)
    assert small == other
    assert small is not None


def test_the_short_way_leaves_to_the_other_what_it_is_not_for(software: Callable[..., Any]) -> None:
    attached, indefinite = io.BytesIO(), io.BytesIO()
    sign_attached(io.BytesIO(CONTENT), [software()], attached)
    body = der.content(sign_detached(io.BytesIO(CONTENT), [software()]))
    indefinite.write(b"\x30\x80" + body + b"\0\0")
    large = build(certificates=der.tlv(0xA0, der.sequence(bytes(1 << 16))))
    for stream in (attached, indefinite, large):
        stream.seek(0)
        assert _read_small(stream) is None
        assert stream.tell() == 0
        assert isinstance(read_signed_data(stream), SignedData)


@pytest.mark.parametrize(
    ("fixed", "flipped"),
    [((0xFF,), (0x01,)), pytest.param((0x00, 0x80, 0xFF), (0x01, 0x20), marks=pytest.mark.full)],
)
def test_every_changed_octet_is_read_the_same_by_both_ways(
    message: bytes, fixed: Sequence[int], flipped: Sequence[int]
) -> None:
    taken = 0
    for position in range(len(message)):
        for value in {*fixed, *(message[position] ^ bits for bits in flipped)}:
            changed = message[:position] + bytes((value,)) + message[position + 1 :]
            small, other = read_both_ways(changed)
            assert small is None or small == other, (position, value)
            taken += small is not None
    assert taken > len(message)  # most changes are in names, keys and hash values
