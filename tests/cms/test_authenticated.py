"""AuthenticatedData: with recipients of every kind, and all that may be wrong with it."""

from __future__ import annotations

import hashlib
import hmac
import io
from typing import TYPE_CHECKING

import pytest

from tokensign import der
from tokensign.algorithms import DIGESTS, MACS
from tokensign.cms.attributes import CONTENT_TYPE, MESSAGE_DIGEST
from tokensign.cms.authenticated import (
    AUTHENTICATED_DATA,
    authenticate,
    read_authenticated_data,
    verify_authenticated_data,
)
from tokensign.cms.content_info import DATA, SIGNED_DATA
from tokensign.cms.recipients.kek import KekRecipient
from tokensign.cms.recipients.kek_bytes import KeyEncryptionKeyBytes
from tokensign.cms.recipients.key_derivation import Pbkdf2Derivation
from tokensign.cms.recipients.password import PasswordRecipient
from tokensign.errors import (
    DecryptionError,
    FileError,
    LegacyAlgorithmError,
    MalformedError,
    NoRecipientError,
    UnsupportedError,
    UsageError,
)
from tokensign.keys import Password, Pkcs1Transport

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from tokensign.keys import KeyTransport
    from tokensign.token import TokenKey

CONTENT = b"content " * 1000
SHARED = KeyEncryptionKeyBytes(b"shared", bytes(range(32)))
PASSWORD = Password("open sesame")
BY_PASSWORD = PasswordRecipient(PASSWORD, Pbkdf2Derivation.fresh(1000))
MAC_KEY = bytes(range(32, 64))


def authenticated(
    *recipients: object, content: bytes = CONTENT, content_type: str = DATA, mac: str = "hmac-sha256"
) -> io.BytesIO:
    output = io.BytesIO()
    chosen = recipients or (KekRecipient(SHARED),)
    authenticate(
        io.BytesIO(content),
        chosen,
        output,
        content_type=content_type,
        mac=MACS[mac],  # type: ignore[arg-type]
    )
    output.seek(0)
    return output


def attribute(kind: str, *values: bytes) -> bytes:
    return der.sequence(der.object_identifier(kind), der.set_of(*values))


RIGHT_ATTRIBUTES = (
    attribute(CONTENT_TYPE, der.object_identifier(DATA)),
    attribute(MESSAGE_DIGEST, der.octet_string(hashlib.sha256(CONTENT).digest())),
)


def forged(
    attributes: Sequence[bytes] | None = RIGHT_ATTRIBUTES,
    *,
    content: bytes = CONTENT,
    content_type: str = DATA,
    mac: str = "hmac-sha256",
    mac_oid: str | None = None,
    digest: str | None = "sha256",
    mac_key: bytes = MAC_KEY,
    code: bytes | None = None,
) -> io.BytesIO:
    """A message in which everything can be other than it should."""
    entry = MACS[mac]
    covered = content if attributes is None else der.set_of(*attributes)
    code = code or hmac.digest(mac_key, covered, entry.digest.name)
    fields = [
        der.integer(0),
        der.tlv(0xA0, b""),  # originatorInfo
        der.set_of(KekRecipient(SHARED).encode(mac_key)),
        der.sequence(der.object_identifier(mac_oid or entry.oid)),
    ]
    if digest is not None:
        fields.append(der.tlv(0xA1, der.object_identifier(DIGESTS[digest].oid)))
    inner = der.explicit(0, der.octet_string(content))
    fields.append(der.sequence(der.object_identifier(content_type), inner))
    if attributes is not None:
        fields.append(der.tlv(0xA2, b"".join(sorted(attributes, reverse=True))))
    fields += [der.octet_string(code), der.tlv(0xA3, attribute("1.2.3", der.NULL))]
    data = der.sequence(*fields)
    return io.BytesIO(der.sequence(der.object_identifier(AUTHENTICATED_DATA), der.explicit(0, data)))


@pytest.mark.parametrize("mac", [name for name in MACS if name != "hmac-sha1"])
def test_what_is_written_verifies(mac: str) -> None:
    if mac == "hmac-sha224":  # 28 octets: AES key wrap takes steps of 8
        with pytest.raises(UnsupportedError, match="28 bytes"):
            authenticated(mac=mac)
        return
    output = io.BytesIO()
    result = verify_authenticated_data(authenticated(mac=mac), [SHARED], output)
    assert output.getvalue() == CONTENT
    assert (result.content_type, result.mac_algorithm.name) == (DATA, mac)


def test_every_kind_of_recipient_of_one_message_verifies_it(token_person: Callable[[str], TokenKey]) -> None:
    alice = token_person("rsa:2048")
    message = authenticated(alice.certificate, KekRecipient(SHARED), BY_PASSWORD)
    for key in (alice, SHARED, PASSWORD):
        message.seek(0)
        output = io.BytesIO()
        verify_authenticated_data(message, [key], output)
        assert output.getvalue() == CONTENT


def test_nobody_else_verifies_it() -> None:
    with pytest.raises(NoRecipientError):
        verify_authenticated_data(authenticated(), [PASSWORD])


@pytest.mark.parametrize("transport", [None, Pkcs1Transport()], ids=str)
def test_a_changed_key_and_changed_content_look_the_same(
    software: Callable[..., object], transport: KeyTransport | None
) -> None:
    bob = software("rsa:2048")
    output = io.BytesIO()
    authenticate(io.BytesIO(CONTENT), [bob.certificate], output, transport=transport)  # type: ignore[attr-defined]
    message = output.getvalue()
    found = set()
    for position in (message.index(CONTENT) + 5, message.index(CONTENT) - 200, len(message) - 1):
        damaged = bytearray(message)
        damaged[position] ^= 1
        kept = io.BytesIO()
        with pytest.raises(DecryptionError) as error:
            verify_authenticated_data(io.BytesIO(bytes(damaged)), [bob], kept)  # type: ignore[list-item]
        assert kept.getvalue() == b""
        found.add((str(error.value), error.value.hint))
    assert len(found) == 1


def test_the_structure_is_that_of_the_rfc(parse: Callable[[bytes], object]) -> None:
    encoded = authenticated(content_type=SIGNED_DATA).getvalue()
    fields = parse(encoded)
    assert fields["version"].native == "v0"  # type: ignore[index]
    assert fields["mac_algorithm"]["algorithm"].native == "sha256"  # type: ignore[index]
    types = [entry["type"].native for entry in fields["auth_attrs"]]  # type: ignore[index]
    assert types == ["content_type", "message_digest"]


def test_attributes_are_covered_in_der_whatever_their_order() -> None:
    verify_authenticated_data(forged(), [SHARED])


@pytest.mark.parametrize("oid", [None, "1.3.6.1.5.5.8.1.2"])
def test_hmac_with_sha_1_is_read_under_both_names(oid: str | None) -> None:
    result = verify_authenticated_data(forged(mac="hmac-sha1", mac_oid=oid), [SHARED])
    assert result.mac_algorithm.name == "hmac-sha1"


@pytest.mark.parametrize("size", [16, 24, 128])
def test_keys_of_other_sizes_than_the_hash_are_read(size: int) -> None:
    verify_authenticated_data(forged(mac_key=bytes(range(size))), [SHARED])


@pytest.mark.parametrize("size", [136])
def test_keys_of_impossible_sizes_fail_as_damage_does(size: int) -> None:
    with pytest.raises(DecryptionError, match="cannot be authenticated"):
        verify_authenticated_data(forged(mac_key=bytes(range(size))), [SHARED])


def test_without_attributes_the_content_itself_is_covered() -> None:
    output = io.BytesIO()
    verify_authenticated_data(forged(None, digest=None), [SHARED], output)
    assert output.getvalue() == CONTENT
    with pytest.raises(DecryptionError):
        verify_authenticated_data(forged(None, code=bytes(32)), [SHARED])


def test_the_attributes_of_one_message_are_not_the_content_of_another() -> None:
    seen = read_authenticated_data(authenticated()).attributes
    assert seen is not None
    with pytest.raises(MalformedError, match="attributes of another message"):
        verify_authenticated_data(forged(None, content=seen), [SHARED])


@pytest.mark.parametrize(
    "content",
    [b"", b"\x31\x00", der.set_of(der.NULL), der.set_of(attribute("1.2.3", der.NULL)), b"\x31" * 70_000],
    ids=["empty", "no attributes", "no attribute", "others", "large"],
)
def test_content_that_only_looks_like_attributes_is_content(content: bytes) -> None:
    output = io.BytesIO()
    verify_authenticated_data(forged(None, content=content), [SHARED], output)
    assert output.getvalue() == content


def test_a_wrong_message_digest_looks_like_a_wrong_code() -> None:
    attributes = (RIGHT_ATTRIBUTES[0], attribute(MESSAGE_DIGEST, der.octet_string(bytes(32))))
    with pytest.raises(DecryptionError, match="cannot be authenticated"):
        verify_authenticated_data(forged(attributes), [SHARED])


@pytest.mark.parametrize(
    ("message", "match"),
    [
        (forged(RIGHT_ATTRIBUTES[:1]), "messageDigest is missing"),
        (forged(RIGHT_ATTRIBUTES[1:]), "contentType is missing"),
        (forged((*RIGHT_ATTRIBUTES, RIGHT_ATTRIBUTES[0])), "twice"),
        (forged(content_type=SIGNED_DATA), "contentType differs"),
        (forged(digest=None), "without a digestAlgorithm"),
        (forged(None, content_type=SIGNED_DATA), "needs authenticated attributes"),
        (forged(code=bytes(20)), "20 bytes"),
    ],
    ids=["no digest", "no type", "twice", "other type", "no algorithm", "no attributes", "short code"],
)
def test_what_the_rfc_forbids_is_malformed(message: io.BytesIO, match: str) -> None:
    with pytest.raises(MalformedError, match=match):
        verify_authenticated_data(message, [SHARED])


def test_an_old_digest_is_read_with_the_legacy_switch_only() -> None:
    digest = hashlib.sha1(CONTENT, usedforsecurity=False).digest()
    attributes = (RIGHT_ATTRIBUTES[0], attribute(MESSAGE_DIGEST, der.octet_string(digest)))
    with pytest.raises(LegacyAlgorithmError, match="SHA1"):
        verify_authenticated_data(forged(attributes, digest="sha1"), [SHARED])
    verify_authenticated_data(forged(attributes, digest="sha1"), [SHARED], legacy=True)


def test_unknown_codes_and_other_messages_are_unsupported(corpora: Callable[[str], Path]) -> None:
    with pytest.raises(UnsupportedError, match=r"1\.2\.3"):
        verify_authenticated_data(forged(mac_oid="1.2.3"), [SHARED])
    with pytest.raises(UnsupportedError, match="enveloped-data, not authenticated-data"):
        read_authenticated_data(io.BytesIO(corpora("rfc4134/5.1.bin").read_bytes()))


def test_nothing_weak_is_written_and_nothing_for_nobody() -> None:
    with pytest.raises(UnsupportedError):
        authenticated(mac="hmac-sha1")
    with pytest.raises(UnsupportedError):
        authenticate(io.BytesIO(CONTENT), [KekRecipient(SHARED)], io.BytesIO(), digest=DIGESTS["sha1"])
    with pytest.raises(UsageError, match="recipient"):
        authenticate(io.BytesIO(CONTENT), [], io.BytesIO())


def test_content_that_changes_meanwhile_is_noticed() -> None:
    class Shrinking(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            self.truncate(10)
            return super().read(size)

    with pytest.raises(FileError, match="changed"):
        authenticate(Shrinking(CONTENT), [KekRecipient(SHARED)], io.BytesIO())
