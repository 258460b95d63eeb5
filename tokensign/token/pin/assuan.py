"""A client of the Assuan protocol over a pair of pipes, as far as pinentry needs it.

Assuan (the manual of libassuan): a command a line; the answer is any number of lines "S status", "D data"
and "# comment", and then "OK" or "ERR code text". A line has at most 1000 octets. What may be a secret is
read into memory that is overwritten.
"""

from __future__ import annotations

import binascii
import os
import select
import time
from dataclasses import dataclass, field
from typing import Final

__all__ = ["AssuanClient", "AssuanError", "Reply", "escaped", "unescaped"]

LINE_MAXIMUM: Final = 1000  # octets of a line without its end, as the protocol has it
_REPLY_MAXIMUM: Final = 100  # lines of an answer; pinentry sends a handful
_ERROR_CODE: Final = 0xFFFF  # the bits of an error number that say what; the others say which program


class AssuanError(Exception):
    """The other side refuses, does not follow the protocol, or does not answer.

    Attributes:
        code: The error code of libgpg-error; None where there is none.
    """

    def __init__(self, message: str, code: int | None = None) -> None:
        super().__init__(message)
        self.code = code


@dataclass(slots=True)
class Reply:
    """The answer to a command that went well.

    Attributes:
        data: The octets of the data line, percent-escaped, to be overwritten by who takes them; or nothing.
        statuses: The status lines.
    """

    data: bytearray = field(default_factory=bytearray, repr=False)
    statuses: list[str] = field(default_factory=list)


class AssuanClient:
    """Talks to a server over two pipes.

    Args:
        reading: The descriptor that the server's answers come from.
        writing: The descriptor that commands go to.
    """

    def __init__(self, reading: int, writing: int) -> None:
        self._reading = reading
        self._writing = writing
        self._buffer = bytearray(2 * LINE_MAXIMUM)
        self._size = 0

    def greeting(self, timeout: float) -> Reply:
        """What the server says first; the arguments and errors are those of `ask`."""
        return self._reply(time.monotonic() + timeout)

    def ask(self, command: str, timeout: float) -> Reply:
        """Send a command, and wait for the end of its answer.

        Args:
            command: One line, whose argument is `escaped`.
            timeout: Seconds to wait.

        Raises:
            AssuanError: It is refused, or the answer is none, or none comes in time.
        """
        line = command.encode()
        if len(line) > LINE_MAXIMUM or b"\n" in line:
            raise AssuanError("the command is no line of Assuan")
        try:
            os.write(self._writing, line + b"\n")
        except OSError as error:
            raise AssuanError(f"it went away: {error.strerror}") from None
        return self._reply(time.monotonic() + timeout)

    def _reply(self, deadline: float) -> Reply:
        reply = Reply()
        for _ in range(_REPLY_MAXIMUM):
            line = self._line(deadline)
            keyword, _, rest = line.partition(b" ")
            match bytes(keyword[:8]):  # never more of a data line than its keyword
                case b"OK":
                    return reply
                case b"ERR":
                    raise _refusal(rest.decode("utf-8", "replace"))
                case b"S":
                    reply.statuses.append(rest.decode("utf-8", "replace"))
                case b"D":
                    _wipe(line)
                    if reply.data:
                        _wipe(reply.data)
                        _wipe(rest)
                        raise AssuanError("it sends more data than a PIN has")
                    reply.data = rest
                case b"INQUIRE":
                    os.write(self._writing, b"CAN\n")
                case _ if not line.startswith(b"#"):
                    raise AssuanError("it sends what is no line of Assuan")
        raise AssuanError("its answer has no end")

    def _line(self, deadline: float) -> bytearray:
        """The next line, without its end."""
        while (end := self._buffer.find(b"\n", 0, self._size)) < 0:
            if self._size > LINE_MAXIMUM:
                raise AssuanError("it sends a line that is too long")
            if not select.select([self._reading], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise AssuanError("it does not answer in time")
            with memoryview(self._buffer) as view:
                count = os.readv(self._reading, [view[self._size :]])
            if not count:
                raise AssuanError("it ended")
            self._size += count
        line = self._buffer[:end]
        rest = self._size - end - 1
        with memoryview(self._buffer) as view:
            view[:rest] = view[end + 1 : self._size]
            view[rest : self._size] = bytes(self._size - rest)
        self._size = rest
        return line


def escaped(text: str, room: int) -> str:
    """Text as the argument of a command: what would end the line is percent-escaped, and too much is cut.

    Args:
        text: Any text; line feeds separate lines.
        room: Octets that it may have.
    """
    pieces: list[str] = []
    for letter in text:
        piece = f"%{ord(letter):02X}" if letter in "%\r\n" else letter
        room -= len(piece.encode())
        if room < 0:
            break
        pieces.append(piece)
    return "".join(pieces)


def unescaped(data: bytearray) -> bytearray:
    """The octets of a data line, whose percent-escapes become octets; what was given is overwritten.

    Raises:
        AssuanError: An escape is broken.
    """
    result = bytearray(len(data))
    size = position = 0
    try:
        while position < len(data):
            octet = data[position]
            if octet == ord("%"):
                (octet,) = binascii.unhexlify(data[position + 1 : position + 3])
                position += 2
            result[size] = octet
            size += 1
            position += 1
    except ValueError:
        _wipe(result)
        raise AssuanError("it sends a broken escape") from None
    finally:
        _wipe(data)
    value = result[:size]
    _wipe(result)
    return value


def _refusal(rest: str) -> AssuanError:
    number, _, text = rest.partition(" ")
    return AssuanError(text, int(number) & _ERROR_CODE if number.isascii() and number.isdecimal() else None)


def _wipe(octets: bytearray) -> None:
    octets[:] = bytes(len(octets))
