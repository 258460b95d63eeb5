"""OCSP responders and CRL servers on the loopback address, good ones and every kind of bad one."""

from __future__ import annotations

import dataclasses
import ipaddress
import os
import shutil
import subprocess
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import loopback
import pytest
from asn1crypto import ocsp as asn1_ocsp
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509 import ocsp

from tokensign.errors import UntrustedError
from tokensign.pki.http import HttpClient, Limits
from tokensign.pki.revocation import RevocationCache, RevokedCertificateError
from tokensign.pki.revocation.online import SILENCE, Online
from tokensign.pki.trust import CHAINS, TrustPolicy, validate_path

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from conftest import Forged, Toolbox
    from loopback import Exchange, Website

    from tokensign.pki.validated_path import ValidatedPath

PRESENT = datetime.now(UTC).replace(microsecond=0)
TIMES = {"start": PRESENT - timedelta(days=30), "end": PRESENT + timedelta(days=30)}
LIMITS = Limits(seconds=0.5, octets=1 << 20, private_networks=(ipaddress.ip_network("127.0.0.1/32"),))
SLACK = 0.7  # seconds that a busy machine may add to a limit
RESPONDER = [x509.ExtendedKeyUsageOID.OCSP_SIGNING]


def says_where(*, responders: Sequence[str] = (), lists: Sequence[str] = ()) -> Any:  # noqa: ANN401 - as `forge` takes it
    """The extensions authorityInfoAccess and cRLDistributionPoints."""
    found: list[tuple[x509.ExtensionType, bool]] = []
    if responders:
        method = x509.AuthorityInformationAccessOID.OCSP
        places = [x509.AccessDescription(method, x509.UniformResourceIdentifier(url)) for url in responders]
        found.append((x509.AuthorityInformationAccess(places), False))
    if lists:
        found.append((x509.CRLDistributionPoints([point(url) for url in lists]), False))
    return found


def point(url: str) -> x509.DistributionPoint:
    return x509.DistributionPoint([x509.UniformResourceIdentifier(url)], None, None, None)


@dataclass
class Scene:
    """A CA with its servers, and Alice whose certificate names them."""

    toolbox: Toolbox
    website: Website
    root: Forged
    cache: RevocationCache | None = None
    limits: Limits = LIMITS
    alice: Forged = field(init=False)

    def __post_init__(self) -> None:
        self.alice = self.issue(responders=[self.website.at("/ocsp")])

    def issue(self, name: str = "Alice", **where: Any) -> Forged:  # noqa: ANN401 - as `says_where` takes it
        return self.toolbox.forge(name, issuer=self.root, extra=says_where(**where), **TIMES)

    def judge(
        self,
        certificate: Forged | None = None,
        mode: Any = "require",  # noqa: ANN401 - a mode
        at: datetime | None = None,
    ) -> ValidatedPath:
        CHAINS.clear()
        policy = TrustPolicy(
            (self.root.certificate,), revocation=mode, fetch=HttpClient(self.limits), cache=self.cache
        )
        leaf = (certificate or self.alice).certificate
        return validate_path(leaf, [], policy, at or datetime.now(UTC))

    def refusal(self, certificate: Forged | None = None) -> str:
        """Why nothing tells, in the words for the user."""
        with pytest.raises(UntrustedError, match="nothing tells whether the certificate of Alice") as refusal:
            self.judge(certificate)
        assert self.judge(certificate, "prefer").revocation == ()
        return refusal.value.hint or ""

    def crl(self, *revoked: Forged, **options: Any) -> bytes:  # noqa: ANN401 - as the toolbox takes them
        return self.toolbox.crl(self.root, revoked, **{"updated": PRESENT - timedelta(days=1), **options})


@pytest.fixture
def scene(toolbox: Toolbox, website: Website) -> Scene:
    SILENCE.clear()
    return Scene(toolbox, website, toolbox.authority(**TIMES))


def respond(
    exchange: Exchange,
    scene: Scene,
    *,
    about: Forged | None = None,
    status: ocsp.OCSPCertStatus = ocsp.OCSPCertStatus.GOOD,
    updated: datetime | None = PRESENT - timedelta(hours=1),
    lasts: timedelta | None = timedelta(hours=12),
    nonce: str = "echoed",
    signer: Forged | None = None,
    certificates: Sequence[Forged] = (),
    by_name: bool = False,
    algorithm: hashes.HashAlgorithm | None = None,
    content_type: str = "application/ocsp-response",
) -> None:
    """What a responder answers; all of it can be wrong. What has no time is of just now."""
    updated = updated or datetime.now(UTC).replace(microsecond=0)
    request = ocsp.load_der_ocsp_request(exchange.body)
    revoked = status is ocsp.OCSPCertStatus.REVOKED
    signer = signer or scene.root
    encoding = ocsp.OCSPResponderEncoding.NAME if by_name else ocsp.OCSPResponderEncoding.HASH
    builder = (
        ocsp.OCSPResponseBuilder()
        .add_response(
            cert=(about or scene.alice).loaded,
            issuer=scene.root.loaded,
            algorithm=algorithm or request.hash_algorithm,
            cert_status=status,
            this_update=updated,
            next_update=updated + lasts if lasts else None,
            revocation_time=updated if revoked else None,
            revocation_reason=x509.ReasonFlags.key_compromise if revoked else None,
        )
        .responder_id(encoding, signer.loaded)
    )
    if certificates:
        builder = builder.certificates([entry.loaded for entry in certificates])
    if nonce != "missing":
        asked = request.extensions.get_extension_for_class(x509.OCSPNonce).value.nonce
        assert len(asked) == 32  # RFC 9654
        builder = builder.add_extension(
            x509.OCSPNonce(asked if nonce == "echoed" else os.urandom(32)), critical=False
        )
    response = builder.sign(signer.key, hashes.SHA256())
    exchange.answer(response.public_bytes(Encoding.DER), content_type=content_type)


def test_a_responder_that_says_good_clears_a_certificate_and_is_told(scene: Scene) -> None:
    url = scene.website.serve("/ocsp", lambda exchange: respond(exchange, scene))
    path = scene.judge()
    (evidence,) = path.revocation
    assert (evidence.kind, evidence.source, evidence.status) == ("ocsp", f"fetched {url}", "good")
    assert evidence.certificate == scene.alice.certificate
    assert evidence.this_update == PRESENT - timedelta(hours=1)
    assert evidence.next_update == path.valid_until == PRESENT + timedelta(hours=11)
    assert abs(evidence.produced_at - datetime.now(UTC)) < timedelta(minutes=1)
    assert ocsp.load_der_ocsp_response(evidence.encoded).certificate_status is ocsp.OCSPCertStatus.GOOD


@pytest.mark.parametrize("mode", ["prefer", "require"])
def test_a_responder_that_says_revoked_decides(scene: Scene, mode: str) -> None:
    scene.website.serve(
        "/ocsp", lambda exchange: respond(exchange, scene, status=ocsp.OCSPCertStatus.REVOKED)
    )
    with pytest.raises(
        RevokedCertificateError, match=r"Alice was revoked on .* \(keyCompromise\)"
    ) as refusal:
        scene.judge(mode=mode)
    (evidence,) = refusal.value.evidence
    assert evidence.status == "revoked"


def test_unknown_is_not_good(scene: Scene) -> None:
    scene.website.serve(
        "/ocsp", lambda exchange: respond(exchange, scene, status=ocsp.OCSPCertStatus.UNKNOWN)
    )
    with pytest.raises(UntrustedError, match="nothing tells") as refusal:
        scene.judge()
    assert "the OCSP responder does not know it" in (refusal.value.hint or "")
    (evidence,) = scene.judge(mode="prefer").revocation
    assert evidence.status == "unknown"


GOOD_ANSWERS: dict[str, dict[str, Any]] = {
    "signed in advance": {"nonce": "missing"},
    "the responder is named": {"by_name": True},
    "the certificate is named with SHA-256": {"algorithm": hashes.SHA256()},
    "of another media type": {"content_type": "text/plain"},
    "of no media type": {"content_type": ""},
    "for as long as it is new": {"lasts": None, "updated": None},
    "of a clock that is ahead": {"updated": PRESENT + timedelta(minutes=2)},
}


@pytest.mark.parametrize("what", GOOD_ANSWERS)
def test_what_responders_may_do_counts(scene: Scene, what: str) -> None:
    options = GOOD_ANSWERS[what]
    scene.website.serve("/ocsp", lambda exchange: respond(exchange, scene, **options))
    (evidence,) = scene.judge().revocation
    assert evidence.status == "good"


BAD_ANSWERS: dict[str, tuple[Callable[[Exchange, Scene], None], str]] = {
    "a nonce of another request": (
        lambda exchange, scene: respond(exchange, scene, nonce="other"),
        "its nonce is not the one that was sent",
    ),
    "stale": (
        lambda exchange, scene: respond(exchange, scene, updated=PRESENT - timedelta(days=2)),
        "not recent enough",
    ),
    "stale, as it says nothing of how long it lasts": (
        lambda exchange, scene: respond(exchange, scene, lasts=None, updated=PRESENT - timedelta(days=1)),
        "not recent enough",
    ),
    "of the future": (
        lambda exchange, scene: respond(exchange, scene, updated=PRESENT + timedelta(days=1)),
        "is from the future",
    ),
    "of another key": (
        lambda exchange, scene: respond(
            exchange, scene, signer=scene.toolbox.authority(number=4, **TIMES), by_name=True
        ),
        "signature",
    ),
    "of another key that comes along": (
        lambda exchange, scene: respond(
            exchange,
            scene,
            signer=(other := scene.toolbox.authority("Other", number=4, **TIMES)),
            certificates=[other],
        ),
        "unauthorized certificate",
    ),
    "about another certificate": (
        lambda exchange, scene: respond(exchange, scene, about=scene.issue("Bob")),
        "serial number does not match",
    ),
    "tryLater": (
        lambda exchange, _: exchange.answer(
            ocsp.OCSPResponseBuilder.build_unsuccessful(ocsp.OCSPResponseStatus.TRY_LATER).public_bytes(
                Encoding.DER
            )
        ),
        "no answer but 'try_later'",
    ),
    "a page": (
        lambda exchange, _: exchange.answer(b"<html>Welcome</html>", content_type="text/html"),
        "the OCSP response cannot be read",
    ),
    "nothing": (lambda exchange, _: exchange.answer(b""), "the OCSP response cannot be read"),
    "huge": (lambda exchange, _: exchange.pour(1 << 24), "larger than the 1048576 octets"),
    "never there": (lambda exchange, _: exchange.never(), "gave no answer within 0.5 seconds"),
    "dribbling": (
        lambda exchange, _: exchange.dribble(b"HTTP/1.1 200 OK\r\n\r\n"),
        "gave no answer within 0.5 seconds",
    ),
    "elsewhere": (lambda exchange, _: exchange.redirect("/ocsp", 307), "redirected more than 3 times"),
    "in a private network": (
        lambda exchange, _: exchange.redirect("http://127.0.0.2/", 307),
        "is not public",
    ),
    "an error": (lambda exchange, _: exchange.answer(b"", status=500), "answered with status 500"),
}


@pytest.mark.parametrize("what", BAD_ANSWERS)
def test_a_bad_answer_of_a_responder_says_nothing(scene: Scene, what: str, tmp_path: Path) -> None:
    page, reason = BAD_ANSWERS[what]
    scene.cache = RevocationCache(tmp_path / "cache")
    scene.website.serve("/ocsp", lambda exchange: page(exchange, scene))
    started = time.monotonic()
    hint = scene.refusal()
    assert reason in hint
    assert time.monotonic() - started < 2 * LIMITS.seconds + SLACK
    assert not (tmp_path / "cache").exists(), "only what was verified is remembered"


DELEGATES: dict[str, tuple[dict[str, Any], str]] = {
    "as it should be": ({"extended": RESPONDER, "extra": [(x509.OCSPNoCheck(), False)]}, "good"),
    "without nocheck": ({"extended": RESPONDER}, "good"),
    "not meant for OCSP": ({"extended": [x509.ExtendedKeyUsageOID.EMAIL_PROTECTION]}, "unauthorized"),
    "meant for nothing": ({}, "unauthorized"),
    "expired": ({"extended": RESPONDER, "end": PRESENT - timedelta(days=1)}, "could not be validated"),
    "with a CRL that nobody has": (
        {"extended": RESPONDER, "extra": says_where(lists=["http://ca.example/"])},
        "could not be validated",
    ),
}


@pytest.mark.parametrize("what", DELEGATES)
def test_a_responder_may_be_delegated_by_the_ca(scene: Scene, what: str) -> None:
    options, expected = DELEGATES[what]
    delegate = scene.toolbox.forge("Responder", issuer=scene.root, number=5, **(TIMES | options))
    scene.website.serve(
        "/ocsp", lambda exchange: respond(exchange, scene, signer=delegate, certificates=[delegate])
    )
    if expected == "good":
        (evidence,) = scene.judge().revocation
        assert evidence.status == "good"
    else:
        with pytest.raises(UntrustedError, match="nothing tells") as refusal:
            scene.judge()
        assert expected in (refusal.value.hint or "")


def test_a_delegate_of_another_ca_says_nothing(scene: Scene) -> None:
    other = scene.toolbox.authority("Other", number=4, **TIMES)
    delegate = scene.toolbox.forge("Responder", issuer=other, number=5, extended=RESPONDER, **TIMES)
    scene.website.serve(
        "/ocsp", lambda exchange: respond(exchange, scene, signer=delegate, certificates=[delegate, other])
    )
    assert "could not be validated" in scene.refusal()


def test_the_second_responder_is_asked_when_the_first_does_not_tell(scene: Scene) -> None:
    scene.website.serve("/first", lambda exchange: exchange.answer(b"", status=503))
    scene.website.serve("/second", lambda exchange: respond(exchange, scene))
    scene.alice = scene.issue(responders=[scene.website.at("/first"), scene.website.at("/second")])
    (evidence,) = scene.judge().revocation
    assert evidence.source == f"fetched {scene.website.at('/second')}"


def test_the_crl_is_fetched_when_no_responder_tells(scene: Scene) -> None:
    alice = scene.issue(
        responders=["ldap://127.0.0.1/", scene.website.at("/ocsp")],
        lists=["ldap://127.0.0.1/", scene.website.at("/list.crl")],
    )
    scene.website.serve("/ocsp", lambda exchange: exchange.answer(b"", status=503))
    scene.website.serve("/list.crl", lambda exchange: exchange.answer(scene.crl()))
    (evidence,) = scene.judge(alice).revocation
    assert (evidence.kind, evidence.source) == ("crl", f"fetched {scene.website.at('/list.crl')}")
    assert scene.website.asked == ["/ocsp", "/list.crl"]


BAD_LISTS: dict[str, tuple[Callable[[Exchange, Scene], None], str]] = {
    "stale": (
        lambda exchange, scene: exchange.answer(scene.crl(updated=PRESENT - timedelta(days=20))),
        "not recent enough",
    ),
    "of the future": (
        lambda exchange, scene: exchange.answer(scene.crl(updated=PRESENT + timedelta(days=1))),
        "is from the future",
    ),
    "of another key": (
        lambda exchange, scene: exchange.answer(
            scene.toolbox.crl(scene.toolbox.authority(number=4, **TIMES), updated=PRESENT - timedelta(days=1))
        ),
        "CRL signature could not be verified",
    ),
    "a page": (lambda exchange, _: exchange.answer(b"<html>"), "the CRL cannot be read"),
    "huge": (lambda exchange, _: exchange.pour(1 << 24), "larger than the 1048576 octets"),
    "never there": (lambda exchange, _: exchange.never(), "gave no answer within 0.5 seconds"),
    "dribbling": (
        lambda exchange, _: exchange.dribble(b"HTTP/1.1 200 OK\r\n\r\n"),
        "gave no answer within 0.5 seconds",
    ),
    "elsewhere for ever": (
        lambda exchange, _: exchange.redirect("/list.crl"),
        "was redirected more than 3 times",
    ),
    "in a private network": (
        lambda exchange, _: exchange.redirect("http://127.0.0.2/list.crl"),
        "is not public",
    ),
}


@pytest.mark.parametrize("what", BAD_LISTS)
def test_a_bad_crl_of_a_server_says_nothing(scene: Scene, what: str, tmp_path: Path) -> None:
    page, reason = BAD_LISTS[what]
    scene.cache = RevocationCache(tmp_path / "cache")
    scene.alice = scene.issue(
        lists=[scene.website.serve("/list.crl", lambda exchange: page(exchange, scene))]
    )
    started = time.monotonic()
    assert reason in scene.refusal()
    assert time.monotonic() - started < 2 * LIMITS.seconds + SLACK
    assert not (tmp_path / "cache").exists()


def test_a_crl_that_lists_the_certificate_decides(scene: Scene) -> None:
    alice = scene.issue(lists=[scene.website.at("/list.crl")])
    scene.website.serve("/list.crl", lambda exchange: exchange.answer(scene.crl(alice)))
    with pytest.raises(RevokedCertificateError, match="Alice was revoked"):
        scene.judge(alice, "prefer")


def test_parts_of_a_crl_are_all_fetched(scene: Scene) -> None:
    """Divided by reason (RFC 5280 section 5.2.5), one part at each distribution point."""
    compromise = frozenset({x509.ReasonFlags.key_compromise, x509.ReasonFlags.ca_compromise})
    others = frozenset(set(x509.ReasonFlags) - compromise) - {
        x509.ReasonFlags.unspecified,
        x509.ReasonFlags.remove_from_crl,
    }
    urls = [scene.website.at("/compromise.crl"), scene.website.at("/others.crl")]
    for url, reasons in zip(urls, (compromise, others), strict=True):
        scope = x509.IssuingDistributionPoint(
            full_name=[x509.UniformResourceIdentifier(url)],
            relative_name=None,
            only_contains_user_certs=False,
            only_contains_ca_certs=False,
            only_some_reasons=reasons,
            indirect_crl=False,
            only_contains_attribute_certs=False,
        )
        encoded = scene.crl(extra=[(scope, True)])
        scene.website.serve("/" + url.rpartition("/")[2], lambda exchange, crl=encoded: exchange.answer(crl))
    alice = scene.issue(lists=urls)
    assert {entry.source for entry in scene.judge(alice).revocation} == {f"fetched {url}" for url in urls}
    half = scene.issue(lists=urls[:1])
    assert "do not cover all revocation reasons" in scene.refusal(half)


def test_a_delta_crl_is_fetched_from_where_the_complete_one_says(scene: Scene) -> None:
    bob = scene.issue("Bob", lists=[scene.website.at("/list.crl")])
    alice = scene.issue(lists=[scene.website.at("/list.crl")])
    freshest = x509.FreshestCRL([point(scene.website.at("/delta.crl"))])
    base = scene.crl(extra=[(x509.CRLNumber(3), False), (freshest, False)])
    delta = scene.crl(
        bob,
        updated=PRESENT - timedelta(hours=1),
        extra=[(x509.CRLNumber(7), False), (x509.DeltaCRLIndicator(3), True)],
    )
    scene.website.serve("/list.crl", lambda exchange: exchange.answer(base))
    assert "Delta CRL" in scene.refusal(alice)
    SILENCE.clear()
    scene.website.serve("/delta.crl", lambda exchange: exchange.answer(delta))
    assert {entry.encoded for entry in scene.judge(alice).revocation} == {base, delta}
    with pytest.raises(RevokedCertificateError, match="Bob was revoked"):
        scene.judge(bob)


def test_a_certificate_that_names_no_server_over_http_is_said_so(scene: Scene) -> None:
    alice = scene.issue(lists=["ldap://ca.example/cn=ca"])
    assert "it names no OCSP responder and no CRL that could be asked for over HTTP" in scene.refusal(alice)


def test_nothing_is_asked_where_that_is_not_allowed_or_not_needed(scene: Scene) -> None:
    scene.website.serve("/ocsp", lambda exchange: respond(exchange, scene))
    root, alice = scene.root.certificate, scene.alice.certificate
    now = datetime.now(UTC)
    CHAINS.clear()
    with pytest.raises(UntrustedError, match="nothing tells"):
        validate_path(alice, [], TrustPolicy((root,), revocation="require"), now)
    validate_path(alice, [], TrustPolicy((root,), fetch=HttpClient(LIMITS)), now)
    given = TrustPolicy((root,), revocation="require", crls=(scene.crl(),), fetch=HttpClient(LIMITS))
    validate_path(alice, [], given, now)
    assert scene.website.asked == []


def test_only_certificates_of_trusted_cas_say_whom_to_ask(scene: Scene) -> None:
    stranger = scene.toolbox.forge(
        issuer=scene.toolbox.authority("Other", number=4, **TIMES),
        extra=says_where(responders=[scene.website.at("/ocsp")]),
        **TIMES,
    )
    with pytest.raises(UntrustedError, match="no path"):
        scene.judge(stranger)
    assert scene.website.asked == []


def test_a_private_address_is_not_asked_by_default(scene: Scene) -> None:
    scene.limits = Limits()
    assert "127.0.0.1 is not public" in scene.refusal()
    assert scene.website.asked == []


def test_a_silent_server_is_asked_once(scene: Scene) -> None:
    scene.website.serve("/ocsp", lambda exchange: exchange.never())
    scene.refusal()
    started = time.monotonic()
    assert "failed a moment ago" in scene.refusal()
    assert time.monotonic() - started < LIMITS.seconds
    assert scene.website.asked == ["/ocsp"]


def test_all_servers_of_a_path_share_one_limit_of_time(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = ["/one", "/two", "/three", "/four"]
    for path in paths:
        scene.website.serve(path, lambda exchange: exchange.never())
    alice = scene.issue(
        responders=[scene.website.at(path) for path in paths[:2]],
        lists=[scene.website.at(path) for path in paths[2:]],
    )
    whole = Online.__init__.__kwdefaults__["seconds"]
    assert whole == 20.0
    monkeypatch.setitem(Online.__init__.__kwdefaults__, "seconds", 0.8)
    started = time.monotonic()
    with pytest.raises(UntrustedError, match="nothing tells") as refusal:
        scene.judge(alice)
    assert time.monotonic() - started < 0.8 + SLACK
    assert "was not asked, because those before it took too long" in (refusal.value.hint or "")


def test_what_was_fetched_is_used_again_from_the_disk(scene: Scene, tmp_path: Path) -> None:
    scene.website.serve("/ocsp", lambda exchange: respond(exchange, scene))
    scene.cache = RevocationCache(tmp_path / "cache")
    first, again = scene.judge().revocation[0], scene.judge().revocation[0]
    assert first.source.startswith("fetched")
    assert dataclasses.replace(first, source="cached") == again
    assert scene.website.asked == ["/ocsp"]


def age(folder: Path, **past: float) -> None:
    """Let what is cached be from an earlier time."""
    then = time.time() - timedelta(**past).total_seconds()
    for file in folder.iterdir():
        os.utime(file, (then, then))


def test_after_a_day_a_server_is_asked_again_and_the_cache_stands_in_for_it(
    scene: Scene, tmp_path: Path
) -> None:
    scene.cache = RevocationCache(tmp_path / "cache")
    alice = scene.issue(lists=[scene.website.at("/list.crl")])
    scene.website.serve("/list.crl", lambda exchange: exchange.answer(scene.crl()))
    scene.judge(alice)
    age(tmp_path / "cache", days=2)
    assert scene.judge(alice).revocation[0].source.startswith("fetched")
    assert scene.judge(alice).revocation[0].source == "cached"
    age(tmp_path / "cache", days=2)
    scene.website.serve("/list.crl", lambda exchange: exchange.answer(b"", status=503))
    assert scene.judge(alice).revocation[0].source == "cached"
    assert len(scene.website.asked) == 3


def test_what_is_cached_and_stale_is_fetched_anew(scene: Scene, tmp_path: Path) -> None:
    scene.cache = RevocationCache(tmp_path / "cache")
    short = timedelta(seconds=1)
    scene.website.serve(
        "/ocsp", lambda exchange: respond(exchange, scene, updated=datetime.now(UTC), lasts=short)
    )
    scene.judge()
    time.sleep(2.1)
    assert scene.judge().revocation[0].source.startswith("fetched")
    assert scene.website.asked == ["/ocsp", "/ocsp"]


@pytest.mark.parametrize("content", [b"", b"broken", b"\x30\x03\x0a\x01\x00"])
def test_a_broken_cache_is_as_good_as_none(scene: Scene, tmp_path: Path, content: bytes) -> None:
    scene.cache = RevocationCache(tmp_path / "cache")
    scene.website.serve("/ocsp", lambda exchange: respond(exchange, scene))
    scene.judge()
    (file,) = (tmp_path / "cache").iterdir()
    file.write_bytes(content)
    assert scene.judge().revocation[0].source.startswith("fetched")
    assert file.read_bytes() == scene.judge().revocation[0].encoded


def test_an_answer_about_the_past_is_judged_for_the_past(scene: Scene) -> None:
    """Revoked yesterday: what was signed a week ago was signed with a good certificate."""
    revoked = ocsp.OCSPCertStatus.REVOKED
    yesterday = PRESENT - timedelta(days=1)
    scene.website.serve(
        "/ocsp",
        lambda exchange: respond(exchange, scene, status=revoked, updated=yesterday, lasts=timedelta(days=2)),
    )
    (evidence,) = scene.judge(at=PRESENT - timedelta(days=7)).revocation
    assert evidence.status == "good"
    with pytest.raises(RevokedCertificateError):
        scene.judge(at=PRESENT)
    alice = scene.issue(lists=[scene.website.at("/list.crl")])
    scene.website.serve("/list.crl", lambda exchange: exchange.answer(scene.crl(alice, updated=yesterday)))
    assert scene.judge(alice, at=PRESENT - timedelta(days=7)).revocation[0].status == "good"
    with pytest.raises(RevokedCertificateError):
        scene.judge(alice, at=PRESENT)


def test_an_expired_certificate_is_not_asked_about(scene: Scene) -> None:
    """CAs take those off their CRLs, so that a list without it says nothing."""
    yesterday = PRESENT - timedelta(days=1)
    url = scene.website.serve("/list.crl", lambda exchange: exchange.answer(scene.crl()))
    alice = scene.toolbox.forge(
        issuer=scene.root, extra=says_where(lists=[url]), start=PRESENT - timedelta(days=9), end=yesterday
    )
    with pytest.raises(UntrustedError, match="nothing tells"):
        scene.judge(alice, at=PRESENT - timedelta(days=3))
    assert scene.website.asked == []
    CHAINS.clear()
    late = scene.crl(updated=PRESENT - timedelta(hours=1))
    policy = TrustPolicy((scene.root.certificate,), revocation="require", crls=(late,))
    with pytest.raises(UntrustedError, match="nothing tells") as refusal:
        validate_path(alice.certificate, [], policy, PRESENT - timedelta(days=3))
    assert "made after it expired" in (refusal.value.hint or "")


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not at hand")
def test_the_responder_of_openssl_is_understood(scene: Scene, tmp_path: Path) -> None:
    """`openssl ocsp` with a delegated certificate and our nonce; it knows Alice and Bob, and no third."""
    delegate = scene.toolbox.forge(
        "Responder",
        issuer=scene.root,
        number=5,
        extended=RESPONDER,
        extra=[(x509.OCSPNoCheck(), False)],
        **TIMES,
    )
    alice, bob, stranger = (
        scene.issue(name, responders=[scene.website.at("/ocsp")]) for name in ("Alice", "Bob", "?")
    )
    until = f"{TIMES['end']:%y%m%d%H%M%SZ}"
    revoked = f"{PRESENT - timedelta(days=1):%y%m%d%H%M%SZ},keyCompromise"
    (tmp_path / "index.txt").write_text(
        f"V\t{until}\t\t{serial_in_index(alice)}\tunknown\t/CN=Alice\n"
        f"R\t{until}\t{revoked}\t{serial_in_index(bob)}\tunknown\t/CN=Bob\n"
    )
    (tmp_path / "ca.pem").write_text(scene.root.certificate.pem())
    (tmp_path / "responder.pem").write_bytes(
        delegate.certificate.pem().encode()
        + delegate.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )

    def openssl(exchange: Exchange) -> None:
        (tmp_path / "request.der").write_bytes(exchange.body)
        subprocess.run(
            ["openssl", "ocsp", "-index", "index.txt", "-rsigner", "responder.pem", "-CA", "ca.pem",
             "-ndays", "1", "-reqin", "request.der", "-respout", "response.der"],
            cwd=tmp_path, capture_output=True, check=True, timeout=loopback.PATIENCE,
        )  # fmt: skip
        exchange.answer((tmp_path / "response.der").read_bytes(), content_type="application/ocsp-response")

    scene.website.serve("/ocsp", openssl)
    scene.limits = dataclasses.replace(LIMITS, seconds=10)
    (evidence,) = scene.judge(alice).revocation
    assert evidence.status == "good"
    assert asn1_ocsp.OCSPResponse.load(evidence.encoded).nonce_value is not None
    with pytest.raises(RevokedCertificateError, match=r"Bob was revoked on .* \(keyCompromise\)"):
        scene.judge(bob)
    with pytest.raises(UntrustedError, match="nothing tells") as refusal:
        scene.judge(stranger)
    assert "does not know it" in (refusal.value.hint or "")


def serial_in_index(person: Forged) -> str:
    """As `openssl ca` writes it: whole octets in hexadecimal."""
    digits = f"{person.certificate.serial_number:X}"
    return digits.zfill(len(digits) + len(digits) % 2)
