from __future__ import annotations

import ctypes.util
import os
import sys
import textwrap
from pathlib import Path
from subprocess import run
from typing import TYPE_CHECKING

import pkcs11
import pytest

from tokensign.errors import ModuleError, TokenNotFoundError
from tokensign.token import find_module, load_module, turns
from tokensign.token import module as module_module
from tokensign.token.cryptoki import CannotLockError, FunctionList
from tokensign.token.info import PinState, TokenInfo

if TYPE_CHECKING:
    from tokensign.token import Module, Token


def run_python(script: str, **environment: str) -> str:
    """Run a script in a fresh process; it must end well and say nothing on standard error."""
    done = run(
        [sys.executable, "-c", textwrap.dedent(script)],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_a_module_is_loaded_once(module: Module, module_path: Path) -> None:
    assert load_module(module_path) is module
    assert load_module(str(module_path)) is module
    assert pkcs11.lib(str(module.path)).initialized


def test_a_module_tells_what_it_is(module: Module) -> None:
    assert module.manufacturer == "SoftHSM"
    assert "PKCS11" in module.description
    assert module.library_version >= (2, 6)
    assert module.cryptoki_version >= (2, 40)
    assert module.locks


def test_a_slot_tells_its_mechanisms(module: Module, token: Token) -> None:
    mechanisms = {info.name: info for info in module.mechanisms(token.info.slot_id)}
    generation = mechanisms["RSA_PKCS_KEY_PAIR_GEN"]
    assert generation.maximum_size >= 4096
    assert "generate_key_pair" in generation.uses
    assert "sign" in mechanisms["ECDSA"].uses
    assert list(mechanisms) == sorted(mechanisms)


def test_mechanisms_of_no_slot(module: Module) -> None:
    with pytest.raises(TokenNotFoundError, match="no slot 99"):
        module.mechanisms(99)


def test_uninitialised_tokens_are_listed_only_on_request(module: Module, token: Token) -> None:
    labels = {info.label for info in module.tokens()}
    assert token.info.label in labels
    assert all(info.initialized for info in module.tokens())
    fresh = [info for info in module.tokens(uninitialized=True) if not info.initialized]
    assert fresh
    assert fresh[0].pin_state is PinState.NOT_SET


def test_a_named_module_must_exist(tmp_path: Path) -> None:
    with pytest.raises(ModuleError, match=r"there is no PKCS#11 module .*none\.so"):
        find_module(tmp_path / "none.so")


def test_without_any_module_the_hint_names_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module_module, "USUAL_PLACES", ("/nowhere/at-all.so",))
    with pytest.raises(ModuleError) as failure:
        find_module()
    assert failure.value.hint
    assert "softhsm2" in failure.value.hint


def test_a_file_that_is_no_library_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.so").write_text("not a library")
    with pytest.raises(ModuleError, match="cannot be loaded"):
        load_module(tmp_path / "text.so")


def test_a_library_that_is_no_module_is_refused() -> None:
    library = next(Path(name) for name in _loaded_libraries() if "libcrypto" in name or "libm.so" in name)
    with pytest.raises(ModuleError, match="no PKCS#11 module"):
        load_module(library)


def _loaded_libraries() -> list[str]:
    ctypes.CDLL(ctypes.util.find_library("m"))
    lines = Path("/proc/self/maps").read_text().splitlines()
    return [line.split()[-1] for line in lines if ".so" in line]


LOAD = """
    from tokensign.errors import ModuleError
    from tokensign.token import load_module
    try:
        print(load_module().tokens())
    except ModuleError as error:
        print(error, "/", error.hint)
"""


def test_a_broken_configuration_is_a_clear_error(tmp_path: Path) -> None:
    told = run_python(LOAD, SOFTHSM2_CONF=str(tmp_path / "none.conf"))
    assert "cannot be initialised: the token answers GeneralError" in told
    assert "SOFTHSM2_CONF" in told


def test_a_module_that_was_initialised_before_is_taken_over(module_path: Path) -> None:
    told = run_python(
        f"""
        import pkcs11
        from tokensign.token import load_module
        pkcs11.lib({str(module_path)!r})
        module = load_module({str(module_path)!r})
        print(module.locks, len(module.tokens()) >= 0)
        """
    )
    assert told == "False True\n"


def test_a_module_that_cannot_lock_is_used_by_one_thread_at_a_time(
    monkeypatch: pytest.MonkeyPatch, module: Module
) -> None:
    asked = []

    def initialize(self: FunctionList, *, locking: bool) -> None:  # noqa: ARG001 - stands in for a method
        asked.append(locking)
        if locking:
            raise CannotLockError

    monkeypatch.setattr(FunctionList, "initialize", initialize)
    monkeypatch.setattr(FunctionList, "finalize", lambda _: None)
    library = module_module._LockingLibrary(str(module.path))  # noqa: SLF001 - no module here refuses to lock
    assert library.serial
    assert library.initialized
    assert asked == [True, False]
    library.initialize()
    assert asked == [True, False]
    library.reinitialize()
    assert asked == [True, False, False]


def test_a_forked_process_refuses_what_it_inherited_and_can_load_anew(module_path: Path) -> None:
    told = run_python(
        f"""
        import os
        from tokensign.errors import ModuleError
        from tokensign.token import initialize_token, load_module, open_token, Pin
        module = load_module({str(module_path)!r})
        initialize_token(module, "forked", Pin("12345678"), Pin("1234"))
        token = open_token(module, "forked", Pin("1234"))
        token.log_in()
        if os.fork() == 0:
            for attempt in (module.tokens, token.log_in, lambda: module.mechanisms(0)):
                try:
                    attempt()
                except ModuleError as error:
                    print("refused:", error.hint, flush=True)
            token.close()
            with open_token({str(module_path)!r}, "forked", Pin("1234")) as again:
                again.log_in()
                print("child works", flush=True)
            os._exit(0)
        os.wait()
        token.read_info()
        token.close()
        print("parent works")
        """
    )
    assert told.count("refused: start worker processes with spawn") == 3
    assert told.endswith("child works\nparent works\n")


def test_a_slot_that_fails_for_a_moment_is_asked_again(
    monkeypatch: pytest.MonkeyPatch, module: Module, token: Token
) -> None:
    answers = iter([pkcs11.GeneralError, pkcs11.GeneralError])
    read = TokenInfo.read

    def sometimes(slot: pkcs11.Slot) -> TokenInfo:
        if slot.slot_id == token.info.slot_id:
            for error in answers:
                raise error
        return read(slot)

    monkeypatch.setattr(TokenInfo, "read", sometimes)
    assert token.info.label in {info.label for info in module.tokens()}


@pytest.mark.parametrize("error", [pkcs11.GeneralError, pkcs11.TokenNotPresent])
def test_a_slot_that_does_not_answer_is_passed_over(
    monkeypatch: pytest.MonkeyPatch, module: Module, error: type[Exception]
) -> None:
    def fail(_: pkcs11.Slot) -> TokenInfo:
        raise error

    monkeypatch.setattr(TokenInfo, "read", fail)
    monkeypatch.setattr(turns, "_PAUSES", (0.0,))
    assert module.tokens() == []
