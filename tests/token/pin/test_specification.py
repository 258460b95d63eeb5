from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tokensign.errors import PinUnavailableError, UsageError
from tokensign.settings import PIN_SOURCES
from tokensign.token import Pin, PinRequest, parse_pin_source
from tokensign.token.pin import default_source, pin_source_of
from tokensign.uri import KeyUri

if TYPE_CHECKING:
    from pathlib import Path

ACME = PinRequest(purpose="the token acme", account="acme")


@pytest.mark.parametrize("form", PIN_SOURCES.replace(" or ", ", ").split(", "))
def test_each_form_that_the_help_lists_is_understood(form: str) -> None:
    source = parse_pin_source(form.replace(":N", ":0") if form.startswith("fd") else form)
    assert repr(source).lower().startswith(form.partition(":")[0].replace("fd", "descriptor")[:3])


@pytest.mark.parametrize(
    "text",
    ["1234", "env:", "file:", "fd:x", "fd:", "fd:-1", "fd:²", "keyring:", "credential:", "prompt:now",
     "pinentry:x", "pad:1234", "|cat", ""],
)  # fmt: skip
def test_a_source_that_is_not_understood_is_not_repeated(text: str) -> None:
    with pytest.raises(UsageError, match="the PIN source is not understood") as refusal:
        parse_pin_source(text)
    assert "1234" not in str(refusal.value)
    assert refusal.value.hint == f"use {PIN_SOURCES}"


def test_a_uri_names_a_file(pin_file: Path, user_pin: str) -> None:
    for form in (f"file:{pin_file}", f"file://{pin_file}", f"FILE:{pin_file}"):
        source = pin_source_of(KeyUri(pin_source=form))
        assert source is not None
        pin = source.get(ACME)
        assert isinstance(pin, Pin)
        assert pin.reveal() == user_pin.encode()
    assert pin_source_of(KeyUri()) is None


@pytest.mark.parametrize(
    ("form", "kind"),
    [("env:PIN", "EnvironmentSource"), ("keyring:tokensign", "KeyringSource"), ("pinentry", "PinentrySource"),
     ("credential:pin", "CredentialSource"), ("prompt", "PromptSource"), ("pad", "PadSource")],
)  # fmt: skip
def test_a_uri_names_other_sources(form: str, kind: str) -> None:
    assert type(pin_source_of(KeyUri(pin_source=form))).__name__ == kind


@pytest.mark.parametrize("source", ["file:relative", "file://host/pin", "1234", "http://x/", "fd:3", ""])
def test_other_sources_of_a_uri_are_refused(source: str) -> None:
    with pytest.raises(UsageError, match="the pin-source of a PKCS#11 URI is file:/absolute/path") as refusal:
        pin_source_of(KeyUri(pin_source=source))
    assert "1234" not in str(refusal.value)


def test_a_program_that_a_uri_names_is_not_run(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="lets who wrote the URI run a program"):
        pin_source_of(KeyUri(pin_source=f"|/usr/bin/touch {tmp_path}/run"))
    assert list(tmp_path.iterdir()) == []


def test_a_pin_in_a_uri_is_refused() -> None:
    with pytest.raises(UsageError, match="shows the PIN") as refusal:
        pin_source_of(KeyUri(pin_value="4711"))
    assert "4711" not in str(refusal.value)


def test_a_token_with_a_pad_is_asked_there_by_default() -> None:
    assert repr(default_source(pad=True)) == "PadSource()"
    assert repr(default_source(pad=False)) == "PromptSource()"


def test_a_pad_that_is_not_there_is_not_waited_for() -> None:
    with pytest.raises(PinUnavailableError, match="there is none"):
        parse_pin_source("pad").get(ACME)
