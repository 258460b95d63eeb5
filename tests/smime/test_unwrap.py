from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokensign.cms.pem import armor
from tokensign.cms.signed import sign_detached
from tokensign.errors import MalformedError
from tokensign.smime.unwrap import open_message

if TYPE_CHECKING:
    from collections.abc import Callable

    from tokensign.certificates import Certificate
    from tokensign.token import TokenKey

ENTITY = b"Content-Type: text/plain\r\n\r\nPay 100 to Bob."


@pytest.fixture(scope="module")
def message(token_key: Callable[..., TokenKey], issue: Callable[..., Certificate]) -> bytes:
    from tokensign.token import open_key

    key = token_key("ec:p256", name="smime")
    signer = open_key(key.token, key.info, certificate=issue(key.public_key, "alice"))
    return sign_detached(io.BytesIO(ENTITY), [signer])


def opened(data: bytes) -> tuple[str, bytes, bytes | None]:
    with open_message(io.BytesIO(data)) as found:
        return found.form, found.cms.read(), found.content.read() if found.content else None


def opaque(message: bytes, kind: str = "application/pkcs7-mime", encoding: str | None = "base64") -> bytes:
    body = base64.encodebytes(message) if encoding and encoding.lower() == "base64" else message
    field = f"Content-Transfer-Encoding: {encoding}\r\n" if encoding else ""
    return f"Subject: x\r\nContent-Type: {kind}; name=smime.p7m\r\n{field}\r\n".encode() + body


def clear(message: bytes, kind: str = "application/pkcs7-signature", encoding: str = "base64") -> bytes:
    return (
        b'From: alice\r\nContent-Type: multipart/signed; boundary="=_b"\r\n\r\nThis is MIME.\r\n'
        b"--=_b\r\n" + ENTITY + b"\r\n--=_b\r\n" + opaque(message, kind, encoding) + b"\r\n--=_b--\r\n"
    )


def test_der_is_the_stream_itself_and_stays_open(message: bytes) -> None:
    stream = io.BytesIO(message)
    with open_message(stream) as found:
        assert found.form == "der"
        assert found.cms is stream
    assert not stream.closed


def test_a_message_begins_at_the_position_of_the_stream(message: bytes) -> None:
    stream = io.BytesIO(b"skipped" + message)
    stream.seek(7)
    assert open_message(stream).cms.read() == message


def test_pem_is_unarmored(message: bytes) -> None:
    output = io.BytesIO(b"")
    armor(io.BytesIO(message), output)
    assert opened(output.getvalue()) == ("pem", message, None)
    assert opened(b"some words\n" + output.getvalue()) == ("pem", message, None)


@pytest.mark.parametrize("prefix", [b"", b"\r\n"])
def test_bare_base64_is_decoded(prefix: bytes, message: bytes) -> None:
    assert opened(prefix + base64.encodebytes(message)) == ("pem", message, None)
    assert opened(prefix + base64.b64encode(message)) == ("pem", message, None)


@pytest.mark.parametrize("kind", ["application/pkcs7-mime", "application/x-pkcs7-mime"])
@pytest.mark.parametrize("encoding", ["base64", "BASE64", "binary", "8bit", "7bit", None])
def test_an_opaque_mail_is_opened(kind: str, encoding: str | None, message: bytes) -> None:
    assert opened(opaque(message, kind, encoding)) == ("smime", message, None)


@pytest.mark.parametrize("kind", ["application/pkcs7-signature", "application/x-pkcs7-signature"])
def test_a_clear_signed_mail_is_opened(kind: str, message: bytes) -> None:
    assert opened(clear(message, kind)) == ("smime", message, ENTITY)
    assert opened(clear(message, kind).replace(b"\r\n", b"\n")) == ("smime", message, ENTITY)


def test_what_was_opened_is_closed(message: bytes) -> None:
    with open_message(io.BytesIO(clear(message))) as found:
        assert found.content is not None
    assert found.cms.closed
    assert found.content.closed


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "empty"),
        (b"hello", "not a CMS or S/MIME message"),
        (b"Subject: x\r\n\r\nMII", "not a CMS or S/MIME message"),
        (b"Content-Type: multipart/signed\r\n\r\n--b\r\n", "not a CMS or S/MIME message"),
        (clear(b"x", "application/pgp-signature"), "signed with application/pgp-signature"),
        (clear(b"x", encoding="quoted-printable"), "'quoted-printable' is not used"),
        (opaque(b"x", encoding="uuencode"), "'uuencode' is not used"),
        (opaque(b"x").replace(b"eA==", b"e*=="), "base64 text is broken"),
        (b"MIIB" * 20 + b"*", "base64 text is broken"),
        (b"Content-Type: multipart/signed; boundary=b\r\n\r\n--b\r\n", "cut off"),
        (b"Content-Type: multipart/signed; boundary*=undefined''b\r\n\r\n", "Content-Type .* cannot be read"),
        (b"Content-Type: multipart/signed" + b";a" * 400_000 + b"\r\n\r\n", "Content-Type .* cannot be read"),
    ],
)
def test_other_data_is_refused(data: bytes, words: str) -> None:
    with pytest.raises(MalformedError, match=words):
        open_message(io.BytesIO(data))


headers = st.lists(
    st.sampled_from(
        [
            b"Content-Type: multipart/signed; boundary=b\r\n",
            b"Content-Type: multipart/signed; boundary*=utf-8''b\r\n",
            b"Content-Type: multipart/signed; boundary*0=b; boundary*1=\xff\r\n",
            b"Content-Type: application/pkcs7-mime\r\n",
            b'Content-Type: \xff/\x00;="\r\n',
            b"Content-Transfer-Encoding: base64\r\n",
            b"Content-Transfer-Encoding: \xe9\r\n",
            b"Content-Transfer-Encoding: =?utf-8?q?base64?=\r\n",
            b"\r\n",
            b"--b\r\n",
            b"--b--\r\n",
            b"AAAA\r\n",
        ]
    )
    | st.binary(max_size=20),
    max_size=14,
)


@given(headers)
def test_arbitrary_mails_are_opened_or_refused(lines: list[bytes]) -> None:
    try:
        open_message(io.BytesIO(b"".join(lines))).close()
    except MalformedError:
        return
