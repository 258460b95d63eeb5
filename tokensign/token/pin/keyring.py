"""PINs from the keyring of the desktop: the Secret Service on Linux."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tokensign.errors import PinUnavailableError
from tokensign.token.pin.value import Pin

if TYPE_CHECKING:
    from tokensign.token.pin.source import PinRequest

__all__ = ["KeyringSource"]

_MISSING_HINT: Final = "install it with `pip install tokensign[keyring]`"


class KeyringSource:
    """Takes the PIN from a keyring, through the library of that name.

    The keyring's user name is the account of the request: the token's label, with " (SO)" behind it for the
    security officer's PIN. `keyring set SERVICE LABEL` stores a PIN. The library gives it as text, which
    cannot be overwritten.

    Args:
        service: The name of the service in the keyring.
    """

    def __init__(self, service: str) -> None:
        self._service = service

    def get(self, request: PinRequest) -> Pin:
        """The keyring's entry.

        Raises:
            PinUnavailableError: There is no keyring or no entry in it, it stays locked, or the library is not
                installed.
        """
        wanted = f"the {request.what} for {request.purpose}"
        try:
            import keyring  # noqa: PLC0415 - an optional extra
            from keyring.errors import KeyringError, KeyringLocked  # noqa: PLC0415 - as above
        except ImportError:
            raise PinUnavailableError(
                f"{wanted} shall come from a keyring, and the library keyring is not installed",
                hint=_MISSING_HINT,
            ) from None
        account = request.account or request.what
        try:
            value = keyring.get_password(self._service, account)
        except KeyringLocked:
            raise PinUnavailableError(
                f"{wanted} cannot be read: the keyring is locked", hint="unlock it and try again"
            ) from None
        except KeyringError as failure:
            raise PinUnavailableError(
                f"{wanted} cannot be read from a keyring: {type(failure).__name__}",
                hint="a Secret Service must run in this session; `keyring diagnose` tells more",
            ) from None
        if not value:
            raise PinUnavailableError(
                f"the keyring has no entry {account} of the service {self._service}",
                hint=f'store one with `keyring set {self._service} "{account}"`',
            )
        return Pin(value)

    def __repr__(self) -> str:
        return f"KeyringSource({self._service!r})"
