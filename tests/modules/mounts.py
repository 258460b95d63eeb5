"""Commands that see other folders in well-known places, while the rest of the machine sees nothing of it."""

from __future__ import annotations

import os
import shlex
import subprocess
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

__all__ = ["cannot_mount", "with_mounts"]

# Who is not root may mount in a user namespace of their own, where the system grants it.
_UNSHARE: Final = ("unshare", "--mount", *(() if os.geteuid() == 0 else ("--map-root-user",)))


def with_mounts(
    mounts: Mapping[Path, Path], command: Sequence[str], *, own_network: bool = False
) -> list[str]:
    """The command that runs another one in a mount namespace of its own.

    The mounts end with the last process in there.

    Args:
        mounts: What is to be seen, by the place where it is seen.
        command: The program and its arguments.
        own_network: Whether it also has a network of its own, without any connection and with loopback down.
    """
    lines = [shlex.join(["mount", "--bind", str(seen), str(place)]) for place, seen in mounts.items()]
    network = ["--net"] if own_network else []
    return [*_UNSHARE, *network, "sh", "-c", " && ".join([*lines, 'exec "$@"']), "sh", *command]


def cannot_mount() -> str | None:
    """Why there are no mount namespaces here, or None."""
    try:
        tried = subprocess.run([*_UNSHARE, "true"], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return "there is no unshare command"
    return f"no mount namespace: {tried.stderr.strip()}" if tried.returncode else None
