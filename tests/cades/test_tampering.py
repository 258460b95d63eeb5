"""One octet of an archived message changed: it holds no longer, wherever the octet is."""

from __future__ import annotations

import io
import random
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from timestamping import OpensslTsa, now

from tokensign import der
from tokensign.cades.levels import Level
from tokensign.cms.attributes import ARCHIVE_TIME_STAMP_V3
from tokensign.cms.signed_data import SignerInfo, read_signed_data
from tokensign.cms.signed_data_parts import SignedDataParts
from tokensign.cms.timestamp import TimestampToken
from tokensign.cms.unsigned_attributes import unsigned_values, with_unsigned_attribute
from tokensign.errors import TokensignError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tests.cades.conftest import World
    from tokensign.cms.signed_data import SignedData

LATER = timedelta(days=20_000)
STEP = 16  # of a message of some 6,000 octets, whose keys are others each time


@pytest.fixture(
    params=[
        "archived",
        pytest.param("renewed by another TSA", marks=pytest.mark.full),
        pytest.param("archived by a TSA of another CA", marks=pytest.mark.full),
    ]
)
def archived(world: World, request: pytest.FixtureRequest) -> bytes:
    message = world.raised(Level.B_LTA if "renewed" in request.param else Level.B_LT)
    if request.param == "archived":
        return world.raised(Level.B_LTA, message)
    if "renewed" in request.param:
        return world.raised(Level.B_LTA, message, url=world.tsa("other"))
    authority = world.root.issue("Other time CA", ca=True, days=2000)  # its CRL comes after the timestamp
    tsa = OpensslTsa(world.folder / "other", authority.issue("TSA", timestamping=True, days=1500))
    trust = replace(world.policy, crls=(*world.crls, authority.crl()))
    means = world.means(world.site.serve("/other", tsa.page), trust=trust)
    means = replace(means, authority=replace(means.authority, trust=trust))
    return world.raised(Level.B_LTA, message, means=means)


def survivors(world: World, archived: bytes, places: Iterable[int]) -> list[tuple[int, int]]:
    """The changes after which the message would still hold as an archived one."""
    generator = random.Random(5)  # noqa: S311 - no secret is made
    later = now() + LATER
    archivist = world.archivist
    found = []
    for place in places:
        change = generator.choice([1 << generator.randrange(8), generator.randrange(1, 256)])
        changed = bytearray(archived)
        changed[place] ^= change
        try:
            if world.report(bytes(changed), at=later, trust=archivist).holds:
                found.append((place, change))
        except TokensignError:
            pass
    return found


def test_no_octet_of_a_sample_can_be_changed(world: World, archived: bytes) -> None:
    assert world.report(archived, at=now() + LATER).holds
    assert survivors(world, archived, range(0, len(archived), STEP)) == []


@pytest.mark.full
def test_no_octet_can_be_changed(world: World, archived: bytes) -> None:
    assert survivors(world, archived, range(len(archived))) == []


def rewritten(archived: bytes, change: Callable[[SignedData], SignedData]) -> bytes:
    message = read_signed_data(io.BytesIO(archived))
    return SignedDataParts.of(change(message)).detached()


def test_a_certificate_that_is_put_in_is_noticed(world: World, archived: bytes) -> None:
    stranger = world.root.issue("Stranger").certificate.der
    changed = rewritten(
        archived,
        lambda message: replace(message, certificate_choices=(*message.certificate_choices, stranger)),
    )
    report = world.report(changed, at=now() + LATER)
    assert "a certificate outside of it" in report.integrity.reason


def test_a_crl_that_is_put_in_is_noticed(world: World, archived: bytes) -> None:
    crl = world.people.crl(world.alice)
    changed = rewritten(
        archived, lambda message: replace(message, revocation_choices=(*message.revocation_choices, crl))
    )
    assert not world.report(changed, at=now() + LATER).holds


def test_an_unknown_attribute_that_is_put_in_is_noticed(world: World, archived: bytes) -> None:
    changed = rewritten(archived, lambda message: _with_attribute(message, "1.2.3.4", der.integer(1)))
    assert "an unsigned attribute outside of it" in world.report(changed, at=now() + LATER).integrity.reason


def test_a_forged_archive_timestamp_breaks_the_archive(world: World, archived: bytes) -> None:
    token = world.means().authority.timestamp(bytes(32)).encoded
    changed = rewritten(archived, lambda message: _with_attribute(message, ARCHIVE_TIME_STAMP_V3, token))
    assert not world.report(changed, at=now() + LATER).holds
    assert not world.report(changed, trust=world.policy).holds


def test_a_certificate_that_is_put_into_the_timestamp_is_noticed(world: World) -> None:
    archived = world.raised(Level.B_LTA)
    stranger = world.root.issue("Stranger").certificate.der
    (signer,) = read_signed_data(io.BytesIO(archived)).signer_infos
    (encoded,) = unsigned_values(signer, ARCHIVE_TIME_STAMP_V3)
    token = TimestampToken.load(encoded).message
    longer = io.BytesIO()
    parts = SignedDataParts.of(replace(token, certificate_choices=(*token.certificate_choices, stranger)))
    assert token.content is not None
    parts.write(longer, token.content.chunks(), token.content.size())

    def with_longer_token(message: SignedData) -> SignedData:
        info = message.signer_infos[0]
        kept = [
            attribute
            for attribute in der.elements(info.unsigned_attributes or b"")
            if encoded not in attribute
        ]
        fields = [*der.elements(info.encoded)[:-1], der.set_of(*kept, tag=0xA1)]
        shorter = SignerInfo.load(der.sequence(*fields))
        again = with_unsigned_attribute(shorter, ARCHIVE_TIME_STAMP_V3, longer.getvalue())
        return replace(message, signer_infos=(SignerInfo.load(again),))

    report = world.report(rewritten(archived, with_longer_token), at=now() + LATER)
    assert "a certificate outside of it" in report.integrity.reason


def _with_attribute(message: SignedData, kind: str, value: bytes) -> SignedData:
    (signer,) = message.signer_infos
    return replace(message, signer_infos=(SignerInfo.load(with_unsigned_attribute(signer, kind, value)),))
