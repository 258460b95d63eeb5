"""A private key on a token, as its operations get at it: its handle, and the PIN where it wants that."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from pkcs11.constants import Attribute, ObjectClass

from tokensign.errors import AmbiguousNameError, KeyNotFoundError
from tokensign.token.attributes import objects
from tokensign.token.capabilities import Capabilities, capabilities
from tokensign.token.cryptoki import OPERATION_ACTIVE

if TYPE_CHECKING:
    from collections.abc import Callable

    from pkcs11 import Object

    from tokensign.token.borrowing import Borrowed
    from tokensign.token.cryptoki import CkMechanism
    from tokensign.token.objects import KeyInfo
    from tokensign.token.opening import Token
    from tokensign.token.pin import Pin
    from tokensign.token.session import Session

__all__ = ["KeyAccess"]


class KeyAccess:
    """A private key, as its operations get at it.

    Attributes:
        token: The token that it is on.
        info: The key.
        name: What it is called where handles and answers are remembered.
        bits: Bits of its size; 0 where it has none.
    """

    def __init__(self, token: Token, info: KeyInfo) -> None:
        self.token = token
        self.info = info
        self.name = (info.id, info.label, info.spec)
        self.bits: int = getattr(info.public_key, "key_size", 0)

    @cached_property
    def capabilities(self) -> Capabilities:
        """What the token can do, and what was found out about its keys."""
        return capabilities(self.token)

    def operation_pin(self, doing: str) -> Pin | None:
        """The PIN of one operation, asked for before it begins, so that no session waits for a person."""
        return self.token.connection.pin_for_operation(self.token.credential, doing)

    def borrow(self, doing: str, pin: Pin | None) -> Borrowed:
        """A session for one operation.

        Args:
            doing: What is done, for messages.
            pin: What `operation_pin` gave; with a key that wants the PIN each time, None is for a PIN pad.
        """
        return self.token.borrow(doing, on_pad=bool(self.info.always_authenticate) and pin is None)

    def begin(
        self, initialize: Callable[..., int], session: Session, mechanism: CkMechanism, pin: Pin | None
    ) -> int:
        """C_SignInit or C_DecryptInit, the PIN where the key wants it each time, and room for the result.

        Returns:
            0, or what C_SignInit or C_DecryptInit said.
        """
        code = self.initialize(initialize, session, mechanism)
        if not code and self.info.always_authenticate:
            self.token.connection.log_in_for(session, pin)
        session.rewind()
        return code

    def initialize(self, initialize: Callable[..., int], session: Session, mechanism: CkMechanism) -> int:
        """C_SignInit or C_DecryptInit; 0, or what it said."""
        key = session.objects.get(self.name) or self._look_up(session)
        code = initialize(session.handle, mechanism, key)
        if code == OPERATION_ACTIVE:  # some modules do not end an operation that failed
            self.token.connection.renew(session)
            code = initialize(session.handle, mechanism, self._look_up(session))
        return code

    def _look_up(self, session: Session) -> int:
        """The key's handle in a session, remembered there."""
        found = self.find(session)
        session.objects[self.name] = int(found.handle)  # type: ignore[arg-type]  # found, so it has one
        return session.objects[self.name]

    def find(self, session: Session) -> Object:
        """The one private key on the token with this name."""
        template: dict[Attribute, Any] = {Attribute.CLASS: ObjectClass.PRIVATE_KEY}
        if self.info.id:
            template[Attribute.ID] = self.info.id
        if self.info.label:
            template[Attribute.LABEL] = self.info.label
        found = objects(session, template)
        if not found:
            self.token.connection.require_token()
            raise KeyNotFoundError(
                f"the key {self.info.uri} is not there any more",
                hint="`tokensign key list` shows what is there",
            )
        if len(found) > 1:
            raise AmbiguousNameError(
                f"{len(found)} keys are {self.info.uri}",
                hint="give them different ids with the token's own tool",
            )
        return found[0]
