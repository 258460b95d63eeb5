"""What a token is asked for over the whole life of its keys: never for a key itself (a trace by OpenSC)."""

from __future__ import annotations

import re
import shutil
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.cli.conftest import Terminal, Trace

PRIVATE_VALUES = (
    "CKA_VALUE", "CKA_PRIVATE_EXPONENT", "CKA_PRIME_1", "CKA_PRIME_2", "CKA_EXPONENT_1", "CKA_EXPONENT_2",
    "CKA_COEFFICIENT",
)  # fmt: skip
LIFE = (
    ("key", "generate", "dave", "--type", "rsa:2048"),
    ("key", "generate", "erin", "--type", "ec:p256"),
    ("cert", "request", "dave", "--subject", "CN=Dave", "-o", "dave.csr"),
    ("cert", "self-sign", "dave", "--subject", "CN=Dave", "-o", "dave.pem"),
    ("cert", "self-sign", "erin", "--subject", "CN=Erin"),
    ("sign", "letter.txt", "--key", "dave"),
    ("sign", "letter.txt", "--key", "dave", "--scheme", "rsa-pss", "-o", "pss.p7s"),
    ("sign", "letter.txt", "--key", "erin", "-o", "ecdsa.p7s"),
    ("encrypt", "letter.txt", "--to", "dave.pem"),
    ("decrypt", "letter.txt.p7m", "-o", "oaep.txt"),
    ("encrypt", "letter.txt", "--to", "dave.pem", "--key-transport", "pkcs1", "-o", "pkcs1.p7m"),
    ("decrypt", "pkcs1.p7m", "-o", "pkcs1.txt"),
    ("key", "list"),
    ("key", "check"),
    ("cert", "list"),
    ("doctor",),
    ("key", "delete", "dave", "--yes"),
)


@pytest.fixture(scope="module")
def trace(
    spy: Callable[[Terminal], Trace],
    new_terminal: Callable[..., Terminal],
    furnished: object,
    tmp_path_factory: pytest.TempPathFactory,
) -> Trace:
    """The trace of the commands of LIFE, one file for all."""
    folder = tmp_path_factory.mktemp("trace")
    shutil.copytree(str(furnished), folder, dirs_exist_ok=True)
    terminal = new_terminal(folder)
    watched = spy(terminal)
    for command in LIFE:
        terminal.run(*command, environment=watched.environment)
    return watched


def reads_by_private_key(trace: Trace) -> Iterator[tuple[str, str]]:
    """Each C_GetAttributeValue on a private key, as the object's handle and what was asked of it."""
    private: set[str] = set()
    searched = ""
    for name, detail in trace.all_calls():
        if name == "C_Initialize":
            private.clear()
        elif name == "C_FindObjectsInit":
            searched = detail
        elif name == "C_FindObjects":
            handles = re.findall(r"Object (0x[0-9a-f]+) matches", detail)
            if "CKO_PRIVATE_KEY" in searched:
                private.update(handles)
            else:
                private.difference_update(handles)
        elif name == "C_GenerateKeyPair":
            private.update(re.findall(r"hPrivateKey = (0x[0-9a-f]+)", detail))
        elif name == "C_GetAttributeValue":
            handle = re.findall(r"hObject = (0x[0-9a-f]+)", detail)[0]
            if handle in private:
                yield handle, detail


def test_the_trace_is_of_real_work(trace: Trace) -> None:
    for name in ("C_GenerateKeyPair", "C_Sign", "C_Decrypt", "C_CreateObject", "C_DestroyObject"):
        assert trace.calls(name), name
    assert list(reads_by_private_key(trace))


def test_no_value_of_a_private_key_is_read(trace: Trace) -> None:
    for _, detail in reads_by_private_key(trace):
        asked = set(re.findall(r"CKA_\w+", detail))
        assert not asked.intersection(PRIVATE_VALUES)


def test_values_are_read_of_certificates_only(trace: Trace) -> None:
    """Whatever object it is, nothing with a secret among its attributes is asked for its value."""
    read = [detail for detail in trace.calls("C_GetAttributeValue") if re.search(r"CKA_VALUE\b", detail)]
    assert read
    assert not any(re.search(r"CKA_(PRIVATE_EXPONENT|PRIME_|EXPONENT_|COEFFICIENT)", it) for it in read)
    assert not any("CKO_PRIVATE_KEY" in detail or "CKO_SECRET_KEY" in detail for detail in read)


def test_no_key_is_wrapped_or_copied(trace: Trace) -> None:
    for name in ("C_WrapKey", "C_CopyObject"):
        assert trace.calls(name) == []


def test_nothing_but_the_name_of_an_object_is_changed(trace: Trace) -> None:
    changed = {name for it in trace.calls("C_SetAttributeValue") for name in re.findall(r"CKA_\w+", it)}
    assert changed <= {"CKA_ID", "CKA_LABEL"}


def test_keys_are_made_sensitive_and_not_extractable(trace: Trace) -> None:
    for detail in trace.calls("C_GenerateKeyPair"):
        template = detail.partition("pPrivateKeyTemplate")[2].partition("[out]")[0]
        for name, value in (
            ("TOKEN", "True"),
            ("PRIVATE", "True"),
            ("SENSITIVE", "True"),
            ("EXTRACTABLE", "False"),
        ):
            assert re.search(rf"CKA_{name}\s+{value}", template), name


def test_pin_is_nowhere_but_where_the_login_takes_it(trace: Trace, user_pin: str) -> None:
    for name, detail in trace.all_calls():
        if name not in ("C_Login", "C_SetPIN", "C_InitPIN", "C_InitToken"):
            assert user_pin not in detail
            assert user_pin.encode().hex() not in detail.lower()
