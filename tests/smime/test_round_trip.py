"""Whatever a mail is made of: what is opened is what was composed, and changes of a signed part are seen."""

from __future__ import annotations

import base64
import binascii
import io
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from mail_people import person, trusting

from tokensign.algorithms import CONTENT_CIPHERS, KeyUsage
from tokensign.errors import TokensignError
from tokensign.pki.ca import self_signed
from tokensign.pki.policy import TrustPolicy
from tokensign.smime.compose_mail import MailOptions, encrypt_mail, sign_mail
from tokensign.smime.entity_writer import leaf_content
from tokensign.smime.header_fields import format_field
from tokensign.smime.mime import read_entity
from tokensign.smime.mime_fields import is_structural
from tokensign.smime.open_mail import open_mail
from tokensign.token import open_key
from tokensign.verification import Expectations

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tokensign.smime.header_policy import HeaderPolicy
    from tokensign.token import TokenKey

ALICE = person("alice@acme.example")
BOB = person("bob@acme.example")
BOUNDARIES = ("b", "bb", "b-", "=_Part", "a b c", "'()+_,-./:=?", "x" * 70, "--", "0")
QUICK = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@dataclass(frozen=True)
class Leaf:
    """A part, and what its reader must find in it."""

    header: str
    body: bytes
    content: bytes


@dataclass(frozen=True)
class Multipart:
    subtype: str
    boundary: str
    children: tuple[Any, ...]
    preamble: bytes


@dataclass(frozen=True)
class Forwarded:
    """A mail in a mail."""

    children: tuple[Any]


Tree = Leaf | Multipart | Forwarded


def canonical(text: bytes) -> bytes:
    return text.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")


@st.composite
def leaves(draw: st.DrawFn) -> Leaf:
    kind = draw(st.sampled_from(["text/plain", "text/html", "application/pdf", ""]))
    charset = draw(st.sampled_from(["utf-8", "iso-8859-1", "us-ascii", "utf-16-le", "x-unknown", ""]))
    alphabet = "ab -.=<>/?&;:\t\r\n\0" + ("" if charset in ("us-ascii", "") else "äß€\u3042")
    codec = {"x-unknown": "utf-8", "": "ascii"}.get(charset, charset)
    pieces = st.one_of(
        st.text(alphabet, max_size=20),
        st.sampled_from(["From ", "\n", "\r\n", "--b", "--", ".", "Subject: x\n\n", "<body>", "y" * 1100]),
    )
    content = "".join(draw(st.lists(pieces, max_size=12))).encode(codec, "ignore")
    if kind == "application/pdf":
        content += draw(st.binary(max_size=40))
    encoding = draw(st.sampled_from(["", "7bit", "8bit", "binary", "base64", "quoted-printable"]))
    body = content
    if encoding == "base64":
        body = base64.encodebytes(content)
    elif encoding == "quoted-printable":
        body = binascii.b2a_qp(content.replace(b"\r", b""))  # its line ends are those of text
        content = canonical(content.replace(b"\r", b""))
    elif encoding != "binary":
        content = canonical(content)
    assume(encoding in ("base64", "quoted-printable") or not body.endswith(b"\r"))  # half of a line end
    header = ""
    if kind:
        header += f"Content-Type: {kind}" + (f"; charset={charset}\n" if charset else "\n")
    if encoding:
        header += f"Content-Transfer-Encoding: {encoding}\n"
    if draw(st.booleans()):
        header += 'Content-Disposition: attachment;\n\tfilename="a; b.pdf"\n'
    return Leaf(header, body, content)


def around(children: st.SearchStrategy[Tree]) -> st.SearchStrategy[Tree]:
    forwarded = st.builds(Forwarded, st.tuples(children))
    return forwarded | st.builds(
        Multipart,
        st.sampled_from(["mixed", "alternative", "related", "x-odd"]),
        st.sampled_from(BOUNDARIES),
        st.lists(children, min_size=1, max_size=3).map(tuple),
        st.sampled_from([b"", b"a preamble\n", b"with \xff\n"]),
    )


trees: st.SearchStrategy[Tree] = st.recursive(leaves(), around, max_leaves=6)


def written(tree: Tree, line_end: bytes, around: tuple[str, ...] = ()) -> bytes:
    """A tree as octets; its delimiters may be in no part, and in no multipart around them."""
    if isinstance(tree, Leaf):
        assume(not any(re.search(rb"(?:\A|\n)--" + re.escape(name.encode()), tree.body) for name in around))
        return tree.header.encode().replace(b"\n", line_end) + line_end + tree.body
    if isinstance(tree, Forwarded):
        header = b"Content-Type: message/rfc822\n\nFrom: carol@acme.example\nSubject: old \n"
        return header.replace(b"\n", line_end) + written(tree.children[0], line_end, around)
    assume(tree.boundary not in around)
    within = (*around, tree.boundary)
    delimiter = b"--" + tree.boundary.encode()
    parts = [written(child, line_end, within) for child in tree.children]
    assume(not any(delimiter in part.partition(b"\n\n")[0] for part in parts))
    body = b"".join(delimiter + line_end + part + line_end for part in parts)
    header = f'Content-Type: multipart/{tree.subtype}; boundary="{tree.boundary}"\n'.encode()
    return header.replace(b"\n", line_end) + line_end + tree.preamble + body + delimiter + b"--" + line_end


def leaves_of(tree: Tree) -> Iterator[Leaf]:
    if isinstance(tree, Leaf):
        yield tree
    else:
        for child in tree.children:
            yield from leaves_of(child)


@st.composite
def mails(draw: st.DrawFn) -> tuple[bytes, Tree]:
    line_end = draw(st.sampled_from([b"\n", b"\r\n"]))
    subject = draw(st.text("ab <>äß€\u3042", min_size=1, max_size=60).filter(str.strip))
    fields = [
        b"From: Alice\n <alice@acme.example>\n",
        b"To: Bob <bob@acme.example>\n",
        format_field("Subject", subject).raw.replace(b"\r\n", b"\n"),
        b"X-Odd:\t a:b \n",
        b"X-Odd: again\n",
        b"Date: Thu, 05 Nov 2026 09:00:00 +0100\n",
        b"MIME-Version: 1.0\n",
    ]
    header = b"".join(draw(st.permutations(fields)))
    tree = draw(trees)
    return header.replace(b"\n", line_end) + written(tree, line_end), tree


def opened(message: bytes) -> bytes:
    output = io.BytesIO()
    report = open_mail(io.BytesIO(message), trusting(), [BOB], output)
    assert report.holds, report.summary()
    return output.getvalue()


def contents_of(message: bytes) -> list[bytes]:
    stream = io.BytesIO(message)
    found = []
    for _, entity in read_entity(stream).walk():
        if not entity.children:
            with leaf_content(stream, entity) as content:
                found.append(content.read())
    return found


def fields_of(message: bytes) -> list[tuple[str, list[bytes]]]:
    fields = read_entity(io.BytesIO(message)).fields.without(is_structural)
    return [(field.name, field.body.split()) for field in fields]


def require_equal(message: bytes, tree: Tree, shown: bytes) -> None:
    assert fields_of(shown) == fields_of(message)
    assert contents_of(shown) == [leaf.content for leaf in leaves_of(tree)]
    names = [
        [part.file_name for _, part in read_entity(io.BytesIO(text)).walk()] for text in (message, shown)
    ]
    assert names[0] == names[1]


@given(mails(), st.booleans(), st.booleans())
@QUICK
def test_a_signed_mail_is_opened_as_it_was_composed(
    made: tuple[bytes, Tree],
    opaque: bool,  # noqa: FBT001 - drawn
    protect: bool,  # noqa: FBT001 - drawn
) -> None:
    message, tree = made
    output = io.BytesIO()
    sign_mail(io.BytesIO(message), [ALICE], output, MailOptions(opaque=opaque, protect_headers=protect))
    require_equal(message, tree, opened(output.getvalue()))


@given(
    mails(),
    st.sampled_from(["baseline", "no-confidentiality", "shy"]),
    st.sampled_from(["aes-256-gcm", "aes-128-cbc"]),
    st.sampled_from(
        [{}, {"compress": True}, {"opaque": True}, {"triple_wrap": True}, {"legacy_display": False}]
    ),
)
@QUICK
def test_an_encrypted_mail_is_opened_as_it_was_composed(
    made: tuple[bytes, Tree], hcp: HeaderPolicy, cipher: str, more: dict[str, bool]
) -> None:
    message, tree = made
    output = io.BytesIO()
    options = replace(MailOptions(hcp=hcp, cipher=CONTENT_CIPHERS[cipher]), **more)
    encrypt_mail(io.BytesIO(message), [BOB.certificate], output, options, signers=[ALICE])
    require_equal(message, tree, opened(output.getvalue()))


@given(mails(), st.data())
@QUICK
def test_any_changed_octet_of_a_signed_part_is_seen(made: tuple[bytes, Tree], data: st.DataObject) -> None:
    output = io.BytesIO()
    sign_mail(io.BytesIO(made[0]), [ALICE], output)
    message = bytearray(output.getvalue())
    part = read_entity(io.BytesIO(bytes(message))).children[0]
    place = data.draw(st.integers(part.start, part.end - 1))
    message[place] ^= data.draw(st.integers(1, 255))
    shown = io.BytesIO()
    try:
        report = open_mail(io.BytesIO(bytes(message)), trusting(), [], shown)
    except TokensignError:
        return
    assert report.verdict == "bad"
    assert shown.getvalue() == b""


@pytest.fixture(scope="module")
def token_person(token_key: Callable[..., TokenKey]) -> TokenKey:
    key = token_key("rsa:2048", KeyUsage.BOTH, name="round-trip")
    certificate = self_signed(key, "CN=Bob", ["bob@acme.example"], usage=KeyUsage.BOTH)
    return open_key(key.token, key.info, certificate=certificate)


@pytest.mark.parametrize("triple_wrap", [False, True])
def test_a_token_signs_and_opens(token_person: TokenKey, triple_wrap: bool) -> None:  # noqa: FBT001 - a parameter of the test
    message = b"From: bob@acme.example\nTo: bob@acme.example\nSubject: to myself\n\nGr\xc3\xbc\xc3\x9fe\n"
    output, shown = io.BytesIO(), io.BytesIO()
    certificate = token_person.certificate
    assert certificate is not None
    options = MailOptions(triple_wrap=triple_wrap)
    encrypt_mail(io.BytesIO(message), [certificate], output, options, signers=[token_person])
    trust = Expectations(trust=TrustPolicy(anchors=(certificate,)))
    report = open_mail(io.BytesIO(output.getvalue()), trust, [token_person], shown)
    assert report.verdict == "good"
    assert contents_of(shown.getvalue()) == ["Grüße\r\n".encode()]
