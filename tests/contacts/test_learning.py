"""Contacts are learned from signed mail, and only where everything about the signature is proved."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from correspondents import BOB, DAY, NOW, Authority, private_key
from software_signer import SoftwareSigner

from tokensign import der
from tokensign.algorithms import CONTENT_CIPHERS
from tokensign.cms.attributes import ENCRYPTION_KEY_PREFERENCE, attribute
from tokensign.cms.capabilities import Capability
from tokensign.cms.encryption_key_preference import encryption_key_preference
from tokensign.cms.signed import SigningOptions, sign_attached
from tokensign.contacts import ContactStore, Origin, announcement_of, recipients_for
from tokensign.errors import MalformedError, UntrustedError, VerificationError
from tokensign.report import Status, Verdict, VerificationReport
from tokensign.verification import Expectations, verify

if TYPE_CHECKING:
    from collections.abc import Callable

    from correspondents import Mail

    from tokensign.certificates import Certificate

SIGNS = ("digital_signature",)
ENCRYPTS = ("key_agreement",)


def learned(store: ContactStore) -> Certificate | None:
    """To which certificate mail for Bob is encrypted now."""
    contact = store.find(BOB)
    chosen = contact.chosen(NOW) if contact else None
    return chosen.certificate if chosen else None


# --- what a mail that holds says


def test_the_signers_certificate_and_capabilities_are_learned(
    store: ContactStore, mail: Mail, authority: Authority
) -> None:
    certificate = authority.issue()
    change = store.learn(mail.report(certificate), BOB, mail.trust)
    assert (change.before, change.after, change.problem) == (None, certificate, None)
    (known,) = store.certificates_for(BOB)
    assert (known.certificate, known.origin, known.stated_at) == (certificate, Origin.MAIL, NOW - DAY)
    capabilities = store.capabilities_for(BOB)
    assert capabilities is not None
    assert capabilities[0] == Capability(CONTENT_CIPHERS["aes-256-gcm"].oid)


@pytest.mark.parametrize("form", ["issuer and serial number", "recipient key id", "subject key identifier"])
def test_the_preferred_encryption_certificate_is_learned_in_each_form(
    store: ContactStore, mail: Mail, authority: Authority, form: str
) -> None:
    """RFC 8551 section 2.5.3."""
    signing, encrypting = authority.issue(usage=SIGNS), authority.issue("bob 2", usage=ENCRYPTS)
    identifier = encrypting.subject_key_identifier
    preference = {
        "issuer and serial number": encryption_key_preference(encrypting),
        "recipient key id": attribute(
            ENCRYPTION_KEY_PREFERENCE, der.constructed(0xA1, der.octet_string(identifier))
        ),
        "subject key identifier": attribute(ENCRYPTION_KEY_PREFERENCE, der.tlv(0x82, identifier)),
    }[form]
    report = mail.report(signing, signed_attributes=(preference,), extra_certificates=[encrypting])
    store.learn(report, BOB, mail.trust)
    assert learned(store) == encrypting
    assert {known.certificate for known in store.certificates_for(BOB)} == {signing, encrypting}


def test_a_certificate_that_only_signs_is_kept_and_not_encrypted_to(
    store: ContactStore, mail: Mail, authority: Authority
) -> None:
    certificate = authority.issue(usage=SIGNS)
    assert store.learn(mail.report(certificate), BOB, mail.trust).after is None
    (known,) = store.certificates_for(BOB)
    contact = store.find(BOB)
    assert contact is not None
    assert contact.state(known, NOW) == "signs"


def test_after_a_preference_for_another_certificate_that_of_the_signature_is_not_encrypted_to(
    store: ContactStore, mail: Mail, authority: Authority
) -> None:
    signing, encrypting = authority.issue(days=(-1, 300)), authority.issue("bob 2", days=(-30, 300))
    store.learn(mail.report(signing), BOB, mail.trust)
    assert learned(store) == signing
    report = mail.report(
        signing,
        signing_time=NOW,
        signed_attributes=(encryption_key_preference(encrypting),),
        extra_certificates=[encrypting],
    )
    assert store.learn(report, BOB, mail.trust).replaces_key
    assert learned(store) == encrypting


# --- what is older does not replace what is newer (RFC 8551 section 2.7)


def test_an_older_mail_that_comes_later_changes_nothing(
    store: ContactStore, mail: Mail, authority: Authority
) -> None:
    old, new = authority.issue(days=(-30, 300)), authority.issue("bob 2", days=(-20, 300))
    store.learn(mail.report(new, "bob 2", signing_time=NOW - DAY), BOB, mail.trust)
    change = store.learn(mail.report(old, signing_time=NOW - 2 * DAY), BOB, mail.trust)
    assert change.before == change.after == learned(store) == new
    contact = store.find(BOB)
    assert contact is not None
    assert contact.capabilities_at == NOW - DAY
    assert [contact.state(known, NOW) for known in contact.certificates] == ["current", "retired"]


def test_a_newer_mail_with_another_key_is_told_as_a_change_of_the_key(
    store: ContactStore, mail: Mail, authority: Authority
) -> None:
    old, new = authority.issue(), authority.issue("bob 2")
    assert not store.learn(mail.report(old, signing_time=NOW - 2 * DAY), BOB, mail.trust).replaces_key
    change = store.learn(mail.report(new, "bob 2"), BOB, mail.trust)
    assert (change.before, change.after, change.replaces_key) == (old, new, True)


def test_a_renewed_certificate_of_the_same_key_is_no_change_of_the_key(
    store: ContactStore, mail: Mail, authority: Authority
) -> None:
    old, new = authority.issue(), authority.issue()
    store.learn(mail.report(old, signing_time=NOW - 2 * DAY), BOB, mail.trust)
    change = store.learn(mail.report(new), BOB, mail.trust)
    assert (change.after, change.replaces_key) == (new, False)


# --- nothing is learned from what is not proved


@pytest.mark.parametrize("name", ["integrity", "trust", "identity", "policy"])
def test_nothing_is_learned_where_a_verdict_failed(
    store: ContactStore, mail: Mail, authority: Authority, name: str
) -> None:
    report = with_verdict(mail.report(authority.issue()), name, Verdict(Status.FAILED, "no"))
    with pytest.raises(UntrustedError, match=f"nothing is learned about {BOB}"):
        store.learn(report, BOB, mail.trust)
    assert store.all() == []


@pytest.mark.parametrize("name", ["integrity", "trust", "policy"])
def test_nothing_is_learned_where_something_was_not_checked(
    store: ContactStore, mail: Mail, authority: Authority, name: str
) -> None:
    report = with_verdict(mail.report(authority.issue()), name, Verdict.not_checked("nobody looked"))
    with pytest.raises(UntrustedError, match=r"nobody looked|integrity was not proved"):
        store.learn(report, BOB, mail.trust)
    assert store.all() == []


def with_verdict(report: VerificationReport, name: str, verdict: Verdict) -> VerificationReport:
    changed: dict[str, Any] = {name: verdict}
    return replace(report, signers=tuple(replace(signer, **changed) for signer in report.signers))


def test_nothing_is_learned_from_real_mail_that_does_not_hold(
    store: ContactStore, mail: Mail, authority: Authority, other_authority: Authority
) -> None:
    """The report of each failure, as verification gives it."""
    message = mail.signed(authority.issue())
    cases: list[tuple[bytes, dict[str, Any]]] = [
        (message.replace(b"Hello", b"Hallo"), {"trust": mail.trust}),
        (mail.signed(other_authority.issue()), {"trust": mail.trust}),
        (mail.signed(authority.issue(emails=["alice@acme.example"])), {"trust": mail.trust}),
        (mail.signed(authority.issue(days=(-30, -5))), {"trust": mail.trust}),
        (mail.signed(authority.issue(usage=ENCRYPTS)), {"trust": mail.trust}),
    ]
    for received, expected in cases:
        with pytest.raises(VerificationError) as raised:
            verify(io.BytesIO(received), Expectations(email=BOB, **expected))
        with pytest.raises(UntrustedError, match="nothing is learned"):
            store.learn(raised.value.report, BOB, mail.trust)
    unjudged = verify(io.BytesIO(message), Expectations(trust=None, email=BOB))
    with pytest.raises(UntrustedError, match="trust: no trust anchor was given"):
        store.learn(unjudged, BOB, mail.trust)
    assert store.all() == []


def test_nothing_is_learned_about_an_address_that_the_certificate_does_not_have(
    store: ContactStore, mail: Mail, authority: Authority
) -> None:
    report = verify(io.BytesIO(mail.signed(authority.issue())), Expectations(trust=mail.trust))
    with pytest.raises(UntrustedError, match="whose certificate is not for this address"):
        store.learn(report, "carol@acme.example", mail.trust)
    assert store.all() == []


def test_of_several_signatures_that_of_the_sender_counts(
    store: ContactStore, mail: Mail, authority: Authority, other_authority: Authority
) -> None:
    """Where the reader is content with one good signature of several."""
    alice, bob = authority.issue("alice", ["alice@acme.example"]), authority.issue()
    people = [("alice", alice), ("mallory", other_authority.issue("mallory")), ("bob", bob)]
    signers = [SoftwareSigner(private_key(name), certificate) for name, certificate in people]
    output = io.BytesIO()
    sign_attached(io.BytesIO(b"Hello"), signers, output, SigningOptions(signing_time=NOW - DAY))
    message = io.BytesIO(output.getvalue())
    report = verify(message, Expectations(trust=mail.trust, any_signer=True))
    assert store.learn(report, BOB, mail.trust).after == bob
    only_alice = replace(report, signers=tuple(one for one in report.signers if one.certificate == alice))
    with pytest.raises(UntrustedError, match="CN=alice signed it, whose certificate is not for this address"):
        store.learn(only_alice, BOB, mail.trust)
    assert [known.certificate for known in store.certificates_for(BOB)] == [bob]


@pytest.mark.parametrize("name", ["integrity", "trust", "identity", "policy"])
def test_a_signature_of_which_a_verdict_failed_announces_nothing(
    mail: Mail, authority: Authority, name: str
) -> None:
    report = with_verdict(mail.report(authority.issue()), name, Verdict(Status.FAILED, "no"))
    with pytest.raises(UntrustedError, match=f"nothing is learned about {BOB}: .*no$"):
        announcement_of(report.signers[0], BOB, report.certificates, mail.trust, NOW)


def test_a_signing_time_that_lies_far_ahead_is_refused(
    store: ContactStore, mail: Mail, authority: Authority
) -> None:
    """RFC 8551 section 2.7: it would lock out all that is said until then."""
    report = mail.report(authority.issue(), signing_time=NOW + 2 * DAY)
    with pytest.raises(UntrustedError, match="lies ahead"):
        store.learn(report, BOB, mail.trust)
    assert store.all() == []


# --- the encryption certificate must be the sender's own, and trusted by itself


@pytest.mark.parametrize(
    ("preferred", "reason"),
    [
        (lambda _, other: other.issue("bob 2", usage=ENCRYPTS), "'Other CA' is missing"),
        (lambda own, _: own.issue("bob 2", ["alice@acme.example"], ENCRYPTS), f"it is not for {BOB}"),
        (lambda own, _: own.issue("bob 2", usage=SIGNS), "not meant for encryption"),
        (lambda own, _: own.issue("bob 2", usage=ENCRYPTS, days=(-30, -5)), "expired"),
    ],
    ids=["of another CA", "of somebody else", "for signatures", "expired"],
)
def test_a_preferred_certificate_that_cannot_be_used_is_not_learned(
    store: ContactStore,
    mail: Mail,
    authority: Authority,
    other_authority: Authority,
    preferred: Callable[[Authority, Authority], Certificate],
    reason: str,
) -> None:
    signing, encrypting = authority.issue(), preferred(authority, other_authority)
    report = mail.report(
        signing,
        signed_attributes=(encryption_key_preference(encrypting),),
        extra_certificates=[encrypting],
    )
    change = store.learn(report, BOB, mail.trust)
    assert change.problem is not None
    assert reason in change.problem
    assert learned(store) is None
    assert [known.certificate for known in store.certificates_for(BOB)] == [signing]


def test_a_preferred_certificate_may_have_come_with_an_earlier_mail(
    store: ContactStore, mail: Mail, authority: Authority
) -> None:
    signing, encrypting = authority.issue(), authority.issue("bob 2", usage=ENCRYPTS)
    preference = (encryption_key_preference(encrypting),)
    change = store.learn(mail.report(signing, signed_attributes=preference), BOB, mail.trust)
    assert change.problem == (
        "the certificate that the sender prefers for encryption is not used: it is not at hand"
    )
    report = mail.report(
        signing,
        signing_time=NOW - 2 * DAY,
        signed_attributes=preference,
        extra_certificates=[encrypting],
    )
    store.learn(report, BOB, mail.trust)
    again = mail.report(signing, signing_time=NOW, signed_attributes=preference)
    assert store.learn(again, BOB, mail.trust).problem is None
    assert learned(store) == encrypting
    assert [known.stated_at for known in store.certificates_for(BOB)] == [NOW, NOW]


def test_a_preference_that_cannot_be_read_is_refused(
    store: ContactStore, mail: Mail, authority: Authority
) -> None:
    broken = attribute(ENCRYPTION_KEY_PREFERENCE, der.integer(1))
    with pytest.raises(MalformedError, match="SMIMEEncryptionKeyPreference"):
        store.learn(mail.report(authority.issue(), signed_attributes=(broken,)), BOB, mail.trust)
    assert store.all() == []


def test_two_preferences_at_once_are_refused(store: ContactStore, mail: Mail, authority: Authority) -> None:
    values = [
        der.elements(der.elements(encryption_key_preference(authority.issue(name)))[1])[0]
        for name in ("bob", "bob 2")
    ]
    twice = attribute(ENCRYPTION_KEY_PREFERENCE, *values)
    with pytest.raises(MalformedError, match="has not one value"):
        store.learn(mail.report(authority.issue(), signed_attributes=(twice,)), BOB, mail.trust)


def test_the_certificate_of_the_signature_may_be_preferred(
    store: ContactStore, mail: Mail, authority: Authority
) -> None:
    certificate = authority.issue()
    preference = (encryption_key_preference(certificate),)
    change = store.learn(mail.report(certificate, signed_attributes=preference), BOB, mail.trust)
    assert (change.after, change.problem) == (certificate, None)


def test_the_certificates_between_are_learned_so_that_the_path_is_found_without_the_mail(
    store: ContactStore, mail: Mail, authority: Authority
) -> None:
    between, others = Authority("Acme People CA", authority), Authority("Acme Encryption CA", authority)
    signing, encrypting = between.issue(), others.issue("bob 2", usage=ENCRYPTS)
    report = mail.report(
        signing,
        signed_attributes=(encryption_key_preference(encrypting),),
        extra_certificates=[encrypting, between.certificate, others.certificate],
    )
    store.learn(report, BOB, mail.trust)
    assert store.issuers_of(signing) == (between.certificate,)
    assert [entry.certificate for entry in recipients_for([BOB], store, trust=mail.trust)] == [encrypting]
