"""The help of every command, as the documentation promises it."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING

import click
import pytest

from tokensign.cli.root import root

if TYPE_CHECKING:
    from collections.abc import Iterator


def commands(
    group: click.Group, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    for name in group.list_commands(click.Context(group)):
        command = group.get_command(click.Context(group), name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name), command


ALL = dict(commands(root))
COMMON = {"--module", "--token", "--pin-source", "--last-try", "--config", "--json", "--verbose", "--quiet"}

every_command = pytest.mark.parametrize("path", ALL, ids=" ".join)


def help_of(path: tuple[str, ...]) -> str:
    context = click.Context(ALL[path], info_name=" ".join(("tokensign", *path)))
    return ALL[path].get_help(context)


def test_commands_are_those_of_the_contract() -> None:
    assert {" ".join(path) for path in ALL} == {
        "demo", "doctor", "token list", "token init", "token info", "token change-pin", "token unblock-pin",
        "key generate", "key list", "key show", "key delete", "key check", "key import", "key retire",
        "key destroy", "cert request", "cert self-sign",
        "cert import", "cert list", "cert show", "cert export", "sign", "verify", "encrypt", "decrypt",
        "authenticate", "digest", "compress", "decompress", "certs", "inspect", "timestamp query",
        "timestamp reply", "timestamp verify", "timestamp extend",
        "mail sign", "mail encrypt", "mail open", "mail send", "mail fetch", "mail gateway",
        "mail receipt make", "mail receipt record", "mail receipt verify",
        "contacts add", "contacts list", "contacts show", "contacts remove",
        "openpgp certificate", "openpgp sign", "openpgp decrypt",
        "ca init", "ca request", "ca adopt", "ca renew-ca", "ca cross", "ca issue", "ca renew", "ca revoke",
        "ca release", "ca crl", "ca list", "ca show", "ca serve",
        "ra submit", "ra challenge", "ra verify", "ra list", "ra show", "ra approve", "ra reject", "ra issue",
        "grant add", "grant list", "grant revoke", "grant identify", "grant show", "grant key",
        "grant revoke-key", "grant limit", "audit verify", "audit export", "audit checkpoint",
        "agent start", "agent status", "agent lock", "agent unlock", "agent stop", "serve",
    }  # fmt: skip


@every_command
def test_help_has_an_example_that_parses(path: tuple[str, ...]) -> None:
    examples = re.findall(r"^ +(tokensign .*)$", help_of(path), re.MULTILINE)
    assert examples
    for example in examples:
        words = shlex.split(example)
        assert tuple(words[1 : 1 + len(path)]) == path
        ALL[path].make_context(" ".join(path), words[1 + len(path) :])


@every_command
def test_help_tells_the_common_options_under_a_heading_of_their_own(path: tuple[str, ...]) -> None:
    own, _, common = help_of(path).partition("Common options:")
    assert set(re.findall(r"--[a-z-]+", common)) >= COMMON
    assert not COMMON.intersection(re.findall(r"^ +(?:-\w, )?(--[a-z-]+)", own, re.MULTILINE))


@every_command
def test_every_option_is_explained_or_explains_itself(path: tuple[str, ...]) -> None:
    for parameter in ALL[path].params:
        if isinstance(parameter, click.Option):
            assert parameter.help or isinstance(parameter.type, click.Choice), parameter.name


@pytest.mark.parametrize("path", [path for path in ALL if len(path) > 1], ids=" ".join)
def test_summary_in_the_list_of_a_group_is_whole(path: tuple[str, ...]) -> None:
    assert not ALL[path].get_short_help_str(limit=68).endswith("...")


def test_summaries_of_the_root_are_whole() -> None:
    help_text = root.get_help(click.Context(root, info_name="tokensign"))
    for name in root.list_commands(click.Context(root)):
        assert re.search(rf"^  {name} +[A-Z].*\.$", help_text, re.MULTILINE)
