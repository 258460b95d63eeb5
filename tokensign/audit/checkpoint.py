"""Checkpoints: size and root of the audit tree, as a key on a token signs them.

The text is that of C2SP tlog-checkpoint: the origin, the size in decimal and the root in base64, a line each.
It is the content of SignedData (RFC 5652), so that any key that signs here can vouch for the log, and
`openssl cms -verify` reads it.
"""

from __future__ import annotations

import base64
import io
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, BinaryIO, Final

from sqlalchemy import insert, select

from tokensign.audit.log import AuditTree, lock_tree
from tokensign.audit.tree import HASH_SIZE
from tokensign.cms.pem import armor, is_armored, unarmor
from tokensign.cms.signed import sign_attached
from tokensign.cms.signed_data import read_signed_data
from tokensign.errors import MalformedError, UntrustedError, UsageError
from tokensign.store.audit_tables import AUDIT_CHECKPOINTS
from tokensign.verification import Expectations, verify

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection

    from tokensign.certificates import Certificate
    from tokensign.keys import Signer
    from tokensign.store import Store

__all__ = [
    "Checkpoint",
    "SignedCheckpoint",
    "latest_checkpoint",
    "make_checkpoint",
    "open_checkpoint",
    "read_checkpoint",
    "stored_checkpoints",
]

_TEXT: Final = re.compile(rb"([\x20-\x7e]{1,255})\n(0|[1-9][0-9]{0,18})\n([A-Za-z0-9+/]{43}=)\n(?:[^\n]+\n)*")
_PAGE: Final = 200  # checkpoints that are read at a time; each has the signer's certificates, some KiB


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a tree was at some time.

    Attributes:
        origin: The name of the tree.
        size: How many leaves it had.
        root: Its hash, 32 octets.
    """

    origin: str
    size: int
    root: bytes

    def encode(self) -> bytes:
        """The text (C2SP tlog-checkpoint, without its signatures)."""
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n".encode("ascii")

    @classmethod
    def decode(cls, text: bytes) -> Checkpoint:
        """From its text; lines after the third are for others.

        Raises:
            MalformedError: It is none.
        """
        match = _TEXT.fullmatch(text)
        root = base64.b64decode(match[3]) if match else b""
        if match is None or len(root) != HASH_SIZE:
            raise MalformedError("the text of the checkpoint cannot be read")
        return cls(match[1].decode("ascii"), int(match[2]), root)


@dataclass(frozen=True, slots=True)
class SignedCheckpoint:
    """A checkpoint with its signature.

    Attributes:
        checkpoint: What is signed.
        message: SignedData, DER.
        signed_at: When that was made, by the clock of this machine.
    """

    checkpoint: Checkpoint
    message: bytes
    signed_at: datetime

    def pem(self) -> bytes:
        """The message in PEM."""
        output = io.BytesIO()
        armor(io.BytesIO(self.message), output)
        return output.getvalue()


def make_checkpoint(store: Store, signer: Signer) -> SignedCheckpoint:
    """Sign the tree as it is, and store that; or the latest checkpoint where nothing came since.

    The tree is signed only where its leaves give the root that is stored, and where it grew from the latest
    checkpoint.

    Args:
        store: The database.
        signer: A key with its certificate.

    Raises:
        UsageError: The log is empty, or the key has no certificate.
        MalformedError: The log was tampered with.
        TokenError, SigningError: The key does not sign.
        FileError: The database fails.
    """
    with store.reading() as connection:
        tree = AuditTree(connection)
        latest = latest_checkpoint(connection)
        if latest is not None and latest.checkpoint == Checkpoint(tree.origin, tree.size, tree.root):
            return latest
        _require_grown(tree, latest)
    checkpoint = Checkpoint(tree.origin, tree.size, tree.root)
    output = io.BytesIO()
    sign_attached(io.BytesIO(checkpoint.encode()), [signer], output)
    made = SignedCheckpoint(checkpoint, output.getvalue(), datetime.now(UTC))
    with store.writing() as connection:
        lock_tree(connection)  # another process may have signed the same
        this = AUDIT_CHECKPOINTS.c.size == checkpoint.size
        if connection.execute(select(AUDIT_CHECKPOINTS.c.size).where(this)).one_or_none() is None:
            connection.execute(
                insert(AUDIT_CHECKPOINTS).values(
                    size=checkpoint.size, signed_at=made.signed_at, message=made.message
                )
            )
    return made


def open_checkpoint(message: bytes, signer: Certificate | None) -> Checkpoint:
    """Verify a signed checkpoint.

    Args:
        message: SignedData in DER or PEM.
        signer: The certificate of the key that must have signed it. Its path and time do not matter: who
            names it trusts the key. None: whoever signed it.

    Raises:
        VerificationError: The signature does not hold.
        UntrustedError: Another key signed it.
        MalformedError, UnsupportedError: It is no signed checkpoint.
    """
    output = io.BytesIO()
    with _cms(message) as stream:
        report = verify(stream, Expectations(trust=None), output=output)
    if signer is not None:
        keys = {one.certificate.public_key_info for one in report.signers if one.certificate is not None}
        if keys != {signer.public_key_info}:
            raise UntrustedError(
                f"the checkpoint is not signed by the key of {signer.subject}",
                hint="name the certificate of the key that signs checkpoints",
            )
    return Checkpoint.decode(output.getvalue())


def read_checkpoint(message: bytes) -> Checkpoint:
    """What a message says, whether its signature holds or not.

    Args:
        message: SignedData in DER or PEM.

    Raises:
        MalformedError, UnsupportedError: It is no signed checkpoint.
    """
    with _cms(message) as stream:
        content = read_signed_data(stream).content
        return Checkpoint.decode(b"" if content is None else b"".join(content.chunks()))


def latest_checkpoint(connection: Connection) -> SignedCheckpoint | None:
    """The one over the largest tree, or None where there is none.

    Args:
        connection: A transaction of `Store.reading`.

    Raises:
        MalformedError: It cannot be read.
    """
    row = connection.execute(
        select(AUDIT_CHECKPOINTS).order_by(AUDIT_CHECKPOINTS.c.size.desc()).limit(1)
    ).one_or_none()
    if row is None:
        return None
    return SignedCheckpoint(read_checkpoint(row.message), row.message, row.signed_at)


def stored_checkpoints(connection: Connection) -> Iterator[SignedCheckpoint]:
    """All of them, the smallest tree first; some are in memory at a time.

    Args:
        connection: A transaction of `Store.reading`.

    Raises:
        MalformedError: One cannot be read, or is not where its size says.
    """
    chosen = select(AUDIT_CHECKPOINTS).order_by(AUDIT_CHECKPOINTS.c.size).limit(_PAGE)
    last = 0
    while page := connection.execute(chosen.where(AUDIT_CHECKPOINTS.c.size > last)).all():
        for row in page:
            found = read_checkpoint(row.message)
            if found.size != row.size:
                raise MalformedError(f"the checkpoint of {row.size} entries was changed")
            yield SignedCheckpoint(found, row.message, row.signed_at)
        last = page[-1].size


def _require_grown(tree: AuditTree, latest: SignedCheckpoint | None) -> None:
    if tree.size == 0:
        raise UsageError("the audit log is empty", hint="a checkpoint is made of at least one entry")
    roots = {tree.size: tree.root}
    if latest is not None:
        earlier = latest.checkpoint
        if earlier.origin != tree.origin or not 0 < earlier.size < tree.size:
            raise _tampered()
        roots[earlier.size] = earlier.root
    if any(tree.hash_of(0, size) != root for size, root in roots.items()):
        raise _tampered()


def _tampered() -> MalformedError:
    return MalformedError(
        "the audit log is not what it was at its latest checkpoint",
        hint="`tokensign audit verify` tells what was changed",
    )


def _cms(message: bytes) -> BinaryIO:
    stream = io.BytesIO(message)
    return unarmor(stream) if is_armored(stream) else stream
