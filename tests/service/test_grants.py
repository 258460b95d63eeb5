"""Grants: whatever no grant allows is refused; and changes count, and are on record."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from journals import entries, running

from tokensign.audit.verifying import verify_store
from tokensign.errors import FileError, ForbiddenError, RateError, UsageError
from tokensign.service.granting import (
    GrantTerms,
    add_grant,
    list_grants,
    list_limits,
    revoke_grant,
    set_limit,
)
from tokensign.service.grants import OPERATIONS, Grants
from tokensign.service.permissions import STALENESS, Permissions
from tokensign.service.principals import Principal
from tokensign.store import Store

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

pytestmark = pytest.mark.anyio

ALICE, BOB = Principal("alice", "certificate"), Principal("bob", "certificate")
NOW = datetime.now(UTC)
HOUR = timedelta(hours=1)


def terms(**changed: Any) -> GrantTerms:  # noqa: ANN401 - those of `GrantTerms`
    usual: dict[str, Any] = {"key": "acme/contracts", "operations": ["sign"]}
    return GrantTerms(**(usual | changed))


@pytest.fixture
def granted(store: Store) -> Callable[[GrantTerms], Awaitable[Grants]]:
    """Give Alice a grant, and get what decides then."""

    async def give(given: GrantTerms) -> Grants:
        add_grant(store, "alice", given)
        permissions = Permissions(store)
        await permissions.refresh()
        return Grants(permissions)

    return give


async def test_without_a_grant_nothing_is_allowed(store: Store) -> None:
    permissions = Permissions(store)
    await permissions.refresh()
    grants = Grants(permissions)
    for operation in OPERATIONS:
        for key in ("acme/contracts", None):
            with pytest.raises(ForbiddenError):
                grants.check(ALICE, key, operation, "rsa-pss-sha256")
            assert not grants.allows(ALICE, key, operation)


async def test_a_grant_opens_its_own_door_only(granted: Callable[[GrantTerms], Awaitable[Grants]]) -> None:
    grants = await granted(terms(schemes=["rsa-pss"]))
    grants.check(ALICE, "acme/contracts", "sign", "rsa-pss-sha256")
    doors: list[tuple[Principal, str | None, str, str | None]] = [
        (BOB, "acme/contracts", "sign", "rsa-pss-sha256"),
        (ALICE, "acme/other", "sign", "rsa-pss-sha256"),
        (ALICE, "other/contracts", "sign", "rsa-pss-sha256"),
        (ALICE, None, "sign", "rsa-pss-sha256"),
        (ALICE, "acme/contracts", "sign", "rsa-pkcs1-sha256"),
        (ALICE, "acme/contracts", "sign", None),
        *(
            (ALICE, "acme/contracts", operation, "rsa-pss-sha256")
            for operation in OPERATIONS
            if operation != "sign"
        ),
    ]
    for door in doors:
        with pytest.raises(ForbiddenError, match=r"no grant lets (alice|bob) use the operation"):
            grants.check(*door)


@pytest.mark.parametrize(
    ("key", "opened", "closed"),
    [
        ("acme/contracts", ["acme/contracts"], ["acme/contracts2", "acme", "acme/", None]),
        ("acme/*", ["acme/contracts", "acme/a=20b"], ["acme2/contracts", "acme", None]),
        ("*", ["acme/contracts", "other/key", None], []),
    ],
)
async def test_a_grant_is_for_a_key_a_lane_or_all(
    granted: Callable[[GrantTerms], Awaitable[Grants]], key: str, opened: list[str], closed: list[str]
) -> None:
    grants = await granted(terms(key=key, operations=["decrypt"]))
    assert [grants.allows(ALICE, one, "decrypt") for one in opened] == [True] * len(opened)
    assert [grants.allows(ALICE, one, "decrypt") for one in closed] == [False] * len(closed)


@pytest.mark.parametrize(
    ("window", "is_open"),
    [
        ({"not_before": NOW - HOUR, "not_after": NOW + HOUR}, True),
        ({"not_before": NOW + HOUR}, False),
        ({"not_after": NOW - HOUR}, False),
        ({"hours": "00:00-24:00"}, True),
        ({"hours": f"{(NOW + 2 * HOUR):%H}:00-{(NOW + 2 * HOUR):%H}:01"}, False),
    ],
)
async def test_a_grant_holds_in_its_window(
    granted: Callable[[GrantTerms], Awaitable[Grants]], window: dict[str, Any], *, is_open: bool
) -> None:
    grants = await granted(terms(**window))
    assert grants.allows(ALICE, "acme/contracts", "sign") is is_open


async def test_a_credential_may_be_narrower_than_the_grants(
    granted: Callable[[GrantTerms], Awaitable[Grants]],
) -> None:
    grants = await granted(terms(operations=["sign", "decrypt"]))
    narrow = Principal("alice", "api-key", frozenset({"decrypt", "audit"}))
    grants.check(narrow, "acme/contracts", "decrypt")
    for operation in ("sign", "audit"):
        with pytest.raises(ForbiddenError):
            grants.check(narrow, "acme/contracts", operation, "rsa-pss-sha256")


async def test_rates_of_the_grant_the_principal_and_the_key_all_count(store: Store) -> None:
    for name, rate in (("alice", "5/h"), ("bob", None), ("carol", None)):
        add_grant(store, name, terms(operations=["decrypt"], rate=rate))
    set_limit(store, "principal", "bob", "3/h")
    set_limit(store, "key", "acme/contracts", "9/h")
    permissions = Permissions(store)
    await permissions.refresh()
    grants = Grants(permissions)
    carol = Principal("carol", "token")

    def use(principal: Principal, count: int) -> None:
        grants.check(principal, "acme/contracts", "decrypt", count=count)

    use(ALICE, 5)
    with pytest.raises(RateError):
        use(ALICE, 1)
    use(BOB, 3)
    with pytest.raises(RateError):
        use(BOB, 1)
    use(carol, 1)
    with pytest.raises(RateError) as refused:
        use(carol, 1)
    assert refused.value.retry_after == pytest.approx(400, abs=2)
    use(carol, 0)  # a dry run takes nothing


async def test_another_grant_helps_where_one_is_exhausted(store: Store) -> None:
    for rate in ("1/h", "2/h"):
        add_grant(store, "alice", terms(operations=["decrypt"], rate=rate))
    permissions = Permissions(store)
    await permissions.refresh()
    grants = Grants(permissions)
    for _ in range(3):
        grants.check(ALICE, "acme/contracts", "decrypt")
    with pytest.raises(RateError) as refused:
        grants.check(ALICE, "acme/contracts", "decrypt")
    assert refused.value.retry_after <= 1800


async def test_changes_count_within_a_second_and_are_on_record(place: str) -> None:
    with Store(place) as store:
        permissions = Permissions(store)
        grants = Grants(permissions)
        number = add_grant(store, "alice", terms())
        await permissions.refresh()
        assert grants.allows(ALICE, "acme/contracts", "sign")
        revoke_grant(store, number)
        await asyncio.sleep(STALENESS)
        await permissions.refresh()
        assert not grants.allows(ALICE, "acme/contracts", "sign")
        assert list_grants(store) == []
        (record,) = list_grants(store, "alice", revoked=True)
        assert record.revoked_at is not None
        assert [(one["kind"], one["action"], one["details"]["grant"]) for one in entries(store)] == [
            ("change", "grant added", number),
            ("change", "grant revoked", number),
        ]
        verify_store(store)


async def test_permissions_that_cannot_be_read_open_nothing(store: Store) -> None:
    permissions = Permissions(store)
    await permissions.refresh()
    with store.writing() as connection:
        connection.exec_driver_sql("ALTER TABLE permissions RENAME TO away")
    await permissions.refresh()  # as fresh as is promised
    await asyncio.sleep(STALENESS)
    with pytest.raises(FileError):
        await permissions.refresh()
    with store.writing() as connection:
        connection.exec_driver_sql("ALTER TABLE away RENAME TO permissions")
    await permissions.refresh()


async def test_many_requests_share_one_look_at_the_database(store: Store) -> None:
    permissions = Permissions(store)
    started = time.monotonic()
    await asyncio.gather(*(permissions.refresh() for _ in range(1000)))
    assert time.monotonic() - started < STALENESS


async def test_processes_share_rates(store: Store) -> None:
    async with running(store), running(store), running(store):
        permissions = Permissions(store)
        await permissions.refresh()
        assert permissions.processes == 3


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"operations": []}, "needs an operation"),
        ({"operations": ["dance"]}, "no operation is called dance"),
        ({"operations": ["sign", "audit"]}, "about no key"),
        ({"key": "contracts"}, "names no key"),
        ({"key": "acme/a b"}, "names no key"),
        ({"key": ""}, "names no key"),
        ({"schemes": ["rsa-pss-md4"]}, "no scheme is called"),
        ({"schemes": ["r"]}, "no scheme is called"),
        ({"rate": "often"}, "no rate"),
        ({"hours": "always"}, "no hours"),
        ({"not_before": NOW, "not_after": NOW}, "end before it begins"),
    ],
)
async def test_a_grant_that_cannot_be_meant_is_refused(store: Store, changed: Any, told: str) -> None:  # noqa: ANN401
    with pytest.raises(UsageError, match=told):
        add_grant(store, "alice", terms(**changed))
    assert list_grants(store) == []
    assert entries(store) == []


@pytest.mark.parametrize("name", ["", "alice bob", "-alice", "a" * 256, "al\nice", "Zoë"])
async def test_what_cannot_be_a_principal_is_refused(store: Store, name: str) -> None:
    with pytest.raises(UsageError, match="cannot be the name of a principal"):
        add_grant(store, name, terms())


async def test_a_grant_is_revoked_once(store: Store) -> None:
    number = add_grant(store, "alice", terms())
    revoke_grant(store, number)
    for missing in (number, number + 1):
        with pytest.raises(UsageError, match="no grant"):
            revoke_grant(store, missing)
    assert len(entries(store)) == 2


async def test_limits_are_set_replaced_and_taken_away(store: Store) -> None:
    set_limit(store, "principal", "alice", "1/s")
    set_limit(store, "principal", "alice", "2/s")
    set_limit(store, "key", "acme/contracts", "3/s")
    assert list_limits(store) == [("key", "acme/contracts", "3/s"), ("principal", "alice", "2/s")]
    set_limit(store, "principal", "alice", None)
    assert list_limits(store) == [("key", "acme/contracts", "3/s")]
