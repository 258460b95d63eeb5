from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from cryptography import x509

from tokensign.distinguished_names import subject_name
from tokensign.errors import UsageError
from tokensign.pki.names import display_name, mailboxes

if TYPE_CHECKING:
    from conftest import Toolbox


def test_a_subject_is_encoded_country_first() -> None:
    name = subject_name("CN=Alice,O=Acme,C=CH")
    assert [attribute.value for attribute in name] == ["CH", "Acme", "Alice"]
    assert name.rfc4514_string() == "CN=Alice,O=Acme,C=CH"


@pytest.mark.parametrize(
    "text", ["cn=Alice", "CN=Alice", "commonName=Alice", "commonname=Alice", "2.5.4.3=Alice"]
)
def test_attribute_types_are_known_by_every_spelling(text: str) -> None:
    assert subject_name(text) == x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Alice")])


def test_escaped_characters_and_letters_of_any_script_are_kept() -> None:
    values = [attribute.value for attribute in subject_name("CN=Zoë \\, 李,O=A\\+B\\=C,serialNumber=1")]
    assert values == ["1", "A+B=C", "Zoë , 李"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Alice",
        "CN=",
        "CN=Alice, O=Acme",
        "CN=Alice,",
        "X=1",
        "C=Switzerland",
        "CN=" + "a" * 65,
        "CN=Al\nice",
    ],
)
def test_what_is_no_subject_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        subject_name(text)


def test_the_refusal_shows_how_to_write_a_subject() -> None:
    with pytest.raises(UsageError) as refusal:
        subject_name("CN=Alice, O=Acme")
    assert "CN=Alice,O=Acme,C=CH" in (refusal.value.hint or "")


def test_addresses_become_rfc822_names_once_each() -> None:
    names = mailboxes(["alice@example.org", "a.b+c@sub.example.org", "alice@example.org"])
    assert [name.value for name in names] == ["alice@example.org", "a.b+c@sub.example.org"]


@pytest.mark.parametrize(
    "address",
    [
        "",
        "alice",
        "@example.org",
        "alice@",
        "a@b@example.org",
        "alice @example.org",
        ".alice@example.org",
        "alice@-example.org",
        "alice@example..org",
        "Alice <alice@example.org>",
        "alice\x00@example.org",
        "a" * 65 + "@example.org",
        "alice@" + ".".join(["a" * 60] * 5),
    ],
)
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(UsageError, match="not an e-mail address"):
        mailboxes([address])


def test_international_addresses_are_refused_with_what_to_do() -> None:
    with pytest.raises(UsageError, match="beyond ASCII") as local:
        mailboxes(["zoë@example.org"])
    assert "ASCII address" in (local.value.hint or "")
    with pytest.raises(UsageError, match="domain") as domain:
        mailboxes(["alice@zürich.example"])
    assert "xn--" in (domain.value.hint or "")


def test_people_are_called_by_their_common_name(toolbox: Toolbox) -> None:
    assert display_name(toolbox.forge("Alice Lovelace").certificate) == "Alice Lovelace"


def test_a_nameless_subject_is_called_by_its_address(toolbox: Toolbox) -> None:
    assert display_name(toolbox.forge("", emails=["alice@example.org"]).certificate) == "alice@example.org"
    assert display_name(toolbox.forge("").certificate) == "a nameless subject"


def test_a_hostile_name_neither_steers_the_terminal_nor_fills_it(toolbox: Toolbox) -> None:
    name = display_name(toolbox.forge("\x1b[2J" + "e\u202e" + "x" * 50).certificate)
    assert name.isprintable()
    assert len(name) <= 128
