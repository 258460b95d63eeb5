"""The block in which a thread has a session for itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pkcs11.exceptions import PKCS11Error

from tokensign.errors import DecryptionError
from tokensign.token.deadlines import GENERATION_TIMEOUT, PERSON_TIMEOUT

if TYPE_CHECKING:
    from types import TracebackType

    from tokensign.token.connection import Connection
    from tokensign.token.login import Credential
    from tokensign.token.session import Session

__all__ = ["Borrowed"]


class Borrowed:
    """The block in which a thread has a session for itself."""

    __slots__ = ("_at_least", "_connection", "_credential", "_doing", "_place", "_read_write", "_session")

    def __init__(
        self,
        connection: Connection,
        doing: str,
        credential: Credential | None,
        *,
        read_write: bool,
        on_pad: bool,
    ) -> None:
        self._connection = connection
        self._doing = doing
        self._credential = credential
        self._read_write = read_write
        self._at_least = GENERATION_TIMEOUT if read_write else PERSON_TIMEOUT if on_pad else 0.0

    def __enter__(self) -> Session:
        connection = self._connection
        connection.prepare(self._credential)
        self._place = connection.module.gate.enter(self._at_least)
        try:
            self._session = connection.take(read_write=self._read_write)
        except BaseException as error:
            connection.module.gate.leave(self._place)
            if isinstance(error, PKCS11Error):
                with connection.module.gate.shared():
                    connection.notice(error)
                raise connection.explain(error, self._doing) from error
            raise
        return self._session

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        connection = self._connection
        try:
            if error is None or isinstance(error, DecryptionError):  # the operation ended in good order
                connection.give_back(self._session)
            else:
                connection.discard(self._session, error)
        finally:
            connection.module.gate.leave(self._place)
        if isinstance(error, PKCS11Error):
            raise connection.explain(error, self._doing) from error
