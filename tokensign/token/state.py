"""The states of a token that a process has open; docs/sessions.md draws how they follow each other."""

from __future__ import annotations

from enum import StrEnum

__all__ = ["TokenState"]


class TokenState(StrEnum):
    """What the next operation on a token meets."""

    CLOSED = "closed"
    """Nobody in this process has the token open."""

    OPEN = "open"
    """It is open; the first operation that needs it logs in."""

    LOGGED_IN = "logged-in"
    """The user is logged in, for all sessions of the process, or the token wants no login."""

    REFUSED = "refused"
    """The token refused the PIN. What needs a login fails untried, until the token is opened anew."""

    LOST = "lost"
    """The token went away or was reset. The next operation looks for it, opens sessions and logs in again."""

    HUNG = "hung"
    """A call into the module did not come back in time. Nobody else is let into the module until it does."""

    FORKED = "forked"
    """The process was forked after the token was opened, and the sessions are the parent's."""
