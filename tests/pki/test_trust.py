from __future__ import annotations

import asyncio
import subprocess
import threading
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID as Eku

from tokensign.certificates import Certificate, load_certificates
from tokensign.errors import UntrustedError, UsageError
from tokensign.pki import trust
from tokensign.pki.trust import (
    INTERMEDIATES_MAXIMUM,
    PATHS_MAXIMUM,
    Purpose,
    TrustPolicy,
    validate_path,
)

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Forged, Toolbox

UNKNOWN_EXTENSION = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00")


def refusal(
    toolbox: Toolbox,
    leaf: Forged,
    *others: Forged,
    anchor: Forged,
    **policy: Any,  # noqa: ANN401 - fields of the policy
) -> UntrustedError:
    with pytest.raises(UntrustedError) as caught:
        validate_path(
            leaf.certificate,
            [other.certificate for other in others],
            TrustPolicy((anchor.certificate,), **policy),
            toolbox.now,
        )
    return caught.value


def test_a_path_runs_from_the_signer_to_the_anchor(toolbox: Toolbox) -> None:
    root = toolbox.authority()
    middle = toolbox.authority("Middle", issuer=root, number=2)
    alice = toolbox.forge(issuer=middle)
    stranger = toolbox.authority("Stranger", number=3)
    path = validate_path(
        alice.certificate,
        [stranger.certificate, middle.certificate, alice.certificate, root.certificate, middle.certificate],
        TrustPolicy((root.certificate,)),
        toolbox.now,
    )
    assert path.certificates == (alice.certificate, middle.certificate, root.certificate)


def test_an_intermediate_may_be_the_anchor(toolbox: Toolbox) -> None:
    middle = toolbox.authority("Middle", issuer=toolbox.authority(), number=2)
    alice = toolbox.forge(issuer=middle)
    path = validate_path(alice.certificate, [], TrustPolicy((middle.certificate,)), toolbox.now)
    assert path.certificates == (alice.certificate, middle.certificate)


def test_a_person_s_certificate_may_be_its_own_anchor(toolbox: Toolbox) -> None:
    alice = toolbox.forge(ca=False, usage=["digital_signature"], emails=["alice@example.org"])
    policy = TrustPolicy((alice.certificate,))
    assert validate_path(alice.certificate, [], policy, toolbox.now).certificates == (alice.certificate,)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"end": datetime(2026, 5, 20, tzinfo=UTC)}, "expired on 2026-05-20"),
        ({"start": datetime(2026, 6, 20, tzinfo=UTC)}, "not valid before 2026-06-20"),
        ({"usage": ["key_agreement"]}, "not meant for signatures"),
        ({"extended": [Eku.SERVER_AUTH]}, "not meant for e-mail protection"),
        ({"kind": "rsa:1024"}, "RSA key of 1024 bits"),
        ({"extra": [(UNKNOWN_EXTENSION, True)]}, r"critical extensions that are not known: 1\.2\.3\.4"),
        ({"emails": ["a@b@example.org"]}, "no e-mail address"),
    ],
)
def test_an_anchor_s_own_signature_is_checked_all_the_same(
    toolbox: Toolbox, options: dict[str, Any], reason: str
) -> None:
    alice = toolbox.forge(**options)
    with pytest.raises(UntrustedError, match=f"certificate of Alice .*{reason}"):
        validate_path(alice.certificate, [], TrustPolicy((alice.certificate,)), toolbox.now)


def test_a_trusted_person_cannot_issue_certificates(toolbox: Toolbox) -> None:
    alice = toolbox.forge("Alice", ca=False)
    bob = toolbox.forge("Bob", issuer=alice, number=2)
    error = refusal(toolbox, bob, alice, anchor=alice)
    assert error.message == (
        "no path from the certificate of Bob to a trust anchor:"
        " 'Alice' is trusted with another key, or not as a CA"
    )


def test_a_trusted_person_cannot_change_the_trusted_certificate(toolbox: Toolbox) -> None:
    trusted = toolbox.forge("Alice", emails=["alice@example.org"])
    changed = toolbox.forge("Alice", emails=["bob@example.org"])  # the same name and key
    assert "no path" in refusal(toolbox, changed, anchor=trusted).message


def test_the_owner_of_an_authority_s_name_needs_its_key(toolbox: Toolbox) -> None:
    root = toolbox.authority()
    other_key = x509.AuthorityKeyIdentifier(b"another key", None, None)
    error = refusal(
        toolbox, toolbox.forge(issuer=toolbox.authority(number=5), extra=[(other_key, False)]), anchor=root
    )
    assert error.message.endswith("'Root' is trusted with another key, or not as a CA")
    false_root = toolbox.authority(number=5)
    alice = toolbox.forge(issuer=false_root, identifiers=False)
    error = refusal(toolbox, alice, false_root, anchor=root)
    assert "the signature of the certificate of Alice could not be verified" in error.message


@pytest.mark.parametrize(
    ("leaf", "reason"),
    [
        ({"end": datetime(2026, 5, 20, tzinfo=UTC)}, "the certificate of Alice expired on 2026-05-20"),
        (
            {"start": datetime(2026, 6, 20, tzinfo=UTC)},
            "the certificate of Alice is not valid before 2026-06-20",
        ),
        ({"usage": ["crl_sign"]}, "the certificate of Alice is not meant for signatures"),
        (
            {"sha1": True},
            "the certificate of Alice does not count: a signature with sha1_ecdsa",
        ),
        ({"kind": "rsa:1024"}, "the certificate of Alice does not count: an RSA key of 1024 bits"),
    ],
)
def test_the_reason_is_said_in_plain_words(toolbox: Toolbox, leaf: dict[str, Any], reason: str) -> None:
    root = toolbox.authority()
    error = refusal(toolbox, toolbox.forge(issuer=root, **leaf), anchor=root)
    assert error.message.startswith(reason)
    assert error.hint


@pytest.mark.parametrize(
    ("middle", "reason"),
    [
        ({"end": datetime(2026, 5, 20, tzinfo=UTC)}, "the certificate of Middle expired on 2026-05-20"),
        ({"extended": [Eku.SERVER_AUTH]}, "the certificate of Middle is not meant for e-mail protection"),
        ({"ca": False}, "the certificate of Middle is not a CA"),
        ({"usage": ["crl_sign"]}, "the certificate of Middle is not allowed to sign certificates"),
        ({"sha1": True}, "the certificate of Middle does not count"),
        ({"extra": [(UNKNOWN_EXTENSION, True)]}, "critical extensions that are not known"),
    ],
)
def test_an_intermediate_at_fault_is_named(toolbox: Toolbox, middle: dict[str, Any], reason: str) -> None:
    root = toolbox.authority()
    between = toolbox.authority("Middle", issuer=root, **{"number": 2, **middle})
    error = refusal(toolbox, toolbox.forge(issuer=between), between, anchor=root)
    assert reason in error.message


def test_an_expired_anchor_is_named(toolbox: Toolbox) -> None:
    root = toolbox.authority(end=toolbox.now - timedelta(days=1))
    error = refusal(toolbox, toolbox.forge(issuer=root), anchor=root)
    assert error.message == "the certificate of Root expired on 2026-05-31"


def test_a_renewed_anchor_of_the_same_key_takes_over(toolbox: Toolbox) -> None:
    old = toolbox.authority(end=toolbox.now - timedelta(days=1))
    new = toolbox.authority()
    alice = toolbox.forge(issuer=new)
    path = validate_path(alice.certificate, [], TrustPolicy((old.certificate, new.certificate)), toolbox.now)
    assert path.certificates == (alice.certificate, new.certificate)


def test_a_missing_intermediate_is_named(toolbox: Toolbox) -> None:
    root = toolbox.authority()
    middle = toolbox.authority("Middle", issuer=root, number=2)
    lower = toolbox.authority("Lower", issuer=middle, number=3)
    error = refusal(toolbox, toolbox.forge(issuer=lower), lower, anchor=root)
    assert error.message == (
        "no path from the certificate of Alice to a trust anchor: the certificate of 'Middle' is missing"
    )
    assert "--untrusted" in (error.hint or "")


def test_an_untrusted_root_is_named(toolbox: Toolbox) -> None:
    other = toolbox.authority("Other", number=2)
    error = refusal(toolbox, toolbox.forge(issuer=other), other, anchor=toolbox.authority())
    assert error.message.endswith("'Other' is self-signed and not trusted")


def test_old_algorithms_are_accepted_with_legacy(toolbox: Toolbox) -> None:
    root = toolbox.authority(kind="rsa:1024", sha1=True)
    alice = toolbox.forge(issuer=root, sha1=True)
    error = refusal(toolbox, alice, anchor=root)
    assert "--legacy" in (error.hint or "")
    policy = TrustPolicy((root.certificate,), legacy=True)
    assert len(validate_path(alice.certificate, [], policy, toolbox.now)) == 2


def test_a_signature_of_another_time_is_judged_by_that_time(toolbox: Toolbox) -> None:
    root = toolbox.authority()
    alice = toolbox.forge(issuer=root, end=toolbox.now - timedelta(days=5))
    policy = TrustPolicy((root.certificate,))
    before = toolbox.now - timedelta(days=6)
    assert validate_path(alice.certificate, [], policy, before)[0] == alice.certificate
    assert "expired" in refusal(toolbox, alice, anchor=root).message


def test_a_time_without_zone_is_a_mistake_of_the_caller(toolbox: Toolbox) -> None:
    root = toolbox.authority()
    with pytest.raises(UsageError, match="time zone"):
        validate_path(root.certificate, [], TrustPolicy((root.certificate,)), datetime(2026, 6, 1))  # noqa: DTZ001


def test_the_path_length_of_policy_and_anchor_are_limits(toolbox: Toolbox) -> None:
    root = toolbox.authority()
    middle = toolbox.authority("Middle", issuer=root, number=2)
    alice = toolbox.forge(issuer=middle)
    policy = TrustPolicy((root.certificate,), maximum_path_length=1)
    assert len(validate_path(alice.certificate, [middle.certificate], policy, toolbox.now)) == 3
    error = refusal(toolbox, alice, middle, anchor=root, maximum_path_length=0)
    assert "exceeds the maximum path length" in error.message


def test_the_anchor_s_name_constraints_hold(toolbox: Toolbox) -> None:
    limits = x509.NameConstraints([x509.RFC822Name("example.org")], None)
    root = toolbox.authority(extra=[(limits, True)])
    policy = TrustPolicy((root.certificate,))
    alice = toolbox.forge(issuer=root, emails=["alice@example.org"])
    assert len(validate_path(alice.certificate, [], policy, toolbox.now)) == 2
    mallory = toolbox.forge("Mallory", issuer=root, emails=["mallory@example.com"])
    assert refusal(toolbox, mallory, anchor=root).message == (
        "the certificate of Mallory is for 'mallory@example.com', which Root may not certify"
    )
    limits = x509.NameConstraints(None, [x509.DirectoryName(x509.Name([]))])
    root = toolbox.authority(extra=[(limits, True)])
    error = refusal(toolbox, toolbox.forge(issuer=root), anchor=root)
    assert "excluded from the namespace of the issuing authority" in error.message


def test_an_anchor_s_certificate_policies_are_no_demand(toolbox: Toolbox) -> None:
    policies = x509.CertificatePolicies([x509.PolicyInformation(x509.ObjectIdentifier("1.2.3"), None)])
    root = toolbox.authority(extra=[(policies, False)])
    alice = toolbox.forge(issuer=root)
    assert len(validate_path(alice.certificate, [], TrustPolicy((root.certificate,)), toolbox.now)) == 2


def test_too_many_names_and_constraints_are_refused_quickly(toolbox: Toolbox) -> None:
    limits = x509.NameConstraints([x509.RFC822Name(f"{number}.example.org") for number in range(300)], None)
    root = toolbox.authority(extra=[(limits, True)])
    alice = toolbox.forge(issuer=root, emails=[f"alice@{number}.example.org" for number in range(300)])
    assert "too many names and name constraints" in refusal(toolbox, alice, anchor=root).message


def test_too_many_certificates_from_a_stranger_are_refused(toolbox: Toolbox) -> None:
    root = toolbox.authority()
    crowd = [toolbox.forge(f"Nobody {number}") for number in range(INTERMEDIATES_MAXIMUM + 1)]
    error = refusal(toolbox, toolbox.forge(issuer=root), *crowd, anchor=root)
    assert "not searched among more than 100" in error.message


def test_certificates_that_lead_into_each_other_end_the_search(toolbox: Toolbox) -> None:
    names = [f"Mesh {number}" for number in range(9)]
    mesh = [
        toolbox.authority(name, issuer_name=other, identifiers=False) for name in names for other in names
    ]
    alice = toolbox.forge(issuer=mesh[0], identifiers=False)
    error = refusal(toolbox, alice, *mesh, anchor=toolbox.authority("Root", number=3))
    assert error.message.endswith("lead into each other")


def test_only_so_many_paths_are_tried(toolbox: Toolbox, monkeypatch: pytest.MonkeyPatch) -> None:
    root = toolbox.authority()
    middles = [
        toolbox.authority("Middle", issuer=root, number=2, end=toolbox.now - timedelta(days=1))
        for _ in range(PATHS_MAXIMUM + 5)
    ]
    tried = []
    judge = trust._validate  # noqa: SLF001 - counts its calls

    async def counting(*arguments: Any) -> None:  # noqa: ANN401 - passed on
        tried.append(arguments)
        await judge(*arguments)

    monkeypatch.setattr(trust, "_validate", counting)
    error = refusal(toolbox, toolbox.forge(issuer=middles[0]), *middles, anchor=root)
    assert "Middle expired" in error.message
    assert len(tried) == PATHS_MAXIMUM


def test_a_search_that_is_given_up_keeps_the_reason_of_what_it_tried(
    toolbox: Toolbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trust, "STEPS_MAXIMUM", 2)
    root = toolbox.authority()
    yesterday = toolbox.now - timedelta(days=1)
    middles = [toolbox.authority("Middle", issuer=root, number=2, end=yesterday) for _ in range(3)]
    error = refusal(toolbox, toolbox.forge(issuer=middles[0]), *middles, anchor=root)
    assert error.message == "the certificate of Middle expired on 2026-05-31"


def test_the_reason_is_that_of_the_path_that_came_furthest(toolbox: Toolbox) -> None:
    root = toolbox.authority()
    expired = toolbox.authority("Middle", issuer=root, number=2, end=toolbox.now - timedelta(days=1))
    current = toolbox.authority("Middle", issuer=root, number=2)
    alice = toolbox.forge(issuer=current)
    crl, own = toolbox.crl(root), toolbox.crl(current, [alice])
    error = refusal(toolbox, alice, expired, current, anchor=root, revocation="require", crls=(crl, own))
    assert error.message.startswith("the certificate of Alice was revoked")


def test_two_signature_algorithms_in_one_certificate_are_refused(toolbox: Toolbox) -> None:
    root = toolbox.authority()
    der = bytearray(toolbox.forge(issuer=root).certificate.der)
    inner = bytes.fromhex("06082a8648ce3d040302")  # ecdsa-with-SHA256 in tbsCertificate; the outer one stays
    der[der.index(inner) + len(inner) - 1] = 3
    with pytest.raises(UntrustedError, match="two signature algorithms"):
        validate_path(Certificate(bytes(der)), [], TrustPolicy((root.certificate,)), toolbox.now)


def test_a_curve_that_is_described_and_not_named_is_refused(tmp_path: Path) -> None:
    request = ["openssl", "req", "-x509", "-newkey", "ec", "-nodes", "-subj", "/CN=Alice", "-days", "9"]
    curve = ["-pkeyopt", "ec_paramgen_curve:P-256", "-pkeyopt", "ec_param_enc:explicit"]
    subprocess.run(
        [*request, *curve, "-keyout", "key", "-out", "alice.pem"],
        cwd=tmp_path,
        check=True,
        capture_output=True,
    )
    (alice,) = load_certificates((tmp_path / "alice.pem").read_bytes())
    moment = alice.not_before + timedelta(days=1)
    with pytest.raises(UntrustedError, match="describes its curve instead of naming it"):
        validate_path(alice, [], TrustPolicy((alice,)), moment)
    assert len(validate_path(alice, [], TrustPolicy((alice,), legacy=True), moment)) == 1


def test_a_duplicate_extension_is_refused(toolbox: Toolbox) -> None:
    root = toolbox.authority()
    other = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.5"), b"\x05\x00")
    alice = toolbox.forge(issuer=root, extra=[(UNKNOWN_EXTENSION, False), (other, False)])
    doubled = Certificate(alice.certificate.der.replace(b"\x06\x03\x2a\x03\x05", b"\x06\x03\x2a\x03\x04"))
    with pytest.raises(UntrustedError, match="has an extension twice"):
        validate_path(doubled, [], TrustPolicy((root.certificate,)), toolbox.now)


def test_an_intermediate_that_cannot_be_read_is_passed_over(toolbox: Toolbox) -> None:
    root = toolbox.authority()
    middle = toolbox.authority("Middle", issuer=root, number=2)
    unused_bits = bytes.fromhex("034209")  # nine of the eight bits of an octet of the public key
    broken = Certificate(middle.certificate.der.replace(bytes.fromhex("034200"), unused_bits))
    alice = toolbox.forge(issuer=middle)
    path = validate_path(
        alice.certificate,
        [broken, middle.certificate],
        TrustPolicy((root.certificate,)),
        toolbox.now,
    )
    assert path[1] == middle.certificate


def test_whatever_the_validator_raises_is_an_untrusted_certificate(
    toolbox: Toolbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def stumble(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(trust, "async_validate_path", stumble)
    root = toolbox.authority()
    assert "cannot be checked" in refusal(toolbox, toolbox.forge(issuer=root), anchor=root).message


@pytest.mark.parametrize(
    "stage", ["check_end_entity", "check_issuing_use", "_BoundedRegistry.find_potential_issuers"]
)
def test_what_cannot_be_read_at_any_stage_is_an_untrusted_certificate(
    toolbox: Toolbox, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    def stumble(*_: object) -> None:
        raise KeyError("odd")

    monkeypatch.setattr(f"tokensign.pki.trust.{stage}", stumble)
    root = toolbox.authority()
    middle = toolbox.authority("Middle", issuer=root, number=2)
    error = refusal(toolbox, toolbox.forge(issuer=middle), middle, anchor=root)
    assert error.message.startswith("the certificate of Alice cannot be checked")


def test_it_works_inside_an_event_loop(toolbox: Toolbox) -> None:
    root = toolbox.authority()
    alice = toolbox.forge(issuer=root)

    async def inside() -> tuple[Certificate, ...]:
        return validate_path(
            alice.certificate, [], TrustPolicy((root.certificate,)), toolbox.now
        ).certificates

    assert asyncio.run(inside()) == (alice.certificate, root.certificate)


def test_one_policy_serves_many_threads(toolbox: Toolbox) -> None:
    root = toolbox.authority()
    people = [toolbox.forge(f"Person {number}", issuer=root) for number in range(8)]
    policy = TrustPolicy((Certificate(root.certificate.der),))
    lengths: list[int] = []

    def work(person: Forged) -> None:
        lengths.extend(
            len(validate_path(Certificate(person.certificate.der), [], policy, toolbox.now))
            for _ in range(10)
        )

    threads = [threading.Thread(target=work, args=(person,)) for person in people]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert lengths == [2] * 80


def test_a_validator_that_waits_is_a_bug(toolbox: Toolbox, monkeypatch: pytest.MonkeyPatch) -> None:
    async def wait(*_: object) -> None:
        await asyncio.sleep(0)

    monkeypatch.setattr(trust, "async_validate_path", wait)
    root = toolbox.authority()
    alice = toolbox.forge(issuer=root)
    with pytest.raises(RuntimeError, match="nothing is fetched"):
        validate_path(alice.certificate, [], TrustPolicy((root.certificate,)), toolbox.now)


def test_the_purpose_any_asks_nothing_of_the_signer(toolbox: Toolbox) -> None:
    root = toolbox.authority(extended=[Eku.SERVER_AUTH])
    server = toolbox.forge(issuer=root, extended=[Eku.SERVER_AUTH], usage=["key_agreement"])
    policy = TrustPolicy((root.certificate,), purpose=Purpose.ANY)
    assert len(validate_path(server.certificate, [], policy, toolbox.now)) == 2
