"""AES keys on a SoftHSM token: Wycheproof's key wrap, and how such keys are made and found."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from typing import TYPE_CHECKING, Any

import pkcs11
import pytest
from cryptography.hazmat.primitives import keywrap
from pkcs11.constants import Attribute, ObjectClass
from pkcs11.mechanisms import KeyType

from tokensign.errors import (
    AmbiguousNameError,
    DecryptionError,
    KeyNotFoundError,
    MechanismError,
    TokenError,
    UsageError,
    WeakKeyError,
)
from tokensign.token import Pin, open_token
from tokensign.token import secret_key as module_under_test
from tokensign.token.attributes import objects
from tokensign.token.secret_key import (
    TokenSecretKey,
    generate_secret_key,
    open_secret_key,
    open_secret_keys,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tokensign.token import Module, Token
    from tokensign.token.session import Session

_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def kek_token(module: Module, new_token: Callable[[str], str], user_pin: str) -> Iterator[Token]:
    """A token for secret keys alone."""
    with open_token(module, new_token("secret-keys"), Pin(user_pin), read_write=True) as token:
        yield token


def import_key(token: Token, value: bytes, **attributes: object) -> TokenSecretKey:
    """Store an AES key as tests must and the product never does: not extractable, but born outside."""
    label = f"imported-{next(_numbers)}"
    template: dict[Attribute, object] = {
        Attribute.CLASS: ObjectClass.SECRET_KEY,
        Attribute.KEY_TYPE: KeyType.AES,
        Attribute.VALUE: value,
        Attribute.TOKEN: True,
        Attribute.PRIVATE: True,
        Attribute.SENSITIVE: True,
        Attribute.EXTRACTABLE: False,
        Attribute.WRAP: True,
        Attribute.UNWRAP: True,
        Attribute.LABEL: label,
        Attribute.ID: label.encode(),
    } | {Attribute[name]: value for name, value in attributes.items()}
    with token.borrow("import a key", change=True) as session:
        session.binding.create_object(template)
    return open_secret_key(token, label)


def destroy(token: Token, key: TokenSecretKey) -> None:
    with token.borrow("destroy a key", change=True) as session:
        for item in objects(session, {Attribute.ID: key.key_identifier}):
            item.destroy()
    token.connection.forget_objects()


def test_wycheproof_aes_wrap_through_the_token(
    kek_token: Token,
    corpora: Callable[[str], Path],
    tally: Any,  # noqa: ANN401
) -> None:
    groups = json.loads(corpora("wycheproof/aes_wrap_test.json").read_text())["testGroups"]
    counts: Counter[str] = Counter()
    texts = set()
    keys: dict[str, TokenSecretKey] = {}
    for case in itertools.chain.from_iterable(group["tests"] for group in groups):
        if case["key"] not in keys:
            keys[case["key"]] = import_key(kek_token, bytes.fromhex(case["key"]))
        key, message = keys[case["key"]], bytes.fromhex(case["msg"])
        try:
            unwrapped = key.unwrap_key(bytes.fromhex(case["ct"]))
        except DecryptionError as error:
            texts.add(str(error))
            counts["refused"] += 1
            # RFC 3394 wraps 128 bits and more; the shorter ones are called acceptable
            right = case["result"] != "valid"
        else:
            counts["unwrapped"] += 1
            right = case["result"] != "invalid" and unwrapped == message
            right &= key.wrap_key(message) == bytes.fromhex(case["ct"])
        tally.check(case["tcId"], right, expected=True)
    for key in keys.values():
        destroy(kek_token, key)
    assert len(texts) == 1
    assert counts["unwrapped"] > 30
    assert sum(counts.values()) == sum(len(group["tests"]) for group in groups)


@pytest.mark.parametrize("bits", [128, 192, 256])
def test_a_generated_key_is_protected_and_wraps(kek_token: Token, bits: int) -> None:
    key = generate_secret_key(kek_token, f"generated-{bits}", bits)
    assert key.key_size == bits // 8
    assert len(key.key_identifier) == 16
    assert key.unwrap_key(key.wrap_key(bytes(range(24)))) == bytes(range(24))
    with kek_token.borrow("look at the key") as session:
        (item,) = objects(session, {Attribute.ID: key.key_identifier})
        for name in ("SENSITIVE", "PRIVATE", "ALWAYS_SENSITIVE", "NEVER_EXTRACTABLE", "LOCAL"):
            assert item[Attribute[name]] is True, name
        for name in ("EXTRACTABLE", "ENCRYPT", "DECRYPT", "SIGN", "DERIVE"):
            assert item[Attribute[name]] is False, name
        with pytest.raises(pkcs11.AttributeSensitive):
            _ = item[Attribute.VALUE]


def test_nothing_of_a_message_stays_on_the_token(kek_token: Token) -> None:
    key = generate_secret_key(kek_token, "tidy")
    key.unwrap_key(key.wrap_key(bytes(32)))
    with kek_token.borrow("look at the objects") as session:
        left = objects(session, {Attribute.KEY_TYPE: KeyType.GENERIC_SECRET})
    assert left == []


@pytest.mark.parametrize("size", [8, 11, 20, 32, 64])
def test_keys_wrapped_with_padding_are_read(kek_token: Token, size: int) -> None:
    value = bytes(range(32))
    key = import_key(kek_token, value)
    message = bytes(range(1, size + 1))
    assert key.unwrap_padded_key(keywrap.aes_key_wrap_with_padding(value, message)) == message
    with pytest.raises(DecryptionError):
        key.unwrap_padded_key(keywrap.aes_key_wrap(value, bytes(32)))


@pytest.mark.parametrize("wrapped", [b"", bytes(8), bytes(16), bytes(25), bytes(1032)])
def test_impossible_sizes_fail_as_damage_does(kek_token: Token, wrapped: bytes) -> None:
    key = import_key(kek_token, bytes(16))
    with pytest.raises(DecryptionError) as size:
        key.unwrap_key(wrapped)
    with pytest.raises(DecryptionError) as damage:
        key.unwrap_key(bytes(24))
    assert str(size.value) == str(damage.value)


@pytest.mark.parametrize("size", [0, 8, 20])
def test_a_key_that_does_not_fit_is_not_wrapped(kek_token: Token, size: int) -> None:
    with pytest.raises(MechanismError, match=f"{size} bytes"):
        import_key(kek_token, bytes(16)).wrap_key(bytes(size))


def test_a_key_that_was_not_made_for_it_is_told_apart_from_a_wrong_one(kek_token: Token) -> None:
    key = import_key(kek_token, bytes(16), UNWRAP=False, WRAP=False, DECRYPT=False)
    with pytest.raises(MechanismError, match="does not unwrap"):
        key.unwrap_key(bytes(24))
    with pytest.raises(MechanismError, match="not made to wrap"):
        key.wrap_key(bytes(16))


def test_where_unwrapping_gives_nothing_away_decrypting_is_tried(
    kek_token: Token, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = import_key(kek_token, bytes(16), DECRYPT=True)
    tried = []

    def sensitive(*_: object) -> bytes:
        tried.append("unwrap")
        raise pkcs11.AttributeSensitive

    def decrypting(*_: object) -> bytes:
        tried.append("decrypt")
        return b"the key of the message"

    monkeypatch.setattr(module_under_test, "_WAYS", (sensitive, decrypting))
    assert key.unwrap_key(bytes(24)) == b"the key of the message"
    assert tried == ["unwrap", "decrypt"]


def test_a_token_that_does_not_decrypt_with_key_wrap_says_so(kek_token: Token) -> None:
    key = import_key(kek_token, bytes(16), UNWRAP=False, DECRYPT=True)
    with pytest.raises(MechanismError, match="does not unwrap"):
        key.unwrap_key(bytes(24))


def test_a_failing_token_is_no_wrong_key(kek_token: Token, monkeypatch: pytest.MonkeyPatch) -> None:
    key = import_key(kek_token, bytes(16))

    def failing(*_: object) -> bytes:
        raise pkcs11.DeviceMemory

    monkeypatch.setattr(module_under_test, "_WAYS", (failing,))
    with pytest.raises(TokenError, match="DeviceMemory"):
        key.unwrap_key(bytes(24))


def test_a_key_is_found_by_label_id_and_uri(kek_token: Token) -> None:
    made = generate_secret_key(kek_token, "findable", key_id=b"\xfe\xed\xbe\xef")
    for name in ("findable", "feedbeef", str(made.uri), made.uri):
        assert open_secret_key(kek_token, name).key_identifier == b"\xfe\xed\xbe\xef"
    assert "findable" in [key.label for key in open_secret_keys(kek_token)]
    assert repr(made) == f"<TokenSecretKey {made.uri}>"
    assert made.uri.type == "secret-key"


@pytest.mark.parametrize("name", ["nobody", "", "abc", "pkcs11:object=nobody", "pkcs11:token=elsewhere"])
def test_a_name_that_fits_nothing_lists_what_is_there(kek_token: Token, name: str) -> None:
    generate_secret_key(kek_token, f"there-{next(_numbers)}")
    with pytest.raises(KeyNotFoundError, match="object=there"):
        open_secret_key(kek_token, name)


def test_a_name_of_another_kind_is_a_mistake(kek_token: Token) -> None:
    with pytest.raises(UsageError, match="secret-key is wanted"):
        open_secret_key(kek_token, "pkcs11:object=x;type=private")


def test_a_name_of_several_keys_is_ambiguous(kek_token: Token) -> None:
    for number in (b"\x01", b"\x02"):
        import_key(kek_token, bytes(16), ID=number)
    with pytest.raises(AmbiguousNameError, match="type=secret-key"):
        open_secret_key(kek_token, "pkcs11:token=secret-keys")


def test_two_keys_with_one_name_are_not_guessed_between(kek_token: Token) -> None:
    key = import_key(kek_token, bytes(16))
    with kek_token.borrow("store it again", change=True) as session:
        (item,) = objects(session, {Attribute.ID: key.key_identifier})
        item.copy({Attribute.TOKEN: True})
    with pytest.raises(AmbiguousNameError):
        key.unwrap_key(bytes(24))


def test_a_key_that_was_deleted_is_not_there(kek_token: Token) -> None:
    key = generate_secret_key(kek_token, "deleted")
    destroy(kek_token, key)
    with pytest.raises(KeyNotFoundError, match="not there any more"):
        key.unwrap_key(bytes(24))


def test_a_label_or_id_that_is_taken_is_refused(kek_token: Token) -> None:
    made = generate_secret_key(kek_token, "taken")
    with pytest.raises(UsageError, match="already"):
        generate_secret_key(kek_token, "taken")
    with pytest.raises(UsageError, match="already"):
        generate_secret_key(kek_token, "other", key_id=made.key_identifier)


def test_what_is_no_aes_key_is_not_generated(kek_token: Token) -> None:
    with pytest.raises(UsageError, match="not 512"):
        generate_secret_key(kek_token, "large", 512)
    for label, key_id in (("", None), ("x", b"")):
        with pytest.raises(UsageError, match="label and an identifier"):
            generate_secret_key(kek_token, label, key_id=key_id)


def test_a_token_that_makes_weak_keys_does_not_keep_them(
    kek_token: Token, monkeypatch: pytest.MonkeyPatch
) -> None:
    weak = dict(module_under_test._PROTECTED) | {Attribute.EXTRACTABLE: True}  # noqa: SLF001
    generate = module_under_test._generate  # noqa: SLF001

    def generate_weak(*arguments: object) -> object:
        with pytest.MonkeyPatch.context() as inner:
            inner.setattr(module_under_test, "_PROTECTED", weak)
            return generate(*arguments)

    monkeypatch.setattr(module_under_test, "_generate", generate_weak)
    with pytest.raises(WeakKeyError):
        generate_secret_key(kek_token, "weak")
    assert "weak" not in [key.label for key in open_secret_keys(kek_token)]


def test_a_token_that_refuses_to_be_told_usages_is_told_the_needed_ones(
    kek_token: Token, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Refusing:
        """The session of a token that wants to hear only what is allowed."""

        def __init__(self, session: Session) -> None:
            self.binding = self
            self._session: Any = session.binding

        def generate_key(
            self, *arguments: object, template: dict[Attribute, object], **options: object
        ) -> object:
            if template.get(Attribute.DERIVE) is False:
                raise pkcs11.TemplateInconsistent
            return self._session.generate_key(*arguments, template=template, **options)

    generate = module_under_test._generate  # noqa: SLF001
    monkeypatch.setattr(
        module_under_test, "_generate", lambda session, *rest: generate(Refusing(session), *rest)
    )
    key = generate_secret_key(kek_token, "picky")
    assert key.unwrap_key(key.wrap_key(bytes(16))) == bytes(16)


def test_a_token_without_secret_keys_lists_none(
    module: Module, new_token: Callable[[str], str], user_pin: str
) -> None:
    with open_token(module, new_token("no-secret-keys"), Pin(user_pin)) as token:
        assert open_secret_keys(token) == []
        with pytest.raises(KeyNotFoundError, match="has no secret key at all"):
            open_secret_key(token, "x")
