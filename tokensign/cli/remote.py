"""Keys of a signing service: the option --service, and what the commands with it do."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import click

from tokensign.cli.inputs import find_signer, require_valid_now, source_from
from tokensign.cli.output import named
from tokensign.errors import ConfigurationError, KeyNotFoundError, UsageError
from tokensign.files import STANDARD_STREAM, open_input, open_output

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tokensign.cli.command import Cli
    from tokensign.cli.holder import HeldKey
    from tokensign.service.client import ServiceClient
    from tokensign.service.remote_key import RemoteKey

    SigningKey = HeldKey | RemoteKey

__all__ = ["decrypt_remotely", "find_signers", "list_remotely", "service_option"]


def service_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the parameter `service`."""
    return click.option(
        "--service",
        metavar="URL",
        envvar="TOKENSIGN_SERVICE",
        show_envvar=True,
        help="Use the keys of this signing service; [remote] of the configuration has the credentials.",
    )(command)


@contextlib.contextmanager
def open_service(cli: Cli, url: str) -> Iterator[ServiceClient]:
    """The service with a URL, as long as the block lasts.

    Raises:
        ConfigurationError: [remote] has no credentials for it.
    """
    from tokensign.service.client import ClientCredentials, ServiceClient

    remote = cli.settings.remote
    if remote.url is None or remote.url.rstrip("/") != url.rstrip("/"):
        raise ConfigurationError(
            f"the configuration has no credentials for {url}",
            hint=f"its [remote] is for {remote.url}"
            if remote.url is not None
            else f'write [remote] with url = "{url}", and certificate and key, or token-source',
        )
    credentials = ClientCredentials(remote.certificate, remote.key, _bearer(remote.token_source), remote.ca)
    with ServiceClient(url, credentials) as client:
        yield client


def _bearer(source: str | None) -> str | None:
    from tokensign.token import PinRequest

    found = source_from(source)
    if found is None:
        return None
    secret = found.get(PinRequest(purpose="the signing service", what="API key"))
    return None if secret is None else secret.reveal().decode("ascii", "replace").strip()


@contextlib.contextmanager
def find_signers(
    cli: Cli, names: tuple[str, ...], service: str | None, *, action: str
) -> Iterator[Sequence[SigningKey]]:
    """The signing keys with some names, here or at a service, as long as the block lasts.

    Args:
        cli: The common options.
        names: As `tokensign.cli.inputs.find_signer` takes them, or ids or labels of keys of the service.
        service: Its URL, or None.
        action: What is going to be done, for a person who is asked for the PIN.

    Raises:
        KeyNotFoundError: There is no such key, or it has no certificate.
        UntrustedError: A certificate is not valid now.
    """
    with contextlib.ExitStack() as stack:
        if service is None:
            yield [stack.enter_context(find_signer(cli, name, action=action)) for name in names]
            return
        client = stack.enter_context(open_service(cli, service))
        found = [client.key(name) for name in names]
        for key in found:
            if key.certificate is None:
                raise KeyNotFoundError(f"the key {key.id} has no certificate at {client.url}")
            require_valid_now(key.certificate, "tell the operator of the service")
        yield found


def decrypt_remotely(
    cli: Cli, service: str, source: str, name: str | None, output: str, *, force: bool
) -> None:
    """Let a service decrypt a file.

    Args:
        cli: The common options.
        service: Its URL.
        source: The message.
        name: The key's id or label there.
        output: Where the content goes.
        force: Replace it if it exists.

    Raises:
        UsageError: No key is named.
        DecryptionError: It cannot be decrypted with that key.
    """
    from tokensign.cms.content_info import CONTENT_TYPE_NAMES
    from tokensign.smime.unwrap import open_message

    if name is None:
        raise UsageError("a service is not asked to try all keys", hint="name one with --key")
    with (
        open_service(cli, service) as client,
        open_input(source) as stream,
        open_message(stream) as opened,
        open_output(output, force=force, mode=0o600) as destination,
    ):
        key = client.key(name)
        told = client.decrypt(key.id, opened.cms, destination)
    kind, cipher = told.get("tokensign-content-type", ""), told.get("tokensign-cipher")
    authenticated = told.get("tokensign-authenticated") == "yes"
    state = (
        "unchanged since it was encrypted"
        if authenticated
        else "not authenticated, anybody may have changed it"
    )
    cli.output.status(f"{named(output)}: decrypted by {client.url} ({cipher}, {state})")
    cli.output.document(
        {
            "output": output,
            "content_type": CONTENT_TYPE_NAMES.get(kind, kind),
            "cipher": cipher,
            "authenticated": authenticated,
            "key": key.id,
        },
        on_stderr=output == STANDARD_STREAM,
    )


def list_remotely(cli: Cli, service: str) -> None:
    """Show the keys of a service that the caller may use."""
    with open_service(cli, service) as client:
        keys = client.keys()
    columns = ("key", "type", "operations", "state", "certificate")
    rows = [
        (
            key.id,
            key.info.spec,
            ", ".join(key.info.operations),
            key.info.state,
            key.certificate.subject if key.certificate else "none",
        )
        for key in keys
    ]
    cli.output.table(columns, rows, f"there is no key that you may use at {service}")
    cli.output.document(
        [
            {
                "key": key.id,
                "uri": str(key.info.uri),
                "type": key.info.spec,
                "schemes": list(key.info.schemes),
                "operations": list(key.info.operations),
                "state": key.info.state,
                "certificate": key.certificate.subject if key.certificate else None,
            }
            for key in keys
        ]
    )
