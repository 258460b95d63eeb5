"""A copy of the audit log in a file, to be kept and verified elsewhere.

Its first line has the name, size and root of the tree and the latest checkpoint; each line after it is a
leaf, with the very octets that are hashed.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, BinaryIO, Final

from tokensign.audit.checkpoint import latest_checkpoint, read_checkpoint
from tokensign.audit.leaves import LEAF_SIZE_MAXIMUM
from tokensign.audit.log import AuditTree
from tokensign.audit.verifying import LogVerifier, by_size
from tokensign.errors import MalformedError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tokensign.audit.checkpoint import Checkpoint
    from tokensign.audit.verifying import VerifiedLog
    from tokensign.store import Store

__all__ = ["export_log", "verify_export"]

_HEADER_MAXIMUM: Final = 1 << 17  # octets; the checkpoint has the signer's certificates, some KiB
_HASH: Final = re.compile(r"[0-9a-f]{64}")


def export_log(store: Store, output: BinaryIO) -> int:
    """Write a copy of the log.

    Args:
        store: The database, which may be in use.
        output: Where it goes.

    Returns:
        How many entries it has.

    Raises:
        FileError: The database fails, or the output.
        MalformedError: An entry is missing.
    """
    with store.reading() as connection:
        tree = AuditTree(connection)
        latest = latest_checkpoint(connection)
        header = {
            "log": tree.origin,
            "size": tree.size,
            "root": tree.root.hex(),
            "checkpoint": None if latest is None else latest.pem().decode("ascii"),
        }
        output.write(json.dumps(header).encode("ascii") + b"\n")
        count = 0
        for number, leaf in tree.all_leaves():
            if number != count:
                break
            output.write(leaf + b"\n")
            count += 1
    if count != tree.size:
        raise MalformedError(
            f"entry {count} of the audit log is missing", hint="`tokensign audit verify` tells more"
        )
    return count


def verify_export(
    stream: BinaryIO, checkpoints: Sequence[Checkpoint] = ()
) -> tuple[VerifiedLog, bytes | None]:
    """Verify a copy, against the checkpoint in it too.

    Args:
        stream: The copy.
        checkpoints: What is known of the log from elsewhere.

    Returns:
        What was found, and the signed checkpoint in it (PEM), whose signature is for the caller to verify.

    Raises:
        MalformedError: It is no copy, or it was changed.
    """
    origin, size, root, message = _header(stream.readline(_HEADER_MAXIMUM))
    own = [] if message is None else [read_checkpoint(message)]
    verifier = LogVerifier(origin, by_size(own, checkpoints))
    number = 0
    while line := stream.readline(LEAF_SIZE_MAXIMUM + 2):
        if not line.endswith(b"\n"):
            raise MalformedError(f"entry {number} of the copy is cut off")
        verifier.add(number, line[:-1])
        number += 1
    return verifier.finish(size, root), message


def _header(line: bytes) -> tuple[str, int, bytes, bytes | None]:
    try:
        match json.loads(line):
            case {
                "log": str(origin),
                "size": int(size),
                "root": str(root),
                "checkpoint": str() | None as message,
            }:
                if _HASH.fullmatch(root):
                    return (
                        origin,
                        size,
                        bytes.fromhex(root),
                        None if message is None else message.encode("ascii"),
                    )
    except (ValueError, RecursionError):
        pass
    raise MalformedError("this is no copy of an audit log", hint="`tokensign audit export` makes one")
