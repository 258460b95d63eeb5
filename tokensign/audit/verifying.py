"""That an audit log is whole: every entry as it was recorded, none taken out, and nothing forked off."""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from tokensign.audit.checkpoint import stored_checkpoints
from tokensign.audit.leaves import decode_leaf
from tokensign.audit.log import STORED_LEVELS, AuditTree
from tokensign.audit.tree import Frontier, leaf_hash
from tokensign.errors import MalformedError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from tokensign.audit.checkpoint import Checkpoint
    from tokensign.audit.tree import Subtree
    from tokensign.store import Store

__all__ = ["LogVerifier", "VerifiedLog", "by_size", "verify_store"]

_HINT: Final = "compare with a copy of the log; what follows cannot be relied on"


@dataclass(frozen=True, slots=True)
class VerifiedLog:
    """A log that is whole.

    Attributes:
        origin: The name of its tree.
        size: How many entries it has.
        root: The hash of its tree, 32 octets.
        unfinished: The numbers of intents that have no outcome yet.
        checkpoints: How many checkpoints it agrees with.
    """

    origin: str
    size: int
    root: bytes
    unfinished: tuple[int, ...]
    checkpoints: int


class LogVerifier:
    """Takes the entries of a log, the first one first, in memory that does not grow with it.

    Args:
        origin: The name that the log has.
        checkpoints: What it was at some sizes, the smallest first.
    """

    def __init__(self, origin: str, checkpoints: Iterable[Checkpoint] = ()) -> None:
        self._origin = origin
        self._frontier = Frontier()
        self._open: set[int] = set()  # intents without an outcome
        self._later = iter(checkpoints)
        self._next = self._advance()
        self._agreed = 0

    def add(self, number: int, leaf: bytes) -> list[Subtree]:
        """Take the next entry.

        Returns:
            The perfect subtrees that are complete with it.

        Raises:
            MalformedError: It is not the next one, or not as it was recorded.
        """
        expected = self._frontier.size
        if number != expected:
            raise MalformedError(f"entry {expected} of the audit log is missing", hint=_HINT)
        try:
            entry = decode_leaf(leaf)
        except MalformedError as error:
            raise MalformedError(f"entry {number}: {error.message}", hint=_HINT) from error
        self._follow(number, entry)
        completed = self._frontier.append(leaf_hash(leaf))
        self._compare()
        return completed

    def finish(self, size: int, root: bytes) -> VerifiedLog:
        """See that the log ends where it should.

        Args:
            size: How many entries it says that it has.
            root: The root that it says.

        Raises:
            MalformedError: It does not.
        """
        found = self._frontier.size
        if found < size:
            raise MalformedError(
                f"the audit log has {found} entries of {size}; the last are missing", hint=_HINT
            )
        if self._next is not None:
            raise MalformedError(
                f"the audit log has {found} entries, and a checkpoint is of {self._next.size}",
                hint="entries at its end were taken out, or an older copy was put in its place",
            )
        if found > size or self._frontier.root != root:
            raise MalformedError("the audit log does not have the root that is stored with it", hint=_HINT)
        return VerifiedLog(self._origin, size, root, tuple(sorted(self._open)), self._agreed)

    def _compare(self) -> None:
        while self._next is not None and self._next.size == self._frontier.size:
            if self._next.root != self._frontier.root:
                raise MalformedError(
                    f"the first {self._next.size} entries of the audit log are not those of its checkpoint",
                    hint="one of them was changed, or the log was forked; " + _HINT,
                )
            self._agreed += 1
            self._next = self._advance()

    def _advance(self) -> Checkpoint | None:
        """The checkpoint that comes next."""
        found = next(self._later, None)
        if found is not None and found.origin != self._origin:
            raise MalformedError(
                f"the checkpoint is of the log {found.origin}, and this one is {self._origin}",
                hint="this is another log, or one that was begun anew in its place",
            )
        return found

    def _follow(self, number: int, entry: dict[str, Any]) -> None:
        """Each outcome is that of an intent before it, and of one that had none."""
        match entry.get("kind"):
            case "intent":
                self._open.add(number)
            case "outcome":
                intent = entry.get("intent")
                if not isinstance(intent, int) or intent not in self._open:
                    raise MalformedError(
                        f"entry {number} of the audit log is the outcome of nothing that was open", hint=_HINT
                    )
                self._open.discard(intent)
            case _:
                pass


def by_size(own: Iterable[Checkpoint], others: Iterable[Checkpoint]) -> Iterator[Checkpoint]:
    """Checkpoints of both, the smallest first.

    Args:
        own: In that order already.
        others: In any order.
    """
    return heapq.merge(own, sorted(others, key=_size), key=_size)


def _size(checkpoint: Checkpoint) -> int:
    return checkpoint.size


def verify_store(store: Store, checkpoints: Sequence[Checkpoint] = ()) -> VerifiedLog:
    """Verify the log in a database, against its own checkpoints too.

    Args:
        store: The database, which may be in use.
        checkpoints: What is known of the log from elsewhere.

    Raises:
        MalformedError: It was changed; the message names what.
        FileError: The database fails.
    """
    with store.reading() as connection:
        tree = AuditTree(connection)
        own = (one.checkpoint for one in stored_checkpoints(connection))
        verifier = LogVerifier(tree.origin, by_size(own, checkpoints))
        for number, leaf in tree.all_leaves():
            for subtree in verifier.add(number, leaf):
                if subtree.level % STORED_LEVELS == 0:
                    _require_stored(tree, subtree)
        return verifier.finish(tree.size, tree.root)


def _require_stored(tree: AuditTree, subtree: Subtree) -> None:
    """The stored hashes are those of the leaves; where one is not, a leaf was changed, or the hash was."""
    if tree.stored_hash(subtree.level, subtree.number) != subtree.hash:
        first, last = subtree.number << subtree.level, ((subtree.number + 1) << subtree.level) - 1
        raise MalformedError(
            f"entries {first} to {last} of the audit log are not those whose hash was stored", hint=_HINT
        )
