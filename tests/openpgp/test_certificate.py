from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pysequoia
import pytest

from tokensign.algorithms import KeyUsage
from tokensign.errors import UsageError
from tokensign.openpgp.certificate import make_certificate
from tokensign.openpgp.decrypt import decrypt
from tokensign.openpgp.public_key import public_key
from tokensign.openpgp.session_key import RecipientKey
from tokensign.openpgp.signature import SigningKey

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Gpg, Owner

    from tokensign.token import TokenKey

KINDS = ("rsa", "p256", "p384", "p521", "25519")


def listed(gpg: Gpg, *arguments: str) -> list[list[str]]:
    text = gpg.run("--with-colons", "--list-keys", *arguments).stdout.decode()
    return [line.split(":") for line in text.splitlines()]


@pytest.mark.parametrize("kind", KINDS)
def test_gnupg_takes_the_certificate_with_user_id_and_usages(
    owner: Callable[..., Owner], gpg: Gpg, kind: str
) -> None:
    person = owner(kind)
    rows = {row[0]: row for row in listed(gpg, person.fingerprint) if row[0] in ("pub", "uid", "sub")}
    assert rows["pub"][11].startswith("sc")
    assert rows["uid"][9] == person.user_id
    assert rows["sub"][11] == "e"
    assert rows["sub"][4] == person.recipient.public.key_id.hex().upper()


@pytest.mark.parametrize("native", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_sequoia_takes_the_certificate(owner: Callable[..., Owner], kind: str, *, native: bool) -> None:
    person = owner(kind, native=native)
    found = pysequoia.Cert.from_bytes(person.certificate)
    assert found.fingerprint.upper() == person.fingerprint
    assert [str(user_id) for user_id in found.user_ids] == [person.user_id]
    assert found.expiration is None


def test_certificate_expires_when_it_was_told_to(owner: Callable[..., Owner]) -> None:
    person = owner("p256")
    expires = datetime.now(UTC).replace(microsecond=0) + timedelta(days=30)
    made = make_certificate(person.signing, [person.user_id], expires=expires)
    assert pysequoia.Cert.from_bytes(made).expiration == expires


def test_first_user_id_is_the_primary_one(owner: Callable[..., Owner], gpg: Gpg) -> None:
    key = owner("p256").signing
    later = SigningKey(key.private, public_key(key.public.key, key.public.created + timedelta(seconds=1)))
    names = ["Alice <alice@acme.example>", "Alice <sales@acme.example>", "Alicé <à@acme.example>"]
    gpg.run("--import", content=make_certificate(later, names))
    rows = listed(gpg, later.public.fingerprint.hex())
    assert [row[9] for row in rows if row[0] == "uid"] == names


def test_rsa_key_that_does_both_is_encrypted_to_itself(token_key: Callable[..., TokenKey], gpg: Gpg) -> None:
    key = token_key("rsa:2048", KeyUsage.BOTH, name="openpgp")
    public = public_key(key.public_key, datetime.now(UTC))
    made = make_certificate(SigningKey(key, public), ["Alice <both@acme.example>"], encryption=public)
    gpg.run("--import", content=made)
    rows = [row for row in listed(gpg, public.fingerprint.hex()) if row[0] in ("pub", "sub")]
    assert [row[0] for row in rows] == ["pub"]
    assert rows[0][11].startswith("esc")
    message = gpg.run("--encrypt", "--recipient", public.fingerprint.hex(), content=b"secret").stdout
    output = io.BytesIO()
    decrypt(io.BytesIO(message), [RecipientKey(key, public)], output)
    assert output.getvalue() == b"secret"


@pytest.mark.parametrize("names", [[], [""], ["x" * 3000], ["Alice\nBob"]])
def test_user_id_that_nobody_would_take_is_refused(owner: Callable[..., Owner], names: list[str]) -> None:
    with pytest.raises(UsageError, match="user ID"):
        make_certificate(owner("p256").signing, names)


def test_key_that_expires_before_it_was_made_is_refused(owner: Callable[..., Owner]) -> None:
    with pytest.raises(UsageError, match="before it was made"):
        make_certificate(owner("p256").signing, ["Alice"], expires=datetime(2000, 1, 1, tzinfo=UTC))
