"""Whom mail is encrypted to, and with what."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from correspondents import BOB, DAY, NOW

from tokensign import der
from tokensign.algorithms import CONTENT_CIPHERS, DIGESTS, MGF1_OID, RSAES_OAEP_OID
from tokensign.cms.capabilities import ANNOUNCED_CAPABILITIES, Capability, read_capabilities
from tokensign.contacts import ContactStore, Origin, Recipient, choose_algorithms, recipients_for
from tokensign.errors import UnsupportedError, UntrustedError, UsageError
from tokensign.keys import OaepTransport, Pkcs1Transport
from tokensign.pki.policy import TrustPolicy

if TYPE_CHECKING:
    from correspondents import Authority, Mail

    from tokensign.certificates import Certificate

ALICE = "alice@acme.example"
ENCRYPTS = ("key_encipherment",)


def reads(*names: str) -> tuple[Capability, ...]:
    return tuple(Capability(CONTENT_CIPHERS[name].oid) for name in names)


def oaep(digest: str) -> Capability:
    """With the parameters of the hashes absent, which is read as well as NULL (RFC 4055 section 2.1)."""
    if digest == "sha1":
        return Capability(RSAES_OAEP_OID, der.sequence())
    algorithm = der.sequence(der.object_identifier(DIGESTS[digest].oid))
    mask_generation = der.sequence(der.object_identifier(MGF1_OID), algorithm)
    return Capability(
        RSAES_OAEP_OID, der.sequence(der.explicit(0, algorithm), der.explicit(1, mask_generation))
    )


@pytest.fixture(scope="module")
def rsa_certificate(authority: Authority) -> Certificate:
    return authority.issue("bob rsa", usage=ENCRYPTS)


# --- certificates


def test_the_users_own_choice_goes_before_what_is_learned_later(
    store: ContactStore, mail: Mail, authority: Authority
) -> None:
    given, learned = authority.issue(), authority.issue("bob 2")
    store.add(given, BOB, moment=NOW - 3 * DAY)
    change = store.learn(mail.report(learned, "bob 2", signing_time=NOW), BOB, mail.trust)
    assert change.before == change.after == given
    assert [entry.certificate for entry in recipients_for([BOB], store)] == [given]
    states = {known.certificate: change.contact.state(known, NOW) for known in change.contact.certificates}
    assert states == {given: "current", learned: "retired"}


def test_learning_the_same_certificate_does_not_take_the_users_choice_away(
    store: ContactStore, mail: Mail, authority: Authority
) -> None:
    certificate = authority.issue()
    store.add(certificate, BOB, moment=NOW - 3 * DAY)
    store.learn(mail.report(certificate), BOB, mail.trust)
    (known,) = store.certificates_for(BOB)
    assert (known.origin, known.stated_at) == (Origin.HAND, NOW - DAY)


def test_what_the_user_adds_last_is_chosen(store: ContactStore, authority: Authority) -> None:
    first, second = authority.issue(days=(-1, 300)), authority.issue("bob 2", days=(-30, 300))
    store.add(first, BOB, moment=NOW - DAY)
    assert store.add(second, BOB, moment=NOW).replaces_key
    assert [entry.certificate for entry in recipients_for([BOB], store)] == [second]


def test_an_expired_certificate_is_kept_and_the_next_one_is_chosen(
    store: ContactStore, authority: Authority
) -> None:
    lasting, ending = authority.issue(), authority.issue("bob 2", days=(-20, 10))
    store.add(lasting, BOB, Origin.SMIMEA, moment=NOW - 2 * DAY)
    store.add(ending, BOB, Origin.SMIMEA, moment=NOW - DAY)
    assert [entry.certificate for entry in recipients_for([BOB], store)] == [ending]
    later = NOW + 11 * DAY
    assert [entry.certificate for entry in recipients_for([BOB], store, moment=later)] == [lasting]
    contact = store.find(BOB)
    assert contact is not None
    assert [contact.state(known, later) for known in contact.certificates] == ["expired", "current"]


def test_a_certificate_that_is_not_valid_yet_is_not_chosen(store: ContactStore, authority: Authority) -> None:
    store.add(authority.issue(days=(2, 300)), BOB)
    with pytest.raises(UsageError, match=BOB):
        recipients_for([BOB], store)
    contact = store.find(BOB)
    assert contact is not None
    assert [contact.state(known, NOW) for known in contact.certificates] == ["future"]


def test_a_revoked_certificate_is_kept_and_not_chosen_until_the_user_adds_it_again(
    store: ContactStore, authority: Authority
) -> None:
    old, revoked = authority.issue(), authority.issue("bob 2")
    store.add(old, BOB, moment=NOW - DAY)
    store.add(revoked, BOB, moment=NOW)
    assert store.revoke(revoked, NOW) == 1
    assert [entry.certificate for entry in recipients_for([BOB], store)] == [old]
    contact = store.find(BOB)
    assert contact is not None
    assert [contact.state(known, NOW) for known in contact.certificates] == ["revoked", "current"]
    assert store.add(revoked, BOB, Origin.SMIMEA).after == old
    assert store.add(revoked, BOB).after == revoked


def test_with_a_trust_policy_only_trusted_certificates_are_chosen(
    store: ContactStore, mail: Mail, authority: Authority, other_authority: Authority
) -> None:
    trusted, untrusted = authority.issue(), other_authority.issue("bob 2")
    store.add(trusted, BOB, moment=NOW - DAY)
    store.add(untrusted, BOB, moment=NOW)
    assert [entry.certificate for entry in recipients_for([BOB], store)] == [untrusted]
    assert [entry.certificate for entry in recipients_for([BOB], store, trust=mail.trust)] == [trusted]


def test_a_certificate_that_turns_out_to_be_revoked_is_remembered_as_such(
    store: ContactStore, authority: Authority
) -> None:
    good, revoked = authority.issue(), authority.issue("bob 2")
    store.add(good, BOB, moment=NOW - DAY)
    store.add(revoked, BOB, moment=NOW)
    trust = TrustPolicy(anchors=(authority.certificate,), crls=(authority.crl(revoked),), revocation="prefer")
    assert [entry.certificate for entry in recipients_for([BOB], store, trust=trust)] == [good]
    assert [entry.certificate for entry in recipients_for([BOB], store)] == [good]


def test_all_addresses_without_certificate_are_named(store: ContactStore, authority: Authority) -> None:
    store.add(authority.issue(), BOB)
    with pytest.raises(UsageError, match=r"known for alice@acme\.example, a@acme\.example$"):
        recipients_for([ALICE, BOB, "a@acme.example", ALICE], store)


def test_a_certificate_that_cannot_encrypt_is_not_added(store: ContactStore, authority: Authority) -> None:
    with pytest.raises(UntrustedError, match="not meant for encryption"):
        store.add(authority.issue(usage=("digital_signature",)), BOB)
    assert store.all() == []


def test_the_domain_of_an_address_is_the_same_in_any_case_and_script(
    store: ContactStore, authority: Authority
) -> None:
    certificate = authority.issue()
    store.add(certificate, "bob@Bücher.example")
    assert store.certificates_for("bob@xn--bcher-kva.EXAMPLE")[0].certificate == certificate
    assert store.find("Bob@bücher.example") is None


@pytest.mark.parametrize(
    "address", ["", "bob", "@acme.example", "bob@", "bob@acme..example", "b\x00b@a.example"]
)
def test_what_is_no_address_is_refused(store: ContactStore, authority: Authority, address: str) -> None:
    with pytest.raises(UsageError, match="is not an e-mail address"):
        store.add(authority.issue(), address)


def test_a_contact_is_forgotten_wholly_or_by_certificate(store: ContactStore, authority: Authority) -> None:
    first, second = authority.issue(), authority.issue("bob 2")
    store.add(first, BOB)
    store.add(second, BOB)
    assert store.remove(BOB, first)
    assert [known.certificate for known in store.certificates_for(BOB)] == [second]
    assert store.remove(BOB)
    assert not store.remove(BOB)
    assert store.certificates_for(BOB) == ()


# --- algorithms


def test_nothing_known_gives_the_default(rsa_certificate: Certificate) -> None:
    chosen = choose_algorithms([Recipient(BOB, rsa_certificate)])
    assert chosen.cipher.name == "aes-256-gcm"
    assert chosen.transport == OaepTransport(DIGESTS["sha256"], DIGESTS["sha256"])


def test_what_tokensign_announces_is_what_it_prefers(rsa_certificate: Certificate) -> None:
    announced = read_capabilities(ANNOUNCED_CAPABILITIES)
    chosen = choose_algorithms([Recipient(BOB, rsa_certificate, announced)])
    assert chosen == choose_algorithms([Recipient(BOB, rsa_certificate)])


@pytest.mark.parametrize(
    ("capabilities", "cipher"),
    [
        ([("aes-128-cbc", "aes-256-cbc")], "aes-256-cbc"),
        ([("des-ede3-cbc", "rc2-cbc", "aes-128-cbc")], "aes-128-cbc"),
        ([("aes-256-cbc", "aes-128-gcm")], "aes-128-gcm"),
        ([("aes-256-cbc", "aes-128-cbc"), ("aes-256-gcm", "aes-128-cbc")], "aes-128-cbc"),
        ([("aes-256-ccm", "aes-256-cbc"), None], "aes-256-cbc"),
        ([("aes-256-gcm", "aes-256-cbc"), None], "aes-256-gcm"),
        ([()], "aes-256-gcm"),
    ],
    ids=str,
)
def test_the_strongest_cipher_that_all_read_is_chosen(
    rsa_certificate: Certificate, capabilities: list[tuple[str, ...] | None], cipher: str
) -> None:
    recipients = [
        Recipient(f"{number}@acme.example", rsa_certificate, None if names is None else reads(*names))
        for number, names in enumerate(capabilities)
    ]
    assert choose_algorithms(recipients).cipher.name == cipher


def test_who_reads_only_weak_ciphers_is_named(rsa_certificate: Certificate) -> None:
    weak = Recipient(BOB, rsa_certificate, reads("des-ede3-cbc", "rc2-cbc"))
    with pytest.raises(UnsupportedError, match=f"{BOB} can only read des-ede3-cbc, rc2-cbc"):
        choose_algorithms([Recipient(ALICE, rsa_certificate), weak])


def test_recipients_without_a_common_cipher_are_named(rsa_certificate: Certificate) -> None:
    recipients = [
        Recipient(ALICE, rsa_certificate, reads("aes-256-gcm")),
        Recipient(BOB, rsa_certificate, reads("aes-256-cbc")),
    ]
    with pytest.raises(
        UnsupportedError, match=f"{ALICE} reads aes-256-gcm; {BOB} reads aes-256-cbc"
    ) as raised:
        choose_algorithms(recipients)
    assert raised.value.hint == "send the mail to each of them separately"


@pytest.mark.parametrize(
    ("listed", "transport"),
    [
        ([["sha256"]], OaepTransport(DIGESTS["sha256"], DIGESTS["sha256"])),
        ([["sha1"]], OaepTransport(DIGESTS["sha1"], DIGESTS["sha1"])),
        ([["sha512", "sha384"], ["sha1", "sha384"]], OaepTransport(DIGESTS["sha384"], DIGESTS["sha384"])),
        ([["sha256"], ["sha512"]], Pkcs1Transport()),
        ([["sha256"], []], Pkcs1Transport()),
    ],
    ids=str,
)
def test_the_key_transport_is_one_that_all_read(
    rsa_certificate: Certificate, listed: list[list[str]], transport: object
) -> None:
    recipients = [
        Recipient(BOB, rsa_certificate, (*reads("aes-256-gcm"), *map(oaep, digests))) for digests in listed
    ]
    assert choose_algorithms(recipients).transport == transport


def test_who_has_no_rsa_key_does_not_decide_about_the_key_transport(
    rsa_certificate: Certificate, authority: Authority
) -> None:
    recipients = [
        Recipient(BOB, rsa_certificate, (*reads("aes-256-gcm"), oaep("sha256"))),
        Recipient(ALICE, authority.issue("alice"), reads("aes-256-gcm")),
    ]
    assert isinstance(choose_algorithms(recipients).transport, OaepTransport)


@pytest.mark.parametrize("parameters", [b"\x05\x00", b"\x30\x03\xa0\x01\x05", b"\x04\x00"])
def test_oaep_with_parameters_that_cannot_be_read_is_not_used(
    rsa_certificate: Certificate, parameters: bytes
) -> None:
    capabilities = (*reads("aes-256-gcm"), Capability(RSAES_OAEP_OID, parameters))
    assert choose_algorithms([Recipient(BOB, rsa_certificate, capabilities)]).transport == Pkcs1Transport()
