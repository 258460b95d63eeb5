"""Keys that want the PIN for each operation, and a token that is pulled out."""

from __future__ import annotations

import ctypes
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from cryptography.hazmat.primitives.asymmetric import padding, rsa
from pkcs11.constants import Attribute, ObjectClass
from pkcs11.exceptions import UserNotLoggedIn

from tests.modules.base import CannotError
from tests.modules.suite.bench import MESSAGE, Bench
from tests.modules.suite.cells import CannotDoError, Case
from tests.modules.suite.signing import RSA, verify_signature
from tokensign.algorithms import KeyUsage, default_scheme
from tokensign.errors import TokenRemovedError
from tokensign.keys import OaepTransport, Pkcs1Transport
from tokensign.token import InteractiveSource, open_key
from tokensign.token.cryptoki import error
from tokensign.token.mechanisms import signing_plans

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tokensign.token import Pin, PinRequest, PinSource, TokenKey

__all__ = ["CountingSource", "cases"]

EACH_TIME: Final = "Keys that want the PIN each time"
REMOVAL: Final = "Removal"


class CountingSource(InteractiveSource):
    """Gives the PIN as a person would, who is asked each time, and counts how often.

    Attributes:
        count: How often.
    """

    def __init__(self, source: PinSource) -> None:
        self._source = source
        self.count = 0

    def get(self, request: PinRequest) -> Pin | None:
        """See `PinSource.get`."""
        self.count += 1
        return self._source.get(request)


def cases(bench: Bench) -> Iterator[Case]:
    """The one that does what tokensign never does comes last: OpenSC logs out at that."""
    yield Case(EACH_TIME, "sign", partial(_sign_each_time, bench))
    yield Case(EACH_TIME, "decrypt", partial(_decrypt_each_time, bench))
    yield Case(REMOVAL, "the token is pulled out, put back, and signs again", partial(_return, bench))
    yield Case(EACH_TIME, "no operation without it", partial(_refuse_without_the_pin, bench))


def _sign_each_time(bench: Bench) -> None:
    key = bench.key_that_wants_the_pin_each_time(KeyUsage.SIGN)
    scheme = default_scheme(key.public_key)
    for operation in range(1, 4):
        with_pin = _counting(bench, key)
        verify_signature(key.public_key, with_pin[0].sign(MESSAGE, scheme), MESSAGE, scheme)
        assert with_pin[1].count == 1, operation


def _decrypt_each_time(bench: Bench) -> None:
    key = bench.key_that_wants_the_pin_each_time(KeyUsage.DECRYPT)
    assert isinstance(key.public_key, rsa.RSAPublicKey)
    for transport in (Pkcs1Transport(), OaepTransport()):
        scheme: padding.AsymmetricPadding = padding.PKCS1v15()
        if isinstance(transport, OaepTransport):
            hash_algorithm = transport.digest.primitive()
            scheme = padding.OAEP(padding.MGF1(hash_algorithm), hash_algorithm, None)
        counted, source = _counting(bench, key)
        assert counted.unwrap(key.public_key.encrypt(MESSAGE, scheme), transport) == MESSAGE
        assert source.count == 1


def _counting(bench: Bench, key: TokenKey) -> tuple[TokenKey, CountingSource]:
    """The same key, whose PIN comes from a source that counts; the token's login is done already."""
    source = CountingSource(bench.pin_source)
    return open_key(bench.open(source), key.info), source


def _refuse_without_the_pin(bench: Bench) -> None:
    """The module itself holds the key back: C_SignInit is not followed by a context-specific C_Login."""
    key = bench.key_that_wants_the_pin_each_time(KeyUsage.SIGN)
    plan = signing_plans(default_scheme(key.public_key), key.public_key.key_size)[0]  # type: ignore[union-attr]  # it is RSA
    functions: Any = bench.module.functions
    with bench.token.borrow("sign without the PIN") as session:
        (found,) = session.find({Attribute.CLASS: ObjectClass.PRIVATE_KEY, Attribute.ID: key.info.id})
        assert not functions.C_SignInit(session.handle, plan.mechanism, int(found.handle))  # type: ignore[arg-type]
        block = plan.prefix + bytes(32)
        room = ctypes.c_ulong(len(session.output))
        code = functions.C_Sign(session.handle, block, len(block), session.output, room)
        bench.token.connection.renew(session)
    if not code:
        raise CannotDoError("C_Sign: CKR_OK, without the PIN")
    assert isinstance(error(code), UserNotLoggedIn), hex(code)


def _return(bench: Bench) -> None:
    key = bench.key(RSA, KeyUsage.SIGN)
    scheme = default_scheme(key.public_key)
    signature = key.sign(MESSAGE, scheme)
    try:
        bench.control.remove()
    except CannotError:
        raise CannotDoError("the tests have no way to pull this token out") from None
    try:
        key.sign(MESSAGE, scheme)
    except TokenRemovedError:
        pass
    else:
        raise AssertionError("a token signs that is not there")
    finally:
        bench.control.insert()
    assert key.sign(MESSAGE, scheme) == signature  # RSA PKCS#1 v1.5 is deterministic
