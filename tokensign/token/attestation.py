"""A statement about the protection of keys, to be signed and shown to others.

It says what the token told this host about its keys: their attributes, where they come from, and what
follows. It proves that whoever signed it saw these answers, and by the SHA-256 of the public key which keys
they are about. It does not prove that the answers are true: it is no attestation by the hardware, and a
module or a host that lies makes a statement that looks the same.
"""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from tokensign.token.public_key import public_key_info

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tokensign.token.opening import Token
    from tokensign.token.protection import ProtectionReport

__all__ = ["protection_statement"]

_FORMAT: Final = "tokensign-key-protection"
_VERSION: Final = 1  # grows when a field changes its meaning


def protection_statement(token: Token, reports: Iterable[ProtectionReport]) -> bytes:
    """What a token says about its keys, as JSON; for `tokensign.sign_attached`.

    Args:
        token: The open token that the keys are on.
        reports: What `check_key` found out about each of them.

    Returns:
        A JSON document (RFC 8259) with the time by this host's clock, the token, the module, and for each key
        its URI, type, public key and attributes with a verdict each.

    Raises:
        TokenError: The token failed.
    """
    document = {
        "format": _FORMAT,
        "version": _VERSION,
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "token": {
            "uri": str(token.uri),
            "label": token.info.label,
            "manufacturer": token.info.manufacturer,
            "model": token.info.model,
            "serial": token.info.serial,
        },
        "module": {
            "description": token.module.description,
            "manufacturer": token.module.manufacturer,
            "library_version": _dotted(token.module.library_version),
            "cryptoki_version": _dotted(token.module.cryptoki_version),
        },
        "source": "attributes as the module reported them to this host; not attested by the hardware",
        "keys": [_key(report) for report in reports],
    }
    return json.dumps(document, indent=2).encode("ascii") + b"\n"


def _key(report: ProtectionReport) -> dict[str, Any]:
    key = report.key
    info = None if key.public_key is None else public_key_info(key.public_key)
    return {
        "uri": str(key.uri),
        "label": key.label,
        "id": key.id.hex(),
        "type": key.spec,
        "public_key_sha256": hashlib.sha256(info).hexdigest() if info else None,
        "weak": report.weak,
        "non_extractable": report.non_extractable,
        "findings": [
            {
                "attribute": finding.name,
                "value": finding.value,
                "verdict": finding.verdict.value,
                "reason": finding.reason,
            }
            for finding in report.findings
        ],
    }


def _dotted(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}"
