"""An agent and its clients: what they can do, and what no client can do to the others."""

from __future__ import annotations

import os
import shutil
import socket
import struct
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, mlkem, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tokensign.agent import operations, server
from tokensign.agent.protocol import ANSWER_MAXIMUM, REQUEST_MAXIMUM, receive, request_of, send
from tokensign.algorithms import DIGESTS, KeySpec, KeyUsage, default_scheme, signature_scheme
from tokensign.cms.signature import verify_fresh
from tokensign.errors import (
    AgentError,
    DecryptionError,
    KeyNotFoundError,
    MalformedError,
    MechanismError,
    TokensignError,
    UnsupportedError,
    UsageError,
    WeakKeyError,
)
from tokensign.keys import (
    Decapsulator,
    Decrypter,
    KeyAgreement,
    KeyEncryptionKey,
    OaepTransport,
    Pkcs1Transport,
)
from tokensign.token import generate_key, generate_secret_key, import_certificate, open_secret_key
from tokensign.uri import KeyUri

if TYPE_CHECKING:
    from collections.abc import Callable

    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

    from tests.agent.conftest import CountingSource
    from tokensign.agent.client import AgentClient
    from tokensign.algorithms import SignatureScheme
    from tokensign.certificates import Certificate
    from tokensign.token import Token, TokenKey

MESSAGE = b"the figures are good"
CONTENT_KEY = bytes(range(32))
RSA = ("rsa:2048", KeyUsage.BOTH, "agent")


def check(
    public_key: PublicKeyTypes, signature: bytes, scheme: SignatureScheme, message: bytes = MESSAGE
) -> None:
    """Fail where a signature is not that of a message."""
    verify_fresh(public_key, scheme, signature, message=message)


# --- keys


@pytest.mark.parametrize("family", ["rsa-pkcs1", "rsa-pss"])
@pytest.mark.parametrize("digest", ["sha256", "sha512"])
def test_rsa_signs(agent: AgentClient, token_key: Callable[..., TokenKey], family: str, digest: str) -> None:
    own = token_key(*RSA)
    key = agent.open_key(own.info.label, KeyUsage.SIGN)
    scheme = signature_scheme(family, DIGESTS[digest])
    hashed = scheme.digest.new(MESSAGE).digest()
    for signature in (key.sign(MESSAGE, scheme), key.sign_digest(hashed, scheme)):
        check(own.public_key, signature, scheme)


@pytest.mark.parametrize("spec", ["ec:p256", "ec:p384", "ed25519"])
def test_curves_sign(agent: AgentClient, token_key: Callable[..., TokenKey], spec: str) -> None:
    own = token_key(spec)
    key = agent.open_key(own.info.label)
    scheme = default_scheme(key.public_key)
    check(own.public_key, key.sign(MESSAGE, scheme), scheme)


def test_a_message_that_is_too_large_for_a_request_is_hashed_by_the_client(
    agent: AgentClient, token_key: Callable[..., TokenKey]
) -> None:
    own, message = token_key("ec:p256"), bytes(REQUEST_MAXIMUM)
    scheme = default_scheme(own.public_key)
    check(own.public_key, agent.open_key(own.info.label).sign(message, scheme), scheme, message)
    pure = token_key("ed25519")
    with pytest.raises(MechanismError, match="at most"):
        agent.open_key(pure.info.label).sign(message, default_scheme(pure.public_key))


def test_a_key_that_does_not_fit_its_scheme_is_told_as_by_the_token(
    agent: AgentClient, token_key: Callable[..., TokenKey]
) -> None:
    own = token_key("ec:p256")
    scheme = signature_scheme("rsa-pkcs1", DIGESTS["sha256"])
    with pytest.raises(MechanismError) as by_agent:
        agent.open_key(own.info.label).sign(MESSAGE, scheme)
    with pytest.raises(MechanismError) as by_token:
        own.sign(MESSAGE, scheme)
    assert str(by_agent.value) == str(by_token.value)
    with pytest.raises(UsageError):
        agent.open_key(own.info.label).sign_digest(b"short", default_scheme(own.public_key))


@pytest.mark.parametrize("transport", [Pkcs1Transport(), OaepTransport(), OaepTransport(label=b"L")], ids=str)
def test_rsa_unwraps(
    agent: AgentClient, token_key: Callable[..., TokenKey], transport: Pkcs1Transport | OaepTransport
) -> None:
    own = token_key(*RSA)
    key = agent.open_key(own.info.label, KeyUsage.DECRYPT)
    assert isinstance(own.public_key, rsa.RSAPublicKey)
    label = transport.label if isinstance(transport, OaepTransport) else None
    scheme: Any = (
        padding.OAEP(padding.MGF1(SHA256()), SHA256(), label)
        if isinstance(transport, OaepTransport)
        else padding.PKCS1v15()
    )
    assert key.unwrap(own.public_key.encrypt(CONTENT_KEY, scheme), transport) == CONTENT_KEY


def test_failures_of_decryption_look_the_same(agent: AgentClient, token_key: Callable[..., TokenKey]) -> None:
    own = token_key(*RSA)
    key = agent.open_key(own.info.label)
    assert isinstance(own.public_key, rsa.RSAPublicKey)
    other_label = own.public_key.encrypt(CONTENT_KEY, padding.OAEP(padding.MGF1(SHA256()), SHA256(), b"x"))
    told = set()
    for ciphertext in (b"short", bytes(256), b"\x7f" * 256, other_label):
        with pytest.raises(DecryptionError) as caught:
            key.unwrap(ciphertext, OaepTransport())
        told.add((str(caught.value), caught.value.hint))
    assert len(told) == 1


def test_curves_agree(agent: AgentClient, token_key: Callable[..., TokenKey]) -> None:
    own = token_key("ec:p256", KeyUsage.DECRYPT)
    key = agent.open_key(own.info.label)
    ephemeral = ec.generate_private_key(ec.SECP256R1())
    assert isinstance(own.public_key, ec.EllipticCurvePublicKey)
    assert key.agree(ephemeral.public_key()) == ephemeral.exchange(ec.ECDH(), own.public_key)
    with pytest.raises(DecryptionError):
        key.agree(ec.generate_private_key(ec.SECP384R1()).public_key())


def test_lattice_keys_sign_and_decapsulate(nss_token: Token, serve: Callable[..., AgentClient]) -> None:
    for label, spec in (("agent-dsa", "ml-dsa-65"), ("agent-kem", "ml-kem-768")):
        generate_key(nss_token, label, KeySpec.parse(spec))
    agent = serve(nss_token.info.label, of=nss_token.module)
    signer = agent.open_key("agent-dsa")
    scheme = default_scheme(signer.public_key)
    check(signer.public_key, signer.sign(MESSAGE, scheme), scheme)
    key = agent.open_key("agent-kem")
    assert isinstance(key.public_key, mlkem.MLKEM768PublicKey)
    secret, ciphertext = key.public_key.encapsulate()
    assert key.decapsulate(ciphertext) == secret
    assert key.kem is not None
    assert key.kem.name == "ml-kem-768"
    with pytest.raises(DecryptionError):
        key.decapsulate(ciphertext[1:])


def test_aes_keys_wrap_and_unwrap(token: Token, agent: AgentClient) -> None:
    try:
        own = open_secret_key(token, "agent-aes")
    except KeyNotFoundError:
        own = generate_secret_key(token, "agent-aes")
    key = agent.open_secret_key("agent-aes")
    assert (key.label, key.key_identifier, key.key_size) == (own.label, own.key_identifier, 32)
    wrapped = key.wrap_key(CONTENT_KEY)
    assert own.unwrap_key(wrapped) == key.unwrap_key(wrapped) == CONTENT_KEY
    with pytest.raises(DecryptionError):
        key.unwrap_key(bytes(40))


def test_keys_have_the_methods_of_the_protocols(
    agent: AgentClient, token_key: Callable[..., TokenKey]
) -> None:
    key = agent.open_key(token_key(*RSA).info.label)
    assert isinstance(key, Decrypter)
    assert isinstance(key, KeyAgreement)
    assert isinstance(key, Decapsulator)
    assert key.kem is None


def test_a_key_is_told_with_its_certificates(
    token: Token,
    token_key: Callable[..., TokenKey],
    issue: Callable[..., Certificate],
    agent: AgentClient,
) -> None:
    own = token_key("ec:p256", KeyUsage.SIGN, "told")
    older = issue(own.public_key, "told", days=(-3, 30))
    newer = issue(own.public_key, "told", days=(-2, 30))
    for certificate in (older, newer):
        import_certificate(token, certificate)
    key = agent.open_key("told-ec:p256-sign")
    assert list(key.certificates) == [newer, older]
    assert key.certificate == newer
    assert key.info == agent.open_key(str(own.info.uri)).info
    assert agent.open_key(older).certificate == older
    assert key.info.sensitive is True
    assert key.info.uri == own.info.uri


def test_all_keys_that_decrypt_are_found(agent: AgentClient, token_key: Callable[..., TokenKey]) -> None:
    expected = {token_key(*RSA).info.uri, token_key("ec:p256", KeyUsage.DECRYPT).info.uri}
    signing = token_key("ec:p256").info.uri
    found = agent.open_decrypters()
    assert expected <= {key.info.uri for key in found}
    assert signing not in {key.info.uri for key in found}
    assert [isinstance(key, KeyEncryptionKey) for key in found] == sorted(key.info.secret for key in found)


def test_no_key_of_that_name_is_told_as_by_the_token(agent: AgentClient) -> None:
    with pytest.raises(KeyNotFoundError, match="there is no key zora on the token acme"):
        agent.open_key("zora")
    with pytest.raises(UsageError):
        agent.open_key("pkcs11:nonsense=1")


def test_the_agent_says_whom_it_serves(agent: AgentClient, token: Token) -> None:
    assert agent.serves(None, None)
    assert agent.serves("acme", token.module.path)
    assert agent.serves(token.uri, None)
    assert not agent.serves("other", None)
    assert not agent.serves(KeyUri(token="acme", serial="00"), None)
    assert not agent.serves(None, token.module.path.with_name("other.so"))


# --- protection of keys


def test_a_strict_agent_refuses_weak_keys_whatever_the_client_says(
    token: Token, serve: Callable[..., AgentClient], weak_key: str
) -> None:
    client = serve(token.info.label, strict=True)
    with pytest.raises(WeakKeyError):
        client.open_key(weak_key)
    with pytest.raises(WeakKeyError):
        client.ask("sign_digest", key=f"pkcs11:token=acme;object={weak_key};type=private")
    assert weak_key not in {key.info.label for key in client.open_decrypters()}


def test_a_strict_client_does_not_get_weak_keys(agent: AgentClient, weak_key: str) -> None:
    assert agent.open_key(weak_key).info.label == weak_key
    with pytest.raises(WeakKeyError):
        agent.open_key(weak_key, require_non_extractable=True)
    assert weak_key in {key.info.label for key in agent.open_decrypters()}
    assert weak_key not in {key.info.label for key in agent.open_decrypters(require_non_extractable=True)}


@pytest.fixture(scope="module")
def weak_key(token: Token) -> str:
    """A key on "acme" that was imported: it has been outside."""
    label = "imported"
    private_key = rsa.generate_private_key(65537, 2048)
    numbers = private_key.private_numbers()
    from pkcs11 import Attribute, KeyType, ObjectClass

    def octets(value: int) -> bytes:
        return value.to_bytes((value.bit_length() + 7) // 8, "big")

    with token.borrow("import a key", change=True) as session:
        session.binding.create_object(
            {
                Attribute.CLASS: ObjectClass.PRIVATE_KEY,
                Attribute.KEY_TYPE: KeyType.RSA,
                Attribute.TOKEN: True,
                Attribute.PRIVATE: True,
                Attribute.SENSITIVE: True,
                Attribute.EXTRACTABLE: False,
                Attribute.LABEL: label,
                Attribute.ID: b"imported",
                Attribute.DECRYPT: True,
                Attribute.SIGN: True,
                Attribute.MODULUS: octets(numbers.public_numbers.n),
                Attribute.PUBLIC_EXPONENT: octets(numbers.public_numbers.e),
                Attribute.PRIVATE_EXPONENT: octets(numbers.d),
                Attribute.PRIME_1: octets(numbers.p),
                Attribute.PRIME_2: octets(numbers.q),
                Attribute.EXPONENT_1: octets(numbers.dmp1),
                Attribute.EXPONENT_2: octets(numbers.dmq1),
                Attribute.COEFFICIENT: octets(numbers.iqmp),
            }
        )
    return label


# --- confirmation


class Person:
    """Who answers what is asked in pinentry."""

    def __init__(self, *, agrees: bool) -> None:
        self.agrees = agrees
        self.asked: list[str] = []

    def __call__(self, question: str, reasons: object) -> bool:  # noqa: ARG002 - that of `confirm`
        self.asked.append(question)
        return self.agrees


@pytest.mark.parametrize("agrees", [True, False])
def test_each_use_is_confirmed_and_opening_is_not(
    token_key: Callable[..., TokenKey],
    serve: Callable[..., AgentClient],
    monkeypatch: pytest.MonkeyPatch,
    *,
    agrees: bool,
) -> None:
    person = Person(agrees=agrees)
    monkeypatch.setattr(operations, "confirm", person)
    own = token_key("ec:p256")
    key = serve("acme", confirmed=True).open_key(own.info.label)
    assert person.asked == []
    for _ in range(2):
        if agrees:
            key.sign(MESSAGE, default_scheme(own.public_key))
        else:
            with pytest.raises(AgentError, match="not confirmed"):
                key.sign(MESSAGE, default_scheme(own.public_key))
    program = os.path.realpath(sys.executable)
    assert (
        person.asked == [f"{program} (process {os.getpid()}) wants to sign with the key {own.info.label}"] * 2
    )


# --- many clients, and bad ones


def test_many_threads_of_one_client_sign(
    agent: AgentClient, token_key: Callable[..., TokenKey], source: CountingSource
) -> None:
    own = token_key("ec:p256")
    key, scheme = agent.open_key(own.info.label), default_scheme(own.public_key)
    messages = [f"message {number}".encode() for number in range(200)]
    with ThreadPoolExecutor(8) as pool:
        signatures = list(pool.map(lambda message: key.sign(message, scheme), messages))
    for message, signature in zip(messages, signatures, strict=True):
        check(own.public_key, signature, scheme, message)
    assert source.asked <= 1  # none where the token was logged in already


@pytest.fixture
def raw(agent: AgentClient) -> Callable[[], socket.socket]:
    """A connection without a client: `raw()`."""
    opened: list[socket.socket] = []

    def connect() -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(20)
        connection.connect(str(agent.path))
        opened.append(connection)
        return connection

    yield connect  # type: ignore[misc]
    for connection in opened:
        connection.close()


def is_ended(connection: socket.socket) -> bool:
    """Whether the other side has ended a connection."""
    connection.settimeout(20)
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


@pytest.mark.parametrize(
    "sent",
    [b"GET / HTTP/1.1\r\n\r\n", struct.pack(">I", REQUEST_MAXIMUM + 1), struct.pack(">I", 4) + b"null"],
    ids=["another protocol", "too long", "no object"],
)
def test_what_is_no_request_is_answered_and_ends_its_connection_only(
    agent: AgentClient, raw: Callable[[], socket.socket], sent: bytes
) -> None:
    connection = raw()
    connection.sendall(sent)
    answer = receive(connection, ANSWER_MAXIMUM, 20)
    assert answer is not None
    assert answer["error"]["kind"] == "MalformedError"
    assert is_ended(connection)
    assert agent.info()["locked"] is False


@pytest.mark.parametrize(
    ("request_", "kind"),
    [
        ({}, UnsupportedError),
        ({"version": 2, "operation": "info"}, UnsupportedError),
        ({"version": 1}, MalformedError),
        (request_of("reveal_pin"), UnsupportedError),
        (request_of("open_key"), MalformedError),
        (request_of("open_key", name={"text": 1}), MalformedError),
        (request_of("open_key", name={"text": "x"}, usage="everything"), MalformedError),
        (request_of("open_key", name={"certificate": "AAAA"}), MalformedError),
        (request_of("sign", key=["x"]), MalformedError),
        (request_of("sign", key="pkcs11:object=nobody;type=private"), KeyNotFoundError),
        (request_of("wrap_key", key="pkcs11:object=nobody;type=cert"), UsageError),
    ],
    ids=str,
)
def test_a_request_that_cannot_be_done_is_told_and_the_connection_goes_on(
    raw: Callable[[], socket.socket], request_: dict[str, Any], kind: type[TokensignError]
) -> None:
    connection = raw()
    send(connection, request_, REQUEST_MAXIMUM, 5)
    answer = receive(connection, ANSWER_MAXIMUM, 20)
    assert answer is not None
    assert answer["error"]["kind"] == kind.__name__
    send(connection, request_of("info"), REQUEST_MAXIMUM, 5)
    again = receive(connection, ANSWER_MAXIMUM, 20)
    assert again is not None
    assert again["result"]["confirm"] is False


def test_fields_of_operations_are_checked(agent: AgentClient, token_key: Callable[..., TokenKey]) -> None:
    own = token_key(*RSA)
    uri = str(own.info.uri)
    scheme = {"family": "rsa-pkcs1", "digest": "sha256", "parameter_set": ""}
    for operation, fields, kind in (
        ("sign", {"message": "AA=="}, MalformedError),
        ("sign", {"message": "AA==", "scheme": scheme | {"digest": "md4"}}, UnsupportedError),
        ("sign", {"message": "AA==", "scheme": scheme | {"digest": "md5"}}, UnsupportedError),
        ("sign", {"message": "AA==", "scheme": scheme | {"family": "dsa"}}, UnsupportedError),
        ("unwrap", {"encrypted_key": "AA=="}, MalformedError),
        ("unwrap", {"encrypted_key": "AA==", "transport": {"kind": "none"}}, UnsupportedError),
        ("agree", {"peer": "AA=="}, MalformedError),
        ("decapsulate", {"ciphertext": "AA=="}, MechanismError),
        ("unwrap_key", {"wrapped": "AA=="}, MalformedError),
    ):
        with pytest.raises(kind):
            agent.ask(operation, key=uri, **fields)


def test_a_slow_client_is_dropped_and_the_others_are_served(
    agent: AgentClient, raw: Callable[[], socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "REQUEST_TIMEOUT", 2.0)
    slow = raw()
    slow.sendall(struct.pack(">I", 100) + b"{")
    start = time.monotonic()
    assert agent.info()["locked"] is False
    assert time.monotonic() - start < 2
    assert is_ended(slow)
    assert time.monotonic() - start < 20


def test_more_connections_than_allowed_are_told(agent: AgentClient, raw: Callable[[], socket.socket]) -> None:
    held = [raw() for _ in range(server.CONNECTIONS_MAXIMUM - 1)]  # one is the client's
    assert agent.info()["locked"] is False
    answer = receive(raw(), ANSWER_MAXIMUM, 20)
    assert answer is not None
    assert "connections" in answer["error"]["message"]
    for connection in held:
        connection.close()
    end = time.monotonic() + 60
    while threading.active_count() > 10:
        assert time.monotonic() < end
        time.sleep(0.05)
    send(fresh := raw(), request_of("info"), REQUEST_MAXIMUM, 5)
    again = receive(fresh, ANSWER_MAXIMUM, 20)
    assert again is not None
    assert "result" in again


ASK = """
import socket, sys
connection = socket.socket(socket.AF_UNIX)
connection.settimeout(20)
connection.connect(sys.argv[1])
try:
    connection.sendall(bytes.fromhex(sys.argv[2]))
    print(connection.recv(1))
except (ConnectionResetError, BrokenPipeError):
    print(b"")
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")
@pytest.mark.parametrize(("user", "answer"), [(65534, "b''"), (0, r"b'\x00'")], ids=["other", "own"])
def test_another_user_gets_no_answer_even_where_the_folder_is_open(
    agent: AgentClient, user: int, answer: str
) -> None:
    for folder in (agent.path.parent, agent.path.parents[1]):
        folder.chmod(0o755)
    agent.path.chmod(0o666)
    content = b'{"version": 1, "operation": "info"}'
    prefix = (shutil.which("setpriv") or "setpriv", f"--reuid={user}", "--clear-groups")
    asked = subprocess.run(
        [*prefix, sys.executable, "-c", ASK, agent.path, (struct.pack(">I", len(content)) + content).hex()],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert asked.stdout.strip() == answer
    assert agent.info()["locked"] is False


def test_nothing_secret_is_in_what_the_agent_tells(
    agent: AgentClient, token_key: Callable[..., TokenKey], user_pin: str
) -> None:
    own = token_key(*RSA)
    told = str(agent.ask("open_key", name={"text": own.info.label})) + str(agent.info())
    assert user_pin not in told
    public = own.public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert (
        agent.open_key(own.info.label).public_key.public_bytes(
            Encoding.DER, PublicFormat.SubjectPublicKeyInfo
        )
        == public
    )


# --- the end


def test_stop_ends_the_agent_and_its_socket(agent: AgentClient) -> None:
    agent.ask("stop")
    assert not agent.path.exists()
    with pytest.raises(AgentError, match="went away"):
        agent.info()


def test_a_client_connects_anew_where_the_agent_ended_a_quiet_connection(
    agent: AgentClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "_QUIET_MAXIMUM", 0.1)
    agent.info()
    time.sleep(0.6)
    assert agent.info()["locked"] is False


def test_a_locked_agent_refuses_keys_and_says_how_to_unlock_it(
    agent: AgentClient, token_key: Callable[..., TokenKey]
) -> None:
    own = token_key("ec:p256")
    key = agent.open_key(own.info.label)
    agent.ask("lock")
    assert agent.info()["locked"] is True
    for use in (
        lambda: agent.open_key(own.info.label),
        lambda: key.sign(MESSAGE, default_scheme(own.public_key)),
        agent.open_decrypters,
    ):
        with pytest.raises(AgentError, match="locked") as caught:
            use()
        assert caught.value.hint == "unlock it with `tokensign agent unlock`, or unset TOKENSIGN_AGENT"
    agent.ask("unlock")
    key.sign(MESSAGE, default_scheme(own.public_key))
