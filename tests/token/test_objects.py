from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pytest
from pkcs11 import Attribute, AttributeSensitive, CertificateType, ObjectClass

from tokensign.algorithms import KeySpec, KeyUsage
from tokensign.errors import (
    AmbiguousNameError,
    KeyNotFoundError,
    MechanismError,
    UnsupportedError,
    UsageError,
    WeakKeyError,
)
from tokensign.token import (
    KeyInfo,
    Pin,
    Token,
    Verdict,
    check_key,
    delete_certificate,
    delete_key,
    find_certificate,
    find_key,
    generate_key,
    generation,
    import_certificate,
    list_certificates,
    list_keys,
    open_key,
    open_token,
)
from tokensign.token.attributes import read
from tokensign.token.protection import examine
from tokensign.token.public_key import key_identifier, public_key_info
from tokensign.uri import KeyUri

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pkcs11 import Object

    from tokensign.certificates import Certificate
    from tokensign.token import Module, TokenKey

P256 = KeySpec.parse("ec:p256")


@pytest.fixture
def empty(module: Module, new_token: Callable[..., str], user_pin: str) -> Iterator[Token]:
    """A token of the test's own."""
    with open_token(module, new_token(), Pin(user_pin), read_write=True) as opened:
        yield opened


def attributes(token: Token, kind: ObjectClass, label: str, names: list[Attribute]) -> dict[Attribute, Any]:
    with token.borrow("look") as session:
        (item,) = session.binding.get_objects({Attribute.CLASS: kind, Attribute.LABEL: label})
        return read(item, names)


ON_THE_TOKEN = {
    Attribute.TOKEN: True,
    Attribute.PRIVATE: True,
    Attribute.SENSITIVE: True,
    Attribute.EXTRACTABLE: False,
    Attribute.ALWAYS_SENSITIVE: True,
    Attribute.NEVER_EXTRACTABLE: True,
    Attribute.LOCAL: True,
    Attribute.SIGN_RECOVER: False,
    Attribute.UNWRAP: False,
}


@pytest.mark.parametrize(
    ("spec", "usage", "signs", "decrypts", "agrees"),
    [
        ("rsa:2048", KeyUsage.SIGN, True, False, False),
        ("rsa:2048", KeyUsage.DECRYPT, False, True, False),
        ("rsa:2048", KeyUsage.BOTH, True, True, False),
        ("ec:p256", KeyUsage.SIGN, True, False, False),
        ("ec:p384", KeyUsage.DECRYPT, False, False, True),
        ("ec:p521", KeyUsage.BOTH, True, False, True),
        ("ed25519", KeyUsage.SIGN, True, False, False),
    ],
)
def test_a_generated_key_has_the_protection_and_only_the_usages_asked_for(
    *,
    token: Token,
    spec: str,
    usage: KeyUsage,
    signs: bool,
    decrypts: bool,
    agrees: bool,
) -> None:
    label = f"generated {spec} {usage.value}"
    key = generate_key(token, label, KeySpec.parse(spec), usage)
    assert key.spec == spec
    assert key.public_key is not None
    assert key.id == key_identifier(key.public_key)
    assert key.usages == {
        name for name, used in (("sign", signs), ("decrypt", decrypts), ("derive", agrees)) if used
    }
    assert attributes(token, ObjectClass.PRIVATE_KEY, label, list(ON_THE_TOKEN)) == ON_THE_TOKEN
    public = {
        Attribute.VERIFY: signs,
        Attribute.VERIFY_RECOVER: False,
        Attribute.ENCRYPT: decrypts,
        Attribute.WRAP: False,
        Attribute.DERIVE: agrees,
        Attribute.PRIVATE: False,
        Attribute.ID: key.id,
    }
    assert attributes(token, ObjectClass.PUBLIC_KEY, label, list(public)) == public
    assert not check_key(token, key).weak
    assert key.serves(usage)


def test_a_key_takes_the_id_it_is_given(empty: Token) -> None:
    key = generate_key(empty, "alice", P256, key_id=b"\x01\x02")
    assert key.id == b"\x01\x02"
    assert key.uri == KeyUri.parse(f"{empty.uri};object=alice;id=%01%02;type=private")


def test_a_label_or_id_that_is_taken_is_refused(empty: Token) -> None:
    generate_key(empty, "alice", P256, key_id=b"\x01")
    with pytest.raises(UsageError, match="there is a key alice already"):
        generate_key(empty, "alice", P256)
    with pytest.raises(UsageError, match="the id 01 is that of another key"):
        generate_key(empty, "bob", P256, key_id=b"\x01")
    assert [key.label for key in list_keys(empty)] == ["alice"]


def test_keys_that_make_no_sense_are_refused(token: Token) -> None:
    with pytest.raises(UsageError, match="needs a label"):
        generate_key(token, "", P256)
    with pytest.raises(UsageError, match="only sign"):
        generate_key(token, "x", KeySpec.parse("ed25519"), KeyUsage.BOTH)


def test_a_token_that_does_not_know_every_usage_is_asked_more_simply(
    monkeypatch: pytest.MonkeyPatch, empty: Token
) -> None:
    asked = []
    generate = generation._generate_pair  # noqa: SLF001 - no module here refuses the full template

    def refuse_first(*arguments: Any) -> Any:  # noqa: ANN401
        asked.append(arguments)
        if len(asked) == 1:
            raise generation.pkcs11.TemplateInconsistent
        return generate(*arguments)

    monkeypatch.setattr(generation, "_generate_pair", refuse_first)
    key = generate_key(empty, "alice", P256)
    assert not check_key(empty, key).weak
    assert asked[1][-1][Attribute.SENSITIVE] is True
    assert asked[1][-1][Attribute.EXTRACTABLE] is False
    assert asked[1][-1][Attribute.UNWRAP] is generation.DEFAULT


@pytest.mark.parametrize(
    ("broken", "error"),
    [("decode", MechanismError), ("protection", WeakKeyError)],
)
def test_a_key_that_did_not_turn_out_well_is_destroyed(
    monkeypatch: pytest.MonkeyPatch, empty: Token, broken: str, error: type[Exception]
) -> None:
    if broken == "decode":
        monkeypatch.setattr(generation, "decode", lambda _: None)
    else:
        monkeypatch.setattr(
            generation,
            "_PROTECTED",
            generation._PROTECTED | {Attribute.EXTRACTABLE: True},  # noqa: SLF001
        )
    with pytest.raises(error):
        generate_key(empty, "alice", P256)
    with empty.borrow("look") as session:
        assert list(session.binding.get_objects()) == []


def test_a_key_is_found_by_label_id_and_uri(empty: Token) -> None:
    alice = generate_key(empty, "alice", P256)
    generate_key(empty, "bob", P256, key_id=b"\xab\xcd")
    assert find_key(empty, "alice") == alice
    assert find_key(empty, "abcd").label == "bob"
    assert find_key(empty, "ABCD").label == "bob"
    assert find_key(empty, str(alice.uri)) == alice
    assert find_key(empty, alice.uri) == alice
    assert find_key(empty, "pkcs11:object=bob").id == b"\xab\xcd"
    assert find_key(empty, "pkcs11:id=%ab%cd;type=public").label == "bob"


def test_an_unknown_key_is_answered_with_those_there_are(empty: Token) -> None:
    with pytest.raises(KeyNotFoundError, match="has no key at all"):
        find_key(empty, "alice")
    alice = generate_key(empty, "alice", P256)
    for name in ("nobody", "beef", "", "pkcs11:object=nobody", "pkcs11:token=other;object=alice"):
        with pytest.raises(KeyNotFoundError) as failure:
            find_key(empty, name)
        assert str(alice.uri) in failure.value.message


def test_a_uri_of_something_else_names_no_key(empty: Token) -> None:
    with pytest.raises(UsageError, match="of type cert, and private is wanted"):
        find_key(empty, "pkcs11:object=alice;type=cert")


def test_a_name_that_fits_several_keys_lists_them(empty: Token) -> None:
    keys = [generate_key(empty, label, P256) for label in ("alice", "bob")]
    with pytest.raises(AmbiguousNameError) as failure:
        find_key(empty, "pkcs11:type=private")
    assert all(str(key.uri) in failure.value.message for key in keys)


def test_the_usage_decides_between_keys(empty: Token) -> None:
    generate_key(empty, "sign", P256, KeyUsage.SIGN)
    generate_key(empty, "agree", P256, KeyUsage.DECRYPT)
    assert find_key(empty, "pkcs11:", KeyUsage.SIGN).label == "sign"
    assert find_key(empty, "pkcs11:", KeyUsage.DECRYPT).label == "agree"
    with pytest.raises(KeyNotFoundError, match="not made to decrypt") as failure:
        find_key(empty, "sign", KeyUsage.DECRYPT)
    assert failure.value.hint == "its usages are: sign"


def test_a_certificate_is_stored_beside_its_key(empty: Token, issue: Callable[..., Certificate]) -> None:
    key = generate_key(empty, "alice", P256)
    assert not key.has_certificate
    certificate = issue(key.public_key, "Alice Archer")
    stored = import_certificate(empty, certificate)
    assert (stored.label, stored.id, stored.certificate) == ("alice", key.id, certificate)
    assert find_key(empty, "alice").has_certificate
    assert list_certificates(empty) == [stored]
    assert find_certificate(empty, "alice") == stored
    assert attributes(
        empty,
        ObjectClass.CERTIFICATE,
        "alice",
        [Attribute.SUBJECT, Attribute.ISSUER, Attribute.SERIAL_NUMBER, Attribute.TRUSTED, Attribute.PRIVATE],
    ) == {
        Attribute.SUBJECT: certificate.asn1.subject.dump(),
        Attribute.ISSUER: certificate.asn1.issuer.dump(),
        Attribute.SERIAL_NUMBER: certificate.asn1["tbs_certificate"]["serial_number"].dump(),
        Attribute.TRUSTED: False,
        Attribute.PRIVATE: False,
    }
    with pytest.raises(UsageError, match="on the token already"):
        import_certificate(empty, certificate)


def test_a_certificate_without_key_bears_its_own_name(
    empty: Token, token_key: Callable[..., TokenKey], issue: Callable[..., Certificate]
) -> None:
    public_key = token_key("ec:p256").public_key
    stored = import_certificate(empty, issue(public_key, "Some CA", ca=True))
    assert (stored.label, stored.id) == ("Some CA", key_identifier(public_key))
    assert import_certificate(empty, issue(public_key, "Other CA"), label="mine").label == "mine"


def test_a_certificate_that_cannot_be_read_is_passed_over(
    empty: Token, caplog: pytest.LogCaptureFixture
) -> None:
    with empty.borrow("store junk", change=True) as session:
        session.binding.create_object(
            {
                Attribute.CLASS: ObjectClass.CERTIFICATE,
                Attribute.CERTIFICATE_TYPE: CertificateType.X_509,
                Attribute.TOKEN: True,
                Attribute.LABEL: "junk",
                Attribute.SUBJECT: b"",
                Attribute.VALUE: b"junk",
            }
        )
    with caplog.at_level(logging.WARNING):
        assert list_certificates(empty) == []
    assert "'junk'" in caplog.text


def test_a_deleted_key_takes_its_public_half_along_and_leaves_certificates(
    empty: Token, issue: Callable[..., Certificate]
) -> None:
    alice = generate_key(empty, "alice", P256)
    generate_key(empty, "bob", P256)
    import_certificate(empty, issue(alice.public_key, "alice"))
    delete_key(empty, "alice")
    assert [key.label for key in list_keys(empty)] == ["bob"]
    with empty.borrow("look") as session:
        public = session.binding.get_objects({Attribute.CLASS: ObjectClass.PUBLIC_KEY})
        assert [item[Attribute.LABEL] for item in public] == ["bob"]
    assert len(list_certificates(empty)) == 1
    with pytest.raises(KeyNotFoundError, match="not there any more"):
        delete_key(empty, alice)


def test_certificates_go_with_the_key_when_asked(empty: Token, issue: Callable[..., Certificate]) -> None:
    alice = generate_key(empty, "alice", P256)
    bob = generate_key(empty, "bob", P256)
    for key in (alice, alice, bob):
        import_certificate(empty, issue(key.public_key, key.label))
    delete_key(empty, alice.uri, certificates=True)
    assert [stored.label for stored in list_certificates(empty)] == ["bob"]


def test_a_deleted_certificate_leaves_its_key(empty: Token, issue: Callable[..., Certificate]) -> None:
    alice = generate_key(empty, "alice", P256)
    import_certificate(empty, issue(alice.public_key, "alice"))
    delete_certificate(empty, "alice")
    assert list_certificates(empty) == []
    stored = import_certificate(empty, issue(alice.public_key, "alice"))
    delete_certificate(empty, stored)
    assert [key.label for key in list_keys(empty)] == ["alice"]


def test_deleting_needs_a_token_opened_for_it(module: Module, token: Token) -> None:
    with open_token(module, token.info.label) as opened:
        for delete in (delete_key, delete_certificate):
            with pytest.raises(UsageError, match="opened for reading"):
                delete(opened, "alice")


def test_an_unprotected_key_is_weak_for_every_reason(empty: Token) -> None:
    with empty.borrow("generate badly", change=True) as session:
        session.binding.generate_keypair(
            generation.KeyType.RSA,
            1024,
            label="bad",
            id=b"\1",
            store=True,
            private_template={
                Attribute.SENSITIVE: False,
                Attribute.EXTRACTABLE: True,
                Attribute.PRIVATE: False,
            },
        )
    report = check_key(empty, "bad")
    verdicts = {finding.name: finding.verdict for finding in report.findings}
    assert report.weak
    assert {name for name, verdict in verdicts.items() if verdict is Verdict.WEAK} == {
        "CKA_SENSITIVE",
        "CKA_EXTRACTABLE",
        "CKA_ALWAYS_SENSITIVE",
        "CKA_NEVER_EXTRACTABLE",
        "CKA_PRIVATE",
        "size",
    }
    with pytest.raises(WeakKeyError, match="less than 2048 bits") as failure:
        report.require_strong()
    assert failure.value.hint


def test_a_generated_key_passes_every_check(token_key: Callable[..., TokenKey]) -> None:
    for spec in ("rsa:2048", "ec:p256", "ed25519"):
        report = examine(token_key(spec).info)
        report.require_strong()
        assert {finding.verdict for finding in report.findings} == {Verdict.OK}
        assert report.reasons == ""


def test_what_a_token_does_not_say_is_unknown_and_not_weak() -> None:
    nothing: dict[str, Any] = dict.fromkeys(KeyInfo.__slots__)
    key = KeyInfo(**nothing | {"label": "x", "spec": "gost", "usages": frozenset()})
    report = examine(key)
    assert {finding.verdict for finding in report.findings} == {Verdict.UNKNOWN}
    assert not report.weak


def test_a_key_whose_public_half_is_only_in_its_certificate_is_usable(
    empty: Token, issue: Callable[..., Certificate]
) -> None:
    alice = generate_key(empty, "alice", P256)
    import_certificate(empty, issue(alice.public_key, "alice"))
    with empty.borrow("delete the public key", change=True) as session:
        for item in session.binding.get_objects({Attribute.CLASS: ObjectClass.PUBLIC_KEY}):
            item.destroy()
    found = find_key(empty, "alice")
    assert found.public_key is not None
    assert alice.public_key is not None
    assert public_key_info(found.public_key) == public_key_info(alice.public_key)
    delete_certificate(empty, "alice")
    assert find_key(empty, "alice").public_key is None
    with pytest.raises(KeyNotFoundError, match="public half of the key alice"):
        open_key(empty, "alice")
    delete_key(empty, "alice")
    assert list_keys(empty) == []


def test_an_unusable_certificate_is_no_public_half(
    monkeypatch: pytest.MonkeyPatch, empty: Token, issue: Callable[..., Certificate]
) -> None:
    alice = generate_key(empty, "alice", P256)
    certificate = issue(alice.public_key, "alice")
    import_certificate(empty, certificate)
    with empty.borrow("delete the public key", change=True) as session:
        for item in session.binding.get_objects({Attribute.CLASS: ObjectClass.PUBLIC_KEY}):
            item.destroy()

    def refuse(_: object) -> None:
        raise UnsupportedError("not known")

    monkeypatch.setattr(type(certificate), "public_key", property(refuse))
    assert find_key(empty, "alice").public_key is None


class MissingAttributes:
    """An object of a module that fails for the whole when one attribute is missing."""

    def get_attributes(self, names: list[Attribute]) -> dict[Attribute, Any]:
        raise AttributeSensitive(names)

    def __getitem__(self, name: Attribute) -> str:
        if name is Attribute.ID:
            raise AttributeSensitive
        return "value"


def test_attributes_are_asked_one_by_one_where_a_module_is_strict() -> None:
    item: Object = MissingAttributes()  # type: ignore[assignment]
    assert read(item, [Attribute.LABEL, Attribute.ID]) == {Attribute.LABEL: "value"}
