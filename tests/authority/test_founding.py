"""The certificates of CAs: founding, CAs below others elsewhere, cross-certificates, renewal, other keys."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from certificate_authorities import URL, private_key
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.name import _ASN1Type
from software_signer import SoftwareSigner

from tokensign.audit.changes import changes
from tokensign.authority import (
    Reason,
    Status,
    adopt_authority,
    create_authority,
    cross_certify,
    list_authorities,
    load_profile,
    open_authority,
    parent_of,
    renew_own_certificate,
    replace_own_certificate,
)
from tokensign.certificates import Certificate
from tokensign.errors import FileError, PolicyError, UntrustedError, UsageError
from tokensign.pki.ca import root_certificate
from tokensign.pki.purpose import Purpose
from tokensign.pki.trust import TrustPolicy, validate_path

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from certificate_authorities import People

    from tokensign.authority import Authority

SUBORDINATE, ROOT = "subordinate-ca", "root-ca"


def validate(certificate: Certificate, between: Iterable[Certificate], anchor: Certificate) -> Any:  # noqa: ANN401
    policy = TrustPolicy((anchor,), purpose=Purpose.EMAIL_PROTECTION)
    return validate_path(certificate, tuple(between), policy, datetime.now(UTC))


class Elsewhere:
    """A CA of somebody else, which names keys in its own way and writes names in its own encodings."""

    def __init__(self) -> None:
        self.signer = SoftwareSigner(private_key("ec:p384", 7))
        printable = _ASN1Type.PrintableString  # not what is written here
        self.name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Elsewhere", printable)])
        self.identifier = x509.SubjectKeyIdentifier(b"elsewhere")
        self.root = self.issue(self.name, self.signer.public_key, self.identifier)

    def issue(
        self,
        subject: x509.Name,
        public_key: Any,  # noqa: ANN401 - of every type
        identifier: x509.SubjectKeyIdentifier | None = None,
        *,
        ca: bool = True,
        crl_sign: bool = True,
        days: tuple[int, int] = (-1, 30),
    ) -> Certificate:
        now = datetime.now(UTC).replace(microsecond=0)
        usage = x509.KeyUsage(not ca, False, False, False, False, ca, crl_sign, False, False)  # noqa: FBT003 - its own
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + timedelta(days=days[0]))
            .not_valid_after(now + timedelta(days=days[1]))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(
                identifier or x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False
            )
        )
        issuer_identifier = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(self.identifier)
        builder = builder.add_extension(issuer_identifier, critical=False)
        made = builder.sign(self.signer.key, hashes.SHA256())
        return Certificate(made.public_bytes(Encoding.DER))


@pytest.fixture(scope="module")
def elsewhere() -> Elsewhere:
    return Elsewhere()


def test_a_ca_that_was_interrupted_takes_the_certificate_it_got(
    local_people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    signer = SoftwareSigner(private_key("ec:p256", 3))

    def make(subject: str = "CN=More") -> Any:  # noqa: ANN401 - an Authority
        return create_authority(
            local_people.store,
            "more",
            signer,
            subject,
            profile=load_profile("subordinate-ca"),
            parent=(local_people.root, local_people.root_signer),
        )

    with monkeypatch.context() as patch:
        patch.setattr("tokensign.authority.founding.insert", lambda _: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            make()
    (waiting,) = [one for one in local_people.root.certificates() if one.request_id == "authority:more"]
    with pytest.raises(UsageError, match="was certified before as CN=More"):
        make("CN=Less")
    assert make().certificate == waiting.certificate


def test_a_certificate_that_was_revoked_meanwhile_makes_no_ca(
    local_people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    details: dict[str, Any] = {
        "profile": load_profile("subordinate-ca"), "parent": (local_people.root, local_people.root_signer),
    }  # fmt: skip
    signer = SoftwareSigner(private_key("ec:p256", 3))
    with monkeypatch.context() as patch:
        patch.setattr("tokensign.authority.founding.insert", lambda _: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            create_authority(local_people.store, "more", signer, "CN=More", **details)
    (waiting,) = [one for one in local_people.root.certificates() if one.request_id == "authority:more"]
    local_people.root.revoke(waiting.serial, Reason.CESSATION_OF_OPERATION)
    with pytest.raises(UsageError, match="and that is revoked"):
        create_authority(local_people.store, "more", signer, "CN=More", **details)


@pytest.mark.parametrize(
    ("details", "reason"),
    [
        ({"name": "Über"}, "cannot name a CA"),
        ({"name": "people"}, "there is a CA people in the database already"),
        ({"url": "https://pki.acme.example"}, "cannot be the URL of a CA"),
        ({"url": "http://pki.acme.example/"}, "cannot be the URL of a CA"),
        ({"url": URL}, f"{URL} is the URL of the CA people already"),
        ({"partitions": 0}, "cannot have 0 partitions"),
        ({"profile": "signing"}, "is not for CAs"),
        ({"days": 9133}, "does not allow 9133 days"),
        ({"subject": "CN=CA,title=Dr"}, "does not allow title in a subject"),
    ],
)
def test_a_ca_that_cannot_be_meant_is_refused(
    local_people: People, details: dict[str, Any], reason: str
) -> None:
    values: dict[str, Any] = {"name": "more", "subject": "CN=More", "profile": "root-ca"} | details
    profile = load_profile(values.pop("profile"))
    signer = SoftwareSigner(private_key("ec:p256", 3))
    with pytest.raises((UsageError, PolicyError), match=reason):
        create_authority(
            local_people.store, values.pop("name"), signer, values.pop("subject"), profile=profile, **values
        )


def renewed(authority: Authority, signer: SoftwareSigner, **details: Any) -> Authority:  # noqa: ANN401 - its own
    profile = load_profile("smime-subordinate-ca" if "parent" in details else ROOT)
    return renew_own_certificate(authority, signer, profile, **details)


def test_a_renewed_ca_keeps_name_and_key_and_what_it_issued_holds(people: People) -> None:
    issued = people.issue()
    later = renewed(people.authority, people.signer, parent=(people.root, people.root_signer), days=2000)
    assert later == open_authority(people.store, "people")
    old, new = people.authority.certificate, later.certificate
    assert new.not_after > old.not_after
    assert (new.encoded_subject, new.public_key_info, new.subject_key_identifier) == (
        old.encoded_subject, old.public_key_info, old.subject_key_identifier,
    )  # fmt: skip
    assert people.root.find(new.serial_number).replaces == old.serial_number
    validate(issued.certificate, (new,), people.root.certificate)
    later.revoke(issued.certificate.serial_number, Reason.SUPERSEDED)
    crl = x509.load_der_x509_crl(later.crl(people.signer))
    assert [entry.serial_number for entry in crl] == [issued.certificate.serial_number]
    assert [one.action for one in changes(people.store)].count("CA certificate renewed") == 1


def test_a_renewed_root_is_in_the_chains_of_those_below(people: People) -> None:
    root = renewed(people.root, people.root_signer, days=4000)
    below = open_authority(people.store, "people")
    assert below.chain == (root.certificate,)
    assert parent_of(below) == root
    issued = below.issue(people.signer, people.request(), load_profile("smime-mailbox-strict"))
    validate(issued.certificate, issued.chain[:1], root.certificate)
    validate(issued.certificate, issued.chain[:1], people.root.certificate)


def test_of_two_processes_that_renew_at_once_one_is_told(people: People) -> None:
    renewed(people.root, people.root_signer)
    with pytest.raises(FileError, match="renewed by another process meanwhile"):
        renewed(people.root, people.root_signer)


def test_a_ca_is_renewed_with_its_own_key_and_by_its_own_issuer(local_people: People) -> None:
    people = local_people
    with pytest.raises(UsageError, match="the key is not that of the CA people"):
        renewed(people.authority, people.root_signer, parent=(people.root, people.root_signer))
    with pytest.raises(UsageError, match="the CA people is not a root"):
        renewed(people.authority, people.signer)
    with pytest.raises(UsageError, match="the CA root is not below people"):
        renewed(people.root, people.root_signer, parent=(people.authority, people.signer))


def succeed(people: People) -> tuple[Authority, SoftwareSigner]:
    """Another key for the CA for people."""
    signer = SoftwareSigner(private_key("ec:p384", 3))
    successor = create_authority(
        people.store,
        "people-2",
        signer,
        profile=load_profile("smime-subordinate-ca"),
        parent=(people.root, people.root_signer),
        succeeds=people.authority,
        url=f"{URL}-2",
    )
    return successor, signer


def test_a_successor_issues_and_the_older_key_goes_on_with_revocation(people: People) -> None:
    old = people.issue().certificate
    successor, signer = succeed(people)
    before = open_authority(people.store, "people")
    assert before.successor == "people-2"
    assert successor.certificate.encoded_subject == before.certificate.encoded_subject
    with pytest.raises(UsageError, match="has a successor, and issues no more"):
        before.issue(people.signer, people.request(), load_profile("smime-mailbox-strict"))
    new = successor.issue(signer, people.request(), load_profile("smime-mailbox-strict")).certificate
    for certificate in (old, new):
        between = (before.certificate, successor.certificate)
        path = validate(certificate, between, people.root.certificate)
        assert path.certificates[1] in between
    before.revoke(old.serial_number, Reason.SUPERSEDED)
    assert successor.status_of(old.serial_number).status is Status.UNKNOWN
    listed = x509.load_der_x509_crl(before.crl(people.signer))
    assert listed.is_signature_valid(people.signer.public_key)
    assert [entry.serial_number for entry in listed] == [old.serial_number]
    assert len(x509.load_der_x509_crl(successor.crl(signer))) == 0
    responder = before.issue(
        people.signer, private_key("ec:p256", 8).public_key(), load_profile("ocsp-responder"), subject="CN=R"
    )
    assert responder.chain[0] == before.certificate


def test_a_ca_has_one_successor_and_not_itself(people: People) -> None:
    with pytest.raises(UsageError, match="the key is that of the CA root already"):
        create_authority(
            people.store, "root-2", people.root_signer, profile=load_profile(ROOT), succeeds=people.root
        )
    succeed(people)
    other = SoftwareSigner(private_key("ec:p256", 12))
    with pytest.raises(UsageError, match="the CA people has the successor people-2 already"):
        create_authority(
            people.store, "people-3", other, profile=load_profile(ROOT), succeeds=people.authority
        )
    assert [one.name for one in list_authorities(people.store)] == ["people", "people-2", "root"]


def test_a_ca_below_one_elsewhere_issues(people: People, elsewhere: Elsewhere) -> None:
    signer = SoftwareSigner(private_key("ec:p256", 5))
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Adopted")])
    certificate = elsewhere.issue(name, signer.public_key)
    adopted = adopt_authority(people.store, "adopted", signer, certificate, (elsewhere.root,))
    assert open_authority(people.store, "adopted") == adopted
    issued = adopted.issue(signer, people.request("CN=Alice"), load_profile("signing"))
    assert issued.chain == (certificate, elsewhere.root)
    validate(issued.certificate, issued.chain[:1], elsewhere.root)
    later = elsewhere.issue(name, signer.public_key, days=(-1, 60))
    replace_own_certificate(adopted, signer, later, (elsewhere.root,))
    assert open_authority(people.store, "adopted").certificate == later
    validate(issued.certificate, (later,), elsewhere.root)


def test_what_is_no_certificate_of_the_ca_is_not_adopted(local_people: People, elsewhere: Elsewhere) -> None:
    store, signer = local_people.store, SoftwareSigner(private_key("ec:p256", 5))
    key, name = signer.public_key, x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Adopted")])
    good = elsewhere.issue(name, key)
    for certificate, chain, reason in (
        (elsewhere.issue(name, key, ca=False), (), "is not that of a CA"),
        (elsewhere.issue(name, key, crl_sign=False), (), "does not allow its key to sign CRLs"),
        (elsewhere.issue(name, key, days=(-9, -2)), (), "expired on"),
        (elsewhere.issue(name, key, days=(2, 9)), (), "is not valid before"),
        (elsewhere.root, (), "belongs to another key"),
        (good, (local_people.root.certificate,), "is not above that of CN=Adopted"),
    ):
        with pytest.raises(UsageError, match=reason):
            adopt_authority(store, "adopted", signer, certificate, chain)
    adopted = adopt_authority(store, "adopted", signer, good)
    other_name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Other")])
    for certificate in (
        elsewhere.issue(other_name, key),
        elsewhere.issue(name, key, x509.SubjectKeyIdentifier(b"other")),
    ):
        with pytest.raises(UsageError, match="does not have the name, key and key identifier"):
            replace_own_certificate(adopted, signer, certificate)


def test_a_cross_certificate_leads_to_what_a_ca_elsewhere_issued(
    local_people: People, elsewhere: Elsewhere
) -> None:
    """Its name and its key identifier are octet by octet those that its certificates name."""
    leaf = elsewhere.issue(
        x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Alice")]),
        private_key("ec:p256").public_key(),
        ca=False,
        crl_sign=False,
    )
    with pytest.raises(UntrustedError):
        validate(leaf, (elsewhere.root,), local_people.root.certificate)
    cross = cross_certify(
        local_people.root, local_people.root_signer, elsewhere.root, load_profile(SUBORDINATE)
    )
    assert cross.certificate.encoded_subject == elsewhere.root.encoded_subject
    assert cross.certificate.subject_key_identifier == b"elsewhere"
    assert cross.record.profile == SUBORDINATE
    path = validate(leaf, (elsewhere.root, cross.certificate), local_people.root.certificate)
    assert path.certificates == (leaf, cross.certificate, local_people.root.certificate)


CONSTRAINED = """
[validity]
days = 9
maximum-days = 9
[keys]
types = ["ec:p256"]
[subject]
required = ["CN", "O", "C"]
[authority]
[name-constraints]
permitted = ["email:acme.example"]
excluded = ["dns:acme.example"]
"""


def test_name_constraints_of_a_cross_certificate_hold(local_people: People, tmp_path: Path) -> None:
    file = tmp_path / "constrained.toml"
    file.write_text(CONSTRAINED)
    signer = SoftwareSigner(private_key("ec:p384", 6))
    other_root = root_certificate(signer, "CN=Other Root")
    root = adopt_authority(local_people.store, "other", signer, other_root)
    cross = cross_certify(root, signer, local_people.authority.certificate, load_profile(file)).certificate
    extension = x509.load_der_x509_certificate(cross.der).extensions.get_extension_for_class(
        x509.NameConstraints
    )
    assert extension.critical
    for address, excluded in (("alice@acme.example", False), ("alice@other.example", True)):
        leaf = local_people.issue(subject=f"CN={address}", emails=(address,)).certificate
        if excluded:
            with pytest.raises(UntrustedError, match="which Acme People may not certify"):
                validate(leaf, (cross,), other_root)
        else:
            validate(leaf, (cross,), other_root)


def test_what_cannot_be_cross_certified_is_refused(local_people: People, elsewhere: Elsewhere) -> None:
    root, signer = local_people.root, local_people.root_signer
    profile = load_profile(SUBORDINATE)
    leaf = local_people.issue().certificate
    expired = elsewhere.issue(elsewhere.name, elsewhere.signer.public_key, days=(-9, -2))
    for other, reason in (
        (leaf, "is not that of a CA"),
        (root.certificate, "has the key of the CA root itself"),
        (expired, "expired on"),
    ):
        with pytest.raises(UsageError, match=reason):
            cross_certify(root, signer, other, profile)
    with pytest.raises(PolicyError, match="is not for CAs"):
        cross_certify(root, signer, elsewhere.root, load_profile("signing"))


@pytest.mark.parametrize("reason", [Reason.KEY_COMPROMISE, Reason.CA_COMPROMISE])
def test_a_key_that_somebody_else_has_is_never_certified_again(people: People, reason: Reason) -> None:
    issued = people.issue()
    people.authority.revoke(issued.certificate.serial_number, reason)
    public_key = private_key("ec:p256").public_key()
    with pytest.raises(PolicyError, match="the key is compromised: the CA people"):
        people.issue()
    with pytest.raises(PolicyError, match="the key is compromised"):
        people.root.issue(
            people.root_signer,
            public_key,
            load_profile("signing"),
            subject="CN=Alice",
            emails=("alice@acme.example",),
        )
    with pytest.raises(PolicyError, match="the key is compromised"):
        create_authority(
            people.store,
            "more",
            SoftwareSigner(private_key("ec:p256")),
            "CN=More",
            profile=load_profile(ROOT),
        )
    assert len(list(people.authority.certificates())) == 1


def test_a_key_whose_certificate_ended_otherwise_is_certified_again(local_people: People) -> None:
    for reason in (Reason.SUPERSEDED, Reason.CERTIFICATE_HOLD):
        local_people.authority.revoke(local_people.issue().certificate.serial_number, reason)
    assert local_people.issue().record.status.status is Status.GOOD


def test_a_clock_that_was_set_back_is_noticed(local_people: People) -> None:
    begin = local_people.authority.certificate.not_before
    with pytest.raises(UsageError, match="is not valid before") as raised:
        local_people.issue(now=begin - timedelta(days=1))
    assert raised.value.hint == "see whether the clock of this machine is right"
    with pytest.raises(UsageError, match="is not valid before"):
        local_people.authority.crl(local_people.signer, now=begin - timedelta(days=1))
    with pytest.raises(UsageError, match="expired on"):
        local_people.issue(now=local_people.authority.certificate.not_after + timedelta(minutes=1))


def test_a_certificate_of_a_wrong_clock_can_be_revoked_at_once(local_people: People) -> None:
    begin = datetime.now(UTC) + timedelta(days=1)
    issued = local_people.issue(now=begin)
    assert issued.record.not_before > datetime.now(UTC)
    revoked = local_people.authority.revoke(issued.certificate.serial_number, Reason.SUPERSEDED)
    assert revoked.status.status is Status.REVOKED


def test_a_renewed_cross_certificate_keeps_the_key_identifier(
    local_people: People, elsewhere: Elsewhere
) -> None:
    root, signer, profile = local_people.root, local_people.root_signer, load_profile(SUBORDINATE)
    cross = cross_certify(root, signer, elsewhere.root, profile).certificate
    renewed = root.renew(signer, cross.serial_number, profile).certificate
    assert renewed.subject_key_identifier == b"elsewhere"
    assert renewed.encoded_subject == elsewhere.root.encoded_subject
