"""`tokensign compress` and `tokensign decompress`."""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING, Any, Final

import click

from tokensign.cli.command import PATH, Cli, Command
from tokensign.cli.forms import FORMS, message_of
from tokensign.cli.inputs import default_output
from tokensign.cli.output import named
from tokensign.cms.content_info import CONTENT_TYPE_NAMES
from tokensign.files import STANDARD_STREAM, open_input, open_output

if TYPE_CHECKING:
    from tokensign.cms.compressed import DecompressionLimit

__all__ = ["compress", "decompress"]

_UNITS: Final = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


class _Size(click.ParamType[int]):
    """A number of bytes: 1000, 64K, 500M, 20G."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:  # noqa: ANN401 - click's
        match = re.fullmatch(r"([0-9]{1,15})([KMGT]?)", str(value).upper())
        if match is None:
            self.fail(f"{value!r} is not a size; write 1000, 64K, 500M or 20G", param, ctx)
        return int(match[1]) * _UNITS[match[2]]


@click.command(cls=Command)
@click.argument("source", metavar="INPUT", type=PATH)
@click.option("--form", type=FORMS, default="der", show_default=True)
@click.option("-o", "--output", metavar="OUT", type=PATH, help="Where the result goes. [default: INPUT.p7z]")
@click.option("--force", is_flag=True, help="Replace OUT if it exists.")
@click.pass_obj
def compress(cli: Cli, source: str, form: str, output: str | None, force: bool) -> None:
    """Compress INPUT with ZLIB into CompressedData (RFC 3274). Nothing in it is protected.

    Compress before you encrypt, not what others can add to: the size of the result tells of its content.

    \b
    Examples:
      tokensign compress contract.pdf
      tokensign compress contract.pdf --form smime -o mail.eml
    """
    from tokensign.cms.compressed import compress as compress_content

    target = output or default_output(source, ".eml" if form == "smime" else ".p7z")
    with contextlib.ExitStack() as stack:
        stream = stack.enter_context(open_input(source))
        destination = stack.enter_context(open_output(target, force=force))
        content = stack.enter_context(cli.output.progress(stream, f"compressing {source}"))
        with message_of(content, source, form, "compressed-data", destination) as (plain, message):
            compress_content(plain, message)
    cli.output.status(f"{named(target)}: compressed")
    cli.output.document({"output": target, "form": form}, on_stderr=target == STANDARD_STREAM)


@click.command(cls=Command)
@click.argument("source", metavar="INPUT", type=PATH)
@click.option("-o", "--output", metavar="OUT", type=PATH, required=True, help="Where the content goes.")
@click.option(
    "--limit",
    type=_Size(),
    metavar="SIZE",
    help="Let it become so large (64K, 500M, 20G), however strongly it is compressed. "
    "[default: 16G, and 200 times the size of INPUT]",
)
@click.option("--force", is_flag=True, help="Replace OUT if it exists.")
@click.pass_obj
def decompress(cli: Cli, source: str, output: str, limit: int | None, force: bool) -> None:
    """Decompress INPUT: CompressedData in DER, PEM or S/MIME.

    OUT appears only when all of INPUT was decompressed.

    \b
    Examples:
      tokensign decompress contract.pdf.p7z -o contract.pdf
      tokensign decompress zeros.p7z --limit 20G -o zeros
    """
    from tokensign.cms.compressed import decompress as decompress_content
    from tokensign.smime.unwrap import open_message

    with (
        open_input(source) as stream,
        open_message(stream) as opened,
        cli.output.progress(opened.cms, f"decompressing {source}") as message,
        open_output(output, force=force) as destination,
    ):
        kind = decompress_content(message, destination, limit=_limit(limit))
    cli.output.status(f"{named(output)}: decompressed")
    cli.output.document(
        {"output": output, "content_type": CONTENT_TYPE_NAMES.get(kind, kind)},
        on_stderr=output == STANDARD_STREAM,
    )


def _limit(size: int | None) -> DecompressionLimit:
    """The usual limit; or a size that somebody chose, who need not think of ratios."""
    from tokensign.cms.compressed import DecompressionLimit

    return DecompressionLimit() if size is None else DecompressionLimit(size=size, free=size)
