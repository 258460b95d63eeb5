"""What archive timestamps are over, computed once more from the words of EN 319 122-1 section 5.5."""

from __future__ import annotations

import hashlib
import io
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from asn1crypto import cms, core

from tokensign import der
from tokensign.algorithms import DIGESTS
from tokensign.cades.archive import HashIndex
from tokensign.cades.levels import Level
from tokensign.cms.attributes import ARCHIVE_TIME_STAMP_V3, ATS_HASH_INDEX_V3
from tokensign.cms.signed_data import SignedData, SignerInfo, read_signed_data
from tokensign.cms.timestamp import TimestampToken
from tokensign.cms.unsigned_attributes import unsigned_values, with_unsigned_attribute
from tokensign.errors import BadSignatureError, MalformedError

if TYPE_CHECKING:
    from tests.cades.conftest import World


class _Index(core.Sequence):  # type: ignore[misc]  # asn1crypto has no types
    """ATSHashIndexV3, section 5.5.2."""

    _fields = [  # noqa: RUF012 - asn1crypto's way
        ("hash_ind_algorithm", cms.DigestAlgorithm),
        ("certificates_hash_index", core.SequenceOf, {"spec": core.OctetString}),
        ("crls_hash_index", core.SequenceOf, {"spec": core.OctetString}),
        ("unsigned_attr_values_hash_index", core.SequenceOf, {"spec": core.OctetString}),
    ]


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def unsigned(signer: cms.SignerInfo, kind: str) -> list[bytes]:
    return [
        value.dump()
        for attribute in signer["unsigned_attrs"]
        if attribute["type"].dotted == kind
        for value in attribute["values"]
    ]


@pytest.fixture
def archived(world: World) -> bytes:
    return world.raised(Level.B_LTA)


def test_the_index_lists_every_element_and_the_imprint_is_over_the_listed_fields(
    world: World, archived: bytes
) -> None:
    data = cms.ContentInfo.load(archived)["content"]
    (signer,) = data["signer_infos"]
    (token,) = unsigned(signer, ARCHIVE_TIME_STAMP_V3)
    token_data = cms.ContentInfo.load(token)["content"]
    (tsa,) = token_data["signer_infos"]
    (encoded,) = unsigned(tsa, ATS_HASH_INDEX_V3)
    index = _Index.load(encoded)
    assert index["hash_ind_algorithm"]["algorithm"].native == "sha256"
    hashed = {name: set(index[name].native) for name in ("certificates_hash_index", "crls_hash_index")}
    assert hashed["certificates_hash_index"] == {sha256(entry.dump()) for entry in data["certificates"]}
    assert hashed["crls_hash_index"] == {sha256(entry.dump()) for entry in data["crls"]}
    assert index["unsigned_attr_values_hash_index"].native == [
        sha256(attribute["type"].dump() + value.dump())
        for attribute in signer["unsigned_attrs"]
        if attribute["type"].dotted != ARCHIVE_TIME_STAMP_V3
        for value in attribute["values"]
    ]
    fields = ("version", "sid", "digest_algorithm", "signed_attrs", "signature_algorithm", "signature")
    covered = (
        data["encap_content_info"]["content_type"].dump()
        + sha256(world.content)
        + b"".join(signer[field].dump() for field in fields)
        + encoded
    )
    info = token_data["encap_content_info"]["content"].parsed
    assert info["message_imprint"]["hashed_message"].native == sha256(covered)


def test_signed_attributes_are_covered_with_their_implicit_tag(archived: bytes) -> None:
    (signer,) = cms.ContentInfo.load(archived)["content"]["signer_infos"]
    assert signer["signed_attrs"].dump()[0] == 0xA0


def test_an_index_is_read_as_it_was_made(archived: bytes) -> None:
    message = read_signed_data_of(archived)
    (signer,) = message.signer_infos
    (encoded,) = unsigned_values(signer, ARCHIVE_TIME_STAMP_V3)
    index = HashIndex.of_token(TimestampToken.load(encoded))
    added = index.check(message, signer)
    assert added.certificates == added.revocation_choices == ()
    assert added.unsigned == ((ARCHIVE_TIME_STAMP_V3, encoded),)


@pytest.mark.parametrize(
    ("field", "what"), [("certificate_choices", "certificate"), ("revocation_choices", "CRL")]
)
def test_what_was_listed_and_is_gone_is_noticed(archived: bytes, field: str, what: str) -> None:
    message = read_signed_data_of(archived)
    (signer,) = message.signer_infos
    (encoded,) = unsigned_values(signer, ARCHIVE_TIME_STAMP_V3)
    index = HashIndex.of_token(TimestampToken.load(encoded))
    without = replace(message, **{field: getattr(message, field)[1:]})
    with pytest.raises(BadSignatureError, match=f"{what}.*was changed or removed"):
        index.check(without, signer)


def test_a_timestamp_without_an_index_is_no_archive_timestamp(world: World) -> None:
    with pytest.raises(MalformedError, match="0 ats-hash-index-v3"):
        HashIndex.of_token(world.means().authority.timestamp(bytes(32)))


def test_a_broken_index_is_refused(world: World) -> None:
    token = world.means().authority.timestamp(bytes(32))
    broken = der.sequence(DIGESTS["sha256"].algorithm_identifier, der.sequence())
    info = SignerInfo.load(with_unsigned_attribute(token.signer, ATS_HASH_INDEX_V3, broken))
    message = replace(token.message, signer_infos=(info,))
    with pytest.raises(MalformedError, match="cannot be read"):
        HashIndex.of_token(replace(token, message=message))


def read_signed_data_of(encoded: bytes) -> SignedData:
    return read_signed_data(io.BytesIO(encoded))
