from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pkcs11 import Attribute, KeyType, MechanismFlag

from tokensign.algorithms import DIGESTS, KeySpec, KeyUsage, default_scheme, signature_scheme
from tokensign.errors import (
    AmbiguousNameError,
    DecryptionError,
    KeyNotFoundError,
    MechanismError,
    PinIncorrectError,
    PinLockedError,
    TokenError,
    TokenRemovedError,
    UsageError,
)
from tokensign.keys import OaepTransport, Pkcs1Transport
from tokensign.token import (
    Pin,
    PinState,
    TokenInfo,
    TokenKey,
    delete_key,
    find_key,
    generate_key,
    import_certificate,
    oaep,
    open_key,
    open_token,
)
from tokensign.token.decryption import Decryption
from tokensign.token.mechanisms import ecdsa_sig_value
from tokensign.token.public_key import ec_parameters

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tokensign.algorithms import SignatureScheme
    from tokensign.certificates import Certificate
    from tokensign.keys import Decrypter, Signer
    from tokensign.token import Module, Token
    from tokensign.token.session import Session

MESSAGE = b"what is signed"
CONTENT_KEY = bytes(range(32))
STRONG = [name for name, entry in DIGESTS.items() if name not in ("md5", "sha1")]


def verify(key: Any, signature: bytes, scheme: SignatureScheme) -> None:  # noqa: ANN401
    """Verify with cryptography; raises when it does not hold."""
    hash_algorithm = scheme.digest.primitive()
    match scheme.family:
        case "rsa-pkcs1":
            key.verify(signature, MESSAGE, padding.PKCS1v15(), hash_algorithm)
        case "rsa-pss":
            pss = padding.PSS(padding.MGF1(hash_algorithm), scheme.salt_size)
            key.verify(signature, MESSAGE, pss, hash_algorithm)
        case "ecdsa":
            key.verify(signature, MESSAGE, ec.ECDSA(hash_algorithm))
        case "eddsa":
            key.verify(signature, MESSAGE)


@pytest.mark.parametrize("name", [name for name in STRONG if not name.startswith("sha3")])
@pytest.mark.parametrize(
    ("spec", "family"),
    [
        ("rsa:2048", "rsa-pkcs1"),
        ("rsa:2048", "rsa-pss"),
        ("ec:p256", "ecdsa"),
        ("ec:p384", "ecdsa"),
        ("ec:p521", "ecdsa"),
    ],
)
def test_signatures_verify_with_the_public_key(
    token_key: Callable[..., TokenKey], spec: str, family: str, name: str
) -> None:
    key: Signer = token_key(spec)
    scheme = signature_scheme(family, DIGESTS[name])
    verify(key.public_key, key.sign(MESSAGE, scheme), scheme)
    state = scheme.digest.new()
    state.update(MESSAGE)
    verify(key.public_key, key.sign_digest(state.digest(), scheme), scheme)


@pytest.mark.parametrize("name", ["sha3_256", "sha3_384", "sha3_512"])
@pytest.mark.parametrize(
    ("spec", "family"), [("rsa:2048", "rsa-pkcs1"), ("rsa:2048", "rsa-pss"), ("ec:p256", "ecdsa")]
)
def test_sha3_needs_nothing_of_the_token(
    token_key: Callable[..., TokenKey], spec: str, family: str, name: str
) -> None:
    key = token_key(spec)
    scheme = signature_scheme(family, DIGESTS[name])
    verify(key.public_key, key.sign(MESSAGE, scheme), scheme)


@pytest.mark.parametrize(
    ("spec", "kind", "size"),
    [("ed25519", ed25519.Ed25519PublicKey, 64), ("ed448", ed448.Ed448PublicKey, 114)],
)
def test_eddsa_signs_the_message_itself(
    token_key: Callable[..., TokenKey], spec: str, kind: type, size: int
) -> None:
    key = token_key(spec)
    assert isinstance(key.public_key, kind)
    scheme = default_scheme(key.public_key)
    signature = key.sign(MESSAGE, scheme)
    assert len(signature) == size
    verify(key.public_key, signature, scheme)
    with pytest.raises(MechanismError, match="signs the message itself"):
        key.sign_digest(bytes(64), scheme)


def test_a_key_of_one_edwards_curve_does_not_sign_for_the_other(token_key: Callable[..., TokenKey]) -> None:
    first, second = token_key("ed25519"), token_key("ed448")
    for key, other in ((first, second), (second, first)):
        with pytest.raises(MechanismError, match="does not sign with eddsa with sha"):
            key.sign(MESSAGE, default_scheme(other.public_key))


@given(st.integers(1, 2**256 - 1), st.integers(1, 2**256 - 1))
def test_r_and_s_become_an_ecdsa_sig_value(first: int, second: int) -> None:
    from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

    pair = first.to_bytes(32) + second.to_bytes(32)
    assert decode_dss_signature(ecdsa_sig_value(pair)) == (first, second)


def test_a_scheme_that_does_not_fit_is_refused(token_key: Callable[..., TokenKey]) -> None:
    with pytest.raises(MechanismError, match=r"\(ec:p256\) does not sign with rsa-pss"):
        token_key("ec:p256").sign(MESSAGE, signature_scheme("rsa-pss", DIGESTS["sha256"]))
    with pytest.raises(UsageError, match="has 32 bytes, not 31"):
        token_key("ec:p256").sign_digest(bytes(31), signature_scheme("ecdsa", DIGESTS["sha256"]))


def test_a_key_that_is_not_made_for_it_is_refused_by_the_token(token_key: Callable[..., TokenKey]) -> None:
    decrypting = token_key("rsa:2048", KeyUsage.DECRYPT)
    with pytest.raises(MechanismError, match="KeyFunctionNotPermitted") as failure:
        decrypting.sign(MESSAGE, default_scheme(decrypting.public_key))
    assert failure.value.hint
    assert "not made for this use" in failure.value.hint
    with pytest.raises(MechanismError, match="KeyFunctionNotPermitted"):
        token_key("rsa:2048").unwrap(bytes(256), Pkcs1Transport())


def encrypt(key: Any, transport: OaepTransport | Pkcs1Transport, message: bytes = CONTENT_KEY) -> bytes:  # noqa: ANN401
    if isinstance(transport, Pkcs1Transport):
        return bytes(key.encrypt(message, padding.PKCS1v15()))
    mask = padding.MGF1(transport.mgf_digest.primitive())
    return bytes(key.encrypt(message, padding.OAEP(mask, transport.digest.primitive(), transport.label)))


TRANSPORTS = [
    Pkcs1Transport(),
    OaepTransport(DIGESTS["sha1"], DIGESTS["sha1"]),
    OaepTransport(DIGESTS["sha1"], DIGESTS["sha1"], b"label"),
    OaepTransport(DIGESTS["sha256"], DIGESTS["sha1"]),
    OaepTransport(),
    OaepTransport(label=b"label"),
    OaepTransport(DIGESTS["sha384"], DIGESTS["sha384"]),
    OaepTransport(DIGESTS["sha512"], DIGESTS["sha512"]),
]


@pytest.mark.parametrize("transport", TRANSPORTS, ids=str)
def test_content_keys_are_unwrapped(
    token_key: Callable[..., TokenKey], transport: OaepTransport | Pkcs1Transport
) -> None:
    key: Decrypter = token_key("rsa:2048", KeyUsage.DECRYPT)
    assert key.unwrap(encrypt(key.public_key, transport), transport) == CONTENT_KEY
    assert key.unwrap(encrypt(key.public_key, transport, b""), transport) == b""


@pytest.mark.parametrize("transport", TRANSPORTS, ids=str)
def test_every_failure_to_unwrap_looks_the_same(
    token_key: Callable[..., TokenKey], transport: OaepTransport | Pkcs1Transport
) -> None:
    key = token_key("rsa:2048", KeyUsage.DECRYPT)
    good = encrypt(key.public_key, transport)
    other = Pkcs1Transport() if isinstance(transport, OaepTransport) else OaepTransport()
    for bad in (
        good[:-1],
        good + b"\0",
        b"",
        bytes(256),
        b"\xff" * 256,
        good[:-1] + bytes([good[-1] ^ 1]),
        encrypt(key.public_key, other),
    ):
        with pytest.raises(DecryptionError) as failure:
            key.unwrap(bad, transport)
        assert (failure.value.message, failure.value.hint) == (oaep.CANNOT_DECRYPT, None)
    assert key.unwrap(good, transport) == CONTENT_KEY


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30, deadline=None)
@given(ciphertext=st.binary(min_size=256, max_size=256))
def test_any_ciphertext_is_answered_with_the_one_error(
    token_key: Callable[..., TokenKey], ciphertext: bytes
) -> None:
    key = token_key("rsa:2048", KeyUsage.DECRYPT)
    for transport in (Pkcs1Transport(), OaepTransport()):
        try:
            key.unwrap(ciphertext, transport)
        except DecryptionError as error:
            assert error.message == oaep.CANNOT_DECRYPT  # noqa: PT017 - a lucky padding is no failure


@pytest.fixture
def decrypts(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, bytes]]:
    """Mechanism and ciphertext of every decryption from now on."""
    seen: list[tuple[int, bytes]] = []
    decrypt = Decryption._decrypt  # noqa: SLF001 - which way was taken shows nowhere else, on purpose

    def count(self: Decryption, ciphertext: bytes, *mechanisms: Any) -> Any:  # noqa: ANN401
        (mechanism,) = mechanisms
        seen.append((mechanism.mechanism, ciphertext))
        return decrypt(self, ciphertext, *mechanisms)

    monkeypatch.setattr(Decryption, "_decrypt", count)
    return seen


@pytest.mark.parametrize(
    ("transport", "way"), [(OaepTransport(), 3), (OaepTransport(DIGESTS["sha1"], DIGESTS["sha1"]), 9)]
)
def test_the_way_is_chosen_once_and_not_by_a_strangers_ciphertext(
    token: Token, decrypts: list[tuple[int, bytes]], transport: OaepTransport, way: int
) -> None:
    key = open_key(token, generate_key(token, f"way {way}", KeySpec.parse("rsa:2048"), KeyUsage.DECRYPT))
    stranger = bytes(255) + b"\2"
    for _ in range(2):
        with pytest.raises(DecryptionError):
            key.unwrap(stranger, transport)
    good = encrypt(key.public_key, transport)
    assert key.unwrap(good, transport) == CONTENT_KEY
    (probe, *rest) = decrypts
    assert probe[0] == 9
    assert probe[1] not in (stranger, good)
    assert rest == [(way, stranger), (way, stranger), (way, good)]


def test_hashes_that_nobody_can_probe_go_over_the_host(
    monkeypatch: pytest.MonkeyPatch, token_key: Callable[..., TokenKey]
) -> None:
    key = token_key("rsa:2048", KeyUsage.DECRYPT, name="unprobed")
    transport = OaepTransport(DIGESTS["sha224"], DIGESTS["sha224"])
    encrypted = encrypt(key.public_key, transport)

    def refuse(*_: object, **__: object) -> None:
        raise UnsupportedAlgorithm("not here")

    monkeypatch.setattr(padding, "OAEP", refuse)
    assert key.unwrap(encrypted, transport) == CONTENT_KEY


def test_a_key_too_small_for_the_hash_is_refused_alike(token: Token) -> None:
    with token.borrow("generate a small key", change=True) as session:
        session.binding.generate_keypair(KeyType.RSA, 1024, label="small", id=b"small", store=True)
    key = open_key(token, "small")
    with pytest.raises(DecryptionError, match=oaep.CANNOT_DECRYPT):
        key.unwrap(bytes(128), OaepTransport(DIGESTS["sha512"], DIGESTS["sha512"]))
    delete_key(token, "small")


def test_other_keys_than_rsa_do_not_unwrap(token_key: Callable[..., TokenKey]) -> None:
    with pytest.raises(MechanismError, match="does not decrypt RSA key transport"):
        token_key("ec:p256").unwrap(bytes(256), Pkcs1Transport())


@pytest.mark.parametrize(
    ("code", "error"), [(0x032, TokenRemovedError), (0x031, TokenError), (0x040, DecryptionError)]
)
def test_a_failing_token_is_told_apart_from_a_failing_ciphertext(
    monkeypatch: pytest.MonkeyPatch, token_key: Callable[..., TokenKey], code: int, error: type[Exception]
) -> None:
    key = token_key("rsa:2048", KeyUsage.DECRYPT)
    with monkeypatch.context() as patch:
        patch.setattr(key.token.module.functions, "C_Decrypt", lambda *_: code)
        with pytest.raises(error):
            key.unwrap(bytes(256), Pkcs1Transport())
    good = encrypt(key.public_key, Pkcs1Transport())
    assert key.unwrap(good, Pkcs1Transport()) == CONTENT_KEY


def test_a_removal_while_the_way_is_chosen_decides_nothing(
    monkeypatch: pytest.MonkeyPatch, token_key: Callable[..., TokenKey]
) -> None:
    key = token_key("rsa:2048", KeyUsage.DECRYPT, name="removed")
    good = encrypt(key.public_key, OaepTransport())
    with monkeypatch.context() as patch:
        patch.setattr(key.token.module.functions, "C_DecryptInit", lambda *_: 0x032)
        with pytest.raises(TokenRemovedError):
            key.unwrap(good, OaepTransport())
    assert key.unwrap(good, OaepTransport()) == CONTENT_KEY


def test_certificates_are_those_of_the_key_newest_first(
    token: Token, token_key: Callable[..., TokenKey], issue: Callable[..., Certificate]
) -> None:
    fresh = generate_key(token, "certified", KeySpec.parse("ec:p256"))
    bare = open_key(token, fresh)
    assert (bare.certificates, bare.certificate, bare.chain) == ((), None, ())
    old = issue(fresh.public_key, "old", days=(-30, -10))
    valid = issue(fresh.public_key, "valid", "Issuing CA", days=(-5, 30))
    future = issue(fresh.public_key, "future", days=(5, 30))
    import_certificate(token, old)
    assert open_key(token, fresh).certificate == old
    import_certificate(token, valid)
    import_certificate(token, future)
    key = open_key(token, "certified")
    assert list(key.certificates) == [future, valid, old]
    assert key.certificate == valid
    assert open_key(token, fresh, certificate=old).certificate == old
    with pytest.raises(UsageError, match="belongs to another key"):
        open_key(token, token_key("ec:p256").info, certificate=old)
    public = token_key("ec:p384").public_key
    issuing = issue(public, "Issuing CA", "Root CA", ca=True)
    root = issue(public, "Root CA", "Root CA", ca=True)
    for one in (issuing, root, issue(public, "Root CA", "Root CA"), issue(public, "Other CA", ca=True)):
        import_certificate(token, one)
    assert list(open_key(token, "certified").chain) == [issuing, root]
    delete_key(token, "certified", certificates=True)


def test_a_key_says_which_it_is(token_key: Callable[..., TokenKey]) -> None:
    key = token_key("ec:p256")
    assert repr(key) == f"<TokenKey {key.info.uri}>"
    assert isinstance(token_key("rsa:2048").public_key, rsa.RSAPublicKey)


def test_a_key_that_was_deleted_is_missed(module: Module, token: Token, user_pin: str) -> None:
    key = open_key(token, generate_key(token, "short-lived", KeySpec.parse("ec:p256")))
    scheme = default_scheme(key.public_key)
    key.sign(MESSAGE, scheme)
    with open_token(module, "acme", Pin(user_pin), read_write=True) as other:
        delete_key(other, "short-lived")
    with pytest.raises(KeyNotFoundError):
        key.sign(MESSAGE, scheme)


def test_a_handle_that_became_stale_is_looked_up_again(
    token_key: Callable[..., TokenKey], monkeypatch: pytest.MonkeyPatch
) -> None:
    key = token_key("ec:p256")
    scheme = default_scheme(key.public_key)
    key.sign(MESSAGE, scheme)
    with monkeypatch.context() as patch:
        patch.setattr(key.token.module.functions, "C_SignInit", lambda *_: 0x060)
        with pytest.raises(KeyNotFoundError, match="KeyHandleInvalid"):
            key.sign(MESSAGE, scheme)
    assert key.sign(MESSAGE, scheme)


def test_two_keys_that_cannot_be_told_apart_are_not_used(token: Token) -> None:
    with token.borrow("generate twins", change=True) as session:
        for _ in range(2):
            twin(session)
    with pytest.raises(AmbiguousNameError):
        find_key(token, "twin")
    key = TokenKey(token, next(info for info in _all(token) if info.label == "twin"))
    with pytest.raises(AmbiguousNameError, match="2 keys are"):
        key.sign(MESSAGE, default_scheme(key.public_key))
    with token.borrow("delete the twins", change=True) as session:
        for item in list(session.binding.get_objects({Attribute.LABEL: "twin"})):
            item.destroy()


def _all(token: Token) -> list[Any]:
    from tokensign.token import list_keys

    return list_keys(token)


def twin(session: Session) -> None:
    session.binding.generate_keypair(
        KeyType.EC,
        label="twin",
        id=b"twin",
        store=True,
        capabilities=MechanismFlag.SIGN | MechanismFlag.VERIFY,
        public_template={Attribute.EC_PARAMS: ec_parameters("1.2.840.10045.3.1.7")},
    )


@pytest.fixture
def each_time(module: Module, new_token: Callable[..., str], user_pin: str) -> Iterator[TokenKey]:
    """A key that wants the PIN for each operation."""
    with open_token(module, new_token(), Pin(user_pin), read_write=True) as token:
        with token.borrow("generate", change=True) as session:
            session.binding.generate_keypair(
                KeyType.RSA,
                2048,
                label="each time",
                id=b"1",
                store=True,
                private_template={Attribute.ALWAYS_AUTHENTICATE: True},
            )
        yield open_key(token, "each time")


def test_a_key_that_wants_the_pin_each_time_gets_it(each_time: TokenKey) -> None:
    assert each_time.info.always_authenticate
    scheme = default_scheme(each_time.public_key)
    for _ in range(2):
        verify(each_time.public_key, each_time.sign(MESSAGE, scheme), scheme)
        for transport in (Pkcs1Transport(), OaepTransport()):
            assert each_time.unwrap(encrypt(each_time.public_key, transport), transport) == CONTENT_KEY


def test_a_pin_that_is_typed_on_the_pad_for_one_operation_may_take_longer(
    each_time: TokenKey, monkeypatch: pytest.MonkeyPatch, user_pin: str
) -> None:
    connection = each_time.token.connection
    login, gate = each_time.token.module.functions.login, each_time.token.module.gate
    scheme = default_scheme(each_time.public_key)

    def type_slowly(session: int, user_type: int, pin: Pin | None) -> None:
        assert pin is None
        time.sleep(0.05)
        assert not gate.hangs
        login(session, user_type, Pin(user_pin))

    monkeypatch.setattr(connection, "pin_for_operation", lambda *_: None)  # what a pad gives
    monkeypatch.setattr(each_time.token.module.functions, "login", type_slowly)
    monkeypatch.setattr(gate, "timeout", 0.01)
    verify(each_time.public_key, each_time.sign(MESSAGE, scheme), scheme)


def test_a_wrong_pin_for_one_operation_is_tried_once(
    each_time: TokenKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    login = each_time.token.module.functions.login
    tried = []

    def wrong(session: int, user_type: int, pin: Pin) -> None:  # noqa: ARG001
        tried.append(user_type)
        login(session, user_type, Pin("wrong-pin"))

    scheme = default_scheme(each_time.public_key)
    monkeypatch.setattr(each_time.token.module.functions, "login", wrong)
    with pytest.raises(PinIncorrectError, match="tried once"):
        each_time.sign(MESSAGE, scheme)
    with pytest.raises(PinIncorrectError, match="not tried again"):
        each_time.sign(MESSAGE, scheme)
    assert tried == [2]


def test_the_last_try_is_not_spent_on_an_operation(
    each_time: TokenKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    scheme = default_scheme(each_time.public_key)
    read = TokenInfo.read
    monkeypatch.setattr(TokenInfo, "read", lambda slot: replace(read(slot), pin_state=PinState.FINAL_TRY))
    with pytest.raises(PinLockedError, match="one try left"):
        each_time.sign(MESSAGE, scheme)


def test_a_failed_login_for_one_operation_is_no_wrong_pin(
    each_time: TokenKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pkcs11 import DeviceMemory

    def fail(*_: object) -> None:
        raise DeviceMemory

    scheme = default_scheme(each_time.public_key)
    with monkeypatch.context() as patch:
        patch.setattr(each_time.token.module.functions, "login", fail)
        with pytest.raises(TokenError, match="DeviceMemory"):
            each_time.sign(MESSAGE, scheme)
    assert each_time.sign(MESSAGE, scheme)
