"""Signatures raised to higher levels, and what they are worth later."""

from __future__ import annotations

import io
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from timestamping import CarelessTsa, Holder, OpensslTsa, certify, now

from tokensign.cades.archive import HashIndex, imprint_input, with_hash_index
from tokensign.cades.extend import extend_signatures, present_level
from tokensign.cades.levels import Level
from tokensign.cms.attributes import ARCHIVE_TIME_STAMP_V3, SIGNATURE_TIME_STAMP
from tokensign.cms.signed import sign_attached
from tokensign.cms.signed_data import SignerInfo, read_signed_data
from tokensign.cms.signed_data_parts import SignedDataParts
from tokensign.cms.timestamp import TimestampRequest, TimestampResponse, TimestampToken
from tokensign.cms.unsigned_attributes import unsigned_values, with_unsigned_attribute
from tokensign.errors import BadSignatureError, NetworkError, UntrustedError, UsageError
from tokensign.pki import trust
from tokensign.verification import Expectations, verify

if TYPE_CHECKING:
    from tests.cades.conftest import World
    from tokensign.algorithms import SignatureScheme

DAY = timedelta(days=1)
MINUTE = timedelta(minutes=1)
WHEN_ALL_HAS_EXPIRED = timedelta(days=20_000)
WHEN_ALICE_HAS_EXPIRED = timedelta(days=500)
WHEN_THE_TSA_HAS_EXPIRED = timedelta(days=1600)


@pytest.mark.parametrize("level", [Level.B_LT, Level.B_LTA])
def test_what_is_raised_has_the_level_and_needs_nothing_but_the_root(world: World, level: Level) -> None:
    report = world.report(world.raised(level))
    assert report.holds
    assert report.level is level


def test_a_timestamped_signature_has_level_b_t(world: World) -> None:
    report = world.report(world.raised(Level.B_T), trust=world.policy)
    assert report.holds
    assert report.level is Level.B_T
    assert report.time.existed_at is not None
    assert abs(report.time.existed_at - now()) < timedelta(minutes=1)


def test_a_plain_signature_has_level_b_b(world: World) -> None:
    assert world.report(world.signed(), trust=world.policy).level is Level.B_B


def test_an_archived_signature_holds_after_every_certificate_has_expired(world: World) -> None:
    archived = world.raised(Level.B_LTA)
    later = now() + WHEN_ALL_HAS_EXPIRED
    assert all(entry.not_after < later for entry in (world.root.certificate, world.alice.certificate))
    report = world.report(archived, at=later)
    assert report.holds
    assert report.level is Level.B_LTA


def test_a_plain_signature_does_not_outlive_its_certificate(world: World) -> None:
    report = world.report(world.signed(), at=now() + WHEN_ALICE_HAS_EXPIRED)
    assert "expired" in report.trust.reason


def test_a_timestamped_signature_outlives_its_certificate(world: World) -> None:
    report = world.report(world.raised(Level.B_LT), at=now() + WHEN_ALICE_HAS_EXPIRED)
    assert report.holds
    assert report.level is Level.B_LT


def test_a_timestamped_signature_does_not_outlive_the_certificates_of_the_tsa(world: World) -> None:
    report = world.report(world.raised(Level.B_LT), at=now() + WHEN_THE_TSA_HAS_EXPIRED)
    assert not report.holds
    assert "no archive timestamp covers it" in str(report.time.timestamps[0].error)


def test_revocation_after_the_timestamp_does_no_harm(world: World) -> None:
    signature = world.raised(Level.B_LT)
    crl = world.people.crl(world.alice, since=now() + MINUTE, at=now() + 2 * MINUTE)
    report = world.report(signature, at=now() + 3 * MINUTE, trust=replace(world.archivist, crls=(crl,)))
    assert report.holds
    assert crl in {entry.encoded for entry in report.revocation}


def test_revocation_before_the_timestamp_counts(world: World) -> None:
    signature = world.raised(Level.B_LT)
    crl = world.people.crl(world.alice, since=now() - timedelta(hours=5), at=now() + 2 * MINUTE)
    report = world.report(signature, at=now() + 3 * MINUTE, trust=replace(world.archivist, crls=(crl,)))
    assert "revoked" in report.trust.reason


def test_a_plain_signature_of_a_revoked_certificate_does_not_hold(world: World) -> None:
    crl = world.people.crl(world.alice, since=now() + MINUTE, at=now() + 2 * MINUTE)
    knows = replace(world.archivist, crls=(crl, world.root.crl()))
    assert "revoked" in world.report(world.signed(), at=now() + 3 * MINUTE, trust=knows).trust.reason


def test_a_timestamp_of_a_tsa_that_was_revoked_later_proves_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trust, "_NOW", timedelta(0))  # no path is kept for the future that this is about
    signature = world.raised(Level.B_LTA)
    token = TimestampToken.load(unsigned_values(first(signature), SIGNATURE_TIME_STAMP)[0])
    revoked = Holder(_loaded(token), world.times.key)
    crl = world.times.crl(revoked, since=now() + MINUTE, at=now() + 2 * MINUTE)
    report = world.report(signature, at=now() + 3 * MINUTE, trust=replace(world.archivist, crls=(crl,)))
    assert report.time.existed_at is None
    assert all("revoked" in str(entry.error) for entry in report.time.timestamps)


def test_a_timestamp_of_an_unknown_tsa_proves_nothing_and_does_no_harm(world: World) -> None:
    bystander = certify("Another root", ca=True)
    alice = bystander.issue("Alice")
    both = replace(
        world.policy,
        anchors=(world.root.certificate, bystander.certificate),
        crls=(*world.crls, bystander.crl()),
    )
    signature = world.raised(Level.B_LTA, world.signed(alice), trust=both)
    report = world.report(signature, trust=replace(both, anchors=(bystander.certificate,)))
    assert report.holds
    assert report.level is Level.B_B
    assert report.time.existed_at is None


def test_a_timestamp_from_the_future_of_the_verification_does_not_count(world: World) -> None:
    report = world.report(world.raised(Level.B_LTA), at=now() - timedelta(hours=1), trust=world.policy)
    assert report.time.existed_at is None
    assert report.level is Level.B_B


def test_signing_takes_one_operation_of_the_key_and_raising_none(world: World) -> None:
    uses = []

    class Counting(Holder):
        def sign(self, message: bytes, scheme: SignatureScheme) -> bytes:
            uses.append(scheme)
            return super().sign(message, scheme)

    alice = Counting(world.alice.loaded, world.alice.key, world.alice.chain)
    world.raised(Level.B_LTA, world.signed(alice))
    assert len(uses) == 1


def test_levels_are_raised_one_after_the_other(world: World) -> None:
    signature = world.signed()
    for level in (Level.B_T, Level.B_LT, Level.B_LTA):
        signature = world.raised(level, signature)
        message = read_signed_data(io.BytesIO(signature))
        assert present_level(message.signer_infos[0], message) is level
    assert len(unsigned_values(first(signature), SIGNATURE_TIME_STAMP)) == 1
    assert world.report(signature, at=now() + WHEN_ALL_HAS_EXPIRED).level is Level.B_LTA


def test_an_archive_is_renewed_with_another_tsa(world: World) -> None:
    renewed = world.raised(Level.B_LTA, world.raised(Level.B_LTA), url=world.tsa("other"))
    assert len(unsigned_values(first(renewed), ARCHIVE_TIME_STAMP_V3)) == 2
    report = world.report(renewed, at=now() + WHEN_ALL_HAS_EXPIRED)
    assert report.level is Level.B_LTA
    assert all(entry.error is None for entry in report.time.timestamps)


def test_an_archive_that_is_renewed_too_late_is_lost(world: World) -> None:
    short = world.tsa("short", days=10)
    archived = world.raised(Level.B_LTA, url=short)
    late = CarelessTsa(world.times.issue("TSA late", timestamping=True, days=1500), now() + 11 * DAY)
    client = world.means().authority
    message = read_signed_data(io.BytesIO(archived))
    (signer,) = message.signer_infos
    index = HashIndex.of(message, signer, client.digest)
    content_digest = client.digest.new(world.content).digest()
    covered = client.digest.new(imprint_input(message, signer, content_digest, index)).digest()
    request = TimestampRequest(digest=client.digest, hashed_message=covered)
    token = TimestampToken.load(TimestampResponse.load(late.reply(request.encode())).token or b"")
    info = with_unsigned_attribute(signer, ARCHIVE_TIME_STAMP_V3, with_hash_index(token, index))
    renewed = SignedDataParts.of(replace(message, signer_infos=(SignerInfo.load(info),))).detached()
    no_crls = replace(world.archivist, revocation="off")  # there are none of that time
    report = world.report(renewed, at=now() + 12 * DAY, trust=no_crls)
    assert "was not renewed before" in str(report.time.timestamps[0].error)
    assert report.time.existed_at == late.time


def test_all_signatures_of_a_message_are_raised(world: World) -> None:
    bob = world.people.issue("Bob")
    archived = world.raised(Level.B_LTA, world.signed(world.alice, bob))
    expectations = Expectations(trust=world.archivist, moment=now() + WHEN_ALL_HAS_EXPIRED)
    report = verify(io.BytesIO(archived), expectations, io.BytesIO(world.content))
    assert [signer.level for signer in report.signers] == [Level.B_LTA, Level.B_LTA]


def test_an_attached_signature_keeps_its_content(world: World) -> None:
    message, archived, content = io.BytesIO(), io.BytesIO(), io.BytesIO()
    sign_attached(io.BytesIO(world.content), [world.alice], message)
    message.seek(0)
    extend_signatures(read_signed_data(message), Level.B_LTA, world.means(), archived)
    archived.seek(0)
    expectations = Expectations(trust=world.archivist, moment=now() + WHEN_ALL_HAS_EXPIRED)
    report = verify(archived, expectations, output=content)
    assert report.signers[0].level is Level.B_LTA
    assert content.getvalue() == world.content


def test_no_timestamp_is_asked_for_a_signature_that_does_not_hold(world: World) -> None:
    with pytest.raises(BadSignatureError):
        extend_signatures(
            read_signed_data(io.BytesIO(world.signed())),
            Level.B_T,
            world.means(),
            io.BytesIO(),
            io.BytesIO(b"another contract"),
        )
    assert world.site.asked == []


def test_nothing_is_built_on_a_timestamp_over_something_else(world: World) -> None:
    other = first(world.raised(Level.B_T))
    (foreign,) = unsigned_values(other, SIGNATURE_TIME_STAMP)
    mine = read_signed_data(io.BytesIO(world.signed()))
    info = SignerInfo.load(with_unsigned_attribute(mine.signer_infos[0], SIGNATURE_TIME_STAMP, foreign))
    mixed = SignedDataParts.of(replace(mine, signer_infos=(info,))).detached()
    with pytest.raises(BadSignatureError, match="about other data"):
        world.raised(Level.B_LTA, mixed)
    report = world.report(mixed, trust=world.policy)
    assert report.level is Level.B_B


def test_what_nobody_can_tell_about_revocation_is_not_archived(world: World) -> None:
    with pytest.raises(UntrustedError, match="nothing tells whether"):
        world.raised(Level.B_LT, trust=world.archivist)


def test_a_tsa_that_is_not_trusted_is_not_used(world: World) -> None:
    means = world.means()
    stranger = replace(means.authority, trust=replace(world.policy, anchors=(world.people.certificate,)))
    with pytest.raises(NetworkError, match="is not used"):
        world.raised(Level.B_T, means=replace(means, authority=stranger))


def test_a_level_that_is_reached_is_not_raised(world: World) -> None:
    with pytest.raises(UsageError, match="B-T already"):
        world.raised(Level.B_T, world.raised(Level.B_T))


def test_every_signature_is_b_b_from_the_start(world: World) -> None:
    with pytest.raises(UsageError, match="B-B"):
        world.raised(Level.B_B)


def test_b_lt_needs_somebody_to_trust(world: World) -> None:
    with pytest.raises(UsageError, match="needed to validate"):
        world.raised(Level.B_LT, trust=None)
    assert world.site.asked == []


def test_another_tsa_for_the_archive_timestamp_brings_its_own_revocation_information(world: World) -> None:
    other_root = certify("Another root", ca=True)
    tsa = OpensslTsa(world.folder / "other", other_root.issue("TSA", timestamping=True, days=300))
    both = replace(
        world.policy,
        anchors=(world.root.certificate, other_root.certificate),
        crls=(*world.crls, other_root.crl()),
    )
    means = world.means(world.site.serve("/other", tsa.page))
    means = replace(means, trust=both, authority=replace(means.authority, trust=both))
    archived = world.raised(Level.B_LTA, world.raised(Level.B_LT), means=means)
    alone = replace(both, crls=())
    assert world.report(archived, at=now() + WHEN_ALL_HAS_EXPIRED, trust=alone).level is Level.B_LTA


def test_a_detached_signature_is_raised_with_its_content_only(world: World) -> None:
    with pytest.raises(UsageError, match="its content is needed"):
        extend_signatures(
            read_signed_data(io.BytesIO(world.signed())), Level.B_T, world.means(), io.BytesIO()
        )


def first(signature: bytes) -> SignerInfo:
    return read_signed_data(io.BytesIO(signature)).signer_infos[0]


def _loaded(token: TimestampToken):  # noqa: ANN202 - cryptography's certificate
    from cryptography import x509

    return x509.load_der_x509_certificate(token.verify().der)
