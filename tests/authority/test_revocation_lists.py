"""Revoking, holding and releasing, and what CRLs say of it."""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from certificate_authorities import URL, private_key
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from software_signer import SoftwareSigner

from tokensign.audit.changes import changes
from tokensign.authority import Reason, Status, create_authority, load_profile, publish
from tokensign.authority.crl import CRL_DAYS, crl_number_of
from tokensign.errors import MalformedError, UsageError
from tokensign.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from certificate_authorities import People


def listed(der: bytes) -> dict[int, str | None]:
    """What a CRL lists: serial numbers with their reasons."""
    found = {}
    for entry in x509.load_der_x509_crl(der):
        reasons = [
            one.value.reason.value for one in entry.extensions if isinstance(one.value, x509.CRLReason)
        ]
        found[entry.serial_number] = reasons[0] if reasons else None
    return found


def extension(der: bytes, kind: type[Any]) -> Any:  # noqa: ANN401 - of any kind
    return x509.load_der_x509_crl(der).extensions.get_extension_for_class(kind)


@pytest.mark.parametrize("reason", [one for one in Reason if one is not Reason.AA_COMPROMISE])
def test_a_certificate_is_revoked_for_a_reason(local_people: People, reason: Reason) -> None:
    serial = local_people.issue().certificate.serial_number
    local_people.authority.revoke(serial, reason)
    status = local_people.authority.status_of(serial)
    assert (status.status, status.reason) == (Status.REVOKED, reason)
    expected = None if reason is Reason.UNSPECIFIED else reason.value  # RFC 5280 section 5.3.1
    assert listed(local_people.authority.crl(local_people.signer)) == {serial: expected}


def test_a_certificate_is_revoked_since_a_time(people: People) -> None:
    since = datetime.now(UTC) - timedelta(minutes=2)
    serial = people.issue().certificate.serial_number
    people.authority.revoke(serial, Reason.KEY_COMPROMISE, since, actor="Bob")
    assert people.authority.status_of(serial).revoked_at == since
    (entry,) = x509.load_der_x509_crl(people.authority.crl(people.signer))
    assert entry.revocation_date_utc == since.replace(microsecond=0)
    revoked = [one for one in changes(people.store) if one.action == "certificate revoked"]
    assert [(one.actor, one.details["reason"]) for one in revoked] == [("Bob", "keyCompromise")]


@pytest.mark.parametrize("shift", [timedelta(minutes=1), timedelta(days=-1)])
def test_a_time_outside_of_its_life_is_refused(local_people: People, shift: timedelta) -> None:
    serial = local_people.issue().certificate.serial_number
    with pytest.raises(UsageError, match="cannot be revoked since"):
        local_people.authority.revoke(serial, Reason.SUPERSEDED, datetime.now(UTC) + shift)
    assert local_people.authority.status_of(serial).status is Status.GOOD


def test_a_hold_is_released_or_becomes_final(people: People) -> None:
    serial = people.issue().certificate.serial_number
    held = people.authority.revoke(serial, Reason.CERTIFICATE_HOLD)
    assert held.held
    with pytest.raises(UsageError, match="on hold already"):
        people.authority.revoke(serial, Reason.CERTIFICATE_HOLD)
    assert people.authority.release(serial).status.status is Status.GOOD
    with pytest.raises(UsageError, match="is not on hold"):
        people.authority.release(serial)
    since = people.authority.revoke(serial, Reason.CERTIFICATE_HOLD).revoked_at
    final = people.authority.revoke(serial, Reason.KEY_COMPROMISE)
    assert (final.held, final.reason, final.revoked_at) == (False, Reason.KEY_COMPROMISE, since)
    for reason in (Reason.SUPERSEDED, Reason.CERTIFICATE_HOLD):
        with pytest.raises(UsageError, match="is revoked already"):
            people.authority.revoke(serial, reason)
    with pytest.raises(UsageError, match="is not on hold"):
        people.authority.release(serial)


def test_a_serial_of_nobody_cannot_be_revoked(local_people: People) -> None:
    with pytest.raises(UsageError, match="issued no certificate with the serial number 1"):
        local_people.authority.revoke(1, Reason.SUPERSEDED)


def test_numbers_of_crls_grow_and_times_are_told(people: People) -> None:
    crls = [people.authority.crl(people.signer) for _ in range(3)]
    assert [crl_number_of(der) for der in crls] == [1, 2, 3]
    loaded = x509.load_der_x509_crl(crls[0])
    assert loaded.next_update_utc is not None
    assert loaded.next_update_utc - loaded.last_update_utc == timedelta(days=CRL_DAYS, seconds=-1)
    latest = people.authority.latest_crl()
    assert latest is not None
    assert (latest.number, latest.der) == (3, crls[2])


def test_a_delta_says_what_changed_since_the_complete_crl(people: People) -> None:
    old, new, held = (people.issue().certificate.serial_number for _ in range(3))
    people.authority.revoke(old, Reason.SUPERSEDED)
    people.authority.revoke(held, Reason.CERTIFICATE_HOLD)
    with pytest.raises(UsageError, match="no complete CRL yet"):
        people.authority.crl(people.signer, delta=True)
    base = people.authority.crl(people.signer)
    assert listed(base) == {old: "superseded", held: "certificateHold"}
    people.authority.revoke(new, Reason.KEY_COMPROMISE)
    people.authority.release(held)
    delta = people.authority.crl(people.signer, delta=True)
    assert listed(delta) == {new: "keyCompromise", held: "removeFromCRL"}
    indicator = extension(delta, x509.DeltaCRLIndicator)
    assert (indicator.critical, indicator.value.crl_number) == (True, crl_number_of(base))
    complete = people.authority.crl(people.signer)
    assert listed(complete) == {old: "superseded", new: "keyCompromise"}
    (point,) = extension(complete, x509.FreshestCRL).value  # from the first delta on
    assert [name.value for name in point.full_name] == [f"{URL}/delta.crl"]
    assert listed(people.authority.crl(people.signer, delta=True)) == {}


def test_each_partition_has_a_crl_that_its_certificates_name(
    place: str, new_people: Callable[..., People]
) -> None:
    with Store(place) as store:
        people = new_people(store, partitions=3)
        serials = [people.issue().certificate.serial_number for _ in range(9)]
        for serial in serials:
            people.authority.revoke(serial, Reason.CESSATION_OF_OPERATION)
        whole = people.authority.crl(people.signer)
        parts = [people.authority.crl(people.signer, partition=number) for number in range(3)]
        assert set(listed(whole)) == set(serials)
        assert sorted(serial for der in parts for serial in listed(der)) == sorted(serials)
        for number, der in enumerate(parts):
            point = extension(der, x509.IssuingDistributionPoint)
            assert point.critical
            assert [name.value for name in point.value.full_name] == [f"{URL}/ca-{number}.crl"]
            for serial in listed(der):
                certificate = people.authority.find(serial).certificate
                assert certificate is not None
                named = x509.load_der_x509_certificate(certificate.der).extensions
                (pointer,) = named.get_extension_for_class(x509.CRLDistributionPoints).value
                assert pointer.full_name == point.value.full_name
        with pytest.raises(UsageError, match="has no partition 3"):
            people.authority.crl(people.signer, partition=3)


def test_openssl_finds_the_revoked_certificate_on_the_crl_of_its_partition(
    tmp_path: Path, new_people: Callable[..., People]
) -> None:
    def verify(*options: str) -> str:
        return subprocess.run(
            ["openssl", "verify", "-CAfile", "root.pem", "-untrusted", "people.pem", *options, "alice.pem"],
            cwd=tmp_path, capture_output=True, text=True, check=False,
        ).stdout + ""  # fmt: skip

    with Store(tmp_path / "pki.sqlite") as store:
        people = new_people(store, partitions=2)
        certificate = people.issue().certificate
        part = certificate.serial_number % 2
        for name, one in (("root", people.root.certificate), ("people", people.authority.certificate)):
            (tmp_path / f"{name}.pem").write_text(one.pem())
        (tmp_path / "alice.pem").write_text(certificate.pem())
        outcomes = []
        for _ in range(2):
            der = people.authority.crl(people.signer, partition=part)
            loaded = x509.load_der_x509_crl(der)
            (tmp_path / "crl.pem").write_bytes(loaded.public_bytes(Encoding.PEM))
            outcomes.append(verify("-crl_check", "-CRLfile", "crl.pem").strip())
            if not listed(der):
                people.authority.revoke(certificate.serial_number, Reason.KEY_COMPROMISE)
    assert outcomes == ["alice.pem: OK", ""]


def test_a_file_never_goes_back_to_an_older_crl(people: People, tmp_path: Path) -> None:
    file = tmp_path / "people.crl"
    older, newer = people.authority.crl(people.signer), people.authority.crl(people.signer)
    assert publish(people.authority, newer, file)
    assert not publish(people.authority, older, file)
    assert not publish(people.authority, newer, file)
    assert file.read_bytes() == newer
    other = tmp_path / "hello"
    other.write_text("hello")
    with pytest.raises(MalformedError, match="is no CRL of people"):
        publish(people.authority, newer, other)
    root_crl = tmp_path / "root.crl"
    root_crl.write_bytes(people.root.crl(people.root_signer))
    with pytest.raises(MalformedError, match="is no CRL of people"):
        publish(people.authority, newer, root_crl)
    assert other.read_text() == "hello"


def test_a_file_is_not_taken_from_another_ca_of_the_same_name(local_people: People, tmp_path: Path) -> None:
    signer = SoftwareSigner(private_key("ec:p384", 3))
    successor = create_authority(
        local_people.store, "root-2", signer, profile=load_profile("root-ca"), succeeds=local_people.root
    )
    file = tmp_path / "root.crl"
    assert publish(local_people.root, local_people.root.crl(local_people.root_signer), file)
    newer = [successor.crl(signer) for _ in range(2)][-1]
    with pytest.raises(MalformedError, match="is no CRL of root-2"):
        publish(successor, newer, file)


def test_a_certificate_is_listed_until_long_after_its_end(local_people: People) -> None:
    issued = local_people.issue(days=1)
    local_people.authority.revoke(issued.certificate.serial_number, Reason.SUPERSEDED)
    for days, expected in ((2, True), (300, True), (400, False)):
        later = datetime.now(UTC) + timedelta(days=days)
        der = local_people.authority.crl(local_people.signer, now=later)
        assert (issued.certificate.serial_number in listed(der)) is expected


def test_crls_that_count_no_more_are_not_kept(local_people: People) -> None:
    start = datetime.now(UTC)
    for days in (0, 3, 20):
        local_people.authority.crl(local_people.signer, now=start + timedelta(days=days))
    with local_people.store.reading() as connection:
        numbers = connection.exec_driver_sql("SELECT number FROM revocation_lists").scalars().all()
    assert numbers == [3]


@pytest.mark.parametrize("days", [367, 0, -1])
def test_a_crl_that_would_count_too_long_is_refused(local_people: People, days: int) -> None:
    with pytest.raises(UsageError, match="cannot count for"):
        local_people.authority.crl(local_people.signer, days=days)
