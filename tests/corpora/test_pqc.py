"""Post-quantum messages: read for their structure and refused with a typed error until their issue comes."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from tokensign.certificates import load_certificates
from tokensign.cms.content_info import SIGNED_DATA, open_content_info
from tokensign.cms.decrypt import decrypt
from tokensign.errors import NoRecipientError, UnsupportedError, VerificationError
from tokensign.smime.unwrap import open_message
from tokensign.verification import Expectations, verify

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tokensign.token import TokenKey

DATA_ONLY = ("_priv", "_ee", "ta", ".priv", ".pub", ".crt", ".txt")


def test_signatures_are_refused_and_recipients_not_found(
    files_of: Callable[..., Sequence[Any]],
    token_key: Callable[..., TokenKey],
    corpora: Callable[[str], Any],
    tally: Any,  # noqa: ANN401
) -> None:
    from tokensign.algorithms import KeyUsage

    mine = token_key("rsa:2048", KeyUsage.BOTH)
    anchors = load_certificates(corpora("pqc/bc/ta.der").read_bytes())
    assert anchors
    for path in files_of("pqc"):
        if path.suffix not in (".der", ".pem", ".cms", ".p7m") or path.stem.endswith(("_priv", "_ee", "ta")):
            continue
        data = path.read_bytes()
        if b"CERTIFICATE" in data or b"PRIVATE KEY" in data or b"PUBLIC KEY" in data:
            continue
        with open_message(io.BytesIO(data)) as opened:
            kind, _ = open_content_info(opened.cms)
            opened.cms.seek(0)
            try:
                if kind == SIGNED_DATA:
                    content = None
                    verify(opened.cms, Expectations(trust=None, certificates=anchors), content)
                else:
                    decrypt(opened.cms, [mine], io.BytesIO())
                outcome = "accepted"
            except (VerificationError, UnsupportedError, NoRecipientError) as error:
                outcome = type(error).__name__
        tally.check(
            path.name, outcome in ("VerificationError", "UnsupportedError", "NoRecipientError"), expected=True
        )
    assert tally.passed > 40
