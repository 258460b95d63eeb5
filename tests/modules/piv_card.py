"""A PIV card in software: the card application of NIST SP 800-73-4 part 2, as far as private keys need it.

It does not know how its commands arrive; `tests.modules.vpcd` brings them. It counts them by the names they
have in the standard, so that tests can tell how often a PIN or a key was really used.
"""

from __future__ import annotations

import enum
import secrets
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cryptography.exceptions import InvalidKey
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.serialization import Encoding

from tests.modules.piv_keys import Slot

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.modules.piv_keys import CardKey

__all__ = ["PIN_TRIES", "PivCard"]

PIN_TRIES: Final = 3
"""Wrong PINs, or PUKs, that lock."""

_APPLICATION: Final = bytes.fromhex("a000000308000010000100")  # part 1 section 2.2, with the version
_APPLICATION_HEAD: Final = _APPLICATION[:9]
_LONGEST_CHAIN: Final = 4096  # octets; what PIV needs is far less
_REFERENCE_SIZE: Final = 8  # octets of a PIN or PUK; a shorter PIN is padded with 0xff

_CERTIFICATE_OBJECTS: Final = {  # part 1 table 3
    Slot.AUTHENTICATION: bytes.fromhex("5fc105"),
    Slot.SIGNATURE: bytes.fromhex("5fc10a"),
    Slot.KEY_MANAGEMENT: bytes.fromhex("5fc10b"),
    Slot.CARD_AUTHENTICATION: bytes.fromhex("5fc101"),
    Slot.RETIRED_1: bytes.fromhex("5fc10d"),
    Slot.RETIRED_2: bytes.fromhex("5fc10e"),
}
_DISCOVERY_OBJECT: Final = b"\x7e"
_CARDHOLDER_OBJECT: Final = bytes.fromhex("5fc102")  # the CHUI
_KEY_HISTORY_OBJECT: Final = bytes.fromhex("5fc10c")

_PIN: Final = 0x80  # key references, part 1 table 4a
_PUK: Final = 0x81


class Status(enum.IntEnum):
    """SW1 and SW2 (part 2 section 2.2)."""

    DONE = 0x9000
    MORE_TO_COME = 0x6100
    TRIES_LEFT = 0x63C0
    WRONG_LENGTH = 0x6700
    NOT_SATISFIED = 0x6982
    BLOCKED = 0x6983
    BAD_DATA = 0x6A80
    NOT_FOUND = 0x6A82
    BAD_PARAMETERS = 0x6A86
    NO_REFERENCE = 0x6A88
    NO_SUCH_COMMAND = 0x6D00
    NO_SUCH_CLASS = 0x6E00


class _RefusedError(Exception):
    """The command ends with a status other than DONE."""

    def __init__(self, status: int) -> None:
        self.status = status


@dataclass(frozen=True)
class Command:
    """A command APDU in its short form (ISO/IEC 7816-4 section 5.1)."""

    chained: bool
    instruction: int
    p1: int
    p2: int
    data: bytes
    most: int  # octets of data in the answer

    @classmethod
    def parse(cls, octets: bytes) -> Command:
        """Take it apart.

        Raises:
            _RefusedError: It is of another form.
        """
        if len(octets) < 4:
            raise _RefusedError(Status.WRONG_LENGTH)
        if octets[0] & ~0x10:  # neither logical channels nor secure messaging; 0x10 is chaining
            raise _RefusedError(Status.NO_SUCH_CLASS)
        size = octets[4] if len(octets) > 5 else 0
        data, most = octets[5 : 5 + size], octets[4:] if not size else octets[5 + size :]
        if len(data) != size or len(most) > 1:
            raise _RefusedError(Status.WRONG_LENGTH)
        whole = 256  # what no number, and zero, stand for
        instruction, p1, p2 = octets[1:4]
        return cls(bool(octets[0] & 0x10), instruction, p1, p2, data, (most[0] if most else 0) or whole)


class _Reference:
    """A PIN or PUK with its counter."""

    def __init__(self, value: str) -> None:
        self.replace(padded(value))

    def replace(self, value: bytes) -> None:
        """A new value, with all tries."""
        self._value = value
        self.tries = PIN_TRIES

    def check(self, presented: bytes) -> None:
        """Compare, and count a wrong one.

        Raises:
            _RefusedError: It is wrong, or locked.
        """
        if not self.tries:
            raise _RefusedError(Status.BLOCKED)
        if not secrets.compare_digest(presented, self._value):
            self.tries -= 1
            raise _RefusedError(Status.TRIES_LEFT | self.tries)
        self.tries = PIN_TRIES


class PivCard:
    """A card. One thread at a time sends it commands.

    Attributes:
        ATR: What it says when it gets power. OpenSC tries PIV on it, and takes it for no other card.
        counts: How many commands it got, by name; "VERIFY" are those that presented a PIN, and "wrong PIN"
            those of them that were wrong.

    Args:
        keys: What is in its slots.
        pin: Six to eight digits.
        puk: Eight octets.
    """

    ATR: Final = bytes.fromhex("3b8780017a6f6f5049563003")

    def __init__(self, keys: Mapping[Slot, CardKey], pin: str, puk: str) -> None:
        self.counts: Counter[str] = Counter()
        self._keys: dict[int, CardKey] = dict(keys.items())  # by key reference
        self._pin = _Reference(pin)
        self._puk = _Reference(puk)
        self._objects = _data_objects(keys)
        self.reset()

    def reset(self) -> None:
        """What happens when it loses power: nobody has given a PIN, nothing is under way."""
        self._verified = False
        self._just_verified = False
        self._chain = b""
        self._rest = b""

    def answer(self, octets: bytes) -> bytes:
        """The response APDU to a command APDU."""
        try:
            command = Command.parse(octets)
            if command.instruction != 0xC0:
                self._rest = b""
            self._rest += self._complete(command)
        except _RefusedError as refused:
            self._chain = self._rest = b""
            return refused.status.to_bytes(2)
        data, self._rest = self._rest[: command.most], self._rest[command.most :]
        left = len(self._rest) if len(self._rest) <= 0xFF else 0  # zero: 256 or more
        status = Status.MORE_TO_COME | left if self._rest else Status.DONE
        return data + status.to_bytes(2)

    def _complete(self, command: Command) -> bytes:
        """Collect a chain of commands, and execute it with its last (ISO/IEC 7816-4 section 5.3.3)."""
        self._chain += command.data
        if len(self._chain) > _LONGEST_CHAIN:
            raise _RefusedError(Status.WRONG_LENGTH)
        if command.chained:
            return b""
        data, self._chain = self._chain, b""
        return self._execute(command.instruction, command.p1, command.p2, data)

    def _execute(self, instruction: int, p1: int, p2: int, data: bytes) -> bytes:
        match instruction:
            case 0xA4:
                self._count("SELECT")
                return self._select(data)
            case 0xC0:
                self._count("GET RESPONSE")
                return b""
            case 0xCB:
                self._count("GET DATA")
                return self._get_data(data)
            case 0x20:
                self._verify(p1, p2, data)
            case 0x24:
                self._count("CHANGE REFERENCE DATA")
                self._change_reference(p2, data)
            case 0x2C:
                self._count("RESET RETRY COUNTER")
                self._reset_retry_counter(p2, data)
            case 0x87:
                self._count("GENERAL AUTHENTICATE")
                return self._general_authenticate(p1, p2, data)
            case _:
                raise _RefusedError(Status.NO_SUCH_COMMAND)
        return b""

    def _count(self, name: str) -> None:
        self.counts[name] += 1

    # --- what everybody may read

    def _select(self, application: bytes) -> bytes:
        if application != _APPLICATION[: max(len(application), len(_APPLICATION_HEAD))]:
            raise _RefusedError(Status.NOT_FOUND)
        self._verified = self._just_verified = False  # part 2 section 3.1.1
        authority = _field(0x79, _field(0x4F, _APPLICATION[:5]))
        return _field(0x61, _field(0x4F, _APPLICATION[5:]), authority)

    def _get_data(self, request: bytes) -> bytes:
        fields = _fields(request)
        try:
            return self._objects[fields[0x5C]]
        except KeyError:
            raise _RefusedError(Status.NOT_FOUND) from None

    # --- the PIN

    def _verify(self, p1: int, reference: int, presented: bytes) -> None:
        if reference != _PIN:
            raise _RefusedError(Status.NO_REFERENCE)
        if p1 == 0xFF and not presented:  # log out
            self._count("log out")
            self._verified = self._just_verified = False
        elif not presented:  # how does it stand?
            self._count("VERIFY status")
            if not self._verified:
                raise _RefusedError(
                    Status.TRIES_LEFT | self._pin.tries if self._pin.tries else Status.BLOCKED
                )
        else:
            self._count("VERIFY")
            self._verified = self._just_verified = False
            self._check_pin(presented)
            self._verified = self._just_verified = True

    def _check_pin(self, presented: bytes) -> None:
        if len(presented) != _REFERENCE_SIZE:
            raise _RefusedError(Status.BAD_DATA)
        try:
            self._pin.check(presented)
        except _RefusedError:
            self._count("wrong PIN")
            raise

    def _change_reference(self, reference: int, data: bytes) -> None:
        old, new = _halves(data)
        match reference:
            case 0x80:
                self._check_pin(old)
                self._pin.replace(new)
                self._verified = True
            case 0x81:
                self._puk.check(old)
                self._puk.replace(new)
            case _:
                raise _RefusedError(Status.NO_REFERENCE)

    def _reset_retry_counter(self, reference: int, data: bytes) -> None:
        if reference != _PIN:
            raise _RefusedError(Status.NO_REFERENCE)
        puk, new = _halves(data)
        self._puk.check(puk)
        self._pin.replace(new)

    def unlock(self, pin: str) -> None:
        """Put a PIN in, with all tries, as no real card lets one."""
        self._pin.replace(padded(pin))

    # --- the private keys

    def _general_authenticate(self, algorithm: int, reference: int, data: bytes) -> bytes:
        key = self._keys.get(reference)
        if key is None:
            raise _RefusedError(Status.NO_REFERENCE)
        if algorithm != key.kind:
            raise _RefusedError(Status.BAD_PARAMETERS)
        self._require_pin(Slot(reference))
        template = _fields(_fields(data).get(0x7C, b""))  # the Dynamic Authentication Template
        match key.private, template:
            case rsa.RSAPrivateKey() as private, {0x81: block}:
                result = _power(private, block)
            case ec.EllipticCurvePrivateKey() as private, {0x81: digest}:
                result = _sign(private, digest)
            case ec.EllipticCurvePrivateKey() as private, {0x85: point}:
                result = _agree(private, point)
            case _:
                raise _RefusedError(Status.BAD_DATA)
        return _field(0x7C, _field(0x82, result))

    def _require_pin(self, slot: Slot) -> None:
        """The access rules of part 1 table 4b. Each operation ends what "PIN always" asks for."""
        just_verified, self._just_verified = self._just_verified, False
        allowed = {Slot.CARD_AUTHENTICATION: True, Slot.SIGNATURE: just_verified}.get(slot, self._verified)
        if not allowed:
            raise _RefusedError(Status.NOT_SATISFIED)


def _power(private: rsa.RSAPrivateKey, block: bytes) -> bytes:
    """RSA without any padding, by the Chinese remainder theorem (RFC 8017 section 5.1.2)."""
    numbers = private.private_numbers()
    size = private.key_size // 8
    value = int.from_bytes(block)
    if len(block) != size or value >= numbers.public_numbers.n:
        raise _RefusedError(Status.BAD_DATA)
    of_p = pow(value, numbers.dmp1, numbers.p)
    of_q = pow(value, numbers.dmq1, numbers.q)
    return (of_q + (of_p - of_q) * numbers.iqmp % numbers.p * numbers.q).to_bytes(size)


def _sign(private: ec.EllipticCurvePrivateKey, digest: bytes) -> bytes:
    size = private.key_size // 8
    if len(digest) > size:
        raise _RefusedError(Status.BAD_DATA)
    of_that_size: dict[int, hashes.HashAlgorithm] = {32: hashes.SHA256(), 48: hashes.SHA384()}
    # ECDSA takes the digest as a number, so that zeros before it do not matter.
    return private.sign(digest.rjust(size, b"\0"), ec.ECDSA(Prehashed(of_that_size[size])))


def _agree(private: ec.EllipticCurvePrivateKey, point: bytes) -> bytes:
    try:
        peer = ec.EllipticCurvePublicKey.from_encoded_point(private.curve, point)
        return private.exchange(ec.ECDH(), peer)
    except (ValueError, InvalidKey):
        raise _RefusedError(Status.BAD_DATA) from None


def _data_objects(keys: Mapping[Slot, CardKey]) -> dict[bytes, bytes]:
    """The answers to GET DATA (part 1 section 3 and appendix A)."""
    retired = sum(slot in {Slot.RETIRED_1, Slot.RETIRED_2} for slot in keys)
    contents = {
        _CARDHOLDER_OBJECT: (
            _field(
                0x30, bytes.fromhex("d4e739da739ced39ce739d836858210842108421c84210c3eb")
            ),  # FASC-N: no agency
            _field(0x34, secrets.token_bytes(16)),  # GUID, from which OpenSC has the serial number
            _field(0x35, b"20991231"),
            _field(0x3E),  # not signed by an issuer
            _field(0xFE),
        ),
        _KEY_HISTORY_OBJECT: (
            _field(0xC1, bytes([retired])),
            _field(0xC2, b"\0"),
            _field(0xF3),
            _field(0xFE),
        ),
        **{
            _CERTIFICATE_OBJECTS[slot]: (
                _field(0x70, key.certificate.public_bytes(Encoding.DER)),
                _field(0x71, b"\0"),  # not compressed
                _field(0xFE),
            )
            for slot, key in keys.items()
        },
    }
    policy = b"\x40\x00"  # the PIN of the card application, and no other
    return {
        _DISCOVERY_OBJECT: _field(0x7E, _field(0x4F, _APPLICATION), _field(0x5F2F, policy)),
        **{name: _field(0x53, *fields) for name, fields in contents.items()},
    }


def padded(pin: str) -> bytes:
    """A PIN as it is sent (part 2 section 2.4.3)."""
    return pin.encode().ljust(_REFERENCE_SIZE, b"\xff")


def _halves(data: bytes) -> tuple[bytes, bytes]:
    if len(data) != 2 * _REFERENCE_SIZE:
        raise _RefusedError(Status.BAD_DATA)
    return data[:_REFERENCE_SIZE], data[_REFERENCE_SIZE:]


def _field(tag: int, *contents: bytes) -> bytes:
    """A BER-TLV data object."""
    value = b"".join(contents)
    name = tag.to_bytes((tag.bit_length() + 7) // 8)
    if len(value) < 0x80:
        return name + bytes([len(value)]) + value
    size = len(value).to_bytes((len(value).bit_length() + 7) // 8)
    return name + bytes([0x80 | len(size)]) + size + value


def _fields(octets: bytes) -> dict[int, bytes]:
    """The BER-TLV data objects in a row, with tags of one octet."""
    found: dict[int, bytes] = {}
    while octets:
        tag, size, start = octets[0], octets[1] if len(octets) > 1 else 0, 2
        if size & 0x80:
            start += size & 0x7F
            size = int.from_bytes(octets[2:start])
        if len(octets) < max(start + size, 2):
            raise _RefusedError(Status.BAD_DATA)
        found[tag] = octets[start : start + size]
        octets = octets[start + size :]
    return found
