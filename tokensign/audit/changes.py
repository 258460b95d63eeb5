"""Changes in the audit log: what was done, by whom and when, in the transaction that did it.

A CA that issues, a registration authority that approves, a grant that is revoked: all that is not a use of a
key through the service, whose intents and outcomes `tokensign.service.journal` records in the same tree.
"""

from __future__ import annotations

import os
import pwd
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from tokensign.audit.leaves import decode_leaf, encode_leaf, timestamp
from tokensign.audit.log import AuditAppender, reading_tree

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from sqlalchemy import Connection

    from tokensign.store import Store

__all__ = ["Change", "changes", "record_change", "this_person"]


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that was done.

    Attributes:
        number: Of the entry in the log.
        at: When.
        actor: Who did it, as the system or the registration authority names people.
        action: What, such as "certificate issued".
        details: About what: names and values that JSON has.
    """

    number: int
    at: datetime
    actor: str
    action: str
    details: Mapping[str, Any]


def record_change(
    connection: Connection, action: str, details: Mapping[str, Any], *, actor: str | None = None
) -> None:
    """Write an entry, in the transaction of what it tells of: both are there, or neither.

    Call it last in the transaction, because other processes wait for the end of the log until that ends.

    Args:
        connection: A transaction of `Store.writing`.
        action: What was done, in two or three words.
        details: About what: values that `encode_leaf` takes. No PIN, key or one-time code belongs here.
        actor: Who did it; None for the user of this process.

    Raises:
        UsageError: The details have other values, or are too large.
        FileError: The database fails.
    """
    appender = AuditAppender(connection)
    entry = {
        "kind": "change",
        "at": timestamp(),
        "actor": this_person() if actor is None else actor,
        "action": action,
        "details": dict(details),
    }
    appender.append(encode_leaf(entry))
    appender.flush()


def changes(store: Store) -> Iterator[Change]:
    """All changes, the oldest first. `tokensign.audit.verifying.verify_store` tells whether the log is whole.

    Raises:
        MalformedError: An entry cannot be read.
        FileError: The database fails.
    """
    with reading_tree(store) as tree:
        for number, leaf in tree.all_leaves():
            entry = decode_leaf(leaf)
            if entry["kind"] == "change":
                at = datetime.fromisoformat(entry["at"])
                yield Change(number, at, entry["actor"], entry["action"], entry["details"])


def this_person() -> str:
    """The account of this process, as the system names it; the environment has no say."""
    number = os.getuid()
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:  # an account that the system has no name for
        return f"account {number}"
