"""The tree in a database: whoever appends, its proofs hold."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import delete

from tokensign.audit.log import AuditAppender, reading_tree
from tokensign.audit.proofs import check_consistency, check_inclusion
from tokensign.audit.tree import Frontier, leaf_hash
from tokensign.errors import MalformedError, UsageError
from tokensign.store import Store
from tokensign.store.audit_tables import AUDIT_LEAVES, AUDIT_SUBTREES

if TYPE_CHECKING:
    from collections.abc import Sequence

SIZE = 1300  # five stored subtrees and a part


def append(store: Store, leaves: Sequence[bytes]) -> None:
    with store.writing() as connection:
        appender = AuditAppender(connection)
        for leaf in leaves:
            appender.append(leaf)
        appender.flush()


def root_of(leaves: Sequence[bytes]) -> bytes:
    frontier = Frontier()
    for leaf in leaves:
        frontier.append(leaf_hash(leaf))
    return frontier.root


def test_proofs_from_the_database_hold(place: str) -> None:
    leaves = [b"%d" % number for number in range(SIZE)]
    with Store(place) as store:
        for start in range(0, SIZE, 97):
            append(store, leaves[start : start + 97])
        with reading_tree(store) as tree:
            assert (tree.size, tree.root) == (SIZE, root_of(leaves))
            for number, size in ((0, SIZE), (SIZE - 1, SIZE), (511, 512), (512, 1024), (700, 1025)):
                path = tree.inclusion_proof(number, size)
                check_inclusion(leaf_hash(leaves[number]), number, size, path, root_of(leaves[:size]))
            for earlier, later in ((1, SIZE), (256, SIZE), (255, 257), (1024, 1280), (777, SIZE - 1)):
                path = tree.consistency_proof(earlier, later)
                roots = root_of(leaves[:earlier]), root_of(leaves[:later])
                check_consistency(earlier, later, path, *roots)
            assert tree.leaves(254, 258) == leaves[254:258]
            assert list(tree.all_leaves()) == list(enumerate(leaves))


def test_writers_append_one_after_the_other(place: str) -> None:
    with Store(place) as store:

        def write(name: int) -> None:
            for step in range(20):
                append(store, [b"%d.%d" % (name, step)])

        threads = [threading.Thread(target=write, args=(name,)) for name in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        with reading_tree(store) as tree:
            found = [leaf for _, leaf in tree.all_leaves()]
            assert sorted(found) == sorted(b"%d.%d" % (name, step) for name in range(3) for step in range(20))
            assert tree.root == root_of(found)


def test_what_is_not_flushed_or_not_committed_is_not_there(store: Store) -> None:
    append(store, [b"first"])
    with store.writing() as connection:
        AuditAppender(connection).append(b"never flushed")
    with pytest.raises(RuntimeError):
        append_and_fail(store)
    with reading_tree(store) as tree:
        assert [leaf for _, leaf in tree.all_leaves()] == [b"first"]


def append_and_fail(store: Store) -> None:
    with store.writing() as connection:
        appender = AuditAppender(connection)
        appender.append(b"never committed")
        appender.flush()
        raise RuntimeError


def test_trees_name_themselves_apart(store: Store, tmp_path_factory: pytest.TempPathFactory) -> None:
    place = tmp_path_factory.mktemp("other") / "audit.sqlite"
    with Store(place) as other, reading_tree(store) as one, reading_tree(other) as another:
        assert one.origin != another.origin
        assert one.origin.startswith("tokensign/")


def test_a_proof_over_missing_leaves_is_refused(store: Store) -> None:
    append(store, [b"%d" % number for number in range(600)])
    with store.writing() as connection:
        connection.execute(delete(AUDIT_LEAVES).where(AUDIT_LEAVES.c.number == 550))
    with (
        reading_tree(store) as tree,
        pytest.raises(MalformedError, match="entry 550 of the audit log is miss"),
    ):
        tree.inclusion_proof(599, 600)
    with store.writing() as connection:
        connection.execute(delete(AUDIT_SUBTREES).where(AUDIT_SUBTREES.c.number == 0))
    with (
        reading_tree(store) as tree,
        pytest.raises(MalformedError, match="hashes of the audit tree are miss"),
    ):
        tree.hash_of(0, 512)


@pytest.mark.parametrize(("number", "size"), [(3, 3), (0, 4), (-1, 3), (0, 0)])
def test_proofs_of_what_is_not_there_are_refused(store: Store, number: int, size: int) -> None:
    append(store, [b"1", b"2", b"3"])
    with reading_tree(store) as tree, pytest.raises(UsageError):
        tree.inclusion_proof(number, size)
