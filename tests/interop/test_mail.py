"""Mail of other programs is opened here, and mail composed here is read by them."""

from __future__ import annotations

import email
import email.policy
import io
import json
import os
import shutil
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from peers.mail import MAIL_PROGRAMS, OLD_ENVELOPE, MailProgram, address_of
from peers.peer import PeerRefusedError

from tokensign.algorithms import CONTENT_CIPHERS
from tokensign.certificates import Certificate
from tokensign.pki.policy import TrustPolicy
from tokensign.smime.compose_mail import MailOptions, encrypt_mail, sign_mail
from tokensign.smime.open_mail import open_mail
from tokensign.verification import Expectations

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from email.message import EmailMessage

    from peers.identities import Authority, Person
    from peers.schemes import KeyType

    from tokensign.smime.mail_report import MailReport
    from tokensign.token import TokenKey

TEXT = "See you at noon.\nFrom the café on the corner, \t\n.\n" + "long " * 300 + "\n"
ATTACHMENT = bytes(range(256)) * 20
TOKEN_ADDRESS = "token-rsa@example.test"
OURS, THEIRS = "tokensign → {peer}", "{peer} → tokensign"
ENTITY = b"""\
Content-Type: multipart/mixed; boundary=part\r
\r
--part\r
Content-Type: text/plain; charset=us-ascii\r
\r
See you at noon.\r
--part\r
Content-Type: application/octet-stream\r
Content-Disposition: attachment; filename=menu.bin\r
Content-Transfer-Encoding: base64\r
\r
AAECAwQF\r
--part--\r
"""


@pytest.fixture(scope="session")
def mail_programs(
    authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], MailProgram]]:
    """A function that gives a program by its name, started once a session."""
    started: dict[str, MailProgram] = {}

    def start(name: str) -> MailProgram:
        if name not in started:
            program = MAIL_PROGRAMS[name]
            if shutil.which(program.command) is None:
                missing = f"{program.command} is not installed"
                if os.environ.get("CI"):
                    pytest.fail(missing)
                pytest.skip(missing)
            started[name] = program(tmp_path_factory.mktemp("m"), authority)
        return started[name]

    yield start
    for program in started.values():
        program.close()


@pytest.fixture(params=MAIL_PROGRAMS)
def program(request: pytest.FixtureRequest, mail_programs: Callable[[str], MailProgram]) -> MailProgram:
    return mail_programs(request.param)


@pytest.fixture
def note(request: pytest.FixtureRequest, program: MailProgram) -> Callable[..., None]:
    """A function that notes a cell of docs/interop.md; see `record_cell`."""

    def record(row: str, direction: str, refusal: str | None = None) -> None:
        cell = {
            "table": "Mail",
            "row": row,
            "peer": program.name,
            "version": program.version(),
            "direction": direction,
            "refusal": refusal,
        }
        request.node.user_properties.append(("interop", json.dumps(cell)))

    return record


@pytest.fixture
def peer_person(people: Mapping[KeyType, Person]) -> Person:
    return people["rsa"]


@pytest.fixture
def key(token_keys: Mapping[KeyType, TokenKey]) -> TokenKey:
    return token_keys["rsa"]


@pytest.fixture
def token_certificate(key: TokenKey) -> x509.Certificate:
    return x509.load_der_x509_certificate(key.certificates[0].der)


@pytest.fixture
def expectations(authority: Authority) -> Expectations:
    return Expectations(trust=TrustPolicy(anchors=(Certificate(authority.der),)))


def composed(sender: str, to: str) -> io.BytesIO:
    """A mail with a text that relays would change and an attachment."""
    message = email.message.EmailMessage(policy=email.policy.SMTP.clone(cte_type="8bit"))
    message["From"], message["To"], message["Subject"] = sender, to, "Mittag im Café"
    message.set_content(TEXT, cte="8bit")
    message.add_attachment(ATTACHMENT, maintype="application", subtype="octet-stream", filename="menu.bin")
    return io.BytesIO(message.as_bytes())


def check_composed(entity: bytes, legacy_display: str = "") -> None:
    """Check that an entity has what `composed` wrote, behind what was added for programs without RFC 9788."""
    parsed: EmailMessage = email.message_from_bytes(entity, policy=email.policy.default)  # type: ignore[assignment]
    text, attachment = parsed.iter_parts()
    assert text.get_content().replace("\r\n", "\n") == legacy_display + TEXT
    assert attachment.get_content() == ATTACHMENT
    assert parsed["Subject"] == "Mittag im Café"


def recipient_certificate(person: Person) -> Certificate:
    return Certificate(person.certificate.public_bytes(Encoding.DER))


# --- what is composed here


@pytest.mark.parametrize("opaque", [False, True], ids=["clear", "opaque"])
@pytest.mark.parametrize("key_type", ["rsa", "p256"])
def test_program_verifies_our_signed_mail(
    program: MailProgram,
    token_keys: Mapping[KeyType, TokenKey],
    note: Callable[..., None],
    key_type: KeyType,
    *,
    opaque: bool,
) -> None:
    output = io.BytesIO()
    mail = composed(f"token-{key_type}@example.test", "peer-rsa@example.test")
    sign_mail(mail, [token_keys[key_type]], output, MailOptions(opaque=opaque))
    check_composed(program.verify(output.getvalue()))
    note("signed, opaque" if opaque else "signed", OURS)


def test_program_refuses_our_signed_mail_that_was_changed(program: MailProgram, key: TokenKey) -> None:
    output = io.BytesIO()
    sign_mail(composed(TOKEN_ADDRESS, "peer-rsa@example.test"), [key], output)
    changed = output.getvalue().replace(b"See you at noon", b"See you at nine")
    assert changed != output.getvalue()
    with pytest.raises(PeerRefusedError):
        program.verify(changed)


def options_for(program: MailProgram) -> MailOptions:
    """The default, or the nearest to it that the program knows."""
    old = OLD_ENVELOPE.transport if "oaep" in program.refused else None
    if "gcm" in program.refused:
        return MailOptions(cipher=CONTENT_CIPHERS["aes-256-cbc"], key_transport=old)
    return MailOptions(key_transport=old)


def test_program_decrypts_our_mail_and_verifies_what_is_inside(
    program: MailProgram, key: TokenKey, peer_person: Person, note: Callable[..., None]
) -> None:
    output = io.BytesIO()
    encrypt_mail(
        composed(TOKEN_ADDRESS, address_of(peer_person)),
        [recipient_certificate(peer_person)],
        output,
        options_for(program),
        signers=[key],
    )
    assert b"Mittag" not in output.getvalue()
    signed = program.decrypt(output.getvalue(), peer_person)
    check_composed(program.verify(signed), legacy_display="Subject: Mittag im Café\n\n")
    gcm = "gcm" in program.refused and f"{program.name} does not read AES-GCM in mail, and gets AES-CBC"
    note("signed and encrypted", OURS, gcm or None)


def test_program_reads_our_compressed_mail(
    program: MailProgram, key: TokenKey, note: Callable[..., None]
) -> None:
    output = io.BytesIO()
    sign_mail(composed(TOKEN_ADDRESS, "peer-rsa@example.test"), [key], output, MailOptions(compress=True))
    refusal = None
    if "compressed" in program.refused:
        refusal = f"{program.name} does not compress mail"
        with pytest.raises(PeerRefusedError):
            program.uncompress(output.getvalue())
    else:
        check_composed(program.verify(program.uncompress(output.getvalue())))
    note("compressed", OURS, refusal)


# --- what is opened here


def opened(mail: bytes, expectations: Expectations, *keys: TokenKey) -> tuple[MailReport, bytes]:
    output = io.BytesIO()
    report = open_mail(io.BytesIO(mail), expectations, keys, output)
    return report, output.getvalue()


def check_entity(mail: bytes) -> None:
    parsed: EmailMessage = email.message_from_bytes(mail, policy=email.policy.default)  # type: ignore[assignment]
    text, attachment = parsed.iter_parts()
    assert text.get_content().strip() == "See you at noon."
    assert attachment.get_content() == bytes(range(6))
    assert parsed["Subject"] == "Lunch"


@pytest.mark.parametrize("opaque", [False, True], ids=["clear", "opaque"])
def test_we_open_the_signed_mail_of_a_program(
    program: MailProgram,
    peer_person: Person,
    expectations: Expectations,
    note: Callable[..., None],
    *,
    opaque: bool,
) -> None:
    mail = program.sign(ENTITY, peer_person, TOKEN_ADDRESS, opaque=opaque)
    report, content = opened(mail, expectations)
    assert report.verdict == "good"
    assert report.sender_address == address_of(peer_person)
    check_entity(content)
    note("signed, opaque" if opaque else "signed", THEIRS)


def test_we_open_the_compressed_mail_of_a_program(
    program: MailProgram, peer_person: Person, expectations: Expectations, note: Callable[..., None]
) -> None:
    refusal = None
    if "compressed" in program.refused:
        refusal = f"{program.name} does not compress mail"
        with pytest.raises(PeerRefusedError):
            program.compress(ENTITY, address_of(peer_person), TOKEN_ADDRESS)
    else:
        mail = program.compress(ENTITY, address_of(peer_person), TOKEN_ADDRESS)
        report, content = opened(mail, expectations)
        assert [layer.kind.value for layer in report.layers] == ["compressed"]
        assert report.verdict == "unsigned"
        check_entity(content)
    note("compressed", THEIRS, refusal)


def test_we_open_what_a_program_signed_and_encrypted(
    program: MailProgram,
    peer_person: Person,
    key: TokenKey,
    token_certificate: x509.Certificate,
    expectations: Expectations,
    note: Callable[..., None],
) -> None:
    signed = program.sign(ENTITY, peer_person, TOKEN_ADDRESS, opaque=False)
    mail = program.encrypt(signed, address_of(peer_person), token_certificate, TOKEN_ADDRESS)
    report, content = opened(mail, expectations, key)
    assert [layer.kind.value for layer in report.layers] == ["encrypted", "signed"]
    assert report.verdict == "good"
    check_entity(content)
    note("signed and encrypted", THEIRS)


def test_encrypted_mail_of_a_program_says_nothing_about_its_sender(
    program: MailProgram,
    peer_person: Person,
    key: TokenKey,
    token_certificate: x509.Certificate,
    expectations: Expectations,
) -> None:
    mail = program.encrypt(ENTITY, address_of(peer_person), token_certificate, TOKEN_ADDRESS)
    report, content = opened(mail, expectations, key)
    assert report.verdict == "unsigned"
    assert report.authenticated is ("gcm" not in program.refused)
    check_entity(content)
