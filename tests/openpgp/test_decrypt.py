"""What GnuPG and Sequoia encrypt is decrypted, and nothing that was changed is."""

from __future__ import annotations

import io
import itertools
import os
import tracemalloc
from typing import TYPE_CHECKING

import pysequoia
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tokensign.errors import (
    DecryptionError,
    MalformedError,
    MessageError,
    NoRecipientError,
    UnsupportedError,
)
from tokensign.openpgp.decrypt import decrypt, decrypt_packets
from tokensign.openpgp.message import Literal
from tokensign.openpgp.packets import encode_packet, read_packets
from tokensign.openpgp.session_key import CANNOT_DECRYPT, RecipientKey

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import Gpg, Owner

KINDS = ("rsa", "p256", "p384", "p521", "25519")
CONTENT = b"Meet me at noon.\r\n\0\xff" * 1000

every_kind = pytest.mark.parametrize("kind", KINDS)


def opened(message: bytes, *keys: RecipientKey) -> bytes:
    output = io.BytesIO()
    decrypt(io.BytesIO(message), keys, output)
    return output.getvalue()


def packets_of(message: bytes) -> list[tuple[int, bytes]]:
    return [(packet.tag, b"".join(packet.chunks())) for packet in read_packets(io.BytesIO(message))]


def joined(packets: list[tuple[int, bytes]]) -> bytes:
    return b"".join(itertools.starmap(encode_packet, packets))


@every_kind
@pytest.mark.parametrize("options", [["-z0"], ["--armor"]], ids=["plain", "compressed and armored"])
def test_what_gnupg_encrypts_is_decrypted(
    owner: Callable[..., Owner], gpg: Gpg, kind: str, options: list[str]
) -> None:
    person = owner(kind)
    assert opened(gpg.encrypt(CONTENT, *options, to=person), person.recipient) == CONTENT


@pytest.mark.parametrize("native", [False, True])
@every_kind
def test_what_sequoia_encrypts_is_decrypted(owner: Callable[..., Owner], kind: str, *, native: bool) -> None:
    person = owner(kind, native=native)
    certificate = pysequoia.Cert.from_bytes(person.certificate)
    message = pysequoia.encrypt(bytes=CONTENT, recipients=[certificate], armor=False)
    assert packets_of(message)[-1][1][0] == 2  # the second version of encrypted data
    assert opened(message, person.recipient) == CONTENT


@pytest.mark.parametrize("cipher", ["AES128", "AES192", "AES256"])
def test_every_aes_is_decrypted(owner: Callable[..., Owner], gpg: Gpg, cipher: str) -> None:
    person = owner("p256")
    assert opened(gpg.encrypt(CONTENT, "--cipher-algo", cipher, to=person), person.recipient) == CONTENT


@pytest.mark.parametrize("algorithm", ["ZIP", "ZLIB", "BZIP2"])
def test_every_compression_is_undone(owner: Callable[..., Owner], gpg: Gpg, algorithm: str) -> None:
    person = owner("p256")
    content = os.urandom(300_000) + bytes(1_000_000)
    message = gpg.encrypt(content, "--compress-algo", algorithm, to=person)
    assert opened(message, person.recipient) == content


@pytest.mark.parametrize("size", [0, 1, 20, 22, 8191, 1 << 20])
def test_content_of_any_size_is_decrypted(owner: Callable[..., Owner], gpg: Gpg, size: int) -> None:
    person = owner("p256")
    content = os.urandom(size)
    assert opened(gpg.encrypt(content, "-z0", to=person), person.recipient) == content


@pytest.mark.parametrize("size", [0, 1, 15, 16, (1 << 12) - 9, 1 << 12, 100_000])
def test_content_of_any_size_is_decrypted_from_chunks(owner: Callable[..., Owner], size: int) -> None:
    person = owner("p256")
    certificate = pysequoia.Cert.from_bytes(person.certificate)
    content = os.urandom(size)
    message = pysequoia.encrypt(bytes=content, recipients=[certificate], armor=False)
    assert opened(message, person.recipient) == content


def test_message_to_several_is_opened_by_each(owner: Callable[..., Owner], gpg: Gpg) -> None:
    people = [owner(kind) for kind in KINDS]
    options = [f"--recipient={person.fingerprint}" for person in people[1:]]
    message = gpg.encrypt(CONTENT, *options, to=people[0])
    for person in people:
        assert opened(message, person.recipient) == CONTENT


def test_recipient_who_is_not_named_is_found(owner: Callable[..., Owner], gpg: Gpg) -> None:
    alice, other = owner("rsa"), owner("p256")
    options = ["--throw-keyids", f"--recipient={other.fingerprint}"]
    message = gpg.encrypt(CONTENT, *options, to=alice)
    assert opened(message, alice.recipient) == CONTENT
    assert opened(message, other.recipient) == CONTENT


@pytest.mark.parametrize("kind", ["rsa", "p256"])
def test_message_for_others_is_told_apart(owner: Callable[..., Owner], gpg: Gpg, kind: str) -> None:
    message = gpg.encrypt(CONTENT, to=owner("p384"))
    with pytest.raises(NoRecipientError) as caught:
        opened(message, owner(kind).recipient)
    assert owner("p384").recipient.public.key_id.hex().upper() in (caught.value.hint or "")


def test_signature_inside_is_told_and_kept_for_others(owner: Callable[..., Owner]) -> None:
    person = owner("p256")
    sender = pysequoia.Tsk.generate("Bob <bob@acme.example>")
    certificate = pysequoia.Cert.from_bytes(person.certificate)
    message = pysequoia.encrypt(bytes=CONTENT, recipients=[certificate], signer=sender.signer(), armor=False)
    output, inside = io.BytesIO(), io.BytesIO()
    found = decrypt(io.BytesIO(message), [person.recipient], output)
    assert output.getvalue() == CONTENT
    assert found.signed
    decrypt_packets(io.BytesIO(message), [person.recipient], inside)
    verified = pysequoia.verify(bytes=inside.getvalue(), store=lambda _: [sender.extract_certificate()])
    assert verified.bytes == CONTENT
    assert [f"{one.signing_key[-16:]}".upper() for one in verified.valid_sigs] == list(found.signers)


def test_content_without_signature_is_told(owner: Callable[..., Owner], gpg: Gpg) -> None:
    person = owner("p256")
    found = decrypt(io.BytesIO(gpg.encrypt(CONTENT, to=person)), [person.recipient], io.BytesIO())
    assert found == Literal(signed=False, signers=())


def test_content_is_not_held_in_memory(owner: Callable[..., Owner], gpg: Gpg, tmp_path: Path) -> None:
    person = owner("p256")
    size = 64 << 20
    source, message = tmp_path / "source", tmp_path / "message"
    with source.open("wb") as stream:
        stream.truncate(size)
    options = ["--armor", "-z0", "--recipient", person.fingerprint, "--output", message]
    gpg.run(*options, "--encrypt", source)
    tracemalloc.start()
    try:
        with message.open("rb") as stream, (tmp_path / "output").open("wb") as output:
            decrypt(stream, [person.recipient], output)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (tmp_path / "output").stat().st_size == size
    assert peak < size // 2  # the armor's content and the plaintext have 8 MiB of memory each


# --- changed on the way


def test_no_change_of_the_encrypted_data_goes_unnoticed(owner: Callable[..., Owner], gpg: Gpg) -> None:
    person = owner("p256")
    session_key, (tag, data) = packets_of(gpg.encrypt(b"secret", "-z0", to=person))
    for position in range(1, len(data)):  # behind the version
        changed = data[:position] + bytes((data[position] ^ 1,)) + data[position + 1 :]
        assert _failure(joined([session_key, (tag, changed)]), person) == (DecryptionError, CANNOT_DECRYPT)


def test_no_change_of_chunks_goes_unnoticed(owner: Callable[..., Owner]) -> None:
    person = owner("25519", native=True)
    certificate = pysequoia.Cert.from_bytes(person.certificate)
    message = pysequoia.encrypt(bytes=b"secret", recipients=[certificate], armor=False)
    session_key, (tag, data) = packets_of(message)
    for position in range(4, len(data)):  # behind the parameters
        changed = data[:position] + bytes((data[position] ^ 1,)) + data[position + 1 :]
        assert _failure(joined([session_key, (tag, changed)]), person) == (DecryptionError, CANNOT_DECRYPT)


@given(st.data())
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_is_changed_the_content_is_right_or_there_is_none(
    owner: Callable[..., Owner], encrypted: bytes, data: st.DataObject
) -> None:
    start = data.draw(st.integers(0, len(encrypted)))
    end = data.draw(st.integers(start, min(len(encrypted), start + 8)))
    changed = encrypted[:start] + data.draw(st.binary(max_size=8)) + encrypted[end:]
    output = io.BytesIO()
    try:
        decrypt(io.BytesIO(changed), [owner("p256").recipient], output)
    except MessageError:
        assert not output.getvalue()
    else:
        assert output.getvalue() == b"secret"


@pytest.fixture(scope="module", params=[["-z0"], ["--armor"]], ids=["binary", "armor"])
def encrypted(request: pytest.FixtureRequest, owner: Callable[..., Owner], gpg: Gpg) -> bytes:
    return gpg.encrypt(b"secret", *request.param, to=owner("p256"))


@pytest.mark.parametrize("version", [1, 2])
def test_data_that_are_cut_off_are_refused(owner: Callable[..., Owner], gpg: Gpg, version: int) -> None:
    person = owner("p256")
    certificate = pysequoia.Cert.from_bytes(person.certificate)
    message = (
        gpg.encrypt(CONTENT, "-z0", to=person)
        if version == 1
        else pysequoia.encrypt(bytes=CONTENT, recipients=[certificate], armor=False)
    )
    session_key, (tag, data) = packets_of(message)
    assert data[0] == version
    for size in (100, len(data) - 4096 - 16, len(data) - 20, len(data) - 16, len(data) - 1):
        assert _failure(joined([session_key, (tag, data[:size])]), person)[0] is DecryptionError


@pytest.mark.parametrize("kind", [*KINDS, "native"])
def test_broken_session_key_looks_like_changed_data(owner: Callable[..., Owner], gpg: Gpg, kind: str) -> None:
    person = owner("25519", native=True) if kind == "native" else owner(kind)
    if kind == "native":
        certificate = pysequoia.Cert.from_bytes(person.certificate)
        message = pysequoia.encrypt(bytes=CONTENT, recipients=[certificate], armor=False)
    else:
        message = gpg.encrypt(CONTENT, to=person)
    (tag, key), data = packets_of(message)
    start = 9 if key[0] == 3 else 2 + key[1]  # behind the recipient's name
    assert key[start] == person.recipient.public.algorithm
    damaged = [key[:-1], key[: start + 1], key + b"x"]
    damaged += [
        key[:position] + bytes((key[position] ^ 1,)) + key[position + 1 :]
        for position in (start + 1, start + 3, start + 5, len(key) // 2, len(key) - 1)
    ]
    for one in damaged:
        assert _failure(joined([(tag, one), data]), person) == (DecryptionError, CANNOT_DECRYPT), one.hex()


def _failure(message: bytes, person: Owner) -> tuple[type[Exception], str]:
    """How the decryption fails; there must be no content."""
    output = io.BytesIO()
    try:
        decrypt(io.BytesIO(message), [person.recipient], output)
    except MessageError as error:
        assert not output.getvalue()
        return type(error), error.message
    pytest.fail("the message was decrypted")


# --- what is not taken


def test_data_without_protection_against_change_are_refused(owner: Callable[..., Owner], gpg: Gpg) -> None:
    person = owner("p256")
    session_key, (_, data) = packets_of(gpg.encrypt(CONTENT, to=person))
    with pytest.raises(UnsupportedError, match="not protected against change"):
        opened(joined([session_key, (9, data[1:])]), person.recipient)


def test_format_of_gnupg_alone_is_refused(owner: Callable[..., Owner], gpg: Gpg) -> None:
    person = owner("p256")
    session_key, (_, data) = packets_of(gpg.encrypt(CONTENT, to=person))
    with pytest.raises(UnsupportedError, match="GnuPG alone"):
        opened(joined([session_key, (20, data)]), person.recipient)


@pytest.mark.parametrize("body", [b"\x03", b"\x02\x02\x02\x06" + bytes(64), b"\x02\x09\x01\x06" + bytes(64)])
def test_version_or_cipher_that_is_not_known_is_refused(
    owner: Callable[..., Owner], gpg: Gpg, body: bytes
) -> None:
    person = owner("p256")
    session_key, _ = packets_of(gpg.encrypt(CONTENT, to=person))
    with pytest.raises(UnsupportedError, match="not known"):
        opened(joined([session_key, (18, body)]), person.recipient)


def test_chunks_that_would_fill_the_memory_are_refused(owner: Callable[..., Owner]) -> None:
    with pytest.raises(MalformedError, match="too large"):
        opened(joined([(18, b"\x02\x09\x02\x11" + bytes(64))]), owner("p256").recipient)


def test_session_key_of_the_other_version_is_not_used(owner: Callable[..., Owner], gpg: Gpg) -> None:
    person = owner("p256")
    certificate = pysequoia.Cert.from_bytes(person.certificate)
    old, _ = packets_of(gpg.encrypt(CONTENT, to=person))
    _, data = packets_of(pysequoia.encrypt(bytes=CONTENT, recipients=[certificate], armor=False))
    with pytest.raises(NoRecipientError) as caught:
        opened(joined([old, data]), person.recipient)
    assert "a password, or to nobody" in (caught.value.hint or "")


def test_what_stands_behind_the_encrypted_data_is_refused(owner: Callable[..., Owner], gpg: Gpg) -> None:
    person = owner("p256")
    message = gpg.encrypt(CONTENT, to=person)
    with pytest.raises(MalformedError, match="something behind"):
        opened(message + encode_packet(11, b"b\0\0\0\0\0more"), person.recipient)


@pytest.mark.parametrize(
    ("packets", "what"),
    [
        ([(11, b"b\0\0\0\0\0text")], "not encrypted"),
        ([(4, b"\x03")], "not encrypted"),
        ([(6, b"\x04")], "not an encrypted OpenPGP message"),
        ([(10, b"PGP")], "no encrypted data"),
    ],
)
def test_what_is_not_encrypted_is_told(
    owner: Callable[..., Owner], packets: list[tuple[int, bytes]], what: str
) -> None:
    with pytest.raises(MalformedError, match=what):
        opened(joined(packets), owner("p256").recipient)


def test_one_message_does_not_cause_operations_without_end(owner: Callable[..., Owner], gpg: Gpg) -> None:
    person = owner("p256")
    session_key, data = packets_of(gpg.encrypt(CONTENT, to=person))
    with pytest.raises(UnsupportedError, match="more than 32"):
        opened(joined([session_key] * 33 + [data]), person.recipient)
    with pytest.raises(UnsupportedError, match="more than 1000"):
        opened(joined([session_key] * 1001 + [data]), person.recipient)


def test_packets_of_no_concern_are_passed_over(owner: Callable[..., Owner], gpg: Gpg) -> None:
    person = owner("p256")
    session_key, data = packets_of(gpg.encrypt(CONTENT, to=person))
    others = [(10, b"PGP"), (3, b"\x04\x09\x00\x08"), (1, b"\x63unknown"), session_key, (21, bytes(20)), data]
    assert opened(joined([*others, (21, bytes(20))]), person.recipient) == CONTENT
