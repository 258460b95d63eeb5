"""Parts encoded once and joined give the octets that the ASN.1 definition gives."""

from __future__ import annotations

import hashlib
import io
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

import pytest
from asn1crypto import algos, cms, core, tsp, x509

from tokensign.algorithms import DIGESTS
from tokensign.cms.signed import SigningOptions, SigningTemplate, sign_attached, sign_detached
from tokensign.cms.signed_data import read_signed_data
from tokensign.cms.verify import verify_signatures
from tokensign.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from tokensign.certificates import Certificate
    from tokensign.token import TokenKey

CONTENT = b"Pay 100 to Bob.\n" * 640
MOMENTS = [datetime(2026, 5, 4, 3, 2, 1, 999999, tzinfo=UTC), datetime(2051, 1, 1, tzinfo=UTC)]
CAPABILITIES = [
    "2.16.840.1.101.3.4.1.46",
    "2.16.840.1.101.3.4.1.42",
    "2.16.840.1.101.3.4.1.6",
    "2.16.840.1.101.3.4.1.2",
]


def algorithm_of(kind: str, family: str | None) -> dict[str, Any]:
    if family == "rsa-pss":
        hash_algorithm = {"algorithm": "sha256", "parameters": core.Null()}
        parameters = {
            "hash_algorithm": hash_algorithm,
            "mask_gen_algorithm": {"algorithm": "mgf1", "parameters": hash_algorithm},
            "salt_length": 32,
        }
        return {"algorithm": "rsassa_pss", "parameters": algos.RSASSAPSSParams(parameters)}
    if kind == "rsa:2048":
        return {"algorithm": "rsassa_pkcs1v15", "parameters": core.Null()}
    return {"algorithm": {"p256": "sha256_ecdsa", "ed25519": "1.3.101.112"}[kind]}


def digest_algorithm(name: str) -> Any:  # noqa: ANN401 - asn1crypto has no types
    """With parameters absent (RFC 5754 section 2), where asn1crypto would write NULL of its own accord."""
    oid = core.ObjectIdentifier(algos.DigestAlgorithmId(name).dotted)
    return algos.DigestAlgorithm.load(core.SequenceOf([oid], spec=core.ObjectIdentifier).dump())


def attributes_of(certificate: Certificate, digest: str, algorithm: dict[str, Any], moment: datetime) -> Any:  # noqa: ANN401
    """The signed attributes as asn1crypto's definition of RFC 5652 has them."""
    issuer_serial = {
        "issuer": [x509.GeneralName("directory_name", certificate.asn1.issuer)],
        "serial_number": certificate.serial_number,
    }
    identifier = {"cert_hash": hashlib.sha256(certificate.der).digest(), "issuer_serial": issuer_serial}
    time = cms.Time("utc_time", moment) if moment.year < 2050 else cms.Time("generalized_time", moment)
    sha256 = {"algorithm": "sha256"}
    mask_generation = {"algorithm": "mgf1", "parameters": sha256}
    oaep = algos.RSAESOAEPParams({"hash_algorithm": sha256, "mask_gen_algorithm": mask_generation})
    capabilities = [
        *({"capability_id": oid} for oid in CAPABILITIES),
        {"capability_id": "1.2.840.113549.1.1.7", "parameters": oaep},
    ]
    values: dict[str, Any] = {
        "content_type": "data",
        "message_digest": hashlib.new(digest, CONTENT).digest(),
        "signing_time": time,
        "smime_capabilities": capabilities,
        "signing_certificate_v2": tsp.SigningCertificateV2({"certs": [tsp.ESSCertIDv2(identifier)]}),
        "cms_algorithm_protection": cms.CMSAlgorithmProtection(
            {"digest_algorithm": digest_algorithm(digest), "signature_algorithm": algorithm}
        ),
    }
    attributes = [cms.CMSAttribute({"type": kind, "values": [value]}) for kind, value in values.items()]
    return cms.CMSAttributes(attributes)


def message_of(
    signer: Any,  # noqa: ANN401 - of any kind
    kind: str,
    family: str | None,
    moment: datetime,
    signature: bytes,
    identifier: str,
) -> bytes:
    """The whole message as asn1crypto's definition has it, but for the signature, which is given."""
    certificate = signer.certificate
    digest = "sha512" if kind == "ed25519" else "sha256"
    algorithm = algorithm_of(kind, family)
    sid = (
        cms.SignerIdentifier("subject_key_identifier", certificate.subject_key_identifier)
        if identifier == "ski"
        else cms.SignerIdentifier(
            "issuer_and_serial_number",
            {"issuer": certificate.asn1.issuer, "serial_number": certificate.serial_number},
        )
    )
    version = "v3" if identifier == "ski" else "v1"
    info = {
        "version": version,
        "sid": sid,
        "digest_algorithm": digest_algorithm(digest),
        "signed_attrs": attributes_of(certificate, digest, algorithm, moment.replace(microsecond=0)),
        "signature_algorithm": algorithm,
        "signature": signature,
    }
    data = cms.SignedData(
        {
            "version": version,
            "digest_algorithms": [digest_algorithm(digest)],
            "encap_content_info": {"content_type": "data"},
            "certificates": [certificate.asn1],
            "signer_infos": [info],
        }
    )
    encoded: bytes = cms.ContentInfo({"content_type": "signed_data", "content": data}).dump()
    return encoded


@pytest.mark.parametrize("moment", MOMENTS, ids=["utc", "generalized"])
@pytest.mark.parametrize("identifier", ["issuer", "ski"])
@pytest.mark.parametrize(
    ("kind", "family"), [("rsa:2048", None), ("rsa:2048", "rsa-pss"), ("p256", None), ("ed25519", None)]
)
def test_the_octets_are_those_of_the_definition(
    kind: str,
    family: str | None,
    identifier: Literal["issuer", "ski"],
    moment: datetime,
    software: Callable[..., Any],
) -> None:
    options = SigningOptions(family=family, identifier=identifier, signing_time=moment)
    signer = software(kind)
    template = SigningTemplate([signer], options)
    for _ in range(2):  # the first time and from what was kept
        message = template.detached(io.BytesIO(CONTENT))
        (info,) = read_signed_data(io.BytesIO(message)).signer_infos
        assert message == message_of(signer, kind, family, moment, info.signature, identifier)


def test_one_template_signs_many_contents(token_person: Callable[[str], TokenKey]) -> None:
    template = SigningTemplate([token_person("rsa:2048"), token_person("ec:p256"), token_person("ed25519")])
    for content in (b"", b"one", CONTENT):
        message = read_signed_data(io.BytesIO(template.detached(io.BytesIO(content))))
        assert [result.error for result in verify_signatures(message, [content])] == [None] * 3
        output = io.BytesIO()
        template.attached(io.BytesIO(content), output)
        message = read_signed_data(io.BytesIO(output.getvalue()))
        assert message.content is not None
        assert [result.error for result in verify_signatures(message, message.content.chunks())] == [None] * 3


def test_one_template_serves_many_threads(token_person: Callable[[str], TokenKey]) -> None:
    template = SigningTemplate([token_person("ec:p256")])
    contents = [bytes((number,)) * 100 for number in range(40)]
    with ThreadPoolExecutor(4) as pool:
        messages = list(pool.map(lambda content: template.detached(io.BytesIO(content)), contents))
    for content, message in zip(contents, messages, strict=True):
        (result,) = verify_signatures(read_signed_data(io.BytesIO(message)), [content])
        assert result.error is None


def test_the_signing_time_moves_on(software: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1_800_000_000.5
    monkeypatch.setattr("tokensign.cms.signed.time.time", lambda: now)
    template = SigningTemplate([software()])
    moments = []
    for now in (1_800_000_000.5, 1_800_000_000.9, 1_800_000_001.0, 2_600_000_000.0):  # noqa: B007 - the lambda's
        message = read_signed_data(io.BytesIO(template.detached(io.BytesIO(CONTENT))))
        (result,) = verify_signatures(message, [CONTENT])
        assert result.error is None
        moments.append(result.signing_time)
    start = datetime.fromtimestamp(1_800_000_000, UTC)
    assert moments == [start, start, start + timedelta(seconds=1), datetime.fromtimestamp(2_600_000_000, UTC)]


def test_the_functions_do_the_same(software: Callable[..., Any]) -> None:
    options = SigningOptions(signing_time=MOMENTS[0])
    signers = [software("rsa:2048")]  # whose signatures are always the same
    template = SigningTemplate(signers, options)
    assert sign_detached(io.BytesIO(CONTENT), signers, options) == template.detached(io.BytesIO(CONTENT))
    one, other = io.BytesIO(), io.BytesIO()
    sign_attached(io.BytesIO(CONTENT), signers, one, options)
    template.attached(io.BytesIO(CONTENT), other)
    assert one.getvalue() == other.getvalue()


def test_every_refusal_comes_when_the_template_is_made(nameless: Callable[..., Any]) -> None:
    with pytest.raises(UsageError, match="at least one signer"):
        SigningTemplate([])
    with pytest.raises(UsageError, match="has no certificate"):
        SigningTemplate([nameless()])


def test_shorter_and_longer_digests_are_placed_right(software: Callable[..., Any]) -> None:
    for name, entry in DIGESTS.items():
        if name in {"sha1", "md5"}:
            continue
        message = sign_detached(io.BytesIO(CONTENT), [software("rsa:2048")], SigningOptions(digest=entry))
        (result,) = verify_signatures(read_signed_data(io.BytesIO(message)), [CONTENT])
        assert result.error is None
        assert str(result.scheme) == f"rsa-pkcs1 with {name}"


@pytest.mark.parametrize("kinds", [("p256",), ("p256", "ed25519")])
def test_content_of_several_pieces_is_hashed_whole(
    kinds: tuple[str, ...], software: Callable[..., Any]
) -> None:
    content = bytes(range(256)) * 1024 * 3 + b"the rest"
    message = SigningTemplate([software(kind) for kind in kinds]).detached(io.BytesIO(content))
    results = verify_signatures(read_signed_data(io.BytesIO(message)), [content])
    assert [result.error for result in results] == [None] * len(kinds)
