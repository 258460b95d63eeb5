"""The hash tree: its roots and proofs are those of RFC 6962."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokensign.audit.proofs import (
    check_consistency,
    check_inclusion,
    consistency_proof,
    inclusion_proof,
)
from tokensign.audit.tree import Frontier, leaf_hash
from tokensign.errors import MalformedError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

# The tree of the tests of Certificate Transparency (merkle_tree_test.cc): leaves, and the root after each.
LEAVES = [
    bytes.fromhex(leaf)
    for leaf in (
        "", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f",
    )
]  # fmt: skip
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
PATH_OF_THE_FIRST = [
    "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
    "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
    "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
]
PROOF_FROM_6_TO_8 = [
    "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
    "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
]


def root_of(leaves: Sequence[bytes]) -> bytes:
    frontier = Frontier()
    for leaf in leaves:
        frontier.append(leaf_hash(leaf))
    return frontier.root


def hash_of(start: int, end: int) -> bytes:
    return root_of(LEAVES[start:end])


def test_the_roots_are_those_of_certificate_transparency() -> None:
    assert root_of([]) == hashlib.sha256().digest()
    assert [root_of(LEAVES[: size + 1]).hex() for size in range(len(LEAVES))] == ROOTS


def test_the_proofs_are_those_of_certificate_transparency() -> None:
    assert [one.hex() for one in inclusion_proof(hash_of, 0, 8)] == PATH_OF_THE_FIRST
    assert [one.hex() for one in consistency_proof(hash_of, 6, 8)] == PROOF_FROM_6_TO_8
    assert inclusion_proof(hash_of, 0, 1) == []
    assert consistency_proof(hash_of, 5, 5) == []


def test_a_frontier_goes_on_where_it_was_written_down() -> None:
    first = Frontier()
    for leaf in LEAVES[:5]:
        first.append(leaf_hash(leaf))
    second = Frontier.decode(5, first.encode())
    completed = [one for leaf in LEAVES[5:] for one in second.append(leaf_hash(leaf))]
    assert second.root.hex() == ROOTS[7]
    assert [(one.level, one.number, one.hash == hash_of(*span)) for one, span in
            zip(completed, [(4, 6), (6, 8), (4, 8), (0, 8)], strict=True)] == [
        (1, 2, True), (1, 3, True), (2, 1, True), (3, 0, True),
    ]  # fmt: skip


@pytest.mark.parametrize(("size", "encoded"), [(3, bytes(32)), (1, b""), (1, bytes(31)), (-1, b"")])
def test_a_frontier_that_cannot_be_is_refused(size: int, encoded: bytes) -> None:
    with pytest.raises(MalformedError):
        Frontier.decode(size, encoded)


sizes = st.integers(min_value=1, max_value=70)
MANY = [bytes([number]) for number in range(70)]


def hash_of_many(start: int, end: int) -> bytes:
    return root_of(MANY[start:end])


@settings(max_examples=40, deadline=None)
@given(sizes, st.data())
def test_every_leaf_is_proved_and_no_other(size: int, data: st.DataObject) -> None:
    number = data.draw(st.integers(0, size - 1))
    path = inclusion_proof(hash_of_many, number, size)
    root = hash_of_many(0, size)
    check_inclusion(leaf_hash(MANY[number]), number, size, path, root)
    other = data.draw(st.integers(0, size - 1).filter(lambda one: one != number)) if size > 1 else number + 1
    wrong = [
        (leaf_hash(b"other"), number, size, path, root),
        (leaf_hash(MANY[number]), other, size, path, root),
        (leaf_hash(MANY[number]), number, size, [*path, bytes(32)], root),
        (leaf_hash(MANY[number]), number, size, path, bytes(32)),
    ]
    if path:
        wrong.append((leaf_hash(MANY[number]), number, size, path[:-1], root))
    for arguments in wrong:
        with pytest.raises(MalformedError):
            check_inclusion(*arguments)


@settings(max_examples=40, deadline=None)
@given(sizes, st.data())
def test_growth_is_proved_and_a_fork_is_not(later: int, data: st.DataObject) -> None:
    earlier = data.draw(st.integers(1, later))
    path = consistency_proof(hash_of_many, earlier, later)
    before, after = hash_of_many(0, earlier), hash_of_many(0, later)
    check_consistency(earlier, later, path, before, after)
    forked = root_of([b"other", *MANY[1:earlier]])
    for arguments in (
        (earlier, later, path, forked, after),
        (earlier, later, path, before, bytes(32)),
        (earlier, later, [*path, bytes(32)], before, after),
    ):
        with pytest.raises(MalformedError):
            check_consistency(*arguments)
    for position in range(len(path)):
        changed = [bytes(32) if number == position else one for number, one in enumerate(path)]
        with pytest.raises(MalformedError):
            check_consistency(earlier, later, changed, before, after)


def test_proofs_of_what_is_not_there_are_refused() -> None:
    with pytest.raises(UsageError):
        inclusion_proof(hash_of, 8, 8)
    with pytest.raises(UsageError):
        consistency_proof(hash_of, 0, 8)
    with pytest.raises(UsageError):
        check_consistency(9, 8, [], bytes(32), bytes(32))
