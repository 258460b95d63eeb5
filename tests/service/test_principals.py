"""Who asks: each way to show it, and each way in which it is not shown."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID
from joserfc import jwk, jwt

from tokensign.errors import ConfigurationError, FileError, MalformedError, UnauthenticatedError, UsageError
from tokensign.service.client_certificates import ClientCertificates, spki_hash
from tokensign.service.identities import (
    add_identity,
    create_api_key,
    list_api_keys,
    list_identities,
    remove_identity,
    revoke_api_key,
)
from tokensign.service.permissions import Permissions
from tokensign.service.principals import Credentials, Principal, Principals
from tokensign.service.tokens import TOKEN_SIZE_MAXIMUM, BearerTokens, TokenPolicy
from tokensign.store.service_tables import API_KEYS

if TYPE_CHECKING:
    from collections.abc import Callable

    from tokensign.store import Store

pytestmark = pytest.mark.anyio

URI = "spiffe://acme.example/alice"
NOW = datetime.now(UTC).replace(microsecond=0)
DAY = timedelta(days=1)
ISSUER = "https://login.acme.example"


class Ca:
    """Issues client certificates, and CRLs."""

    def __init__(self, name: str = "Clients") -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.certificate = self._issue(self._key, self._name, NOW - DAY, NOW + 9 * DAY)

    def client(
        self, *uris: str, name: str = "alice", start: datetime = NOW - DAY, end: datetime = NOW + DAY
    ) -> x509.Certificate:
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        return self._issue(ec.generate_private_key(ec.SECP256R1()), subject, start, end, *uris)

    def crl(self, *revoked: x509.Certificate, end: datetime = NOW + DAY) -> bytes:
        builder = x509.CertificateRevocationListBuilder(self._name, NOW - 2 * DAY, end)
        for one in revoked:
            builder = builder.add_revoked_certificate(
                x509.RevokedCertificateBuilder(one.serial_number, NOW - DAY).build()
            )
        return builder.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM)

    def _issue(
        self, key: ec.EllipticCurvePrivateKey, subject: x509.Name, start: datetime, end: datetime, *uris: str
    ) -> x509.Certificate:
        names = [x509.UniformResourceIdentifier(uri) for uri in uris] or [x509.DNSName("alice.acme.example")]
        return (
            x509.CertificateBuilder(
                self._name, subject, key.public_key(), x509.random_serial_number(), start, end
            )
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .sign(self._key, hashes.SHA256())
        )


@pytest.fixture(scope="module")
def ca() -> Ca:
    return Ca()


async def identify(
    store: Store,
    certificate: x509.Certificate | None = None,
    authorization: str | None = None,
    certificates: ClientCertificates | None = None,
    tokens: BearerTokens | None = None,
) -> Principal:
    principals = Principals(Permissions(store), certificates, tokens)
    der = None if certificate is None else certificate.public_bytes(Encoding.DER)
    return await principals.identify(Credentials(der, authorization))


async def refused(*arguments: Any, told: str, **more: Any) -> None:  # noqa: ANN401 - those of `identify`
    with pytest.raises(UnauthenticatedError, match=told):
        await identify(*arguments, **more)


async def test_nobody_is_known_without_credentials(store: Store) -> None:
    await refused(store, told="no certificate, token or API key")


class TestCertificates:
    async def test_uri_or_key_tells_who_it_is(self, store: Store, ca: Ca) -> None:
        by_uri, by_key = ca.client(URI, "https://acme.example/other"), ca.client(name="bob")
        add_identity(store, "alice", "uri", URI)
        add_identity(store, "bob", "spki", spki_hash(by_key))
        assert await identify(store, by_uri) == Principal("alice", "certificate")
        assert await identify(store, by_key) == Principal("bob", "certificate")

    async def test_common_name_never_does(self, store: Store, ca: Ca) -> None:
        add_identity(store, "alice", "uri", URI)
        await refused(store, ca.client(name="alice"), told="nobody is known")
        await refused(store, ca.client(name=URI), told="nobody is known")
        await refused(store, ca.client(URI + "/"), told="nobody is known")

    async def test_time_is_looked_at_for_each_request(self, store: Store, ca: Ca) -> None:
        add_identity(store, "alice", "uri", URI)
        await refused(store, ca.client(URI, end=NOW - timedelta(hours=1)), told="not valid now")
        await refused(store, ca.client(URI, start=NOW + timedelta(hours=1)), told="not valid now")

    async def test_that_of_two_principals_is_that_of_none(self, store: Store, ca: Ca) -> None:
        add_identity(store, "alice", "uri", URI)
        add_identity(store, "bob", "uri", "spiffe://acme.example/bob")
        await refused(store, ca.client(URI, "spiffe://acme.example/bob"), told="several principals")

    async def test_somebody_may_be_known_by_several_things(self, store: Store, ca: Ca) -> None:
        client = ca.client(URI)
        add_identity(store, "alice", "uri", URI)
        add_identity(store, "alice", "spki", spki_hash(client))
        assert (await identify(store, client)).name == "alice"
        with pytest.raises(UsageError, match="alice is known by the uri"):
            add_identity(store, "bob", "uri", URI)
        assert remove_identity(store, "uri", URI) == "alice"
        with pytest.raises(UsageError, match="nobody is known"):
            remove_identity(store, "uri", URI)
        assert [one.kind for one in list_identities(store, "alice")] == ["spki"]

    async def test_what_cannot_be_read_is_nobody(self, store: Store) -> None:
        with pytest.raises(UnauthenticatedError, match="cannot be read"):
            await Principals(Permissions(store)).identify(Credentials(b"certificate"))


class TestRevocation:
    @pytest.fixture
    def place(self, ca: Ca, tmp_path: Path) -> Callable[[bytes], ClientCertificates]:
        authorities = tmp_path / "clients-ca.pem"
        authorities.write_bytes(ca.certificate.public_bytes(Encoding.PEM))

        def write(crl: bytes) -> ClientCertificates:
            (tmp_path / "clients.crl").write_bytes(crl)
            return ClientCertificates(authorities, [tmp_path / "clients.crl"])

        return write

    async def test_revoked_certificate_is_refused(
        self, store: Store, ca: Ca, place: Callable[[bytes], ClientCertificates]
    ) -> None:
        good, bad = ca.client(URI), ca.client(URI)
        add_identity(store, "alice", "uri", URI)
        certificates = place(ca.crl(bad))
        assert (await identify(store, good, certificates=certificates)).name == "alice"
        await refused(store, bad, certificates=certificates, told="was revoked")
        whole, _ = create_api_key(store, "alice", days=1)
        await refused(store, bad, f"Bearer {whole}", certificates=certificates, told="was revoked")

    async def test_newer_list_counts_when_it_is_there(
        self, store: Store, ca: Ca, place: Callable[[bytes], ClientCertificates], tmp_path: Path
    ) -> None:
        client = ca.client(URI)
        add_identity(store, "alice", "uri", URI)
        certificates = place(ca.crl())
        await identify(store, client, certificates=certificates)
        (tmp_path / "clients.crl").write_bytes(ca.crl(client))
        certificates.look()
        await refused(store, client, certificates=certificates, told="was revoked")

    async def test_list_that_is_gone_leaves_the_one_before(
        self,
        store: Store,
        ca: Ca,
        tmp_path: Path,
        place: Callable[[bytes], ClientCertificates],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr("tokensign.service.client_certificates._LOOK_SECONDS", 0.0)
        client = ca.client(URI)
        certificates = place(ca.crl(client))
        (tmp_path / "clients.crl").unlink()
        await refused(store, client, certificates=certificates, told="was revoked")
        with pytest.raises(FileError, match=r"clients\.crl: No such file"):
            certificates.look()

    async def test_authority_of_which_no_list_tells_is_named(
        self, ca: Ca, place: Callable[[bytes], ClientCertificates]
    ) -> None:
        assert place(ca.crl()).untold() == []
        assert place(ca.crl(end=NOW - timedelta(hours=1))).untold() == ["CN=Clients"]

    async def test_where_no_list_tells_nobody_is_known(
        self, store: Store, ca: Ca, place: Callable[[bytes], ClientCertificates]
    ) -> None:
        add_identity(store, "alice", "uri", URI)
        ended = place(ca.crl(end=NOW - timedelta(hours=1)))
        await refused(store, ca.client(URI), certificates=ended, told="no CRL tells")
        other = Ca("Others").client(URI)
        await refused(store, other, certificates=place(ca.crl()), told="no CRL tells")

    async def test_list_of_somebody_else_is_refused(
        self, place: Callable[[bytes], ClientCertificates]
    ) -> None:
        with pytest.raises(MalformedError, match="not signed by a CA of clients"):
            place(Ca().crl())  # the same name and another key
        with pytest.raises(MalformedError, match="no CRL that can be used"):
            place(b"nonsense")


class TestApiKeys:
    async def test_key_tells_who_it_is_and_what_it_is_limited_to(self, store: Store) -> None:
        whole, record = create_api_key(store, "build", days=1, operations=["sign"])
        assert await identify(store, authorization=f"Bearer {whole}") == Principal(
            "build", "api-key", frozenset({"sign"})
        )
        unlimited, _ = create_api_key(store, "build", days=1)
        assert (await identify(store, authorization=f"bearer  {unlimited}")).operations is None
        assert list_api_keys(store, "build")[0].id == record.id

    async def test_database_has_no_secret(self, store: Store) -> None:
        whole, record = create_api_key(store, "build", days=1)
        secret = whole.rpartition("_")[2]
        assert len(bytes.fromhex(secret)) == 32
        with store.reading() as connection:
            (row,) = connection.execute(API_KEYS.select())
        assert row.sha256 == hashlib.sha256(secret.encode()).digest()
        assert secret not in str(row) + str(record)
        assert all(secret.encode() not in file.read_bytes() for file in _files(store))

    async def test_other_secrets_are_refused(self, store: Store) -> None:
        whole, record = create_api_key(store, "build", days=1)
        other, _ = create_api_key(store, "build", days=1)
        last = "0" if whole[-1] != "0" else "1"
        for wrong in (
            whole[:-1] + last,
            f"tokensign_{record.id}_{other.rpartition('_')[2]}",
            f"tokensign_{'0' * 16}_{whole.rpartition('_')[2]}",
        ):
            await refused(
                store, authorization=f"Bearer {wrong}", told="is not known, or its secret is another"
            )
        for wrong in (whole[:-1], whole.upper().replace("TOKENSIGN", "tokensign") + "é", "tokensign_"):
            await refused(store, authorization=f"Bearer {wrong}", told="not the form")
        await refused(store, authorization=f"Basic {whole}", told="no Bearer")

    async def test_end_and_revocation_count(self, store: Store) -> None:
        whole, record = create_api_key(store, "build", days=1)
        ended, other = create_api_key(store, "build", days=1)
        with store.writing() as connection:
            this = API_KEYS.c.id == other.id
            connection.execute(API_KEYS.update().where(this).values(expires_at=NOW))
        revoke_api_key(store, record.id)
        await refused(store, authorization=f"Bearer {ended}", told="has ended")
        await refused(store, authorization=f"Bearer {whole}", told="is not known")
        with pytest.raises(UsageError, match="no API key"):
            revoke_api_key(store, record.id)

    @pytest.mark.parametrize("days", [0, -1, 399])
    async def test_key_does_not_last_for_ever(self, store: Store, days: int) -> None:
        with pytest.raises(UsageError, match="an API key lasts"):
            create_api_key(store, "build", days=days)


RSA = rsa.generate_private_key(65537, 2048)
EC = ec.generate_private_key(ec.SECP256R1())
KEYS: dict[str, Any] = {
    "RS256": jwk.RSAKey.import_key(RSA, {"kid": "rsa"}),
    "PS256": jwk.RSAKey.import_key(RSA, {"kid": "rsa"}),
    "ES256": jwk.ECKey.import_key(EC, {"kid": "ec"}),
    "Ed25519": jwk.OKPKey.import_key(ed25519.Ed25519PrivateKey.generate(), {"kid": "ed"}),
}
CLAIMS = {"iss": ISSUER, "sub": "4711", "aud": "tokensign"}


class TestTokens:
    @pytest.fixture
    def policy(self, tmp_path: Path) -> TokenPolicy:
        keys = {key.kid: key for key in KEYS.values()}
        document = {"keys": [key.as_dict(private=False) for key in keys.values()]}
        (tmp_path / "jwks.json").write_text(json.dumps(document))
        return TokenPolicy(issuer=ISSUER, audience="tokensign", keys=str(tmp_path / "jwks.json"))

    @pytest.fixture
    def alice(self, store: Store) -> Store:
        add_identity(store, "alice", "subject", f"{ISSUER} 4711")
        return store

    @pytest.mark.parametrize("algorithm", KEYS)
    async def test_token_tells_who_it_is(self, alice: Store, policy: TokenPolicy, algorithm: str) -> None:
        found = await identify(alice, authorization=f"Bearer {token(algorithm)}", tokens=BearerTokens(policy))
        assert found == Principal("alice", "token")

    async def test_audience_may_be_one_of_several(self, alice: Store, policy: TokenPolicy) -> None:
        several = token(aud=["other", "tokensign"])
        assert await identify(alice, authorization=f"Bearer {several}", tokens=BearerTokens(policy))

    @pytest.mark.parametrize(
        "changed",
        [
            {"iss": "https://login.other.example"},
            {"iss": None},
            {"aud": "other"},
            {"aud": ["other"]},
            {"aud": None},
            {"sub": None},
            {"sub": 4711},
            {"exp": None},
            {"exp": "tomorrow"},
            {"exp": int(time.time()) - 60},
            {"nbf": int(time.time()) + 3600},
        ],
    )
    async def test_other_claims_are_refused(
        self, alice: Store, policy: TokenPolicy, changed: dict[str, Any]
    ) -> None:
        await refused(
            alice,
            authorization=f"Bearer {token(**changed)}",
            tokens=BearerTokens(policy),
            told="the token is not taken",
        )

    async def test_other_subjects_are_nobody(self, alice: Store, policy: TokenPolicy) -> None:
        other = f"Bearer {token(sub='4712')}"
        await refused(alice, authorization=other, tokens=BearerTokens(policy), told="nobody is known")
        await refused(alice, authorization=other, told="no tokens are taken")

    async def test_other_signatures_are_refused(self, alice: Store, policy: TokenPolicy) -> None:
        good = token("ES256")
        head, claims, _ = good.split(".")
        stranger = jwk.ECKey.generate_key("P-256", {"kid": "ec"})
        public = EC.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        for wrong in (
            good[:-4] + "AAAA",
            f"{head}.{claims}.",
            f"{encoded({'alg': 'none'})}.{claims}.",
            jwt.encode({"alg": "ES256", "kid": "ec"}, claims_of(), stranger, algorithms=["ES256"]),
            hmac_token(claims, public),
            token("ES256", kid="unknown"),
            "nonsense",
            "a" * (TOKEN_SIZE_MAXIMUM + 1),
            f"{encoded({'alg': 'ES256', 'kid': 'ec', 'crit': ['b64'], 'b64': False})}.{claims}.AAAA",
        ):
            await refused(
                alice, authorization=f"Bearer {wrong}", tokens=BearerTokens(policy), told="the token is"
            )

    async def test_bound_token_is_worth_nothing_without_the_certificate(
        self, alice: Store, policy: TokenPolicy, ca: Ca
    ) -> None:
        mine, other = ca.client(URI), ca.client(URI)
        bound = f"Bearer {token(cnf={'x5t#S256': thumbprint(mine)})}"
        for tokens in (BearerTokens(policy), BearerTokens(bound_only(policy))):
            assert (await identify(alice, mine, bound, tokens=tokens)).name == "alice"
            await refused(alice, other, bound, tokens=tokens, told="bound to another certificate")
            await refused(alice, None, bound, tokens=tokens, told="bound to another certificate")
        unbound = f"Bearer {token()}"
        await refused(alice, mine, unbound, tokens=BearerTokens(bound_only(policy)), told="not bound")
        strange = f"Bearer {token(cnf={'jkt': 'x'})}"
        await refused(alice, mine, strange, tokens=BearerTokens(policy), told="in a way that is not known")

    async def test_keys_that_cannot_be_had_are_no_fault_of_the_token(
        self, alice: Store, policy: TokenPolicy, tmp_path: Path
    ) -> None:
        for content in (None, "{}", "nonsense", '{"keys": []}'):
            (tmp_path / "jwks.json").unlink(missing_ok=True)
            if content is not None:
                (tmp_path / "jwks.json").write_text(content)
            with pytest.raises(FileError):
                await identify(alice, authorization=f"Bearer {token()}", tokens=BearerTokens(policy))

    async def test_keys_come_from_a_file_or_over_tls(self) -> None:
        with pytest.raises(ConfigurationError, match="over https"):
            BearerTokens(TokenPolicy(issuer=ISSUER, audience="tokensign", keys="http://login.acme.example/"))


def _files(store: Store) -> list[Path]:
    place = Path(store.place)
    return list(place.parent.glob(f"{place.name}*"))


def claims_of(**changed: Any) -> dict[str, Any]:  # noqa: ANN401 - of JSON
    claims = CLAIMS | {"exp": int(time.time()) + 300} | changed
    return {name: value for name, value in claims.items() if value is not None}


def token(algorithm: str = "ES256", kid: str | None = None, **changed: Any) -> str:  # noqa: ANN401 - of JSON
    key = KEYS[algorithm]
    header = {"alg": algorithm, "kid": kid or key.kid}
    return jwt.encode(header, claims_of(**changed), key, algorithms=[algorithm])


def encoded(header: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(header).encode()).decode().rstrip("=")


def hmac_token(claims: str, secret: bytes) -> str:
    """Signed with the public key as if it were a secret (RFC 8725 section 2.1)."""
    signed = f"{encoded({'alg': 'HS256', 'kid': 'ec'})}.{claims}"
    mac = hmac.digest(secret, signed.encode(), "sha256")
    return f"{signed}.{base64.urlsafe_b64encode(mac).decode().rstrip('=')}"


def thumbprint(certificate: x509.Certificate) -> str:
    digest = hashlib.sha256(certificate.public_bytes(Encoding.DER)).digest()
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")


def bound_only(policy: TokenPolicy) -> TokenPolicy:
    return replace(policy, certificate_bound=True)
