"""A card reader without hardware: vsmartcard's protocol between its driver in pcscd and a card here.

A message is two octets of length and that many octets. One octet is an order to the reader; all else is a
command APDU, which the card answers. A connection is a card that is in.
"""

from __future__ import annotations

import contextlib
import enum
import socket
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.modules.piv_card import PivCard

__all__ = ["Reader"]


class _Order(enum.IntEnum):
    POWER_OFF = 0
    POWER_ON = 1
    RESET = 2
    ATR = 4


class Reader:
    """A reader with a card for it, which is out at first.

    Attributes:
        card: The card.

    Args:
        card: The card.
        connect: Connects with the driver.
    """

    def __init__(self, card: PivCard, connect: Callable[[], socket.socket]) -> None:
        self.card = card
        self._connect = connect
        self._connection: socket.socket | None = None
        self._thread: threading.Thread | None = None
        self._leaving_at = ""

    @property
    def inserted(self) -> bool:
        """Whether the card is in."""
        return self._thread is not None and self._thread.is_alive()

    def insert(self) -> None:
        """Put the card in."""
        self.remove()
        self._connection = self._connect()
        self._thread = threading.Thread(target=self._serve, args=(self._connection,))
        self._thread.start()

    def remove(self) -> None:
        """Pull the card out."""
        if self._connection and self._thread:
            with self._connection:
                with contextlib.suppress(OSError):  # it left by itself
                    self._connection.shutdown(socket.SHUT_RDWR)
                self._thread.join()
        self._connection = self._thread = None

    def remove_at(self, command: str) -> None:
        """Pull the card out when it gets a certain command next, which then has no answer.

        Args:
            command: Its name, as the card counts it.
        """
        self._leaving_at = command

    def _serve(self, connection: socket.socket) -> None:
        """Answer the driver until the card is out."""
        with connection, contextlib.suppress(OSError):
            while message := _receive(connection, int.from_bytes(_receive(connection, 2))):
                reply = self._order(message[0]) if len(message) == 1 else self._command(message)
                if reply is not None:
                    connection.sendall(len(reply).to_bytes(2) + reply)
        self.card.reset()

    def _order(self, order: int) -> bytes | None:
        if order == _Order.ATR:
            return self.card.ATR
        self.card.reset()
        return None

    def _command(self, command: bytes) -> bytes:
        before = self.card.counts[self._leaving_at]
        answer = self.card.answer(command)
        if self.card.counts[self._leaving_at] > before:
            self._leaving_at = ""
            raise ConnectionAbortedError
        return answer


def _receive(connection: socket.socket, size: int) -> bytes:
    octets = b""
    while len(octets) < size:
        piece = connection.recv(size - len(octets))
        # The driver sends a message in pieces, and would wait 40 ms for the acknowledgement of each.
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        if not piece:
            raise ConnectionResetError
        octets += piece
    return octets
