"""Validated paths are remembered: for whom, how long, and how many."""

from __future__ import annotations

import enum
import threading
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from tokensign.certificates import Certificate
from tokensign.errors import UntrustedError
from tokensign.pki import trust
from tokensign.pki.chain_cache import ChainCache, ChainKey, fingerprint
from tokensign.pki.revocation import RevokedCertificateError
from tokensign.pki.trust import PolicyInputs, Purpose, TrustPolicy, validate_path
from tokensign.pki.validated_path import RevocationEvidence, ValidatedPath

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Forged, Toolbox


@pytest.fixture
def validations(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """One entry a validation that was done and not remembered."""
    done: list[Any] = []
    validated = trust._validated  # noqa: SLF001 - counts its calls

    def counting(*arguments: Any) -> ValidatedPath:  # noqa: ANN401 - passed on
        done.append(arguments)
        return validated(*arguments)

    monkeypatch.setattr(trust, "_validated", counting)
    monkeypatch.setattr(trust, "CHAINS", ChainCache())
    return done


@pytest.fixture
def chain(toolbox: Toolbox) -> tuple[Forged, Forged, Forged]:
    """Alice, an intermediate that ends before her, and a root."""
    root = toolbox.authority()
    middle = toolbox.authority("Middle", issuer=root, number=2, end=toolbox.now + timedelta(days=10))
    return toolbox.forge(issuer=middle), middle, root


def test_a_path_is_validated_once_and_says_how_long_it_holds(
    toolbox: Toolbox, chain: tuple[Forged, Forged, Forged], validations: list[Any]
) -> None:
    alice, middle, root = (entry.certificate for entry in chain)
    path = validate_path(alice, [middle], TrustPolicy((root,)), toolbox.now)
    assert path.valid_until == middle.not_after
    # The same again: other objects, another order, a doublet, an equal policy.
    again = validate_path(
        Certificate(alice.der), [middle, Certificate(middle.der)], TrustPolicy((root,)), toolbox.now
    )
    assert again == path
    assert len(validations) == 1


def test_a_path_is_forgotten_when_its_first_certificate_expires(
    toolbox: Toolbox, chain: tuple[Forged, Forged, Forged], validations: list[Any]
) -> None:
    alice, middle, root = (entry.certificate for entry in chain)
    policy = TrustPolicy((root,))
    validate_path(alice, [middle], policy, toolbox.now)
    validate_path(alice, [middle], policy, middle.not_after)
    validate_path(alice, [middle], policy, max(alice.not_before, middle.not_before, root.not_before))
    assert len(validations) == 1
    with pytest.raises(UntrustedError, match="Middle expired"):
        validate_path(alice, [middle], policy, middle.not_after + timedelta(seconds=1))
    with pytest.raises(UntrustedError, match="not valid before"):
        validate_path(alice, [middle], policy, alice.not_before - timedelta(seconds=1))


def test_what_was_refused_is_validated_again(
    toolbox: Toolbox, chain: tuple[Forged, Forged, Forged], validations: list[Any]
) -> None:
    alice, middle, root = (entry.certificate for entry in chain)
    for _ in range(2):
        with pytest.raises(UntrustedError):
            validate_path(alice, [], TrustPolicy((root,)), toolbox.now)
    assert len(validations) == 2
    assert validate_path(alice, [middle], TrustPolicy((root,)), toolbox.now)


def test_a_path_through_other_intermediates_is_another_one(
    toolbox: Toolbox, chain: tuple[Forged, Forged, Forged], validations: list[Any]
) -> None:
    alice, middle, root = (entry.certificate for entry in chain)
    policy = TrustPolicy((root,))
    validate_path(alice, [middle], policy, toolbox.now)
    with pytest.raises(UntrustedError):
        validate_path(alice, [], policy, toolbox.now)
    assert len(validations) == 2


CHANGES: dict[str, Callable[[Toolbox], Any]] = {
    "anchors": lambda toolbox: (toolbox.authority("Other").certificate,),
    "purpose": lambda _: Purpose.CODE_SIGNING,
    "revocation": lambda _: "prefer",
    "crls": lambda _: (b"crl",),
    "ocsp_responses": lambda _: (b"ocsp",),
    "legacy": lambda _: True,
    "maximum_path_length": lambda _: 0,
    "maximum_age": lambda _: timedelta(days=1),
    "policies": lambda _: PolicyInputs(require_explicit_policy=True),
}


def test_every_field_of_a_policy_makes_another_one(toolbox: Toolbox) -> None:
    policy = TrustPolicy((toolbox.authority().certificate,))
    compared = {field.name for field in fields(policy) if field.compare}
    assert compared >= CHANGES.keys()
    assert compared - CHANGES.keys() == set(), "say here how the new field is changed"
    changed = [replace(policy, **{name: change(toolbox)}) for name, change in CHANGES.items()]
    assert len({entry.fingerprint for entry in (policy, *changed)}) == 1 + len(CHANGES)
    assert replace(policy).fingerprint == policy.fingerprint


def test_every_policy_input_makes_another_policy() -> None:
    inputs = [
        PolicyInputs(),
        PolicyInputs(frozenset({"1.2.3"})),
        PolicyInputs(frozenset({"1.2.3", "1.2.4"})),
        PolicyInputs(require_explicit_policy=True),
        PolicyInputs(inhibit_any_policy=True),
        PolicyInputs(inhibit_policy_mapping=True),
    ]
    assert len({fingerprint(entry) for entry in inputs}) == len(inputs)


@dataclass(frozen=True)
class Anything:
    value: object


class Colour(enum.Enum):
    RED = "red"


def test_a_fingerprint_tells_types_and_borders_apart() -> None:
    values: list[object] = [
        None, 0, False, "", b"", (), frozenset(), "0", "False", "None", Colour.RED, "RED",
        ("ab", "c"), ("a", "bc"), ("abc",), (("a",), "b"), ("a", ("b",)), frozenset({"a", "b"}), ("a", "b"),
    ]  # fmt: skip
    assert len({fingerprint(Anything(value)) for value in values}) == len(values)
    assert fingerprint(Anything(frozenset("abc"))) == fingerprint(Anything(frozenset("cba")))


def test_a_value_that_cannot_be_compared_is_a_mistake_of_ours() -> None:
    with pytest.raises(TypeError, match="nobody knows when a object is the same"):
        fingerprint(Anything(object()))


def test_the_least_recently_used_path_makes_room(toolbox: Toolbox) -> None:
    cache = ChainCache(2)
    entries = [toolbox.forge(f"Person {number}").certificate for number in range(3)]
    keys = [ChainKey.of(entry, [], b"policy") for entry in entries]
    paths = [ValidatedPath((entry,), (), entry.not_after) for entry in entries]

    def keep(number: int) -> None:
        cache.keep(keys[number], paths[number], toolbox.now, entries[number].not_after)

    keep(0)
    keep(1)
    assert cache.find(keys[0], toolbox.now) == paths[0]
    keep(2)
    assert [cache.find(key, toolbox.now) is not None for key in keys] == [True, False, True]
    assert len(cache) == 2
    cache.clear()
    assert len(cache) == 0


def test_many_threads_share_the_memory(toolbox: Toolbox) -> None:
    cache = ChainCache(4)
    certificate = toolbox.forge().certificate
    path = ValidatedPath((certificate,), (), certificate.not_after)
    keys = [ChainKey(bytes([number]), frozenset(), b"") for number in range(16)]
    failures: list[Exception] = []

    def work() -> None:
        try:
            for _ in range(200):
                for key in keys:
                    cache.keep(key, path, toolbox.now, toolbox.now)
                    cache.find(key, toolbox.now)
        except Exception as error:  # noqa: BLE001 - shown below
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(cache) == 4


class Evidence:
    """Stands for revocation information that the validation finds, and counts how often it is asked."""

    def __init__(self, next_update: datetime | None) -> None:
        self.next_update = next_update

    def about(self, certificate: Certificate) -> RevocationEvidence:
        now = datetime.now(UTC)
        return RevocationEvidence("crl", "given", now, now, self.next_update, "good", certificate, b"")


@pytest.fixture
def present(toolbox: Toolbox) -> tuple[Certificate, Certificate]:
    """Alice and a root that are valid now."""
    now = datetime.now(UTC).replace(microsecond=0)
    times = {"start": now - timedelta(days=1), "end": now + timedelta(days=30)}
    root = toolbox.authority(**times)
    return toolbox.forge(issuer=root, **times).certificate, root.certificate


def remembered_until(
    path: ValidatedPath, moment: datetime, asked: datetime, *, maximum_age: timedelta | None = None
) -> bool:
    """Whether a path that was validated with revocation for a moment is found again for another one."""
    policy = TrustPolicy((path[-1],), revocation="require", maximum_age=maximum_age)
    key = ChainKey.of(path[0], [], policy.fingerprint)
    trust._remember(key, path, policy, moment)  # noqa: SLF001 - what it decides is seen by the cache
    return trust.CHAINS.find(key, asked) is not None


def test_revocation_information_of_the_present_is_used_until_there_is_newer(
    present: tuple[Certificate, Certificate], validations: list[Any]
) -> None:
    assert validations == []
    now = datetime.now(UTC).replace(microsecond=0)
    update = now + timedelta(hours=6)
    path = ValidatedPath(present, (Evidence(update).about(present[0]),), update)
    assert remembered_until(path, now, now)
    assert remembered_until(path, now, update)
    assert not remembered_until(path, now, update + timedelta(seconds=1))
    assert not remembered_until(path, now, now - timedelta(seconds=1))
    hour = timedelta(hours=1)
    assert remembered_until(path, now, now + hour / 2, maximum_age=hour)
    assert not remembered_until(path, now, now + 2 * hour, maximum_age=hour)


def test_revocation_information_that_lasts_for_long_is_asked_for_anew_after_a_day(
    present: tuple[Certificate, Certificate], validations: list[Any]
) -> None:
    assert validations == []
    now = datetime.now(UTC).replace(microsecond=0)
    evidence = Evidence(now + timedelta(days=20)).about(present[0])
    path = ValidatedPath(present, (evidence,), present[0].not_after)
    assert remembered_until(path, now, now + timedelta(days=1))
    assert not remembered_until(path, now, now + timedelta(days=1, seconds=1))


def test_revocation_of_another_time_is_remembered_for_that_time_alone(
    present: tuple[Certificate, Certificate], validations: list[Any]
) -> None:
    assert validations == []
    now = datetime.now(UTC).replace(microsecond=0)
    then = now - timedelta(hours=12)
    update = now + timedelta(hours=6)
    path = ValidatedPath(present, (Evidence(update).about(present[0]),), update)
    assert remembered_until(path, then, then)
    assert not remembered_until(path, then, now)
    assert not remembered_until(path, then, then + timedelta(seconds=1))


@pytest.mark.parametrize("evidence", [[], [Evidence(None)]])
def test_a_certificate_that_nothing_lasting_tells_about_is_asked_about_again(
    present: tuple[Certificate, Certificate], validations: list[Any], evidence: list[Evidence]
) -> None:
    assert validations == []
    now = datetime.now(UTC).replace(microsecond=0)
    found = tuple(entry.about(present[0]) for entry in evidence)
    path = ValidatedPath(present, found, now + timedelta(hours=6))
    assert not remembered_until(path, now, now)


@pytest.mark.parametrize("kind", ["crl", "ocsp"])
def test_a_certificate_that_will_be_revoked_is_good_until_then_and_no_longer(
    toolbox: Toolbox, validations: list[Any], kind: str
) -> None:
    now = datetime.now(UTC).replace(microsecond=0)
    times = {"start": now - timedelta(days=1), "end": now + timedelta(days=30)}
    root = toolbox.authority(**times)
    alice = toolbox.forge(issuer=root, **times)
    end = now + timedelta(hours=2)
    policy = TrustPolicy(
        (root.certificate,),
        revocation="require",
        crls=(toolbox.crl(root, [alice], updated=now, revoked_at=end),) if kind == "crl" else (),
        ocsp_responses=(
            (toolbox.ocsp(alice, root, revoked=True, updated=now, revoked_at=end),) if kind == "ocsp" else ()
        ),
    )
    for moment in (now, end - timedelta(seconds=1)):
        path = validate_path(alice.certificate, [], policy, moment)
        assert [entry.revoked_later for entry in path.revocation] == [True]
    assert len(validations) == 2
    for moment in (end, end + timedelta(milliseconds=1), end + timedelta(hours=1)):
        with pytest.raises(RevokedCertificateError):
            validate_path(alice.certificate, [], policy, moment)


def test_a_certificate_is_revoked_from_the_beginning_of_the_second_that_is_told(toolbox: Toolbox) -> None:
    root = toolbox.authority()
    alice = toolbox.forge(issuer=root)
    second = toolbox.now - timedelta(hours=1)
    crl = toolbox.crl(root, [alice], revoked_at=second)
    policy = TrustPolicy((root.certificate,), revocation="require", crls=(crl,))
    for moment in (second, second + timedelta(milliseconds=500)):
        with pytest.raises(RevokedCertificateError):
            validate_path(alice.certificate, [], policy, moment)
    assert validate_path(alice.certificate, [], policy, second - timedelta(microseconds=1))
