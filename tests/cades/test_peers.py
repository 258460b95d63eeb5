"""What others say: OpenSSL of tokens and signatures, pyHanko of timestamped signatures."""

from __future__ import annotations

import asyncio
import io
import subprocess
from typing import TYPE_CHECKING

import pytest
from asn1crypto import cms
from pyhanko.sign.validation import generic_cms
from pyhanko.sign.validation.settings import KeyUsageConstraints
from pyhanko_certvalidator import ValidationContext

from tokensign.cades.levels import Level
from tokensign.cms.attributes import ARCHIVE_TIME_STAMP_V3, SIGNATURE_TIME_STAMP
from tokensign.cms.signed_data import read_signed_data
from tokensign.cms.timestamp import TimestampToken
from tokensign.cms.unsigned_attributes import unsigned_values

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cades.conftest import World


def openssl(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["openssl", *arguments], cwd=folder, check=False, capture_output=True, text=True, timeout=30
    )
    return done.stdout + done.stderr


@pytest.fixture
def folder(world: World, tmp_path: Path) -> Path:
    (tmp_path / "root.pem").write_text(world.root.certificate.pem())
    (tmp_path / "content").write_bytes(world.content)
    return tmp_path


@pytest.mark.parametrize("kind", [SIGNATURE_TIME_STAMP, ARCHIVE_TIME_STAMP_V3])
def test_openssl_accepts_the_tokens(world: World, folder: Path, kind: str) -> None:
    (signer,) = read_signed_data(io.BytesIO(world.raised(Level.B_LTA))).signer_infos
    (encoded,) = unsigned_values(signer, kind)
    (folder / "token").write_bytes(encoded)
    digest = TimestampToken.load(encoded).info.hashed_message.hex()
    tell = openssl(
        folder, "ts", "-verify", "-digest", digest, "-in", "token", "-token_in", "-CAfile", "root.pem"
    )
    assert "Verification: OK" in tell
    other = "00" * 32
    tell = openssl(
        folder, "ts", "-verify", "-digest", other, "-in", "token", "-token_in", "-CAfile", "root.pem"
    )
    assert "Verification: FAILED" in tell


@pytest.mark.parametrize("level", list(Level))
def test_openssl_accepts_the_signature_at_every_level(world: World, folder: Path, level: Level) -> None:
    signature = world.signed() if level is Level.B_B else world.raised(level)
    (folder / "signature").write_bytes(signature)
    arguments = [
        "-in",
        "signature",
        "-inform",
        "DER",
        "-content",
        "content",
        "-binary",
        "-CAfile",
        "root.pem",
    ]
    tell = openssl(folder, "cms", "-verify", "-cades", *arguments, "-purpose", "any", "-out", "out")
    assert "CAdES Verification successful" in tell
    assert (folder / "out").read_bytes() == world.content


@pytest.mark.parametrize("level", [Level.B_T, Level.B_LT, Level.B_LTA])
def test_pyhanko_accepts_the_signature_and_its_timestamp(world: World, level: Level) -> None:
    status = by_pyhanko(world, world.raised(level), world.content)
    assert status.intact
    assert status.valid
    assert status.trusted
    assert status.timestamp_validity is not None
    assert status.timestamp_validity.trusted
    assert status.timestamp_validity.intact


def test_pyhanko_refuses_a_timestamp_over_something_else(world: World) -> None:
    signature = bytearray(world.raised(Level.B_T))
    (signer,) = read_signed_data(io.BytesIO(bytes(signature))).signer_infos
    (encoded,) = unsigned_values(signer, SIGNATURE_TIME_STAMP)
    imprint = TimestampToken.load(encoded).info.hashed_message
    signature[signature.index(imprint)] ^= 1
    status = by_pyhanko(world, bytes(signature), world.content)
    assert status.timestamp_validity is not None
    assert not status.timestamp_validity.intact


def by_pyhanko(world: World, signature: bytes, content: bytes) -> generic_cms.StandardCMSSignatureStatus:
    context = ValidationContext(trust_roots=[world.root.certificate.asn1], allow_fetching=False)
    return asyncio.run(
        generic_cms.async_validate_detached_cms(
            content,
            cms.ContentInfo.load(signature)["content"],
            signer_validation_context=context,
            ts_validation_context=context,
            key_usage_settings=KeyUsageConstraints(key_usage=set()),
        )
    )
