"""What is known of a token before anybody logs in."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pkcs11.constants import TokenFlag

from tokensign.uri import KeyUri

if TYPE_CHECKING:
    from pkcs11 import Slot

__all__ = ["MechanismInfo", "PinState", "TokenInfo"]


class PinState(enum.Enum):
    """What the counter flags of a PIN say. Not every module keeps them."""

    OK = "ok"
    COUNT_LOW = "count-low"
    """A wrong PIN was given since the last right one."""
    FINAL_TRY = "final-try"
    """One more wrong PIN locks it."""
    LOCKED = "locked"
    TO_BE_CHANGED = "to-be-changed"
    """The PIN is the manufacturer's or has expired."""
    NOT_SET = "not-set"

    @property
    def words(self) -> str:
        """The state for people."""
        return _WORDS[self]


_WORDS: Final = {
    PinState.OK: "set; no wrong one is counted, and not every module counts",
    PinState.COUNT_LOW: "set; a wrong one was given since the last right one",
    PinState.FINAL_TRY: "set; one try is left, and a wrong one locks it",
    PinState.LOCKED: "locked",
    PinState.TO_BE_CHANGED: "must be changed: it is the manufacturer's or has expired",
    PinState.NOT_SET: "not set",
}


def pin_state(flags: TokenFlag, *, security_officer: bool = False) -> PinState:
    """Read the counter flags of CK_TOKEN_INFO (PKCS#11 2.40 section 3.2), the most serious first.

    Args:
        flags: The token's flags, fetched afresh: they are a snapshot.
        security_officer: Whose PIN; else the user's.
    """
    prefix = "SO_PIN" if security_officer else "USER_PIN"
    if not security_officer and not flags & TokenFlag.USER_PIN_INITIALIZED:
        return PinState.NOT_SET
    for name, state in (
        ("LOCKED", PinState.LOCKED),
        ("FINAL_TRY", PinState.FINAL_TRY),
        ("COUNT_LOW", PinState.COUNT_LOW),
        ("TO_BE_CHANGED", PinState.TO_BE_CHANGED),
    ):
        if flags & TokenFlag[f"{prefix}_{name}"]:
            return state
    return PinState.OK


@dataclass(frozen=True, slots=True)
class TokenInfo:
    """A token in a slot, as it was when it was asked.

    Attributes:
        label: The token's name.
        manufacturer: Who made it.
        model: What it is.
        serial: Its serial number, as text.
        slot_id: The number of its slot.
        slot_description: The name of its slot.
        slot_manufacturer: Who made the slot.
        initialized: Whether it has been set up; otherwise only `initialize_token` can use it.
        login_required: Whether private keys need a PIN.
        pin_state: The state of the user's PIN.
        so_pin_state: The state of the security officer's PIN.
        protected_authentication_path: Whether it has a PIN pad of its own.
    """

    label: str
    manufacturer: str
    model: str
    serial: str
    slot_id: int
    slot_description: str
    slot_manufacturer: str
    initialized: bool
    login_required: bool
    pin_state: PinState
    so_pin_state: PinState
    protected_authentication_path: bool

    @classmethod
    def read(cls, slot: Slot) -> TokenInfo:
        """Ask the slot now.

        Raises:
            PKCS11Error: There is no token, or it does not answer.
        """
        token = slot.get_token()
        flags = token.flags
        return cls(
            label=token.label,
            manufacturer=token.manufacturer_id,
            model=token.model,
            serial=token.serial.rstrip(b"\0 ").decode("utf-8", "replace"),
            slot_id=slot.slot_id,
            slot_description=slot.slot_description,
            slot_manufacturer=slot.manufacturer_id,
            initialized=bool(flags & TokenFlag.TOKEN_INITIALIZED),
            login_required=bool(flags & TokenFlag.LOGIN_REQUIRED),
            pin_state=pin_state(flags),
            so_pin_state=pin_state(flags, security_officer=True),
            protected_authentication_path=bool(flags & TokenFlag.PROTECTED_AUTHENTICATION_PATH),
        )

    @property
    def identity(self) -> tuple[str, str, str, str]:
        """What stays the same when the token comes back, perhaps in another slot."""
        return self.label, self.serial, self.model, self.manufacturer

    @property
    def uri(self) -> KeyUri:
        """The URI that names this token wherever it is plugged in."""
        return KeyUri(
            token=self.label,
            manufacturer=self.manufacturer or None,
            model=self.model or None,
            serial=self.serial or None,
        )

    @property
    def properties(self) -> dict[str, str | bytes | int | None]:
        """What `KeyUri.matches` compares."""
        return {
            "token": self.label,
            "manufacturer": self.manufacturer,
            "model": self.model,
            "serial": self.serial,
            "slot_id": self.slot_id,
            "slot_description": self.slot_description,
            "slot_manufacturer": self.slot_manufacturer,
        }


@dataclass(frozen=True, slots=True)
class MechanismInfo:
    """What a slot can do.

    Attributes:
        name: PKCS#11's name without the CKM_ prefix, or a hexadecimal number where it has none.
        minimum_size: The smallest key; bits for RSA and EC, otherwise as the mechanism has it.
        maximum_size: The largest key.
        uses: What it is for: "sign", "decrypt", "generate_key_pair" and so on.
    """

    name: str
    minimum_size: int
    maximum_size: int
    uses: frozenset[str]
