"""Certificates that end soon: the option that asks for them, and the warning."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Callable

    from tokensign.cli.command import Cli

__all__ = ["expiring_option", "warn_of_expiry"]


def expiring_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the parameter `expiring`, days or None."""
    return click.option(
        "--expiring",
        metavar="DAYS",
        type=click.IntRange(0, 36500),
        help="Only those that end within so many days, or have ended.",
    )(command)


def warn_of_expiry(cli: Cli, name: str, valid_until: str | None, days: int) -> bool:
    """Warn of a certificate that ends soon.

    Args:
        cli: The common options.
        name: What to call the certificate or its key.
        valid_until: When it ends (ISO 8601), or None: there is no certificate.
        days: What is soon.

    Returns:
        Whether it ends within these days, or has ended.
    """
    if valid_until is None:
        return False
    now, end = datetime.now(UTC), datetime.fromisoformat(valid_until)
    if end > now + timedelta(days=days):
        return False
    if end < now:
        cli.output.status(f"warning: {name}: the certificate expired on {end:%Y-%m-%d}")
    else:
        left = (end - now).days
        when = {0: "within a day", 1: "in 1 day"}.get(left, f"in {left} days")
        cli.output.status(f"warning: {name}: the certificate ends on {end:%Y-%m-%d}, {when}")
    return True
