"""One PKCS#11 session, while one thread uses it."""

from __future__ import annotations

import contextlib
import ctypes
from typing import TYPE_CHECKING, Any, Final

from pkcs11 import _pkcs11
from pkcs11.attributes import ATTRIBUTE_TYPES, AttributeMapper, handle_ulong
from pkcs11.constants import Attribute
from pkcs11.exceptions import PKCS11Error

if TYPE_CHECKING:
    from pkcs11 import Object
    from pkcs11 import Session as Binding

    from tokensign.token.cryptoki import FunctionList

__all__ = ["ATTRIBUTES", "Session"]

_BATCH: Final = 10  # handles that are asked for at a time
_OUTPUT_SIZE: Final = 4627  # octets of the longest signature: ML-DSA-87 (FIPS 204 section 4)


class _Attributes(AttributeMapper):
    """python-pkcs11's attributes, without failing on key types and labels that it does not know."""

    def __init__(self) -> None:
        super().__init__()
        self.register_handler(Attribute.KEY_TYPE, *handle_ulong)
        pack, _ = ATTRIBUTE_TYPES[Attribute.LABEL]
        self.register_handler(Attribute.LABEL, pack, lambda octets: octets.decode("utf-8", "replace"))


ATTRIBUTES: Final = _Attributes()
"""How python-pkcs11 packs and unpacks attributes in our sessions."""


class _Search(_pkcs11.SearchIter):  # type: ignore[name-defined, misc]  # the stub leaves it out
    """python-pkcs11's search, which, should it not begin, does not fail a second time when it is to be ended.

    The second failure would be in a destructor, and be printed with a traceback.
    """

    _began = False

    def _initiate(self) -> None:
        super()._initiate()
        self._began = True

    def _finalize(self, silent: bool = False) -> None:  # noqa: FBT001, FBT002 - as the base class has it
        try:
            super()._finalize(silent)  # also gives the lock of the session back
        except PKCS11Error:
            if self._began:
                raise


class Session:
    """A PKCS#11 session while one thread uses it.

    Attributes:
        binding: python-pkcs11's session, for everything that is not in a hurry.
        handle: Its number, for the direct calls.
        objects: Handles that were looked up in this session, by whatever key the looker chose.
        output: A buffer for the result of an operation.
        size: Octets of the result; set to the buffer's size before the call.
    """

    __slots__ = ("_functions", "binding", "epoch", "handle", "objects", "output", "read_write", "size")

    def __init__(self, binding: Binding, functions: FunctionList, epoch: int, *, read_write: bool) -> None:
        self._functions = functions
        self.epoch = epoch
        self.read_write = read_write
        self.output = ctypes.create_string_buffer(_OUTPUT_SIZE)
        self.size = ctypes.c_ulong(_OUTPUT_SIZE)
        self.adopt(binding)

    def adopt(self, binding: Binding) -> None:
        """Stand for a session of python-pkcs11 that was just opened."""
        self.binding = binding
        self.handle: int = binding.handle  # type: ignore[attr-defined]  # the stub leaves it out
        self.objects: dict[Any, int] = {}

    def find(self, template: dict[Attribute, Any]) -> list[Object]:
        """The objects that have some attributes.

        Raises:
            PKCS11Error: The module fails.
        """
        with _Search(self.binding, template, _BATCH) as batches:
            return [found for batch in batches for found in batch]

    def rewind(self) -> None:
        """Make the whole buffer available to the next call."""
        self.size.value = _OUTPUT_SIZE

    def take_output(self) -> bytes:
        """The result of the last call."""
        return self.output[: self.size.value]  # type: ignore[return-value]  # of c_char that is bytes

    def close(self) -> None:
        """Close it; one that is dead already is left alone."""
        with contextlib.suppress(PKCS11Error):
            self.binding.close()
