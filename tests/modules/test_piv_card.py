"""The software card keeps the rules of SP 800-73-4, so that a test that passes on it means something."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from tests.modules.piv_card import PIN_TRIES, PivCard
from tests.modules.piv_keys import Authority, CardKey, KeyType, Slot

RIGHT = b"123456\xff\xff"
WRONG = b"999999\xff\xff"
PUK = b"12345678"
NEW = b"654321\xff\xff"

DONE, REFUSED, BLOCKED = "9000", "6982", "6983"


@pytest.fixture(scope="module")
def keys() -> dict[Slot, CardKey]:
    issuer = Authority()
    return {
        Slot.AUTHENTICATION: issuer.make_key(Slot.AUTHENTICATION, KeyType.RSA_2048),
        Slot.SIGNATURE: issuer.make_key(Slot.SIGNATURE, KeyType.P256),
        Slot.CARD_AUTHENTICATION: issuer.make_key(Slot.CARD_AUTHENTICATION, KeyType.P256),
    }


@pytest.fixture
def card(keys: dict[Slot, CardKey]) -> PivCard:
    return PivCard(keys, "123456", "12345678")


def send(card: PivCard, header: str, data: bytes = b"") -> str:
    """Send a command; its status."""
    return card.answer(bytes.fromhex(header) + bytes([len(data)]) + data)[-2:].hex()


def verify(card: PivCard, pin: bytes) -> str:
    return send(card, "00200080", pin)


def sign(card: PivCard, slot: Slot) -> str:
    """Sign a P-256 digest; the status."""
    return send(card, f"008711{slot:02x}", bytes.fromhex("7c2482008120") + bytes(range(32)))


def test_three_wrong_pins_lock_and_the_right_one_no_longer_helps(card: PivCard) -> None:
    assert [verify(card, WRONG) for _ in range(PIN_TRIES)] == ["63c2", "63c1", "63c0"]
    assert verify(card, RIGHT) == BLOCKED
    assert card.counts["wrong PIN"] == PIN_TRIES + 1


def test_right_pin_gives_all_tries_back(card: PivCard) -> None:
    assert [verify(card, pin) for pin in (WRONG, WRONG, RIGHT, WRONG)] == ["63c2", "63c1", DONE, "63c2"]


def test_puk_sets_a_new_pin(card: PivCard) -> None:
    for _ in range(PIN_TRIES):
        verify(card, WRONG)
    assert send(card, "002c0080", PUK + NEW) == DONE
    assert verify(card, NEW) == DONE


def test_wrong_puks_lock_the_puk(card: PivCard) -> None:
    statuses = [send(card, "002c0080", b"00000000" + NEW) for _ in range(PIN_TRIES)]
    assert statuses == ["63c2", "63c1", "63c0"]
    assert send(card, "002c0080", PUK + NEW) == BLOCKED


def test_asking_for_the_state_of_the_pin_costs_no_try(card: PivCard) -> None:
    assert [send(card, "00200080") for _ in range(PIN_TRIES + 1)] == ["63c3"] * (PIN_TRIES + 1)
    verify(card, RIGHT)
    assert send(card, "00200080") == DONE


def test_signature_key_wants_the_pin_for_each_operation(card: PivCard) -> None:
    assert sign(card, Slot.SIGNATURE) == REFUSED
    verify(card, RIGHT)
    assert [sign(card, Slot.SIGNATURE), sign(card, Slot.SIGNATURE)] == [DONE, REFUSED]


def test_card_authentication_key_wants_no_pin(card: PivCard) -> None:
    assert sign(card, Slot.CARD_AUTHENTICATION) == DONE


@pytest.mark.parametrize("forget", ["reset", "select", "wrong pin", "log out"])
def test_what_ends_a_login(card: PivCard, forget: str) -> None:
    verify(card, RIGHT)
    match forget:
        case "reset":
            card.reset()
        case "select":
            send(card, "00a40400", bytes.fromhex("a00000030800001000"))
        case "wrong pin":
            verify(card, WRONG)
        case "log out":
            send(card, "0020ff80")
    assert send(card, "00200080") != DONE


def test_long_command_and_long_answer_come_in_parts(card: PivCard, keys: dict[Slot, CardKey]) -> None:
    private = keys[Slot.AUTHENTICATION].private
    assert isinstance(private, rsa.RSAPrivateKey)
    verify(card, RIGHT)
    message = bytes.fromhex("7c820106820081820100") + (2).to_bytes(256)
    assert send(card, "1087079a", message[:255]) == DONE
    first = card.answer(bytes.fromhex("0087079a") + bytes([len(message) - 255]) + message[255:] + b"\0")
    assert first[-2:].hex() == "6108"
    answer = first[:-2] + card.answer(bytes.fromhex("00c0000008"))[:-2]
    numbers = private.private_numbers()
    assert int.from_bytes(answer[-256:]) == pow(2, numbers.d, numbers.public_numbers.n)


@pytest.mark.parametrize(
    ("command", "status"),
    [
        ("00", "6700"),
        ("0020008009313233", "6700"),
        ("8020008000", "6e00"),
        ("00f0000000", "6d00"),
        ("00cb3fff055c035fc1ff", "6a82"),
        ("00cb3fff055c0a5fc102", "6a80"),
        ("008711f1047c028200", "6a88"),
        ("0087079e047c028200", "6a86"),
        ("0087119e047c028200", "6a80"),
        ("0024008004313233", "6700"),
        ("00240082103132333435363738" + "31" * 8, "6a88"),
    ],
)
def test_what_is_malformed_or_unknown_has_its_status(card: PivCard, command: str, status: str) -> None:
    assert card.answer(bytes.fromhex(command)).hex() == status


def test_point_off_the_curve_is_refused(card: PivCard) -> None:
    point = b"\x04" + bytes(63) + b"\x01"
    request = bytes.fromhex("7c4582008541") + point
    assert send(card, "0087119e", request) == "6a80"


def test_agreement_gives_the_secret_of_both(card: PivCard, keys: dict[Slot, CardKey]) -> None:
    own = keys[Slot.CARD_AUTHENTICATION].certificate.public_key()
    assert isinstance(own, ec.EllipticCurvePublicKey)
    peer = ec.generate_private_key(ec.SECP256R1())
    numbers = peer.public_key().public_numbers()
    point = b"\x04" + numbers.x.to_bytes(32) + numbers.y.to_bytes(32)
    answer = card.answer(bytes.fromhex("0087119e477c4582008541") + point)
    assert answer[:-2] == bytes.fromhex("7c228220") + peer.exchange(ec.ECDH(), own)
