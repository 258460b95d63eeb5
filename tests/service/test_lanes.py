"""Keys behind a lane do what the same keys do in this process, and one lane's limits hold."""

from __future__ import annotations

import asyncio
import io
import os
import subprocess
import sys
from hashlib import sha256
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa, utils
from cryptography.hazmat.primitives.hashes import SHA256
from lane_places import key_called, running

from tokensign.algorithms import SCHEMES
from tokensign.cms.decrypt import decrypt
from tokensign.cms.encrypt import encrypt
from tokensign.cms.signed import sign_detached
from tokensign.errors import (
    ConfigurationError,
    DecryptionError,
    LaneBusyError,
    LaneDownError,
    MechanismError,
    UsageError,
)
from tokensign.keys import Pkcs1Transport
from tokensign.service.lanes import BATCH_MAXIMUM, Lanes, LaneSettings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
    from lane_places import TokenPlace

    from tokensign.certificates import Certificate
    from tokensign.errors import TokensignError

pytestmark = pytest.mark.anyio

RSA = SCHEMES["rsa-pkcs1-sha256"]
ECDSA = SCHEMES["ecdsa-sha256"]
DIGEST = sha256(b"content").digest()


@pytest.fixture(scope="module")
async def lanes(
    furnished_token: TokenPlace, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Lanes]:
    """A lane on a token, as its defaults are."""
    place = furnished_token.copy(tmp_path_factory.mktemp("lanes"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOFTHSM2_CONF", str(place.configuration))
        async with running(place.settings()) as started:
            yield started


def verify_rsa(public_key: PublicKeyTypes, signature: bytes | TokensignError, digest: bytes) -> None:
    assert isinstance(public_key, rsa.RSAPublicKey)
    assert isinstance(signature, bytes), signature
    public_key.verify(signature, digest, padding.PKCS1v15(), utils.Prehashed(SHA256()))


async def test_keys_are_listed_with_what_they_do(lanes: Lanes) -> None:
    keys = lanes.keys()
    assert set(keys) == {"lane/rsa=3A2048", "lane/ec=3Ap256", "lane/ed25519"}
    key = keys["lane/rsa=3A2048"]
    assert (key.lane, key.token, key.spec, key.uri.object) == ("lane", "lane", "rsa:2048", "rsa:2048")
    assert {"rsa-pkcs1-sha256", "rsa-pss-sha512"} <= set(key.schemes)
    assert key.schemes["rsa-pkcs1-sha256"] is RSA
    assert {"sign", "decrypt"} <= key.usages
    assert key.certificate
    assert key.certificate.subject == "CN=rsa:2048"
    assert isinstance(key.public_key, rsa.RSAPublicKey)
    assert set(keys["lane/ed25519"].schemes) == {"eddsa-sha512"}


async def test_each_digest_of_a_batch_is_signed_in_order(lanes: Lanes) -> None:
    digests = [sha256(bytes([number])).digest() for number in range(BATCH_MAXIMUM)]
    key = key_called(lanes, "ec:p256")
    signatures = await key.sign_digests(digests, ECDSA)
    assert isinstance(key.public_key, ec.EllipticCurvePublicKey)
    for signature, digest in zip(signatures, digests, strict=True):
        assert isinstance(signature, bytes)
        key.public_key.verify(signature, digest, ec.ECDSA(utils.Prehashed(SHA256())))


async def test_calls_at_once_each_get_their_own_answer(token_place: TokenPlace) -> None:
    digests = [sha256(bytes([number])).digest() for number in range(64)]
    async with running(token_place.settings(workers=2)) as lanes:
        key = key_called(lanes, "rsa:2048")
        answers = await asyncio.gather(*(key.sign_digests([one], RSA) for one in digests))
    for (signature,), digest in zip(answers, digests, strict=True):
        verify_rsa(key.public_key, signature, digest)


async def test_one_bad_digest_does_not_spoil_the_others(lanes: Lanes) -> None:
    key = key_called(lanes, "rsa:2048")
    first, second, third = await key.sign_digests([DIGEST, b"short", DIGEST], RSA)
    verify_rsa(key.public_key, first, DIGEST)
    assert isinstance(second, UsageError)
    verify_rsa(key.public_key, third, DIGEST)


async def test_a_scheme_of_another_kind_of_key_is_refused_for_each(lanes: Lanes) -> None:
    refused = await key_called(lanes, "rsa:2048").sign_digests([DIGEST, DIGEST], ECDSA)
    assert [type(one) for one in refused] == [MechanismError, MechanismError]


@pytest.mark.parametrize("count", [0, BATCH_MAXIMUM + 1])
async def test_a_batch_has_a_size(lanes: Lanes, count: int) -> None:
    with pytest.raises(UsageError, match=f"{count} hash values"):
        await key_called(lanes, "rsa:2048").sign_digests([DIGEST] * count, RSA)


async def test_a_message_is_signed_by_itself_where_the_scheme_wants_that(lanes: Lanes) -> None:
    key = key_called(lanes, "ed25519")
    signature = await key.sign(b"message", SCHEMES["eddsa-sha512"])
    with pytest.raises(MechanismError, match="the message itself"):
        await key.sign_digest(DIGEST, SCHEMES["eddsa-sha512"])
    with pytest.raises(MechanismError, match="at most"):
        await key.sign(bytes((1 << 20) + 1), SCHEMES["eddsa-sha512"])
    assert isinstance(key.public_key, ed25519.Ed25519PublicKey)
    key.public_key.verify(signature, b"message")


async def test_a_large_message_is_hashed_before_it_is_sent(lanes: Lanes) -> None:
    message = bytes((1 << 20) + 1)
    key = key_called(lanes, "rsa:2048")
    signature = await key.sign(message, RSA)
    verify_rsa(key.public_key, signature, sha256(message).digest())


async def test_wrapped_keys_are_unwrapped_and_wrong_ones_all_look_alike(lanes: Lanes) -> None:
    key = key_called(lanes, "rsa:2048")
    assert isinstance(key.public_key, rsa.RSAPublicKey)
    wrapped = key.public_key.encrypt(b"k" * 32, padding.PKCS1v15())
    assert await key.unwrap(wrapped, Pkcs1Transport()) == b"k" * 32
    texts = set()
    for wrong in (b"", bytes(256), wrapped[:-1], wrapped[:-1] + bytes([wrapped[-1] ^ 1])):
        with pytest.raises(DecryptionError) as failure:
            await key.unwrap(wrong, Pkcs1Transport())
        texts.add(str(failure.value))
    assert len(texts) == 1


async def test_a_secret_is_agreed_on(lanes: Lanes) -> None:
    peer = ec.generate_private_key(ec.SECP256R1())
    key = key_called(lanes, "ec:p256")
    assert isinstance(key.public_key, ec.EllipticCurvePublicKey)
    assert await key.agree(peer.public_key()) == peer.exchange(ec.ECDH(), key.public_key)
    with pytest.raises(DecryptionError):
        await key.agree(ec.generate_private_key(ec.SECP384R1()).public_key())


async def test_cms_is_written_and_read_in_threads_with_a_lane_behind(token_place: TokenPlace) -> None:
    async with running(token_place.settings()) as lanes:
        key = key_called(lanes, "rsa:2048")
        assert key.certificate
        signed = await asyncio.to_thread(sign_detached, io.BytesIO(b"content"), [key.signer()])
        sealed, opened = io.BytesIO(), io.BytesIO()
        encrypt(io.BytesIO(b"secret"), [key.certificate], sealed)
        sealed.seek(0)
        await asyncio.to_thread(decrypt, sealed, [key.decryption_key()], opened)
    assert opened.getvalue() == b"secret"
    verify_with_openssl(token_place.folder, signed, b"content", key.certificate)


def verify_with_openssl(folder: Path, signed: bytes, content: bytes, certificate: Certificate) -> None:
    for name, octets in (("signed", signed), ("content", content), ("pem", certificate.pem().encode())):
        (folder / name).write_bytes(octets)
    command = "openssl cms -verify -binary -inform DER -in signed -content content -CAfile pem -partial_chain"
    subprocess.run(
        [*command.split(), "-purpose", "any", "-out", os.devnull], cwd=folder, check=True, capture_output=True
    )


async def test_a_full_queue_refuses_at_once(token_place: TokenPlace) -> None:
    async with running(token_place.settings(queue=3)) as lanes:
        key = key_called(lanes, "rsa:2048")
        answers = await asyncio.gather(
            *(key.sign_digests([DIGEST], RSA) for _ in range(5)), return_exceptions=True
        )
        signed = [one for one in answers if isinstance(one, list)]
        assert [type(one) for one in answers if not isinstance(one, list)] == [LaneBusyError] * 2
        assert len(signed) == 3
        verify_rsa(key.public_key, (await key.sign_digests([DIGEST], RSA))[0], DIGEST)


async def test_what_is_not_begun_in_time_is_not_done(token_place: TokenPlace) -> None:
    async with running(token_place.settings(deadline=1.2)) as lanes:
        key = key_called(lanes, "rsa:2048")
        batches = await asyncio.gather(*(key.sign_digests([DIGEST] * BATCH_MAXIMUM, RSA) for _ in range(30)))
        assert isinstance(batches[0][0], bytes)
        assert isinstance(batches[-1][-1], LaneBusyError)
        for results in batches:  # each has a moment of its own
            late = [isinstance(one, LaneBusyError) for one in results]
            assert late == sorted(late)
        assert lanes.states()["lane"].status == "up"


async def test_a_graceful_stop_answers_what_was_taken_on(token_place: TokenPlace) -> None:
    lanes = Lanes([token_place.settings()])
    await lanes.start()
    key = key_called(lanes, "rsa:2048")
    asked = [asyncio.create_task(key.sign_digests([DIGEST], RSA)) for _ in range(20)]
    await asyncio.sleep(0)
    await lanes.stop()
    for (signature,) in await asyncio.gather(*asked):
        verify_rsa(key.public_key, signature, DIGEST)
    with pytest.raises(LaneDownError, match="being stopped"):
        await key.sign_digests([DIGEST], RSA)


async def test_who_goes_away_does_not_disturb_the_others(lanes: Lanes) -> None:
    key = key_called(lanes, "rsa:2048")
    gone = asyncio.create_task(key.sign_digests([DIGEST], RSA))
    stays = asyncio.create_task(key.sign_digests([DIGEST], RSA))
    await asyncio.sleep(0)
    gone.cancel()
    verify_rsa(key.public_key, (await stays)[0], DIGEST)
    assert lanes.states()["lane"].waiting == 0


async def test_a_lane_without_its_token_is_down_and_says_why(token_place: TokenPlace) -> None:
    settings = LaneSettings("other", token_place.module, "nobody", f"file:{token_place.pin}")
    async with running(token_place.settings(), settings) as lanes:
        state = lanes.states()["other"]
        assert state.status == "down"
        assert "there is no token nobody" in state.reason
        assert lanes.states()["lane"].status == "up"


def test_names_of_lanes_differ(token_place: TokenPlace) -> None:
    with pytest.raises(ConfigurationError, match="the same name"):
        Lanes([token_place.settings(), token_place.settings()])


def test_the_service_does_not_even_load_the_binding_of_pkcs11() -> None:
    program = "import sys, tokensign.service.app; sys.exit('pkcs11' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)
