"""Mutt, with GnuPG's gpgsm behind it: what a person sees of a mail."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import time
from typing import TYPE_CHECKING

from peers.gpgsm import Gpgsm
from peers.peer import TIMEOUT, PeerRefusedError

if TYPE_CHECKING:
    from pathlib import Path

    from peers.identities import Authority, Person

_CONFIGURATION = """\
set folder = "{folder}"
set spoolfile = "{folder}/mbox"
set record = "" header_cache = "" move = no quit = yes mark_old = no wait_key = no prompt_after = no
set crypt_use_gpgme = yes crypt_verify_sig = yes
set send_charset = "utf-8"
set pager = "cp %s '{shown}'"
set pipe_decode = yes
push "<display-message><exit>"
"""


class Mutt:
    """A person who reads one mail with mutt.

    Args:
        folder: Where it keeps its files; its own, and short because sockets are made in it.
        authority: The CA that gpgsm trusts.
    """

    def __init__(self, folder: Path, authority: Authority) -> None:
        self._gpgsm = Gpgsm(folder, authority)
        self._folder = folder
        (folder / "home" / "gpgsm.conf").write_text(
            "disable-dirmngr\ndisable-crl-checks\nno-common-certs-import\n"
        )

    def close(self) -> None:
        self._gpgsm.close()

    def own(self, person: Person) -> None:
        """Give gpgsm the key of whoever reads."""
        self._gpgsm.own(person)

    def show(self, mail: bytes) -> str:
        """What mutt shows of a mail.

        Raises:
            PeerRefusedError: It shows nothing in time.
        """
        shown, place = self._gpgsm.path(".txt"), self._gpgsm.path()
        place.mkdir()
        (place / "mbox").write_bytes(
            b"From x Thu Jan  1 00:00:00 2026\n" + mail.replace(b"\r\n", b"\n") + b"\n"
        )
        configuration = self._gpgsm.file(_CONFIGURATION.format(folder=place, shown=shown).encode(), ".rc")
        master, slave = pty.openpty()
        process = subprocess.Popen(
            ["mutt", "-n", "-F", configuration],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(place),
                "GNUPGHOME": str(self._folder / "home"),
                "TERM": "xterm",
                "LC_ALL": "C.UTF-8",
            },
            start_new_session=True,
        )
        os.close(slave)
        screen = _read_all(master, process)
        if not shown.exists():
            raise PeerRefusedError(screen.decode(errors="replace"))
        return shown.read_text(errors="replace")


def _read_all(master: int, process: subprocess.Popen[bytes]) -> bytes:
    """What a program writes to its terminal until it ends; it is ended when it takes too long."""
    screen = b""
    deadline = time.monotonic() + TIMEOUT
    try:
        while process.poll() is None and time.monotonic() < deadline:
            if select.select([master], [], [], 0.1)[0]:
                try:
                    screen += os.read(master, 1 << 16)
                except OSError:  # the other side of the terminal was closed
                    break
        process.wait(5)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        os.close(master)
    return screen
