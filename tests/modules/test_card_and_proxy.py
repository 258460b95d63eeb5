"""SoftHSM, NSS, p11-kit's proxy and a PIV card start for the tests, and tokensign works with them."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

from tests.modules.base import CannotError
from tests.modules.piv import Piv
from tests.modules.piv_keys import Slot
from tests.modules.registry import MODULES

if TYPE_CHECKING:
    from collections.abc import Callable
    from subprocess import CompletedProcess

    from cryptography import x509

    from tests.modules.base import RunningModule
    from tests.modules.piv import RunningPiv

    Start = Callable[[str], RunningModule]
    Tokensign = Callable[..., CompletedProcess[str]]
    Python = Callable[[RunningModule, str], str]

CONTENT = b"what is signed"
HANG = 20.0  # seconds; signing takes one


@pytest.fixture(params=["softhsm", "nss", "p11-kit-proxy"])
def soft(start_module: Start, request: pytest.FixtureRequest) -> RunningModule:
    """A module that makes keys."""
    return start_module(request.param)


def whole(running: RunningPiv) -> RunningPiv:
    """The card as it was at first: in, and with all tries."""
    running.unlock()
    if not running.reader.inserted:
        running.insert()
    running.reader.card.counts.clear()
    return running


@pytest.fixture
def card(start_module: Start) -> RunningPiv:
    """A PIV card with RSA keys, and retired keys for key agreement."""
    return whole(start_module("piv"))  # type: ignore[arg-type]


@pytest.fixture
def elliptic_card(start_module: Start) -> RunningPiv:
    """A PIV card with EC keys."""
    return whole(start_module("piv-ec"))  # type: ignore[arg-type]


def verify(certificate: x509.Certificate, signature: bytes, message: bytes) -> None:
    match certificate.public_key():
        case rsa.RSAPublicKey() as key:
            key.verify(signature, message, padding.PKCS1v15(), hashes.SHA256())
        case ec.EllipticCurvePublicKey() as key:
            digest = hashes.SHA384() if key.key_size == 384 else hashes.SHA256()
            key.verify(signature, message, ec.ECDSA(digest))


# --- all modules


def test_module_makes_a_key_that_signs(soft: RunningModule, python: Python) -> None:
    signature, public_key = python(
        soft,
        """
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
        with opened(read_write=True) as token:
            key = open_key(token, generate_key(token, "signer", KeySpec.parse("ec:p256")))
            print(sign(key).hex())
            print(key.public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo).hex())
        """,
    ).split()
    key = load_der_public_key(bytes.fromhex(public_key))
    assert isinstance(key, ec.EllipticCurvePublicKey)
    key.verify(bytes.fromhex(signature), b"message", ec.ECDSA(hashes.SHA256()))


def test_module_sees_a_token_with_a_pin_that_works(soft: RunningModule, tokensign: Tokensign) -> None:
    listed = tokensign(soft, "token", "list", "--json")
    assert soft.token_label in [token["label"] for token in json.loads(listed.stdout)]
    assert tokensign(soft, "key", "list").returncode == 0


def test_proxy_shows_nothing_of_the_machine(start_module: Start, tokensign: Tokensign) -> None:
    listed = json.loads(tokensign(start_module("p11-kit-proxy"), "token", "list", "--json").stdout)
    assert {token["label"] for token in listed} <= {"acme", ""}


def test_module_that_cannot_lose_its_token_says_so(start_module: Start) -> None:
    with pytest.raises(CannotError):
        start_module("nss").remove()


@pytest.mark.parametrize(("name", "label"), [("softhsm", "made here"), ("piv", "PIV AUTH key")])
def test_key_signs_again_when_its_token_is_back(
    start_module: Start, python: Python, name: str, label: str
) -> None:
    lines = python(
        start_module(name),
        f"""
        control = Control.from_environment()
        with opened(read_write={name == "softhsm"}) as token:
            if token.read_write:
                generate_key(token, {label!r}, KeySpec.parse("rsa:2048"))
            key = open_key(token, {label!r})
            print(sign(key).hex())
            control.remove()
            try:
                sign(key)
            except TokenRemovedError:
                print("gone")
            control.insert()
            print(sign(key).hex())
        """,
    ).split()
    assert lines[0] == lines[2]  # RSA PKCS#1 is deterministic
    assert lines[1] == "gone"


# --- the PIV card


def test_card_has_a_certificate_for_each_key(card: RunningPiv, tokensign: Tokensign) -> None:
    keys = json.loads(tokensign(card, "key", "list", "--json").stdout)
    assert {key["label"]: key["type"] for key in keys} == {
        "PIV AUTH key": "rsa:2048",
        "SIGN key": "rsa:2048",
        "KEY MAN key": "rsa:2048",
        "CARD AUTH key": "ec:p256",
        "Retired KEY MAN 1": "ec:p256",
        "Retired KEY MAN 2": "ec:p384",
    }
    certificates = json.loads(tokensign(card, "cert", "list", "--json").stdout)
    assert sorted(one["id"] for one in certificates) == sorted(key["id"] for key in keys)


@pytest.mark.parametrize("kind", ["piv", "piv-ec"])
def test_doctor_finds_nothing_wrong_with_a_card(start_module: Start, tokensign: Tokensign, kind: str) -> None:
    found = tokensign(whole(start_module(kind)), "doctor")  # type: ignore[arg-type]
    assert found.returncode == 0, found.stdout + found.stderr
    assert "CARD AUTH key (ec:p256) is protected and has a certificate; it needs no PIN" in found.stdout


@pytest.mark.parametrize(
    ("key", "pin_entries"), [("PIV AUTH key", 1), ("SIGN key", 2)], ids=["once", "for each operation"]
)
def test_card_signs_with_one_operation_and_the_pin_as_its_key_wants_it(
    card: RunningPiv, tokensign: Tokensign, tmp_path: Path, key: str, pin_entries: int
) -> None:
    content, signature = tmp_path / "content", tmp_path / "signature"
    content.write_bytes(CONTENT)
    signed = tokensign(card, "sign", str(content), "--key", key, "-o", str(signature))
    assert signed.returncode == 0, signed.stderr
    assert card.counts()["GENERAL AUTHENTICATE"] == 1
    assert card.counts()["VERIFY"] == pin_entries
    verified = tokensign(
        card, "verify", str(signature), "--content", str(content), "--trust", str(card.authority)
    )
    assert verified.returncode == 0, verified.stderr


@pytest.mark.parametrize("kind", ["piv", "piv-ec"])
@pytest.mark.parametrize(
    ("label", "slot"),
    [
        ("PIV AUTH key", Slot.AUTHENTICATION),
        ("SIGN key", Slot.SIGNATURE),
        ("CARD AUTH key", Slot.CARD_AUTHENTICATION),
    ],
    ids=["9a", "9c", "9e"],
)
def test_signature_of_a_card_verifies_with_its_certificate(
    start_module: Start, python: Python, kind: str, label: str, slot: Slot
) -> None:
    card = whole(start_module(kind))  # type: ignore[arg-type]
    signature = python(card, f"with opened() as token: print(sign(open_key(token, {label!r})).hex())")
    verify(card.keys[slot].certificate, bytes.fromhex(signature), b"message")


@pytest.mark.parametrize("label", ["KEY MAN key", "SIGN key"], ids=["9d", "9c"])
def test_card_decrypts(card: RunningPiv, python: Python, label: str) -> None:
    slot = {"KEY MAN key": Slot.KEY_MANAGEMENT, "SIGN key": Slot.SIGNATURE}[label]
    public_key = card.keys[slot].certificate.public_key()
    assert isinstance(public_key, rsa.RSAPublicKey)
    ciphertext = public_key.encrypt(b"content key", padding.PKCS1v15())
    decrypted = python(
        card,
        f"""
        with opened() as token:
            print(open_key(token, {label!r}).unwrap(bytes.fromhex({ciphertext.hex()!r}), Pkcs1Transport()))
        """,
    )
    assert decrypted == "b'content key'"
    assert card.counts()["GENERAL AUTHENTICATE"] == 1


@pytest.mark.parametrize(
    ("kind", "label", "slot"),
    [
        ("piv-ec", "KEY MAN key", Slot.KEY_MANAGEMENT),
        ("piv", "Retired KEY MAN 1", Slot.RETIRED_1),
        ("piv", "Retired KEY MAN 2", Slot.RETIRED_2),
    ],
    ids=["9d P-256", "82 P-256", "83 P-384"],
)
def test_card_agrees_on_a_secret(
    start_module: Start, python: Python, kind: str, label: str, slot: Slot
) -> None:
    card = whole(start_module(kind))  # type: ignore[arg-type]
    public_key = card.keys[slot].certificate.public_key()
    assert isinstance(public_key, ec.EllipticCurvePublicKey)
    peer = ec.generate_private_key(public_key.curve)
    point = peer.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    secret = python(
        card,
        f"""
        from cryptography.hazmat.primitives.serialization import load_der_public_key
        with opened() as token:
            peer = load_der_public_key(bytes.fromhex({point.hex()!r}))
            print(open_key(token, {label!r}).agree(peer).hex())
        """,
    )
    assert bytes.fromhex(secret) == peer.exchange(ec.ECDH(), public_key)
    assert card.counts()["GENERAL AUTHENTICATE"] == 1


def test_wrong_pin_reaches_the_card_once(card: RunningPiv, tokensign: Tokensign, tmp_path: Path) -> None:
    refused = sign_with_pin(card, tokensign, tmp_path, "999999")
    assert refused.returncode == 3
    assert "refused the PIN" in refused.stderr
    assert card.counts()["VERIFY"] == card.counts()["wrong PIN"] == 1


def test_card_is_locked_by_three_wrong_pins_only_where_the_last_is_asked_for(
    card: RunningPiv, python: Python, tokensign: Tokensign, tmp_path: Path
) -> None:
    for _ in range(4):
        assert sign_with_pin(card, tokensign, tmp_path, "999999").returncode == 3
    assert card.counts()["wrong PIN"] == 2
    outcome = python(
        card,
        """
        try:
            with opened(Pin("999999"), allow_last_try=True) as token:
                token.log_in()
        except PinError:
            print("refused")
        """,
    )
    assert outcome == "refused"
    assert card.counts()["wrong PIN"] == 3
    right = sign_with_pin(card, tokensign, tmp_path, card.user_pin)
    assert right.returncode == 3
    assert "locked" in right.stderr
    assert card.counts()["VERIFY"] == 3  # it was not even tried


def sign_with_pin(card: RunningPiv, tokensign: Tokensign, folder: Path, pin: str) -> CompletedProcess[str]:
    content, pin_file = folder / "content", folder / "pin"
    content.write_bytes(CONTENT)
    pin_file.touch(mode=0o600)
    pin_file.write_text(pin)
    return tokensign(
        card, "sign", str(content), "--key", "PIV AUTH key", "--pin-source", f"file:{pin_file}", "--force"
    )


@pytest.mark.parametrize("key", ["PIV AUTH key", "SIGN key"], ids=["9a", "9c"])
@pytest.mark.parametrize("moment", ["VERIFY", "GENERAL AUTHENTICATE"])
def test_card_pulled_in_the_middle_of_sign_leaves_no_output(
    card: RunningPiv, tokensign: Tokensign, tmp_path: Path, key: str, moment: str
) -> None:
    content, signature = tmp_path / "content", tmp_path / "signature"
    content.write_bytes(CONTENT)
    card.remove_at(moment)
    signed = tokensign(card, "sign", str(content), "--key", key, "-o", str(signature), timeout=HANG)
    assert signed.returncode == 3, signed.stderr
    assert list(tmp_path.iterdir()) == [content]
    assert card.counts()[moment] == 1


def test_card_that_left_in_the_middle_signs_again_when_it_is_back(card: RunningPiv, python: Python) -> None:
    lines = python(
        card,
        """
        control = Control.from_environment()
        with opened() as token:
            key = open_key(token, "PIV AUTH key")
            print(sign(key).hex())
            control.remove_at("GENERAL AUTHENTICATE")
            try:
                sign(key)
            except TokenRemovedError:
                print("gone")
            control.insert()
            print(sign(key).hex())
        """,
    ).split()
    assert lines[0] == lines[2]
    assert lines[1] == "gone"


def test_card_that_left_and_came_back_unnoticed_signs_at_once(card: RunningPiv, python: Python) -> None:
    lines = python(
        card,
        """
        import time
        control = Control.from_environment()
        with opened() as token:
            key = open_key(token, "PIV AUTH key")
            print(sign(key).hex())
            control.remove()
            time.sleep(0.3)
            control.insert()
            print(sign(key).hex(), token.state)
        """,
    ).split()
    assert lines[0] == lines[1]
    assert lines[2] == "logged-in"
    assert card.counts()["VERIFY"] == 2


def test_card_pulled_in_the_middle_of_decrypt_is_no_fault_of_the_message(
    card: RunningPiv, tokensign: Tokensign, tmp_path: Path
) -> None:
    content, message, plain = tmp_path / "content", tmp_path / "message", tmp_path / "plain"
    certificate = tmp_path / "certificate.pem"
    content.write_bytes(CONTENT)
    certificate.write_bytes(card.keys[Slot.KEY_MANAGEMENT].certificate.public_bytes(Encoding.PEM))
    tokensign(card, "encrypt", str(content), "--to", str(certificate), "-o", str(message))
    card.remove_at("GENERAL AUTHENTICATE")
    decrypted = tokensign(
        card, "decrypt", str(message), "--key", "KEY MAN key", "-o", str(plain), timeout=HANG
    )
    assert decrypted.returncode == 3, decrypted.stderr
    assert "went away" in decrypted.stderr
    assert not plain.exists()


@pytest.mark.parametrize("padding_scheme", ["Pkcs1Transport()", "OaepTransport()"], ids=["v1.5", "OAEP"])
def test_library_decrypts_again_when_the_card_is_back(
    card: RunningPiv, python: Python, padding_scheme: str
) -> None:
    public_key = card.keys[Slot.KEY_MANAGEMENT].certificate.public_key()
    assert isinstance(public_key, rsa.RSAPublicKey)
    scheme: padding.AsymmetricPadding = padding.PKCS1v15()
    if padding_scheme == "OaepTransport()":
        scheme = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)
    ciphertext = public_key.encrypt(b"content key", scheme)
    lines = python(
        card,
        f"""
        from tokensign.keys import OaepTransport
        control = Control.from_environment()
        ciphertext = bytes.fromhex({ciphertext.hex()!r})
        with opened() as token:
            key = open_key(token, "KEY MAN key")
            control.remove_at("GENERAL AUTHENTICATE")
            try:
                key.unwrap(ciphertext, {padding_scheme})
            except TokenRemovedError:
                print("gone")
            control.insert()
            print(key.unwrap(ciphertext, {padding_scheme}).decode())
        """,
    ).splitlines()
    assert lines == ["gone", "content key"]


def test_card_pulled_in_the_middle_of_a_key_agreement_is_no_fault_of_the_peer(
    card: RunningPiv, python: Python
) -> None:
    lines = python(
        card,
        """
        from cryptography.hazmat.primitives.asymmetric import ec
        control = Control.from_environment()
        peer = ec.generate_private_key(ec.SECP256R1())
        with opened() as token:
            key = open_key(token, "Retired KEY MAN 1")
            control.remove_at("GENERAL AUTHENTICATE")
            try:
                key.agree(peer.public_key())
            except TokenRemovedError:
                print("gone")
            control.insert()
            print(key.agree(peer.public_key()) == peer.exchange(ec.ECDH(), key.public_key))
        """,
    ).split()
    assert lines == ["gone", "True"]


def test_wrong_padding_does_not_make_the_card_wait_for_its_removal(card: RunningPiv, python: Python) -> None:
    lines = python(
        card,
        """
        import time
        from tokensign.errors import DecryptionError
        with opened() as token:
            key = open_key(token, "KEY MAN key")
            begun = time.monotonic()
            try:
                key.unwrap(b"\\1" * 256, Pkcs1Transport())
            except DecryptionError:
                print("refused", token.state, time.monotonic() - begun < 0.4)
        """,
    ).split()
    assert lines == ["refused", "logged-in", "True"]


def test_eight_threads_sign_with_a_key_that_wants_the_pin_for_each_operation(
    elliptic_card: RunningPiv, python: Python
) -> None:
    signed = python(
        elliptic_card,
        """
        from concurrent.futures import ThreadPoolExecutor
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import ec
        messages = [bytes([number]) for number in range(40)]
        with opened() as token, ThreadPoolExecutor(8) as threads:
            key = open_key(token, "SIGN key")
            signatures = list(threads.map(lambda message: sign(key, message), messages))
        for message, signature in zip(messages, signatures):
            key.public_key.verify(signature, message, ec.ECDSA(hashes.SHA384()))
        print(len(signatures))
        """,
    )
    assert signed == "40"
    assert elliptic_card.counts()["GENERAL AUTHENTICATE"] == 40
    assert elliptic_card.counts()["VERIFY"] == 41  # the login, and one for each


# --- starting and stopping


def test_nothing_of_a_card_outlives_it(tmp_path: Path) -> None:
    if reason := Piv().missing():
        pytest.skip(reason)
    with contextlib.suppress(ZeroDivisionError), Piv().start(tmp_path) as running:
        socket = running.daemon.socket
        assert processes_with(tmp_path)
        assert socket.exists()
        raise ZeroDivisionError  # a test that fails
    assert not processes_with(tmp_path)
    assert not socket.parent.exists()


def processes_with(argument: Path) -> list[str]:
    """The processes whose command lines have a path."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = file.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue  # it has ended
        if str(argument) in command:
            found.append(command)
    return found


def run_by_hand(*arguments: str) -> CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.modules.run", *arguments]
    repository = Path(__file__).parents[2]
    return subprocess.run(command, cwd=repository, capture_output=True, text=True, timeout=60, check=False)


def test_command_by_hand_has_a_token_and_its_exit_code_is_passed_on() -> None:
    program = 'import os, sys; print(os.environ["TOKENSIGN_TOKEN"]); sys.exit(7)'
    done = run_by_hand("softhsm", "--", sys.executable, "-c", program)
    assert (done.returncode, done.stdout) == (7, "acme\n"), done.stderr


def test_command_by_hand_with_an_unknown_name_tells_the_names() -> None:
    done = run_by_hand("nosuch", "--", "true")
    assert done.returncode == 2
    assert all(name in done.stderr for name in MODULES)
