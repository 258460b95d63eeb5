"""A log that was changed in any way is found out."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import delete, insert, select, update

from tokensign.audit.checkpoint import Checkpoint, make_checkpoint
from tokensign.audit.export import export_log, verify_export
from tokensign.audit.leaves import encode_leaf
from tokensign.audit.log import AuditAppender, reading_tree
from tokensign.audit.verifying import verify_store
from tokensign.errors import FileError, MalformedError
from tokensign.store.audit_tables import AUDIT_CHECKPOINTS, AUDIT_END, AUDIT_LEAVES, AUDIT_SUBTREES

if TYPE_CHECKING:
    from collections.abc import Callable

    from software_signer import SoftwareSigner
    from sqlalchemy import Delete, Update

    from tokensign.store import Store

ROOT = "the root that is stored"
SECOND = "entries 256 to 511"
OTHER = encode_leaf({"kind": "intent", "key": "acme/bob"})


def checkpoint_of(store: Store) -> Checkpoint:
    """What somebody kept elsewhere."""
    with reading_tree(store) as tree:
        return Checkpoint(tree.origin, tree.size, tree.root)


def write_anew(store: Store, leaves: list[bytes]) -> None:
    """What somebody can do who writes the database: a whole new tree, in which everything fits."""
    with store.writing() as connection:
        for table in (AUDIT_LEAVES, AUDIT_SUBTREES):
            connection.execute(delete(table))
        connection.execute(update(AUDIT_END).values(size=0, frontier=b""))
        appender = AuditAppender(connection)
        for leaf in leaves:
            appender.append(leaf)
        appender.flush()


def leaves_of(store: Store) -> list[bytes]:
    with reading_tree(store) as tree:
        return [leaf for _, leaf in tree.all_leaves()]


def test_a_log_that_grew_is_whole(store: Store, grow: Callable[[Store, int], None]) -> None:
    grow(store, 200)
    earlier = checkpoint_of(store)
    grow(store, 200)
    found = verify_store(store, [earlier])
    assert (found.size, found.checkpoints, found.unfinished) == (800, 1, ())
    assert found.root == checkpoint_of(store).root


def test_intents_without_an_outcome_are_told(store: Store) -> None:
    with store.writing() as connection:
        appender = AuditAppender(connection)
        appender.append(OTHER)
        appender.append(OTHER)
        appender.append(encode_leaf({"kind": "outcome", "intent": 0}))
        appender.flush()
    assert verify_store(store).unfinished == (1,)


@pytest.mark.parametrize("intent", ["0", [0], None, 5])
def test_an_outcome_of_nothing_is_told(store: Store, intent: object) -> None:
    with store.writing() as connection:
        appender = AuditAppender(connection)
        appender.append(encode_leaf({"kind": "outcome", "intent": intent}))
        appender.flush()
    with pytest.raises(MalformedError, match="entry 0 of the audit log is the outcome of nothing"):
        verify_store(store)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (update(AUDIT_LEAVES).where(AUDIT_LEAVES.c.number == 300).values(leaf=OTHER), SECOND),
        (update(AUDIT_LEAVES).where(AUDIT_LEAVES.c.number == 302).values(leaf=b"{}"), "outcome of nothing"),
        (update(AUDIT_LEAVES).where(AUDIT_LEAVES.c.number == 9).values(leaf=b"{ }"), "entry 9"),
        (update(AUDIT_LEAVES).where(AUDIT_LEAVES.c.number == 520).values(leaf=OTHER), ROOT),
        (delete(AUDIT_LEAVES).where(AUDIT_LEAVES.c.number == 17), "entry 17 of the audit log is missing"),
        (delete(AUDIT_LEAVES).where(AUDIT_LEAVES.c.number >= 500), "the last are missing"),
        (update(AUDIT_SUBTREES).where(AUDIT_SUBTREES.c.number == 1).values(hash=bytes(32)), SECOND),
        (update(AUDIT_END).values(frontier=bytes(96)), ROOT),
    ],
)  # fmt: skip
def test_a_changed_database_is_found_out(
    store: Store, grow: Callable[[Store, int], None], change: Update | Delete, told: str
) -> None:
    grow(store, 260)  # 520 entries: two full subtrees and a part
    with store.writing() as connection:
        appender = AuditAppender(connection)
        appender.append(encode_leaf({"kind": "intent", "key": "acme/alice"}))  # 520
        appender.flush()
    with store.writing() as connection:
        connection.execute(change)
    with pytest.raises(MalformedError, match=told):
        verify_store(store)


def test_a_fork_is_found_out_by_an_earlier_checkpoint(
    store: Store, grow: Callable[[Store, int], None]
) -> None:
    grow(store, 10)
    kept = checkpoint_of(store)
    leaves = leaves_of(store)
    write_anew(store, [OTHER, encode_leaf({"kind": "outcome", "intent": 0}), *leaves[2:]])
    assert verify_store(store).size == 20  # in itself it is whole
    with pytest.raises(MalformedError, match="the first 20 entries of the audit log are not those"):
        verify_store(store, [kept])
    write_anew(store, leaves[:-2])
    with pytest.raises(MalformedError, match="has 18 entries, and a checkpoint is of 20"):
        verify_store(store, [kept])


def test_a_fork_is_found_out_by_the_stored_checkpoints(
    store: Store, grow: Callable[[Store, int], None], new_signer: Callable[[str], SoftwareSigner]
) -> None:
    grow(store, 3)
    make_checkpoint(store, new_signer("Audit"))
    grow(store, 3)
    leaves = leaves_of(store)
    write_anew(store, leaves[2:4] * 6)
    with pytest.raises(MalformedError, match=r"outcome of nothing|the first 6 entries"):
        verify_store(store)


def test_a_log_that_was_begun_anew_is_not_the_one_of_the_checkpoint(
    store: Store, grow: Callable[[Store, int], None]
) -> None:
    grow(store, 2)
    kept = checkpoint_of(store)
    with store.writing() as connection:
        connection.execute(update(AUDIT_END).values(origin="tokensign/other"))
    with pytest.raises(MalformedError, match=r"is of the log tokensign/[0-9a-f]{32}, and this one is"):
        verify_store(store, [kept])


def test_a_checkpoint_in_another_place_is_found_out(
    store: Store, grow: Callable[[Store, int], None], new_signer: Callable[[str], SoftwareSigner]
) -> None:
    grow(store, 3)
    made = make_checkpoint(store, new_signer("Audit"))
    grow(store, 1)
    with store.writing() as connection:
        row = {"size": 8, "signed_at": made.signed_at, "message": made.message}
        connection.execute(insert(AUDIT_CHECKPOINTS), row)
    with pytest.raises(MalformedError, match="the checkpoint of 8 entries was changed"):
        verify_store(store)


def copy_of(store: Store) -> bytes:
    output = io.BytesIO()
    export_log(store, output)
    return output.getvalue()


def test_a_copy_has_the_octets_that_are_hashed(
    store: Store, grow: Callable[[Store, int], None], new_signer: Callable[[str], SoftwareSigner]
) -> None:
    grow(store, 5)
    made = make_checkpoint(store, new_signer("Audit"))
    copy = copy_of(store)
    header, *lines = copy.splitlines()
    assert lines == leaves_of(store)
    assert json.loads(header)["root"] == made.checkpoint.root.hex()
    found, message = verify_export(io.BytesIO(copy), [made.checkpoint])
    assert (found.size, found.checkpoints, message) == (10, 2, made.pem())


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (b'"pair":1}', b'"pair":2}', "the root that is stored"),
        (b'{"intent":4,"kind":"outcome"}\n', b"", "the last are missing"),
        (b'{"intent":4,"kind":"outcome"}\n', b'{"intent":4,"kind":"outcome"}', "cut off"),
        (b'"log"', b'"lag"', "no copy of an audit log"),
        (b'"size": 6', b'"size": "6"', "no copy of an audit log"),
        (b'"root": "', b'"root": "0', "no copy of an audit log"),
    ],
)
def test_a_changed_copy_is_found_out(
    store: Store, grow: Callable[[Store, int], None], old: bytes, new: bytes, told: str
) -> None:
    grow(store, 3)
    copy = copy_of(store)
    assert old in copy
    with pytest.raises(MalformedError, match=told):
        verify_export(io.BytesIO(copy.replace(old, new)))


def test_a_log_with_a_gap_is_not_copied(store: Store, grow: Callable[[Store, int], None]) -> None:
    grow(store, 3)
    with store.writing() as connection:
        connection.execute(delete(AUDIT_LEAVES).where(AUDIT_LEAVES.c.number == 2))
    with pytest.raises(MalformedError, match="entry 2 of the audit log is missing"):
        copy_of(store)
    with store.reading() as connection:
        assert len(connection.execute(select(AUDIT_LEAVES)).all()) == 5


def test_a_database_without_the_log_is_a_failure_of_the_database(store: Store) -> None:
    with store.writing() as connection:
        connection.exec_driver_sql("DROP TABLE audit_leaves")
    with pytest.raises(FileError):
        verify_store(store)
