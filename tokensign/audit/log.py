"""The audit tree in a database: appending leaves, reading them, and the hash of each part.

Only the leaves, the frontier and the root of each full subtree of 256, 65,536, ... leaves are stored. The
hash of any other part is made from at most 255 of these for each of their levels.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import insert, select, update

from tokensign.audit import proofs
from tokensign.audit.tree import Frontier, Subtree, leaf_hash
from tokensign.errors import MalformedError, UsageError
from tokensign.store.audit_tables import AUDIT_END, AUDIT_LEAVES, AUDIT_SUBTREES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection, Row

    from tokensign.store import Store

__all__ = ["STORED_LEVELS", "AuditAppender", "AuditTree", "lock_tree", "reading_tree"]

STORED_LEVELS: Final = 8
"""Every so many levels, the roots of the full subtrees are stored."""
_LOCK: Final = select(AUDIT_END).with_for_update()  # made once, as the others: it costs more than running it
_INSERT_LEAVES: Final = insert(AUDIT_LEAVES)
_UPDATE_END: Final = update(AUDIT_END)
_PAGE: Final = 1000  # leaves that are in memory at a time, of at most 64 KiB each


def lock_tree(connection: Connection) -> Row[Any]:
    """Let other processes wait until the end of a transaction; the row where the tree goes on."""
    return connection.execute(_LOCK).one()


class AuditAppender:
    """Appends to the tree, in a transaction that may do other things too.

    From its making to the end of the transaction other processes wait; so leave slow things out of it.

    Args:
        connection: A transaction of `Store.writing`.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        end = lock_tree(connection)
        self._frontier = Frontier.decode(end.size, end.frontier)
        self._leaves: list[dict[str, object]] = []
        self._subtrees: list[Subtree] = []

    def append(self, leaf: bytes) -> int:
        """Add a leaf; it is in the database after `flush`.

        Args:
            leaf: What `tokensign.audit.leaves.encode_leaf` made.

        Returns:
            Its number.
        """
        number = self._frontier.size
        self._leaves.append({"number": number, "leaf": leaf})
        self._subtrees += self._frontier.append(leaf_hash(leaf))
        return number

    def flush(self) -> None:
        """Write what was appended; the end of the transaction makes it last.

        Raises:
            FileError: The database fails.
        """
        if not self._leaves:
            return
        self._connection.execute(_INSERT_LEAVES, self._leaves)
        stored = [
            {"level": one.level, "number": one.number, "hash": one.hash}
            for one in self._subtrees
            if one.level % STORED_LEVELS == 0
        ]
        if stored:
            self._connection.execute(insert(AUDIT_SUBTREES), stored)
        self._connection.execute(
            _UPDATE_END, {"size": self._frontier.size, "frontier": self._frontier.encode()}
        )
        self._leaves, self._subtrees = [], []


class AuditTree:
    """The tree as it is in one state of the database.

    Args:
        connection: A transaction of `Store.reading`.

    Attributes:
        origin: The name of the tree, which is in its checkpoints.
        size: How many leaves it has.
        root: Its hash, by the stored frontier.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        end = connection.execute(select(AUDIT_END)).one()
        self.origin: str = end.origin
        self.size: int = end.size
        self.root = Frontier.decode(end.size, end.frontier).root

    def leaves(self, start: int, end: int) -> list[bytes]:
        """The leaves from a number up to another.

        Raises:
            MalformedError: One is missing.
        """
        columns = AUDIT_LEAVES.c
        found = self._connection.execute(
            select(columns.number, columns.leaf)
            .where(columns.number >= start, columns.number < end)
            .order_by(columns.number)
        ).all()
        for number, row in enumerate(found, start):
            if row.number != number:
                raise _missing(number)
        if len(found) != end - start:
            raise _missing(start + len(found))
        return [row.leaf for row in found]

    def all_leaves(self) -> Iterator[tuple[int, bytes]]:
        """Each number and leaf that is there, in their order; also where some are missing."""
        columns = AUDIT_LEAVES.c
        chosen = select(columns.number, columns.leaf).order_by(columns.number).limit(_PAGE)
        last = -1
        while page := self._connection.execute(chosen.where(columns.number > last)).all():
            yield from ((row.number, row.leaf) for row in page)
            last = page[-1].number

    def stored_hash(self, level: int, number: int) -> bytes | None:
        """The root of a subtree of a stored level, or None where it is not there."""
        columns = AUDIT_SUBTREES.c
        found: bytes | None = self._connection.execute(
            select(columns.hash).where(columns.level == level, columns.number == number)
        ).scalar_one_or_none()
        return found

    def hash_of(self, start: int, end: int) -> bytes:
        """The hash of the leaves from a number up to another: MTH(D[start:end]) of RFC 6962.

        Args:
            start: A multiple of the smallest power of two that is not below `end - start`, as the parts of
                every proof have it.
            end: Where it ends.

        Raises:
            MalformedError: A leaf or a hash is missing.
        """
        frontier = Frontier()
        highest = (max(end - start, 1).bit_length() - 1) // STORED_LEVELS * STORED_LEVELS
        for level in range(highest, -1, -STORED_LEVELS):
            first, last = start + frontier.size >> level, end >> level
            for root in self._roots(level, first, last):
                frontier.append(root, level)
        return frontier.root

    def inclusion_proof(self, number: int, size: int) -> list[bytes]:
        """The audit path of a leaf, for the tree as it was when it had a size.

        Raises:
            UsageError: There is no such leaf or size.
        """
        self._require(size)
        return proofs.inclusion_proof(self.hash_of, number, size)

    def consistency_proof(self, earlier: int, later: int) -> list[bytes]:
        """That the tree only grew between two sizes.

        Raises:
            UsageError: There is no such pair of sizes.
        """
        self._require(later)
        return proofs.consistency_proof(self.hash_of, earlier, later)

    def _roots(self, level: int, first: int, last: int) -> list[bytes]:
        """The roots of the subtrees of a stored level from a number up to another."""
        if level == 0:
            return [leaf_hash(leaf) for leaf in self.leaves(first, last)]
        columns = AUDIT_SUBTREES.c
        found = self._connection.scalars(
            select(columns.hash)
            .where(columns.level == level, columns.number >= first, columns.number < last)
            .order_by(columns.number)
        ).all()
        if len(found) != last - first:
            raise MalformedError("hashes of the audit tree are missing", hint="run `tokensign audit verify`")
        return list(found)

    def _require(self, size: int) -> None:
        if not 0 < size <= self.size:
            raise UsageError(f"the audit tree has {self.size} leaves, so there is no tree of {size}")


@contextlib.contextmanager
def reading_tree(store: Store) -> Iterator[AuditTree]:
    """The tree, in a transaction of its own.

    Raises:
        FileError: The database fails.
    """
    with store.reading() as connection:
        yield AuditTree(connection)


def _missing(number: int) -> MalformedError:
    return MalformedError(
        f"entry {number} of the audit log is missing",
        hint="compare with a copy of the database; what follows cannot be relied on",
    )
