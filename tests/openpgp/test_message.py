"""What stands inside of encrypted data."""

from __future__ import annotations

import io
import itertools
import zlib

import pytest

from tokensign.errors import MalformedError, UnsupportedError
from tokensign.openpgp.message import Literal, write_literal
from tokensign.openpgp.packets import encode_packet

LITERAL = (11, b"b\x04name" + bytes(4) + b"content")
ONE_PASS = (4, bytes((3, 0, 8, 1)) + bytes.fromhex("0123456789abcdef") + b"\x01")
SIGNATURE = (2, b"\x04")


def found(*packets: tuple[int, bytes]) -> tuple[Literal, bytes]:
    output = io.BytesIO()
    literal = write_literal(io.BytesIO(b"".join(itertools.starmap(encode_packet, packets))), output)
    return literal, output.getvalue()


def compressed(*packets: tuple[int, bytes]) -> tuple[int, bytes]:
    return 8, b"\x02" + zlib.compress(b"".join(itertools.starmap(encode_packet, packets)))


def test_content_is_found_without_what_stands_around_it() -> None:
    assert found(LITERAL) == (Literal(), b"content")
    assert found((21, b"x"), (10, b"PGP"), LITERAL) == (Literal(), b"content")
    assert found((8, b"\0" + encode_packet(*LITERAL))) == (Literal(), b"content")


def test_signers_are_told_also_from_inside_of_a_compression() -> None:
    signed = Literal(signed=True, signers=("0123456789ABCDEF",))
    assert found(ONE_PASS, LITERAL, SIGNATURE) == (signed, b"content")
    assert found(compressed(ONE_PASS, LITERAL, SIGNATURE)) == (signed, b"content")


def test_signature_of_old_form_is_told() -> None:
    assert found(SIGNATURE, LITERAL) == (Literal(signed=True), b"content")


@pytest.mark.parametrize(
    ("packets", "what"),
    [
        ([], "no content"),
        ([SIGNATURE], "no content"),
        ([LITERAL, LITERAL], "several contents"),
        ([LITERAL, (18, b"\x01")], "type 18"),
        ([(11, b"b\x04na")], "too short"),
        ([(8, b"\x02no zlib")], "broken"),
        ([(8, b"\x03no bzip2")], "broken"),
        ([(8, compressed(LITERAL)[1][:-4])], "cut off"),
    ],
)
def test_broken_structure_is_refused(packets: list[tuple[int, bytes]], what: str) -> None:
    with pytest.raises(MalformedError, match=what):
        found(*packets)


def test_compression_that_is_not_known_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="not known"):
        found((8, b"\x09x"))


def test_compression_may_not_be_endless() -> None:
    packet = LITERAL
    for _ in range(4):
        packet = compressed(packet)
    assert found(packet)[1] == b"content"
    with pytest.raises(UnsupportedError, match="more than 4 times"):
        found(compressed(packet))


def test_bomb_in_two_compressions_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tokensign.openpgp.message._FREE", 1 << 16)
    monkeypatch.setattr("tokensign.openpgp.message._RATIO_MAXIMUM", 1100)
    packet = compressed((11, b"b\0\0\0\0\0" + bytes(1 << 20)))
    assert len(found(packet)[1]) == 1 << 20
    with pytest.raises(UnsupportedError, match="too large"):
        found(compressed(packet))


def test_bomb_is_refused() -> None:
    stream = zlib.compressobj()
    bomb = b"".join(stream.compress(bytes(1 << 20)) for _ in range(80)) + stream.flush()
    with pytest.raises(UnsupportedError, match="too large"):
        found((8, b"\x02" + bomb))


def test_number_of_packets_has_a_limit() -> None:
    with pytest.raises(UnsupportedError, match="more than 64 packets"):
        found(*[ONE_PASS] * 70, LITERAL)


def test_nothing_is_written_when_the_structure_is_broken() -> None:
    output = io.BytesIO()
    with pytest.raises(MalformedError):
        write_literal(io.BytesIO(encode_packet(*LITERAL) + b"rubbish"), output)
    assert not output.getvalue()
