"""What the commands of a CA share: which CA, its key, serial numbers and profiles as they are written."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import click

from tokensign.cli.completions import complete_authorities
from tokensign.cli.inputs import find_key
from tokensign.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tokensign.authority import Authority, CertificateRecord
    from tokensign.cli.command import Cli
    from tokensign.cli.holder import HeldKey
    from tokensign.store import Store

__all__ = ["SERIAL", "ca_key_option", "ca_option", "find_ca_key", "parent_ca", "record_document"]

_SERIAL_DIGITS = 40  # hexadecimal; RFC 5280 section 4.1.2.2 has 20 octets


class _Serial(click.ParamType[int]):
    """A serial number in hexadecimal, as `tokensign ca list` and OpenSSL print it."""

    name = "serial"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:  # noqa: ANN401 - click's
        text = value.replace(":", "")
        try:
            return int(text[: _SERIAL_DIGITS + 1], 16)
        except ValueError:
            self.fail(f"{value!r} is not a serial number; write it in hexadecimal, as in ca list", param, ctx)


SERIAL = _Serial()
"""A serial number."""


def ca_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the parameter `name`: which CA."""
    return click.option(
        "--ca",
        "name",
        metavar="NAME",
        shell_complete=complete_authorities,
        help="Which CA. [default: the only one]",
    )(command)


def ca_key_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the parameter `key`, for `find_ca_key`."""
    return click.option("--key", metavar="KEY", help="The key of the CA. [default: as `ca init` was told]")(
        command
    )


@contextlib.contextmanager
def find_ca_key(cli: Cli, authority: Authority, key: str | None, *, action: str) -> Iterator[HeldKey]:
    """The key of a CA, as long as the block lasts.

    Args:
        cli: The common options.
        authority: The CA.
        key: What --key says.
        action: What is going to be done with it, for a person who is asked for the PIN.

    Raises:
        UsageError: Nothing says where it is.
    """
    from tokensign.algorithms import KeyUsage

    name = key or authority.key_uri
    if not name:
        raise UsageError(f"it is not known where the key of {authority.name} is", hint="name it with --key")
    with find_key(cli, name, KeyUsage.SIGN, action=action) as found:
        yield found


@contextlib.contextmanager
def parent_ca(
    cli: Cli, store: Store, name: str | None, key: str | None
) -> Iterator[tuple[Authority, HeldKey] | None]:
    """The CA that issues the certificate of a CA, with its key, as long as the block lasts.

    Args:
        cli: The common options.
        store: The database.
        name: What the CA is called; None for none.
        key: What --parent-key says.

    Raises:
        UsageError: There is none of that name, or nothing says where its key is.
    """
    from tokensign.authority import open_authority

    if name is None:
        yield None
        return
    authority = open_authority(store, name)
    with find_ca_key(cli, authority, key, action="issue the certificate of a CA") as signer:
        yield authority, signer


def record_document(authority: Authority, record: CertificateRecord) -> dict[str, Any]:
    """What is known of a certificate, as JSON has it."""
    return {
        "ca": authority.name,
        "serial_number": f"{record.serial:x}",
        "status": "hold" if record.held else record.status.status.value,
        "state": record.state.value,
        "profile": record.profile,
        "subject": record.subject,
        "emails": list(record.emails),
        "not_before": record.not_before.isoformat(),
        "not_after": record.not_after.isoformat(),
        "revoked_at": record.revoked_at and record.revoked_at.isoformat(),
        "reason": record.reason and record.reason.value,
        "request": record.request_id,
        "replaces": record.replaces and f"{record.replaces:x}",
    }
