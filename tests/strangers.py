"""Who stands before the doors of a signing service and may not pass, each for one reason."""

from __future__ import annotations

import base64
import json
import secrets
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from cryptography import x509
from joserfc import jwk, jwt
from service_place import ClientCa
from sqlalchemy import update

from tokensign.service.granting import revoke_grant
from tokensign.service.grants import OPERATIONS
from tokensign.service.identities import add_identity, revoke_api_key
from tokensign.store.service_tables import API_KEYS

if TYPE_CHECKING:
    from service_place import ServicePlace

__all__ = ["CLOSED", "STRANGERS", "add_known", "add_strangers", "settings_for_strangers"]

ALICE = x509.UniformResourceIdentifier("urn:acme:alice")
HOUR = timedelta(hours=1)
ISSUER = "https://login.acme.example"
PROVIDER = jwk.ECKey.generate_key("P-256", {"kid": "provider"})


STRANGERS = {  # nobody is known by what they show; `strangers` makes it
    "nobody": "unauthenticated",
    "expired-certificate": "no connection",
    "certificate-of-another-ca": "no connection",
    "certificate-of-a-server": "no connection",
    "revoked-certificate": "unauthenticated",
    "unknown-certificate": "unauthenticated",
    "urn:acme:alice": "unauthenticated",  # her name, in the common name only
    "guessed-api-key": "unauthenticated",
    "invented-api-key": "unauthenticated",
    "revoked-api-key": "unauthenticated",
    "ended-api-key": "unauthenticated",
    "ended-token": "unauthenticated",
    "early-token": "unauthenticated",
    "token-for-others": "unauthenticated",
    "token-of-another-issuer": "unauthenticated",
    "token-of-nobody": "unauthenticated",
    "forged-token": "unauthenticated",
    "unsigned-token": "unauthenticated",
}
CLOSED = (  # known, with an API key; `known` gives the grants
    "without-grant",
    "early-grant",
    "ended-grant",
    "grant-at-other-hours",
    "revoked-grant",
    "grant-for-another-key",
)


def add_strangers(place: ServicePlace) -> None:
    """Everybody in `STRANGERS`; whose credentials they had, if they were right, may do everything."""
    place.grant("alice", "*", *OPERATIONS)
    place.clients.issue("expired-certificate", ALICE, days=(-9, -1))
    ClientCa(place.folder, "another-ca").issue("certificate-of-another-ca", ALICE)
    place.clients.issue("certificate-of-a-server", ALICE, server=True)
    place.clients.revoke(place.clients.issue("revoked-certificate", ALICE))
    place.clients.issue("unknown-certificate", x509.UniformResourceIdentifier("urn:acme:unknown"))
    place.clients.issue("urn:acme:alice", x509.DNSName("alice"))

    for name in ("guessed-api-key", "revoked-api-key", "ended-api-key"):
        place.grant(name, "*", *OPERATIONS)
        whole = place.bearer(name)
        key_id = whole.split("_")[1]
        with place.open_store() as store:
            if name == "revoked-api-key":
                revoke_api_key(store, key_id)
            elif name == "ended-api-key":
                with store.writing() as connection:
                    ended = update(API_KEYS).where(API_KEYS.c.id == key_id)
                    connection.execute(ended.values(expires_at=datetime.now(UTC) - HOUR))
            else:
                place.bearers[name] = whole[:-1] + ("0" if whole[-1] != "0" else "1")
    place.bearers["invented-api-key"] = f"tokensign_{secrets.token_hex(8)}_{secrets.token_hex(32)}"

    place.grant("dave", "*", *OPERATIONS)
    with place.open_store() as store:
        add_identity(store, "dave", "subject", f"{ISSUER} dave")
    now = int(time.time())
    for name, claims in {
        "token": {},
        "ended-token": {"exp": now - 60},
        "early-token": {"nbf": now + 3600, "exp": now + 7200},
        "token-for-others": {"aud": "others"},
        "token-of-another-issuer": {"iss": "https://elsewhere.example"},
        "token-of-nobody": {"sub": "eve"},
    }.items():
        place.bearers[name] = token_of_dave(PROVIDER, **claims)
    place.bearers["forged-token"] = token_of_dave(jwk.ECKey.generate_key("P-256", {"kid": "provider"}))
    unsigned = base64.urlsafe_b64encode(b'{"alg":"none","kid":"provider"}').rstrip(b"=").decode()
    place.bearers["unsigned-token"] = f"{unsigned}.{place.bearers['token'].split('.')[1]}."


def settings_for_strangers(place: ServicePlace) -> dict[str, Any]:
    """What the service has to be told of revoked certificates, and of whose tokens it takes."""
    keys = jwk.KeySet([PROVIDER]).as_dict(private=False)
    (place.folder / "jwks.json").write_text(json.dumps(keys))
    oidc = {"issuer": ISSUER, "audience": "tokensign", "jwks": "jwks.json"}
    return {"tls": {"client-crl": ["clients.crl"]}, "oidc": oidc}


def token_of_dave(key: jwk.ECKey, **claims: object) -> str:
    """A token (RFC 7519) in which nothing is wrong but the claims that are given."""
    now = int(time.time())
    stated = {"iss": ISSUER, "aud": "tokensign", "sub": "dave", "nbf": now, "exp": now + 600} | claims
    return jwt.encode({"alg": "ES256", "kid": "provider"}, stated, key)


def add_known(place: ServicePlace) -> None:
    """Everybody in `CLOSED`; and for each operation who may do only that, by grant and by API key."""
    now = datetime.now(UTC)
    place.grant("early-grant", "*", *OPERATIONS, not_before=now + HOUR)
    place.grant("ended-grant", "*", *OPERATIONS, not_before=now - 2 * HOUR, not_after=now - HOUR)
    place.grant("grant-at-other-hours", "*", *OPERATIONS, hours=f"{now + 72 * HOUR:%a} 00:00-24:00")
    place.grant("grant-for-another-key", f"{place.token.label}/rsa=3A2048", "sign", "cms", "decrypt", "jobs")
    number = place.grant("revoked-grant", "*", *OPERATIONS)
    with place.open_store() as store:
        revoke_grant(store, number)
    for name in CLOSED:
        place.bearer(name)
    for operation in OPERATIONS:
        place.bearer(f"only-{operation}")
        place.grant(f"only-{operation}", "*", operation)
        place.bearer(f"api-key-for-{operation}", operations=[operation])
        place.grant(f"api-key-for-{operation}", "*", *OPERATIONS)
