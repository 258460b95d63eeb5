"""Whatever happens to a message on its way: wrong is never taken for right, and all errors are ours."""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tokensign.algorithms import CONTENT_CIPHERS, DIGESTS
from tokensign.cms.decrypt import decrypt
from tokensign.cms.encrypt import encrypt
from tokensign.cms.pem import armor
from tokensign.cms.signed import SigningOptions, sign_attached, sign_detached
from tokensign.cms.signed_data import read_signed_data
from tokensign.cms.verify import verify_signatures
from tokensign.errors import TokensignError
from tokensign.keys import Pkcs1Transport
from tokensign.smime.compose import as_entity, write_multipart_signed, write_pkcs7_mime
from tokensign.smime.unwrap import open_message

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tokensign.token import TokenKey

CONTENT = b"Content-Type: text/plain\r\n\r\nPay 100 to Bob.\r\n" * 3


# --- what happens to it


@dataclass(frozen=True)
class Flip:
    bit: float

    def __call__(self, message: bytes) -> bytes:
        position, bit = divmod(int(self.bit * len(message) * 8), 8)
        return message[:position] + bytes((message[position] ^ 1 << bit,)) + message[position + 1 :]


@dataclass(frozen=True)
class Cut:
    start: float
    length: int

    def __call__(self, message: bytes) -> bytes:
        start = int(self.start * len(message))
        return message[:start] + message[start + self.length :]


@dataclass(frozen=True)
class Truncate:
    length: float

    def __call__(self, message: bytes) -> bytes:
        return message[: int(self.length * len(message))]


@dataclass(frozen=True)
class Insert:
    position: float
    inserted: bytes

    def __call__(self, message: bytes) -> bytes:
        position = int(self.position * len(message))
        return message[:position] + self.inserted + message[position:]


@dataclass(frozen=True)
class Repeat:
    """A piece of the message copied over another place."""

    source: float
    target: float
    length: int

    def __call__(self, message: bytes) -> bytes:
        source, target = int(self.source * len(message)), int(self.target * len(message))
        piece = message[source : source + self.length]
        return message[:target] + piece + message[target + len(piece) :]


somewhere = st.floats(0, 1, exclude_max=True)
changes = st.one_of(
    st.builds(Flip, somewhere),
    st.builds(Cut, somewhere, st.integers(1, 40)),
    st.builds(Truncate, somewhere),
    st.builds(Insert, somewhere, st.binary(min_size=1, max_size=8)),
    st.builds(Repeat, somewhere, somewhere, st.integers(1, 40)),
)


def bounded(examples: int) -> Any:  # noqa: ANN401 - a decorator
    return settings(
        max_examples=examples,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )


# --- signatures


def smime_detached(signature: bytes) -> bytes:
    output = io.BytesIO()
    write_multipart_signed(io.BytesIO(CONTENT), signature, [DIGESTS["sha256"]], output, b"Subject: pay\r\n")
    return output.getvalue()


def smime_opaque(message: bytes, kind: str) -> bytes:
    output = io.BytesIO()
    write_pkcs7_mime(io.BytesIO(message), kind, output, b"Subject: pay\r\n")
    return output.getvalue()


def pem(message: bytes) -> bytes:
    output = io.BytesIO()
    armor(io.BytesIO(message), output)
    return output.getvalue()


@pytest.fixture(scope="module")
def signed(
    software: Callable[..., Any], openssl: Callable[..., bytes], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], bytes]:
    """A message that holds, in each form."""
    alice, rsa = software(), software("rsa:2048")
    folder = tmp_path_factory.mktemp("identity")

    @cache
    def make(form: str) -> bytes:
        if form.startswith("streamed"):
            key = rsa.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
            (folder / "key.pem").write_bytes(key)
            (folder / "cert.pem").write_text(rsa.certificate.pem())
            extra = ["-noattr"] if form == "streamed-noattr" else []
            return openssl(
                *("cms", "-sign", "-stream", "-indef", "-nodetach", "-binary", "-outform", "DER"),
                *("-signer", folder / "cert.pem", "-inkey", folder / "key.pem", *extra),
                feed=CONTENT,
            )
        attached, pss = io.BytesIO(), io.BytesIO()
        sign_attached(io.BytesIO(CONTENT), [alice], attached)
        sign_attached(io.BytesIO(CONTENT), [rsa], pss, SigningOptions(family="rsa-pss"))
        detached = sign_detached(io.BytesIO(CONTENT), [alice])
        return {
            "detached": detached,
            "attached": attached.getvalue(),
            "pss": pss.getvalue(),
            "pem": pem(attached.getvalue()),
            "multipart": smime_detached(detached),
            "opaque": smime_opaque(attached.getvalue(), "signed-data"),
        }[form]

    return make


def verified(message: bytes) -> bytes:
    """The content that is taken for signed.

    Raises:
        TokensignError: A signature does not hold.
    """
    with open_message(io.BytesIO(message)) as opened:
        data = read_signed_data(opened.cms)
        if data.content is not None:
            pieces = data.content.chunks()
        else:
            pieces = iter([opened.content.read() if opened.content else CONTENT])
        seen: list[bytes] = []
        for result in verify_signatures(data, pieces, copy=seen.append):
            if result.error is not None:
                raise result.error
        return b"".join(seen)


SIGNED_FORMS = ["detached", "attached", "pss", "pem", "multipart", "opaque", "streamed", "streamed-noattr"]


def check_signed(message: bytes, change: Callable[[bytes], bytes]) -> None:
    changed = change(message)
    try:
        content = verified(changed)
    except TokensignError:
        return
    assert content == CONTENT


@pytest.mark.parametrize("form", SIGNED_FORMS)
def test_without_a_change_it_holds(form: str, signed: Callable[[str], bytes]) -> None:
    assert verified(signed(form)) == CONTENT


@pytest.mark.parametrize("form", SIGNED_FORMS)
@bounded(150)
@given(change=changes)
@example(change=Truncate(0.0))
def test_changed_signatures_never_hold_for_other_content(
    form: str, change: Callable[[bytes], bytes], signed: Callable[[str], bytes]
) -> None:
    check_signed(signed(form), change)


@pytest.mark.full
@pytest.mark.parametrize("form", SIGNED_FORMS)
def test_no_flipped_bit_and_no_truncation_makes_other_content_hold(
    form: str, signed: Callable[[str], bytes]
) -> None:
    message = signed(form)
    for position in range(len(message)):
        check_signed(message, lambda data, length=position: data[:length])
        for bit in range(8):
            check_signed(message, Flip((position * 8 + bit + 0.5) / (len(message) * 8)))


def test_no_flipped_bit_in_what_is_signed_holds(signed: Callable[[str], bytes]) -> None:
    """Every bit of the content, of the signed attributes and of the signature counts."""
    message = signed("attached")
    data = read_signed_data(io.BytesIO(message))
    (info,) = data.signer_infos
    assert info.signed_attributes is not None
    for part in (CONTENT, info.signed_attributes[2:], info.signature[8:]):
        start = message.index(part)
        for position in range(start, start + len(part), 3):
            changed = message[:position] + bytes((message[position] ^ 4,)) + message[position + 1 :]
            with pytest.raises(TokensignError):
                verified(changed)


# --- encryption


def encryptions() -> Iterator[tuple[str, str, bool]]:
    for cipher in ("aes-256-gcm", "aes-128-cbc"):
        for form in ("der", "pem", "smime", "streamed"):
            yield cipher, form, False
        yield cipher, "der", True


ENCRYPTIONS = [
    pytest.param(*case, id=f"{case[0]}-{case[1]}{'-pkcs1' if case[2] else ''}") for case in encryptions()
]


@pytest.fixture(scope="module")
def encrypted(
    openssl: Callable[..., bytes], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., bytes]:
    """A message that a recipient can decrypt, in each form."""
    folder: Path = tmp_path_factory.mktemp("recipient")

    @cache
    def make(recipient: Any, cipher: str, form: str, pkcs1: bool) -> bytes:  # noqa: ANN401, FBT001
        if form == "streamed":
            (folder / "bob.pem").write_text(recipient.certificate.pem())
            return openssl(
                *("cms", "-encrypt", "-binary", "-stream", "-indef", f"-{cipher}", "-outform", "DER"),
                *("-recip", folder / "bob.pem", "-keyopt", "rsa_padding_mode:oaep"),
                feed=CONTENT,
            )
        output = io.BytesIO()
        encrypt(
            io.BytesIO(CONTENT),
            [recipient.certificate],
            output,
            cipher=CONTENT_CIPHERS[cipher],
            transport=Pkcs1Transport() if pkcs1 else None,
        )
        kind = "authEnveloped-data" if cipher.endswith("gcm") else "enveloped-data"
        message = output.getvalue()
        return {"der": message, "pem": pem(message)}.get(form) or smime_opaque(message, kind)

    return make


def check_encrypted(message: bytes, change: Callable[[bytes], bytes], key: Any) -> None:  # noqa: ANN401
    output = io.BytesIO()
    try:
        with open_message(io.BytesIO(change(message))) as opened:
            result = decrypt(opened.cms, [key], output)
    except TokensignError:
        assert output.getvalue() == b""
    else:
        # CBC shows nothing about changes, and the result says so.
        assert output.getvalue() == CONTENT or not result.authenticated


@pytest.mark.parametrize(("cipher", "form", "pkcs1"), ENCRYPTIONS)
@bounded(150)
@given(change=changes)
@example(change=Truncate(0.0))
def test_changed_encryptions_give_the_content_or_nothing(
    cipher: str,
    form: str,
    pkcs1: bool,  # noqa: FBT001 - a parameter of the test
    change: Callable[[bytes], bytes],
    encrypted: Callable[..., bytes],
    software: Callable[..., Any],
) -> None:
    bob = software("rsa:2048")
    check_encrypted(encrypted(bob, cipher, form, pkcs1), change, bob)


@pytest.mark.parametrize(("cipher", "pkcs1"), [("aes-256-gcm", False), ("aes-128-cbc", True)])
@bounded(40)
@given(change=changes)
def test_changed_encryptions_through_the_token(
    cipher: str,
    pkcs1: bool,  # noqa: FBT001 - a parameter of the test
    change: Callable[[bytes], bytes],
    encrypted: Callable[..., bytes],
    token_person: Callable[[str], TokenKey],
) -> None:
    bob = token_person("rsa:2048")
    check_encrypted(encrypted(bob, cipher, "der", pkcs1), change, bob)


@pytest.mark.full
@pytest.mark.parametrize(("cipher", "form", "pkcs1"), ENCRYPTIONS)
@bounded(5000)
@given(change=changes)
def test_changed_encryptions_at_length(
    cipher: str,
    form: str,
    pkcs1: bool,  # noqa: FBT001 - a parameter of the test
    change: Callable[[bytes], bytes],
    encrypted: Callable[..., bytes],
    software: Callable[..., Any],
) -> None:
    bob = software("rsa:2048")
    check_encrypted(encrypted(bob, cipher, form, pkcs1), change, bob)


def test_content_in_other_line_ends_is_the_same_entity(software: Callable[..., Any]) -> None:
    """A relay that makes LF of CR LF does not break a clear-signed mail (RFC 8551 section 3.1.1)."""
    with as_entity(io.BytesIO(CONTENT)) as entity:
        signature = sign_detached(entity, [software()])
    assert verified(smime_detached(signature).replace(b"\r\n", b"\n")) == CONTENT
