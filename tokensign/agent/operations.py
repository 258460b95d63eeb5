"""What the agent does for a request."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Final

from tokensign.agent.documents import KeyDocument, name_of, usage_of
from tokensign.agent.protocol import require_version
from tokensign.errors import AgentError, MalformedError, UnsupportedError
from tokensign.token import (
    TokenKey,
    TokenSecretKey,
    find_secret_key,
    list_secret_keys,
    open_decrypters,
    open_key,
    open_secret_key,
    open_secret_keys,
)
from tokensign.token.pin import confirm
from tokensign.wire import encoded, octets, public_key_of, scheme_of, text, transport_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tokensign.agent.custody import Custody, OpenedToken
    from tokensign.agent.peer import Peer

__all__ = ["Operations"]

_OLDER_HINT: Final = "it may be older than this program: stop it, and start it again"
_confirming = threading.Lock()  # one person is asked one thing at a time

_PRIVATE: Final[Mapping[str, tuple[str, Callable[[TokenKey, dict[str, Any]], bytes]]]] = {
    "sign": ("sign", lambda key, request: key.sign(octets(request, "message"), scheme_of(request))),
    "sign_digest": (
        "sign",
        lambda key, request: key.sign_digest(octets(request, "digest"), scheme_of(request)),
    ),
    "unwrap": (
        "decrypt",
        lambda key, request: key.unwrap(
            octets(request, "encrypted_key"), transport_of(request.get("transport"))
        ),
    ),
    "agree": ("decrypt", lambda key, request: key.agree(public_key_of(octets(request, "peer")))),
    "decapsulate": ("decrypt", lambda key, request: key.decapsulate(octets(request, "ciphertext"))),
}
_SECRET: Final[Mapping[str, tuple[str, Callable[[TokenSecretKey, dict[str, Any]], bytes]]]] = {
    "wrap_key": ("encrypt", lambda key, request: key.wrap_key(octets(request, "key_to_wrap"))),
    "unwrap_key": ("decrypt", lambda key, request: key.unwrap_key(octets(request, "wrapped"))),
    "unwrap_padded_key": ("decrypt", lambda key, request: key.unwrap_padded_key(octets(request, "wrapped"))),
}


class Operations:
    """Does what requests ask for.

    Args:
        custody: The login.
        confirmed: Whether a person confirms each use of a key.
        memory_locked: Whether the memory of this process stays out of the swap, which `info` tells.
        require_non_extractable: Whether to refuse keys that the token does not vouch for never having been
            outside, also where a client does not ask for that.
    """

    def __init__(
        self, custody: Custody, *, confirmed: bool, memory_locked: bool, require_non_extractable: bool
    ) -> None:
        self._custody = custody
        self._confirmed = confirmed
        self._memory_locked = memory_locked
        self._strict = require_non_extractable
        self._others: Mapping[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
            "info": self._info,
            "open_key": self._open_key,
            "open_secret_key": self._open_secret_key,
            "open_decrypters": self._open_decrypters,
            "lock": self._lock,
            "unlock": self._unlock,
        }

    def perform(self, request: dict[str, Any], peer: Peer) -> dict[str, Any]:
        """Do what a request asks for.

        Args:
            request: The request, of which nothing is believed.
            peer: Who sent it.

        Returns:
            The result.

        Raises:
            TokensignError: It cannot be done; the class says why.
        """
        require_version(request)
        operation = text(request, "operation")
        if operation in self._others:
            return self._others[operation](request)
        if operation in _PRIVATE or operation in _SECRET:
            return {"value": encoded(self._use_key(operation, request, peer))}
        raise UnsupportedError("the agent does not know this operation", hint=_OLDER_HINT)

    def _use_key(self, operation: str, request: dict[str, Any], peer: Peer) -> bytes:
        uri = text(request, "key")
        if self._confirmed:  # before the operation, so that `lock` need not wait for a person
            with self._custody.use() as opened:
                found = self._key(opened, uri)
            verb, _ = _PRIVATE.get(operation) or _SECRET[operation]
            label = found.info.label if isinstance(found, TokenKey) else found.label
            _ask(
                f"{peer.program} wants to {verb} with the key {label}",
                f"on the token {self._custody.info.label}",
            )
        with self._custody.use() as opened:
            key = self._key(opened, uri)
            if isinstance(key, TokenKey) and operation in _PRIVATE:
                return _PRIVATE[operation][1](key, request)
            if isinstance(key, TokenSecretKey) and operation in _SECRET:
                return _SECRET[operation][1](key, request)
        raise MalformedError(f"{operation} is not done with keys of this kind")

    def _key(self, opened: OpenedToken, uri: str) -> TokenKey | TokenSecretKey:
        return opened.key(uri, require_non_extractable=self._strict)

    def _info(self, _request: dict[str, Any]) -> dict[str, Any]:
        module, token = self._custody.module, self._custody.info
        return {
            "token": str(token.uri),
            "module": str(module.path),
            "properties": token.properties | module.properties,
            "locked": self._custody.locked,
            "seconds_left": self._custody.seconds_left,
            "confirm": self._confirmed,
            "memory_locked": self._memory_locked,
        }

    def _open_key(self, request: dict[str, Any]) -> dict[str, Any]:
        strict = self._strict or request.get("require_non_extractable") is True
        with self._custody.use() as opened:
            found = open_key(
                opened.token, name_of(request), usage_of(request), require_non_extractable=strict
            )
            return _told(opened, found)

    def _open_secret_key(self, request: dict[str, Any]) -> dict[str, Any]:
        strict = self._strict or request.get("require_non_extractable") is True
        with self._custody.use() as opened:
            found = open_secret_key(opened.token, text(request, "name"), require_non_extractable=strict)
            opened.keys[str(found.uri)] = found
            return KeyDocument(find_secret_key(opened.token, found.uri), found.key_size).to_json()

    def _open_decrypters(self, _request: dict[str, Any]) -> dict[str, Any]:
        with self._custody.use() as opened:
            found = open_decrypters(opened.token, require_non_extractable=self._strict)
            keys = [_told(opened, one) for one in found]
            infos = {str(info.uri): info for info in list_secret_keys(opened.token)}
            for one in open_secret_keys(opened.token, require_non_extractable=self._strict):
                opened.keys[str(one.uri)] = one
                keys.append(KeyDocument(infos[str(one.uri)], one.key_size).to_json())
            return {"keys": keys}

    def _lock(self, _request: dict[str, Any]) -> dict[str, Any]:
        self._custody.lock()
        return {}

    def _unlock(self, _request: dict[str, Any]) -> dict[str, Any]:
        self._custody.unlock()
        return {}


def _told(opened: OpenedToken, key: TokenKey) -> dict[str, Any]:
    """A private key that was just opened, which is remembered for its operations."""
    opened.keys[str(key.info.uri)] = key
    return KeyDocument(
        key.info, certificates=key.certificates, certificate=key.certificate, chain=key.chain
    ).to_json()


def _ask(question: str, *reasons: str) -> None:
    """Let a person confirm the use of a key.

    Raises:
        AgentError: The person refuses, or does not answer in time.
        PinUnavailableError: Nobody can be asked.
    """
    with _confirming:
        if not confirm(question, reasons):
            raise AgentError("the use of the key was not confirmed")
