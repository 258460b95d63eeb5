"""OpenSSL's regressions: malformed and forged messages give an error and no output."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from tokensign.certificates import load_certificates
from tokensign.cms.decrypt import decrypt
from tokensign.errors import MessageError, TokensignError, VerificationError
from tokensign.smime.unwrap import open_message
from tokensign.verification import Expectations, verify

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from tokensign.token import TokenKey


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("bad_signtime_attr.cms", "signingTime is not signed"),
        ("ct_multiple_attr.cms", "1.2.840.113549.1.9.3 occurs twice"),
        ("no_ct_attr.cms", "contentType is missing"),
        ("no_md_attr.cms", "messageDigest is missing"),
    ],
)
def test_forged_attributes_do_not_hold(name: str, reason: str, corpora: Callable[[str], Path]) -> None:
    data = corpora(f"openssl-cms/{name}").read_bytes()
    output = io.BytesIO()
    with open_message(io.BytesIO(data)) as opened, pytest.raises(VerificationError) as caught:
        verify(opened.cms, Expectations(trust=None, legacy=True), output=output)
    assert output.getvalue() == b""
    assert reason in caught.value.report.signers[0].integrity.reason


def test_everything_else_is_refused_with_a_typed_error_and_no_output(
    files_of: Callable[..., Sequence[Any]],
    corpora: Callable[[str], Path],
    import_key: Callable[..., TokenKey],
    tally: Any,  # noqa: ANN401
) -> None:
    anybody = import_key(
        load_pem_private_key(corpora("rfc9216/bob.encrypt.key").read_bytes(), None),
        *load_certificates(corpora("rfc9216/bob.encrypt.crt").read_bytes()),
    )
    for path in files_of("openssl-cms"):
        if path.name.startswith(("dh-", "ecdh-")) and path.suffix == ".pem":
            continue  # certificates and keys of the other cases
        output = io.BytesIO()
        for operation in ("verify", "decrypt"):
            try:
                with path.open("rb") as file, open_message(file) as opened:
                    if operation == "verify":
                        verify(opened.cms, Expectations(trust=None), output=output)
                    else:
                        decrypt(opened.cms, [anybody], output)
                outcome = "accepted"
            except TokensignError as error:
                outcome = "refused" if isinstance(error, (MessageError, VerificationError)) else repr(error)
            tally.check(f"{operation} {path.name}", outcome, "refused")
        tally.check(path.name, output.getvalue(), b"")
    tally.skip("ciphertext_from_1_1_1.cms must decrypt, with Diffie-Hellman and 3DES: a later issue")
