from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokensign.errors import MalformedError
from tokensign.openpgp.armor import armor, unarmored
from tokensign.openpgp.packets import encode_packet

if TYPE_CHECKING:
    from conftest import Gpg

PACKET = encode_packet(11, b"content")


def taken_off(data: bytes) -> bytes:
    with unarmored(io.BytesIO(data)) as stream:
        return stream.read()


@given(st.binary(min_size=1, max_size=300))
def test_armor_comes_off_as_it_was_put_on(octets: bytes) -> None:
    assert taken_off(armor("MESSAGE", octets)) == octets


def test_lines_are_short_enough_for_mail() -> None:
    assert max(map(len, armor("MESSAGE", bytes(500)).splitlines())) == 64


@pytest.mark.parametrize("size", [48, 49, 50, 51])
def test_gnupg_finds_the_end_of_armor(gpg: Gpg, size: int) -> None:
    content = os.urandom(size)
    assert gpg.run("--dearmor", content=armor("MESSAGE", content)).stdout == content
    assert gpg.run("--enarmor", content=content).stdout.splitlines()[-2] in armor("X", content).splitlines()


def test_packets_without_armor_are_taken_as_they_are() -> None:
    assert taken_off(PACKET) == PACKET


def test_headers_checksum_blank_lines_and_other_line_ends_are_met() -> None:
    text = b"\r\n\r\n-----BEGIN PGP MESSAGE-----\r\nVersion: GnuPG v2\r\nComment: x\r\n\r\n"
    lines = armor("MESSAGE", PACKET).splitlines()[2:-2]
    text += b"\r\n".join((*lines, b"=AAAA", b"-----END PGP MESSAGE-----", b"something else"))
    assert taken_off(text) == PACKET


def test_lines_of_any_length_are_joined() -> None:
    data = b"".join(armor("MESSAGE", PACKET).splitlines()[2:-2])
    lines = [data[start : start + 5] for start in range(0, len(data), 5)]
    text = b"\n".join((b"-----BEGIN PGP MESSAGE-----", b"", *lines, b"-----END PGP MESSAGE-----"))
    assert taken_off(text) == PACKET


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"", "empty"),
        (b"Dear Bob,\n", "not an OpenPGP file"),
        (b"-----BEGIN PGP MESSAGE-----\n", "no data"),
        (b"-----BEGIN PGP MESSAGE-----\n\nAAAA\n", "cut off"),
        (b"-----BEGIN PGP MESSAGE-----\n\nAAAAA\n-----END PGP MESSAGE-----\n", "broken"),
        (b"-----BEGIN PGP MESSAGE-----\n\nAAAA=AA\n-----END PGP MESSAGE-----\n", "broken"),
        (b"-----BEGIN PGP MESSAGE-----\n\nAA==" + b"A" * 100, "cut off"),
        (b"-----BEGIN PGP MESSAGE-----\n\n!!!!\n-----END PGP MESSAGE-----\n", "broken"),
        (b"-----BEGIN PGP MESSAGE-----\n" + b"Comment: x\n" * 100, "no data"),
    ],
)
def test_broken_armor_is_refused(data: bytes, what: str) -> None:
    with pytest.raises(MalformedError, match=what):
        taken_off(data)
