"""The keys that commands decrypt with: the one that was named, or all that there are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, overload

from tokensign.cli.inputs import announce_pins, key_name, open_holder, password_from
from tokensign.errors import KeyNotFoundError, UsageError
from tokensign.keys import DecryptionKey

if TYPE_CHECKING:
    import contextlib

    from tokensign.cli.command import Cli
    from tokensign.cli.holder import KeyHolder

__all__ = ["KeysOnDemand", "keys_on_demand", "recipient_keys"]


def recipient_keys(cli: Cli, holder: KeyHolder, name: str | None) -> Sequence[DecryptionKey]:
    """The private key or else the AES key with a name; without a name, all that may open a message.

    Raises:
        KeyNotFoundError: There is no such key.
        TokenError: The token failed.
    """
    from tokensign.algorithms import KeyUsage

    strict = cli.settings.require_non_extractable
    if name is None:
        return holder.open_decrypters(require_non_extractable=strict)
    try:
        found: DecryptionKey = holder.open_key(
            key_name(name), KeyUsage.DECRYPT, require_non_extractable=strict
        )
    except (KeyNotFoundError, UsageError) as error:  # a URI may say that an AES key is meant
        try:
            found = holder.open_secret_key(name, require_non_extractable=strict)
        except (KeyNotFoundError, UsageError):
            raise error from None
    announce_pins(cli, [found], "decryption")
    return [found]


class KeysOnDemand(Sequence[DecryptionKey]):
    """Keys that are opened when somebody looks at them for the first time.

    Args:
        find: Opens them.
    """

    def __init__(self, find: Callable[[], Sequence[DecryptionKey]]) -> None:
        self._find = find
        self._found: Sequence[DecryptionKey] | None = None

    def _keys(self) -> Sequence[DecryptionKey]:
        if self._found is None:
            self._found = self._find()
        return self._found

    def __len__(self) -> int:
        return len(self._keys())

    @overload
    def __getitem__(self, index: int) -> DecryptionKey: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[DecryptionKey]: ...

    def __getitem__(self, index: int | slice) -> DecryptionKey | Sequence[DecryptionKey]:
        return self._keys()[index]


def keys_on_demand(
    cli: Cli, held: contextlib.ExitStack, name: str | None, password_source: str | None, *, action: str
) -> KeysOnDemand:
    """The password and the keys that may open a message; the token is opened, and a PIN asked for, on demand.

    Args:
        cli: The common options.
        held: Closes the token.
        name: The key that was named, or None.
        password_source: Where a password comes from, or None; given alone, no token is opened.
        action: What is going to be done, for a person who is asked for the PIN.
    """

    def find() -> Sequence[DecryptionKey]:
        found: list[DecryptionKey] = []
        with cli.output.without_progress():
            if password_source:
                found.append(password_from(password_source, "the message"))
            if name or not password_source:
                holder = held.enter_context(open_holder(cli, name, action=action))
                found += recipient_keys(cli, holder, name)
        return found

    return KeysOnDemand(find)
