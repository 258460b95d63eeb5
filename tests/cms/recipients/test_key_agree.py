from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import x448, x25519
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from tokensign import der
from tokensign.algorithms import KEY_AGREEMENT_SCHEMES, KEY_WRAPS, KeySpec, KeyUsage
from tokensign.certificates import Certificate
from tokensign.cms.envelope import read_envelope
from tokensign.cms.recipients.kdf import agreed_key
from tokensign.cms.recipients.key_agree import KeyAgreeRecipientInfo, encode_key_agree, load_key_agree
from tokensign.cms.recipients.key_wrap import wrap
from tokensign.errors import (
    DecryptionError,
    LegacyAlgorithmError,
    MalformedError,
    NoRecipientError,
    UnsupportedError,
)
from tokensign.token import delete_key, generate_key, import_certificate, open_decrypters, open_key

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tokensign.token import Token, TokenKey

Keys = Callable[..., Any]  # what the fixture recipient_key is

KEY = bytes(range(16))
EC = ("p256", "p384", "p521")
AGREEING = (*EC, "x25519", "x448")


@pytest.fixture(scope="module")
def token_recipient(token: Token, issue: Callable[..., Certificate]) -> Iterator[Callable[[str], TokenKey]]:
    """A key on the token that agrees, with its certificate: `token_recipient("ec:p256")`."""
    made: dict[str, TokenKey] = {}

    def get(spec: str) -> TokenKey:
        if spec not in made:
            info = generate_key(token, f"agree {spec}", KeySpec.parse(spec), KeyUsage.DECRYPT)
            public_key = open_key(token, info).public_key
            import_certificate(token, issue(public_key, f"agree {spec}"))
            made[spec] = open_key(token, info)
        return made[spec]

    yield get
    for key in made.values():
        delete_key(token, key.info.label)


@pytest.mark.parametrize("cipher", ["aes-128-cbc", "aes-192-cbc", "aes-256-gcm", "chacha20-poly1305"])
@pytest.mark.parametrize("kind", AGREEING)
def test_a_software_key_opens_what_was_encrypted_to_it(
    recipient_key: Keys,
    sealed: Callable[..., bytes],
    opened: Callable[..., bytes],
    kind: str,
    cipher: str,
) -> None:
    key = recipient_key(kind)
    message = sealed([key.certificate], b"to you", cipher)
    assert opened(message, key) == b"to you"
    with pytest.raises(NoRecipientError):
        opened(message, recipient_key(kind, 1))


@pytest.mark.parametrize("spec", ["ec:p256", "ec:p384", "ec:p521", "x25519", "x448"])
def test_a_token_opens_what_was_encrypted_to_it(
    token_recipient: Callable[[str], TokenKey],
    token: Token,
    sealed: Callable[..., bytes],
    opened: Callable[..., bytes],
    spec: str,
) -> None:
    key = token_recipient(spec)
    message = sealed([key.certificate], b"to the token")
    assert opened(message, key) == b"to the token"
    assert opened(message, *open_decrypters(token)) == b"to the token"


def write_pem(folder: Path, key: Any, certificate: Certificate) -> tuple[Path, Path]:  # noqa: ANN401
    key_file, certificate_file = folder / "key.pem", folder / "certificate.pem"
    key_file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    loaded = x509.load_der_x509_certificate(certificate.der)
    certificate_file.write_bytes(loaded.public_bytes(Encoding.PEM))
    return key_file, certificate_file


@pytest.mark.parametrize("kind", EC)
def test_openssl_opens_what_we_wrote(
    recipient_key: Keys,
    sealed: Callable[..., bytes],
    openssl: Callable[..., bytes],
    tmp_path: Path,
    kind: str,
) -> None:
    key = recipient_key(kind)
    key_file, certificate_file = write_pem(tmp_path, key.key, key.certificate)
    message = tmp_path / "message.der"
    message.write_bytes(sealed([key.certificate], b"from tokensign", "aes-256-cbc"))
    arguments = ("-decrypt", "-binary", "-inform", "DER", "-in", message, "-inkey", key_file)
    assert openssl("cms", *arguments, "-recip", certificate_file) == b"from tokensign"


OPENSSL_OPTIONS = {
    "sha1": (),
    "sha224": ("-keyopt", "ecdh_kdf_md:sha224"),
    "sha256": ("-keyopt", "ecdh_kdf_md:sha256"),
    "sha384": ("-keyopt", "ecdh_kdf_md:sha384"),
    "sha512": ("-keyopt", "ecdh_kdf_md:sha512"),
    "cofactor sha1": ("-keyopt", "ecdh_cofactor_mode:1"),
    "cofactor sha256": ("-keyopt", "ecdh_kdf_md:sha256", "-keyopt", "ecdh_cofactor_mode:1"),
    "cofactor sha512": ("-keyopt", "ecdh_kdf_md:sha512", "-keyopt", "ecdh_cofactor_mode:1"),
    "gcm": ("-aes-256-gcm",),
}


@pytest.mark.parametrize("name", OPENSSL_OPTIONS)
@pytest.mark.parametrize("spec", ["ec:p256", "ec:p384", "ec:p521"])
def test_a_token_opens_what_openssl_wrote(
    token_recipient: Callable[[str], TokenKey],
    opened: Callable[..., bytes],
    openssl: Callable[..., bytes],
    tmp_path: Path,
    spec: str,
    name: str,
) -> None:
    key = token_recipient(spec)
    assert key.certificate is not None
    file = tmp_path / "certificate.pem"
    loaded = x509.load_der_x509_certificate(key.certificate.der)
    file.write_bytes(loaded.public_bytes(Encoding.PEM))
    options = OPENSSL_OPTIONS[name]
    cipher = () if "gcm" in name else ("-aes-128-cbc",)
    message = openssl(
        "cms",
        "-encrypt",
        "-binary",
        "-outform",
        "DER",
        *cipher,
        "-recip",
        file,
        *options,
        feed=b"from OpenSSL",
    )
    assert opened(message, key) == b"from OpenSSL"


def test_a_three_des_key_wrap_is_legacy(
    recipient_key: Keys,
    opened: Callable[..., bytes],
    openssl: Callable[..., bytes],
    tmp_path: Path,
) -> None:
    key = recipient_key("p256")
    _, file = write_pem(tmp_path, key.key, key.certificate)
    message = openssl(
        "cms", "-encrypt", "-outform", "DER", "-des3", "-wrap", "des3-wrap", "-recip", file, feed=b"old"
    )
    assert opened(message, key, legacy=True).startswith(b"old")
    with pytest.raises(LegacyAlgorithmError):
        opened(message, key)
    (recipient,) = recipients(message)
    with pytest.raises(LegacyAlgorithmError, match="3des-wrap"):
        recipient.require_strength(legacy=False)


def recipients(message: bytes) -> tuple[Any, ...]:
    return read_envelope(io.BytesIO(message)).recipients


FINITE_FIELDS = pytest.mark.filterwarnings(
    "ignore:Diffie-Hellman over finite fields"
)  # cryptography's advice


def loaded(recipient_key: Keys, kind: str = "p256") -> tuple[Any, KeyAgreeRecipientInfo]:
    key = recipient_key(kind)
    (recipient,) = load_key_agree(encode_key_agree(key.certificate, KEY))
    return key, recipient


def originator(algorithm: bytes, octets: bytes) -> bytes:
    return der.constructed(0xA1, algorithm, der.tlv(0x03, b"\0" + octets))


@pytest.mark.parametrize("kind", AGREEING)
def test_the_content_key_arrives(recipient_key: Keys, kind: str) -> None:
    key, recipient = loaded(recipient_key, kind)
    assert recipient.is_for(key)
    assert recipient.content_key(key) == KEY
    assert not recipient.hides_failure
    assert "serial" in str(recipient)


@pytest.mark.parametrize("kind", AGREEING)
def test_each_message_has_an_ephemeral_key_of_its_own(recipient_key: Keys, kind: str) -> None:
    assert loaded(recipient_key, kind)[1].originator != loaded(recipient_key, kind)[1].originator


@pytest.mark.parametrize("scheme", [one for one in KEY_AGREEMENT_SCHEMES if one != "ESDH"])
@pytest.mark.parametrize("ukm", [None, b"", b"user keying material"])
@pytest.mark.parametrize("kind", AGREEING)
def test_every_scheme_is_read(recipient_key: Keys, kind: str, scheme: str, ukm: bytes | None) -> None:
    key, recipient = loaded(recipient_key, kind)
    key_wrap = KEY_WRAPS["aes-192-wrap"]
    identifier = key_wrap.algorithm_identifier
    entry = KEY_AGREEMENT_SCHEMES[scheme]
    secret = key.agree(recipient._originator_key(key.public_key))  # noqa: SLF001 - the sender's side
    wrapped = wrap(key_wrap, agreed_key(entry, secret, key_wrap, identifier, ukm), KEY)
    changed = replace(
        recipient,
        ukm=ukm,
        key_encryption_algorithm=der.sequence(der.object_identifier(entry.oid), identifier),
        encrypted_key=wrapped,
    )
    changed.require_strength(legacy=False)
    assert changed.content_key(key) == KEY
    with pytest.raises(DecryptionError):
        replace(changed, ukm=b"other").content_key(key)


def test_several_recipients_of_one_ephemeral_key_and_a_ukm_are_read(
    recipient_key: Keys,
) -> None:
    _, recipient = loaded(recipient_key)
    certificate = recipient_key("p256").certificate
    by_name = der.sequence(certificate.issuer_and_serial_number, der.octet_string(b"first"))
    by_key = der.sequence(
        der.constructed(0xA0, der.octet_string(b"identifier"), der.tlv(0x18, b"20260101000000Z")),
        der.octet_string(b"second"),
    )
    encoded = der.constructed(
        0xA1,
        der.integer(3),
        der.explicit(0, recipient.originator),
        der.explicit(1, der.octet_string(b"ukm")),
        recipient.key_encryption_algorithm,
        der.sequence(by_name, by_key),
    )
    first, second = load_key_agree(encoded)
    assert (first.encrypted_key, second.encrypted_key) == (b"first", b"second")
    assert first.ukm == second.ukm == b"ukm"
    assert first.identifier.issuer_and_serial_number == certificate.issuer_and_serial_number
    assert second.identifier.subject_key_identifier == b"identifier"


@pytest.mark.parametrize("curve", [der.NULL, der.object_identifier("1.2.840.10045.3.1.7")])
def test_the_curve_may_be_named_or_null(recipient_key: Keys, curve: bytes) -> None:
    key, recipient = loaded(recipient_key)
    algorithm, point = der.elements(recipient.originator)
    named = der.sequence(*der.elements(algorithm), curve)
    assert replace(recipient, originator=der.constructed(0xA1, named, point)).content_key(key) == KEY


def test_a_sender_on_another_curve_is_refused(recipient_key: Keys) -> None:
    key, recipient = loaded(recipient_key)
    algorithm, point = der.elements(recipient.originator)
    other = der.sequence(*der.elements(algorithm), der.object_identifier("1.3.132.0.34"))
    with pytest.raises(DecryptionError):
        replace(recipient, originator=der.constructed(0xA1, other, point)).content_key(key)
    with pytest.raises(DecryptionError):
        loaded(recipient_key, "x25519")[1].content_key(key)


@pytest.mark.parametrize("octets", [b"", b"\0", b"\4" + bytes(64), b"\4" + b"\1" * 64, b"\2" + b"\xff" * 32])
def test_a_point_that_is_not_on_the_curve_is_refused(recipient_key: Keys, octets: bytes) -> None:
    key, recipient = loaded(recipient_key)
    algorithm = der.elements(recipient.originator)[0]
    with pytest.raises(DecryptionError, match="cannot be decrypted"):
        replace(recipient, originator=originator(algorithm, octets)).content_key(key)


@pytest.mark.parametrize(("kind", "size"), [("x25519", 32), ("x448", 56)])
def test_a_montgomery_point_of_small_order_or_wrong_size_is_refused(
    recipient_key: Keys, kind: str, size: int
) -> None:
    key, recipient = loaded(recipient_key, kind)
    algorithm = der.elements(recipient.originator)[0]
    for octets in (bytes(size), b"\1" + bytes(size - 1), bytes(size - 1)):
        with pytest.raises(DecryptionError):
            replace(recipient, originator=originator(algorithm, octets)).content_key(key)


@pytest.mark.parametrize(
    "named", [der.sequence(der.sequence(), der.integer(1)), der.tlv(0x80, b"identifier")]
)
def test_a_sender_that_is_named_by_a_certificate_is_told(recipient_key: Keys, named: bytes) -> None:
    key, recipient = loaded(recipient_key)
    static = replace(recipient, originator=named)
    with pytest.raises(UnsupportedError, match="not in the message"):
        static.require_strength(legacy=False)
    encoded = encode_key_agree(key.certificate, KEY)
    fields = der.elements(encoded)
    (read,) = load_key_agree(der.constructed(0xA1, fields[0], der.explicit(0, named), *fields[2:]))
    assert read.originator == named


def test_a_key_without_a_certificate_is_tried_if_its_type_fits(
    recipient_key: Keys, as_recipient: type[Any]
) -> None:
    key, recipient = loaded(recipient_key, "x25519")
    nameless = as_recipient(key.key)
    assert recipient.is_for(nameless)
    assert recipient.content_key(nameless) == KEY
    assert not recipient.is_for(as_recipient(recipient_key("p256").key))
    assert not recipient.is_for(as_recipient(recipient_key("rsa:2048").key))
    assert not recipient.is_for(object())  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        recipient.content_key(object())  # type: ignore[arg-type]


def test_algorithms_that_are_not_known_are_told(recipient_key: Keys) -> None:
    _, recipient = loaded(recipient_key)
    identifier = KEY_WRAPS["aes-128-wrap"].algorithm_identifier
    mqv = der.sequence(der.object_identifier("1.3.132.1.15.1"), identifier)
    with pytest.raises(UnsupportedError, match=r"1\.3\.132\.1\.15\.1"):
        replace(recipient, key_encryption_algorithm=mqv).require_strength(legacy=False)
    scheme = der.object_identifier("1.3.132.1.11.1")
    unknown = der.sequence(scheme, der.sequence(der.object_identifier("1.2.3")))
    with pytest.raises(UnsupportedError, match=r"key wrap algorithm 1\.2\.3"):
        replace(recipient, key_encryption_algorithm=unknown).require_strength(legacy=False)


def test_broken_structures_are_malformed(recipient_key: Keys) -> None:
    encoded = encode_key_agree(recipient_key("p256").certificate, KEY)
    version, sender, algorithm, keys = der.elements(encoded)
    (one,) = der.elements(keys)
    name, encrypted = der.elements(one)
    variants = [
        (version, sender, algorithm),
        (version, sender, der.explicit(1, der.integer(1)), algorithm, keys),
        (version, der.explicit(0, b""), algorithm, keys),
        (version, der.explicit(0, der.constructed(0xA1, der.NULL)), algorithm, keys),
        (version, der.explicit(0, der.constructed(0xA1, der.sequence(), der.NULL)), algorithm, keys),
        (version, sender, algorithm, der.sequence(der.sequence(name))),
        (version, sender, algorithm, der.sequence(der.sequence(name, der.NULL))),
        (version, sender, algorithm, der.sequence(der.sequence(der.constructed(0xA0), encrypted))),
        (version, sender, algorithm, der.sequence(der.sequence(der.constructed(0xA0, der.NULL), encrypted))),
    ]
    for fields in variants:
        with pytest.raises(MalformedError):
            load_key_agree(der.constructed(0xA1, *fields))


def test_a_certificate_that_nobody_can_encrypt_to_is_refused(
    recipient_key: Keys, issue: Callable[..., Certificate]
) -> None:
    with pytest.raises(UnsupportedError, match="nobody encrypts to") as failure:
        encode_key_agree(recipient_key("k256").certificate, KEY)
    assert failure.value.hint
    low_order = x25519.X25519PublicKey.from_public_bytes(bytes(32))
    with pytest.raises(UnsupportedError, match="not safe"):
        encode_key_agree(issue(low_order, "low"), KEY)
    with pytest.raises(UnsupportedError, match="not safe"):
        encode_key_agree(issue(x448.X448PublicKey.from_public_bytes(bytes(56)), "low"), KEY)


def test_a_damaged_key_looks_like_a_damaged_content(
    recipient_key: Keys, sealed: Callable[..., bytes], opened: Callable[..., bytes]
) -> None:
    key = recipient_key("p256")
    message = sealed([key.certificate], b"content" * 10, "aes-256-gcm")
    (recipient,) = recipients(message)
    texts = set()
    for part in (
        recipient.encrypted_key,
        message[-40:-30],
        der.content(der.elements(recipient.originator)[1]),
    ):
        place = message.index(part) + len(part) // 2
        damaged = message[:place] + bytes([message[place] ^ 1]) + message[place + 1 :]
        with pytest.raises(DecryptionError) as failure:
            opened(damaged, key)
        texts.add((failure.value.message, failure.value.hint))
    assert len(texts) == 1


def test_a_recipient_that_is_named_by_its_key_identifier_is_found(
    as_recipient: type[Any], opened: Callable[..., bytes], openssl: Callable[..., bytes], tmp_path: Path
) -> None:
    file, key_file = tmp_path / "certificate.pem", tmp_path / "key.pem"
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256")
    openssl("req", "-x509", *curve, "-nodes", "-subj", "/CN=key", "-keyout", key_file, "-out", file)
    loaded = x509.load_pem_x509_certificate(file.read_bytes())
    private = load_pem_private_key(key_file.read_bytes(), None)
    message = openssl("cms", "-encrypt", "-keyid", "-outform", "DER", "-recip", file, feed=b"by identifier")
    (recipient,) = recipients(message)
    assert str(recipient).startswith("key identifier")
    key = as_recipient(private, [Certificate(loaded.public_bytes(Encoding.DER))])
    assert opened(message, key, legacy=True) == b"by identifier"


@pytest.fixture(scope="module")
def finite_field(openssl: Callable[..., bytes], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a key of Diffie-Hellman, `key.pem`, and its certificate, `certificate.pem`."""
    folder = tmp_path_factory.mktemp("dh")
    authority, key, public = folder / "ca.pem", folder / "key.pem", folder / "public.pem"
    openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", authority)
    openssl("genpkey", "-algorithm", "DHX", "-pkeyopt", "dh_rfc5114:2", "-out", key)
    openssl("pkey", "-in", key, "-pubout", "-out", public)
    request = openssl("req", "-new", "-key", authority, "-subj", "/CN=dh")
    certificate = openssl("x509", "-req", "-signkey", authority, "-force_pubkey", public, feed=request)
    (folder / "certificate.pem").write_bytes(certificate)
    return folder


@FINITE_FIELDS
@pytest.mark.parametrize("cipher", ["-aes-128-cbc", "-aes-256-cbc"])
def test_what_openssl_agreed_over_a_finite_field_is_read(
    as_recipient: type[Any],
    opened: Callable[..., bytes],
    openssl: Callable[..., bytes],
    finite_field: Path,
    cipher: str,
) -> None:
    file = finite_field / "certificate.pem"
    content = x509.load_pem_x509_certificate(file.read_bytes()).public_bytes(Encoding.DER)
    private = load_pem_private_key((finite_field / "key.pem").read_bytes(), None)
    key = as_recipient(private, [Certificate(content)])
    arguments = ("-encrypt", "-outform", "DER", "-binary", cipher, "-recip", file)
    message = openssl("cms", *arguments, feed=b"over a finite field")
    assert opened(message, key) == b"over a finite field"

    (recipient,) = recipients(message)
    algorithm = der.elements(recipient.originator)[0]
    for octets in (der.integer(0), der.integer(1), der.integer(-5), der.NULL, der.integer(1 << 4096)):
        with pytest.raises(DecryptionError):
            replace(recipient, originator=originator(algorithm, octets)).content_key(key)
    with pytest.raises(UnsupportedError, match="nobody encrypts to"):
        encode_key_agree(key.certificate, KEY)
