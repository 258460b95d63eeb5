from __future__ import annotations

from tokensign import der
from tokensign.algorithms import DIGESTS, KEY_AGREEMENT_SCHEMES, KEY_WRAPS
from tokensign.cms.recipients.kdf import agreed_key, ecc_cms_shared_info, hkdf, x942, x963

TRIPLE_DES_WRAP = "1.2.840.113549.1.9.16.3.6"


def test_the_first_vector_of_rfc_2631() -> None:  # section 2.1.5
    derived = x942(bytes(range(20)), DIGESTS["sha1"], TRIPLE_DES_WRAP, None, 24)
    assert derived.hex() == "a09661392376f7044d9052a397883246b67f5f1ef63eb5fb"


def test_the_second_vector_of_rfc_2631() -> None:  # section 2.1.6, with partyAInfo
    party = bytes.fromhex("0123456789abcdeffedcba9876543201" * 4)
    derived = x942(bytes(range(20)), DIGESTS["sha1"], "1.2.840.113549.1.9.16.3.7", party, 16)
    assert derived.hex() == "48950c46e0530075403cce72889604e0"


def test_a_vector_of_nist_for_x963() -> None:  # CAVP, ANSI X9.63-2001, SHA-256, the first with shared info
    secret = bytes.fromhex("22518b10e70f2a3f243810ae3254139efbee04aa57c7af7d")
    info = bytes.fromhex("75eef81aa3041e33b80971203d2c0c52")
    expected = (
        "c498af77161cc59f2962b9a713e2b215152d139766ce34a776df11866a69bf2e"
        "52a13d9c7c6fc878c50c5ea0bc7b00e0da2447cfd874f6cf92f30d0097111485500c90c3af8b487872d04685d14c8d1d"
        "c8d7fa08beb0ce0ababc11f0bd496269142d43525a78e5bc79a17f59676a5706dc54d54d4d1f0bd7e386128ec26afc21"
    )
    assert x963(secret, DIGESTS["sha256"], info, 128).hex() == expected


def test_the_first_vector_of_rfc_5869() -> None:  # appendix A.1
    derived = hkdf(
        b"\x0b" * 22,
        DIGESTS["sha256"],
        bytes(range(0xF0, 0xFA)),
        42,
        salt=bytes(range(13)),
    )
    assert derived.hex().startswith("3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf")


def test_shared_info_holds_the_key_wrap_the_ukm_and_the_size_in_bits() -> None:
    wrapping = KEY_WRAPS["aes-256-wrap"].algorithm_identifier
    assert ecc_cms_shared_info(wrapping, None, 32) == der.sequence(
        wrapping, bytes.fromhex("a206040400000100")
    )
    assert ecc_cms_shared_info(wrapping, b"u", 16) == der.sequence(
        wrapping, bytes.fromhex("a003040175"), bytes.fromhex("a206040400000080")
    )


def test_hkdf_takes_the_ukm_as_salt_too() -> None:  # RFC 8418 section 2.2
    scheme = KEY_AGREEMENT_SCHEMES["dhSinglePass-stdDH-hkdf-sha256"]
    entry = KEY_WRAPS["aes-128-wrap"]
    wrapping = entry.algorithm_identifier
    info = ecc_cms_shared_info(wrapping, b"salt", 16)
    expected = hkdf(b"secret", DIGESTS["sha256"], info, 16, salt=b"salt")
    assert agreed_key(scheme, b"secret", entry, wrapping, b"salt") == expected
    assert agreed_key(scheme, b"secret", entry, wrapping, None) != expected
