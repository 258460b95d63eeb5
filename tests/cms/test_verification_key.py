from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from tokensign import der
from tokensign.algorithms import DIGESTS, MGF1_OID, RSASSA_PSS_OID, SLH_DSA, Digest
from tokensign.cms.signature import ReceivedScheme
from tokensign.cms.slh_dsa import SlhDsaPublicKey
from tokensign.cms.verification_key import verification_key
from tokensign.errors import MalformedError, MessageError, UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Callable

SHA256, SHA384, SHA1 = DIGESTS["sha256"], DIGESTS["sha384"], DIGESTS["sha1"]
PSS = ReceivedScheme("rsa-pss", SHA256, SHA256, 32)
SLH_OID = "2.16.840.1.101.3.4.3.20"
DSA_OID = "1.2.840.10040.4.1"


class Holder:
    """A certificate of which nothing counts but its key and its names."""

    subject = "CN=Alice"
    issuer = "CN=Carl"

    def __init__(self, public_key_info: bytes, subject: bytes = b"alice", issuer: bytes = b"carl") -> None:
        self.public_key_info = public_key_info
        self.encoded_subject = subject
        self.encoded_issuer = issuer
        self.public_key = "the certificate's own"


def with_algorithm(holder: Any, oid: str, *parameters: bytes) -> Any:  # noqa: ANN401
    """The same key under another AlgorithmIdentifier."""
    _, bits = der.elements(holder.certificate.public_key_info)
    return Holder(der.sequence(der.sequence(der.object_identifier(oid), *parameters), bits))


def pss_parameters(digest: Digest, mgf: Digest, salt_size: int) -> bytes:
    def hash_algorithm(entry: Digest) -> bytes:
        return der.sequence(der.object_identifier(entry.oid), der.NULL)

    return der.sequence(
        der.explicit(0, hash_algorithm(digest)),
        der.explicit(1, der.sequence(der.object_identifier(MGF1_OID), hash_algorithm(mgf))),
        der.explicit(2, der.integer(salt_size)),
    )


def test_most_keys_are_the_certificates_own(software: Callable[..., Any]) -> None:
    for kind in ("rsa:2048", "p256", "ed25519"):
        certificate = software(kind).certificate
        assert verification_key(certificate, PSS) is certificate.public_key


# --- RSASSA-PSS keys (RFC 4055 section 3.3)


@pytest.mark.parametrize(
    ("parameters", "fits"),
    [
        ((), True),
        ((pss_parameters(SHA256, SHA256, 32),), True),
        ((pss_parameters(SHA256, SHA256, 20),), True),
        ((pss_parameters(SHA256, SHA256, 33),), False),
        ((pss_parameters(SHA384, SHA256, 32),), False),
        ((pss_parameters(SHA256, SHA384, 32),), False),
        ((der.sequence(),), False),
    ],
    ids=["free", "same", "shorter salt", "longer salt", "other hash", "other mgf hash", "sha1 by default"],
)
def test_a_key_for_pss_alone_may_restrict_its_use(
    parameters: tuple[bytes, ...],
    fits: bool,  # noqa: FBT001 - a parameter of the test
    software: Callable[..., Any],
) -> None:
    alice = software("rsa:2048")
    holder = with_algorithm(alice, RSASSA_PSS_OID, *parameters)
    if fits:
        key = verification_key(holder, PSS)
        assert isinstance(key, rsa.RSAPublicKey)
        assert key.public_numbers() == alice.certificate.public_key.public_numbers()
    else:
        with pytest.raises(MalformedError, match="not those that the signer's key demands"):
            verification_key(holder, PSS)


def test_a_key_for_pss_alone_makes_no_other_signature(software: Callable[..., Any]) -> None:
    holder = with_algorithm(software("rsa:2048"), RSASSA_PSS_OID)
    with pytest.raises(MalformedError, match="RSA-PSS only, and the signature is rsa-pkcs1 with sha256"):
        verification_key(holder, replace(PSS, family="rsa-pkcs1"))


def test_a_broken_key_for_pss_cannot_be_used() -> None:
    algorithm = der.sequence(der.object_identifier(RSASSA_PSS_OID))
    holder: Any = Holder(der.sequence(algorithm, der.tlv(0x03, b"\0\x30\x00")))
    with pytest.raises(UnsupportedError, match="public key of CN=Alice cannot be used"):
        verification_key(holder, PSS)


@pytest.mark.parametrize("encoded", [der.sequence(), der.sequence(der.sequence(), b"\x03\x01\x00")])
def test_a_key_without_an_algorithm_is_broken(encoded: bytes) -> None:
    holder: Any = Holder(encoded)
    with pytest.raises(MalformedError):
        verification_key(holder, PSS)


# --- DSA keys whose parameters are their issuer's (RFC 3279 section 2.3.2)


def dsa_key(*parameters: bytes) -> bytes:
    return der.sequence(
        der.sequence(der.object_identifier(DSA_OID), *parameters), der.tlv(0x03, b"\0" + der.integer(3))
    )


def test_without_the_issuer_its_parameters_are_missing() -> None:
    alice: Any = Holder(dsa_key())
    stranger: Any = Holder(dsa_key(b"\x30\x00"), b"mallory", b"mallory")
    with pytest.raises(MessageError, match="has its issuer's parameters") as failure:
        verification_key(alice, PSS, [stranger])
    assert "CN=Carl" in str(failure.value.hint)


def test_an_issuer_that_inherits_from_itself_ends_the_search() -> None:
    carl: Any = Holder(dsa_key(), b"carl", b"carl")
    with pytest.raises(MessageError, match="issuer's parameters"):
        verification_key(carl, PSS, [carl])


def test_an_issuer_with_another_key_has_no_dsa_parameters(software: Callable[..., Any]) -> None:
    alice: Any = Holder(dsa_key())
    carl: Any = Holder(software("rsa:2048").certificate.public_key_info, b"carl", b"root")
    with pytest.raises(MessageError, match="issuer's parameters"):
        verification_key(alice, PSS, [carl])


# --- SLH-DSA keys


def slh_key(oid: str, octets: bytes, *parameters: bytes) -> bytes:
    return der.sequence(der.sequence(der.object_identifier(oid), *parameters), der.tlv(0x03, b"\0" + octets))


@pytest.mark.parametrize("oid", SLH_DSA)
def test_slh_dsa_keys_are_read(oid: str) -> None:
    octets = bytes(range(SLH_DSA[oid].digest_size))
    holder: Any = Holder(slh_key(oid, octets))
    assert verification_key(holder, PSS) == SlhDsaPublicKey(SLH_DSA[oid], octets)


@pytest.mark.parametrize(
    "encoded",
    [slh_key(SLH_OID, bytes(31)), slh_key(SLH_OID, bytes(32), der.NULL), der.sequence(der.NULL), b"\x30\x00"],
)
def test_broken_slh_dsa_keys_are_refused(encoded: bytes) -> None:
    with pytest.raises(MalformedError, match="broken"):
        SlhDsaPublicKey.load(encoded)


def test_a_key_of_another_algorithm_is_not_slh_dsa(software: Callable[..., Any]) -> None:
    assert SlhDsaPublicKey.load(software().certificate.public_key_info) is None


def test_without_the_package_slh_dsa_is_not_supported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "slhdsa", None)
    with pytest.raises(UnsupportedError, match="slh-dsa-sha2-128s signatures are verified with") as failure:
        SlhDsaPublicKey(SLH_DSA[SLH_OID], bytes(32)).verify(b"", b"")
    assert "pip install" in str(failure.value.hint)
