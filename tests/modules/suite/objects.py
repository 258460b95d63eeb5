"""Keys and certificates on a token: made protected, found, stored, read back and deleted."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from pkcs11.constants import Attribute, ObjectClass
from pkcs11.exceptions import PKCS11Error

from tests.modules.suite.agreement import AGREEING, ENCAPSULATING
from tests.modules.suite.bench import Bench, certificate_for
from tests.modules.suite.cells import CannotDoError, Case
from tests.modules.suite.direct import answer_to, secret_key_answer
from tests.modules.suite.signing import CURVES, PURE, RSA
from tokensign.algorithms import KeySpec, KeyUsage
from tokensign.errors import KeyNotFoundError, MechanismError, TokenError
from tokensign.token import (
    check_key,
    delete_certificate,
    delete_key,
    find_certificates,
    find_key,
    generate_key,
    generate_secret_key,
    import_certificate,
    list_certificates,
    list_keys,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tokensign.token import StoredCertificate

__all__ = ["cases", "generation_cases"]

GENERATION: Final = "Key generation"
OBJECTS: Final = "Keys and certificates"
_GENERATED: Final = (
    *((spec, KeyUsage.SIGN) for spec in (RSA, *CURVES, *PURE)),
    *((spec, KeyUsage.DECRYPT) for spec in (RSA, *AGREEING, *ENCAPSULATING)),
)
_PROMISED: Final = {
    Attribute.PRIVATE: True,
    Attribute.SENSITIVE: True,
    Attribute.EXTRACTABLE: False,
    Attribute.ALWAYS_SENSITIVE: True,
    Attribute.NEVER_EXTRACTABLE: True,
}
_SECRETS: Final = (Attribute.VALUE, Attribute.PRIVATE_EXPONENT, Attribute.PRIME_1)


def generation_cases(bench: Bench) -> Iterator[Case]:
    """They come first, so that the other cases find the keys."""
    for spec, usage in _GENERATED:
        row = (
            spec
            if usage is KeyUsage.SIGN or spec in (*AGREEING[3:], *ENCAPSULATING)
            else f"{spec} to decrypt"
        )
        yield Case(GENERATION, row, partial(_generate, bench, spec, usage))
    yield Case(GENERATION, "aes:256", partial(_generate_secret_key, bench))


def cases(bench: Bench) -> Iterator[Case]:
    """These come after those that store certificates."""
    for row, run in _ROWS.items():
        yield Case(OBJECTS, row, partial(run, bench))


def _generate(bench: Bench, spec: str, usage: KeyUsage) -> None:
    made = bench.generate(spec, usage)
    assert made.spec == spec
    assert made.serves(usage)
    assert not check_key(bench.token, made).weak
    _require_protection(bench, ObjectClass.PRIVATE_KEY, made.label)


def _generate_secret_key(bench: Bench) -> None:
    label = "aes to be read"
    try:
        generate_secret_key(bench.token, label)
    except MechanismError:
        raise CannotDoError(secret_key_answer(bench.token)) from None
    _require_protection(bench, ObjectClass.SECRET_KEY, label)


def _require_protection(bench: Bench, kind: ObjectClass, label: str) -> None:
    """Ask the module itself, attribute by attribute."""
    with bench.token.borrow("read the protection of a key") as session:
        (key,) = session.find({Attribute.CLASS: kind, Attribute.LABEL: label})
        for name, value in _PROMISED.items():
            assert key[name] is value, name
        for name in _SECRETS:
            try:
                read = key[name]
            except PKCS11Error:
                continue
            assert not read, f"{name} is read"


def _list(bench: Bench) -> None:
    """All keys that are there are protected: those of a card, too, which somebody else made."""
    found = list_keys(bench.token)
    assert found
    for key in found:
        assert key.sensitive, key
        assert key.extractable is False, key


def _find(bench: Bench) -> None:
    key = bench.key("ec:p256", KeyUsage.SIGN).info
    for name in (key.label, key.id.hex(), key.uri, str(key.uri)):
        assert find_key(bench.token, name) == key
    try:
        find_key(bench.token, "no such key")
    except KeyNotFoundError:
        return
    raise AssertionError("a key is found that is not there")


def _export(bench: Bench) -> None:
    """What was stored, or what the card came with."""
    stored = list_certificates(bench.token)
    assert stored, "no case before this has stored a certificate"
    for one in stored:
        assert find_certificates(bench.token, one.uri) == [one]
        assert find_certificates(bench.token, f"pkcs11:id=%{one.id.hex('%')}")
    assert "alice@example.org" in {email for one in stored for email in one.certificate.emails}


def _import(bench: Bench) -> None:
    key = bench.key("ec:p256", KeyUsage.SIGN)
    certificate = certificate_for(key.public_key)
    stored = _done(lambda: import_certificate(bench.token, certificate))
    assert stored.certificate == certificate
    assert stored.id == key.info.id


def _delete_certificate(bench: Bench) -> None:
    """Where nothing can be stored, what is there cannot be deleted either."""
    key = bench.key("ec:p256", KeyUsage.SIGN)
    try:
        stored = import_certificate(bench.token, certificate_for(key.public_key), label="to be deleted")
    except TokenError:
        stored = list_certificates(bench.token)[0]
    _done(lambda: delete_certificate(bench.token, stored))
    assert stored not in list_certificates(bench.token)


def _delete_key(bench: Bench) -> None:
    """A key of a card that makes none is asked to go, too."""
    try:
        key = generate_key(bench.token, "to be deleted", KeySpec.parse("ec:p256"))
    except MechanismError:
        key = list_keys(bench.token)[0]
    _done(lambda: delete_key(bench.token, key, certificates=True))
    assert key.id not in {one.id for one in list_keys(bench.token)}


def _done(change: Callable[[], StoredCertificate | None]) -> StoredCertificate:
    """Change the token.

    Raises:
        CannotDoError: The module does not.
    """
    try:
        return change()  # type: ignore[return-value]  # those who look have one
    except TokenError as refusal:
        answer = answer_to(refusal)
        if answer is None:
            raise
        raise CannotDoError(answer) from None


_ROWS: Final[dict[str, Callable[[Bench], None]]] = {
    "all keys are sensitive and not extractable": _list,
    "find by label, id and URI": _find,
    "store a certificate": _import,
    "read certificates back": _export,
    "delete a certificate": _delete_certificate,
    "delete a key": _delete_key,
}
