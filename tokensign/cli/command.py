"""What all commands share: the common options before or after a command's name, and lazy loading."""

from __future__ import annotations

import contextlib
import importlib
import signal
from dataclasses import dataclass, fields, replace
from functools import cached_property, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
from click.shell_completion import CompletionItem

from tokensign.cli.output import Output
from tokensign.settings import PIN_SOURCES, Settings, load_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

__all__ = ["EXIT_BROKEN_PIPE", "PATH", "PIN_SOURCE", "Cli", "Command", "Group", "LazyGroup", "grouped"]

EXIT_BROKEN_PIPE: Final = 128 + signal.SIGPIPE
PATH: Final = click.Path(readable=False, allow_dash=True)
"""Any path, so that shells complete it; whether it can be read is seen when it is."""


class _PinSource(click.ParamType[str]):
    """Where a PIN or another secret comes from; shells are offered the forms, without their arguments."""

    name = "spec"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:  # noqa: ARG002 - click's
        """It is read when the secret is needed."""
        return value

    def shell_complete(
        self,
        ctx: click.Context,  # noqa: ARG002 - click's
        param: click.Parameter,  # noqa: ARG002 - click's
        incomplete: str,
    ) -> list[CompletionItem]:
        """The forms that begin as what was typed does."""
        forms = PIN_SOURCES.replace(" or ", ", ").split(", ")
        starts = [form[: form.find(":") + 1] or form for form in forms]
        return [CompletionItem(start) for start in starts if start.startswith(incomplete)]


PIN_SOURCE: Final = _PinSource()
"""Where a PIN or another secret comes from, in one of the forms of `tokensign.settings.PIN_SOURCES`."""


@dataclass(frozen=True)
class Cli:
    """The common options of a call, and what follows from them.

    Attributes:
        module: The PKCS#11 module that was named, or None.
        token: The token that was named, or None.
        pin_source: The PIN source that was named, or None.
        last_try: Try a PIN even if a wrong one would lock it.
        config: The configuration file that was named, or None.
        json: Print one JSON document.
        verbose: How many times -v was given.
        quiet: Print results and errors only.
    """

    module: str | None = None
    token: str | None = None
    pin_source: str | None = None
    last_try: bool = False
    config: str | None = None
    json: bool = False
    verbose: int = 0
    quiet: bool = False

    @cached_property
    def settings(self) -> Settings:
        """The configuration file."""
        return load_settings(Path(self.config) if self.config else None)

    @cached_property
    def output(self) -> Output:
        """Where results go."""
        return Output(json=self.json, quiet=self.quiet)


def _remember(context: click.Context, parameter: click.Parameter, value: object) -> None:
    """Put a common option into the context's `Cli`; one given further right wins."""
    if value and parameter.name:
        changed: dict[str, Any] = {parameter.name: value}
        context.obj = replace(context.find_object(Cli) or Cli(), **changed)


_COMMON: Final[tuple[tuple[tuple[str, ...], dict[str, Any]], ...]] = (
    (
        ("--module",),
        {"metavar": "PATH", "type": PATH, "help": "The PKCS#11 library.", "envvar": "TOKENSIGN_MODULE"},
    ),
    (
        ("--token",),
        {"metavar": "LABEL|URI", "help": "Which token, when there are several.", "envvar": "TOKENSIGN_TOKEN"},
    ),
    (
        ("--pin-source",),
        {
            "metavar": "SPEC",
            "type": PIN_SOURCE,
            "help": f"Where the PIN comes from: {PIN_SOURCES}.",
            "envvar": "TOKENSIGN_PIN_SOURCE",
        },
    ),
    (("--last-try",), {"is_flag": True, "help": "Try a PIN even if a wrong one would lock it."}),
    (
        ("--config",),
        {"metavar": "FILE", "type": PATH, "help": "The configuration file.", "envvar": "TOKENSIGN_CONFIG"},
    ),
    (("--json",), {"is_flag": True, "help": "Print one JSON document."}),
    (("-v", "--verbose"), {"count": True, "help": "Tell which module and token are used."}),
    (("-q", "--quiet"), {"is_flag": True, "help": "Tell results and errors only."}),
)


def _common_options(*, outermost: bool) -> list[click.Parameter]:
    """The options that every command takes; the environment is read once, by the outermost one."""
    options: list[click.Parameter] = []
    for names, attributes in _COMMON:
        settings = dict(attributes)
        if not outermost:
            settings.pop("envvar", None)
        options.append(
            click.Option(
                names, expose_value=False, callback=_remember, show_envvar=outermost, default=None, **settings
            )
            if "is_flag" not in settings and "count" not in settings
            else click.Option(names, expose_value=False, callback=_remember, **settings)
        )
    return options


class _WithCommonOptions(click.Command):
    """Takes the common options; its help shows its own options first, then the common ones."""

    def __init__(self, *arguments: Any, **attributes: Any) -> None:  # noqa: ANN401 - click's
        super().__init__(*arguments, **attributes)
        self.params.extend(_common_options(outermost=False))

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options in two groups."""
        records = {parameter: parameter.get_help_record(ctx) for parameter in self.get_params(ctx)}
        common = {name for names, _ in _COMMON for name in names}
        for heading, wanted in (("Options", False), ("Common options", True)):
            rows = [
                record
                for parameter, record in records.items()
                if record is not None and (parameter.opts[0] in common) is wanted
            ]
            with formatter.section(heading):
                formatter.write_dl(rows)


class Command(_WithCommonOptions):
    """A command."""

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401 - click's
        """Run the command, with the library's log on stderr."""
        from tokensign.cli.log import show_log

        show_log(ctx.ensure_object(Cli))
        return super().invoke(ctx)


class Group(_WithCommonOptions, click.Group):
    """A group of commands, such as `tokensign key`."""

    command_class = Command

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands, then the options."""
        self.format_commands(ctx, formatter)
        super().format_options(ctx, formatter)


class LazyGroup(click.Group):
    """The root, or a group of its own: a command's module is imported when the command is called.

    Args:
        lazy: Command name to its module, its attribute there, and its summary.
        outermost: Whether it is the root, which reads the environment.
    """

    def __init__(
        self,
        *arguments: Any,  # noqa: ANN401 - click's
        lazy: Mapping[str, tuple[str, str, str]],
        outermost: bool = True,
        **attributes: Any,  # noqa: ANN401 - click's
    ) -> None:
        super().__init__(*arguments, **attributes)
        self._lazy = lazy
        self.params.extend(_common_options(outermost=outermost))

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,  # noqa: ANN401 - click's
    ) -> click.Context:
        """Parse the options before the command, and print --help and --version."""
        with _own_exit_code():
            return super().make_context(info_name, args, parent, **extra)

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401 - click's
        """Run the command."""
        with _own_exit_code():
            return super().invoke(ctx)

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's
        """All commands, in the order in which they are declared."""
        return list(self._lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's
        """Import a command."""
        if cmd_name not in self._lazy:
            return None
        module, attribute, _ = self._lazy[cmd_name]
        found: click.Command = getattr(importlib.import_module(module), attribute)
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, _, summary) in self._lazy.items()])


@contextlib.contextmanager
def _own_exit_code() -> Iterator[None]:
    """When the reader of a pipe goes away, click would exit with 1, which here means a bad signature."""
    try:
        yield
    except BrokenPipeError:
        raise click.exceptions.Exit(EXIT_BROKEN_PIPE) from None


def grouped(
    name: str, kind: type[Any], options: Sequence[Callable[..., Any]]
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A decorator that gives a command some options, whose values it gets as one argument.

    Args:
        name: The argument.
        kind: A dataclass with a field for each of the options, by its name.
        options: What `click.option` makes, in the order in which --help has them.
    """
    names = [entry.name for entry in fields(kind)]

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(command)
        def with_options(*arguments: Any, **values: Any) -> Any:  # noqa: ANN401 - click's
            own = {one: values.pop(one) for one in names}
            return command(*arguments, **values, **{name: kind(**own)})

        for option in reversed(options):
            with_options = option(with_options)
        return with_options

    return decorate
