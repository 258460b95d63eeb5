"""What the kernel says of the other end."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

from tokensign.agent.peer import Peer, peer_of


def test_it_is_the_process_that_connected(place: Path) -> None:
    place.parent.mkdir()
    script = "import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); sys.stdin.read()"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(place))
        listener.listen()
        with (
            subprocess.Popen([sys.executable, "-c", script, str(place)], stdin=subprocess.PIPE) as process,
            listener.accept()[0] as connection,
        ):
            peer = peer_of(connection)
            program = peer.program
            process.communicate(b"", timeout=30)
    assert peer == Peer(os.geteuid(), process.pid)
    assert program == f"{Path(sys.executable).resolve()} (process {process.pid})"


def test_a_process_that_has_ended_has_no_name() -> None:
    assert Peer(0, 2**22 + 1).program == f"a program (process {2**22 + 1})"
    assert Peer(0, None).program == "a program"
