"""Keys of services, such as a timestamp authority, with the certificates that they need for that."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from tokensign.cli.inputs import key_name, open_holder, require_valid_now
from tokensign.errors import KeyNotFoundError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

    from tokensign.cli.command import Cli
    from tokensign.cli.holder import HeldKey

__all__ = ["find_service_key"]


@contextlib.contextmanager
def find_service_key(
    cli: Cli,
    name: str,
    purpose: str,
    *,
    profile: str,
    action: str,
    certified: Collection[PublicKeyTypes] = (),
) -> Iterator[HeldKey]:
    """A key with its newest certificate for a purpose, as long as the block lasts.

    Args:
        cli: The common options.
        name: As for `tokensign.cli.inputs.find_key`.
        purpose: The KeyPurposeId that the certificate must have: "time_stamping" or "ocsp_signing".
        profile: Of certificates with it, for a hint.
        action: What is going to be done with it, for a person who is asked for the PIN.
        certified: Keys that need no such certificate, as a CA's own key needs none for OCSP.

    Raises:
        KeyNotFoundError: The key has no such certificate.
        UntrustedError: None of them is valid now.
    """
    from tokensign.algorithms import KeyUsage

    strict = cli.settings.require_non_extractable
    with open_holder(cli, name, action=f"{action} with the key {name}") as holder:
        key = holder.open_key(key_name(name), KeyUsage.SIGN, require_non_extractable=strict)
        if key.public_key in certified:
            yield key
            return
        fitting = [one for one in key.certificates if purpose in (one.extended_key_usage or ())]
        if not fitting:
            raise KeyNotFoundError(
                f"the key {key.info.label} has no certificate for {purpose.replace('_', ' ')}",
                hint=f"`tokensign ca issue --profile {profile}` makes one, and `cert import` stores it",
            )
        now = datetime.now(UTC)
        newest = max(fitting, key=lambda one: (one.is_valid_at(now), one.not_before))
        require_valid_now(newest, f"issue a new one with `tokensign ca issue --profile {profile}`")
        yield holder.open_key(newest, KeyUsage.SIGN, require_non_extractable=strict)
