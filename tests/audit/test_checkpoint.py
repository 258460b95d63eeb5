"""Checkpoints: signed only where the log is whole, and readable by others."""

from __future__ import annotations

import base64
import subprocess
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import delete, update

from tokensign.audit.checkpoint import (
    Checkpoint,
    latest_checkpoint,
    make_checkpoint,
    open_checkpoint,
    read_checkpoint,
    stored_checkpoints,
)
from tokensign.audit.log import reading_tree
from tokensign.errors import MalformedError, TokensignError, UntrustedError, UsageError, VerificationError
from tokensign.store.audit_tables import AUDIT_LEAVES

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from software_signer import SoftwareSigner

    from tokensign.store import Store

    Grow = Callable[[Store, int], None]
    NewSigner = Callable[[str], SoftwareSigner]


def test_openssl_reads_what_is_signed(
    store: Store, grow: Grow, new_signer: NewSigner, tmp_path: Path
) -> None:
    signer = new_signer("Audit")
    grow(store, 4)
    made = make_checkpoint(store, signer)
    assert signer.certificate is not None
    (tmp_path / "checkpoint.pem").write_bytes(made.pem())
    (tmp_path / "audit.pem").write_text(signer.certificate.pem())
    shown = subprocess.run(
        ["openssl", "cms", "-verify", "-inform", "PEM", "-in", "checkpoint.pem", "-CAfile", "audit.pem",
         "-purpose", "any"],
        cwd=tmp_path, capture_output=True, check=True,
    )  # fmt: skip
    with reading_tree(store) as tree:
        root = base64.b64encode(tree.root).decode()
        assert shown.stdout.decode().splitlines() == [tree.origin, "8", root]


def test_a_checkpoint_is_made_once_for_a_tree(store: Store, grow: Grow, new_signer: NewSigner) -> None:
    signer = new_signer("Audit")
    grow(store, 1)
    first = make_checkpoint(store, signer)
    assert make_checkpoint(store, signer) == first
    grow(store, 1)
    second = make_checkpoint(store, signer)
    with store.reading() as connection:
        assert list(stored_checkpoints(connection)) == [first, second]
        assert latest_checkpoint(connection) == second
    assert (first.checkpoint.size, second.checkpoint.size) == (2, 4)


def test_an_empty_log_is_not_signed(store: Store, new_signer: NewSigner) -> None:
    with pytest.raises(UsageError, match="the audit log is empty"):
        make_checkpoint(store, new_signer("Audit"))
    with store.reading() as connection:
        assert latest_checkpoint(connection) is None


@pytest.mark.parametrize("with_earlier", [False, True])
def test_a_log_that_was_changed_is_not_signed(
    store: Store, grow: Grow, new_signer: NewSigner, *, with_earlier: bool
) -> None:
    grow(store, 2)
    if with_earlier:
        make_checkpoint(store, new_signer("Audit"))
        grow(store, 2)
    with store.writing() as connection:
        connection.execute(update(AUDIT_LEAVES).where(AUDIT_LEAVES.c.number == 1).values(leaf=b"{}"))
    with pytest.raises(MalformedError, match="not what it was"):
        make_checkpoint(store, new_signer("Audit"))
    with store.writing() as connection:
        connection.execute(delete(AUDIT_LEAVES).where(AUDIT_LEAVES.c.number == 1))
    with pytest.raises(MalformedError, match="entry 1 of the audit log is missing"):
        make_checkpoint(store, new_signer("Audit"))


def test_another_signer_and_a_changed_text_are_refused(
    store: Store, grow: Grow, new_signer: NewSigner
) -> None:
    signer, other = new_signer("Audit"), new_signer("Bob")
    grow(store, 2)
    made = make_checkpoint(store, signer)
    assert open_checkpoint(made.message, signer.certificate) == made.checkpoint
    assert open_checkpoint(made.pem(), None) == made.checkpoint
    with pytest.raises(UntrustedError, match="not signed by the key of CN=Bob"):
        open_checkpoint(made.message, other.certificate)
    changed = made.message.replace(b"\n4\n", b"\n3\n")
    assert read_checkpoint(changed).size == 3
    with pytest.raises(VerificationError):
        open_checkpoint(changed, signer.certificate)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"log\n4\n",
        b"log\n04\n" + base64.b64encode(bytes(32)) + b"\n",
        b"log\n4\n" + base64.b64encode(bytes(31)) + b"\n",
        b"log\n4\n" + base64.b64encode(bytes(32)),
        b"\n4\n" + base64.b64encode(bytes(32)) + b"\n",
    ],
)
def test_another_text_is_no_checkpoint(text: bytes) -> None:
    with pytest.raises(MalformedError):
        Checkpoint.decode(text)


def test_lines_of_others_are_passed_over() -> None:
    checkpoint = Checkpoint("log", 4, bytes(32))
    assert Checkpoint.decode(checkpoint.encode() + b"a line of somebody else\n") == checkpoint


def test_what_is_no_message_is_refused() -> None:
    with pytest.raises(TokensignError):
        open_checkpoint(b"checkpoint", None)
