"""Requesters who want what is not theirs, and people who would be two."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from asn1crypto import core, keys
from asn1crypto import csr as pkcs10
from asn1crypto import x509 as asn1
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from registrations import ALICE, CA_KEY, PROFILE, csr, new_key, submitted, waiting
from sqlalchemy import select, update

from tokensign import der
from tokensign.algorithms import default_scheme
from tokensign.audit.changes import changes
from tokensign.authority import Reason, load_profile, open_authority
from tokensign.authority.approval import approve_request, issue_for_request, reject_request
from tokensign.authority.registration import get_request, list_requests, prove_mailbox, submit_request
from tokensign.authority.requests import read_request
from tokensign.errors import MalformedError, PolicyError, TokensignError, UnsupportedError, UsageError
from tokensign.pki.request import certificate_request
from tokensign.store.tables import MAILBOX_PROOFS, REQUESTS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from software_signer import SoftwareSigner

    from tokensign.store import Store

EXTENSION_REQUEST = "extension_request"
DAMAGES = 500


def email(octets: bytes) -> asn1.GeneralName:
    """A name of the form rfc822Name with any octets, also those that no library would write."""
    return asn1.GeneralName("rfc822_name", asn1.EmailAddress(contents=octets))


def other_name(kind: str) -> asn1.GeneralName:
    name = {"type_id": kind, "value": core.Any(core.UTF8String("bob@acme.example", explicit=0))}
    return asn1.GeneralName("other_name", asn1.AnotherName(name))


def extension_request(*names: asn1.GeneralName) -> pkcs10.CRIAttribute:
    extension = {"extn_id": "subject_alt_name", "extn_value": asn1.GeneralNames(names)}
    return pkcs10.CRIAttribute({"type": EXTENSION_REQUEST, "values": [asn1.Extensions([extension])]})


def request_with(*attributes: pkcs10.CRIAttribute, subject: dict[str, str] | None = None) -> bytes:
    """A well-signed certification request, DER."""
    key = new_key()
    return signed(request_info(*attributes, subject=subject, key=key).dump(), key)


def request_info(
    *attributes: pkcs10.CRIAttribute, subject: dict[str, str] | None, key: SoftwareSigner
) -> pkcs10.CertificationRequestInfo:
    public_key = key.public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return pkcs10.CertificationRequestInfo(
        {
            "version": "v1",
            "subject": asn1.Name.build(subject or {}),
            "subject_pk_info": keys.PublicKeyInfo.load(public_key),
            "attributes": attributes,
        }
    )


def signed(info: bytes, key: SoftwareSigner) -> bytes:
    """A CertificationRequest over a CertificationRequestInfo, be it one or not."""
    algorithm = pkcs10.SignedDigestAlgorithm({"algorithm": "sha256_ecdsa"}).dump()
    signature = core.OctetBitString(key.sign(info, default_scheme(key.public_key))).dump()
    return der.sequence(info, algorithm, signature)


def refuse(store: Store, encoded: bytes, *reasons: type[Exception], profile: str = PROFILE.name) -> None:
    """See that a request is not even taken."""
    with pytest.raises(reasons):
        submit_request(store, encoded, "acme", load_profile(profile), requester="bob")
    assert list_requests(store, finished=True) == []


@pytest.mark.parametrize(
    "address",
    [b'"alice"@acme.example', b"alice@acme.example\nBcc: bob@acme.example", b"alice@acme.example\0",
     b"alice@acme.example.", b"alice@@acme.example", b"bob@b.example,alice@acme.example",
     b"Alice <alice@acme.example>", b"alice@[127.0.0.1]", "älice@acme.example".encode(),
     "alice@acmé.example".encode(), "\u0430lice@acme.example".encode(), b"@acme.example", b"alice", b"",
     b"a" * 65 + b"@acme.example", b"=?utf-8?q?bob?=@acme.example",
     b"=?us-ascii?q?bob=40b.example?=@acme.example"],
)  # fmt: skip
def test_what_could_be_read_as_another_address_is_refused(store: Store, address: bytes) -> None:
    refuse(store, request_with(extension_request(email(address))), UsageError, MalformedError)


def test_the_case_of_an_address_stays_and_the_code_goes_just_there(store: Store) -> None:
    _, codes = submit_request(store, csr("ALICE@Acme.example"), "acme", PROFILE)
    assert list(codes) == ["ALICE@Acme.example"]


@pytest.mark.parametrize(
    "name",
    [asn1.GeneralName("uniform_resource_identifier", asn1.URI("https://acme.example/")),
     asn1.GeneralName("directory_name", asn1.Name.build({"common_name": "Bob"})),
     asn1.GeneralName("ip_address", asn1.IPAddress("127.0.0.1")),
     asn1.GeneralName("registered_id", "1.2.3"),
     asn1.GeneralName.load(b"\xa3\x00"),
     other_name("1.3.6.1.5.5.7.8.9"), other_name("1.3.6.1.4.1.311.20.2.3")],
    ids=["URI", "directoryName", "iPAddress", "registeredID", "x400Address", "SmtpUTF8Mailbox",
         "userPrincipalName"],
)  # fmt: skip
def test_a_name_that_is_never_certified_is_refused_and_not_left_out(
    store: Store, name: asn1.GeneralName
) -> None:
    refuse(store, request_with(extension_request(email(ALICE.encode()), name)), UnsupportedError)


def test_a_request_that_asks_for_extensions_twice_is_refused(store: Store) -> None:
    first, second = (extension_request(email(address)) for address in (b"bob@acme.example", ALICE.encode()))
    refuse(store, request_with(first, second), MalformedError)
    extensions = [*first["values"], *second["values"]]
    in_one_attribute = pkcs10.CRIAttribute({"type": EXTENSION_REQUEST, "values": extensions})
    refuse(store, request_with(in_one_attribute), MalformedError)
    names = asn1.Extensions([extensions[0][0], extensions[1][0]])
    in_one_value = pkcs10.CRIAttribute({"type": EXTENSION_REQUEST, "values": [names]})
    refuse(store, request_with(in_one_value), MalformedError)


def test_damaged_requests_that_are_well_signed_are_refused_in_words() -> None:
    key, chance = new_key(), random.Random(7)  # noqa: S311 - the same damage each time
    names = (email(ALICE.encode()), email(b"bob@acme.example"))
    info = request_info(extension_request(*names), subject={"common_name": "Alice"}, key=key).dump()
    read, refused = 0, 0
    for _ in range(DAMAGES):
        damaged = bytearray(info)
        damaged[chance.randrange(len(info))] = chance.randrange(256)
        try:
            read_request(signed(bytes(damaged), key))
            read += 1
        except TokensignError:
            refused += 1
    assert read > 0
    assert refused > DAMAGES // 2


def test_a_request_of_another_version_is_refused(store: Store) -> None:
    encoded = bytearray(request_with(extension_request(email(ALICE.encode()))))
    version = encoded.index(b"\x02\x01\x00")
    encoded[version + 2] = 7
    refuse(store, bytes(encoded), MalformedError)


@pytest.mark.parametrize("profile", ["signing", "encryption", "dual-use", "smime-sponsor-multipurpose"])
@pytest.mark.parametrize("value", ["bob@acme.example", "Bob (bob@acme.example)", "bob\uff20acme.example"])
def test_no_subject_shows_the_address_of_somebody_else(store: Store, profile: str, value: str) -> None:
    subject = {
        "common_name": value,
        "surname": "Smith",
        "organization_name": "Acme",
        "country_name": "CH",
        "organization_identifier": "NTRCH-12345",
    }
    if profile != "smime-sponsor-multipurpose":
        del subject["organization_identifier"]
    encoded = request_with(extension_request(email(ALICE.encode())), subject=subject)
    with pytest.raises(PolicyError, match="is no address of the certificate"):
        submit_request(store, encoded, "acme", load_profile(profile))


@pytest.mark.parametrize(
    ("attribute", "value"),
    [("common_name", "A" * 65), ("common_name", "A" * 5000), ("organization_name", "O" * 65),
     ("organizational_unit_name", "O" * 65), ("country_name", "CHE"), ("country_name", "ch"),
     ("country_name", "C1"), ("locality_name", "L" * 129), ("common_name", " "), ("common_name", "A\x1b[2J"),
     ("common_name", "\u5b57" * 60), ("common_name", "\u202eecilA")],
)  # fmt: skip
def test_what_no_subject_may_hold_is_refused(store: Store, attribute: str, value: str) -> None:
    encoded = request_with(
        extension_request(email(ALICE.encode())), subject={"common_name": "Alice", attribute: value}
    )
    refuse(store, encoded, PolicyError, profile="dual-use")


@pytest.mark.parametrize(
    "approver",
    [" alice@acme.example", "ALICE@ACME.EXAMPLE", "alice@acme.example.", "Alice <alice@acme.example>",
     "\uff41lice@acme.example", "alice\uff20acme.example", "a\u0301lice@acme.example", "alice", "Alice ",
     "desk", "desk ", "DESK", "desk@acme.example"],
)  # fmt: skip
def test_nobody_approves_their_own_request_under_another_spelling(store: Store, approver: str) -> None:
    number = waiting(store)
    with pytest.raises(PolicyError, match="does not approve it"):
        approve_request(store, number, actor=approver)
    assert get_request(store, number).state == "waiting"


@pytest.mark.parametrize(
    "approver",
    ["carol", "alice@other.example", "alice.smith@acme.example", "desk2", "alice@xn--acme-5qa.example"],
)
def test_people_with_similar_names_are_others(store: Store, approver: str) -> None:
    assert approve_request(store, waiting(store), actor=approver).state == "approved"


@pytest.mark.parametrize(
    "again", ["Carol@bücher.example", "carol@xn--bcher-kva.example", "Carol <carol@BÜCHER.example>", "carol"]
)
def test_one_person_with_two_spellings_is_no_dual_control(store: Store, again: str) -> None:
    number = request_for_ca(store)
    approve_request(store, number, actor="carol@bücher.example")
    with pytest.raises(PolicyError, match="has approved request"):
        approve_request(store, number, actor=again)


def request_for_ca(store: Store) -> int:
    encoded = csr(subject="CN=Acme Staff CA,O=Acme,C=CH")
    profile = load_profile("subordinate-ca")
    return submit_request(store, encoded, "acme", profile, requester="bob", submitter="bob")[0].id


def at_once(work: Sequence[tuple[object, ...]], call: object) -> list[object]:
    """Results and errors of calls that many threads make, in the order of `work`."""

    def attempt(arguments: tuple[object, ...]) -> object:
        try:
            return call(*arguments)  # type: ignore[operator]
        except (PolicyError, UsageError) as error:
            return error

    with ThreadPoolExecutor(len(work)) as threads:
        return list(threads.map(attempt, work))


def test_guesses_at_once_are_counted_one_by_one(each_store: Store) -> None:
    number, codes = submitted(each_store)
    wrong = "AAAAAA-AAAAAA-AAAAAA-AAAAAA"
    outcomes = at_once([(each_store, number, wrong)] * 8, prove_mailbox)
    assert sum("not the code" in str(outcome) for outcome in outcomes) == 5
    assert sum("tried too often" in str(outcome) for outcome in outcomes) == 3
    with each_store.reading() as connection:
        assert connection.scalar(select(MAILBOX_PROOFS.c.wrong)) == 5
    with pytest.raises(PolicyError, match="tried too often"):
        prove_mailbox(each_store, number, codes[ALICE])


def test_a_code_that_is_told_twice_at_once_counts_once(each_store: Store) -> None:
    number, codes = submitted(each_store)
    at_once([(each_store, number, codes[ALICE])] * 4, prove_mailbox)
    assert get_request(each_store, number).state == "waiting"
    assert [entry.action for entry in changes(each_store)].count("address proved") == 1


def test_one_person_who_approves_twice_at_once_is_one(each_store: Store) -> None:
    number = request_for_ca(each_store)

    def approve(name: str) -> object:
        return approve_request(each_store, number, actor=name)

    outcomes = at_once([("carol",), ("Carol",), ("carol@acme.example",)], approve)
    assert sum(isinstance(outcome, PolicyError) for outcome in outcomes) == 2
    found = get_request(each_store, number)
    assert (found.state, len(found.approvers)) == ("waiting", 1)


def test_the_code_of_one_request_says_nothing_of_another(store: Store) -> None:
    _, codes = submitted(store)
    mine, _ = submitted(store, "bob@acme.example")
    with pytest.raises(PolicyError, match="not the code"):
        prove_mailbox(store, mine, codes[ALICE])


def test_a_replayed_request_needs_a_code_of_its_own(store: Store) -> None:
    encoded = csr(ALICE)
    first, codes = submit_request(store, encoded, "acme", PROFILE, submitter="desk")
    prove_mailbox(store, first.id, codes[ALICE])
    reject_request(store, first.id, "withdrawn")
    second, _ = submit_request(store, encoded, "acme", PROFILE, requester="bob", submitter="bob")
    assert second.state == "unproved"
    with pytest.raises(PolicyError, match="not the code"):
        prove_mailbox(store, second.id, codes[ALICE])


def test_an_old_proof_is_no_help_to_an_issuance_that_died(store: Store) -> None:
    number = waiting(store)
    approve_request(store, number, actor="carol")
    with store.writing() as connection:  # as a process leaves it that dies before the CA has signed
        connection.execute(update(REQUESTS).values(state="issuing"))
        connection.execute(update(MAILBOX_PROOFS).values(proved_at=datetime.now(UTC) - timedelta(days=31)))
    with pytest.raises(PolicyError, match="too long ago"):
        issue_for_request(store, number, open_authority(store), CA_KEY, PROFILE)


def test_a_certificate_that_was_issued_is_handed_out_also_when_its_proof_is_old(store: Store) -> None:
    number = waiting(store)
    approve_request(store, number, actor="carol")
    first = issue_for_request(store, number, open_authority(store), CA_KEY, PROFILE)
    with store.writing() as connection:
        connection.execute(update(REQUESTS).values(state="issuing"))  # it died before it knew
        connection.execute(update(MAILBOX_PROOFS).values(proved_at=datetime.now(UTC) - timedelta(days=31)))
    again = issue_for_request(store, number, open_authority(store), CA_KEY, PROFILE)
    assert again.certificate == first.certificate
    assert get_request(store, number).state == "issued"


def test_a_profile_that_becomes_one_for_cas_after_one_approval_issues_nothing(
    store: Store, tmp_path: Path
) -> None:
    file = tmp_path / "badge.toml"
    validity = "[validity]\nmaximum-days = 30\ndays = 30\n"
    common = validity + '[keys]\ntypes = ["ec:p256"]\n[subject]\nrequired = ["CN"]\n'
    file.write_text(f'usages = ["sign"]\n{common}')
    encoded = csr(subject="CN=Alice")
    request, _ = submit_request(store, encoded, "acme", load_profile(file), requester="bob", submitter="bob")
    approve_request(store, request.id, actor="carol")
    file.write_text(f"[authority]\n{common}")
    with pytest.raises(PolicyError, match="was not for CAs"):
        issue_for_request(store, request.id, open_authority(store), CA_KEY, load_profile(file))


@pytest.mark.parametrize("text", ["\x1b[2Jgone", "two\nlines", "\u202ereversed", "\udcff", "", " "])
def test_nothing_that_steers_a_terminal_comes_into_the_log(store: Store, text: str) -> None:
    number = waiting(store)
    with pytest.raises(UsageError, match="letters"):
        reject_request(store, number, text)
    with pytest.raises(UsageError, match="no name of a person"):
        approve_request(store, number, actor=text)
    with pytest.raises(UsageError, match="no name of a person"):
        submit_request(store, csr(ALICE), "acme", PROFILE, requester=text)
    assert get_request(store, number).state == "waiting"
    approve_request(store, number, actor="carol")
    with pytest.raises(UsageError, match="no name of a person"):
        issue_for_request(store, number, open_authority(store), CA_KEY, PROFILE, actor=text)
    assert get_request(store, number).state == "approved"


def test_a_key_that_was_compromised_is_not_even_asked_for(store: Store) -> None:
    authority, key = open_authority(store), new_key()
    encoded = certificate_request(key, f"CN={ALICE}", [ALICE])
    issued = authority.issue(CA_KEY, encoded, PROFILE)
    authority.revoke(issued.certificate.serial_number, Reason.KEY_COMPROMISE)
    for address in (ALICE, "bob@acme.example"):
        refuse(store, certificate_request(key, f"CN={address}", [address]), PolicyError)
