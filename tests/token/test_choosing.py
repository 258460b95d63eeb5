from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from asn1crypto import core
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier
from pkcs11 import Attribute, KeyType, ObjectClass

from tokensign.algorithms import KeySpec, KeyUsage
from tokensign.certificates import Certificate
from tokensign.distinguished_names import subject_name
from tokensign.errors import AmbiguousNameError, KeyNotFoundError, UsageError, WeakKeyError
from tokensign.token import (
    KeyInfo,
    Pin,
    Token,
    check_key,
    delete_key,
    find_certificate,
    find_certificates,
    find_key,
    find_private_or_secret_key,
    find_secret_key,
    generate_key,
    generate_secret_key,
    import_certificate,
    list_keys,
    list_secret_keys,
    open_decrypters,
    open_key,
    open_secret_key,
    open_secret_keys,
    open_token,
)
from tokensign.token.choosing import signing_certificate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes

    from tokensign.token import Module

P256 = KeySpec.parse("ec:p256")
SMTP_UTF8_MAILBOX = ObjectIdentifier("1.3.6.1.5.5.7.8.9")
AUTHORITY = ec.generate_private_key(ec.SECP256R1())
NOBODY = ec.generate_private_key(ec.SECP256R1()).public_key()
KEY_USAGES = (
    "digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
    "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
)  # fmt: skip


@pytest.fixture
def empty(module: Module, new_token: Callable[..., str], user_pin: str) -> Iterator[Token]:
    """A token of the test's own."""
    with open_token(module, new_token(), Pin(user_pin), read_write=True) as opened:
        yield opened


def certificate(
    public_key: CertificatePublicKeyTypes = NOBODY,
    subject: str = "CN=Alice,O=Acme",
    *,
    emails: tuple[x509.GeneralName, ...] = (),
    usages: tuple[str, ...] | None = None,
    extended: tuple[ObjectIdentifier, ...] | None = None,
    days: tuple[int, int] = (-1, 30),
) -> Certificate:
    now = datetime.now(UTC).replace(microsecond=0)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject_name(subject))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Some CA")]))
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + timedelta(days=days[0]))
        .not_valid_after(now + timedelta(days=days[1]))
    )
    if emails:
        builder = builder.add_extension(x509.SubjectAlternativeName(emails), critical=False)
    if usages is not None:
        flags = dict.fromkeys(KEY_USAGES, False) | dict.fromkeys(usages, True)
        builder = builder.add_extension(x509.KeyUsage(**flags), critical=True)
    if extended is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage(extended), critical=False)
    return Certificate(builder.sign(AUTHORITY, hashes.SHA256()).public_bytes(Encoding.DER))


def person(token: Token, label: str, subject: str = "CN=Alice,O=Acme", **details: Any) -> KeyInfo:  # noqa: ANN401 - those of `certificate`
    """Generate a key and store a certificate for it."""
    key = generate_key(token, label, P256)
    import_certificate(token, certificate(key.public_key, subject, **details))  # type: ignore[arg-type]
    return find_key(token, label)


def mailbox(address: str) -> x509.GeneralName:
    if address.isascii():
        return x509.RFC822Name(address)
    return x509.OtherName(SMTP_UTF8_MAILBOX, core.UTF8String(address).dump())


@pytest.mark.parametrize(
    "name",
    [
        "alice@acme.example",
        "alice@ACME.example",
        "älice@acme.example",
        "CN=Alice,O=Acme,C=CH",
        "cn=ALICE,o=acme,c=ch",
        "CN=Alice",
        "O=Acme,C=CH",
        "Alice",
    ],
)
def test_a_key_is_found_by_what_its_certificate_says(empty: Token, name: str) -> None:
    emails = (mailbox("alice@acme.example"), mailbox("älice@acme.example"))
    key = person(empty, "k1", "CN=Alice,O=Acme,C=CH", emails=emails)
    person(empty, "k2", "CN=Bob,O=Other,C=CH", emails=(mailbox("bob@acme.example"),))
    assert find_key(empty, name) == key
    assert find_certificate(empty, name).id == key.id
    assert open_key(empty, name, KeyUsage.SIGN).info == key


@pytest.mark.parametrize(
    "name",
    ["Alice@acme.example", "alice@example", "CN=Alice,O=Other", "O=Acme+CN=Alice", "a=b", "Ali", "@", ""],
)
def test_what_no_certificate_says_finds_nothing(empty: Token, name: str) -> None:
    key = person(empty, "k1", emails=(mailbox("alice@acme.example"),))
    for find in (find_key, find_certificate, find_certificates):
        with pytest.raises(KeyNotFoundError) as failure:
            find(empty, name)
        assert f"object={key.label}" in failure.value.message


def test_a_certificate_and_its_fingerprint_name_its_key(empty: Token) -> None:
    key = person(empty, "k1", days=(-2, 30))
    other = certificate(key.public_key, usages=("key_agreement",))  # type: ignore[arg-type]
    import_certificate(empty, other)
    colons = ":".join(f"{octet:02X}" for octet in other.sha256)
    for name in (other, other.sha256.hex(), colons):
        assert open_key(empty, name).certificate == other
        assert open_key(empty, name, KeyUsage.SIGN).certificate == other
    assert open_key(empty, "k1", KeyUsage.SIGN).certificate != other


def test_a_certificate_that_is_not_on_the_token_names_its_key(empty: Token) -> None:
    key = generate_key(empty, "k1", P256)
    own = certificate(key.public_key)  # type: ignore[arg-type]
    assert open_key(empty, own, KeyUsage.SIGN).certificate == own
    with pytest.raises(KeyNotFoundError, match="no key with the certificate of CN=Alice,O=Acme on the token"):
        find_key(empty, certificate())


def test_the_first_kind_of_name_that_fits_decides(empty: Token) -> None:
    by_label = person(empty, "abcd", "CN=X")
    by_id = generate_key(empty, "other", P256, key_id=bytes.fromhex("abcd"))
    person(empty, "third", "CN=abcd")
    assert find_key(empty, "abcd") == by_label
    delete_key(empty, by_label)
    assert find_key(empty, "abcd") == by_id
    delete_key(empty, by_id)
    assert find_key(empty, "abcd").label == "third"


def test_a_whole_subject_comes_before_a_part_of_one(empty: Token) -> None:
    person(empty, "long", "CN=Alice,O=Acme")
    short = person(empty, "short", "CN=Alice")
    assert find_key(empty, "CN=Alice") == short


def test_a_name_of_several_keys_lists_them_with_their_certificates(empty: Token) -> None:
    emails = (mailbox("alice@acme.example"),)
    keys = [person(empty, label, f"CN={label}", emails=emails) for label in ("one", "two")]
    for usage in (None, KeyUsage.SIGN):
        with pytest.raises(AmbiguousNameError) as failure:
            find_key(empty, "alice@acme.example", usage)
        for key in keys:
            assert f"{key.uri} (CN={key.label} from 20" in failure.value.message
    assert len(find_certificates(empty, "alice@acme.example")) == 2


def test_to_sign_the_key_whose_certificate_is_valid_and_meant_for_it_is_taken(empty: Token) -> None:
    emails = (mailbox("alice@acme.example"),)
    person(empty, "expired", emails=emails, days=(-20, -10))
    person(empty, "agrees", emails=emails, usages=("key_agreement",))
    person(empty, "server", emails=emails, extended=(ExtendedKeyUsageOID.SERVER_AUTH,))
    current = person(empty, "current", emails=emails, usages=("content_commitment",))
    assert find_key(empty, "alice@acme.example", KeyUsage.SIGN) == current
    delete_key(empty, current, certificates=True)
    assert find_key(empty, "alice@acme.example", KeyUsage.SIGN).label == "expired"
    delete_key(empty, "expired", certificates=True)
    with pytest.raises(
        KeyNotFoundError, match=r"no certificate of alice@acme\.example is meant for signatures"
    ):
        find_key(empty, "alice@acme.example", KeyUsage.SIGN)


def test_the_certificate_by_which_a_key_is_named_signs(empty: Token) -> None:
    key = person(empty, "k1", emails=(mailbox("alice@acme.example"),), days=(-2, 30))
    import_certificate(empty, certificate(key.public_key, emails=(mailbox("info@acme.example"),)))  # type: ignore[arg-type]
    for email in ("alice@acme.example", "info@acme.example"):
        chosen = open_key(empty, email, KeyUsage.SIGN).certificate
        assert chosen is not None
        assert chosen.emails == (email,)


def test_the_newest_valid_certificate_that_is_meant_for_signatures_signs() -> None:
    old = certificate(days=(-9, 30))
    new = certificate(days=(-2, 30), usages=("digital_signature",))
    expired = certificate(days=(-3, -1))
    future = certificate(days=(1, 30))
    mail = certificate(days=(-1, 30), extended=(ExtendedKeyUsageOID.EMAIL_PROTECTION,))
    anything = certificate(days=(-1, 30), extended=(ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,))
    agrees = certificate(days=(-1, 30), usages=("key_agreement",))
    server = certificate(days=(-1, 30), extended=(ExtendedKeyUsageOID.SERVER_AUTH,))
    assert signing_certificate([old, new, expired, future, agrees, server]) == new
    assert signing_certificate([old, mail]) == mail
    assert signing_certificate([old, anything]) == anything
    assert signing_certificate([expired, old]) == old
    assert signing_certificate([expired, agrees]) == expired
    assert signing_certificate([agrees, server]) is None
    assert signing_certificate([]) is None


def test_a_uri_with_everything_in_it_names_the_key(empty: Token) -> None:
    key = person(empty, "k1")
    module, info = empty.module, empty.info
    version = f"{module.library_version[0]}.{module.library_version[1]}"
    assert find_key(empty, f"{key.uri}?module-path={module.path}") == key
    assert find_key(empty, f"pkcs11:library-version={version};slot-id={info.slot_id};object=k1") == key
    with pytest.raises(KeyNotFoundError):
        find_key(empty, f"pkcs11:slot-id={info.slot_id + 1};object=k1")
    with pytest.raises(KeyNotFoundError):
        find_key(empty, "pkcs11:library-version=99;object=k1")


def test_private_and_aes_keys_are_found_together(empty: Token) -> None:
    private = generate_key(empty, "alice", P256, key_id=b"\1")
    generate_secret_key(empty, "archive", 192, key_id=b"\2")
    (secret,) = list_secret_keys(empty)
    assert (secret.label, secret.spec, secret.id, secret.usages) == (
        "archive",
        "aes:192",
        b"\2",
        {"wrap", "unwrap"},
    )
    assert secret.secret
    assert not private.secret
    assert find_private_or_secret_key(empty, "alice") == private
    assert find_private_or_secret_key(empty, "pkcs11:object=alice;type=public") == private
    for name in ("archive", "02", secret.uri):
        assert find_secret_key(empty, name) == find_private_or_secret_key(empty, name) == secret
    with pytest.raises(AmbiguousNameError, match="2 keys fit pkcs11:"):
        find_private_or_secret_key(empty, "pkcs11:")
    with pytest.raises(UsageError, match="of type cert"):
        find_private_or_secret_key(empty, "pkcs11:type=cert")
    with pytest.raises(KeyNotFoundError, match="no secret key alice on the token"):
        find_secret_key(empty, "alice")


def test_an_aes_key_is_checked_and_deleted(empty: Token) -> None:
    generate_key(empty, "alice", P256, key_id=b"\2")
    made = generate_secret_key(empty, "alice", key_id=b"\2")
    report = check_key(empty, made.uri)
    report.require_strong()
    report.require_non_extractable()
    assert {finding.name for finding in report.findings} >= {"CKA_SENSITIVE", "CKA_NEVER_EXTRACTABLE", "size"}
    delete_key(empty, made.uri)
    assert list_secret_keys(empty) == []
    assert [key.label for key in list_keys(empty)] == ["alice"]


def test_an_aes_key_that_can_leave_is_weak(empty: Token) -> None:
    with empty.borrow("generate badly", change=True) as session:
        session.binding.generate_key(
            KeyType.AES, 256, label="bad", id=b"\3", store=True,
            template={Attribute.SENSITIVE: False, Attribute.EXTRACTABLE: True, Attribute.ENCRYPT: True},
        )  # fmt: skip
    report = check_key(empty, "bad")
    assert report.weak
    assert not report.non_extractable
    assert open_secret_key(empty, "bad").key_size == 32
    with pytest.raises(WeakKeyError, match="CKA_EXTRACTABLE is true"):
        open_secret_key(empty, "bad", require_non_extractable=True)
    assert open_secret_keys(empty, require_non_extractable=True) == []


def test_a_key_from_outside_is_refused_where_that_is_asked_for(
    empty: Token, caplog: pytest.LogCaptureFixture
) -> None:
    generate_key(empty, "born", P256, KeyUsage.DECRYPT)
    numbers = ec.generate_private_key(ec.SECP256R1()).private_numbers()
    parameters = bytes.fromhex("06082a8648ce3d030107")
    point = numbers.public_numbers.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    shared = {
        Attribute.KEY_TYPE: KeyType.EC,
        Attribute.TOKEN: True,
        Attribute.LABEL: "imported",
        Attribute.ID: b"\7",
        Attribute.EC_PARAMS: parameters,
    }
    with empty.borrow("import a key", change=True) as session:
        session.binding.create_object(
            shared
            | {
                Attribute.CLASS: ObjectClass.PRIVATE_KEY,
                Attribute.PRIVATE: True,
                Attribute.SENSITIVE: True,
                Attribute.EXTRACTABLE: False,
                Attribute.DERIVE: True,
                Attribute.VALUE: numbers.private_value.to_bytes(32),
            }
        )
        session.binding.create_object(
            shared
            | {Attribute.CLASS: ObjectClass.PUBLIC_KEY, Attribute.EC_POINT: core.OctetString(point).dump()}
        )
    assert open_key(empty, "imported").info.sensitive
    with pytest.raises(WeakKeyError, match="CKA_NEVER_EXTRACTABLE is false") as failure:
        open_key(empty, "imported", require_non_extractable=True)
    assert failure.value.hint
    assert open_key(empty, "born", require_non_extractable=True).info.label == "born"
    assert {key.info.label for key in open_decrypters(empty)} == {"born", "imported"}
    assert [key.info.label for key in open_decrypters(empty, require_non_extractable=True)] == ["born"]
    assert "the key imported is refused" in caplog.text


def test_what_a_token_does_not_say_is_refused_where_protection_is_required(empty: Token) -> None:
    key = generate_key(empty, "alice", P256)
    silent = KeyInfo(**{name: getattr(key, name) for name in KeyInfo.__slots__} | {"never_extractable": None})
    with pytest.raises(WeakKeyError, match="CKA_NEVER_EXTRACTABLE is unknown"):
        open_key(empty, silent, require_non_extractable=True)
