"""Proofs about a hash tree: that a leaf is in it, and that it only grew (RFC 6962 sections 2.1.1 and 2.1.2).

A proof is a list of hashes. Who makes one needs the hash of any part of the tree; who checks one needs the
roots alone, as a checkpoint has them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tokensign.audit.tree import node_hash
from tokensign.errors import MalformedError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    HashOf = Callable[[int, int], bytes]  # MTH(D[start:end])

__all__ = ["check_consistency", "check_inclusion", "consistency_proof", "inclusion_proof"]


def inclusion_proof(hash_of: HashOf, number: int, size: int) -> list[bytes]:
    """The audit path of a leaf, PATH(m, D[n]).

    Args:
        hash_of: The hash of the leaves from a start up to an end.
        number: The leaf, counted from 0.
        size: How many leaves the tree has.

    Raises:
        UsageError: The tree has no such leaf.
    """
    if not 0 <= number < size:
        raise UsageError(f"a tree of {size} leaves has no leaf {number}")
    start, end, path = 0, size, []
    while end - start > 1:
        middle = start + _split(end - start)
        if number < middle:
            path.append(hash_of(middle, end))
            end = middle
        else:
            path.append(hash_of(start, middle))
            start = middle
    return path[::-1]


def consistency_proof(hash_of: HashOf, earlier: int, later: int) -> list[bytes]:
    """That the tree of `later` leaves begins with that of `earlier` ones, PROOF(m, D[n]).

    Args:
        hash_of: The hash of the leaves from a start up to an end.
        earlier: A size, at least 1.
        later: A size, at least as large.

    Raises:
        UsageError: The sizes are none of such a pair.
    """
    _require_sizes(earlier, later)
    start, end, path = 0, later, []
    while earlier != end:
        middle = start + _split(end - start)
        if earlier <= middle:
            path.append(hash_of(middle, end))
            end = middle
        else:
            path.append(hash_of(start, middle))
            start = middle
    if start > 0:  # else this is the earlier root, which the checker has
        path.append(hash_of(start, end))
    return path[::-1]


def check_inclusion(leaf: bytes, number: int, size: int, path: Sequence[bytes], root: bytes) -> None:
    """Check an audit path (RFC 9162 section 2.1.3.2).

    Args:
        leaf: The hash of the leaf.
        number: Its number.
        size: How many leaves the tree has.
        path: The proof.
        root: The tree's.

    Raises:
        MalformedError: It does not prove that the leaf is in the tree.
    """
    if not 0 <= number < size:
        raise MalformedError(f"a tree of {size} leaves has no leaf {number}")
    found = leaf
    sides = _sides(number, size - 1, len(path))
    if sides is None:
        raise _not_proved(number)
    for sibling, is_left in zip(path, sides, strict=True):
        found = node_hash(sibling, found) if is_left else node_hash(found, sibling)
    if found != root:
        raise _not_proved(number)


def check_consistency(
    earlier: int, later: int, path: Sequence[bytes], earlier_root: bytes, later_root: bytes
) -> None:
    """Check a consistency proof (RFC 9162 section 2.1.4.2).

    Args:
        earlier: The size of the earlier tree, at least 1.
        later: The size of the later tree.
        path: The proof.
        earlier_root: The root of the earlier tree.
        later_root: The root of the later tree.

    Raises:
        UsageError: The sizes are none of such a pair.
        MalformedError: It does not prove that the later tree begins with the earlier one.
    """
    _require_sizes(earlier, later)
    if earlier == later:
        if path or earlier_root != later_root:
            raise _forked(earlier, later)
        return
    hashes = list(path)
    if not earlier & (earlier - 1):  # a power of two: the proof leaves the earlier root out
        hashes.insert(0, earlier_root)
    position, last = earlier - 1, later - 1
    while position & 1:
        position, last = position >> 1, last >> 1
    sides = _sides(position, last, len(hashes) - 1)
    if sides is None:
        raise _forked(earlier, later)
    old = new = hashes[0]
    for sibling, is_left in zip(hashes[1:], sides, strict=True):
        if is_left:
            old = node_hash(sibling, old)
        new = node_hash(sibling, new) if is_left else node_hash(new, sibling)
    if old != earlier_root or new != later_root:
        raise _forked(earlier, later)


def _sides(position: int, last: int, length: int) -> list[bool] | None:
    """For each hash of a path upwards, whether it stands on the left.

    Args:
        position: The number of the node where the path begins, among those of its level.
        last: The number of the last node of that level.
        length: How many hashes the path has.

    Returns:
        None: A path from there has another length.
    """
    sides = []
    while last:
        if position & 1 or position == last:
            sides.append(True)
            while not position & 1:  # where the last node has no sibling, it stands for its parent
                position, last = position >> 1, last >> 1
        else:
            sides.append(False)
        position, last = position >> 1, last >> 1
    return sides if len(sides) == length else None


def _split(size: int) -> int:
    """The largest power of two below a size."""
    return 1 << ((size - 1).bit_length() - 1)


def _require_sizes(earlier: int, later: int) -> None:
    if not 1 <= earlier <= later:
        raise UsageError(f"a tree of {later} leaves has no proof that it grew from {earlier}")


def _not_proved(number: int) -> MalformedError:
    return MalformedError(f"the proof does not show that leaf {number} is in the tree")


def _forked(earlier: int, later: int) -> MalformedError:
    return MalformedError(
        f"the proof does not show that the tree of {later} leaves grew from that of {earlier}"
    )
