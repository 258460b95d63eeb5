"""Certificates, CRLs and OCSP responses with flipped and cut bytes: an error of ours, or the same verdict."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tokensign.certificates import Certificate
from tokensign.errors import MalformedError, UnsupportedError, UntrustedError
from tokensign.pki.trust import TrustPolicy, check_encryption_use, validate_path

if TYPE_CHECKING:
    from conftest import Toolbox

MANY = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def damage(data: bytes, places: list[tuple[int, int]], cut: int) -> bytes:
    damaged = bytearray(data)
    for place, mask in places:
        damaged[place % len(data)] ^= mask
    return bytes(damaged[: len(data) - cut % len(data)] if cut else damaged)


damages: Any = st.tuples(
    st.lists(st.tuples(st.integers(0, 5000), st.integers(1, 255)), min_size=1, max_size=4),
    st.one_of(st.just(0), st.integers(0, 5000)),
)


@MANY
@given(kind=st.sampled_from(["leaf", "middle", "crl", "ocsp"]), how=damages)
def test_damaged_bytes_are_refused_with_an_error_of_ours(toolbox: Toolbox, kind: str, how: Any) -> None:  # noqa: ANN401 - hypothesis
    root = toolbox.authority()
    middle = toolbox.authority("Middle", issuer=root, number=2, emails=["ca@example.org"])
    alice = toolbox.forge(issuer=middle, ca=False, usage=["digital_signature"], emails=["a@example.org"])
    parts = {
        "leaf": alice.certificate.der,
        "middle": middle.certificate.der,
        "crl": toolbox.crl(root),
        "ocsp": toolbox.ocsp(alice, middle),
    }
    genuine = parts[kind]
    parts[kind] = damage(genuine, *how)
    with contextlib.suppress(UntrustedError, MalformedError):
        path = validate_path(
            Certificate(parts["leaf"]),
            [Certificate(parts["middle"])],
            TrustPolicy(
                (root.certificate,),
                revocation="require",
                crls=(parts["crl"],),
                ocsp_responses=(parts["ocsp"],),
            ),
            toolbox.now,
        )
        assert path.certificates == (alice.certificate, middle.certificate, root.certificate)


@MANY
@given(how=damages)
def test_damaged_anchors_and_recipients_are_refused_with_an_error_of_ours(toolbox: Toolbox, how: Any) -> None:  # noqa: ANN401 - hypothesis
    root = toolbox.authority()
    alice = toolbox.forge(issuer=root)
    with contextlib.suppress(UntrustedError, MalformedError):
        anchor = Certificate(damage(root.certificate.der, *how))
        validate_path(alice.certificate, [], TrustPolicy((anchor,)), toolbox.now)
    with contextlib.suppress(UntrustedError, MalformedError, UnsupportedError):
        check_encryption_use(Certificate(damage(alice.certificate.der, *how)))


def test_the_fuzzing_corpus_of_crls_gives_errors_of_ours_only(toolbox: Toolbox, corpora: Any) -> None:  # noqa: ANN401 - a fixture
    root = toolbox.authority()
    alice = toolbox.forge(issuer=root)
    verdicts = {"read": 0, "refused": 0}
    for file in sorted(corpora("fuzz-crl").iterdir()):
        policy = TrustPolicy((root.certificate,), revocation="prefer", crls=(file.read_bytes(),), legacy=True)
        try:
            validate_path(alice.certificate, [], policy, toolbox.now)
        except (UntrustedError, MalformedError):
            verdicts["refused"] += 1
        else:
            verdicts["read"] += 1
    assert verdicts["refused"] > 500  # cryptography refuses them too
