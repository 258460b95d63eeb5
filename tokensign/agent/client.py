"""A program's side of the socket, and the keys behind it."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from collections import deque
from typing import TYPE_CHECKING, Any, Final, Self

from tokensign.agent.documents import KeyDocument, name_document
from tokensign.agent.peer import peer_of
from tokensign.agent.place import require_private_folder
from tokensign.agent.protocol import (
    ANSWER_MAXIMUM,
    REQUEST_MAXIMUM,
    answer_of,
    receive,
    request_of,
    send,
)
from tokensign.algorithms import KEMS
from tokensign.errors import AgentError, KeyNotFoundError, MalformedError, MechanismError, WeakKeyError
from tokensign.token.protection import examine
from tokensign.uri import KeyUri
from tokensign.wire import encoded, octets, public_key_octets, scheme_document, transport_document

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from types import TracebackType

    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

    from tokensign.algorithms import Kem, KeyUsage, SignatureScheme
    from tokensign.certificates import Certificate
    from tokensign.keys import KeyTransport
    from tokensign.token import KeyInfo

__all__ = ["AgentClient", "AgentKey", "AgentSecretKey"]

_log: Final = logging.getLogger(__name__)

_SEND_TIMEOUT: Final = 10.0  # seconds; the agent reads at once
_ANSWER_TIMEOUT: Final = (
    900.0  # seconds: a person types a PIN or confirms, after others did, and then a card signs
)
_MESSAGE_MAXIMUM: Final = REQUEST_MAXIMUM // 2  # octets of a message to sign: base64 adds a third


class AgentClient:
    """An agent that is there. `AgentClient.reach` makes it; close it, or use it in a `with` statement.

    Safe for threads: each request has a connection for itself.
    """

    def __init__(self, path: Path, connection: socket.socket) -> None:
        self.path = path
        self._idle = deque([connection])

    @classmethod
    def reach(cls, path: Path) -> Self | None:
        """The agent with a socket, or None where no agent listens.

        Raises:
            AgentError: The socket is where others may have put it, or another user listens.
        """
        connection = _connect(path)
        return cls(path, connection) if connection else None

    def close(self) -> None:
        """End the connections; the agent keeps its login."""
        while self._idle:
            self._idle.pop().close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<AgentClient {self.path}>"

    def info(self) -> dict[str, Any]:
        """What the agent tells of itself: token, module, whether it is locked, and until when it is not.

        Raises:
            AgentError: It does not answer.
        """
        return self.ask("info")

    def serves(self, token: str | KeyUri | None, module: Path | None) -> bool:
        """Whether it keeps the login on a token.

        Args:
            token: The token's label or URI; None for whichever.
            module: The path of the PKCS#11 module; None for whichever.

        Raises:
            AgentError: It does not answer.
        """
        info = self.info()
        if module is not None and str(module.resolve()) != info.get("module"):
            return False
        properties = info.get("properties")
        if not isinstance(properties, dict):
            raise MalformedError("the agent does not say which token it serves")
        if isinstance(token, KeyUri):
            return token.matches(properties)
        return token is None or token == properties.get("token")

    def open_key(
        self,
        name: str | Certificate,
        usage: KeyUsage | None = None,
        *,
        require_non_extractable: bool = False,
    ) -> AgentKey:
        """A private key of the agent's token; see `tokensign.token.open_key`.

        Raises:
            TokenError: As there; and `AgentError` where the agent is locked or gone.
        """
        result = self.ask(
            "open_key",
            name=name_document(name),
            usage=usage.value if usage else None,
            require_non_extractable=require_non_extractable,
        )
        return AgentKey(self, KeyDocument.from_json(result))

    def open_secret_key(self, name: str, *, require_non_extractable: bool = False) -> AgentSecretKey:
        """An AES key of the agent's token; see `tokensign.token.open_secret_key`.

        Raises:
            TokenError: As there; and `AgentError` where the agent is locked or gone.
        """
        result = self.ask("open_secret_key", name=name, require_non_extractable=require_non_extractable)
        return AgentSecretKey(self, KeyDocument.from_json(result))

    def open_decrypters(self, *, require_non_extractable: bool = False) -> list[AgentKey | AgentSecretKey]:
        """Every key of the agent's token that may open a message, AES keys last.

        Args:
            require_non_extractable: Whether to leave out, with a warning, keys that `open_key` would refuse.

        Raises:
            TokenError: The token fails; and `AgentError` where the agent is locked or gone.
        """
        entries = self.ask("open_decrypters").get("keys")
        if not isinstance(entries, list):
            raise MalformedError("the agent does not list its keys")
        found: list[AgentKey | AgentSecretKey] = []
        for document in map(KeyDocument.from_json, entries):
            try:
                if require_non_extractable:
                    examine(document.info).require_non_extractable()
            except WeakKeyError as error:
                _log.warning("%s", error)
            else:
                found.append((AgentSecretKey if document.info.secret else AgentKey)(self, document))
        return found

    def ask(self, operation: str, **fields: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
        """Send a request and wait for its answer.

        Raises:
            TokensignError: What the agent met, of the same class.
            AgentError: The agent went away or does not answer; whether it did the operation is not known.
        """
        connection = self._take()
        try:
            with contextlib.suppress(BrokenPipeError):  # it may have said why before it went
                send(connection, request_of(operation, **fields), REQUEST_MAXIMUM, _SEND_TIMEOUT)
            answer = receive(connection, ANSWER_MAXIMUM, _ANSWER_TIMEOUT)
        except TimeoutError:
            connection.close()
            raise AgentError(f"the agent at {self.path} does not answer") from None
        except OSError:
            connection.close()
            raise _gone(self.path) from None
        except BaseException:  # the answer may still come, and nobody waits for it
            connection.close()
            raise
        if answer is None:
            connection.close()
            raise _gone(self.path)
        self._idle.append(connection)
        return answer_of(answer)

    def use(self, key: KeyInfo, operation: str, **fields: Any) -> bytes:  # noqa: ANN401 - JSON
        """An operation with a key; errors are those of `ask`."""
        return octets(self.ask(operation, key=str(key.uri), **fields), "value")

    def _take(self) -> socket.socket:
        """A connection that nobody uses and the agent has not ended, or a new one."""
        while self._idle:
            try:
                connection = self._idle.pop()
            except IndexError:  # another thread was faster
                break
            try:
                connection.settimeout(0)
                connection.recv(1, socket.MSG_PEEK)
            except BlockingIOError:
                return connection
            except OSError:
                pass
            connection.close()  # it has ended, or says what was not asked for
        fresh = _connect(self.path)
        if fresh is None:
            raise _gone(self.path)
        return fresh


def _connect(path: Path) -> socket.socket | None:
    """A connection; None where nobody listens."""
    if not os.path.exists(path):  # noqa: PTH110 - where it must not be looked at, nobody listens for us
        return None
    require_private_folder(path.parent)
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(_SEND_TIMEOUT)
        connection.connect(str(path))
        user = peer_of(connection).user
    except (FileNotFoundError, ConnectionRefusedError):
        connection.close()
        return None
    except OSError as error:
        connection.close()
        raise AgentError(f"the agent at {path} cannot be reached: {error.strerror or error}") from None
    if user != os.geteuid():
        connection.close()
        raise AgentError(
            f"the agent at {path} is that of another user",
            hint="unset TOKENSIGN_AGENT, or start one of your own",
        )
    return connection


def _gone(path: Path) -> AgentError:
    return AgentError(
        f"the agent at {path} went away",
        hint="start it again with `tokensign agent start`, or unset TOKENSIGN_AGENT",
    )


class AgentKey:
    """A private key behind an agent: what `tokensign.token.TokenKey` is for a token that this process opens.

    Attributes:
        info: The key.
        certificates: Every certificate on the token with this public key, newest first.
        certificate: The one to sign with, or None.
        chain: The CA certificates on the token above that one.
    """

    def __init__(self, agent: AgentClient, document: KeyDocument) -> None:
        public_key = document.info.public_key
        if public_key is None:
            raise KeyNotFoundError(f"the public half of the key {document.info.label} is not on the token")
        self._agent = agent
        self._public_key = public_key
        self.info = document.info
        self.certificates: Sequence[Certificate] = document.certificates
        self.certificate = document.certificate
        self.chain: Sequence[Certificate] = document.chain

    @property
    def public_key(self) -> PublicKeyTypes:
        """The public half, as cryptography has it."""
        return self._public_key

    @property
    def kem(self) -> Kem | None:
        """The key encapsulation mechanism of the key, or None."""
        return KEMS.get(self.info.spec)

    def __repr__(self) -> str:
        return f"<AgentKey {self.info.uri}>"

    def sign(self, message: bytes, scheme: SignatureScheme) -> bytes:
        """Sign a message; see `tokensign.keys.Signer.sign`.

        A large message is hashed here, where the scheme signs hash values.

        Raises:
            MechanismError: The key or the token cannot do the scheme, or the agent takes no message so large.
            TokenError: The token or the agent failed or is gone.
        """
        if len(message) <= _MESSAGE_MAXIMUM:
            return self._agent.use(
                self.info, "sign", message=encoded(message), scheme=scheme_document(scheme)
            )
        if scheme.prehashed:
            return self.sign_digest(scheme.digest.new(message).digest(), scheme)
        raise MechanismError(
            f"the agent takes at most {_MESSAGE_MAXIMUM} bytes to sign with {scheme}",
            hint="unset TOKENSIGN_AGENT for this command",
        )

    def sign_digest(self, digest: bytes, scheme: SignatureScheme) -> bytes:
        """Sign a hash value; see `tokensign.keys.Signer.sign_digest`.

        Raises:
            MechanismError: The key or the token cannot do the scheme, or it signs only the message itself.
            TokenError: The token or the agent failed or is gone.
        """
        return self._agent.use(
            self.info, "sign_digest", digest=encoded(digest), scheme=scheme_document(scheme)
        )

    def unwrap(self, encrypted_key: bytes, transport: KeyTransport) -> bytes:
        """Recover a content-encryption key; see `tokensign.keys.Decrypter.unwrap`.

        Raises:
            DecryptionError: The ciphertext or its padding is wrong; one text for every cause.
            TokenError: The token or the agent failed or is gone.
        """
        return self._agent.use(
            self.info,
            "unwrap",
            encrypted_key=encoded(encrypted_key),
            transport=transport_document(transport),
        )

    def agree(self, peer: PublicKeyTypes) -> bytes:
        """The raw shared secret with another public key; see `tokensign.keys.KeyAgreement.agree`.

        Raises:
            DecryptionError: It is of another curve, or the token refuses it; one text.
            TokenError: The token or the agent failed or is gone.
        """
        return self._agent.use(self.info, "agree", peer=encoded(public_key_octets(peer)))

    def decapsulate(self, ciphertext: bytes) -> bytes:
        """The shared secret in a KEM ciphertext; see `tokensign.keys.Decapsulator.decapsulate`.

        Raises:
            DecryptionError: The ciphertext has another size, or the token refuses it; one text.
            TokenError: The token or the agent failed or is gone.
        """
        return self._agent.use(self.info, "decapsulate", ciphertext=encoded(ciphertext))


class AgentSecretKey:
    """An AES key behind an agent: a `tokensign.keys.KeyEncryptionKey`.

    Attributes:
        info: The key.
        label: CKA_LABEL.
        key_identifier: CKA_ID, which names it in messages.
        key_size: Octets of the key.
    """

    def __init__(self, agent: AgentClient, document: KeyDocument) -> None:
        self._agent = agent
        self.info = document.info
        self.label = document.info.label
        self.key_identifier = document.info.id
        self.key_size = document.size

    def __repr__(self) -> str:
        return f"<AgentSecretKey {self.info.uri}>"

    def wrap_key(self, key: bytes) -> bytes:
        """Wrap the key of a message with AES key wrap (RFC 3394).

        Raises:
            TokenError: The token or the agent failed or is gone, or cannot do it.
        """
        return self._agent.use(self.info, "wrap_key", key_to_wrap=encoded(key))

    def unwrap_key(self, wrapped: bytes) -> bytes:
        """Unwrap the key of a message with AES key wrap (RFC 3394).

        Raises:
            DecryptionError: Its integrity check fails, or the size is one that cannot be; one text.
            TokenError: The token or the agent failed or is gone.
        """
        return self._agent.use(self.info, "unwrap_key", wrapped=encoded(wrapped))

    def unwrap_padded_key(self, wrapped: bytes) -> bytes:
        """Unwrap the key of a message with AES key wrap with padding (RFC 5649).

        Raises:
            DecryptionError: Its integrity check fails, or the size is one that cannot be; one text.
            TokenError: The token or the agent failed or is gone.
        """
        return self._agent.use(self.info, "unwrap_padded_key", wrapped=encoded(wrapped))
