"""Each profile: what its certificates hold, and what it refuses."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from certificate_authorities import private_key
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID
from software_signer import SoftwareSigner

from tokensign.algorithms import KeyUsage
from tokensign.authority import load_profile, profile_names
from tokensign.errors import ConfigurationError, FileError, PolicyError, UnsupportedError, UsageError
from tokensign.pki.purpose import Purpose
from tokensign.pki.trust import TrustPolicy, validate_path

if TYPE_CHECKING:
    from pathlib import Path

    from certificate_authorities import People

SIGNATURE, TRANSPORT, AGREEMENT = "digital_signature", "key_encipherment", "key_agreement"
PERSON = "CN=Alice,O=Acme,C=CH"
SPONSORED = "CN=Alice,GN=Alice,SN=Smith,O=Acme,organizationIdentifier=NTRCH-CHE-123.456.789,C=CH"
ORGANIZATION = "CN=Acme,O=Acme,organizationIdentifier=NTRCH-CHE-123.456.789,C=CH"
ADDRESS = ("alice@acme.example",)
MAIL = ExtendedKeyUsageOID.EMAIL_PROTECTION


@dataclass(frozen=True)
class Case:
    """A certificate of a profile and what must be in it."""

    profile: str
    subject: str | x509.Name | None
    kind: str = "ec:p256"
    emails: tuple[str, ...] = ADDRESS
    dns: tuple[str, ...] = ()
    usage: frozenset[str] = frozenset({SIGNATURE})
    purposes: tuple[x509.ObjectIdentifier, ...] = (MAIL,)
    policies: tuple[str, ...] = ()
    extra: dict[str, Any] = field(default_factory=dict)


def both(profile: str, subject: str, policy: str, *purposes: x509.ObjectIdentifier) -> list[Case]:
    """The two kinds of keys of most people, for all uses."""
    return [
        Case(profile, subject, kind, usage=frozenset(usage), purposes=(MAIL, *purposes), policies=(policy,))
        for kind, usage in (("rsa", {SIGNATURE, TRANSPORT}), ("ec:p384", {SIGNATURE, AGREEMENT}))
    ]


CLIENT = ExtendedKeyUsageOID.CLIENT_AUTH
CASES = [
    *both("smime-mailbox-strict", "CN=alice@acme.example", "2.23.140.1.5.1.3"),
    *both("smime-mailbox-multipurpose", "CN=alice@acme.example", "2.23.140.1.5.1.2", CLIENT),
    *both("smime-organization-strict", ORGANIZATION, "2.23.140.1.5.2.3"),
    *both("smime-organization-multipurpose", ORGANIZATION, "2.23.140.1.5.2.2", CLIENT),
    *both("smime-sponsor-strict", SPONSORED, "2.23.140.1.5.3.3"),
    *both("smime-sponsor-multipurpose", SPONSORED, "2.23.140.1.5.3.2", CLIENT),
    Case("smime-mailbox-strict", None, "ed25519", policies=("2.23.140.1.5.1.3",)),
    Case(
        "smime-mailbox-strict", None, "ml-kem-768",
        usage=frozenset({TRANSPORT}), policies=("2.23.140.1.5.1.3",),
    ),
    Case("signing", PERSON, "ml-dsa-65"),
    Case("encryption", PERSON, "x25519", usage=frozenset({AGREEMENT})),
    Case("dual-use", PERSON, "rsa", usage=frozenset({SIGNATURE, TRANSPORT})),
    Case("code-signing", PERSON, "rsa:3072", (), purposes=(ExtendedKeyUsageOID.CODE_SIGNING,)),
    Case("timestamping", PERSON, "ec:p521", (), purposes=(ExtendedKeyUsageOID.TIME_STAMPING,)),
    Case("ocsp-responder", PERSON, "ed448", (), purposes=(ExtendedKeyUsageOID.OCSP_SIGNING,)),
    Case("tls-client", PERSON, "ec:p256", purposes=(CLIENT,)),
    Case(
        "tls-server", None, "ec:p256", (), ("www.acme.example", "*.acme.example"),
        purposes=(ExtendedKeyUsageOID.SERVER_AUTH,),
    ),
]  # fmt: skip


def issued(people: People, case: Case, **details: Any) -> x509.Certificate:  # noqa: ANN401 - those of `issue`
    """A certificate; the key of a request could not always sign it, so it is given as it is."""
    made = people.root.issue(
        people.root_signer,
        private_key(case.kind).public_key(),
        load_profile(case.profile),
        subject=case.subject,
        emails=case.emails,
        dns=case.dns,
        **(case.extra | details),
    )
    return x509.load_der_x509_certificate(made.certificate.der)


def key_usages(certificate: x509.Certificate) -> set[str]:
    usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    names = ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment")
    return {name for name in (*names, "key_agreement", "key_cert_sign", "crl_sign") if getattr(usage, name)}


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.profile}-{case.kind}")
def test_a_certificate_holds_what_its_profile_says(local_people: People, case: Case) -> None:
    certificate = issued(local_people, case)
    extensions = certificate.extensions
    assert key_usages(certificate) == case.usage
    assert extensions.get_extension_for_class(x509.KeyUsage).critical
    purposes = extensions.get_extension_for_class(x509.ExtendedKeyUsage)
    assert tuple(purposes.value) == case.purposes
    assert purposes.critical == (case.profile == "timestamping")  # RFC 3161 section 2.3
    assert not extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    found = [one for one in extensions if one.oid == x509.CertificatePolicies.oid]
    assert (
        tuple(one.policy_identifier.dotted_string for entry in found for one in entry.value) == case.policies
    )
    names = [
        one.value
        for entry in extensions
        if isinstance(entry.value, x509.SubjectAlternativeName)
        for one in entry.value
    ]
    assert tuple(names) == (*case.emails, *case.dns)
    assert (x509.OCSPNoCheck.oid in {one.oid for one in extensions}) == (case.profile == "ocsp-responder")
    days = (certificate.not_valid_after_utc - certificate.not_valid_before_utc).total_seconds() / 86400
    assert days == pytest.approx(load_profile(case.profile).days, abs=0.001)
    assert days < load_profile(case.profile).days  # both ends count


def test_every_profile_is_tried() -> None:
    tried = {case.profile for case in CASES} | {"root-ca", "subordinate-ca", "smime-subordinate-ca"}
    assert tried == set(profile_names())


def test_a_subject_that_is_empty_makes_its_address_critical(local_people: People) -> None:
    certificate = issued(local_people, Case("smime-mailbox-strict", None))
    assert not certificate.subject.rdns
    assert certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).critical


@pytest.mark.parametrize("profile", ["root-ca", "subordinate-ca", "smime-subordinate-ca"])
def test_a_ca_may_sign_certificates_and_lists_and_nothing_else(local_people: People, profile: str) -> None:
    certificate = issued(local_people, Case(profile, "CN=CA,O=Acme,C=CH", emails=()))
    assert key_usages(certificate) == {"key_cert_sign", "crl_sign"}
    constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    assert (constraints.critical, constraints.value.ca) == (True, True)
    assert constraints.value.path_length == (None if profile == "root-ca" else 0)
    purposes = [
        tuple(one.value) for one in certificate.extensions if isinstance(one.value, x509.ExtendedKeyUsage)
    ]
    assert purposes == ([(MAIL,)] if profile.startswith("smime") else [])


def test_the_path_to_the_root_holds_for_mail(local_people: People) -> None:
    made = local_people.issue()
    policy = TrustPolicy((local_people.root.certificate,), purpose=Purpose.EMAIL_PROTECTION)
    path = validate_path(made.certificate, made.chain, policy, made.certificate.not_before)
    assert path.certificates == (made.certificate, *made.chain)


REFUSED = [
    (Case("smime-mailbox-strict", "CN=Alice"), "does not allow the common name 'Alice'"),
    (Case("smime-mailbox-strict", "CN=bob@acme.example"), "does not allow the common name"),
    (Case("smime-mailbox-strict", "CN=alice@acme.example,O=Acme"), "does not allow O in a subject"),
    (Case("smime-mailbox-strict", None, emails=()), "wants an e-mail address"),
    (Case("smime-mailbox-strict", "emailAddress=bob@acme.example"), "no address of the certificate"),
    (Case("smime-mailbox-strict", None, "ec:p521"), "does not allow keys of type ec:p521"),
    (Case("smime-mailbox-strict", None, "ec:k256"), "does not allow such keys"),
    (Case("smime-mailbox-strict", None, dns=("www.acme.example",)), "does not allow a host name"),
    (Case("smime-mailbox-strict", None, extra={"days": 826}), "does not allow 826 days"),
    (Case("smime-mailbox-strict", None, "ed25519", extra={"usage": KeyUsage.DECRYPT}), "cannot do what"),
    (Case("smime-organization-strict", "O=Acme"), "wants organizationIdentifier in a subject"),
    (Case("smime-organization-strict", f"GN=Alice,{ORGANIZATION}"), "does not allow GN"),
    (Case("smime-organization-strict", ORGANIZATION.replace("=Acme,O", "=Other,O")), "common name 'Other'"),
    (Case("smime-organization-strict", f"{ORGANIZATION},STREET=Main 1"), "does not allow STREET"),
    (Case("smime-sponsor-strict", ORGANIZATION.removeprefix("CN=Acme,")), "wants one of GN, SN, pseudonym"),
    (Case("smime-sponsor-strict", f"pseudonym=A,{SPONSORED}"), "a pseudonym, or a name, and not both"),
    (Case("signing", PERSON, "x25519"), "does not allow keys of type x25519"),
    (Case("signing", PERSON, extra={"usage": KeyUsage.BOTH}), "is not for the usage both"),
    (Case("signing", f"CN=Bob,{PERSON}"), "a subject has CN once"),
    (Case("encryption", PERSON, "ed25519"), "does not allow keys of type ed25519"),
    (Case("code-signing", PERSON, "rsa", ()), "does not allow RSA keys of 2048 bits"),
    (Case("code-signing", PERSON, "ec:p256"), "does not allow an e-mail address"),
    (Case("tls-server", None, emails=(), dns=()), "wants a host name"),
    (Case("tls-client", None, emails=()), "wants CN in a subject"),
]  # fmt: skip


@pytest.mark.parametrize(("case", "reason"), REFUSED, ids=lambda part: getattr(part, "profile", None))
def test_what_a_profile_does_not_allow_is_refused(local_people: People, case: Case, reason: str) -> None:
    with pytest.raises(PolicyError, match=reason):
        issued(local_people, case)
    assert [record.profile for record in local_people.root.certificates()] == ["smime-subordinate-ca"]


@pytest.mark.parametrize(
    "host", ["localhost", "acme example", "*", "a.*.example", "-a.example", "a" * 254 + ".ch"]
)
def test_what_is_no_host_name_is_refused(local_people: People, host: str) -> None:
    with pytest.raises(UsageError, match="is not a host name"):
        issued(local_people, Case("tls-server", None, emails=(), dns=(host,)))


def test_control_characters_of_a_request_do_not_get_into_a_subject(local_people: People) -> None:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Alice\x1b[2J")])
    with pytest.raises(PolicyError, match="CN in the subject is empty or not printable"):
        issued(local_people, Case("signing", name))


def test_a_profile_of_ones_own_is_read_from_a_file(local_people: People, tmp_path: Path) -> None:
    file = tmp_path / "badge.toml"
    file.write_text(
        'usages = ["sign"]\npolicies = ["1.3.6.1.4.1.99999.1"]\n'
        "[validity]\ndays = 7\nmaximum-days = 7\n"
        '[keys]\ntypes = ["ec:p256"]\n[subject]\nrequired = ["CN"]\n'
        '[extended-key-usage]\npurposes = ["1.3.6.1.4.1.311.20.2.2"]\ncritical = true\n'
    )
    made = local_people.root.issue(
        local_people.root_signer, local_people.request("CN=Alice"), load_profile(file), emails=()
    )
    assert made.record.profile == "badge"
    assert made.certificate.extended_key_usage == {"microsoft_smart_card_logon"}


SIGN, DAYS = "usages = ['sign']\n", "[validity]\ndays = 1\nmaximum-days = 8\n"
KEYS = f"{DAYS}[keys]\ntypes = ['rsa']\n"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("usages = [", "the file is broken"),
        ("usage = ['sign']", "'usage' is not a setting"),
        (f"{SIGN}[validity]\ndays = 1", "maximum-days must be a whole number"),
        (f"{SIGN}[validity]\ndays = 9\nmaximum-days = 8", "days must be a whole number from 1 to 8"),
        (f"{SIGN}{DAYS}", "types is missing"),
        (KEYS, "usages is missing"),
        (f"usages = ['fly']\n{KEYS}", "'fly' is none of"),
        (f"{SIGN}policies = ['x']\n{KEYS}", "'x' is no object identifier"),
        (f"{SIGN}{KEYS}[names]\nemails = 'maybe'", "'maybe' is none of"),
    ],
)
def test_a_profile_that_cannot_be_meant_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(text)
    with pytest.raises(ConfigurationError, match=reason):
        load_profile(file)


def test_a_profile_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="there is no profile nothing"):
        load_profile("nothing")
    with pytest.raises(FileError, match="cannot read"):
        load_profile(tmp_path / "nothing.toml")


def test_a_weak_key_gets_no_certificate(local_people: People) -> None:
    weak = SoftwareSigner(rsa.generate_private_key(65537, 1024))  # noqa: S505 - weak on purpose
    with pytest.raises(UnsupportedError, match="no certificate is made"):
        local_people.root.issue(
            local_people.root_signer, weak.public_key, load_profile("signing"), subject=PERSON, emails=ADDRESS
        )
