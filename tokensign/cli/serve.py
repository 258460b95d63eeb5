"""`tokensign serve`: the signing service."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tokensign.cli.command import Cli, Command
from tokensign.cli.database import database_option, open_database
from tokensign.cli.signals import SignalError
from tokensign.errors import ConfigurationError, LaneDownError

if TYPE_CHECKING:
    from collections.abc import Callable

    from tokensign.cades.extend import ExtensionMeans
    from tokensign.errors import TokensignError
    from tokensign.pki.policy import TrustPolicy
    from tokensign.service.settings import ServiceSettings
    from tokensign.store import Store

__all__ = ["serve"]

_REASONS = "see the reasons above"


@click.command(cls=Command)
@click.option("--check", is_flag=True, help="See whether the service would start, and do not start it.")
@click.option("--dev", is_flag=True, help="Try it: with a token, a CA, clients and grants made for that.")
@click.option(
    "--dir",
    "folder",
    metavar="DIR",
    type=click.Path(file_okay=False, readable=False),
    default="tokensign-dev",
    show_default=True,
    help="Where --dev makes them, and finds them the next time.",
)
@click.option("--listen", metavar="HOST:PORT", help="Where. [default: service.listen]")
@database_option
@click.pass_obj
def serve(cli: Cli, check: bool, dev: bool, folder: str, listen: str | None, database: str | None) -> None:
    """Sign, decrypt and verify over HTTPS for whoever has a grant, until SIGTERM or Ctrl-C.

    The table [service] of the configuration says which tokens are served, at which address, and whose
    certificates are accepted; `tokensign grant` says who may do what. Each token has processes of its own,
    which alone load its PKCS#11 module and read its PIN.

    \b
    Examples:
      tokensign serve --config service.toml --check
      tokensign serve --config service.toml
      tokensign serve --dev
    """
    from tokensign.extras import extra

    with extra("service"):
        from tokensign.service.settings import load_service_settings
    hints: Callable[[str], list[str]] = _no_hints
    if dev:
        from tokensign.cli.serve_dev import furnish

        place = furnish(cli, Path(folder).absolute())
        cli, hints, database = replace(cli, config=str(place.config)), place.open, None
    if not cli.settings.service:
        raise ConfigurationError(
            "the configuration has no table [service]",
            hint="docs/service.md has an example; name its file with --config",
        )
    table = cli.settings.service if listen is None else {**cli.settings.service, "listen": listen}
    settings = load_service_settings(table, cli.settings.folder)
    with open_database(cli, database) as store:
        if check:
            _check(cli, settings, store)
        else:
            _serve(cli, settings, store, hints)


def _no_hints(_url: str) -> list[str]:
    return []


def _serve(cli: Cli, settings: ServiceSettings, store: Store, hints: Callable[[str], list[str]]) -> None:
    from tokensign.extras import extra

    with extra("service"):
        from tokensign.authority.http_server import address_of, listening
        from tokensign.service.app import application
        from tokensign.service.server import ServiceServer
        from tokensign.service.start import assembled
        from tokensign.service.telemetry import configure_logging
    configure_logging()
    context = assembled(settings, store, _trust(cli), _means(cli, settings))
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(listening(*settings.listen))
        server = ServiceServer(application(context), listener, settings, context.tls)
        document = {"url": f"{'https' if settings.tls else 'http'}://{address_of(listener)}"}
        if settings.metrics is not None:
            metrics = context.telemetry.serve_metrics(*settings.metrics)
            stack.callback(metrics.stop)
            document["metrics"] = f"http://{metrics.address}/metrics"
        for name, where in document.items():
            cli.output.status(f"{'listening' if name == 'url' else name} at {where}")
        for line in hints(f"https://localhost:{listener.getsockname()[1]}"):
            cli.output.text(line)
        cli.output.document(document)
        sys.stdout.flush()
        with contextlib.suppress(SignalError):
            server.run()
    cli.output.status("stopped; what was asked before is answered")


def _check(cli: Cli, settings: ServiceSettings, store: Store) -> None:
    """See whether all files can be used and all tokens be logged in on; each PIN is tried once.

    Raises:
        ConfigurationError: Something would not work.
        LaneDownError: A token cannot be used.
    """
    from tokensign.extras import extra

    with extra("service"):
        from tokensign.service.checking import look
        from tokensign.service.start import assembled
    assembled(settings, store, _trust(cli), _means(cli, settings)).documents.close()
    logging.getLogger("tokensign.service").setLevel(logging.CRITICAL)  # what it tells is told below
    found = asyncio.run(look(settings))
    for name, state in found.lanes.items():
        keys = [key for key in found.keys if key.startswith(f"{name}/")]
        told = f"its keys: {', '.join(keys) or 'none'}" if state.status == "up" else state.reason
        cli.output.text(f"lane {name} is {state.status}; {told}")
    for remark in found.remarks:
        cli.output.status(f"warning: {remark}")
    lanes = {name: {"status": one.status, "reason": one.reason} for name, one in found.lanes.items()}
    cli.output.document(
        {
            "lanes": lanes,
            "keys": list(found.keys),
            "troubles": list(found.troubles),
            "remarks": list(found.remarks),
        }
    )
    for trouble in found.troubles:
        cli.output.text(trouble)
    failed = [name for name, state in found.lanes.items() if state.status != "up"]
    if not failed and not found.troubles:
        cli.output.status("the service would start")
        return
    error: TokensignError = (
        LaneDownError(f"the service would start without {', '.join(failed)}", hint=_REASONS)
        if failed
        else ConfigurationError("not all that the settings say would work", hint=_REASONS)
    )
    if cli.json:
        raise click.exceptions.Exit(error.exit_code)
    raise error


def _trust(cli: Cli) -> TrustPolicy | None:
    """Whom the configuration trusts, or None."""
    from tokensign.cli.trust import TrustOptions
    from tokensign.pki.purpose import Purpose

    configured = TrustOptions((), None, (), (), (), no_fetch=False, allow_private=())
    return configured.policy(cli, Purpose.EMAIL_PROTECTION, None) if configured.is_given(cli) else None


def _means(cli: Cli, settings: ServiceSettings) -> ExtensionMeans | None:
    """What makes the levels of CAdES above B-B, or None."""
    if settings.tsa is None:
        return None
    from tokensign.cades.levels import Level
    from tokensign.cli.timestamp import extension_means
    from tokensign.cli.trust import TrustOptions

    configured = TrustOptions((), None, (), (), (), no_fetch=False, allow_private=())
    return extension_means(cli, Level.B_LT, settings.tsa, configured)
