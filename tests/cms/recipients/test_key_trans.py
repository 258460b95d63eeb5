from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tokensign import der
from tokensign.algorithms import (
    DIGESTS,
    MGF1_OID,
    P_SPECIFIED_OID,
    RSA_ENCRYPTION_OID,
    RSAES_OAEP_OID,
)
from tokensign.cms.recipients import KeyTransRecipientInfo, RecipientIdentifier
from tokensign.cms.recipients.key_trans import encode_key_trans, load_key_trans
from tokensign.errors import MalformedError, UnsupportedError
from tokensign.keys import OaepTransport, Pkcs1Transport

if TYPE_CHECKING:
    from collections.abc import Callable

    from tokensign.keys import KeyTransport

SHA1, SHA256 = DIGESTS["sha1"], DIGESTS["sha256"]


def identifier(oid: str, *parameters: bytes) -> bytes:
    return der.sequence(der.object_identifier(oid), *parameters)


def read(algorithm: bytes) -> KeyTransport:
    name = RecipientIdentifier(subject_key_identifier=b"bob")
    return KeyTransRecipientInfo(name, algorithm, b"").transport


def oaep(*fields: bytes) -> bytes:
    return identifier(RSAES_OAEP_OID, der.sequence(*fields))


@pytest.mark.parametrize(
    "transport",
    [
        Pkcs1Transport(),
        OaepTransport(),
        OaepTransport(SHA1, SHA1),
        OaepTransport(SHA1, SHA256),
        OaepTransport(DIGESTS["sha512"], SHA1, b"label"),
    ],
    ids=str,
)
def test_what_is_written_is_read_and_is_der(transport: KeyTransport, software: Callable[..., Any]) -> None:
    bob = software("rsa:2048")
    encoded = encode_key_trans(bob.certificate, b"k" * 16, transport)
    info = load_key_trans(encoded)
    assert info.transport == transport
    assert info.is_for(bob)
    assert not info.is_for(software("rsa:2048", 1))
    assert str(info) == f"serial {bob.certificate.serial_number:x} of CN=Root,O=Acme"
    assert bob.unwrap(info.encrypted_key, transport) == b"k" * 16


def test_a_certificate_without_an_rsa_key_is_not_encrypted_to(software: Callable[..., Any]) -> None:
    with pytest.raises(UnsupportedError, match="CN=p256 0,O=Acme has no RSA key"):
        encode_key_trans(software("p256").certificate, b"k", Pkcs1Transport())


def test_oaep_defaults_are_left_out(software: Callable[..., Any]) -> None:
    """RFC 4055 section 4.1 and DER: a value that is the default is not encoded."""
    encoded = encode_key_trans(software("rsa:2048").certificate, b"k", OaepTransport(SHA1, SHA1))
    assert load_key_trans(encoded).key_encryption_algorithm == oaep()


@pytest.mark.parametrize("algorithm", [oaep(), identifier(RSAES_OAEP_OID)])
def test_oaep_parameters_that_are_left_out_mean_sha1(algorithm: bytes) -> None:
    assert read(algorithm) == OaepTransport(SHA1, SHA1)


@pytest.mark.parametrize("parameters", [b"", der.NULL])
def test_rsa_encryption_is_read_with_null_or_nothing(parameters: bytes) -> None:
    assert read(identifier(RSA_ENCRYPTION_OID, parameters)) == Pkcs1Transport()


def test_what_is_not_done_is_named() -> None:
    with pytest.raises(UnsupportedError, match=r"1\.2\.3\.4"):
        read(identifier("1.2.3.4"))
    with pytest.raises(UnsupportedError, match="mask generation"):
        read(oaep(der.explicit(1, identifier("1.2.3.4", identifier(SHA1.oid)))))
    with pytest.raises(UnsupportedError, match="label"):
        read(oaep(der.explicit(2, identifier("1.2.3.4", der.octet_string(b"")))))
    with pytest.raises(UnsupportedError, match=r"1\.2\.3\.4"):
        read(oaep(der.explicit(0, identifier("1.2.3.4"))))
    with pytest.raises(UnsupportedError, match=r"1\.2\.3\.4"):
        read(oaep(der.explicit(1, identifier(MGF1_OID, identifier("1.2.3.4")))))


@pytest.mark.parametrize(
    "algorithm",
    [
        der.sequence(),
        identifier(RSAES_OAEP_OID, der.octet_string(b"x")),
        oaep(der.explicit(0, der.NULL)),
        oaep(der.explicit(2, identifier(P_SPECIFIED_OID, der.NULL))),
        oaep(der.explicit(2, identifier(P_SPECIFIED_OID))),
    ],
)
def test_broken_parameters_are_refused(algorithm: bytes) -> None:
    with pytest.raises(MalformedError):
        read(algorithm)


def test_a_recipient_named_in_an_unknown_way_is_refused() -> None:
    with pytest.raises(MalformedError, match="unknown way"):
        load_key_trans(
            der.sequence(der.integer(0), der.NULL, identifier(RSA_ENCRYPTION_OID), der.octet_string(b""))
        )


def test_a_key_that_does_not_transport_is_never_a_recipient(software: Callable[..., Any]) -> None:
    info = KeyTransRecipientInfo(
        RecipientIdentifier(subject_key_identifier=b"bob"), identifier(RSA_ENCRYPTION_OID), b""
    )
    assert not info.is_for(software("p256"))
